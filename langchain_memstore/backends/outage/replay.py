"""How what waits for a store is replayed to it, one operation after the other."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.outage.breaker import LONGEST_PAUSE, CircuitBreaker, pause_after
from langchain_memstore.backends.outage.journal import Journal, Sync, Waiting
from langchain_memstore.backends.outage.session_mirror import SessionMirror
from langchain_memstore.backends.steps import ExecuteOp, Pause, Steps
from langchain_memstore.errors import BackendClosed, BackendDenied, BackendError, BackendUnavailable
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.server import Ask
from langchain_memstore.ops.state import LocalState
from langchain_memstore.ops.write_ids import DAY

logger = logging.getLogger(__name__)

PAUSE = Pause(0.005)  # between two looks at how far a replay has come
PARKED = 60.0  # seconds after which an operation is tried again that was refused while others were not


class Outcome(Enum):
    """What becomes of an operation that waits."""

    DONE = "done"
    """It does not wait any more."""
    AWAY = "away"
    """It waits for a node that is away."""
    REFUSED = "refused"
    """It waits until the store refuses it no more."""


@dataclass(eq=False)
class Absence:
    """A node that cannot be reached."""

    breaker: CircuitBreaker
    """Tells when to try it again."""
    cause: str
    """What happened."""
    met_by: Op[Any]
    """The operation that has met it, to try the node with while nothing waits for it."""


class Replay:
    """What waits for a store, and for which of its nodes; replays it when they are back.

    The order of all operations is kept, but for those that cannot be done now: one whose node is away, one that the
    store refuses, and those behind it that share a target with it. What is refused for good is logged and dropped.
    What is refused for now is parked, and tried again every minute, for a day; as long as nothing else was done either
    in this outage, it is tried again like all others.

    Args:
        journal: What waits.
        mirror: Is told of what was done.
        clock: Tells the time, in seconds since 1970.
        make_breaker: Makes what tells when to try a node again.
        locate: Tells which nodes have the keys of an operation.
        lock: Guards the journal and the absences.
        settle: Is called, with the lock held, when something has changed.
    """

    def __init__(
        self,
        journal: Journal,
        mirror: SessionMirror,
        clock: Callable[[], float],
        make_breaker: Callable[[], CircuitBreaker],
        locate: Callable[[Op[Any]], tuple[Hashable, ...]],
        lock: threading.Lock,
        settle: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._mirror = mirror
        self._clock = clock
        self._make_breaker = make_breaker
        self._locate = locate
        self._lock = lock
        self._settle = settle
        self._running = threading.Lock()
        self._is_last = self._disk_fails = False
        self._reached: dict[Absence, bool] = {}
        """Which of the nodes that were away this run has reached, and which it has not."""
        self.stand_in: LocalState | None = None
        """What operations run on that do not go to the store; None: all do."""
        self.absences: dict[Hashable, Absence] = {}
        """The nodes that are away; None: all of them."""
        self.has_done = False
        """Whether the store has done anything in this outage."""
        self.replayed = 0
        """How many operations were replayed in this outage."""
        self.rejected = 0
        """How many operations were dropped since the beginning, for the store will never do them."""
        self.parked = 0
        """How many operations wait that are refused for now, or behind one that is."""
        self.stuck: set[Hashable] = set()
        """The targets of operations that are refused for now."""

    def absences_of(self, op: Op[Any]) -> list[Absence]:
        """Return which of the nodes of an operation are away."""
        absences = self.absences
        return [absences[node] for node in (None, *self._locate(op)) if node in absences] if absences else []

    def note_absence(self, op: Op[Any], error: BackendError) -> Absence:
        """Note that a node could not be reached; the lock is held.

        Args:
            op: What was to be done.
            error: What happened.
        """
        if (absence := self.absences.get(error.node)) is None:
            absence = self.absences[error.node] = Absence(self._make_breaker(), str(error), op)
        absence.cause = str(error)
        absence.breaker.open()
        return absence

    def remaining(self) -> float:
        """Return in how many seconds there is something to try again; the lock is held."""
        now = time.monotonic()
        pauses = [absence.breaker.remaining() for absence in self.absences.values()]
        pauses += [waiting.retry_at - now for waiting in self._journal if waiting.retry_at > now]
        return max(PAUSE.seconds, min(pauses, default=0.0))

    def run(self, store: Backend, is_last: bool = False) -> Steps[None]:
        """Replay what can be replayed now.

        Args:
            store: The backend to replay to.
            is_last: Whether to try everything, also what is to be tried again later.
        """
        while not self._running.acquire(blocking=False):
            yield PAUSE
        try:
            self._is_last, self._disk_fails, self._reached = is_last, False, {}
            yield from self._replay_all(store)
            yield from self._probe_all(store)
        except BackendClosed:
            return
        finally:
            self._running.release()

    def _replay_all(self, store: Backend) -> Steps[None]:
        blocked: set[Hashable] = set()
        stuck: set[Hashable] = set()
        parked = 0
        for waiting in self._in_order():
            if not blocked.isdisjoint(waiting.op.targets):
                outcome = Outcome.REFUSED if not stuck.isdisjoint(waiting.op.targets) else Outcome.AWAY
            else:
                outcome = yield from self._replay(store, waiting)
            if outcome is not Outcome.DONE:
                blocked.update(waiting.op.targets)
            if outcome is Outcome.REFUSED:
                stuck.update(waiting.op.targets)
                parked += 1
        with self._lock:
            parked = parked if self.has_done else 0
            if parked > self.parked:
                logger.warning("%d operations that wait are refused, and are tried again every minute", parked)
            self.parked, self.stuck = parked, stuck
            self._settle()

    def _in_order(self) -> Iterator[Waiting]:
        last = -1
        while later := self._after(last):
            yield from later
            last = later[-1].number

    def _after(self, number: int) -> list[Waiting]:
        with self._lock:
            return [waiting for waiting in self._journal if waiting.number > number]

    def _replay(self, store: Backend, waiting: Waiting) -> Steps[Outcome]:
        """Replay an operation, where its nodes are there and it is not to be tried later."""
        if waiting.retry_at > time.monotonic() and not self._is_last:
            return Outcome.REFUSED if waiting.refusals else Outcome.AWAY
        absences = self.absences_of(waiting.op)
        for absence in absences:
            if not (yield from self._reach(store, absence, _asking(waiting.op))):
                return Outcome.AWAY
        outcome = yield from self._do(store, waiting)
        if outcome is not Outcome.AWAY:
            self._note_return(absences)
        return outcome

    def _reach(self, store: Backend, absence: Absence, op: Op[Any]) -> Steps[bool]:
        """Tell whether a node that was away answers an operation that has its keys there."""
        if absence not in self._reached:
            self._reached[absence] = False
            if absence.breaker.remaining() <= 0 or self._is_last:
                try:
                    yield ExecuteOp(store, op)
                except BackendClosed:
                    raise
                except BackendError as error:
                    if error.scope == "node":
                        self._note_failure(op, error, absence)
                        return False
                self._reached[absence] = True
        return self._reached[absence]

    def _do(self, store: Backend, waiting: Waiting) -> Steps[Outcome]:
        op, now = waiting.op, int(self._clock() * 1000)
        if waiting.sent is not None and now - waiting.sent > DAY:
            return (yield from self._reject(waiting, "it may have been done over a day ago"))
        with self._lock, self._logging_disk():
            self._journal.mark_sent(waiting, now)
        yield from self._sync()
        try:
            sent = op.at_replay(now - waiting.since, self.stand_in or LocalState(self._clock))
            result = yield ExecuteOp(store, sent)
        except BackendClosed:
            raise
        except BackendError as error:
            if error.scope == "node":
                self._note_failure(op, error)
                return Outcome.AWAY
            if isinstance(error, BackendUnavailable):
                waiting.retry_at = time.monotonic() + LONGEST_PAUSE
                return Outcome.AWAY
            if isinstance(error, BackendDenied):
                return self._refuse(waiting)
            return (yield from self._reject(waiting, str(error)))
        except Exception as error:  # a bug of ours; its text may quote what is stored
            logger.error("an operation that waits, %s, fails: %s", type(op).__name__, type(error).__name__)
            return self._refuse(waiting)
        self._mirror.record(sent, result)
        with self._lock:
            self.has_done = True
            self.replayed += 1
            with self._logging_disk():
                self._journal.remove(waiting)
            if self.stand_in is not None:
                self.stand_in.values.forget(target for target in op.targets if not self._journal.waits((target,)))
        yield from self._sync()
        return Outcome.DONE

    def _refuse(self, waiting: Waiting) -> Outcome:
        """Note that an operation is refused for now."""
        waiting.refusals += 1
        waiting.retry_at = time.monotonic() + (PARKED if self.has_done else pause_after(waiting.refusals, 0))
        return Outcome.REFUSED

    def _reject(self, waiting: Waiting, reason: str) -> Steps[Outcome]:
        """Drop an operation that the store will never do."""
        op, kept = waiting.op, ""
        with self._lock, self._logging_disk():
            self.rejected += 1
            kept = self._journal.reject(waiting)
        name, subject = type(op).__name__, op.subject or "the store"
        logger.error("an operation that waited, %s, is dropped%s: %s; look at %s", name, kept, reason, subject)
        yield from self._sync()
        return Outcome.DONE

    def _probe_all(self, store: Backend) -> Steps[None]:
        """Try the nodes for which nothing waits by the operations that have met their absence."""
        with self._lock:
            absences = [absence for absence in self.absences.values() if absence not in self._reached]
        for absence in absences:
            op = absence.met_by
            probe = _asking(op) if op.writes else op  # what its caller was told was not done is not done later
            if (yield from self._reach(store, absence, probe)):
                self._note_return([absence])

    def _note_failure(self, op: Op[Any], error: BackendError, met: Absence | None = None) -> None:
        logger.debug("still out of reach: %s", error)
        with self._lock:
            absence = self.note_absence(op, error)
            self._reached[absence] = False
            if met is not None and met is not absence:  # another node has its slots now, and is away as well
                met.breaker.open()
            self._settle()

    def _note_return(self, absences: list[Absence]) -> None:
        with self._lock:
            for node, absence in list(self.absences.items()):
                if absence in absences:
                    absence.breaker.close()
                    del self.absences[node]
            self._settle()

    def _sync(self) -> Steps[None]:
        """Sync the journal, where that is due, without the lock: the disk may take its time."""
        if self._journal.needs_sync():
            try:
                yield Sync(self._journal)
            except BackendUnavailable as error:
                self._log_disk(error)

    @contextmanager
    def _logging_disk(self) -> Iterator[None]:
        """Log what the disk does not take: what waits is replayed all the same, and frees it."""
        try:
            yield
        except BackendUnavailable as error:
            self._log_disk(error)

    def _log_disk(self, error: BackendUnavailable) -> None:
        if not self._disk_fails:  # once in each run
            self._disk_fails = True
            logger.error("%s; what waits is replayed all the same", error)


def _asking(op: Op[Any]) -> Op[Any]:
    """Return an operation that asks the node of another for nothing in particular."""
    return Ask(("EXISTS", op.first_key))
