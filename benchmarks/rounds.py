"""Interleaved measurement: contenders take turns in small blocks, so that whatever else the machine does hits all.

A noisy machine changes its speed from second to second. Times are compared only within a round, where they lie
milliseconds apart, and the rounds of each comparison are spread over the whole run; what is reported is the median of
the rounds' ratios, with the quartiles.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Block = Callable[[int], float]
"""Does something some number of times, and returns the seconds that it took in the mean: what is done once in many
calls, such as collecting garbage, counts. There is one more call before these, which finds the processor's caches full
of what another contender did, and does not count."""

BLOCK = 0.003  # seconds that a block is to take
MOST_CALLS = 30
SLOW = 6  # how many times the quickest block a block may take, to be part of each round
MOST_SKIPPED = 8


def _nothing() -> None:
    """Do nothing between calls."""


def timed(once: Callable[[], Any], settle: Callable[[], Any] = _nothing) -> Block:
    """Make a block of something sync; `settle` comes after each time, and is not counted."""

    def block(calls: int) -> float:
        taken = 0.0
        for call in range(-1, calls):
            start = time.perf_counter()
            once()
            taken += time.perf_counter() - start if call >= 0 else 0.0
            settle()
        return taken / calls

    return block


def atimed(
    loop: asyncio.AbstractEventLoop, once: Callable[[], Awaitable[Any]], settle: Callable[[], Any] = _nothing
) -> Block:
    """Make a block of something async; see `timed`."""

    async def block(calls: int) -> float:
        taken = 0.0
        for call in range(-1, calls):
            start = time.perf_counter()
            await once()
            taken += time.perf_counter() - start if call >= 0 else 0.0
            settle()
        return taken / calls

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
    """What the rounds of one comparison found: by contender, the seconds of each round that it took part in."""

    rounds: Mapping[str, Mapping[int, float]]

    def seconds(self, name: str) -> Spread:
        return Spread.of(list(self.rounds[name].values()))

    def ratio(self, name: str, to: str) -> Spread:
        """Return how a contender compares to another, round by round."""
        base = self.rounds[to]
        return Spread.of([taken / base[at] for at, taken in self.rounds[name].items() if at in base])


class Comparison:
    """Contenders that do the same thing, each in its own way, and how long they took so far.

    Args:
        blocks: What each contender does.
        shares: How many operations each call stands for.
        weight: How much of the time to spend on it, beside the others.
    """

    def __init__(self, blocks: Mapping[str, Block], shares: int = 1, weight: float = 1.0) -> None:
        self._blocks = blocks
        self._shares = shares
        self.weight = weight
        self.spent = 0.0
        self.count = 0
        self._rounds: dict[str, dict[int, float]] = {name: {} for name in blocks}

    def warm_up(self) -> None:
        """Find how many calls make a block, and in which rounds a slow contender takes part, so as not to take all."""
        warmed = {name: _warmed(block) for name, block in self._blocks.items()}
        self._calls = {name: max(1, min(MOST_CALLS, int(BLOCK / taken))) for name, taken in warmed.items()}
        costs = {name: taken * self._calls[name] for name, taken in warmed.items()}
        least = min(costs.values())
        self._every = {name: max(1, min(MOST_SKIPPED, int(cost / least / SLOW))) for name, cost in costs.items()}

    def round(self, shuffle: Callable[[list[str]], None]) -> None:
        """Let each contender do a block, in another order each time."""
        start = time.perf_counter()
        names = [name for name in self._blocks if self.count % self._every[name] == 0]
        shuffle(names)
        for name in names:
            self._rounds[name][self.count] = self._blocks[name](self._calls[name]) / self._shares
        self.count += 1
        self.spent += time.perf_counter() - start

    @property
    def measured(self) -> Measured:
        return Measured(self._rounds)


def interleave(comparisons: Sequence[Comparison], seconds: float, least_rounds: int = 4) -> None:
    """Go round all comparisons again and again, so that each is spread over the whole time.

    Args:
        comparisons: What to measure.
        seconds: For how long, all together.
        least_rounds: How many rounds each has, however long they take.
    """
    shuffle = random.Random(0).shuffle
    for each in comparisons:
        each.warm_up()
    gc.collect()
    gc.freeze()  # what the contenders make is collected as ever, but not the imported libraries each time
    begun, weights, lap = time.perf_counter(), sum(each.weight for each in comparisons), 0.0
    waiting = list(comparisons)
    while waiting:
        lap = time.perf_counter() - begun
        shuffle(waiting)
        for each in waiting:
            while each.spent <= each.weight / weights * min(lap, seconds):
                each.round(shuffle)
        if lap > seconds:
            waiting = [each for each in waiting if each.count < least_rounds]
            for each in waiting:
                each.round(shuffle)
    gc.unfreeze()


def _warmed(block: Block) -> float:
    """Warm up, and return how long a call takes; the first one may have to connect."""
    block(1)
    taken = block(1)
    return min(taken, block(1)) if taken < 20 * BLOCK else taken
