"""A write that is sent again is known, however late it comes; one that is not is never taken for such."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import sys
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
    MOST_RUNS,
    MOST_WRITERS,
    NUMBERING,
    Numbered,
    Runs,
    WriteId,
    Writer,
    Writers,
    among,
    has,
)

LATE = "sent too long ago: whether it was done is not known"


@given(st.lists(st.integers(0, 60), unique=True))
def test_what_was_seen_is_known_with_its_result_and_nothing_else(numbers: list[int]) -> None:
    writer = Writer()
    for at, number in enumerate(numbers, 1):
        writer.record(number, [(0, number - 1)] if number else [], str(number), at)
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
    def parsed(self) -> WriteId:
        return WriteId.parse(self.write_id)


def test_what_is_in_order_takes_no_room() -> None:
    writer = Writer()
    for number in range(1000):
        writer.record(number, [], "", number)
    assert writer == Writer(999, 999, [], [], {999: ""})


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
            if number < writer.highest and not has(writer.open, number):
                with pytest.raises(BackendError, match=LATE):
                    writer.find_result(number)
        elif under_way:
            write = data.draw(st.sampled_from(under_way))
            _, number, now_open = write.parsed
            if act == "send":
                assert writer.find_result(number) == done.get(number)
                if number not in done:
                    done[number] = str(step)
                    writer.record(number, now_open, str(step), step)
            else:
                write.finish()
                under_way.remove(write)
                if number not in done:
                    given_up.append(write)
        assert len(NUMBERING) == len(under_way)
    last = Write()
    writer.record(*last.parsed[1:], "", 0)
    assert {number for first, final in writer.open for number in range(first, final + 1)} <= {
        write.parsed.number for write in under_way
    }
    assert set(writer.results) <= {write.parsed.number for write in (*under_way, last)}
    assert all(writer.find_result(write.parsed.number) == done.get(write.parsed.number) for write in under_way)
    for write in (*under_way, last):
        write.finish()
    writer.record(*Write().parsed[1:], "", 0)
    assert (writer.open, writer.gaps, list(writer.results)) == ([], [], [writer.highest])


runs = st.sets(st.integers(0, 30)).map(lambda numbers: [(number, number) for number in sorted(numbers)])


@given(runs, runs, st.booleans())
def test_runs_of_numbers(some: Runs, others: Runs, wanted: bool) -> None:
    numbers = [first for first, _ in some]
    found = among(merged(some), merged(others), wanted)
    assert all(last + 1 < first for (_, last), (first, _) in itertools.pairwise(found))
    assert [each for first, last in found for each in range(first, last + 1)] == [
        each for each in numbers if ((each, each) in others) is wanted
    ]


def merged(some: Runs) -> Runs:
    found: Runs = []
    for first, last in some:
        if found and found[-1][1] == first - 1:
            found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return found


def test_many_that_are_open_take_one_run() -> None:
    """As in an outage: all wait, and each is applied here."""
    writer, writes = Writer(), [Write() for _ in range(3000)]
    for write in writes:
        writer.record(*write.parsed[1:], "done", 0)
    assert (writer.open, writer.gaps, len(writer.results)) == ([(0, 2998)], [], 3000)
    for write in writes:
        assert writer.find_result(write.parsed.number) == "done"
        write.finish()
    writer.record(*Write().parsed[1:], "", 0)
    assert (writer.open, list(writer.results)) == ([], [3000])


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
        writers.record(f"{number:x}.0.-", "done", number)
    assert all(writers.find_result(f"{number:x}.0.-") == "done" for number in range(count))
    for number in range(EVERY):
        writers.record(f"f{number:06x}.0.-", "", DAY + count)
    assert writers.find_result("0.0.-") is None
    assert writers.find_result(f"f{EVERY - 1:06x}.0.-") == ""


def test_of_too_many_writers_those_that_wrote_last_are_remembered() -> None:
    writers, second = Writers(), 1000
    for number in range(3 * MOST_WRITERS):
        writers.record(f"{number:x}.0.-", "", number * second)
        writers.record(f"ffffff.{number}.-", "", number * second)
        assert writers.find_result(f"ffffff.{number}.-") == ""
        assert writers.find_result(f"ffffff.{number + 1}.-") is None
        assert len(writers._writers) <= MOST_WRITERS + EVERY
    assert all(writers.find_result(f"{number:x}.0.-") == "" for number in range(number - MOST_WRITERS // 4, number + 1))
    assert writers.find_result("0.0.-") is None


def test_of_too_many_writers_of_one_moment_half_are_remembered() -> None:
    writers = Writers()
    for number in range(MOST_WRITERS):
        writers.record(f"{number:x}.0.-", "", 0)
    writers.record("ffffff.0.-", "", DAY // 2)
    kept = sum(writers.find_result(f"{number:x}.0.-") is not None for number in range(MOST_WRITERS))
    assert kept == MOST_WRITERS // 2


def test_forms_of_ids() -> None:
    assert WriteId.parse("ab.7.-") == ("ab", 7, [])
    assert WriteId.parse("ab.7.1-3,5") == ("ab", 7, [(1, 3), (5, 5)])
    assert WriteId.parse("ab.7") == ("ab", 7, [(0, 6)])  # of version 0.1
    assert WriteId.parse("0123456789abcdef") == ("0123456789abcdef", 0, [])
    for write_id in ("", "x", "ab.", ".1", "AB.1", "ab.-1", "run-7", "ab.1.2.3", "ab..2", "ab.1.x"):
        with pytest.raises(BackendError, match="no write id"):
            WriteId.parse(write_id)


def test_the_writes_on_a_target_are_numbered_while_one_is_under_way_and_forgotten_after() -> None:
    writes = [Write() for _ in range(3)]
    writes[0].finish()
    writes.append(Write())
    writes[2].finish()
    writes += [Write(), Write()]
    ids = [write.write_id.partition(".")[2] for write in writes]
    assert ids == ["0.-", "1.0", "2.0-1", "3.1-2", "4.1,3", "5.1,3-4"]
    writes[1].hold()
    for write in (*writes, *writes):  # finishing twice is finishing once, but for what is held
        replace(write, name="other").finish()
        write.finish()
    assert len(NUMBERING) == 0 and not NUMBERING._targets
    more = [Write(name) for name in ("target", "other")]
    assert [write.parsed[1:] for write in more] == [(6, []), (6, [])]
    replace(more[0], write_id="ab.6.-").finish()  # another process's
    assert len(NUMBERING) == 2


def test_of_many_that_are_open_more_are_said_to_be() -> None:
    writes = [Write() for _ in range(3 * MOST_RUNS)]
    for write in writes[1::2]:
        write.finish()
    _, number, now_open = Write().parsed
    assert len(now_open) == MOST_RUNS
    assert now_open[-1] == (2 * MOST_RUNS - 2, number - 1)


def test_what_waits_in_a_journal_is_replayed_with_what_is_open_then() -> None:
    first, second = Write(), Write()
    second.hold()
    first.finish()
    assert second.parsed.open == [(0, 0)] and second.renumbered().parsed.open == []
    left = [replace(second, write_id=f"ab.{number}.3") for number in (7, 5, 6)]  # by a process that is no more
    for write in left:
        write.hold()
    assert [write.renumbered().write_id for write in left] == ["ab.7.5-6", "ab.5.-", "ab.6.5"]
    left[1].finish()
    assert left[0].renumbered().write_id == "ab.7.6"
    for write in left:
        write.finish()
    assert len(NUMBERING) == 1
    for write_id in ("ab.7", "abcdef"):
        (write := replace(second, write_id=write_id)).hold()
        assert write.renumbered().write_id == write_id
        write.finish()


def test_a_signal_handler_may_write_while_a_number_is_taken() -> None:
    inner: list[Write] = []

    def strike(frame: Any, event: str, _: Any) -> Any:
        if event == "line" and frame.f_code.co_name == "new" and not inner:
            sys.settrace(None)
            inner.append(Write())
            sys.settrace(strike)
        return strike

    for skipped in range(20):
        inner.clear()
        sys.settrace(strike)
        try:
            outer = Write()
        finally:
            sys.settrace(None)
        assert inner and (inner[0].parsed[:2] != outer.parsed[:2]), skipped
        outer.finish()
        inner[0].finish()


def test_a_signal_handler_may_write_while_a_write_is_finished() -> None:
    """Wherever it strikes, no number is used twice."""
    for line in range(1, 40):
        made: list[Write] = [Write()]
        lines = 0

        def strike(frame: Any, event: str, _: Any, line: int = line, made: list[Write] = made) -> Any:
            nonlocal lines
            if event == "line" and frame.f_code.co_filename.endswith("write_ids.py") and len(made) == 1:
                lines += 1
                if lines == line:
                    made.append(Write())
                    made[1].finish()
            return strike

        sys.settrace(strike)
        try:
            made[0].finish()
        finally:
            sys.settrace(None)
        made.append(Write())
        made[-1].finish()
        assert len({write.parsed.name for write in made}) == len(made), line


def test_a_write_that_was_lost_on_the_way_is_under_way_no_more() -> None:
    write = Write()
    assert len(NUMBERING) == 1
    del write
    gc.collect()
    assert len(NUMBERING) == 0
    assert Write().parsed[1:] == (1, [])


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
        say.send((tuple(write.parsed), len(NUMBERING)))

    mine = Write()
    hear, say = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=tell, args=[say])
    process.start()
    (writer, number, now_open), under_way = hear.recv()
    process.join(10)
    assert (writer != mine.parsed[0], number, now_open, under_way) == (True, 0, [], 1)
