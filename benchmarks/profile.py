"""Where each microsecond of a turn goes: `python -m benchmarks.profile`.

The layers take turns in small blocks, in an order that changes; what a layer costs is what it takes more than the one
below in the same round, in the median. With `--instructions`, valgrind counts what this process executes, which is the
same on a busy machine.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from benchmarks import page
from benchmarks.layered import (
    CLIENT,
    CODEC,
    CONNECTION,
    LAYERS,
    OPERATIONS,
    ADoes,
    Does,
    Step,
    async_layers,
    sync_layers,
)
from benchmarks.report import aligned
from benchmarks.server import redis_server

TURNS = 20  # in a block
VARIANTS = ("sync", "async")
FEW, MANY = 20, 120  # turns between which instructions are counted
SHOWN = {  # by the layer that adds it
    "ping": "a round trip of a PING",
    "socket": "its bytes, and the server's work",
    "backend": "our backend, with redis-py's pool: packing, parsing, retries",
    "fallback": "our fallback, healthy",
    "codec": "our codec",
    "history": "our history: operations, prompt",
}

Cost = Mapping[str, float]
"""Microseconds of a read and of an append on the clock, and of this process's processor time for both."""


class Subject:
    """Turns in one variant, at each layer.

    Args:
        url: The server.
        loop: Where they run; None: they are sync.
    """

    def __init__(self, url: str, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        if loop is None:
            self._talk, self._layers = sync_layers(url)
        else:
            self._talk, self._alayers = loop.run_until_complete(async_layers(url))

    def run(self, layer: str, turns: int, most: int = TURNS) -> Cost:
        """Have turns at a layer, of those that are prepared."""
        prepared = [self._talk.prepare(layer) for _ in range(most)][:turns]
        processor = time.process_time()
        if self._loop is None:
            taken = _timed(self._layers[layer], prepared)
        else:
            taken = self._loop.run_until_complete(_atimed(self._alayers[layer], prepared))
        spent = time.process_time() - processor
        read, append = (each / turns * 1e6 for each in taken)
        return {"read": read, "append": append, "processor": spent / turns * 1e6}


def _timed(does: Does, turns: Sequence[tuple[Step, Step]]) -> list[float]:
    taken = [0.0, 0.0]
    for steps in turns:
        for which in (0, 1):
            start = time.perf_counter()
            does[which](steps[which])
            taken[which] += time.perf_counter() - start
    return taken


async def _atimed(does: ADoes, turns: Sequence[tuple[Step, Step]]) -> list[float]:
    taken = [0.0, 0.0]
    for steps in turns:
        for which in (0, 1):
            start = time.perf_counter()
            await does[which](steps[which])
            taken[which] += time.perf_counter() - start
    return taken


def added(at: Mapping[str, float]) -> dict[str, float]:
    """Return what each layer adds to the one below, by what a turn costs at each."""
    within = {upper: at[upper] - at[lower] for lower, upper in itertools.pairwise(LAYERS)}
    within["history"] -= at[CODEC]
    return {"ping": at["ping"], CODEC: at[CODEC], **within}


def measure(url: str, seconds: float) -> dict[str, list[dict[str, Cost]]]:
    """Measure each variant: by round, what a turn costs at each layer."""
    loop = asyncio.new_event_loop()
    subjects = {variant: Subject(url, loop if variant == "async" else None) for variant in VARIANTS}
    found: dict[str, list[dict[str, Cost]]] = {variant: [] for variant in VARIANTS}
    layers, shuffle = [*LAYERS, CODEC, CONNECTION, CLIENT], random.Random(0).shuffle
    gc.collect()
    gc.freeze()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found["sync"]) < 3:
        for variant, subject in subjects.items():
            shuffle(layers)
            found[variant].append({layer: subject.run(layer, TURNS) for layer in layers})
    gc.unfreeze()
    return {variant: rounds[1:] for variant, rounds in found.items()}  # the first warms up


def instructions(url: str) -> dict[str, dict[str, float]]:
    """Count what a turn executes at each layer, in thousands: valgrind runs this program once more for it."""
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    done = subprocess.run(
        [*command, sys.executable, "-m", "benchmarks.profile", "--count", url],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    executed = {pid: int(number.replace(",", "")) for pid, number in _EXECUTED.findall(done.stderr)}
    found: dict[str, dict[str, float]] = {variant: {} for variant in VARIANTS}
    for line in done.stdout.splitlines():
        variant, layer, few, many = line.split("|")
        found[variant][layer] = (executed[many] - executed[few]) / (MANY - FEW) / 1e3
    return found


_EXECUTED = re.compile(r"^==(\d+)== I\s+refs:\s+([\d,]+)", re.MULTILINE)


def count(url: str) -> None:
    """Fork, for each layer, a process that has a few turns and one that has many.

    valgrind says of each what it has executed since the first process started, so that the difference is the turns.
    """
    for variant in VARIANTS:
        for layer in (*LAYERS, CODEC):
            print(variant, layer, *[_forked(url, variant, layer, turns) for turns in (FEW, MANY)], sep="|", flush=True)


def _forked(url: str, variant: str, layer: str, turns: int) -> int:
    pid = os.fork()
    if pid == 0:
        gc.disable()
        Subject(url, asyncio.new_event_loop() if variant == "async" else None).run(layer, turns, MANY)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit(f"counting {variant} {layer} failed")
    return pid


def table(variant: str, rounds: Sequence[Mapping[str, Cost]], executed: Mapping[str, float] | None) -> str:
    """Return where a turn's time goes in one variant."""
    columns = [_medians(rounds, what) for what in (*OPERATIONS, "processor")]
    read, append, processor = columns
    turn = {layer: read[layer] + append[layer] for layer in SHOWN}
    whole = sum(turn.values())
    share = {layer: turn[layer] / whole for layer in SHOWN}
    lines = [[variant, "read 50, µs", "append 2, µs", "a turn, µs", "share", "processor, µs"]]
    for layer, shown in SHOWN.items():
        lines.append([shown, *[f"{each[layer]:.1f}" for each in (read, append, turn)], f"{share[layer]:.0%}"])
    lines.append(["all", *[f"{sum(each.values()):.1f}" for each in (read, append, turn)], "100%"])
    for line, spent in zip(lines[1:], [*(processor[layer] for layer in SHOWN), sum(processor.values())], strict=True):
        line.append(f"{spent:.1f}")
    if executed is not None:
        counted = added(executed)
        each = [f"{counted[layer]:.0f}" for layer in SHOWN]
        for line, cell in zip(lines, ["instructions, thousands", *each, f"{sum(counted.values()):.0f}"], strict=True):
            line.append(cell)
    return aligned(lines, 1)


def _medians(rounds: Sequence[Mapping[str, Cost]], what: str) -> dict[str, float]:
    """Return what each layer adds, in the median of the rounds."""
    each = [added({layer: cost[what] for layer, cost in costs.items()}) for costs in rounds]
    return {layer: statistics.median(one[layer] for one in each) for layer in SHOWN}


def beside(variant: str, rounds: Sequence[Mapping[str, Cost]]) -> str:
    """Say what redis-py takes for the same commands, to what the backend takes."""
    ratios = []
    for way in (CONNECTION, CLIENT):
        read, append = (
            statistics.median(costs[way][operation] / costs["backend"][operation] for costs in rounds)
            for operation in OPERATIONS
        )
        ratios.append(f"{way} takes {read:.2f} (read) and {append:.2f} (append)")
    return f"- {variant}: of what our backend takes for the same commands, {', and '.join(ratios)}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("--seconds", type=float, default=40, help="for how long to measure")
    parser.add_argument("--instructions", action="store_true", help="count them too, with valgrind; two minutes more")
    parser.add_argument("--save", action="store_true", help="write the tables into README.md")
    parser.add_argument("--count", metavar="URL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.count:
        count(arguments.count)
        return
    if arguments.instructions and shutil.which("valgrind") is None:
        raise SystemExit("--instructions needs valgrind")
    with redis_server() as url:
        rounds = measure(url, arguments.seconds)
        executed = instructions(url) if arguments.instructions else {}
    tables = [table(variant, rounds[variant], executed.get(variant)) for variant in VARIANTS]
    tables.append("\n".join(beside(variant, rounds[variant]) for variant in VARIANTS))
    print(*tables, sep="\n\n")
    if arguments.save:
        page.write("profile", "\n\n".join(tables))


if __name__ == "__main__":
    main()
