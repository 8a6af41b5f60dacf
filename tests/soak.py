"""A soak: writers in several processes, random faults, and then an audit of every message.

Run it with `make soak`, or `make soak ARGS="--minutes 5 --seed 7"`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from langchain_core.messages import AIMessage, HumanMessage

from langchain_memstore import Memstore, codec
from support.proxy import SWALLOW, Cut, Proxy
from support.servers import COMMANDS, DURABLE, Server

PROCESSES, THREADS, TASKS = 4, 2, 3
SESSIONS = 6  # which all writers share
PAUSE = 0.01  # seconds between two turns of a writer


class Line:
    """What stands between one process and the server, and can be disturbed."""

    def __init__(self) -> None:
        self.state = "good"

    def plan(self) -> Cut:
        left = random.randrange(2_000, 200_000)  # bytes until the connection breaks all the same

        def cut(from_server: bool, data: bytes) -> int:
            nonlocal left
            if self.state == "cut":
                return 0
            if self.state == "silent" and from_server:
                return SWALLOW
            if self.state == "slow":
                time.sleep(0.02)
            allowed = min(left, len(data))
            left -= allowed
            return allowed

        return cut


def write(ready: Any, port: int, folder: str, process: int, incarnation: int) -> None:
    """Write until SIGTERM, and note down what was acknowledged; the first write takes over what a dead process left."""
    logging.disable(logging.WARNING)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    url = f"redis://127.0.0.1:{port}/0"
    store = Memstore.from_url(
        url,
        max_messages=None,
        ttl=None,
        socket_timeout=0.5,
        max_journal=100_000,
        fallback=os.path.join(folder, f"journal-{process}"),
    )

    def noting(writer: str) -> TextIO:
        return open(os.path.join(folder, writer), "a", buffering=1)

    def turn(writer: str, number: int) -> tuple[Any, list[Any]]:
        history = store.history(f"session-{random.randrange(SESSIONS)}")
        return history, [HumanMessage(f"{writer} {number}"), AIMessage(f"{writer} {number + 1}")]

    def go_on(worker: int) -> None:
        writer, number = f"{process}.{incarnation}.thread-{worker}", 0
        with noting(writer) as acknowledged:
            while not stop.wait(PAUSE):
                history, messages = turn(writer, number)
                history.add_messages(messages)
                number += 2
                acknowledged.write(f"{number}\n")
                ready.set()

    async def ago_on(worker: int) -> None:
        writer, number = f"{process}.{incarnation}.task-{worker}", 0
        with noting(writer) as acknowledged:
            while not stop.is_set():
                history, messages = turn(writer, number)
                await history.aadd_messages(messages)
                number += 2
                acknowledged.write(f"{number}\n")
                await asyncio.sleep(PAUSE)

    async def tasks() -> None:
        await asyncio.gather(*map(ago_on, range(TASKS)))

    threads = [threading.Thread(target=go_on, args=[worker]) for worker in range(THREADS)]
    for thread in threads:
        thread.start()
    asyncio.run(tasks())
    for thread in threads:
        thread.join()
    store.close()


class Soak:
    """The server, the lines to it, and the processes that write."""

    def __init__(self, folder: str, chance: random.Random) -> None:
        self.folder = folder
        self.chance = chance
        self.server = Server(next(iter(COMMANDS.values())), *DURABLE)
        self.lines = [Line() for _ in range(PROCESSES)]
        self.proxies = [Proxy(self.server.port, line.plan).__enter__() for line in self.lines]
        self.faults: Counter[str] = Counter()
        self.incarnations = [0] * PROCESSES
        self.processes = [self.start(number) for number in range(PROCESSES)]

    def start(self, number: int) -> Any:
        context = multiprocessing.get_context("spawn")
        ready = context.Event()
        arguments = ready, self.proxies[number].port, self.folder, number, self.incarnations[number]
        process = context.Process(target=write, args=arguments)
        process.start()
        assert ready.wait(60)
        return process

    def seconds(self) -> float:
        return self.chance.uniform(0.1, 3)

    def restart_server(self) -> None:
        self.server.kill()
        time.sleep(self.seconds())
        self.server.start()

    def freeze_server(self) -> None:
        self.server.signal(signal.SIGSTOP)
        time.sleep(self.seconds())
        self.server.signal(signal.SIGCONT)

    def forget_scripts(self) -> None:
        with self.server.admin() as admin:
            admin.script_flush()

    def disturb_line(self) -> None:
        line = self.chance.choice(self.lines)
        line.state = self.chance.choice(["cut", "silent", "slow"])
        time.sleep(self.seconds())
        line.state = "good"

    def kill_process(self) -> None:
        number = self.chance.randrange(PROCESSES)
        if self.chance.random() < 0.5:  # in the midst of an outage of its own
            self.lines[number].state = "cut"
            time.sleep(self.seconds())
        self.processes[number].kill()
        self.processes[number].join()
        self.lines[number].state = "good"
        self.incarnations[number] += 1
        self.processes[number] = self.start(number)

    def run(self, minutes: float) -> None:
        faults: list[Callable[[], None]] = [
            self.restart_server,
            self.freeze_server,
            self.forget_scripts,
            self.disturb_line,
            self.disturb_line,
            self.kill_process,
        ]
        until = time.monotonic() + minutes * 60
        while time.monotonic() < until:
            time.sleep(self.chance.uniform(0.1, 1))
            fault = self.chance.choice(faults)
            self.faults[fault.__name__.replace("_", " ")] += 1
            fault()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join(60)
            assert process.exitcode == 0, f"a writer ended with {process.exitcode}"

    def audit(self) -> dict[str, int]:
        """Compare what the server holds with what the writers were told."""
        with self.server.admin() as admin:
            sessions = [admin.lrange(f"conversation:messages:{{session-{n}}}", 0, -1) for n in range(SESSIONS)]
        texts = [[codec.decode(entry).text for entry in entries] for entries in sessions]
        found = Counter(text for said in texts for text in said)
        last: dict[tuple[int, str], int] = {}
        disordered = 0
        for session, said in enumerate(texts):
            for text in said:
                writer, number = text.split()
                disordered += int(number) <= last.get((session, writer), -1) and found[text] == 1
                last[session, writer] = int(number)
        acknowledged = lost = 0
        for path in Path(self.folder).glob("*.*.*-*"):
            told = path.read_text().split()
            count = int(told[-1]) if told else 0
            acknowledged += count
            lost += sum(f"{path.name} {number}" not in found for number in range(count))
        return {
            "acknowledged": acknowledged,
            "held": sum(found.values()),
            "lost": lost,
            "duplicated": sum(count - 1 for count in found.values()),
            "out of order": disordered,
        }

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
        for proxy in self.proxies:
            proxy.__exit__()
        self.server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="how long to write, at most 30 (default: 2)")
    parser.add_argument("--seed", type=int, default=None, help="of the faults (default: at random)")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.randrange(10**6)
    with tempfile.TemporaryDirectory(prefix="memstore-soak-") as folder:
        soak = Soak(folder, random.Random(seed))
        try:
            soak.run(min(args.minutes, 30.0))
            figures = soak.audit()
        finally:
            soak.stop()
    print(json.dumps({"minutes": args.minutes, "seed": seed, "faults": soak.faults, **figures}, indent=2))
    if figures["lost"] or figures["duplicated"] or figures["out of order"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
