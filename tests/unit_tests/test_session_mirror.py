"""The session mirror: bounded, with the latest sessions, and as they would be read now."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from langchain_memstore import codec
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.backends.outage.session_mirror import SessionMirror
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.reading import Read
from langchain_memstore.ops.session import Append, Clear, Pop, RegisterTurn, SetSummary
from langchain_memstore.window import Bounds
from support.clock import Clock

BOUNDS = Bounds(5, None, codec.RESULTS, codec.TURN_STARTS)
WAITING = Bounds(4, None, codec.RESULTS, codec.TURN_STARTS, max_evicted=3)
KEYS = SessionKeys("conversation", "session")
READ = Read(KEYS, None, refresh=False)


def append(text: str, keys: SessionKeys = KEYS, bounds: Bounds = BOUNDS) -> Append:
    return Append(keys, codec.encode([HumanMessage(text)]), bounds, 60_000)


class Known:
    """A store, and a mirror that records what is done to it."""

    def __init__(self, most: int = 10**6) -> None:
        self.most = most
        self.clock = Clock()
        self.store = LocalBackend(clock=self.clock)
        self.mirror = SessionMirror(most, self.clock)

    def do(self, op: Op[Any]) -> None:
        self.mirror.record(op, self.store.execute(op))
        self.check_bounds()

    def check_bounds(self) -> None:
        """Check that what the mirror keeps is bounded, and counted as it is."""
        held = self.mirror._sessions.values()
        assert len(self.mirror._recorded) < 16
        assert all(len(each.writes) <= 64 and len(each.recent) <= 16 for each in held)
        assert self.mirror._size == sum(each.size for each in held) <= self.most

    def seen(self, op: Op[Any]) -> Any:
        """Return what an operation answers that has only what is known."""
        stand_in = LocalBackend(clock=self.clock)
        for keys, session in self.mirror.sessions():
            stand_in._state.sessions.keep(keys, session)
        return stand_in.execute(op)


ops = st.sampled_from(
    [
        lambda: append("one"),
        lambda: append("another"),
        lambda: append("and more", bounds=WAITING),
        lambda: Pop(KEYS, 2, codec.TURN_STARTS, 60_000),
        lambda: RegisterTurn(KEYS, 60_000),
        lambda: SetSummary(KEYS, "short", 60_000),
        lambda: Clear(KEYS),
        lambda: READ,
    ]
)


@given(st.lists(ops, max_size=120))
def test_after_a_read_all_is_known_that_this_process_does(made: list[Any]) -> None:
    known = Known()
    known.do(append("first"))
    known.do(READ)
    for make in made:
        known.do(make())
        if not known.store.execute(READ).total:  # what is no more is not known, and is read as such
            known.do(READ)
    read, seen = known.store.execute(READ), known.seen(READ)
    assert seen._replace(ttl_ms=None) == read._replace(ttl_ms=None)


@pytest.mark.parametrize("bounds", [BOUNDS, WAITING])
@pytest.mark.parametrize("others", [0, 1, 40])
def test_many_appends_in_a_row_are_known(bounds: Bounds, others: int) -> None:
    known = Known()
    known.do(append("first", bounds=bounds))
    known.do(READ)
    for number in range(150):
        if number == others:
            known.store.execute(append("of another process", bounds=bounds))
        known.do(append(str(number), bounds=bounds))
    assert known.seen(READ).entries == known.store.execute(READ).entries
    assert len(known.mirror._sessions[KEYS.meta].writes) <= 64


@pytest.mark.parametrize("bounds", [BOUNDS, WAITING])
@pytest.mark.parametrize("count", [1, 70, 150])
def test_counts_are_those_of_the_store_whoever_else_appends(bounds: Bounds, count: int) -> None:
    known = Known()
    for number in range(count):
        known.store.execute(append("of another process", bounds=bounds))
        known.do(append(str(number), bounds=bounds))
    seen, read = known.seen(READ), known.store.execute(READ)
    assert (seen.total, seen.turns) == (read.total, read.turns) == (2 * count, 2 * count)
    ours = codec.encode([HumanMessage(str(number)) for number in range(count)])
    assert seen.entries == list(ours[-len(read.entries) :])


def test_a_window_with_gaps_is_legal() -> None:
    known = Known()
    call = AIMessage("", tool_calls=[{"name": "tool", "args": {}, "id": "1"}])
    result = ToolMessage("result", tool_call_id="1")
    known.do(READ)
    for _ in range(100):
        known.store.execute(append("of another process"))
        known.do(Append(KEYS, codec.encode([call, *[result] * 4]), BOUNDS, 60_000))
        known.do(append("next"))
        assert not known.seen(READ).entries[0].startswith(codec.RESULTS)


def test_only_a_window_without_gaps_is_what_a_read_can_follow_on() -> None:
    known = Known()
    known.do(append("first"))
    known.do(READ)
    for number in range(70):
        known.do(append(str(number)))
    followed = known.mirror.last(KEYS)
    assert followed is not None and followed[0].total == 66
    known.store.execute(append("of another process"))
    for number in range(70):
        known.do(append(str(number)))
    assert known.mirror.last(KEYS) is None
    known.do(READ)
    assert known.mirror.last(KEYS) == (known.store.execute(READ), 0)


def test_what_others_did_is_known_once_it_is_read() -> None:
    known = Known()
    known.do(append("ours"))
    known.do(READ)
    known.store.execute(append("theirs"))
    assert len(known.seen(READ).entries) == 1
    known.do(READ)
    assert known.seen(READ) == known.store.execute(READ)


def test_a_session_expires_as_it_does_in_the_store() -> None:
    known = Known()
    known.do(append("soon gone"))
    known.do(READ)
    known.clock.now += 59
    assert known.seen(READ).ttl_ms == 1_000
    known.clock.now += 2
    assert known.seen(READ).entries == known.store.execute(READ).entries == []


def test_a_read_starts_the_ttl_anew_in_what_is_known_too() -> None:
    known = Known()
    known.do(append("still there"))
    known.clock.now += 50
    refreshing = Read(KEYS, 60_000, refresh=True)
    known.mirror.record(refreshing, known.store.execute(READ))  # what a store answers that then starts the TTL anew
    known.clock.now += 50
    assert known.seen(READ).ttl_ms == 10_000


@pytest.mark.parametrize("reading", [True, False])
def test_memory_is_bounded_and_the_latest_are_kept(reading: bool) -> None:
    known = Known(most=100_000)
    for number in range(500):
        keys = SessionKeys("conversation", str(number))
        known.do(append("x" * 1_000, keys))
        if reading:
            known.do(Read(keys, None, refresh=False))
    held = [keys.session_id for keys, _ in known.mirror.sessions()]
    assert 50 <= len(held) == len(known.mirror) <= 100
    assert held == [str(number) for number in range(500 - len(held), 500)]


def test_one_session_that_is_larger_than_the_bound_is_not_kept() -> None:
    known = Known(most=10_000)
    known.do(append("x" * 50_000))
    assert len(known.mirror) == 0
    known.do(append("small", SessionKeys("conversation", "other")))
    assert len(known.mirror) == 1


def test_operations_are_recorded_until_there_are_sixteen() -> None:
    known = Known()
    for number in range(1, 100):
        known.do(append(str(number)))
        assert len(known.mirror._recorded) == number % 16


def test_of_the_writes_before_a_view_the_last_sixteen_ids_are_kept() -> None:
    known = Known()
    done = [append(str(number)) for number in range(100)]
    for at, op in enumerate(done, 1):
        known.do(op)
        if at % 7 == 0:
            known.do(READ)
            assert len(known.mirror) == 1
            assert known.mirror._sessions[KEYS.meta].recent == [each.write_id for each in done[:at]][-16:]


@pytest.mark.parametrize("make", [lambda: append("more"), lambda: RegisterTurn(KEYS, 60_000)], ids=["append", "write"])
def test_writes_without_a_read_are_compacted(make: Any) -> None:
    """However many there are, no more are kept beside the view than 64, and the view has the others."""
    known = Known()
    known.do(append("first"))
    known.do(READ)
    most = 0
    for _ in range(300):
        known.do(make())
        assert len(known.mirror) == 1
        most = max(most, len(known.mirror._sessions[KEYS.meta].writes))
    assert 32 <= most <= 64
    assert known.seen(READ).turns == 301


def test_sessions_that_are_no_more_take_no_room() -> None:
    known = Known(most=10_000)
    for number in range(200):
        keys = SessionKeys("conversation", str(number))
        known.do(append("x" * 1_000, keys))
        known.do(Read(keys, None, refresh=False))
        known.do(Clear(keys))
    assert len(known.mirror) == known.mirror._size == 0


def test_no_less_is_counted_than_the_entries_take() -> None:
    known = Known()
    known.do(append("first"))
    known.do(READ)
    for number in range(1, 100):
        known.do(append("x" * 1_000))
        assert len(known.mirror) == 1
        (held,) = known.mirror._sessions.values()
        entries = [*(held.view.entries if held.view else []), *(entry for op in held.writes for entry in op.entries)]
        assert held.size >= sum(map(len, entries[1:])), number
