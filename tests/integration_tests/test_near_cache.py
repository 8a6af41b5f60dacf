"""Reads from the near cache are those of the store, whatever anybody does to a session."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from langchain_core.messages import HumanMessage

from langchain_memstore import Memstore, codec
from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.near_cache import NearCacheBackend
from langchain_memstore.backends.outage.session_mirror import SessionMirror
from langchain_memstore.backends.redis.backend import RedisBackend
from langchain_memstore.backends.redis.connections import Connections
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.reading import Read
from langchain_memstore.ops.session import Append, Clear, Pop, RegisterTurn, SetSummary, Touch
from langchain_memstore.ops.summary import Claim, Commit
from langchain_memstore.testing import BackendConformance, Execute
from langchain_memstore.window import Bounds
from support.servers import Server
from support.variants import VariantOf

KEYS = SessionKeys("conversation", "session")
HOUR = 3_600_000
READ = Read(KEYS, None, refresh=False)


def near(server: Server, most: int = 10**6) -> NearCacheBackend:
    known = SessionMirror(most, time.time)
    return NearCacheBackend(RedisBackend(Connections.of_url(server.url)), known, records=True)


def append(*texts: str, most: int | None = None, evicted: int | None = None) -> Append:
    bounds = Bounds(most, None, codec.RESULTS, codec.TURN_STARTS, max_evicted=evicted)
    return Append(KEYS, codec.encode([HumanMessage(text) for text in texts]), bounds, HOUR)


class TestNearCache(BackendConformance):
    @pytest.fixture
    def backend(self, server: Server) -> Iterator[NearCacheBackend]:
        backend = near(server)
        yield backend
        backend.close()


class TestNearCacheOfACluster(BackendConformance):
    @pytest.fixture
    def backend(self, cluster: Any) -> Iterator[Backend]:
        store = Memstore.from_url(cluster.url, near_cache=True)
        yield store._backend
        store.close()


class ManyProcesses(RuleBasedStateMachine):
    """Two processes with a near cache and one without do everything to one session, and read the same."""

    def __init__(self, server: Server, admin: redis.Redis) -> None:
        super().__init__()
        admin.flushall()
        self.admin = admin
        self.plain = RedisBackend(Connections.of_url(server.url))
        self.backends: list[Backend] = [near(server), near(server), self.plain]
        self.said = 0
        self.snapshot: dict[str, bytes] = {}

    def teardown(self) -> None:
        for backend in self.backends:
            backend.close()

    who = st.integers(0, 2)

    @rule(who=who, count=st.integers(1, 7), most=st.none() | st.integers(1, 9), evicted=st.sampled_from([None, 4]))
    def append(self, who: int, count: int, most: int | None, evicted: int | None) -> None:
        self.said += count
        texts = [f"message {self.said - number}" for number in range(count)]
        self.backends[who].execute(append(*texts, most=most, evicted=evicted))

    @rule(
        who=who, op=st.sampled_from(["pop", "turn", "summary", "no summary", "touch", "clear"]), count=st.integers(1, 4)
    )
    def change(self, who: int, op: str, count: int) -> None:
        made: dict[str, Op[Any]] = {
            "pop": Pop(KEYS, count, codec.TURN_STARTS, HOUR),
            "turn": RegisterTurn(KEYS, HOUR),
            "summary": SetSummary(KEYS, f"summary {count}", HOUR),
            "no summary": SetSummary(KEYS, "", HOUR),
            "touch": Touch(KEYS, HOUR),
            "clear": Clear(KEYS),
        }
        self.backends[who].execute(made[op])

    @rule(who=who)
    def summarise(self, who: int) -> None:
        claim = Claim(KEYS, 60_000, 0)
        if (claimed := self.backends[who].execute(claim)) is not None:
            self.backends[who].execute(Commit(KEYS, "made", claimed, HOUR, claim.write_id))

    @rule()
    def expire(self) -> None:
        self.admin.delete(*KEYS.siblings())

    @rule(count=st.integers(1, 3))
    def append_as_another_package(self, count: int) -> None:
        for _ in range(count):
            self.said += 1
            self.admin.rpush(KEYS.messages, codec.encode([HumanMessage(f"foreign {self.said}")])[0])

    @rule()
    def take_a_snapshot(self) -> None:
        self.snapshot = {key: self.admin.dump(key) for key in KEYS.siblings() if self.admin.exists(key)}

    @rule()
    def roll_back(self) -> None:
        self.admin.delete(*KEYS.siblings())
        for key, dumped in self.snapshot.items():
            self.admin.restore(key, HOUR, dumped)

    @rule(who=st.integers(0, 1))
    def read(self, who: int) -> None:
        self.backends[who].execute(READ)

    @invariant()
    def all_read_the_same(self) -> None:
        expected = self.plain.execute(READ)
        for backend in self.backends[:2]:
            seen = backend.execute(READ)
            assert seen._replace(ttl_ms=None, trail="") == expected._replace(ttl_ms=None, is_apart=seen.is_apart)
            assert (seen.ttl_ms is None) is (expected.ttl_ms is None)


def test_all_processes_read_the_same(server: Server, admin: redis.Redis) -> None:
    run_state_machine_as_test(
        lambda: ManyProcesses(server, admin), settings=settings(max_examples=80, stateful_step_count=40)
    )


def test_what_a_rollback_has_taken_is_not_read_again(server: Server, admin: redis.Redis, variant_of: VariantOf) -> None:
    """However much was lost, and however much came after, the near cache is read as the store is."""
    backend, plain = near(server), RedisBackend(Connections.of_url(server.url))
    execute = variant_of(backend)
    for kept, lost, new in itertools.product((0, 1, 6), (1, 2, 5, 9), range(10)):
        plain.execute(Clear(KEYS))
        for number in range(kept):
            execute(append(f"kept {number}"))
        execute(READ)
        snapshot = {key: admin.dump(key) for key in KEYS.siblings() if admin.exists(key)}
        for _ in range(lost):
            execute(append("the same"))
        execute(READ)
        plain.execute(Clear(KEYS))
        for key, dumped in snapshot.items():
            admin.restore(key, HOUR, dumped)
        for number in range(new):
            (plain if number % 2 else backend).execute(append("the same" if number % 3 else f"new {number}"))
        for _ in range(2):
            assert execute(READ).entries == plain.execute(READ).entries, (kept, lost, new)
    for each in (backend, plain):
        each.close()


def bytes_read(admin: redis.Redis, execute: Execute, op: Op[Any]) -> int:
    before = admin.info("stats")["total_net_output_bytes"]
    execute(op)
    return admin.info("stats")["total_net_output_bytes"] - before


def test_only_what_came_since_is_read(server: Server, admin: redis.Redis, variant_of: VariantOf) -> None:
    backend = near(server)
    execute = variant_of(backend)
    execute(append(*(f"{number} " + "x" * 1000 for number in range(100))))
    first = bytes_read(admin, execute, READ)
    again = bytes_read(admin, execute, READ)
    execute(append("one more", "and another"))
    after_own = bytes_read(admin, execute, READ)
    other = RedisBackend(Connections.of_url(server.url))
    other.execute(append("from elsewhere"))
    after_other = bytes_read(admin, execute, READ)
    info = bytes_read(admin, lambda _: None, READ)  # what asking itself takes
    assert first - info > 100_000
    assert max(again, after_own, after_other) - info < 10_000
    other.execute(Pop(KEYS, 1, codec.TURN_STARTS, HOUR))
    assert bytes_read(admin, execute, READ) - info > 100_000
    assert len(execute(READ).entries) == 102
    for each in (backend, other):
        each.close()


def test_the_ttl_is_refreshed_as_by_any_read(server: Server, admin: redis.Redis) -> None:
    backend = near(server)
    backend.execute(append("hello"))
    read = Read(KEYS, HOUR, refresh=True)
    backend.execute(read)
    for key in KEYS.siblings():
        admin.pexpire(key, HOUR // 2)
    assert backend.execute(read).ttl_ms <= HOUR // 2
    assert backend.execute(read).ttl_ms > HOUR * 0.98
    backend.close()


def test_threads_that_read_and_write_at_once_see_no_gap(server: Server) -> None:
    with Memstore.from_url(server.url, near_cache=True, max_messages=30) as store:
        stop = threading.Event()

        def write(writer: int) -> None:
            for number in range(150):
                store.history("shared").add_messages([HumanMessage(f"{writer} {number}")])

        def read() -> int:
            reads = 0
            while not stop.is_set():
                said: dict[str, list[int]] = {}
                for message in store.history("shared").messages:
                    writer, number = message.text.split()
                    said.setdefault(writer, []).append(int(number))
                for numbers in said.values():
                    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
                reads += 1
            return reads

        with ThreadPoolExecutor(6) as threads:
            reading = [threads.submit(read) for _ in range(3)]
            list(threads.map(write, range(3)))
            stop.set()
            assert all(each.result() > 10 for each in reading)


def test_messages_are_new_each_time(server: Server) -> None:
    with Memstore.from_url(server.url, near_cache=True) as store:
        history = store.history("session")
        history.add_messages([HumanMessage([{"type": "text", "text": "hello"}], additional_kwargs={"a": [1]})])
        for _ in range(4):
            (message,) = history.messages
            assert message == HumanMessage([{"type": "text", "text": "hello"}], additional_kwargs={"a": [1]})
            message.content[0]["text"] = "changed"
            message.additional_kwargs["a"].append(2)


@pytest.mark.parametrize("fallback", [True, False])
def test_stores_with_a_near_cache_say_so_and_bound_it(server: Server, fallback: bool) -> None:
    with Memstore.from_url(server.url, near_cache=100_000, fallback=fallback) as store:
        assert "NearCacheBackend" in repr(store)
        for number in range(50):
            history = store.history(str(number))
            history.add_user_message("x" * 10_000)
            assert len(history.messages) == 1
        assert store.status.backend == "redis"


@pytest.mark.parametrize("wrong", [0, -1, "yes", None, 1.5])
def test_what_makes_no_sense_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="near_cache"):
        Memstore.from_url("redis://localhost", near_cache=wrong)


def test_an_outage_finds_what_the_near_cache_holds(start_server: Callable[..., Server]) -> None:
    server = start_server()
    with Memstore.from_url(server.open_url, near_cache=True) as store:
        history = store.history("session")
        for number in range(5):
            history.add_user_message(str(number))
            assert len(history.messages) == number + 1
        server.kill()
        assert [message.text for message in history.messages] == list("01234")
        server.start()
