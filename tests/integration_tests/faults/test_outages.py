"""A server that dies, hangs, forgets or changes its role: nothing is lost, nothing is twice, and talk goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
import redis.asyncio
from langchain_core.messages import AIMessage, HumanMessage
from redis.backoff import NoBackoff
from redis.retry import Retry

from langchain_memstore import BackendUnavailable, Memstore, RedisChatMessageHistory
from support.contents import held, total
from support.proxy import SWALLOW, Cut, LostReplies, Proxy, RandomCuts
from support.servers import PASSWORD, USER, Server
from support.waiting import wait_until

OUTAGE = float(os.environ.get("MEMSTORE_OUTAGE", "2.5"))  # seconds
TIMEOUT = 0.5  # seconds, of the sockets
WINDOW = 10


@dataclass
class Talker:
    """One conversation that goes on whatever happens, and looks at each turn whether its context is there."""

    store: Memstore
    name: str
    said: list[str] = field(default_factory=list)
    longest: float = 0.0
    """Of all calls, in seconds."""

    def turn(self) -> None:
        history = self.store.history(self.name)
        start = time.monotonic()
        seen = [message.text for message in history.messages]
        read = time.monotonic()
        history.add_messages(self._next())
        self._check(seen, start, read)

    async def aturn(self) -> None:
        history = self.store.history(self.name)
        start = time.monotonic()
        seen = [message.text for message in await history.aget_messages()]
        read = time.monotonic()
        await history.aadd_messages(self._next())
        self._check(seen, start, read)

    def _next(self) -> list[Any]:
        number = len(self.said) // 2
        texts = f"{self.name} asks {number}", f"{self.name} hears {number}"
        self.said += texts
        return [HumanMessage(texts[0]), AIMessage(texts[1])]

    def _check(self, seen: list[str], start: float, read: float) -> None:
        assert seen == self.said[:-2][-WINDOW:]
        self.longest = max(self.longest, read - start, time.monotonic() - read)

    def audit(self, server: Server) -> None:
        assert held(server, self.name) == self.said[-WINDOW:]
        assert total(server, self.name) == len(self.said)


def talk(talkers: list[Talker], stop: threading.Event) -> None:
    """Have all of them talk, each in a thread."""

    def go_on(talker: Talker) -> None:
        while not stop.wait(0.02):
            talker.turn()

    with ThreadPoolExecutor(len(talkers)) as threads:
        list(threads.map(go_on, talkers))


async def atalk(talkers: list[Talker], stop: threading.Event) -> None:
    """Have all of them talk, each in a task."""

    async def go_on(talker: Talker) -> None:
        while not stop.is_set():
            await talker.aturn()
            await asyncio.sleep(0.02)

    await asyncio.gather(*map(go_on, talkers))


def kill(server: Server) -> None:
    server.kill()
    time.sleep(OUTAGE)
    server.start()


def freeze(server: Server) -> None:
    server.signal(signal.SIGSTOP)
    time.sleep(OUTAGE)
    server.signal(signal.SIGCONT)


def demote(server: Server) -> None:
    """Make the server a replica of nobody that answers, as a failover does to an old master."""
    with server.admin() as admin:
        admin.replicaof("127.0.0.1", 1)
        time.sleep(OUTAGE)
        admin.replicaof("NO", "ONE")


@pytest.mark.parametrize("disturbance", [kill, freeze, demote])
def test_conversations_go_on_through_an_outage(
    durable: Server, open_store: Callable[..., Memstore], variant: str, disturbance: Callable[[Server], None]
) -> None:
    store = open_store(durable.open_url, max_messages=WINDOW, socket_timeout=TIMEOUT)
    talkers = [Talker(store, f"talker-{number}") for number in range(20)]
    stop = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        if variant == "sync":
            talking = thread.submit(talk, talkers, stop)
        else:
            talking = thread.submit(asyncio.run, atalk(talkers, stop))
        try:
            time.sleep(0.3)
            disturbance(durable)  # in the main thread: a server ends with the thread that has started it
            time.sleep(0.3)
        finally:
            stop.set()
        talking.result()
    wait_until(lambda: not store.status.degraded)
    for talker in talkers:
        talker.audit(durable)
    longest = max(talker.longest for talker in talkers)
    assert longest < (4 * TIMEOUT + 1 if disturbance is freeze else 1)
    assert min(len(talker.said) for talker in talkers) > 2 * OUTAGE / 0.1  # they did go on


def test_a_server_that_forgets_all_is_told_what_was_said_without_it(
    start_server: Callable[..., Server], open_store: Callable[..., Memstore]
) -> None:
    server = start_server()  # which keeps nothing on disk
    store = open_store(server.open_url)
    talker = Talker(store, "talker")
    for _ in range(3):
        talker.turn()
    server.kill()
    for _ in range(2):
        talker.turn()
    server.start()
    wait_until(lambda: not store.status.degraded)
    assert held(server, "talker") == talker.said[6:]


def test_the_next_process_replays_the_journal_of_one_that_was_killed(
    durable: Server, open_store: Callable[..., Memstore], journal: str
) -> None:
    program = """
import sys
from langchain_memstore import Memstore
store = Memstore.from_url(sys.argv[1], fallback=sys.argv[2], max_messages=None)
history = store.history("session")
for number in range(1_000_000):
    history.add_user_message(str(number))
    print(number, flush=True)
"""
    command = [sys.executable, "-c", program, durable.open_url, journal]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        durable.kill()
        for _ in range(100):
            process.stdout.readline()
        process.kill()
        told = 120 + len(process.stdout.read().splitlines())
    durable.start()
    before = len(held(durable, "session"))
    store = open_store(durable.open_url, fallback=journal, max_messages=None)
    said = [message.text for message in store.history("session").messages]
    assert said == [str(number) for number in range(len(said))]
    assert before < told <= len(said) <= told + 1
    wait_until(lambda: not store.status.degraded)
    assert held(durable, "session") == said


def test_the_journal_is_replayed_with_the_first_call_after_the_server_is_back(
    durable: Server, journal: str, caplog: pytest.LogCaptureFixture
) -> None:
    durable.kill()
    with Memstore.from_url(durable.open_url, fallback=journal) as store:
        store.history("session").add_user_message("written down")
    assert "kept in" in caplog.text
    with Memstore.from_url(durable.open_url, fallback=journal) as store:
        assert [message.text for message in store.history("session").messages] == ["written down"]
        assert store.status.pending == 1
    durable.start()
    with Memstore.from_url(durable.open_url, fallback=journal) as store:
        store.history("session").add_user_message("and more")
        assert [message.text for message in store.history("session").messages] == ["written down", "and more"]
    assert held(durable, "session") == ["written down", "and more"]


def test_histories_of_one_server_share_the_journal(durable: Server) -> None:
    durable.kill()
    for text in ("one", "two"):
        RedisChatMessageHistory("session", durable.open_url).add_user_message(text)  # and is no more
    durable.start()
    history = RedisChatMessageHistory("session", durable.open_url)
    wait_until(lambda: held(durable, "session") == ["one", "two"])
    history.add_user_message("three")
    assert held(durable, "session") == ["one", "two", "three"]


async def test_borrowed_clients_fall_back_too(durable: Server) -> None:
    no_retries = Retry(NoBackoff(), 0)
    with redis.Redis("127.0.0.1", durable.port, retry=no_retries) as client:
        async with redis.asyncio.Redis(host="127.0.0.1", port=durable.port) as async_client:
            for lent in ({"redis_client": client}, {"async_client": async_client}):
                async with Memstore.from_client(**lent) as store:
                    name = next(iter(lent))
                    history = store.history(name)
                    history.add_user_message("0")
                    await history.aadd_messages([AIMessage("1")])
                    durable.kill()
                    await history.aadd_messages([AIMessage("2")])
                    history.add_ai_message("3")
                    assert [message.text for message in history.messages] == ["0", "1", "2", "3"]
                    durable.start()
                    await asyncio.to_thread(wait_until, lambda store=store: not store.status.degraded)
                    history.add_ai_message("4")
                    assert held(durable, name) == ["0", "1", "2", "3", "4"]
            assert client.ping() and await async_client.ping()


def test_without_a_fallback_an_outage_raises(durable: Server, open_store: Callable[..., Memstore]) -> None:
    history = open_store(durable.open_url, fallback=False).history("session")
    durable.kill()
    with pytest.raises(BackendUnavailable):
        history.add_user_message("one")
    durable.start()
    assert history.messages == []


def test_no_password_is_told_in_an_outage(
    durable: Server, open_store: Callable[..., Memstore], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    durable.reset()
    store = open_store(durable.url)
    durable.kill()
    store.history("session").add_user_message("hello")
    durable.start()
    durable.reset()
    wait_until(lambda: not store.status.degraded)
    assert PASSWORD not in caplog.text + repr(store) + repr(store.status)


class Swallowed:
    """Swallows the server's answers now and then, for as long as the connection lasts."""

    def __init__(self) -> None:
        self.count = 0
        self.swallowed = 0

    def plan(self) -> Cut:
        silent = False

        def cut(from_server: bool, data: bytes) -> int:
            nonlocal silent
            if from_server:
                self.count += 1
                if self.count % 60 == 59:
                    silent = True
                    self.swallowed += 1
            return SWALLOW if silent and from_server else len(data)

        return cut


class Slow:
    """Delays what goes to and fro by some milliseconds."""

    def __call__(self, from_server: bool, data: bytes) -> int:
        time.sleep(0.002)
        return len(data)


def plans() -> dict[str, Callable[[], Cut]]:
    lost, slow = LostReplies(), Slow()
    return {
        "cut": RandomCuts(seed=11).plan,
        "lost": lambda: lost,
        "swallowed": Swallowed().plan,
        "slow": lambda: slow,
    }


@pytest.mark.parametrize("plan", plans())
def test_500_appends_through_a_bad_line(
    server: Server, open_store: Callable[..., Memstore], plan: str, variant: str
) -> None:
    with Proxy(server.port, plans()[plan]) as proxy:
        url = f"redis://{USER}:{PASSWORD}@127.0.0.1:{proxy.port}/0"
        store = open_store(url, max_messages=None, socket_timeout=0.2)
        history = store.history("session")

        async def write() -> None:
            for number in range(500):
                await history.aadd_messages([HumanMessage(str(number))])
            await store.aclose()

        if variant == "async":
            asyncio.run(write())
        else:
            for number in range(500):
                history.add_user_message(str(number))
            store.close()
    assert held(server, "session") == [str(number) for number in range(500)]
    assert total(server, "session") == 500


@pytest.mark.parametrize("plan", plans())
async def test_tasks_append_together_through_a_bad_line(
    server: Server, open_store: Callable[..., Memstore], plan: str
) -> None:
    with Proxy(server.port, plans()[plan]) as proxy:
        url = f"redis://{USER}:{PASSWORD}@127.0.0.1:{proxy.port}/0"
        store = open_store(url, max_messages=None, socket_timeout=0.2)

        async def write(session: int) -> None:
            for number in range(20):
                await store.history(f"session-{session}").aadd_messages([HumanMessage(str(number))])

        await asyncio.gather(*map(write, range(40)))
        await store.aclose()
    for session in range(40):
        assert held(server, f"session-{session}") == [str(number) for number in range(20)]
        assert total(server, f"session-{session}") == 20
