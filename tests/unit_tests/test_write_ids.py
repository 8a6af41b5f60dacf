"""A write that is sent again is known, however late it comes; one that is not is never taken for such."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_memstore.errors import BackendError
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops import write_ids
from langchain_memstore.ops.write_ids import (
    DAY,
    MANY_WRITERS,
    MOST_GAPS,
    MOST_WRITERS,
    Seen,
    Writers,
    new_write_id,
    parse_write_id,
)

KEYS = SessionKeys("conversation", "session")


@given(st.lists(st.integers(0, 60)))
def test_what_was_seen_is_known_and_nothing_else(numbers: list[int]) -> None:
    seen = Seen(-1)
    for at, number in enumerate(numbers):
        seen = seen.adding(number)
        assert [each for each in range(70) if seen.has(each)] == sorted(set(numbers[: at + 1]))
        assert seen.gaps == tuple(sorted(seen.gaps))


def test_what_is_in_order_takes_no_room() -> None:
    seen = Seen(-1)
    for number in range(1000):
        seen = seen.adding(number)
    assert seen == Seen(999)


def test_what_came_before_too_many_gaps_is_refused() -> None:
    seen = Seen(-1)
    for number in range(1, 2 * MOST_GAPS + 20, 2):
        seen = seen.adding(number)
    assert len(seen.gaps) == MOST_GAPS
    assert not seen.has(seen.highest - 1) and seen.has(seen.highest)
    for number in (0, seen.floor):
        with pytest.raises(BackendError, match="too long ago"):
            seen.has(number)
    assert not seen.has(seen.gaps[0][0])


@given(st.permutations(range(2 * MOST_GAPS)))
def test_so_many_writes_may_come_in_any_order(numbers: list[int]) -> None:
    writers = Writers()
    for number in numbers:
        assert not writers.has(f"ab.{number}")
        writers.add(f"ab.{number}", 0)
    assert all(writers.has(f"ab.{number}") for number in numbers)


def test_the_first_that_is_seen_of_a_writer_does_not_stand_for_those_before() -> None:
    writers = Writers()
    writers.add("ab.1000", 0)
    assert [number for number in range(1010) if writers.has(f"ab.{number}")] == [1000]
    assert not writers.has("cd.1000")


@pytest.mark.parametrize("count", [MANY_WRITERS - 1, 10 * MANY_WRITERS, MOST_WRITERS - 1])
def test_writers_are_remembered_for_a_day(count: int) -> None:
    writers = Writers()
    for number in range(count):
        writers.add(f"{number:x}.0", number)
    assert all(writers.has(f"{number:x}.0") for number in range(count))
    writers.add("ffffff.0", DAY + count)
    assert writers.has("ffffff.0")
    assert writers.has("0.0") == (count < MANY_WRITERS)


def test_of_too_many_writers_those_that_wrote_last_are_remembered() -> None:
    writers, second = Writers(), 1000
    for number in range(3 * MOST_WRITERS):
        writers.add(f"{number:x}.0", number * second)
        writers.add(f"ffffff.{number}", number * second)
        assert writers.has(f"ffffff.{number}") and not writers.has(f"ffffff.{number + 1}")
        assert len(writers._seen) <= MOST_WRITERS
    assert all(writers.has(f"{number:x}.0") for number in range(number - MOST_WRITERS // 4, number + 1))
    assert not writers.has("0.0")


def test_of_too_many_writers_of_one_moment_half_are_remembered() -> None:
    writers = Writers()
    for number in range(MOST_WRITERS):
        writers.add(f"{number:x}.0", 0)
    writers.add("ffffff.0", DAY // 2)
    assert sum(writers.has(f"{number:x}.0") for number in range(MOST_WRITERS)) == MOST_WRITERS // 2


def test_ids_of_other_forms_are_left_alone() -> None:
    writers = Writers()
    for write_id in ("", "x", "ab", "ab.", ".1", "AB.1", "ab.1.2", "ab.-1", "run-7"):
        writers.add(write_id, 0)
        assert parse_write_id(write_id) is None
        assert not writers.has(write_id)


def test_ids_are_numbered_for_each_session() -> None:
    other = SessionKeys("conversation", "other")
    one = [parse_write_id(new_write_id(KEYS)) for _ in range(3)]
    two = parse_write_id(new_write_id(other))
    assert None not in one and two is not None
    writer, number = one[0] or ("", 0)
    assert one == [(writer, number + n) for n in range(3)]
    assert two[0] != writer


def test_no_id_is_made_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_ids, "MOST_SESSIONS", 5)
    sessions = [SessionKeys("conversation", str(number)) for number in range(12)]

    def make(_: int) -> list[str]:
        return [new_write_id(sessions[number % 12]) for number in range(500)]

    with ThreadPoolExecutor(4) as threads:
        made = [write_id for made in threads.map(make, range(4)) for write_id in made]
    assert len(set(made)) == len(made) == 2000


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork")
def test_a_fork_is_another_writer() -> None:
    def tell(say: Any) -> None:
        say.send(new_write_id(KEYS))

    hear, say = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=tell, args=[say])
    process.start()
    (writer, number), mine = parse_write_id(hear.recv()) or ("", -1), parse_write_id(new_write_id(KEYS))
    process.join(10)
    assert mine is not None and writer != mine[0] and number == 0
