"""The ids by which a store knows a write that is sent again.

A process is a writer, and numbers its writes on a session or value. Each carries its number, and the writer's floor:
the lowest number whose outcome the writer does not know yet.

    5a1b….17.17    the 17th write; the writer knows what became of all before it
    5a1b….18.17    sent while 17 is under way
    5a1b….19.18    17 is done, or was given up: should it come yet, it is refused

What is written to keeps of each writer the highest number, the floor, and the gaps between, which are requests under
way; and the results from the floor on. So a write that is sent again is known however late it comes, whatever was
written meanwhile, and what is kept is bounded by the requests under way.
"""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from typing_extensions import Self

from langchain_memstore.errors import BackendError

DAY, EVERY, MOST_WRITERS = 86_400_000, 64, 1024  # as in lua/writes.lua

_SHORT_FORM = re.compile(r"([0-9a-f]+)(?:\.([0-9]+))?")  # of version 0.1; without a number it is number 0


def parse_write_id(write_id: str) -> tuple[str, int, int]:
    """Read the writer, the number and the floor out of a write id.

    Raises:
        BackendError: It is none.
    """
    try:
        writer, number, floor = write_id.split(".")
        return writer, int(number), int(floor)
    except ValueError:
        if (match := _SHORT_FORM.fullmatch(write_id)) is None:
            raise BackendError("this is no write id") from None
        return match[1], int(match[2] or 0), 0


class _UnderWay(weakref.ref["Numbered"]):
    """A write that is under way; `Numbering` is told when it is no more."""

    __slots__ = ("holds", "name", "number")

    name: str
    number: int
    holds: int
    """How often it is to be finished."""


class Numbering:
    """Numbers the writes of a process, and knows which are under way.

    The writes on one target are numbered one after the other for as long as one of them is under way; after that the
    process forgets the target, and goes on with it at a number higher than any that it has used.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin as another writer, as a fork has to."""
        self._writer = os.urandom(8).hex()
        self._lock = threading.RLock()
        self._next = 0
        """Higher than all numbers of targets of which no write is under way."""
        self._targets: dict[str, _Target] = {}
        self._gone: deque[_UnderWay] = deque()
        """What was never finished: its caller was interrupted."""

    def __len__(self) -> int:
        with self._lock:
            self._sweep()
            return sum(len(target.writes) for target in self._targets.values())

    def new(self, op: Numbered) -> str:
        """Make the id of a write, which is under way from now on."""
        with self._lock:
            if self._gone:
                self._sweep()
            name = op.numbered_by
            if (target := self._targets.get(name)) is None:
                target = self._targets[name] = _Target(self._next)
            number = target.next
            target.next = number + 1
            write = _UnderWay(op, self._gone.append)
            write.name, write.number, write.holds = name, number, 1
            target.writes[number] = write
            return f"{self._writer}.{number}.{target.floor}"

    def hold(self, op: Numbered) -> None:
        """Have a write stay under way until it is finished once more than before."""
        self._add(op, 1)

    def finish(self, op: Numbered) -> None:
        """Note that a write is not sent again: its outcome is known, or of no interest any more."""
        self._add(op, -1)

    def floor(self, op: Numbered) -> int:
        """Return the floor of a write's writer as it is now: of another process, which is no more, the write itself."""
        writer, number, _ = parse_write_id(op.write_id)
        with self._lock:
            self._sweep()
            target = self._targets.get(op.numbered_by)
            return number if writer != self._writer or target is None else min(number, target.floor)

    def _add(self, op: Numbered, holds: int) -> None:
        if not op.write_id.startswith(self._writer):
            return  # it is another process's
        number = int(op.write_id.split(".")[1])
        with self._lock:
            target = self._targets.get(op.numbered_by)
            if target is None or (write := target.writes.get(number)) is None:
                return  # it was finished before
            write.holds += holds
            if write.holds <= 0:
                self._drop(write)

    def _sweep(self) -> None:
        while self._gone:
            self._drop(self._gone.popleft())

    def _drop(self, write: _UnderWay) -> None:
        target = self._targets.get(write.name)
        if target is None or target.writes.get(write.number) is not write:
            return
        del target.writes[write.number]
        if not target.writes:
            del self._targets[write.name]
            self._next = max(self._next, target.next)


class _Target:
    """The writes on one target that are under way, by their numbers, in ascending order."""

    __slots__ = ("next", "writes")

    def __init__(self, start: int) -> None:
        self.next = start
        self.writes: dict[int, _UnderWay] = {}

    @property
    def floor(self) -> int:
        """The lowest number."""
        return next(iter(self.writes))


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

    def at_replay(self) -> Self:
        """Return the write with the floor of now: those before it have been replayed."""
        writer, dot, number = self.write_id.rpartition(".")[0].partition(".")
        if not dot:
            return self  # of version 0.1, which knows no floor
        return replace(self, write_id=f"{writer}.{number}.{NUMBERING.floor(self)}")  # type: ignore[type-var]


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
    floor: int = 0
    """The lowest number whose outcome it did not know."""
    gaps: list[tuple[int, int]] = field(default_factory=list)
    """The first and the last number of each run from the floor on that was not seen, in ascending order."""
    results: dict[int, str] = field(default_factory=dict)
    """By the number, what the writes from the floor on have led to."""

    def find_result(self, number: int) -> str | None:
        """Return the result of a write; empty where it is not known any more, None where there was no such write.

        Raises:
            BackendError: The number is below the floor.
        """
        if (result := self.results.get(number)) is not None:
            return result
        if number > self.highest:
            return None
        if number < self.floor:
            raise BackendError("this write was sent too long ago: whether it was done is not known")
        return None if any(first <= number <= last for first, last in self.gaps) else ""

    def record(self, number: int, floor: int, result: str, now: int) -> None:
        """Keep that a write was done."""
        self.at = now
        if floor > self.highest:  # the writer knows what became of all others
            self.highest, self.floor, self.results = number, floor, {number: result}
            self.gaps = [(floor, number - 1)] if floor < number else []
            return
        gaps: list[tuple[int, int]] = []
        for first, last in (*self.gaps, (self.highest + 1, number - 1)):
            if first <= number <= last:
                gaps += (first, number - 1), (number + 1, last)
            else:
                gaps.append((first, last))
        self.highest, self.floor = max(self.highest, number), max(self.floor, floor)
        self.gaps = [(max(first, self.floor), last) for first, last in gaps if max(first, self.floor) <= last]
        self.results[number] = result
        if len(self.results) > 1:
            self.results = {each: self.results[each] for each in self.results if each >= self.floor}


class Writers:
    """What is kept of the writers of a session or value."""

    def __init__(self) -> None:
        self._writers: dict[str, Writer] = {}

    def find_result(self, write_id: str) -> str | None:
        """Return the result of a write; see `Writer.find_result`."""
        name, number, _ = parse_write_id(write_id)
        writer = self._writers.get(name)
        return None if writer is None else writer.find_result(number)

    def record(self, write_id: str, result: str, now: int) -> None:
        """Keep that a write was done; the time is in milliseconds since 1970."""
        name, number, floor = parse_write_id(write_id)
        if (writer := self._writers.get(name)) is None:
            if self._writers and len(self._writers) % EVERY == 0:
                self._forget(now)
            writer = self._writers[name] = Writer()
        writer.record(number, floor, result, now)

    def _forget(self, now: int) -> None:
        """Forget the writers whose last write was a day ago, and where there are too many, all but the last ones."""
        self._writers = {name: writer for name, writer in self._writers.items() if now - writer.at <= DAY}
        if len(self._writers) >= MOST_WRITERS:
            latest = sorted(self._writers.items(), key=lambda item: item[1].at, reverse=True)
            self._writers = dict(latest[: MOST_WRITERS // 2])
