"""What tasks send in the same moment goes out together; what befalls one of them touches no other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import redis
import redis.asyncio
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_memstore import BackendDenied, BackendError, BackendUnavailable, Memstore
from langchain_memstore.backends.redis.batching import MOST_TOGETHER, PipelineBatcher
from langchain_memstore.history import ChatMessageHistory
from support.proxy import Proxy
from support.servers import PASSWORD, USER, Server, every_server
from support.topologies import ClusterOfServers

TASKS = 2 * MOST_TOGETHER


@pytest.fixture(params=["own", "borrowed"])
async def store(server: Server, request: pytest.FixtureRequest) -> AsyncIterator[Memstore]:
    """A store without a fallback, on its own connections and on those of a client that decodes, and waits for none."""
    if request.param == "own":
        async with Memstore.from_url(server.url, max_messages=None, fallback=False) as store:
            yield store
        return
    login = {"username": USER, "password": PASSWORD}
    async with (
        redis.asyncio.Redis(port=server.port, **login, decode_responses=True, max_connections=4) as client,
        Memstore.from_client(async_client=client, max_messages=None, fallback=False) as store,
    ):
        yield store


def pair(number: int) -> list[BaseMessage]:
    return [HumanMessage(f"question {number}"), AIMessage(f"answer {number}")]


def histories(store: Memstore, count: int = TASKS) -> list[ChatMessageHistory]:
    return [store.history(f"session-{number}") for number in range(count)]


async def turn(history: ChatMessageHistory, number: int) -> None:
    before = await history.aget_messages()
    await history.aadd_messages(pair(number))
    assert len(before) == 2 * number


async def check(store: Memstore, turns: int, count: int = TASKS) -> None:
    """Check that every session has its turns, each once."""
    for history in histories(store, count):
        snapshot = await history.asnapshot()
        assert snapshot.messages == [message for number in range(turns) for message in pair(number)]
        assert (snapshot.total, snapshot.turns) == (2 * turns, turns)


@every_server
async def test_few_pipelines_carry_what_many_tasks_send(store: Memstore, admin: redis.Redis) -> None:
    await asyncio.gather(*(turn(history, 0) for history in histories(store)))  # so that there are connections
    before = admin.info("stats")
    await asyncio.gather(*(turn(history, 1) for history in histories(store)))
    after = admin.info("stats")
    assert after["total_reads_processed"] - before["total_reads_processed"] < TASKS / 2  # of two for each
    await check(store, 2)


async def test_a_lone_task_sends_for_itself(store: Memstore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(PipelineBatcher, "_flush")
    history = store.history("session")
    for number in range(20):
        await turn(history, number)


async def test_an_error_is_that_of_its_own_task(store: Memstore, admin: redis.Redis) -> None:
    wrong = histories(store)[5::7]
    for history in wrong:
        admin.set(history.keys.messages, "not a list")
    results = await asyncio.gather(*(turn(history, 0) for history in histories(store)), return_exceptions=True)
    for history, result in zip(histories(store), results, strict=True):
        if any(history.keys == each.keys for each in wrong):
            assert isinstance(result, BackendError) and history.keys.messages in str(result)
            admin.delete(history.keys.messages)
            await turn(history, 0)
        else:
            assert result is None
    await check(store, 1)


async def test_scripts_that_the_server_has_forgotten(store: Memstore, admin: redis.Redis) -> None:
    for number in range(3):
        admin.script_flush()
        await asyncio.gather(*(turn(history, number) for history in histories(store)))
    await check(store, 3)


async def test_a_transaction_that_the_server_leaves_open_is_that_of_its_own_task(
    store: Memstore, admin: redis.Redis
) -> None:
    admin.execute_command("ACL", "SETUSER", USER, "-exec")
    *reads, appends = await asyncio.gather(
        *(history.aget_messages() for history in histories(store, 10)),
        asyncio.gather(*(history.aadd_messages(pair(0)) for history in histories(store))),
        return_exceptions=True,
    )
    assert all(isinstance(read, BackendDenied) for read in reads) and not isinstance(appends, BaseException)
    admin.execute_command("ACL", "SETUSER", USER, "+exec")
    await check(store, 1)


@pytest.mark.parametrize("rounds", range(8))
async def test_a_task_that_is_cancelled_takes_no_other_with_it(
    store: Memstore, admin: redis.Redis, rounds: int
) -> None:
    await asyncio.gather(*(turn(history, 0) for history in histories(store)))
    connections = {client["id"] for client in admin.client_list()}
    tasks = [asyncio.create_task(history.aadd_messages(pair(1))) for history in histories(store)]
    for _ in range(rounds):
        await asyncio.sleep(0)
    for task in tasks[3::3]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
    assert connections <= {client["id"] for client in admin.client_list()}
    for history, result in zip(histories(store), results, strict=True):
        snapshot = await history.asnapshot()
        assert (snapshot.total, snapshot.turns) == (2 * snapshot.turns, len(snapshot.messages) // 2)
        assert snapshot.turns == 2 or (isinstance(result, asyncio.CancelledError) and snapshot.turns == 1)


async def test_who_cancels_tasks_that_it_does_not_know_cancels_no_operation(store: Memstore) -> None:
    """As test runners and notebooks do it; what sends for others is such a task."""
    for number in range(5):
        tasks = [asyncio.create_task(turn(history, number)) for history in histories(store)]
        for _ in range(2 * number):
            await asyncio.sleep(0)
            for task in asyncio.all_tasks():
                if task.get_coro().__qualname__ == "PipelineBatcher._flush":  # redis-py has tasks of its own
                    task.cancel()
        await asyncio.gather(*tasks)
    await check(store, 5)


async def test_many_large_messages_at_once(store: Memstore) -> None:
    large = [HumanMessage("x" * 500_000), AIMessage("y" * 500_000)]

    async def write_and_read(history: ChatMessageHistory) -> None:
        await history.aadd_messages(large)
        assert await history.aget_messages() == large

    await asyncio.gather(*map(write_and_read, histories(store, 40)))


async def test_a_silent_server_is_given_up_for_all(server: Server, admin: redis.Redis) -> None:
    async with Memstore.from_url(server.url, fallback=False, socket_timeout=0.2) as store:
        await asyncio.gather(*(turn(history, 0) for history in histories(store)))
        admin.client_pause(3000)
        results = await asyncio.wait_for(
            asyncio.gather(*(turn(history, 1) for history in histories(store)), return_exceptions=True), 10
        )
        assert {type(result) for result in results} == {BackendUnavailable}
        admin.client_unpause()
        await asyncio.gather(*(history.aget_messages() for history in histories(store)))


async def test_each_answer_has_its_time(server: Server) -> None:
    """All together take longer than one answer may."""
    large = HumanMessage("x" * 60_000)

    def trickle(from_server: bool, data: bytes) -> int:
        if from_server and len(data) > 1000:
            time.sleep(0.05)
        return len(data)

    with Proxy(server.port, lambda: trickle) as proxy:
        url = server.url.replace(str(server.port), str(proxy.port))
        async with Memstore.from_url(url, fallback=False, socket_timeout=0.5) as store:
            for history in histories(store):
                await history.aadd_messages([large])
            began = time.monotonic()
            windows = await asyncio.gather(*(history.aget_messages() for history in histories(store)))
            assert time.monotonic() - began > 1
            assert windows == [[large]] * TASKS


async def test_a_refused_login_is_told_to_all(server: Server) -> None:
    async with Memstore.from_url(server.url.replace(PASSWORD, "wrong"), fallback=False) as store:
        results = await asyncio.gather(*(turn(history, 0) for history in histories(store)), return_exceptions=True)
        assert {type(result) for result in results} == {BackendDenied}


async def test_the_nodes_of_a_cluster(cluster: ClusterOfServers) -> None:
    async with Memstore.from_url(cluster.url, max_messages=None, fallback=False) as store:
        for number in range(3):
            await asyncio.gather(*(turn(history, number) for history in histories(store)))
        await check(store, 3)


def test_a_loop_that_ends_while_tasks_wait(server: Server, admin: redis.Redis) -> None:
    """`asyncio.run` cancels what is under way; the store serves the next loop, and no connection is left."""
    with Memstore.from_url(server.url, max_messages=None, fallback=False) as store:

        async def abandon(rounds: int) -> None:
            tasks = [asyncio.create_task(history.aadd_messages(pair(0))) for history in histories(store)]
            for _ in range(rounds):
                await asyncio.sleep(0)
            del tasks

        for rounds in range(8):
            asyncio.run(abandon(rounds))
            for history in histories(store):
                history.clear()
        asyncio.run(check_turn(store))
    assert len(admin.client_list()) == 1


async def check_turn(store: Memstore) -> None:
    await asyncio.gather(*(turn(history, 0) for history in histories(store)))
    await check(store, 1)
