"""An outage: what the stores of one Redis share while it, or a node of it, cannot be reached."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from enum import Enum
from typing import Any

from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.outage.breaker import CircuitBreaker
from langchain_memstore.backends.outage.journal import Journal
from langchain_memstore.backends.outage.replay import PAUSE, Replay
from langchain_memstore.backends.outage.session_mirror import SessionMirror
from langchain_memstore.backends.outage.threads import RETRY_THREADS
from langchain_memstore.backends.steps import Steps, run_steps
from langchain_memstore.errors import BackendError, BackendUnavailable
from langchain_memstore.keys import SessionKeys
from langchain_memstore.models import Status
from langchain_memstore.ops.base import Op, R
from langchain_memstore.ops.stand_in import StandInValues
from langchain_memstore.ops.state import LocalState
from langchain_memstore.options import LayerPolicy

logger = logging.getLogger(__name__)

MOST_AT_EXIT = 10.0  # seconds after which a process that ends tries no further store

_controllers: weakref.WeakSet[OutageController] = weakref.WeakSet()


class State(Enum):
    """The states of an outage; docs/architecture.md says what leads from one to the next."""

    CLOSED = "closed"
    """Nobody uses the store, and the journal is not open."""
    HEALTHY = "healthy"
    """The store can be reached, and nothing waits for it."""
    DEGRADED = "degraded"
    """The store, or a node of it, cannot be reached; the process stands in for it."""
    REPLAYING = "replaying"
    """The store can be reached, and operations wait for it."""


class Admission(Enum):
    """What becomes of an operation."""

    STORE = "store"
    """It goes to the store."""
    WAIT = "wait"
    """It waits a moment: what is before it in the journal is being replayed."""
    PROCESS = "process"
    """It is served inside the process."""


class OutageController:
    """Stands in for a store while it cannot be reached, and replays to it what was done meanwhile.

    The store may have several nodes. While one of them is away, operations on the others go to the store.

    Threads that all controllers of the process share try the store again, more and more seldom, and replay the journal
    when it is back, so that no caller pays for it.

    Args:
        make_journal: Makes the journal.
        clock: Tells the time, in seconds since 1970.
        make_breaker: Makes what tells when to try a node again.
        mirror_bytes: About how many bytes of the windows of recently used sessions to keep for an outage.
        locate: Tells which nodes have the keys of an operation, as far as that is known.
    """

    def __init__(
        self,
        make_journal: Callable[[], Journal],
        *,
        clock: Callable[[], float] = time.time,
        make_breaker: Callable[[], CircuitBreaker] = CircuitBreaker,
        mirror_bytes: int = LayerPolicy().mirror_bytes,
        locate: Callable[[Op[Any]], tuple[Hashable, ...]] = lambda op: (None,),
    ) -> None:
        self._make_journal = make_journal
        self._clock = clock
        self._make_breaker = make_breaker
        self._locate = locate
        self._users: weakref.WeakSet[object] = weakref.WeakSet()
        self.mirror = SessionMirror(mirror_bytes, clock)
        self._start()
        _controllers.add(self)

    def _start(self) -> None:
        self.journal = self._make_journal()
        self.state = State.CLOSED
        self._lock = threading.Lock()
        self._replay = Replay(
            self.journal, self.mirror, self._clock, self._make_breaker, self._locate, self._lock, self._settle
        )
        self._replayer: Backend | None = None
        """The backend through which the threads replay."""
        self._since: float | None = None
        """Since when there is an outage; None: there is none."""
        self._cause: str | None = None
        """Why."""

    def forget(self) -> None:
        """Start afresh, as a fork has to: what waits is its parent's to replay."""
        self.journal.close()
        self.mirror.forget()
        self._start()

    def status(self, healthy: Status) -> Status:
        """Tell how the store does; looking does no I/O.

        Args:
            healthy: How the backend does.
        """
        if self.state in (State.CLOSED, State.HEALTHY):
            return replace(healthy, rejected=self._replay.rejected)
        since = self._since
        return replace(
            healthy,
            backend=healthy.backend if since is None else "local",
            degraded=since is not None,
            pending=len(self.journal),
            parked=self._replay.parked,
            rejected=self._replay.rejected,
            since=None if since is None else datetime.fromtimestamp(since, timezone.utc),
            cause=self._cause,
        )

    def admit(self, op: Op[Any], make_replayer: Callable[[], Backend]) -> Admission:
        """Tell what becomes of an operation.

        Args:
            op: The operation.
            make_replayer: Makes the backend through which to replay what an earlier process has left.

        Raises:
            BackendError: The journal cannot be used.
        """
        with self._lock:
            if self.state is State.CLOSED:
                self.journal.open()
                if self.journal:
                    self._since, self._cause = self._clock(), "an earlier process has left operations that wait"
                    self.state = State.REPLAYING
                    self._bridge(make_replayer)
                else:
                    self.state = State.HEALTHY  # which others see at once
            if self.state is State.HEALTHY:
                return Admission.STORE
            if self._replay.absences_of(op):
                return Admission.PROCESS
            if not self.journal.waits(op.targets):
                return Admission.STORE
            is_stuck = not self._replay.stuck.isdisjoint(op.targets)
            return Admission.PROCESS if is_stuck else Admission.WAIT

    def begin(self, op: Op[Any], error: BackendUnavailable, make_replayer: Callable[[], Backend]) -> None:
        """Note that the store, or a node of it, could not be reached.

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
            if self.state is State.CLOSED or error.scope == "operation":
                return
            is_new = error.node not in self._replay.absences
            self._replay.note_absence(op, error)
            self._cause = str(error)
            if self._since is None:
                self._since, self._replay.has_done = self._clock(), False
            if is_new:
                self.state = State.DEGRADED
                self._bridge(make_replayer)
                logger.warning(
                    "the store is out of reach; conversations go on in this process until it is back: %s", str(error)
                )

    def apply_late(self, op: Op[Any]) -> None:
        """Do to the stand-in what the store has done, where an outage has begun meanwhile."""
        if op.in_outage == "journal" and op.mirror in ("append", "write"):
            with self._lock:
                if self._replay.stand_in is not None:
                    self._replay.stand_in.execute(op.run)  # once: what stands in knows the last ids

    def serve(
        self, op: Op[R], error: BackendUnavailable | None, make_replayer: Callable[[], Backend]
    ) -> tuple[R] | None:
        """Execute an operation inside the process; None where the outage has ended just now.

        Args:
            op: The operation.
            error: What happened when it was sent to the store; None: it was not sent.
            make_replayer: Makes the backend through which a thread is to replay.

        Raises:
            BackendUnavailable: Nothing can stand in for the store, or the journal takes no more.
            BackendError: The operation is refused.
        """
        with self._lock:
            if self._replay.stand_in is None and error is not None and error.scope == "operation":
                self._bridge(make_replayer)
            if (stand_in := self._replay.stand_in) is None:
                return None
            if op.in_outage == "refuse":
                raise BackendUnavailable(f"the store cannot be reached, and {type(op).__name__} needs it")
            if None not in self._replay.absences and not self.journal.waits(op.targets):
                self._refresh(stand_in, op)
            if op.in_outage == "serve":
                if len(self._locate(op)) > 1:
                    raise BackendUnavailable(f"{type(op).__name__} needs all nodes of the store: {self._cause}")
                return (stand_in.execute(op.run),)
            self.journal.check_room()
            now = stand_in.now()
            waiting = self.journal.append(op, now, None if error is None else now)
            try:
                result = stand_in.execute(op.run, now)
            except BackendError:
                self.journal.remove(waiting)
                raise
            if not self._replay.stuck.isdisjoint(op.targets):
                self._replay.parked += 1
            if self.state is not State.DEGRADED:
                self._settle()
                RETRY_THREADS.add(self, PAUSE.seconds)
            return (result,)

    def retain(self, user: object) -> None:
        """Count a user, until it lets go or is no more."""
        with self._lock:
            self._users.add(user)

    def release(self, user: object, store: Backend) -> Steps[None]:
        """Replay what waits, where the store can be reached. The last user says what is left, and closes the journal
        until there is another.
        """
        with self._lock:
            self._users.discard(user)
        yield from self._replay.run(store, is_last=True)
        if not self._users:
            self._end()

    def try_again(self) -> float | None:
        """Replay what waits, where the store can be reached.

        Returns:
            In how many seconds to try again; None: it is over.
        """
        if (replayer := self._replayer) is not None:
            run_steps(self._replay.run(replayer))
            with self._lock:
                self._settle()
                if self.state in (State.DEGRADED, State.REPLAYING) and (self._users or self.journal):
                    return self._replay.remaining()
                self._replayer = None
            replayer.close()
            if self.state is State.DEGRADED:  # and nobody is there any more
                self._end()
        return None

    def end_with_process(self, until: float) -> None:
        """Replay what waits, for the process is about to end.

        Args:
            until: The time, by the monotonic clock, after which it is in vain.
        """
        if (replayer := self._replayer) is not None:
            if time.monotonic() < until:
                run_steps(self._replay.run(replayer, is_last=True))
            self._end()

    def _end(self) -> None:
        RETRY_THREADS.discard(self)
        with self._lock:
            if self.journal:
                logger.warning("%d operations wait for the store %s", len(self.journal), self.journal.kept())
            self.journal.close()
            replayer, self._replayer = self._replayer, None
            self._replay.stand_in = self._since = self._cause = None
            self._replay.absences.clear()
            self.state = State.CLOSED
        if replayer is not None:
            replayer.close()

    def _settle(self) -> None:
        """Pass to the state that follows of what is away, and of what waits; the lock is held."""
        replay, waits = self._replay, len(self.journal)
        if self.state is State.CLOSED:
            return
        if replay.absences:
            self.state = State.DEGRADED
        elif waits:
            self.state = State.REPLAYING
        else:
            self.state = State.HEALTHY
            self._replay.stand_in = None
        if self._since is not None and not replay.absences and waits == replay.parked:
            seconds = self._clock() - self._since
            logger.info("the store is back after %.1f s; %d operations were replayed", seconds, replay.replayed)
            self._since = self._cause = None
            replay.replayed = 0

    def _bridge(self, make_replayer: Callable[[], Backend]) -> None:
        """Stand in for the store, and have the threads replay to it; the lock is held."""
        self._replay.stand_in = self._make_stand_in()
        if self._replayer is None:
            self._replayer = make_replayer()
        RETRY_THREADS.add(self, self._replay.remaining())

    def _refresh(self, stand_in: LocalState, op: Op[Any]) -> None:
        """Have the stand-in know what the process has learned of a session from a node that is not away."""
        for target in op.targets:
            if isinstance(target, SessionKeys) and (session := self.mirror.session(target)) is not None:
                stand_in.sessions.keep(target, session)

    def _make_stand_in(self) -> LocalState:
        """Make what operations run on: what is known of the store, and what waits for it."""
        stand_in = LocalState(self._clock, values=StandInValues())
        for keys, session in self.mirror.sessions():
            stand_in.sessions.keep(keys, session)
        for waiting in self.journal:
            with suppress(BackendError):  # which the store will tell at the replay
                stand_in.execute(waiting.op.run, waiting.since)
        return stand_in


def _after_fork() -> None:
    for controller in _controllers:
        controller.forget()


def _at_exit() -> None:
    until = time.monotonic() + MOST_AT_EXIT
    for controller in list(_controllers):
        controller.end_with_process(until)


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
