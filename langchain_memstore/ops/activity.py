"""What the in-process backend counts of its own doings, as Redis does."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

SLOW = 0.01  # seconds that an operation must take to be noted, as with Redis' `slowlog-log-slower-than`
MOST_SLOW = 128  # operations to keep, as with Redis' `slowlog-max-len`


class Slow(NamedTuple):
    """An operation that took long."""

    number: int
    at: int
    """When it was done, in milliseconds since 1970."""
    seconds: float
    """How long it took."""
    name: str
    """What it was."""


@dataclass
class Activity:
    """The operations that were done, the values that were asked for, and what took long."""

    hits: int = 0
    """How many of the values that were asked for there were."""
    misses: int = 0
    """How many of the values that were asked for there were not."""
    slow: deque[Slow] = field(default_factory=lambda: deque(maxlen=MOST_SLOW))
    _second: int = 0
    _done: int = 0
    _done_before: int = 0
    _numbers: count[int] = field(default_factory=count)

    def note(self, name: str, now: int, seconds: float) -> None:
        """Note an operation, when it was done (in milliseconds since 1970), and how many seconds it took."""
        self._turn(now)
        self._done += 1
        if seconds >= SLOW:
            self.slow.append(Slow(next(self._numbers), now, seconds, name))

    def per_second(self, now: int) -> int:
        """Return how many operations were done in the last full second."""
        self._turn(now)
        return self._done_before

    def _turn(self, now: int) -> None:
        second = now // 1000
        if second != self._second:
            self._done_before = self._done if second == self._second + 1 else 0
            self._second, self._done = second, 0
