"""What both soaks share: the server, the processes, faults at random, and an end at which nothing is under way."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from soak.callers import journaling_store
from soak.calls import Recorder, Report
from support.servers import COMMANDS, Server
from support.waiting import wait_until

PATIENCE = 60.0  # seconds for a process to begin or to end, or for a journal to be replayed


class Soak(ABC):
    """A server, the processes that call it, and what disturbs them.

    Args:
        folder: Where records and journals are.
        chance: Chooses the faults.
        options: Settings of the server.
    """

    def __init__(self, folder: str, chance: random.Random, *options: str) -> None:
        self.folder = folder
        self.chance = chance
        self.recorder = Recorder(folder, "driver")
        self.server = Server(next(iter(COMMANDS.values())), *options)
        self.injected: Counter[str] = Counter()
        self._processes: dict[str, Any] = {}
        self._starts: dict[str, Callable[[], Any]] = {}

    @abstractmethod
    def begin(self) -> None:
        """Start the processes, and wait until they make calls."""

    @abstractmethod
    def faults(self) -> list[Callable[[], None]]:
        """Return what may happen, the frequent ones several times."""

    @abstractmethod
    def audit(self, report: Report) -> None:
        """Compare what the server holds with what callers were told; no process runs any more."""

    def start(self, name: str, target: Callable[..., None], *arguments: object) -> None:
        """Start a process, which is given an event to set when it is ready; `wait_for` waits for that."""
        context = multiprocessing.get_context("spawn")
        ready = context.Event()
        process = context.Process(target=target, args=(ready, *arguments), name=name, daemon=True)
        process.start()
        self._processes[name] = process, ready

    def wait_for(self, *names: str) -> None:
        """Wait until processes are ready."""
        for name in names:
            process, ready = self._processes[name]
            assert ready.wait(PATIENCE), f"{name} did not begin; exit code {process.exitcode}"

    def kill(self, name: str) -> None:
        process, _ = self._processes[name]
        process.kill()
        process.join()

    def seconds(self) -> float:
        """Return how long a fault lasts."""
        return self.chance.uniform(0.1, 3)

    def freeze_server(self) -> None:
        with self.recorder.call("server fault", "freeze"):
            self.server.signal(signal.SIGSTOP)
            time.sleep(self.seconds())
            self.server.signal(signal.SIGCONT)

    def forget_scripts(self) -> None:
        with self.server.admin() as admin:
            admin.script_flush()

    def run(self, minutes: float) -> Report:
        """Disturb the callers for so long, stop them, and audit what they were told."""
        self.begin()
        until = time.monotonic() + minutes * 60
        while time.monotonic() < until:
            time.sleep(self.chance.uniform(0.1, 1))
            fault = self.chance.choice(self.faults())
            self.injected[fault.__name__.replace("_", " ")] += 1
            fault()
        self.end_processes()
        self.replay_journals()
        self.end_connections()
        report = Report()
        self.audit(report)
        return report

    def end_processes(self) -> None:
        for process, _ in self._processes.values():
            process.terminate()
        for name, (process, _) in self._processes.items():
            process.join(PATIENCE)
            if process.exitcode is None:
                os.kill(process.pid, signal.SIGUSR1)
                time.sleep(1)
            assert process.exitcode == 0, f"{name} ended with {process.exitcode}"

    def replay_journals(self) -> None:
        """Replay what processes have left in their journals when they ended."""
        for path in sorted(Path(self.folder).glob("journal-*")):
            if path.suffix and path.with_suffix("").exists():
                continue  # taken over with the one without a number
            with journaling_store(self.server.port, self.folder, path.name, socket_timeout=5) as store:
                store.history("nobody").messages  # noqa: B018 - opens the journal
                wait_until(lambda: not store.status.degraded and not store.status.pending, PATIENCE)

    def end_connections(self) -> None:
        """Wait until the server has read what was sent to it to the end."""
        with self.server.admin() as admin:
            wait_until(lambda: len(admin.client_list()) == 1, PATIENCE)

    def stop(self) -> None:
        """End all that still runs, also where the soak has failed."""
        for process, _ in self._processes.values():
            process.kill()
            process.join()
        self.recorder.close()
        self.server.stop()
