"""Many at once, on one conversation or on one pool of connections: nothing is lost, nothing is there twice."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import random
import time
import warnings
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
import redis.asyncio
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_memstore import BackendUnavailable, Memstore, RedisChatMessageHistory
from langchain_memstore.history import ChatMessageHistory
from support.servers import PASSWORD, USER, Server
from support.waiting import wait_until

BATCHES = 25


def batch(writer: int, number: int) -> list[BaseMessage]:
    return [HumanMessage(f"{writer}/{number}"), AIMessage(f"{writer}/{number}")]


def write(history: ChatMessageHistory, writer: int) -> None:
    for number in range(BATCHES):
        history.add_messages(batch(writer, number))


async def awrite(history: ChatMessageHistory, writer: int) -> None:
    for number in range(BATCHES):
        await history.aadd_messages(batch(writer, number))


def write_from_afresh(url: str, writer: int) -> None:
    with Memstore.from_url(url, max_messages=None) as store:
        write(store.history("shared"), writer)


def check(history: ChatMessageHistory, writers: int) -> None:
    """Check that every batch is there once and in one piece, and those of each writer in their order."""
    snapshot = history.snapshot()
    assert (snapshot.total, snapshot.turns) == (2 * writers * BATCHES, writers * BATCHES)
    asked = [message.content for message in snapshot.messages[::2]]
    assert asked == [message.content for message in snapshot.messages[1::2]]
    for writer in range(writers):
        mine = [content for content in asked if content.startswith(f"{writer}/")]
        assert mine == [f"{writer}/{number}" for number in range(BATCHES)]


@pytest.fixture
def history(server: Server) -> Iterator[ChatMessageHistory]:
    """An unbounded conversation, on fewer connections than the crowd would like."""
    with Memstore.from_url(server.url, max_messages=None, max_connections=3) as store:
        yield store.history("shared")


def test_threads(history: ChatMessageHistory) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, [history] * 8, range(8)))
    check(history, writers=8)


async def test_tasks(history: ChatMessageHistory) -> None:
    await asyncio.gather(*(awrite(history, writer) for writer in range(20)))
    check(history, writers=20)


def test_event_loops_in_threads(history: ChatMessageHistory) -> None:
    with ThreadPoolExecutor(3) as pool:
        results = [pool.submit(asyncio.run, awrite(history, writer)) for writer in range(2)]
        results.append(pool.submit(write, history, 2))
    assert [result.result() for result in results] == [None] * 3
    check(history, writers=3)


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # where this process has threads
def test_processes(server: Server, history: ChatMessageHistory, method: str) -> None:
    write(history, 0)  # from here on there is a connection, which no child may use
    context = multiprocessing.get_context(method)
    if method == "spawn":
        children = [context.Process(target=write_from_afresh, args=(server.url, writer)) for writer in (1, 2, 3)]
    else:
        children = [context.Process(target=write, args=(history, writer)) for writer in (1, 2, 3)]
    for child in children:
        child.start()
    write(history, 4)
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    check(history, writers=5)


def test_event_loops_in_a_row(server: Server, admin: redis.Redis) -> None:
    """One object serves one loop after the other; of a closed one nothing stays, neither connections nor the loop."""
    loops = []

    async def write_all(history: ChatMessageHistory, first: int) -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await asyncio.gather(*(awrite(history, first + writer) for writer in range(5)))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Memstore.from_url(server.url, max_messages=None, max_connections=3) as store:
            for first in (0, 5):
                asyncio.run(write_all(store.history("shared"), first))
                wait_until(lambda: len(admin.client_list()) == 1)
            gc.collect()
            assert [loop() for loop in loops] == [None, None]
            check(store.history("shared"), writers=10)
            assert len(admin.client_list()) == 2
        gc.collect()
    assert [str(each.message) for each in caught] == []
    wait_until(lambda: len(admin.client_list()) == 1)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_event_loop_that_was_not_shut_down_is_let_go(history: ChatMessageHistory) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(awrite(history, 0))
    loop.close()
    closed = weakref.ref(loop)
    del loop
    asyncio.run(awrite(history, 1))
    gc.collect()
    assert closed() is None
    check(history, writers=2)


def test_a_thousand_histories_share_a_pool(server: Server, admin: redis.Redis) -> None:
    def write_one(number: int) -> int:
        history = RedisChatMessageHistory(f"session-{number}", server.url, max_connections=4)
        history.add_messages(batch(number, 0))
        return len(history.messages)

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(write_one, range(1000))) == [2] * 1000
    assert admin.info("stats")["total_connections_received"] <= 4 + 1  # the admin's


async def test_a_thousand_histories_share_the_twin_of_a_client(server: Server, admin: redis.Redis) -> None:
    async def write_one(number: int) -> int:
        history = RedisChatMessageHistory(f"session-{number}", redis_client=client)
        await history.aadd_messages(batch(number, 0))
        return len(await history.aget_messages())

    with redis.Redis.from_url(server.url, max_connections=4) as client:
        assert await asyncio.gather(*map(write_one, range(1000))) == [2] * 1000
    assert admin.info("stats")["total_connections_received"] <= 4 + 1  # the admin's


async def test_five_hundred_turns_at_once(server: Server, admin: redis.Redis) -> None:
    async with Memstore.from_url(server.url, max_connections=20) as store:

        async def turn(number: int) -> None:
            history = store.history(f"session-{number % 5}")
            assert len(await history.aget_messages()) <= 50
            await history.aadd_messages(batch(number, 0))

        await asyncio.gather(*(turn(number) for number in range(500)))
        infos = [info async for info in store.asessions()]
    assert [(info.messages, info.total, info.turns) for info in infos] == [(50, 200, 100)] * 5
    assert admin.info("stats")["total_connections_received"] <= 20 + 1  # the admin's


async def test_cancelled_operations_leave_the_pool_usable(server: Server) -> None:
    """Whenever a task is cancelled, no other waits in vain, no reply is read by another, no batch is torn."""
    chance = random.Random(2)
    async with Memstore.from_url(server.url, max_messages=None, max_connections=1) as store:
        history = store.history("shared")
        for number in range(300):
            tasks = [asyncio.create_task(history.aadd_messages(batch(number, each))) for each in range(6)]
            for _ in range(chance.randrange(40)):
                await asyncio.sleep(0)
            for task in chance.sample(tasks, 3):
                task.cancel()
            done, waiting = await asyncio.wait(tasks, timeout=10)
            assert not waiting
            assert [error for task in done if not task.cancelled() and (error := task.exception())] == []
        snapshot = await history.asnapshot()
    asked = [message.content for message in snapshot.messages[::2]]
    assert asked == [message.content for message in snapshot.messages[1::2]]
    assert len(asked) == len(set(asked)) == snapshot.turns
    assert 300 * 3 <= len(asked) < 300 * 6


def plain(server: Server) -> dict[str, object]:
    """Return the settings of a client whose pool has one connection, and raises when that is in use."""
    return {"host": "127.0.0.1", "port": server.port, "username": USER, "password": PASSWORD, "max_connections": 1}


def test_an_exhausted_borrowed_pool_is_waited_for(server: Server) -> None:
    with redis.Redis(**plain(server)) as client, ThreadPoolExecutor(4) as threads:
        history = Memstore.from_client(client, max_messages=None).history("shared")
        connection = client.connection_pool.get_connection()
        writers = [threads.submit(write, history, writer) for writer in range(4)]
        with pytest.raises(redis.ConnectionError):
            client.ping()
        time.sleep(0.05)
        assert not any(writer.done() for writer in writers)
        client.connection_pool.release(connection)
        assert [writer.result(30) for writer in writers] == [None] * 4
        check(history, writers=4)


def test_an_exhausted_borrowed_pool_is_not_waited_for_for_ever(server: Server) -> None:
    with redis.Redis(**plain(server), socket_timeout=0.1) as client:
        connection = client.connection_pool.get_connection()
        with pytest.raises(BackendUnavailable, match="all 1 connections were busy"):
            Memstore.from_client(client, fallback=False).history("shared").register_turn()
        client.connection_pool.release(connection)


async def test_an_exhausted_borrowed_async_pool_is_waited_for(server: Server) -> None:
    async with redis.asyncio.Redis(**plain(server)) as client:
        with Memstore.from_client(async_client=client, max_messages=None) as store:
            history = store.history("shared")
            connection = await client.connection_pool.get_connection()
            writing = asyncio.gather(*(awrite(history, writer) for writer in range(50)))
            await asyncio.sleep(0.05)
            with pytest.raises(redis.ConnectionError):
                await client.ping()
            assert not writing.done()
            await client.connection_pool.release(connection)
            await writing
            check(history, writers=50)
