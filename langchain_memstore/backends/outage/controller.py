"""An outage: what the stores of one Redis share while it cannot be reached."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from enum import Enum
from typing import Any

from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.outage.breaker import CircuitBreaker
from langchain_memstore.backends.outage.journal import Journal
from langchain_memstore.backends.outage.session_mirror import SessionMirror
from langchain_memstore.backends.steps import ExecuteOp, Pause, Steps, run_steps
from langchain_memstore.errors import BackendClosed, BackendDenied, BackendError, BackendFull, BackendUnavailable
from langchain_memstore.ops.base import Op, R
from langchain_memstore.ops.server import Ask
from langchain_memstore.ops.stand_in import StandInValues
from langchain_memstore.ops.state import LocalState
from langchain_memstore.ops.write_ids import DAY
from langchain_memstore.options import LayerPolicy

logger = logging.getLogger(__name__)

PING = Ask(("PING",))
PAUSE = Pause(0.005)  # between two looks at how far a replay has come

_LATER = (BackendUnavailable, BackendFull, BackendDenied)  # what the next attempt may not meet any more

_controllers: weakref.WeakSet[OutageController] = weakref.WeakSet()


class State(Enum):
    """The states of an outage; docs/architecture.md says what leads from one to the next."""

    CLOSED = "closed"
    """Nobody uses the store, and the journal is not open."""
    HEALTHY = "healthy"
    """The store can be reached, and nothing waits for it."""
    DEGRADED = "degraded"
    """The store cannot be reached; the process stands in for it."""
    REPLAYING = "replaying"
    """The store can be reached again, and the journal is being replayed."""


class OutageController:
    """Stands in for a store while it cannot be reached, and replays to it what was done meanwhile.

    A thread tries the store again, more and more seldom, and replays the journal in order when it is back, so that no
    caller pays for it. What the store refuses for good is logged and dropped.

    Args:
        make_journal: Makes the journal.
        clock: Tells the time, in seconds since 1970.
        breaker: Tells when to try the store again.
        mirror_bytes: About how many bytes of the windows of recently used sessions to keep for an outage.
    """

    def __init__(
        self,
        make_journal: Callable[[], Journal],
        *,
        clock: Callable[[], float] = time.time,
        breaker: CircuitBreaker | None = None,
        mirror_bytes: int = LayerPolicy().mirror_bytes,
    ) -> None:
        self._make_journal = make_journal
        self._clock = clock
        self._breaker = breaker or CircuitBreaker()
        self._users: weakref.WeakSet[object] = weakref.WeakSet()
        self.mirror = SessionMirror(mirror_bytes, clock)
        self.journal = make_journal()
        self.state = State.CLOSED
        self._lock = threading.Lock()
        self._replay_lock = threading.Lock()
        self._stop = threading.Event()
        """Has the thread that replays end."""
        self._replayer: Backend | None = None
        self._stand_in: LocalState | None = None
        """What operations run on while the state is DEGRADED or REPLAYING."""
        self._probe: Op[Any] | None = None
        """The operation that met the outage, to try the store with while nothing waits."""
        self._since = 0.0
        self._replayed = 0
        _controllers.add(self)

    def forget(self) -> None:
        """Start afresh, as a fork has to: what waits is its parent's to replay."""
        self.journal.close()
        self.journal = self._make_journal()
        self.mirror.forget()
        self.state = State.CLOSED
        self._lock, self._replay_lock, self._stop = threading.Lock(), threading.Lock(), threading.Event()
        self._replayer = self._stand_in = self._probe = None

    @property
    def since(self) -> datetime | None:
        """Since when the store cannot be reached, or something waits for it; None: neither is so."""
        is_outage = self.state in (State.DEGRADED, State.REPLAYING)
        return datetime.fromtimestamp(self._since, timezone.utc) if is_outage else None

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
            if self.state is State.CLOSED:
                self.journal.open()
                if self.journal:
                    self._begin(State.REPLAYING, make_replayer)
                else:
                    self.state = State.HEALTHY  # which others see at once
            if self.state is State.REPLAYING:
                return not self.journal.waits(op.targets)
            return self.state is State.HEALTHY

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
            if self.state is State.HEALTHY:
                self._breaker.open()
                self._probe = PING if op.writes else op  # what its caller is told was not done, is not done later
                self._begin(State.DEGRADED, make_replayer)
                logger.warning(
                    "the store is out of reach; conversations go on in this process until it is back: %s", str(error)
                )
            elif self.state is State.REPLAYING:
                self._go_down(error)

    def apply_late(self, op: Op[Any]) -> None:
        """Do to the stand-in what the store has done, where an outage has begun meanwhile."""
        if op.in_outage == "journal" and op.mirror in ("append", "write"):
            with self._lock:
                if self.state is State.DEGRADED and self._stand_in is not None:
                    self._stand_in.execute(op.run)  # once: what stands in knows the last ids

    def serve(self, op: Op[R], was_sent: bool) -> tuple[R] | None:
        """Execute an operation inside the process; None where the outage has ended just now.

        Args:
            op: The operation.
            was_sent: Whether it was sent to the store, and the reply did not come.

        Raises:
            BackendUnavailable: Nothing can stand in for the store, or the journal takes no more.
            BackendError: The operation is refused.
        """
        with self._lock:
            if (stand_in := self._stand_in) is None:
                return None
            if op.in_outage == "refuse":
                raise BackendUnavailable(f"the store cannot be reached, and {type(op).__name__} needs it")
            if op.in_outage == "serve":
                return (stand_in.execute(op.run),)
            self.journal.check_room()
            result = stand_in.execute(op.run)
            self.journal.append(op, int(self._clock() * 1000) if was_sent else None)
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
        yield from self._replay(store) if self._users else self._end(store)

    def end_with_process(self) -> None:
        """Replay what waits, for the process is about to end."""
        if (replayer := self._replayer) is not None:
            run_steps(self._end(replayer))

    def _end(self, store: Backend) -> Steps[None]:
        yield from self._replay(store)
        self._stop.set()  # only now: the thread then closes its backend, which may be this one
        with self._lock:
            if self.journal:
                logger.warning("%d operations wait for the store %s", len(self.journal), self.journal.kept())
            self.journal.close()
            self._stand_in = self._probe = None
            self.state = State.CLOSED

    def _begin(self, state: State, make_replayer: Callable[[], Backend]) -> None:
        self._since = self._clock()
        self._replayed = 0
        self._stand_in = self._make_stand_in()
        self.state = state
        self._stop = threading.Event()
        self._replayer = make_replayer()
        threading.Thread(
            target=self._run, args=(self._replayer, self._stop), name="memstore-replay", daemon=True
        ).start()

    def _make_stand_in(self) -> LocalState:
        """Make what operations run on: what is known of the store, and what waits for it."""
        stand_in = LocalState(self._clock, values=StandInValues())
        for keys, session in self.mirror.sessions():
            stand_in.sessions.keep(keys, session)
        for op in self.journal:
            with suppress(BackendError):  # which the store will tell at the replay
                stand_in.execute(op.run)
        return stand_in

    def _run(self, replayer: Backend, stop: threading.Event) -> None:
        try:
            while self.state is not State.HEALTHY and not stop.wait(self._breaker.remaining()):
                run_steps(self._replay(replayer))
        finally:
            replayer.close()
            if self._replayer is replayer:
                self._replayer = None

    def _replay(self, store: Backend) -> Steps[None]:
        """Replay what waits, one operation after the other, until nothing does or the store cannot be reached."""
        while not self._replay_lock.acquire(blocking=False):
            yield PAUSE
        try:
            is_back = False
            while (op := self._next()) is not None:
                try:
                    if not is_back and op is not self._probe:
                        yield ExecuteOp(store, PING)  # what waits counts as sent only where somebody may hear it
                        is_back = True
                    if op is self._probe or not self._is_too_late(op):
                        sent = op.at_replay(0, self._stand_in or LocalState(self._clock))
                        self.mirror.record(sent, (yield ExecuteOp(store, sent)))
                except BackendClosed:
                    return
                except _LATER as error:
                    with self._lock:
                        self._go_down(error)
                    return
                except BackendError as error:
                    logger.error("an operation that waited, %s, is refused and dropped: %s", type(op).__name__, error)
                self._pass(op)
        finally:
            self._replay_lock.release()

    def _is_too_late(self, op: Op[Any]) -> bool:
        """Note that the journal's first operation is sent now, or say why it is not: the store knows a write that is
        sent again for a day.
        """
        now = int(self._clock() * 1000)
        with self._lock:
            if self.journal.head() is not op or now - self.journal.send(now) <= DAY:
                return False
        logger.error(
            "an operation that waited, %s, may have been done over a day ago, and is dropped; look at %s",
            type(op).__name__,
            op.subject,
        )
        return True

    def _next(self) -> Op[Any] | None:
        with self._lock:
            op = None if self.state is State.HEALTHY else self.journal.head() or self._probe
            if op is None and self._stand_in is not None:
                seconds = self._clock() - self._since
                logger.info("the store is back after %.1f s; %d operations were replayed", seconds, self._replayed)
                self._breaker.close()
                self._stand_in = None
                self.state = State.HEALTHY
            return op

    def _pass(self, op: Op[Any]) -> None:
        """Note that an operation was done that waited."""
        with self._lock:
            if self.state is State.DEGRADED:
                self.state = State.REPLAYING
            if op is self._probe:
                self._probe = None
            else:
                self._replayed += 1
                self.journal.done()
                if self._stand_in is not None:
                    self._stand_in.values.forget(target for target in op.targets if not self.journal.waits((target,)))

    def _go_down(self, error: BackendError) -> None:
        self._breaker.open()
        if self.state is State.REPLAYING:  # some operations went to the store since, which the stand-in has not seen
            self.state = State.DEGRADED
            self._stand_in = self._make_stand_in()
        logger.debug("the store is still out of reach: %s", error)


def _after_fork() -> None:
    for controller in _controllers:
        controller.forget()


def _at_exit() -> None:
    for controller in list(_controllers):
        controller.end_with_process()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
