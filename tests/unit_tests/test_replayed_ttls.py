"""What becomes of TTLs while operations wait: a TTL that was journaled is a moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest

from langchain_memstore import Memstore
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.keys import Namespace, SessionKeys
from langchain_memstore.ops.base import JOURNALED, Op
from langchain_memstore.ops.kv import Expire, Get, Set, Unlink, ValueOp
from langchain_memstore.ops.kv_scripts import Delete, Increment, UpdateRecord
from langchain_memstore.ops.session import Append, Clear, Pop, RegisterTurn, SetSummary, Touch
from langchain_memstore.ops.stand_in import StandInValues
from langchain_memstore.ops.state import LocalState, Value
from langchain_memstore.window import Bounds
from support.clock import Clock
from support.replays import ReplayedTtls
from support.unsteady import Unsteady, falling_back
from support.waiting import wait_until

HOUR = 3_600_000
SESSION = SessionKeys("conversation", "a")
KEYS = Namespace("conversation", "kv").keys("a")


def examples(ttl: int | None) -> dict[type[Op[Any]], Op[Any]]:
    return {
        Append: Append(SESSION, (b"{}",), Bounds(None, None, (), ()), ttl),
        Pop: Pop(SESSION, 1, (), ttl),
        RegisterTurn: RegisterTurn(SESSION, ttl),
        SetSummary: SetSummary(SESSION, "s", ttl),
        Touch: Touch(SESSION, ttl),
        Clear: Clear(SESSION),
        Set: Set(((KEYS[0], b"1"),), ttl),
        Unlink: Unlink(KEYS[:1]),
        Expire: Expire(KEYS[:1], ttl),
        Delete: Delete(KEYS),
        Increment: Increment(KEYS, 1, ttl),
        UpdateRecord: UpdateRecord(KEYS[:1], b"}", ttl),
    }


every_class = pytest.mark.parametrize("cls", JOURNALED.values(), ids=lambda cls: cls.__name__)


class TestLocally(ReplayedTtls):
    @pytest.fixture
    def backend(self) -> LocalBackend:
        return LocalBackend()


def test_every_class_has_an_example() -> None:
    assert set(examples(None)) == set(JOURNALED.values())


@every_class
def test_a_ttl_goes_on_while_an_operation_waits(cls: type[Op[Any]]) -> None:
    stand_in = LocalState(Clock(), values=StandInValues())
    has_ttl = "ttl" in {field.name for field in fields(cls)}  # type: ignore[arg-type]
    for waited_ms in (0, HOUR - 1, HOUR, 2 * HOUR):
        sent: Any = examples(HOUR)[cls].at_replay(waited_ms, stand_in)
        assert type(sent) is cls
        if has_ttl:
            assert sent.ttl == HOUR - waited_ms
            assert examples(None)[cls].at_replay(waited_ms, stand_in).ttl is None  # type: ignore[attr-defined]


def test_sessions_and_values_do_not_wait_for_each_other() -> None:
    ops = examples(None).values()
    values = {target for op in ops if isinstance(op, ValueOp) for target in op.targets}
    sessions = {target for op in ops if not isinstance(op, ValueOp) for target in op.targets}
    assert (values, sessions) == ({KEYS[0]}, {SESSION})
    assert Set((("a", b""), ("b", b"")), None).targets == Get(("a", "b")).targets == ("a", "b")


def test_a_stand_in_knows_a_bounded_number_of_keys() -> None:
    values = StandInValues(2)
    for key in "abc":
        values.keep(key, Value(data=b""))
    assert [values.knows(key) for key in "abc"] == [False, True, True]
    for key in "abcd":
        values.drop(key)
    assert [values.knows(key) for key in "abcd"] == [False, False, True, True]
    values.keep("d", Value(data=b""))
    values.forget(["c", "d", SESSION])
    assert not any(map(values.knows, "abcd")) and len(values) == 0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def primary(clock: Clock) -> Unsteady:
    return Unsteady(LocalBackend(clock=clock))


@pytest.fixture
def store(clock: Clock, primary: Unsteady) -> Iterator[Memstore]:
    backend: Any = falling_back(primary, clock=clock)
    yield Memstore(backend, ttl=60)
    primary.mode = "up"
    backend.close()


def test_what_expired_in_an_outage_does_not_live_again(store: Memstore, primary: Unsteady, clock: Clock) -> None:
    kv, memory = store.kv(), store.working_memory(ttl=60)
    primary.mode = "down"
    kv.set("otp", 123456, ttl=60)
    kv.set("sliding", 1, ttl=60)
    kv.set("hits", 1, ttl=60)
    memory.store("c", 1)
    clock.now += 50
    assert kv.expire("sliding", 60) and kv.incr("hits") == 2 and memory.update("c", 2)
    clock.now += 50
    assert kv.mget(["otp", "sliding", "hits"]) == [None, 1, None]
    primary.mode = "up"
    wait_until(lambda: not store.status.degraded)
    assert kv.mget(["otp", "sliding", "hits"]) == [None, 1, None]
    assert kv.ttl("sliding") == 10
    record = memory.retrieve("c")
    assert record is not None and record.data == 2
