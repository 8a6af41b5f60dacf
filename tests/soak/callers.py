"""The processes that live long: threads and tasks that make calls until they are told to stop."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import random
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from langchain_memstore import Memstore
from support.servers import end_with_parent

PAUSE = 0.02  # seconds between two calls of a thread or task, on average
PAUSED = "paused"


class Caller(Protocol):
    """Makes one call after the other, in a thread."""

    def step(self) -> None: ...


class AsyncCaller(Protocol):
    """Makes one call after the other, in a task."""

    async def astep(self) -> None: ...


def begin_process() -> threading.Event:
    """Set a process up; return the event that SIGTERM sets."""
    if sys.platform == "linux":
        end_with_parent()
    faulthandler.register(signal.SIGUSR1)  # tells where the process hangs
    logging.disable(logging.WARNING)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    return stop


def journaling_store(port: int, folder: str, journal: str, **options: Any) -> Memstore:
    """Make a store that keeps all messages, and its journal in a file."""
    return Memstore.from_url(
        f"redis://127.0.0.1:{port}/0",
        **{"max_messages": None, "ttl": None, "socket_timeout": 0.5, "max_journal": 100_000, **options},
        fallback=os.path.join(folder, journal),
    )


class Crew:
    """The callers of one process, which a driver can have pause all together.

    Args:
        folder: Where the driver says that all are to pause, and callers that they do.
        name: The name of the process.
        store: The store that must have nothing to replay while all pause.
        stop: Says when to stop.
        ready: Is set when all callers have begun.
    """

    def __init__(self, folder: str, name: str, store: Memstore, stop: threading.Event, ready: Any) -> None:
        self._folder = Path(folder)
        self._name = name
        self._store = store
        self._stop = stop
        self._ready = ready
        self._pending = 0

    def run(self, callers: Sequence[Caller], async_callers: Sequence[AsyncCaller]) -> None:
        """Make calls until SIGTERM; there is at least one of each."""
        self._pending = len(callers) + len(async_callers)
        with ThreadPoolExecutor(len(callers)) as threads:
            running = [threads.submit(self._go_on, caller, number) for number, caller in enumerate(callers)]
            try:
                asyncio.run(self._ago_on_together(async_callers, len(callers)))
            finally:
                self._stop.set()
        for each in running:
            each.result()

    def _go_on(self, caller: Caller, number: int) -> None:
        try:
            caller.step()
            self._begun()
            while not self._stop.wait(random.uniform(0, 2 * PAUSE)):
                if self._is_paused(number):
                    continue
                caller.step()
        finally:
            self._stop.set()  # where one fails, all end

    async def _ago_on_together(self, callers: Sequence[AsyncCaller], first: int) -> None:
        await asyncio.gather(*(self._ago_on(caller, first + number) for number, caller in enumerate(callers)))

    async def _ago_on(self, caller: AsyncCaller, number: int) -> None:
        await caller.astep()
        self._begun()
        while not self._stop.is_set():
            await asyncio.sleep(random.uniform(0, 2 * PAUSE))
            if not self._is_paused(number):
                await caller.astep()

    def _begun(self) -> None:
        self._pending -= 1
        if self._pending <= 0:
            self._ready.set()

    def _is_paused(self, number: int) -> bool:
        try:
            pause = (self._folder / PAUSED).read_text()
        except FileNotFoundError:
            return False
        if pause and not self._store.status.degraded:
            (self._folder / f"idle-{pause}-{self._name}-{number}").touch()
        return True
