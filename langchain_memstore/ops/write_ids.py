"""The ids by which a store knows a write that is sent again.

A process is a writer, and numbers its writes on a session or value. Each carries its number, and those of the lower
ones that are open: they are under way too, so that the writer does not know what becomes of them.

    5a1b….17.-         the 17th write; the writer knows what became of all before it
    5a1b….18.17        sent while 17 is under way
    5a1b….21.17-18,20  19 is done, or was given up: should it come yet, it is refused

What is written to keeps of each writer the highest number, the open ones, which of them were seen, and their results.
So a write that is sent again is known however late it comes, whatever was written meanwhile, and what is kept is
bounded by the writes under way.
"""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol, TypeVar

from typing_extensions import Self

from langchain_memstore.errors import BackendError

DAY, EVERY, MOST_WRITERS = 86_400_000, 64, 1024  # as in lua/writes.lua
MOST_RUNS = 16  # of open numbers that a write id tells apart

Runs = list[tuple[int, int]]
"""Numbers in ascending order, as runs of a first and a last one."""

_FORM = re.compile(r"([0-9a-f]+)(?:\.([0-9]+)(?:\.([0-9,-]+))?)?")


class WriteId(NamedTuple):
    """What a write id says."""

    writer: str
    number: int
    open: Runs
    """The lower numbers that are under way too."""

    @property
    def name(self) -> str:
        """What the write is called, whatever is open."""
        return f"{self.writer}.{self.number}"

    @classmethod
    def parse(cls, write_id: str) -> WriteId:
        """Read a write id. In those of version 0.1 all lower numbers are open; or there is no number, which is 0 then.

        Raises:
            BackendError: It is none.
        """
        if (match := _FORM.fullmatch(write_id)) is None:
            raise BackendError("this is no write id")
        writer, number, runs = match[1], int(match[2] or 0), match[3]
        if runs is None:
            return cls(writer, number, [(0, number - 1)] if number else [])
        return cls(writer, number, _parse_runs(runs))


def _parse_runs(text: str) -> Runs:
    if text in ("", "-"):
        return []
    firsts_and_lasts = (run.partition("-")[::2] for run in text.split(","))
    return [(int(first), int(last or first)) for first, last in firsts_and_lasts]


def _runs_text(runs: Runs) -> str:
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def among(some: Runs, others: Runs, wanted: bool = True) -> Runs:
    """Return the numbers that are among some, and among others; or those that are not."""
    found: Runs = []

    def add(first: int, last: int) -> None:
        if found and found[-1][1] == first - 1:
            found[-1] = found[-1][0], last
        elif first <= last:
            found.append((first, last))

    for first, last in some:
        for start, end in others:
            if end < first or start > last:
                continue
            add(*((max(first, start), min(last, end)) if wanted else (first, start - 1)))
            first = end + 1
        if not wanted:
            add(first, last)
    return found


def has(runs: Runs, number: int) -> bool:
    """Tell whether a number is in one of the runs."""
    return any(first <= number <= last for first, last in runs)


class _UnderWay(weakref.ref["Numbered"]):
    """A write that is under way; `Numbering` is told when it is no more."""

    __slots__ = ("holds", "number", "target")

    target: Hashable
    number: int
    holds: int
    """How often it is to be finished."""


class _Target:
    """The writes on one target that are under way, by their numbers, in ascending order."""

    __slots__ = ("next", "writes")

    def __init__(self, start: int) -> None:
        self.next = start
        self.writes: dict[int, _UnderWay] = {}

    def open_below(self, number: int) -> str:
        """Return what the id of a write says of the lower numbers that are under way."""
        writes = self.writes
        if not writes or (first := next(iter(writes))) >= number:
            return "-"
        if first + len(writes) == number + (number in writes):  # which is nearly always so
            return str(first) if first == number - 1 else f"{first}-{number - 1}"
        runs: list[list[int]] = []
        for each in writes:
            if each >= number:
                break
            if runs and runs[-1][1] == each - 1:
                runs[-1][1] = each
            elif len(runs) == MOST_RUNS:
                runs[-1][1] = number - 1  # more than are
                break
            else:
                runs.append([each, each])
        return _runs_text([(first, last) for first, last in runs])


class Numbering:
    """Numbers the writes of a process, and knows which are under way.

    The writes on one target are numbered one after the other for as long as one of them is under way; after that the
    process forgets the target, and goes on with it at a number higher than any that it has used.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin as another writer, as a fork has to."""
        self.writer = os.urandom(8).hex()
        """What the process is called as a writer."""
        self._lock = threading.RLock()
        self._is_busy = False
        self._next = 0
        """Higher than all numbers of targets of which no write is under way."""
        self._targets: dict[Hashable, _Target] = {}
        self._gone: deque[_UnderWay] = deque()
        """What was never finished: its caller was interrupted."""

    def __len__(self) -> int:
        with self._lock:
            self._sweep()
            return sum(len(target.writes) for target in self._targets.values())

    def new(self, op: Numbered) -> str:
        """Make the id of a write, which is under way from now on."""
        with self._lock:
            if self._is_busy:  # a signal handler, or a finalizer, that has struck in here: another writer
                return f"{new_token()}.0.-"
            try:
                self._is_busy = True
                if self._gone:
                    self._sweep()
                name = op.numbered_by
                if (target := self._targets.get(name)) is None:
                    target = self._targets[name] = _Target(self._next)
                number = target.next
                target.next = number + 1
                write_id = f"{self.writer}.{number}.{target.open_below(number)}"
                target.writes[number] = _under_way(op, name, number, self._gone)
                return write_id
            finally:
                self._is_busy = False

    def hold(self, op: Numbered) -> None:
        """Have a write stay under way until it is finished once more than before: it waits in a journal.

        A journal may have been left by another process, or by this one before; then the write is under way again.
        """
        number = WriteId.parse(op.write_id).number
        name = self._name(op)
        with self._lock:
            if (target := self._targets.get(name)) is None:
                target = self._targets[name] = _Target(self._next)
            write = target.writes.get(number)
            if write is not None and write() is op:
                write.holds += 1
                return
            is_last = write is not None or not target.writes or number > next(reversed(target.writes))
            target.writes[number] = _under_way(op, name, number, self._gone)
            target.next = max(target.next, number + 1)
            if not is_last:
                target.writes = dict(sorted(target.writes.items()))

    def finish(self, op: Numbered) -> None:
        """Note that a write is not sent again: its outcome is known, or of no interest any more."""
        number = int(op.write_id.split(".")[1]) if "." in op.write_id else 0
        with self._lock:
            if self._is_busy:
                return  # a signal handler, whose write is another writer's
            try:
                self._is_busy = True
                target = self._targets.get(self._name(op))
                if target is None or (write := target.writes.get(number)) is None:
                    return  # it was finished before
                write.holds -= 1
                if write.holds <= 0:
                    self._drop(write)
            finally:
                self._is_busy = False

    def at_replay(self, op: Numbered) -> str:
        """Return the id of a write that has waited, with what is open now."""
        writer, number, _ = WriteId.parse(op.write_id)
        with self._lock:
            self._sweep()
            target = self._targets.get(self._name(op))
            return op.write_id if target is None else f"{writer}.{number}.{target.open_below(number)}"

    def _name(self, op: Numbered) -> Hashable:
        writer = op.write_id.partition(".")[0]
        return op.numbered_by if writer == self.writer else (op.numbered_by, writer)

    def _sweep(self) -> None:
        while self._gone:
            self._drop(self._gone.popleft())

    def _drop(self, write: _UnderWay) -> None:
        target = self._targets.get(write.target)
        if target is None or target.writes.get(write.number) is not write:
            return
        del target.writes[write.number]
        if not target.writes:
            self._next = max(self._next, target.next)  # first: a signal handler may begin with the target anew
            self._targets.pop(write.target, None)


def _under_way(op: Numbered, target: Hashable, number: int, gone: deque[_UnderWay]) -> _UnderWay:
    write = _UnderWay(op, gone.append)
    write.target, write.number, write.holds = target, number, 1
    return write


class Write(Protocol):
    """An operation, as far as it concerns its number."""

    def finish(self) -> None:
        """Note that it is not sent again."""
        ...


W = TypeVar("W", bound=Write)
R = TypeVar("R")

NUMBERING = Numbering()
"""That of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=NUMBERING.restart)


class Numbered:
    """A write that is done once for each write id; what an operation derives from beside `Op`.

    Whoever makes one calls `finish` when it has ended, however it has: `execute_write` does.
    """

    write_id: str
    numbered_by: property
    """What its writes are numbered by: a key."""

    def __post_init__(self) -> None:
        if not self.write_id:
            object.__setattr__(self, "write_id", NUMBERING.new(self))

    def hold(self) -> None:
        """Have the write stay under way until it is finished once more."""
        NUMBERING.hold(self)

    def finish(self) -> None:
        """Note that the write is not sent again."""
        NUMBERING.finish(self)

    def renumbered(self) -> Self:
        """Return the write with an id that says what is open now, when it has waited in a journal."""
        if self.write_id.count(".") < 2:
            return self  # of version 0.1, or it is not numbered
        return replace(self, write_id=NUMBERING.at_replay(self))  # type: ignore[type-var]


def execute_write(execute: Callable[[W], R], op: W) -> R:
    """Execute a write that nobody sends again when this has ended, however it has.

    Args:
        execute: A backend's `execute`.
        op: The write.
    """
    try:
        return execute(op)
    finally:
        op.finish()


async def aexecute_write(aexecute: Callable[[W], Awaitable[R]], op: W) -> R:
    """Execute a write; the async variant of `execute_write`."""
    try:
        return await aexecute(op)
    finally:
        op.finish()


def new_token() -> str:
    """Make an id of 128 random bits, for what is not numbered: locks and claims."""
    return os.urandom(16).hex()


@dataclass(slots=True)
class Writer:
    """What is kept of a writer."""

    at: int = 0
    """When it wrote last, in milliseconds since 1970."""
    highest: int = -1
    """The highest number seen."""
    open: Runs = field(default_factory=list)
    """The lower numbers that were under way then."""
    gaps: Runs = field(default_factory=list)
    """Those of them that were not seen."""
    results: dict[int, str] = field(default_factory=dict)
    """By the number, what the highest write and the open ones have led to."""

    @classmethod
    def of_seen(cls, seen: str) -> Writer:
        """Make what is kept of a writer, without results, of what `seen` returns; empty: nothing was seen."""
        highest, now_open, gaps = seen.split(":") if seen else ("-1", "", "")
        return cls(highest=int(highest), open=_parse_runs(now_open), gaps=_parse_runs(gaps))

    def seen(self) -> str:
        """Write which numbers were seen: `<the highest>:<the open ones below>:<those of them that were not seen>`."""
        return f"{self.highest}:{_runs_text(self.open)}:{_runs_text(self.gaps)}"

    def has(self, number: int) -> bool:
        """Tell whether a number was seen."""
        return number <= self.highest and not has(self.gaps, number)

    def find_result(self, number: int) -> str | None:
        """Return the result of a write; empty where it is not known any more, None where there was no such write.

        Raises:
            BackendError: It is not open any more.
        """
        if not self.has(number):
            return None
        if (result := self.results.get(number)) is not None:
            return result
        if number == self.highest or has(self.open, number):
            return ""
        raise BackendError("this write was sent too long ago: whether it was done is not known")

    def record(self, number: int, now_open: Runs, result: str, now: int) -> None:
        """Keep that a write was done."""
        self.at = now
        if number > self.highest and not now_open and not self.open:  # nothing else is under way, nor was
            self.highest, self.results = number, {number: result}
            return
        held_open, held_gaps = self.open, self.gaps
        held_results = among(held_open, held_gaps, wanted=False)
        if number > self.highest:
            between = [(self.highest + 1, number - 1)] if self.highest < number - 1 else []
            held_open = [*held_open, *([(self.highest, self.highest)] if self.highest >= 0 else []), *between]
            held_gaps = [*held_gaps, *between]
            if not has(now_open, self.highest):
                self.results.pop(self.highest, None)
            self.highest = number
        else:  # what it knows is of numbers below it
            now_open = [*now_open, (number, self.highest)]
            held_gaps = among(held_gaps, [(number, number)], wanted=False)
        self.open, self.gaps = among(held_open, now_open), among(held_gaps, now_open)
        self.results[number] = result
        for first, last in among(held_results, now_open, wanted=False):
            for each in range(first, last + 1):
                self.results.pop(each, None)


class Writers:
    """What is kept of the writers of a session or value."""

    def __init__(self) -> None:
        self._writers: dict[str, Writer] = {}

    def find_result(self, write_id: str) -> str | None:
        """Return the result of a write; see `Writer.find_result`."""
        name, number, _ = WriteId.parse(write_id)
        writer = self._writers.get(name)
        return None if writer is None else writer.find_result(number)

    def record(self, write_id: str, result: str, now: int) -> None:
        """Keep that a write was done; the time is in milliseconds since 1970."""
        name, number, now_open = WriteId.parse(write_id)
        if (writer := self._writers.get(name)) is None:
            if self._writers and len(self._writers) % EVERY == 0:
                self._forget(now)
            writer = self._writers[name] = Writer()
        writer.record(number, now_open, result, now)

    def seen(self, writer: str) -> str:
        """Return which numbers of a writer were seen; see `Writer.seen`."""
        return self._writers[writer].seen() if writer in self._writers else ""

    def restore(self, writer: str, seen: str) -> None:
        """Keep which numbers of a writer were seen elsewhere."""
        if seen:
            self._writers[writer] = Writer.of_seen(seen)

    def _forget(self, now: int) -> None:
        """Forget the writers whose last write was a day ago, and where there are too many, all but the last ones."""
        self._writers = {name: writer for name, writer in self._writers.items() if now - writer.at <= DAY}
        if len(self._writers) >= MOST_WRITERS:
            latest = sorted(self._writers.items(), key=lambda item: item[1].at, reverse=True)
            self._writers = dict(latest[: MOST_WRITERS // 2])
