"""A write that is sent again is known, however late it comes; one that is not is never taken for such."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_memstore.errors import BackendError
from langchain_memstore.ops.write_ids import (
    DAY,
    EVERY,
    MOST_WRITERS,
    NUMBERING,
    Numbering,
    Writer,
    Writers,
    parse_write_id,
)

LATE = "sent too long ago: whether it was done is not known"


@given(st.lists(st.integers(0, 60), unique=True))
def test_what_was_seen_is_known_with_its_result_and_nothing_else(numbers: list[int]) -> None:
    writer = Writer()
    for at, number in enumerate(numbers, 1):
        writer.record(number, 0, str(number), at)
        found = [writer.find_result(each) for each in range(70)]
        assert found == [str(each) if each in numbers[:at] else None for each in range(70)]
        assert writer.gaps == sorted(writer.gaps)


def test_what_is_in_order_takes_no_room() -> None:
    writer = Writer()
    for number in range(1000):
        writer.record(number, number, "", number)
    assert writer == Writer(999, 999, 999, [], {999: ""})


@given(st.data())
def test_a_writer_that_knows_its_outcomes_is_answered_right_and_takes_little_room(data: st.DataObject) -> None:
    """As many are under way as a caller likes; each is done, given up, or sent again, in any order."""
    numbering, writer = Numbering(), Writer()
    under_way: dict[str, str | None] = {}
    given_up: list[str] = []
    for step in range(data.draw(st.integers(0, 40))):
        act = data.draw(st.sampled_from(["begin", "send", "finish", "late"]))
        if act == "begin":
            under_way[numbering.new("target")] = None
        elif act == "late" and given_up:
            _, number, _ = parse_write_id(data.draw(st.sampled_from(given_up)))
            if number < writer.floor:
                with pytest.raises(BackendError, match=LATE):
                    writer.find_result(number)
        elif under_way:
            write_id = data.draw(st.sampled_from(list(under_way)))
            _, number, floor = parse_write_id(write_id)
            if act == "send":
                assert writer.find_result(number) == under_way[write_id]
                if under_way[write_id] is None:
                    writer.record(number, floor, str(step), step)
                    under_way[write_id] = str(step)
            else:
                numbering.finish("target", write_id)
                if under_way.pop(write_id) is None:
                    given_up.append(write_id)
        assert len(writer.gaps) <= len(under_way) + len(given_up) + 1
        assert len(numbering) == len(under_way)
    for write_id in list(under_way):
        numbering.finish("target", write_id)
    writer.record(*parse_write_id(numbering.new("target"))[1:], "", 0)
    assert (writer.gaps, list(writer.results)) == ([], [writer.highest])


def test_what_is_given_up_and_comes_after_another_is_refused() -> None:
    numbering, writers = Numbering(), Writers()
    late = numbering.new("target")
    numbering.finish("target", late)
    writers.record(numbering.new("target"), "", 0)
    with pytest.raises(BackendError, match=LATE):
        writers.find_result(late)


@pytest.mark.parametrize("count", [EVERY - 1, 10 * EVERY, MOST_WRITERS - 1])
def test_writers_are_remembered_for_a_day(count: int) -> None:
    writers = Writers()
    for number in range(count):
        writers.record(f"{number:x}.0.0", "done", number)
    assert all(writers.find_result(f"{number:x}.0.0") == "done" for number in range(count))
    for number in range(EVERY):
        writers.record(f"f{number:06x}.0.0", "", DAY + count)
    assert writers.find_result("0.0.0") is None
    assert writers.find_result(f"f{EVERY - 1:06x}.0.0") == ""


def test_of_too_many_writers_those_that_wrote_last_are_remembered() -> None:
    writers, second = Writers(), 1000
    for number in range(3 * MOST_WRITERS):
        writers.record(f"{number:x}.0.0", "", number * second)
        writers.record(f"ffffff.{number}.{number}", "", number * second)
        assert writers.find_result(f"ffffff.{number}.0") == ""
        assert writers.find_result(f"ffffff.{number + 1}.0") is None
        assert len(writers._writers) <= MOST_WRITERS + EVERY
    assert all(writers.find_result(f"{number:x}.0.0") == "" for number in range(number - MOST_WRITERS // 4, number + 1))
    assert writers.find_result("0.0.0") is None


def test_of_too_many_writers_of_one_moment_half_are_remembered() -> None:
    writers = Writers()
    for number in range(MOST_WRITERS):
        writers.record(f"{number:x}.0.0", "", 0)
    writers.record("ffffff.0.0", "", DAY // 2)
    kept = sum(writers.find_result(f"{number:x}.0.0") is not None for number in range(MOST_WRITERS))
    assert kept == MOST_WRITERS // 2


def test_forms_of_ids() -> None:
    assert parse_write_id("ab.7.5") == ("ab", 7, 5)
    assert parse_write_id("ab.7") == ("ab", 7, 0)  # of version 0.1
    assert parse_write_id("0123456789abcdef") == ("0123456789abcdef", 0, 0)
    for write_id in ("", "x", "ab.", ".1", "AB.1", "ab.-1", "run-7", "ab.1.2.3", "ab..2"):
        with pytest.raises(BackendError, match="no write id"):
            parse_write_id(write_id)


def test_the_writes_on_a_target_are_numbered_while_one_is_under_way_and_forgotten_after() -> None:
    numbering = Numbering()
    ids = [numbering.new("a") for _ in range(3)]
    numbering.finish("a", ids[0])
    ids.append(numbering.new("a"))
    assert [parse_write_id(write_id)[1:] for write_id in ids] == [(0, 0), (1, 0), (2, 0), (3, 1)]
    numbering.hold("a", ids[1])
    for write_id in (*ids, *ids):  # finishing twice is finishing once, but for what is held
        numbering.finish("b", write_id)
        numbering.finish("a", write_id)
    assert len(numbering) == 0 and not numbering._under_way
    assert [parse_write_id(numbering.new(name))[1:] for name in "ab"] == [(4, 4), (4, 4)]
    numbering.finish("a", "ab.4.4")  # another process's
    assert len(numbering) == 2


def test_no_id_is_made_twice_for_a_target() -> None:
    def make(_: int) -> list[tuple[int, str]]:
        made = []
        for number in range(500):
            made.append((number % 12, NUMBERING.new(str(number % 12))))
            if number % 5:
                NUMBERING.finish(str(number % 12), made[-1][1])
        return made

    with ThreadPoolExecutor(4) as threads:
        made = [write_id for made in threads.map(make, range(4)) for write_id in made]
    assert len({(target, *parse_write_id(write_id)[:2]) for target, write_id in made}) == 2000
    for target, write_id in made:
        NUMBERING.finish(str(target), write_id)
    assert not any(str(target) in NUMBERING._under_way for target in range(12))


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_is_another_writer() -> None:
    def tell(say: Any) -> None:
        say.send((NUMBERING.new("target"), len(NUMBERING)))

    mine = parse_write_id(NUMBERING.new("target"))
    hear, say = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=tell, args=[say])
    process.start()
    write_id, under_way = hear.recv()
    process.join(10)
    writer, number, floor = parse_write_id(write_id)
    assert (writer != mine[0], number, floor, under_way) == (True, 0, 0, 1)
