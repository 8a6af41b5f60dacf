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
from collections.abc import Awaitable, Callable, Mapping, Sequence

from benchmarks import page
from benchmarks.layered import BESIDE, LAYERS, OPERATIONS, Prepared, async_layers, sync_layers
from benchmarks.report import aligned
from benchmarks.server import redis_server

CALLS = 20  # in a block
FACES = ("sync", "async")
FEW, MANY = 20, 120  # calls between which instructions are counted
SHOWN = {  # by the layer that adds it
    "ping": "a round trip of a PING",
    "socket": "its bytes, and the server's work",
    "redis-py": "redis-py: pool, packing, parsing",
    "backend": "our backend: commands, answers, retries",
    "fallback": "our fallback, healthy",
    "codec": "our codec",
    "history": "our history: operations, prompt",
}

Cost = tuple[float, float]
"""Microseconds of one call: on the clock, and of this process's processor time."""


class Subject:
    """One operation in one face, at each layer.

    Args:
        url: The server.
        operation: `read` or `append`.
        loop: Where it runs; None: it is sync.
    """

    def __init__(self, url: str, operation: str, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        if loop is None:
            self._talk, self._layers = sync_layers(url, operation)
        else:
            self._talk, self._alayers = loop.run_until_complete(async_layers(url, operation))

    def run(self, layer: str, calls: int, most: int = CALLS) -> Cost:
        """Do the operation at a layer some number of times, of those that are prepared."""
        prepared = [self._talk.prepare() for _ in range(most)][:calls]
        if self._loop is None:
            return _timed(self._layers[layer], prepared)
        return self._loop.run_until_complete(_atimed(self._alayers[layer], prepared))


def _timed(call: Callable[[Prepared], object], prepared: Sequence[Prepared]) -> Cost:
    taken = []
    processor = time.process_time()
    for each in prepared:
        start = time.perf_counter()
        call(each)
        taken.append(time.perf_counter() - start)
    return sum(taken) / len(taken) * 1e6, (time.process_time() - processor) / len(prepared) * 1e6


async def _atimed(call: Callable[[Prepared], Awaitable[object]], prepared: Sequence[Prepared]) -> Cost:
    taken = []
    processor = time.process_time()
    for each in prepared:
        start = time.perf_counter()
        await call(each)
        taken.append(time.perf_counter() - start)
    return sum(taken) / len(taken) * 1e6, (time.process_time() - processor) / len(prepared) * 1e6


def added(cost: Mapping[str, float]) -> dict[str, float]:
    """Return what each layer adds to the one below, by what an operation costs at each."""
    within = {upper: cost[upper] - cost[lower] for lower, upper in itertools.pairwise(LAYERS)}
    within["history"] -= cost["codec"]
    return {"ping": cost["ping"], "codec": cost["codec"], **within}


def measure(url: str, seconds: float) -> dict[tuple[str, str], list[dict[str, Cost]]]:
    """Measure each operation in each face: by round, what it costs at each layer."""
    loop = asyncio.new_event_loop()
    subjects = {
        (face, operation): Subject(url, operation, loop if face == "async" else None)
        for face in FACES
        for operation in OPERATIONS
    }
    found: dict[tuple[str, str], list[dict[str, Cost]]] = {key: [] for key in subjects}
    layers, shuffle = [*LAYERS, *BESIDE], random.Random(0).shuffle
    gc.collect()
    gc.freeze()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(found.values()))) < 3:
        for key, subject in subjects.items():
            shuffle(layers)
            found[key].append({layer: subject.run(layer, CALLS) for layer in layers})
    gc.unfreeze()
    return {key: rounds[1:] for key, rounds in found.items()}  # the first warms up


def instructions(url: str) -> dict[tuple[str, str], dict[str, float]]:
    """Count what one call executes at each layer, in thousands: valgrind runs this program once more for it."""
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    done = subprocess.run(
        [*command, sys.executable, "-m", "benchmarks.profile", "--count", url],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    executed = {pid: int(number.replace(",", "")) for pid, number in _EXECUTED.findall(done.stderr)}
    found: dict[tuple[str, str], dict[str, float]] = {}
    for line in done.stdout.splitlines():
        face, operation, layer, few, many = line.split("|")
        found.setdefault((face, operation), {})[layer] = (executed[many] - executed[few]) / (MANY - FEW) / 1e3
    return found


_EXECUTED = re.compile(r"^==(\d+)== I\s+refs:\s+([\d,]+)", re.MULTILINE)


def count(url: str) -> None:
    """Fork, for each operation at each layer, a process that does it a few times and one that does it many times.

    valgrind says of each what it has executed since the first process started, so that the difference is the calls.
    """
    for face in FACES:
        for operation in OPERATIONS:
            for layer in (*LAYERS, *BESIDE):
                pids = [_forked(url, face, operation, layer, calls) for calls in (FEW, MANY)]
                print(face, operation, layer, *pids, sep="|", flush=True)


def _forked(url: str, face: str, operation: str, layer: str, calls: int) -> int:
    pid = os.fork()
    if pid == 0:
        gc.disable()
        Subject(url, operation, asyncio.new_event_loop() if face == "async" else None).run(layer, calls, MANY)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit(f"counting {face} {operation} {layer} failed")
    return pid


def table(
    face: str,
    rounds: Mapping[tuple[str, str], Sequence[Mapping[str, Cost]]],
    executed: Mapping[tuple[str, str], Mapping[str, float]],
) -> str:
    """Return where a turn's time goes in one face."""
    clock, processor = (
        {operation: _medians(rounds[face, operation], which) for operation in OPERATIONS} for which in (0, 1)
    )
    counted = {operation: added(executed[face, operation]) for operation in OPERATIONS if executed}
    whole = sum(clock[operation][layer] for operation in OPERATIONS for layer in SHOWN)
    lines = [[face, "read 50, µs", "append 2, µs", "a turn, µs", "share", "processor, µs"]]
    lines[0] += ["instructions, thousands"] if executed else []
    for layer, shown in SHOWN.items():
        of_turn = sum(clock[operation][layer] for operation in OPERATIONS)
        line = [shown, *[f"{clock[operation][layer]:.1f}" for operation in OPERATIONS], f"{of_turn:.1f}"]
        line += [f"{of_turn / whole:.0%}", f"{sum(each[layer] for each in processor.values()):.1f}"]
        lines.append(line + ([f"{sum(each[layer] for each in counted.values()):.0f}"] if executed else []))
    sums = [sum(clock[operation][layer] for layer in SHOWN) for operation in OPERATIONS]
    spent = sum(each[layer] for each in processor.values() for layer in SHOWN)
    line = ["all", *[f"{each:.1f}" for each in (*sums, whole)], "100%", f"{spent:.1f}"]
    every = sum(each[layer] for each in counted.values() for layer in SHOWN)
    lines.append(line + ([f"{every:.0f}"] if executed else []))
    return aligned(lines, 1)


def _medians(rounds: Sequence[Mapping[str, Cost]], which: int) -> dict[str, float]:
    """Return what each layer adds, in the median of the rounds."""
    each = [added({layer: cost[which] for layer, cost in costs.items()}) for costs in rounds]
    return {layer: statistics.median(one[layer] for one in each) for layer in SHOWN}


def client_line(face: str, rounds: Mapping[tuple[str, str], Sequence[Mapping[str, Cost]]]) -> str:
    """Say what redis-py's client takes for the same commands, to what its connection takes."""
    ratios = [
        statistics.median(costs["redis-py's client"][0] / costs["redis-py"][0] for costs in rounds[face, operation])
        for operation in OPERATIONS
    ]
    return (
        f"- {face}: redis-py's client takes {ratios[0]:.2f} (read) and {ratios[1]:.2f} (append) of its connection alone"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("--seconds", type=float, default=40, help="for how long to measure")
    parser.add_argument("--instructions", action="store_true", help="count them too, with valgrind; some minutes more")
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
    tables = [
        *[table(face, rounds, executed) for face in FACES],
        "\n".join(client_line(face, rounds) for face in FACES),
    ]
    print(*tables, sep="\n\n")
    if arguments.save:
        page.write("profile", "\n\n".join(tables))


if __name__ == "__main__":
    main()
