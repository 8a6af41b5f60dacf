"""When to try again what has failed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

FIRST_PAUSE = 0.1  # seconds
LONGEST_PAUSE = 1.0  # seconds


def pause_after(failures: int, chance: float) -> float:
    """Return how many seconds to wait before the next attempt: twice as long each time, and less by chance.

    Args:
        failures: How many attempts have failed in a row, at least 1.
        chance: From 0 to 1; how much of half the pause to leave out, so that many processes do not try at once.
    """
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 10))
    return pause * (1 - chance / 2)


class CircuitBreaker:
    """Tells when to try again.

    Args:
        clock: Tells the time, in seconds.
        chance: Returns a number from 0 to 1.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, chance: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._failures = 0
        self._until = clock()

    def close(self) -> None:
        """Note that an attempt was successful."""
        self._failures = 0
        self._until = self._clock()

    def open(self) -> None:
        """Note that an attempt has failed."""
        self._failures += 1
        self._until = self._clock() + pause_after(self._failures, self._chance())

    def remaining(self) -> float:
        """Return how many seconds are left until the next attempt; 0: it is time."""
        return max(0.0, self._until - self._clock())
