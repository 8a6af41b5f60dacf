"""An outage: what the stores of one Redis share while it cannot be reached."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Generator
from datetime import datetime, timezone
from typing import Any, TypeVar

from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.breaker import CircuitBreaker
from langchain_memstore.backends.journal import Journal
from langchain_memstore.backends.last_known import LastKnown
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.backends.outage_steps import PAUSE, Step, take
from langchain_memstore.backends.steps import drive
from langchain_memstore.errors import (
    BackendClosed,
    BackendDenied,
    BackendError,
    BackendFull,
    BackendUnavailable,
)
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.session import SessionScript
from langchain_memstore.options import LayerPolicy

R = TypeVar("R")

logger = logging.getLogger(__name__)

_LATER = (BackendUnavailable, BackendFull, BackendDenied)  # what the next attempt may not meet any more

_outages: weakref.WeakSet[Outage] = weakref.WeakSet()


class Outage:
    """Stands in for a store while it cannot be reached, and replays to it what was done meanwhile.

    A thread tries the store again, more and more seldom, and replays the journal in order when it is back, so that no
    caller pays for it. What the store refuses for good is logged and dropped.

    Args:
        make_journal: Makes the journal.
        clock: Tells the time, in seconds since 1970.
        breaker: Tells when to try the store again.
        remembered: About how many bytes of the windows of recently used sessions to keep for an outage.
    """

    def __init__(
        self,
        make_journal: Callable[[], Journal],
        *,
        clock: Callable[[], float] = time.time,
        breaker: CircuitBreaker | None = None,
        remembered: int = LayerPolicy().remembered,
    ) -> None:
        self._make_journal = make_journal
        self._clock = clock
        self._breaker = breaker or CircuitBreaker()
        self.known = LastKnown(remembered, clock)
        self._users: weakref.WeakSet[object] = weakref.WeakSet()
        self.forget()
        _outages.add(self)

    def forget(self) -> None:
        """Start afresh, as a fork has to: what waits is its parent's to replay."""
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        """Whoever replays holds it."""
        self._stop = threading.Event()
        """Has the thread that replays end."""
        self._replayer: Backend | None = None
        self._local: LocalBackend | None = None
        self._probe: Op[Any] | None = None
        """The operation that met the outage, to try the store with while nothing waits."""
        self._since = 0.0
        self._replayed = 0
        self._opened = False
        self.journal = self._make_journal()
        self.known.forget()
        self.is_over = False
        """Whether the store can be reached, and nothing waits for it; False until the journal was opened."""
        self.is_replaying = False
        """Whether the store can be reached again, and the journal is being replayed."""

    @property
    def since(self) -> datetime | None:
        """Since when the store cannot be reached, or something waits for it; None: neither is so."""
        return None if self.is_over or not self._opened else datetime.fromtimestamp(self._since, timezone.utc)

    @property
    def pending(self) -> int:
        """How many operations wait to be replayed."""
        return len(self.journal)

    def admits(self, op: Op[Any], make_replayer: Callable[[], Backend]) -> bool:
        """Tell whether an operation may go to the store.

        Args:
            op: The operation.
            make_replayer: Makes the backend through which to replay what an earlier process has left.

        Raises:
            BackendError: The journal cannot be used.
        """
        with self._lock:
            if not self._opened:
                self.journal.open()
                self._opened = True
                self.is_over = not self.journal
                if self.journal:
                    self.is_replaying = True
                    self._begin(make_replayer)
            return self.is_over or (self.is_replaying and not self.journal.waits(op.target))

    def begin(self, op: Op[Any], error: BackendUnavailable, make_replayer: Callable[[], Backend]) -> None:
        """Note that the store could not be reached.

        Args:
            op: What was to be done.
            error: What happened.
            make_replayer: Makes the backend through which a thread is to replay.

        Raises:
            BackendUnavailable: The error, where the operation is one that nothing can stand in for.
        """
        if op.in_outage == "refuse":
            raise error
        with self._lock:
            if self.is_over:
                self.is_over = False
                self._breaker.open()
                self._probe = op
                self._begin(make_replayer)
                logger.warning(
                    "the store is out of reach; conversations go on in this process until it is back: %s", str(error)
                )
            elif self.is_replaying:
                self._go_down(error)

    def follow(self, op: Op[Any], result: Any) -> None:
        """Note what the store has done; and do it to what stands in for it, where an outage has begun meanwhile."""
        self.known.note(op, result)
        if not self.is_over and not self.is_replaying and isinstance(op, SessionScript) and op.in_outage == "journal":
            with self._lock:
                if self._local is not None:
                    self._local.execute(op)  # once: what stands in knows the last ids

    def serve(self, op: Op[R]) -> tuple[R] | None:
        """Execute an operation inside the process; None where the outage has ended just now.

        Raises:
            BackendUnavailable: Nothing can stand in for the store, or the journal takes no more.
            BackendError: The operation is refused.
        """
        with self._lock:
            if self._local is None:
                return None
            if op.in_outage == "refuse":
                raise BackendUnavailable(f"the store cannot be reached, and {type(op).__name__} needs it")
            if op.in_outage == "serve":
                return (self._local.execute(op),)
            self.journal.check_room()
            result = self._local.execute(op)
            self.journal.append(op)
            if op is self._probe:
                self._probe = None
            return (result,)

    def retain(self, user: object) -> None:
        """Count a user, until it lets go or is no more."""
        with self._lock:
            self._users.add(user)

    def let_go(self, user: object) -> Generator[Step, Any, None]:
        """Replay what waits, where the store can be reached. The last user says what is left, and closes the journal
        until there is another.
        """
        with self._lock:
            self._users.discard(user)
        yield from self._replay() if self._users else self._end()

    def end_with_process(self) -> None:
        """Replay what waits, for the process is about to end."""
        if (replayer := self._replayer) is not None:
            drive(self._end(), functools.partial(take, replayer))

    def _end(self) -> Generator[Step, Any, None]:
        self._stop.set()
        yield from self._replay()
        with self._lock:
            if self.journal:
                logger.warning("%d operations wait for the store %s", len(self.journal), self.journal.kept())
            self.journal.close()
            self._local = self._probe = None
            self._opened = self.is_over = self.is_replaying = False

    def _begin(self, make_replayer: Callable[[], Backend]) -> None:
        self._since = self._clock()
        self._replayed = 0
        self._local = self._stand_in()
        self._stop = threading.Event()
        self._replayer = make_replayer()
        threading.Thread(
            target=self._run, args=(self._replayer, self._stop), name="memstore-replay", daemon=True
        ).start()

    def _stand_in(self) -> LocalBackend:
        """Make what serves operations: what is known of the store, and what waits for it."""
        local = LocalBackend(clock=self._clock)
        local.adopt(self.known.sessions())
        for op in self.journal:
            local.execute(op)
        return local

    def _run(self, replayer: Backend, stop: threading.Event) -> None:
        try:
            while not self.is_over and not stop.wait(self._breaker.left()):
                drive(self._replay(), functools.partial(take, replayer))
        finally:
            replayer.close()
            if self._replayer is replayer:
                self._replayer = None

    def _replay(self) -> Generator[Step, Any, None]:
        """Replay what waits, one operation after the other, until nothing does or the store cannot be reached."""
        while not self._turn.acquire(blocking=False):
            yield PAUSE
        try:
            while (op := self._next()) is not None:
                try:
                    result = yield op
                except BackendClosed:
                    return
                except _LATER as error:
                    self._fail(error)
                    return
                except BackendError as error:
                    logger.error("an operation that waited, %s, is refused and dropped: %s", type(op).__name__, error)
                else:
                    self.known.note(op, result)
                self._pass(op)
        finally:
            self._turn.release()

    def _next(self) -> Op[Any] | None:
        with self._lock:
            op = None if self.is_over else self.journal.head() or self._probe
            if op is None and self._local is not None:
                seconds = self._clock() - self._since
                logger.info("the store is back after %.1f s; %d operations were replayed", seconds, self._replayed)
                self._breaker.close()
                self._local = None
                self.is_over, self.is_replaying = True, False
            return op

    def _pass(self, op: Op[Any]) -> None:
        """Note that an operation was done that waited."""
        with self._lock:
            self.is_replaying = True
            if op is self._probe:
                self._probe = None
            else:
                self._replayed += 1
                self.journal.done()

    def _fail(self, error: BackendError) -> None:
        with self._lock:
            self._go_down(error)

    def _go_down(self, error: BackendError) -> None:
        self._breaker.open()
        if self.is_replaying:  # some operations went to the store since, which the stand-in has not seen
            self.is_replaying = False
            self._local = self._stand_in()
        logger.debug("the store is still out of reach: %s", error)


def _after_fork() -> None:
    for outage in _outages:
        outage.journal.close()
        outage.forget()


def _at_exit() -> None:
    for outage in list(_outages):
        outage.end_with_process()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
