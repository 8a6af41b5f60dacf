"""All that is compared in one run."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping

from benchmarks import codecs, end_to_end, growth, histories, layers
from benchmarks.contenders import Clients
from benchmarks.messages import LARGE, SIZE
from benchmarks.rounds import Comparison, Measured, interleave

Key = tuple[str, ...]
"""The section of a comparison, and what tells it apart there."""

OVERVIEW: Mapping[str, tuple[tuple[str, int], ...]] = {
    "sync": (("append", 50), ("read", 50), ("read", 1_000), ("turn", 50), ("turn", 1_000)),
    "async": (("append", 50), ("read", 50), ("read", 1_000), ("turn", 15), ("turn", 50), ("turn", 1_000)),
    "64 tasks": (("append", 50), ("turn", 15), ("turn", 50)),
    "512 tasks": (("append", 50), ("turn", 15), ("turn", 50)),
}
"""What the table shows: operations and messages, by variant."""
LOOPBACK, LINE = "loopback", "slow line"
SIZES = {SIZE: "330 B", LARGE: "4 KB"}


def history(operation: str, variant: str, window: int) -> Key:
    return "histories", operation, variant, f"{window:,}"


def near(line: str, window: int, size: int) -> Key:
    return "near cache", line, f"{window:,}", SIZES[size]


class Suite:
    """Makes the comparisons of a run, and measures them.

    Args:
        clients: How to reach the server, which is emptied.
        line_url: How to reach it over the slow line.
        loop: Where what is async runs.
    """

    def __init__(self, clients: Clients, line_url: str, loop: asyncio.AbstractEventLoop) -> None:
        self._clients, self._line_url, self._loop = clients, line_url, loop
        self._comparisons: dict[Key, Comparison] = {}

    def plan(self, quick: bool, windows: bool) -> None:
        """Make the comparisons.

        Args:
            quick: Leave out what takes long and has no target.
            windows: Add every operation at every window, but for 512 tasks.
        """
        clients, loop, all_of = self._clients, self._loop, self._comparisons
        clients.redis.flushall()
        for variant, cells in OVERVIEW.items():
            if quick and variant == "512 tasks":
                continue
            if windows and histories.VARIANTS[variant] <= 64:
                cells = tuple((operation, n) for operation in histories.OPERATIONS for n in histories.WINDOWS)
            for operation, window in cells:
                all_of[history(operation, variant, window)] = histories.compare(
                    clients, loop, operation, variant, window
                )
        for variant in ("sync", "async"):
            all_of["end to end", variant] = end_to_end.compare(clients, loop, variant)
            for operation in ("turn",) if quick else histories.OPERATIONS:
                key = "in the process", operation, variant
                all_of[key] = histories.compare_in_process(clients, loop, operation, variant)
        for line, url in ((LOOPBACK, clients.url), (LINE, self._line_url)):
            for window in (1_000,) if quick else (50, 200, 1_000):
                for size in (LARGE,) if quick else SIZES:
                    all_of[near(line, window, size)] = layers.near_cache(clients, url, line, window, size)
        for operation in histories.OPERATIONS:
            all_of["fallback", operation] = layers.fallback(clients, operation)
        for operation, comparison in growth.ours(clients).items():
            all_of["growth", "memstore", operation] = comparison
        if not quick:
            for operation, comparison in growth.community(clients).items():
                all_of["growth", "community", operation] = comparison
        all_of["codec", "encode"], all_of["codec", "decode"] = codecs.encoding(), codecs.decoding()

    def run(self, seconds: float, least_rounds: int, only: str = "") -> dict[Key, Measured]:
        """Measure, interleaved, the comparisons whose name holds a text: `histories, append, sync, 50` is one."""
        chosen = {key: comparison for key, comparison in self._comparisons.items() if only in ", ".join(key)}
        print(f"  {len(chosen)} comparisons, {seconds:.0f} s", file=sys.stderr, flush=True)
        interleave(list(chosen.values()), seconds, least_rounds)
        return {key: comparison.measured for key, comparison in chosen.items()}
