"""The ids by which a store knows a write that is sent again.

The writes of a process on a session are numbered, and the session remembers of each process, its writer, the highest
number it has seen and the gaps below it. So a write that is sent again is known however late it comes, and however many
writes of others, or of the same process at the same time, have come since.
"""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from langchain_memstore.errors import BackendError
from langchain_memstore.keys import SessionKeys

MOST_SESSIONS = 50_000  # whose numbering a process goes on with; then all are numbered anew, by new writers
MOST_GAPS = 128  # that a session remembers of a writer: requests under way, and those that were given up
MANY_WRITERS, MOST_WRITERS, DAY = 64, 1024, 86_400_000  # as in lua/common.lua

_numberings: dict[SessionKeys, tuple[str, itertools.count[int]]] = {}
_FORM = re.compile(r"([0-9a-f]+)\.([0-9]+)")


def new_write_id(keys: SessionKeys) -> str:
    """Make the id of a write on a session: `<writer>.<number>`, the writer 64 random bits."""
    numbering = _numberings.get(keys)
    if numbering is None:
        if len(_numberings) >= MOST_SESSIONS:
            _numberings.clear()
        numbering = _numberings.setdefault(keys, (os.urandom(8).hex(), itertools.count()))
    writer, numbers = numbering
    return f"{writer}.{next(numbers)}"


def new_token() -> str:
    """Make an id of 128 random bits, for what is not numbered: values, locks, claims."""
    return os.urandom(16).hex()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_numberings.clear)  # a fork is another writer


class Seen(NamedTuple):
    """Which numbers of a writer a session has seen."""

    highest: int
    gaps: tuple[tuple[int, int], ...] = ()
    """The first and the last number of each run below the highest that it has not seen, in ascending order."""
    floor: int = -1
    """Up to which number it does not know any more which were seen."""

    def has(self, number: int) -> bool:
        """Tell whether a number was seen.

        Raises:
            BackendError: That is not known any more.
        """
        if number <= self.floor:
            raise BackendError("this write was sent too long ago: whether it was done is not known")
        return number <= self.highest and not any(first <= number <= last for first, last in self.gaps)

    def adding(self, number: int) -> Seen:
        """Return what is seen with one number more."""
        if number == self.highest + 1:
            return self._replace(highest=number)
        gaps: list[tuple[int, int]] = []
        for first, last in (*self.gaps, (self.highest + 1, number)):
            if first <= number <= last:
                gaps += [gap for gap in ((first, number - 1), (number + 1, last)) if gap[0] <= gap[1]]
            elif first <= last:
                gaps.append((first, last))
        dropped = gaps[:-MOST_GAPS]
        floor = dropped[-1][1] if dropped else self.floor
        return Seen(max(self.highest, number), tuple(gaps[-MOST_GAPS:]), floor)


def parse_write_id(write_id: str) -> tuple[str, int] | None:
    """Return the writer and the number of a write id; None where it is of another form."""
    match = _FORM.fullmatch(write_id)
    return (match[1], int(match[2])) if match else None


def result_of(results: str, write_id: str) -> str | None:
    """Return the result of a write among recent ones, `<write id>=<result>;` of each; None: it is not there."""
    _, found, rest = results.partition(f"{write_id}=")
    return rest[: rest.index(";")] if found else None


def with_result(results: str, write_id: str, result: str, most: int) -> str:
    """Return recent results with one more, without the oldest ones that are more than so many characters."""
    results += f"{write_id}={result};"
    return results if len(results) <= most else results[results.index(";", len(results) - most - 1) + 1 :]


@dataclass
class Writers:
    """What a session has seen of each writer."""

    _seen: dict[str, tuple[int, Seen]] = field(default_factory=dict)
    """By the writer: when it wrote last, in milliseconds since 1970, and what was seen."""

    def has(self, write_id: str) -> bool:
        """Tell whether a write was seen, as far as its id tells; see `Seen.has`."""
        parsed = parse_write_id(write_id)
        found = self._seen.get(parsed[0]) if parsed else None
        return parsed is not None and found is not None and found[1].has(parsed[1])

    def add(self, write_id: str, now: int) -> None:
        """Note a write; the time is in milliseconds since 1970."""
        if (parsed := parse_write_id(write_id)) is None:
            return
        writer, number = parsed
        _, seen = self._seen.get(writer, (0, None))
        if seen is None and len(self._seen) >= MANY_WRITERS:
            self._forget(now)
        self._seen[writer] = now, (seen or Seen(-1)).adding(number)

    def _forget(self, now: int) -> None:
        """Forget the writers whose last write was a day ago, and where there are too many, all but the last ones."""
        self._seen = {writer: (at, seen) for writer, (at, seen) in self._seen.items() if now - at <= DAY}
        if len(self._seen) >= MOST_WRITERS:
            latest = sorted(self._seen.items(), key=lambda item: item[1][0], reverse=True)
            self._seen = dict(latest[: MOST_WRITERS // 2])
