"""A write that is sent again is known, however late it comes; one that is not is never taken for such."""

from __future__ import annotations

import gc
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from operator import attrgetter
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
    Numbered,
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


@dataclass(frozen=True)
class Write(Numbered):
    """A write, as far as it concerns its number."""

    name: str = "target"
    write_id: str = ""
    numbered_by = property(attrgetter("name"))

    @property
    def parsed(self) -> tuple[str, int, int]:
        return parse_write_id(self.write_id)


def test_what_is_in_order_takes_no_room() -> None:
    writer = Writer()
    for number in range(1000):
        writer.record(number, number, "", number)
    assert writer == Writer(999, 999, 999, [], {999: ""})


@given(st.data())
def test_a_writer_that_knows_its_outcomes_is_answered_right_and_takes_little_room(data: st.DataObject) -> None:
    """As many are under way as a caller likes; each is done, given up, or sent again, in any order."""
    NUMBERING.restart()
    writer = Writer()
    under_way: list[Write] = []
    done: dict[int, str] = {}
    given_up: list[Write] = []
    for step in range(data.draw(st.integers(0, 40))):
        act = data.draw(st.sampled_from(["begin", "send", "finish", "late"]))
        if act == "begin":
            under_way.append(Write())
        elif act == "late" and given_up:
            _, number, _ = data.draw(st.sampled_from(given_up)).parsed
            if number < writer.floor:
                with pytest.raises(BackendError, match=LATE):
                    writer.find_result(number)
        elif under_way:
            write = data.draw(st.sampled_from(under_way))
            _, number, floor = write.parsed
            if act == "send":
                assert writer.find_result(number) == done.get(number)
                if number not in done:
                    done[number] = str(step)
                    writer.record(number, floor, str(step), step)
            else:
                write.finish()
                under_way.remove(write)
                if number not in done:
                    given_up.append(write)
        assert len(writer.gaps) <= len(under_way) + len(given_up) + 1
        assert len(NUMBERING) == len(under_way)
    for write in under_way:
        write.finish()
    writer.record(*Write().parsed[1:], "", 0)
    assert (writer.gaps, list(writer.results)) == ([], [writer.highest])


def test_what_is_given_up_and_comes_after_another_is_refused() -> None:
    writers, late = Writers(), Write()
    late.finish()
    writers.record(Write().write_id, "", 0)
    with pytest.raises(BackendError, match=LATE):
        writers.find_result(late.write_id)


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
    writes = [Write() for _ in range(3)]
    writes[0].finish()
    writes.append(Write())
    assert [write.parsed[1:] for write in writes] == [(0, 0), (1, 0), (2, 0), (3, 1)]
    writes[1].hold()
    for write in (*writes, *writes):  # finishing twice is finishing once, but for what is held
        replace(write, name="other").finish()
        write.finish()
    assert len(NUMBERING) == 0 and not NUMBERING._targets
    more = [Write(name) for name in ("target", "other")]
    assert [write.parsed[1:] for write in more] == [(4, 4), (4, 4)]
    replace(more[0], write_id="ab.4.4").finish()  # another process's
    assert len(NUMBERING) == 2


def test_what_is_replayed_carries_the_floor_of_its_replay() -> None:
    first, second = Write(), Write()
    first.finish()
    assert second.parsed[1:] == (1, 0) and second.at_replay().parsed[1:] == (1, 1)
    assert replace(second, write_id="ab.7.3").at_replay().write_id == "ab.7.7"  # of a process that is no more
    for write_id in ("ab.7", "abcdef"):
        assert replace(second, write_id=write_id).at_replay().write_id == write_id


def test_a_write_that_was_lost_on_the_way_is_under_way_no_more() -> None:
    write = Write()
    assert len(NUMBERING) == 1
    del write
    gc.collect()
    assert len(NUMBERING) == 0
    assert Write().parsed[1:] == (1, 1)


def test_no_id_is_made_twice_for_a_target() -> None:
    def make(_: int) -> list[Write]:
        writes = []
        for number in range(500):
            writes.append(Write(str(number % 12)))
            if number % 5:
                writes[-1].finish()
        return writes

    with ThreadPoolExecutor(4) as threads:
        writes = [write for writes in threads.map(make, range(4)) for write in writes]
    assert len({(write.name, *write.parsed[:2]) for write in writes}) == 2000
    for write in writes:
        write.finish()
    assert not NUMBERING._targets


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_is_another_writer() -> None:
    def tell(say: Any) -> None:
        write = Write()
        say.send((write.parsed, len(NUMBERING)))

    mine = Write()
    hear, say = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=tell, args=[say])
    process.start()
    (writer, number, floor), under_way = hear.recv()
    process.join(10)
    assert (writer != mine.parsed[0], number, floor, under_way) == (True, 0, 0, 1)
