"""Interleaved measurement: contenders take turns in small blocks, so that whatever else the machine does hits all.

A noisy machine changes its speed from second to second. Times are compared only within a round, where they lie
milliseconds apart; what is reported is the median of the rounds' ratios, with the quartiles.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

Block = Callable[[int], float]
"""Does something some number of times, and returns the median of the seconds that it took."""

BLOCK = 0.003  # seconds that a block is to take
MOST_CALLS = 30
LEAST_ROUNDS = 4  # however long they take


def timed(once: Callable[[], Any], settle: Callable[[], Any] | None = None) -> Block:
    """Make a block of something sync; `settle` comes after each time, and is not counted."""

    def block(calls: int) -> float:
        taken = []
        for _ in range(calls):
            start = time.perf_counter()
            once()
            taken.append(time.perf_counter() - start)
            if settle is not None:
                settle()
        return statistics.median(taken)

    return block


def atimed(
    loop: asyncio.AbstractEventLoop, once: Callable[[], Awaitable[Any]], settle: Callable[[], Any] | None = None
) -> Block:
    """Make a block of something async; see `timed`."""

    async def block(calls: int) -> float:
        taken = []
        for _ in range(calls):
            start = time.perf_counter()
            await once()
            taken.append(time.perf_counter() - start)
            if settle is not None:
                settle()
        return statistics.median(taken)

    return lambda calls: loop.run_until_complete(block(calls))


@dataclass(frozen=True)
class Spread:
    """A median with the quartiles around it."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))

    def __str__(self) -> str:
        digits = 2 if self.median < 9.95 else 1 if self.median < 99.5 else 0
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


@dataclass(frozen=True)
class Measured:
    """What the rounds of one comparison found: by contender, the seconds of each round."""

    rounds: Mapping[str, list[float]]

    def seconds(self, name: str) -> Spread:
        return Spread.of(self.rounds[name])

    def ratio(self, name: str, to: str) -> Spread:
        """Return how a contender compares to another, round by round."""
        return Spread.of([one / other for one, other in zip(self.rounds[name], self.rounds[to], strict=True)])


def interleave(blocks: Mapping[str, Block], seconds: float, shares: int = 1) -> Measured:
    """Measure contenders against each other.

    Args:
        blocks: What each contender does.
        seconds: For how long to go round.
        shares: How many operations each call stands for.
    """
    calls = {name: _calls(block) for name, block in blocks.items()}
    rounds: dict[str, list[float]] = {name: [] for name in blocks}
    order = list(blocks)
    shuffle = random.Random(0).shuffle
    gc.collect()
    gc.freeze()  # what the contenders make is collected as ever, but not the imported libraries each time
    end = time.perf_counter() + seconds
    while len(rounds[order[0]]) < LEAST_ROUNDS or time.perf_counter() < end:
        shuffle(order)
        for name in order:
            rounds[name].append(blocks[name](calls[name]) / shares)
    gc.unfreeze()
    return Measured(rounds)


def _calls(block: Block) -> int:
    """Warm up, and find how many calls make a block."""
    taken = block(1)
    if taken < 20 * BLOCK:  # else it is slow, however warm
        taken = min(block(1), block(1))
    return max(1, min(MOST_CALLS, int(BLOCK / taken)))
