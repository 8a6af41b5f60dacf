"""Connections that are dead and do not say so, servers that hang, and operations that the server hangs up on."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import redis
from langchain_core.messages import HumanMessage

from langchain_memstore import BackendDenied, BackendError, BackendUnavailable, Memstore
from langchain_memstore.backends.redis import limits, loop_pool, pool
from support.proxy import SWALLOW, Cut, Proxy
from support.servers import PASSWORD, USER, Server

SERVED_WITHIN = 1.5  # seconds
CALLERS = 100


class Nat:
    """Forgets the connections that it has on demand: they stay open, and carry nothing more.

    Args:
        answer: What to do with what comes over them; 0: hang up.
    """

    def __init__(self, answer: int = SWALLOW) -> None:
        self._answer = answer
        self.forgotten = 0

    def plan(self) -> Cut:
        made = self.forgotten
        return lambda from_server, data: self._answer if self.forgotten > made else len(data)


@pytest.fixture
def nat() -> Nat:
    return Nat()


@pytest.fixture
def reached(server: Server, nat: Nat) -> Iterator[str]:
    """The URL of a server behind a NAT."""
    with Proxy(server.port, nat.plan) as proxy:
        yield f"redis://127.0.0.1:{proxy.port}/0"


@pytest.fixture
def idle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes every connection for one that was idle for long."""
    for module in (pool, loop_pool):
        monkeypatch.setattr(module, "IDLE", 0.0)


def timed(call: Callable[[], object]) -> float:
    start = time.monotonic()
    call()
    return time.monotonic() - start


async def atimed(call: Any) -> float:
    start = time.monotonic()
    await call
    return time.monotonic() - start


class TestIdle:
    """A NAT or a load balancer has dropped connections that were idle."""

    @pytest.mark.parametrize("together", [1, 8], ids=["one after the other", "together"])
    def test_threads_notice_at_once(self, reached: str, nat: Nat, idle_at_once: None, together: int) -> None:
        with Memstore.from_url(reached) as store, ThreadPoolExecutor(8) as threads:

            def turn(number: int) -> None:
                store.history(f"session-{number}").add_user_message("text")

            list(threads.map(turn, range(64)))
            nat.forgotten += 1
            with ThreadPoolExecutor(together) as callers:
                took = list(callers.map(lambda number: timed(lambda: turn(number)), range(16)))
            assert max(took) < SERVED_WITHIN and not store.status.degraded
            nat.forgotten += 1
            with store.lock("name"):
                assert store.history("session-0").turns == 2

    @pytest.mark.parametrize("together", [1, 8], ids=["one after the other", "together"])
    async def test_tasks_notice_at_once(self, reached: str, nat: Nat, idle_at_once: None, together: int) -> None:
        async with Memstore.from_url(reached) as store:

            async def turn(number: int) -> float:
                return await atimed(store.history(f"session-{number}").aadd_messages([HumanMessage("text")]))

            async def one_by_one(numbers: range) -> list[float]:
                return [await turn(number) for number in numbers]

            await asyncio.gather(*(one_by_one(range(number, 64, 8)) for number in range(8)))
            nat.forgotten += 1
            rows = await asyncio.gather(*(one_by_one(range(number, 16, together)) for number in range(together)))
            assert max(each for row in rows for each in row) < SERVED_WITHIN and not store.status.degraded
            nat.forgotten += 1
            async with store.lock("name"):
                pass

    @pytest.mark.parametrize("variant", ["sync", "async"])
    async def test_connections_that_were_lent(self, server: Server, nat: Nat, idle_at_once: None, variant: str) -> None:
        with ExitStack() as stack:
            port = stack.enter_context(Proxy(server.port, nat.plan)).port
            options = {"host": "127.0.0.1", "port": port, "username": USER, "password": PASSWORD}
            if variant == "sync":
                history = Memstore.from_client(stack.enter_context(redis.Redis(**options))).history("session")
                history.add_user_message("text")
                nat.forgotten += 1
                assert timed(lambda: history.add_user_message("text")) < SERVED_WITHIN
                assert history.turns == 2
            else:
                async with redis.asyncio.Redis(**options) as client:
                    history = Memstore.from_client(async_client=client).history("session")
                    await history.aadd_messages([HumanMessage("text")])
                    nat.forgotten += 1
                    assert await atimed(history.aadd_messages([HumanMessage("text")])) < SERVED_WITHIN
                    assert await history.aget_turns() == 2

    @pytest.mark.parametrize("variant", ["sync", "async"])
    async def test_those_that_hang_up_when_they_are_used_are_no_outage(self, server: Server, variant: str) -> None:
        """As where a load balancer fails over: its successor knows none of the connections."""
        nat = Nat(answer=0)
        with Proxy(server.port, nat.plan) as proxy:
            async with Memstore.from_url(f"redis://127.0.0.1:{proxy.port}/0", fallback=False) as store:
                histories = [store.history(f"session-{number}") for number in range(200)]
                for _ in range(5):
                    if variant == "sync":
                        with ThreadPoolExecutor(8) as threads:
                            list(threads.map(lambda history: history.add_user_message("text"), histories))
                    else:
                        await asyncio.gather(*(each.aadd_messages([HumanMessage("text")]) for each in histories))
                    nat.forgotten += 1
                assert [history.turns for history in histories] == [5] * 200

    def test_one_that_was_used_lately_is_given_a_second_try(self, reached: str, nat: Nat, call: Any) -> None:
        """It takes the time for an answer to notice, and is no outage: a new connection serves."""
        with Memstore.from_url(reached, socket_timeout=0.5) as store:
            history = store.history("session")
            call(history, "add_user_message", "text")
            nat.forgotten += 1
            assert timed(lambda: call(history, "add_user_message", "text")) < 0.5 + limits.SECOND_TRY
            assert not store.status.degraded and call(history, "turns") == 2


@contextmanager
def hung(server: Server) -> Iterator[None]:
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


@pytest.fixture
def own(start_server: Callable[..., Server]) -> Server:
    """A server of the test's own."""
    return start_server()


class TestHung:
    """The server accepts connections, and answers nothing."""

    @pytest.mark.parametrize("fallback", [True, False])
    def test_threads_are_answered_in_time(self, own: Server, fallback: bool) -> None:
        with Memstore.from_url(own.open_url, fallback=fallback) as store, ThreadPoolExecutor(CALLERS) as threads:
            store.history("session-0").add_user_message("before")

            def turn(number: int) -> float:
                try:
                    return timed(lambda: store.history(f"session-{number}").add_user_message("text"))
                except BackendUnavailable:
                    assert not fallback
                    return time.monotonic() - start

            with hung(own):
                start = time.monotonic()
                took = list(threads.map(turn, range(CALLERS)))
            assert max(took) < 5 + 1

    @pytest.mark.parametrize("fallback", [True, False])
    async def test_tasks_are_answered_in_time(self, own: Server, fallback: bool) -> None:
        async with Memstore.from_url(own.open_url, fallback=fallback) as store:
            await store.history("session-0").aadd_messages([HumanMessage("before")])

            async def turn(number: int) -> float:
                start = time.monotonic()
                try:
                    await store.history(f"session-{number}").aadd_messages([HumanMessage("text")])
                except BackendUnavailable:
                    assert not fallback
                return time.monotonic() - start

            with hung(own):
                took = await asyncio.gather(*(turn(number) for number in range(CALLERS)))
            assert max(took) < 5 + 1

    @pytest.mark.parametrize("is_warm", [True, False])
    @pytest.mark.parametrize("kind", [redis.ConnectionPool, redis.BlockingConnectionPool])
    def test_threads_with_a_client_of_their_own_are_too(self, own: Server, kind: Any, is_warm: bool) -> None:
        """Whatever its pool would wait for, and however often it would try."""
        pool = kind(host="127.0.0.1", port=own.port, max_connections=CALLERS // 2, socket_timeout=1.0)
        store = Memstore.from_client(redis.Redis(connection_pool=pool), fallback=False)

        def turn(number: int) -> float:
            start = time.monotonic()
            with pytest.raises(BackendUnavailable):
                store.history(f"session-{number}").register_turn()
            return time.monotonic() - start

        if is_warm:
            store.history("session").register_turn()
        with hung(own), ThreadPoolExecutor(CALLERS) as threads:
            assert max(threads.map(turn, range(CALLERS))) < 1 + 1
        pool.disconnect()

    @pytest.mark.parametrize("is_warm", [True, False])
    @pytest.mark.parametrize("kind", [redis.asyncio.ConnectionPool, redis.asyncio.BlockingConnectionPool])
    async def test_tasks_with_a_client_of_their_own_are_too(self, own: Server, kind: Any, is_warm: bool) -> None:
        pool = kind(host="127.0.0.1", port=own.port, max_connections=CALLERS // 2, socket_timeout=1.0)
        store = Memstore.from_client(async_client=redis.asyncio.Redis(connection_pool=pool), fallback=False)

        async def turn(number: int) -> float:
            start = time.monotonic()
            with pytest.raises(BackendUnavailable):
                await store.history(f"session-{number}").aregister_turn()
            return time.monotonic() - start

        if is_warm:
            await store.history("session").aregister_turn()
        with hung(own):
            assert max(await asyncio.gather(*map(turn, range(CALLERS)))) < 1 + 1
        await pool.disconnect()

    def test_what_waits_for_a_connection_goes_on_when_an_outage_begins(self, own: Server) -> None:
        with (
            Memstore.from_url(own.open_url, max_connections=2, socket_timeout=0.5) as store,
            ThreadPoolExecutor(20) as threads,
        ):
            with hung(own):
                took = list(
                    threads.map(lambda n: timed(lambda: store.history(f"{n}").add_user_message("x")), range(20))
                )
            assert max(took) < 0.5 + 1

    def test_a_pool_that_is_busy_is_named(self, own: Server) -> None:
        with Memstore.from_url(own.open_url, max_connections=1, socket_timeout=0.5, fallback=False) as store:
            with hung(own), ThreadPoolExecutor(2) as threads:
                calls = [threads.submit(store.history("session").add_user_message, "text") for _ in range(2)]
                errors = [str(each.exception()) for each in calls]
            assert any("max_connections" in error for error in errors)


class TestHungUp:
    """The server closes the connection over which an operation is sent."""

    def test_an_operation_that_is_too_large_is_no_outage(self, start_server: Callable[..., Server], call: Any) -> None:
        server = start_server("--proto-max-bulk-len", "1mb")
        with Memstore.from_url(server.open_url) as store:
            history = store.history("session")
            with pytest.raises(BackendError, match=r"session 'session'.*operation of 5\d{6} bytes.*proto-max-bulk-len"):
                call(history, "add_user_message", "x" * 5_000_000)
            assert not store.status.degraded and store.status.pending == 0
            call(history, "add_user_message", "text")
            assert call(history, "turns") == 1

    def test_one_that_has_waited_is_dropped_and_delays_no_others(
        self, start_server: Callable[..., Server], caplog: pytest.LogCaptureFixture
    ) -> None:
        server = start_server("--proto-max-bulk-len", "1mb")
        with Memstore.from_url(server.open_url) as store:
            store.history("one").add_user_message("before")
            server.kill()
            store.history("one").add_user_message("x" * 5_000_000)
            store.history("two").add_user_message("text")
            server.start()
            from support.servers import admit
            from support.waiting import wait_until

            with server.admin() as admin:
                admin.config_set("proto-max-bulk-len", "1mb")
                admit(admin)
            wait_until(lambda: not store.status.degraded, 20)
            assert (store.status.rejected, store.status.pending) == (1, 0)
            assert [message.text for message in store.history("two").messages] == ["text"]
            assert "is dropped" in caplog.text and "xxx" not in caplog.text

    def test_a_proxy_that_closes_on_scripts_is_named(self, server: Server, call: Any) -> None:
        def plan() -> Cut:
            return lambda from_server, data: 0 if not from_server and b"EVAL" in data else len(data)

        with Proxy(server.port, plan) as proxy:
            url = f"redis://{USER}:{PASSWORD}@127.0.0.1:{proxy.port}/0"
            with Memstore.from_url(url) as store:
                with pytest.raises(BackendDenied, match=r"scripts \(EVALSHA, EVAL\) do not get through"):
                    call(store.history("session"), "add_user_message", "text")
                assert not store.status.degraded
                assert call(store.history("session"), "messages") == []

    def test_a_server_that_closes_all_is_an_outage(self, server: Server, call: Any) -> None:
        with (
            Proxy(server.port, lambda: lambda from_server, data: 0) as proxy,
            Memstore.from_url(f"redis://127.0.0.1:{proxy.port}/0") as store,
        ):
            call(store.history("session"), "add_user_message", "text")
            assert store.status.degraded
