"""The few threads that try again what cannot be reached, for all outages of the process."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from typing import Protocol

MOST = 4  # threads

logger = logging.getLogger(__name__)


class Attempt(Protocol):
    """What is tried again."""

    def try_again(self) -> float | None:
        """Try it, and return after how many seconds to try it again; None: it is done."""
        ...


class RetryThreads:
    """Tries things again when it is time, on four threads at the most. Those end when nothing is left to be tried."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin without threads, as a fork has to."""
        self._condition = threading.Condition()
        self._due: dict[Attempt, float] = {}
        """When each is to be tried, by the monotonic clock."""
        self._busy: set[Attempt] = set()
        self._threads = 0

    def add(self, attempt: Attempt, seconds: float) -> None:
        """Have something tried.

        Args:
            attempt: What.
            seconds: After how many seconds, unless it is to be tried sooner already.
        """
        with self._condition:
            self._set_due(attempt, seconds)
            if self._threads < min(MOST, len(self._due.keys() | self._busy)):
                thread = threading.Thread(target=self._run, name="memstore-replay", daemon=True)
                with suppress(RuntimeError):  # the interpreter is about to end, and starts no more threads
                    thread.start()
                    self._threads += 1
            self._condition.notify()

    def discard(self, attempt: Attempt) -> None:
        """Try something no more; an attempt that is under way goes on."""
        with self._condition:
            self._due.pop(attempt, None)
            self._condition.notify_all()

    def _set_due(self, attempt: Attempt, seconds: float) -> None:
        due = time.monotonic() + seconds
        self._due[attempt] = min(due, self._due.get(attempt, due))

    def _run(self) -> None:
        while (attempt := self._next()) is not None:
            try:
                again = attempt.try_again()
            except Exception as error:  # whose text may quote what is stored
                logger.error("what waits for a store could not be tried, and is tried again: %s", type(error).__name__)
                again = 1.0
            with self._condition:
                self._busy.discard(attempt)
                if again is not None:
                    self._set_due(attempt, again)
                self._condition.notify()
            del attempt  # which waits for nobody to be kept alive

    def _next(self) -> Attempt | None:
        """Wait until something is due; None: nothing is left, and the thread ends."""
        with self._condition:
            while waiting := self._due.keys() - self._busy:
                attempt = min(waiting, key=self._due.__getitem__)
                remaining = self._due[attempt] - time.monotonic()
                if remaining <= 0:
                    del self._due[attempt]
                    self._busy.add(attempt)
                    return attempt
                self._condition.wait(remaining)
            self._threads -= 1
            return None


RETRY_THREADS = RetryThreads()
"""Those of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=RETRY_THREADS.restart)
