"""The pools of connections lose nothing, whatever strikes whoever uses them."""

from __future__ import annotations

import asyncio
import gc
import itertools
import linecache
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest
import redis
import redis.asyncio

from langchain_memstore import BackendUnavailable, Memstore
from langchain_memstore.backends.redis.connections import Connections
from langchain_memstore.backends.redis.limits import WaitEnded
from langchain_memstore.backends.redis.pool import ThreadPool
from support.servers import Server, free_port

SIZE = 2
PING = [("PING",)]


class Struck(BaseException):
    """As KeyboardInterrupt, or the timeout of a greenlet: it may strike between any two lines."""


def striking(at: int) -> tuple[Callable[..., Any], list[str]]:
    """Return a trace function that strikes at a line of the package's pools, and where it has struck."""
    lines = itertools.count()
    struck: list[str] = []

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.endswith(("redis/pool.py", "redis/slots.py", "redis/checkout.py")):
            return None
        # Python delivers no signal where it enters a `try`, or enters or leaves a `with`, though it traces these lines.
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip()
        if event == "line" and not line.startswith(("try:", "with ")) and not struck and next(lines) == at:
            struck.append(f"{frame.f_code.co_name}:{frame.f_lineno}")
            raise Struck
        return trace

    return trace, struck


@pytest.mark.parametrize("kind", [redis.ConnectionPool, redis.BlockingConnectionPool])
@pytest.mark.parametrize("state", ["none idle", "idle", "idle for long"])
def test_an_interrupt_at_any_line_loses_no_connection_of_a_client(
    server: Server, state: str, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if state == "idle for long":
        monkeypatch.setattr("langchain_memstore.backends.redis.pool.IDLE", 0.0)
    lent = kind.from_url(server.url, max_connections=SIZE)
    pool = ThreadPool(lent, is_own=False)
    for at in itertools.count():
        if state == "none idle":
            lent.disconnect()
        trace, struck = striking(at)
        sys.settrace(trace)
        try:
            pool.request(PING, time.monotonic() + 5)
        except Struck:
            pass
        finally:
            sys.settrace(None)
        if not struck:
            break
        if len(pool._slots):
            gc.collect()  # what the error holds
        assert len(pool._slots) == 0, struck
        assert pool.request(PING, time.monotonic() + 5) == [b"PONG"], struck
        taken = [lent.get_connection() for _ in range(SIZE)]  # the client has all of them
        for connection in taken:
            lent.release(connection)
    assert at > 25
    lent.disconnect()


@pytest.mark.parametrize("is_own", [True, False])
def test_an_error_that_somebody_keeps_holds_no_connection(is_own: bool) -> None:
    lent = redis.BlockingConnectionPool(host="127.0.0.1", port=free_port(), max_connections=SIZE)
    pool, errors = ThreadPool(lent, is_own), []
    for _ in range(2 * SIZE):
        with pytest.raises(redis.ConnectionError, match="refused") as caught:
            pool.request(PING, time.monotonic() + 5)
        errors.append(caught.value)
        assert len(pool._slots) == 0


def test_those_who_wait_are_served_in_turn(server: Server) -> None:
    """Whoever gives a connection back does not take it again before those who have waited for it."""
    with Memstore.from_url(server.url, max_connections=SIZE, fallback=False, socket_timeout=1.0) as store:
        until = time.monotonic() + 3

        def go_on(number: int) -> tuple[int, float]:
            calls, longest = 0, 0.0
            while (start := time.monotonic()) < until:
                store.history(f"session-{number}").register_turn()
                calls, longest = calls + 1, max(longest, time.monotonic() - start)
            return calls, longest

        with ThreadPoolExecutor(50) as threads:
            done = list(threads.map(go_on, range(50)))
    assert min(calls for calls, _ in done) * 3 > max(calls for calls, _ in done)
    assert max(longest for _, longest in done) < 1


def test_an_interrupt_while_waiting_leaves_the_line_moving(server: Server) -> None:
    with Memstore.from_url(server.url, max_connections=1, fallback=False) as store:
        pool: ThreadPool = store._backend._connections.thread_pool()  # type: ignore[attr-defined]
        for at in itertools.count():
            held = pool._slots.acquire(time.monotonic() + 5)
            trace, struck = striking(at)
            sys.settrace(trace)
            try:
                pool.request(PING, time.monotonic() + 0.02)
            except (Struck, WaitEnded):
                pass
            finally:
                sys.settrace(None)
            del held
            if len(pool._slots):
                gc.collect()  # what the error holds
            start = time.monotonic()
            assert pool.request(PING, time.monotonic() + 5) == [b"PONG"], struck
            assert len(pool._slots) == 0 and time.monotonic() - start < 1, struck
            if not struck:
                break
        assert at > 20


def test_stores_of_one_client_share_its_bound(server: Server) -> None:
    lent = redis.BlockingConnectionPool.from_url(server.url, max_connections=SIZE, socket_timeout=0.2)
    client = redis.Redis(connection_pool=lent)
    stores = [Memstore.from_client(client, fallback=False) for _ in range(2)]
    pools = [store._backend._connections.thread_pool() for store in stores]  # type: ignore[attr-defined]
    assert pools[0] is pools[1]
    taken = [lent.get_connection() for _ in range(SIZE)]
    start = time.monotonic()
    with pytest.raises(BackendUnavailable, match="max_connections"):
        stores[0].history("session").register_turn()
    assert time.monotonic() - start < 0.2 + 1
    for connection in taken:
        lent.release(connection)
    lent.disconnect()


async def test_waits_end_from_any_thread_while_stores_come_and_go(server: Server) -> None:
    client, async_client = redis.Redis.from_url(server.url), redis.asyncio.Redis.from_url(server.url)
    home = Connections.of_url(server.url)
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            Memstore.from_client(client)
            asyncio.run(Memstore.from_url(server.url).history("session").aget_turns())

    store = Memstore.from_client(client, async_client, fallback=False)
    connections = store._backend._connections  # type: ignore[attr-defined]
    with ThreadPoolExecutor(2) as threads:
        going = threads.submit(come_and_go)
        try:
            for _ in range(2000):
                home.end_waits()
                connections.home.end_waits()
        finally:
            stop.set()
        going.result(30)
    pool = (await connections.loop_connections())._pool
    pool._free = 0
    waiting = asyncio.create_task(store.history("session").aget_turns())
    await asyncio.sleep(0.05)
    start = time.monotonic()
    await asyncio.to_thread(connections.home.end_waits)
    with pytest.raises(BackendUnavailable, match="an outage has begun"):
        await waiting
    assert time.monotonic() - start < 1
    client.close()
    await async_client.aclose()


@pytest.mark.parametrize("state", ["none idle", "idle", "idle for long"])
def test_an_interrupt_at_any_line_loses_no_connection(
    server: Server, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if state == "idle for long":
        monkeypatch.setattr("langchain_memstore.backends.redis.pool.IDLE", 0.0)
    with Memstore.from_url(server.url, max_connections=SIZE, fallback=False) as store:
        pool: ThreadPool = store._backend._connections.thread_pool()  # type: ignore[attr-defined]
        for at in itertools.count():
            if state == "none idle":
                pool.drop_idle()
            trace, struck = striking(at)
            sys.settrace(trace)
            try:
                pool.request(PING, time.monotonic() + 5)
            except Struck:
                pass
            finally:
                sys.settrace(None)
            if not struck:
                break
            if len(pool._slots):
                gc.collect()  # what the error holds
            assert len(pool._slots) == 0, struck
            assert pool.request(PING, time.monotonic() + 5) == [b"PONG"], struck
        assert at > 15


async def test_a_cancellation_at_any_moment_loses_no_connection(server: Server) -> None:
    async with Memstore.from_url(server.url, max_connections=SIZE, fallback=False) as store:
        connections = store._backend._connections  # type: ignore[attr-defined]
        pool = (await connections.loop_connections())._pool
        for moments in range(60):
            if moments % 2:
                await pool.drop_idle()
            tasks = [
                asyncio.create_task(connections.arequest(PING, time.monotonic() + 5, alone=True)) for _ in range(5)
            ]
            for _ in range(moments):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert pool._free == SIZE and not pool._waiters, moments
            assert await connections.arequest(PING, time.monotonic() + 5) == [b"PONG"]
