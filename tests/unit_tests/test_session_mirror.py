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


class Mirrored:
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
        assert all(len(each.writes) <= 64 for each in held)
        assert self.mirror._size == sum(each.size for each in held) <= self.most

    def seen(self, op: Op[Any]) -> Any:
        """Return what an operation answers that has only what is mirrored."""
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
    mirrored = Mirrored()
    mirrored.do(append("first"))
    mirrored.do(READ)
    for make in made:
        mirrored.do(make())
        if not mirrored.store.execute(READ).total:  # what is no more is not mirrored, and is read as such
            mirrored.do(READ)
    read, seen = mirrored.store.execute(READ), mirrored.seen(READ)
    assert seen._replace(ttl_ms=None, seen="") == read._replace(ttl_ms=None, seen="")


@pytest.mark.parametrize("bounds", [BOUNDS, WAITING])
@pytest.mark.parametrize("others", [0, 1, 40])
def test_many_appends_in_a_row_are_known(bounds: Bounds, others: int) -> None:
    mirrored = Mirrored()
    mirrored.do(append("first", bounds=bounds))
    mirrored.do(READ)
    for number in range(150):
        if number == others:
            mirrored.store.execute(append("of another process", bounds=bounds))
        mirrored.do(append(str(number), bounds=bounds))
    assert mirrored.seen(READ).entries == mirrored.store.execute(READ).entries
    assert len(mirrored.mirror._sessions[KEYS.meta].writes) <= 64


@pytest.mark.parametrize("bounds", [BOUNDS, WAITING])
@pytest.mark.parametrize("count", [1, 70, 150])
def test_counts_are_those_of_the_store_whoever_else_appends(bounds: Bounds, count: int) -> None:
    mirrored = Mirrored()
    for number in range(count):
        mirrored.store.execute(append("of another process", bounds=bounds))
        mirrored.do(append(str(number), bounds=bounds))
    seen, read = mirrored.seen(READ), mirrored.store.execute(READ)
    assert (seen.total, seen.turns) == (read.total, read.turns) == (2 * count, 2 * count)
    ours = codec.encode([HumanMessage(str(number)) for number in range(count)])
    assert seen.entries == list(ours[-len(read.entries) :])


def test_a_window_with_gaps_is_legal() -> None:
    mirrored = Mirrored()
    call = AIMessage("", tool_calls=[{"name": "tool", "args": {}, "id": "1"}])
    result = ToolMessage("result", tool_call_id="1")
    mirrored.do(READ)
    for _ in range(100):
        mirrored.store.execute(append("of another process"))
        mirrored.do(Append(KEYS, codec.encode([call, *[result] * 4]), BOUNDS, 60_000))
        mirrored.do(append("next"))
        assert not mirrored.seen(READ).entries[0].startswith(codec.RESULTS)


def test_only_a_window_without_gaps_is_what_a_read_can_follow_on() -> None:
    mirrored = Mirrored()
    mirrored.do(append("first"))
    mirrored.do(READ)
    for number in range(70):
        mirrored.do(append(str(number)))
    followed = mirrored.mirror.last(KEYS)
    assert followed is not None and followed[0].total == 66
    mirrored.store.execute(append("of another process"))
    for number in range(70):
        mirrored.do(append(str(number)))
    assert mirrored.mirror.last(KEYS) is None
    mirrored.do(READ)
    assert mirrored.mirror.last(KEYS) == (mirrored.store.execute(READ), 0)


def test_what_others_did_is_known_once_it_is_read() -> None:
    mirrored = Mirrored()
    mirrored.do(append("ours"))
    mirrored.do(READ)
    mirrored.store.execute(append("theirs"))
    assert len(mirrored.seen(READ).entries) == 1
    mirrored.do(READ)
    assert mirrored.seen(READ) == mirrored.store.execute(READ)


def test_a_session_expires_as_it_does_in_the_store() -> None:
    mirrored = Mirrored()
    mirrored.do(append("soon gone"))
    mirrored.do(READ)
    mirrored.clock.now += 59
    assert mirrored.seen(READ).ttl_ms == 1_000
    mirrored.clock.now += 2
    assert mirrored.seen(READ).entries == mirrored.store.execute(READ).entries == []


def test_a_read_starts_the_ttl_anew_in_what_is_known_too() -> None:
    mirrored = Mirrored()
    mirrored.do(append("still there"))
    mirrored.clock.now += 50
    refreshing = Read(KEYS, 60_000, refresh=True)
    mirrored.mirror.record(
        refreshing, mirrored.store.execute(READ)
    )  # what a store answers that then starts the TTL anew
    mirrored.clock.now += 50
    assert mirrored.seen(READ).ttl_ms == 10_000


@pytest.mark.parametrize("reading", [True, False])
def test_memory_is_bounded_and_the_latest_are_kept(reading: bool) -> None:
    mirrored = Mirrored(most=100_000)
    for number in range(500):
        keys = SessionKeys("conversation", str(number))
        mirrored.do(append("x" * 1_000, keys))
        if reading:
            mirrored.do(Read(keys, None, refresh=False))
    held = [keys.session_id for keys, _ in mirrored.mirror.sessions()]
    assert 50 <= len(held) == len(mirrored.mirror) <= 100
    assert held == [str(number) for number in range(500 - len(held), 500)]


def test_one_session_that_is_larger_than_the_bound_is_not_kept() -> None:
    mirrored = Mirrored(most=10_000)
    mirrored.do(append("x" * 50_000))
    assert len(mirrored.mirror) == 0
    mirrored.do(append("small", SessionKeys("conversation", "other")))
    assert len(mirrored.mirror) == 1


def test_operations_are_recorded_until_there_are_sixteen() -> None:
    mirrored = Mirrored()
    for number in range(1, 100):
        mirrored.do(append(str(number)))
        assert len(mirrored.mirror._recorded) == number % 16


@pytest.mark.parametrize("written", ["while it is read", "before"])
def test_a_view_does_not_undo_what_was_written_meanwhile(written: str) -> None:
    mirrored = Mirrored()
    mirrored.do(append("first"))
    began, stale = mirrored.mirror.begin(), mirrored.store.execute(READ)
    mirrored.do(SetSummary(KEYS, "short", 60_000))
    mirrored.do(append("second"))
    view = stale if written == "while it is read" else mirrored.store.execute(READ)
    mirrored.mirror.record(READ, view, began)
    assert mirrored.seen(READ)[:5] == mirrored.store.execute(READ)[:5]


def test_what_a_view_has_already_is_not_done_to_it_again() -> None:
    """A read may overtake the reply to a write."""
    mirrored = Mirrored()
    mirrored.do(append("first"))
    for op in (append("second"), RegisterTurn(KEYS, 60_000), Pop(KEYS, 1, codec.TURN_STARTS, 60_000)):
        began = mirrored.mirror.begin()
        result = mirrored.store.execute(op)
        mirrored.do(READ)
        mirrored.mirror.record(op, result, began)
        assert mirrored.seen(READ)[:5] == mirrored.store.execute(READ)[:5]


def test_a_summary_is_known_though_the_session_was_not_read() -> None:
    mirrored = Mirrored()
    mirrored.do(SetSummary(KEYS, "short", 60_000))
    assert mirrored.seen(READ).summary == "short"


@pytest.mark.parametrize("viewed", [True, False])
def test_a_write_that_is_done_twice_is_known_to_have_been_done(viewed: bool) -> None:
    mirrored = Mirrored()
    done = [append(str(number)) for number in range(100)]
    for at, op in enumerate(done):
        mirrored.do(op)
        if at == 50 and viewed:
            mirrored.do(READ)
    before = mirrored.seen(READ)
    (session,) = [session for _, session in mirrored.mirror.sessions()]
    done[-1].apply(session, 0)
    assert (len(session.messages), session.total) == (len(before.entries), 100)


def test_sessions_that_are_no_more_take_no_room() -> None:
    mirrored = Mirrored(most=10_000)
    for number in range(200):
        keys = SessionKeys("conversation", str(number))
        mirrored.do(append("x" * 1_000, keys))
        mirrored.do(Read(keys, None, refresh=False))
        mirrored.do(Clear(keys))
    assert len(mirrored.mirror) == mirrored.mirror._size == 0


def test_no_less_is_counted_than_the_entries_take() -> None:
    mirrored = Mirrored()
    mirrored.do(append("first"))
    mirrored.do(READ)
    for number in range(1, 100):
        mirrored.do(append("x" * 1_000))
        assert len(mirrored.mirror) == 1
        (held,) = mirrored.mirror._sessions.values()
        entries = [
            *(held.view.entries if held.view else []),
            *(entry for each in held.writes for entry in each.op.entries),
        ]
        assert held.size >= sum(map(len, entries[1:])), number
