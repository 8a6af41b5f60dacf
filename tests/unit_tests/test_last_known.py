"""What the process last knew of sessions: bounded, the latest, and as it would be read now."""

from __future__ import annotations

from typing import Any

import pytest
from clock import Clock
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage

from langchain_memstore import codec
from langchain_memstore.backends.last_known import LastKnown
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.reading import Read, ReadEntries
from langchain_memstore.ops.session import Append, Clear, Pop, RegisterTurn, SetSummary
from langchain_memstore.window import Bounds

BOUNDS = Bounds(5, None, codec.RESULTS, codec.TURN_STARTS)
KEYS = SessionKeys("conversation", "session")
READ = Read(KEYS, None, refresh=False)


def append(text: str, keys: SessionKeys = KEYS) -> Append:
    return Append(keys, codec.encode([HumanMessage(text)]), BOUNDS, 60_000)


class Known:
    """A store, and what is noted of it."""

    def __init__(self, most: int = 10**6) -> None:
        self.clock = Clock()
        self.store = LocalBackend(clock=self.clock)
        self.known = LastKnown(most, self.clock)

    def do(self, op: Op[Any]) -> None:
        self.known.note(op, self.store.execute(op))

    def seen(self, op: Op[Any]) -> Any:
        """Return what an operation answers that has only what is known."""
        stand_in = LocalBackend(clock=self.clock)
        stand_in.adopt(self.known.sessions())
        return stand_in.execute(op)


ops = st.sampled_from(
    [
        lambda: append("one"),
        lambda: append("another"),
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
    assert seen._replace(left=None) == read._replace(left=None)


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
    assert known.seen(READ).left == 1_000
    known.clock.now += 2
    assert known.seen(READ).entries == known.store.execute(READ).entries == []


@pytest.mark.parametrize("reading", [True, False])
def test_memory_is_bounded_and_the_latest_are_kept(reading: bool) -> None:
    known = Known(most=100_000)
    for number in range(500):
        keys = SessionKeys("conversation", str(number))
        known.do(append("x" * 1_000, keys))
        if reading:
            known.do(Read(keys, None, refresh=False))
    held = [keys.session_id for keys, _ in known.known.sessions()]
    assert 50 <= len(held) == len(known.known) <= 100
    assert held == [str(number) for number in range(500 - len(held), 500)]


def test_one_session_that_is_larger_than_the_bound_is_not_kept() -> None:
    known = Known(most=10_000)
    known.do(append("x" * 50_000))
    assert len(known.known) == 0
    known.do(append("small", SessionKeys("conversation", "other")))
    assert len(known.known) == 1


KINDS = {kind: b'{"type":"%b"' % kind for kind in (b"human", b"ai", b"tool", b"system")}
some_bounds = st.builds(
    Bounds,
    st.none() | st.integers(1, 6),
    st.none() | st.integers(1, 3),
    st.just(codec.RESULTS),
    st.just(codec.TURN_STARTS),
    max_evicted=st.none() | st.integers(1, 5),
    joined=st.sampled_from([(), ((KINDS[b"ai"], KINDS[b"ai"]), (KINDS[b"system"], KINDS[b"ai"]))]),
)


@given(st.lists(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=4), min_size=1, max_size=12), some_bounds)
def test_appends_come_to_the_same_one_by_one_and_as_one(said: list[list[bytes]], bounds: Bounds) -> None:
    one_by_one, as_one = LocalBackend(), LocalBackend()
    entries = [tuple(KINDS[kind] + b",%d}" % at for kind in kinds) for at, kinds in enumerate(said)]
    for each in entries:
        one_by_one.execute(Append(KEYS, each, bounds, None))
    as_one.execute(Append(KEYS, entries[0], bounds, None))
    if entries[1:]:
        as_one.execute(Append(KEYS, tuple(entry for each in entries[1:] for entry in each), bounds, None))
    reads = [backend.execute(READ)._replace(epoch="") for backend in (one_by_one, as_one)]
    assert reads[0] == reads[1]
    assert len({tuple(backend.execute(ReadEntries(KEYS))) for backend in (one_by_one, as_one)}) == 1
