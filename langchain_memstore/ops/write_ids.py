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

from langchain_memstore.keys import SessionKeys

MOST_SESSIONS = 50_000  # whose numbering a process goes on with; then all are numbered anew, by new writers
MOST_GAPS = 128  # what is missing for longer never comes
FEWEST_WRITERS, MOST_WRITERS = 32, 64  # that a session remembers

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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_numberings.clear)  # a fork is another writer


class Seen(NamedTuple):
    """Which numbers of a writer a session has seen."""

    highest: int
    gaps: tuple[tuple[int, int], ...]
    """The first and the last number of each run below the highest that it has not seen, in ascending order."""

    def has(self, number: int) -> bool:
        """Tell whether a number was seen."""
        return number <= self.highest and not any(first <= number <= last for first, last in self.gaps)

    def adding(self, number: int) -> Seen:
        """Return what is seen with one number more."""
        if number == self.highest + 1:
            return Seen(number, self.gaps)
        gaps: list[tuple[int, int]] = []
        for first, last in (*self.gaps, (self.highest + 1, number)):
            if first <= number <= last:
                gaps += [gap for gap in ((first, number - 1), (number + 1, last)) if gap[0] <= gap[1]]
            elif first <= last:
                gaps.append((first, last))
        return Seen(max(self.highest, number), tuple(gaps[-MOST_GAPS:]))


def parse_write_id(write_id: str) -> tuple[str, int] | None:
    """Return the writer and the number of a write id; None where it is of another form."""
    match = _FORM.fullmatch(write_id)
    return (match[1], int(match[2])) if match else None


@dataclass
class Writers:
    """What a session has seen of each writer."""

    _seen: dict[str, Seen] = field(default_factory=dict)

    def has(self, write_id: str) -> bool:
        """Tell whether a write was seen, as far as its id tells."""
        parsed = parse_write_id(write_id)
        seen = self._seen.get(parsed[0]) if parsed else None
        return parsed is not None and seen is not None and seen.has(parsed[1])

    def add(self, write_id: str) -> None:
        """Note a write."""
        if (parsed := parse_write_id(write_id)) is None:
            return
        writer, number = parsed
        seen = self._seen.pop(writer, None)
        if seen is None and len(self._seen) >= MOST_WRITERS:
            for oldest in list(self._seen)[:-FEWEST_WRITERS]:
                del self._seen[oldest]
        self._seen[writer] = (seen or Seen(-1, ())).adding(number)
