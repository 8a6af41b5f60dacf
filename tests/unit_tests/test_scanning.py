"""Cursors of listings, and what is noted of slots that move."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_memstore.backends.redis.scanning import ClusterPlace, NodeView, SlotMoves, run_of
from langchain_memstore.backends.redis.topology import Node
from langchain_memstore.ops.scanning import ScanCursor

A, B, C = ("a", 1), ("b", 1), ("c", 1)

wide, narrow = st.integers(0, 2**64 - 1), st.integers(0, 2**16 - 1)


@given(st.builds(ScanCursor, wide, wide, narrow, wide))
def test_a_cursor_is_one_number(cursor: ScanCursor) -> None:
    assert ScanCursor.of(cursor.as_int()) == cursor


@given(st.builds(ClusterPlace, wide, narrow, st.booleans(), wide))
def test_a_place_is_one_number(place: ClusterPlace) -> None:
    assert ClusterPlace.of(place.as_int()) == place


def test_a_plain_number_is_a_servers_own_cursor() -> None:
    assert ScanCursor.of(17) == ScanCursor(17)


@pytest.mark.parametrize(
    ("at", "cursor", "run", "after"),
    [
        (ScanCursor(), 0, 7, None),
        (ScanCursor(), 5, 7, ScanCursor(5, 7)),
        (ScanCursor(5, 7), 9, 7, ScanCursor(9, 7)),
        (ScanCursor(5, 7), 0, 7, None),
        (ScanCursor(5, 7), 9, 8, ScanCursor(restarts=1)),
        (ScanCursor(5, 7), 0, 8, ScanCursor(restarts=1)),
        (ScanCursor(5, 7), 0, 0, ScanCursor(restarts=1)),
        (ScanCursor(5, 0), 9, 7, ScanCursor(restarts=1)),
        (ScanCursor(restarts=1), 9, 8, ScanCursor(9, 8, 1)),
        (ScanCursor(9, 0), 3, 0, ScanCursor(3, 0)),
    ],
)
def test_a_cursor_of_another_run_is_worth_nothing(
    at: ScanCursor, cursor: int, run: int, after: ScanCursor | None
) -> None:
    assert at.after(cursor, run) == after


def test_the_run_is_read_from_info() -> None:
    run_id = b"0123456789abcdef0123456789abcdef01234567"
    assert run_of(b"# Server\r\nredis_version:7.0.15\r\nrun_id:" + run_id + b"\r\n") == 0x0123456789ABCDEF
    assert run_of(b"# Server\r\n") == run_of(ValueError("refused")) == 0


def halves(first: tuple[str, int], second: tuple[str, int], at: int = 8192) -> list[Node]:
    return sorted([Node(((0, at - 1),), first), Node(((at, 16_383),), second)])


def test_the_slot_counts_that_has_moved_most() -> None:
    moves = SlotMoves()
    moves.observe(halves(A, B))
    moves.observe(halves(A, B))
    begun = moves.seen
    assert moves.most(begun) == 0
    for at in range(8193, 8293):  # one slot after the other
        moves.observe(halves(A, B, at))
    assert moves.most(begun) == 1
    moves.observe(halves(C, B, 8292))  # a replica takes over
    assert moves.most(begun) == 2
    assert moves.most(moves.seen) == 0


@pytest.mark.parametrize(
    ("own", "view"),
    [
        ("myself,master - 0 0 1 connected 0-99 200", NodeView(True, frozenset({(0, 99), (200, 200)}), False)),
        ("myself,master - 0 0 1 connected 0-99 [7->-bbb]", NodeView(True, frozenset({(0, 99)}), True)),
        ("myself,master - 0 0 1 connected [7-<-bbb]", NodeView(True, frozenset(), True)),
        ("myself,slave bbb 0 0 1 connected", NodeView(False, frozenset(), False)),
    ],
)
def test_a_node_says_what_it_is(own: str, view: NodeView) -> None:
    others = "bbb 127.0.0.1:2@3 master - 0 0 2 connected 300-400 [9->-ccc]"
    assert NodeView.of(f"{others}\naaa 127.0.0.1:1@2 {own}\n".encode()) == view
    assert NodeView.of(ValueError("refused")) is None
