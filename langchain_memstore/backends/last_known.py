"""What the process last knew of the sessions that it used recently: for an outage, and for the near cache."""

from __future__ import annotations

import functools
import itertools
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.moving import Restore
from langchain_memstore.ops.reading import Read, SessionData, Window
from langchain_memstore.ops.session import Append, Clear, SessionOp, SessionScript
from langchain_memstore.ops.sessions import Session

MOST_WRITES = 64  # how many writes to keep beside a read before they are done to it
ENTRY = 60  # bytes that an entry, or an operation, takes beside its text
DECODED = 800  # bytes that a message takes beside its text
RECENT = 16  # ids of writes to remember of a session
TOGETHER = 16  # how many operations to take in at a time: it is quicker together
SAMPLE = 8  # how many entries to measure


class _Known:
    """A session: its last read, and the writes that followed.

    Args:
        keys: The session.
    """

    __slots__ = ("at", "data", "keys", "recent", "size", "writes")

    def __init__(self, keys: SessionKeys) -> None:
        self.keys = keys
        self.data: SessionData | None = None
        """What the read returned; None: there was none."""
        self.at = 0
        """When it was, in milliseconds."""
        self.size = 0
        """About how many bytes all takes."""
        self.writes: list[SessionOp[Any]] = []
        self.recent: list[str] = []
        """The ids of the last writes before the read, which has them."""

    def take(self, data: SessionData, now: int) -> None:
        """Take in a read, which has what was written before."""
        if self.writes:
            self.recent = [*self.recent, *(op.batch for op in self.writes if isinstance(op, SessionScript))][-RECENT:]
            self.writes.clear()
        self.data = data
        self.at = now
        self.size = _size(data.entries)

    def session(self) -> Session:
        """Make the session of it."""
        session = Session(created=self.at, updated=self.at)
        if (data := self.data) is not None:
            session.epoch = data.epoch or "known"  # another package made it
            session.messages = data.entries.copy()
            session.summary, session.turns, session.total = data.summary, data.turns, data.total
            session.away, session.summarized, session.lost = data.evicted, data.summarized, data.lost
            session.expires = None if data.left is None else self.at + data.left
        for batch in self.recent:
            session.writers.add(batch)
        for joins, writes in itertools.groupby(self.writes.copy(), _joins):
            if joins and session.epoch:
                _follow_together(session, cast("Iterator[Append]", writes), self.at)
            else:
                for write in writes:
                    write.follow(session, self.at)
        return session


def _joins(op: SessionOp[Any]) -> tuple[Any, ...] | None:
    """Return what an append has in common with those that can be done with it at once; None: it cannot.

    Where whole turns are kept, a window that was cut when no turn had started yet is cut elsewhere once one has.
    """
    return (op.bounds, op.ttl) if isinstance(op, Append) and not op.bounds.whole_turns else None


def _follow_together(session: Session, appends: Iterator[Append], now: int) -> None:
    """Do appends as one: to bound the window once comes to the same, and is quicker."""
    new = {op.batch: op for op in appends if not session.writers.has(op.batch)}
    if new:
        *_, last = new.values()
        replace(last, entries=tuple(entry for op in new.values() for entry in op.entries)).follow(session, now)
        for batch in new:
            session.writers.add(batch)


class LastKnown:
    """Keeps the last read of each session and the writes that followed it, as they are, so that keeping costs little.

    Args:
        most: About how many bytes to keep; past that the sessions go that were used longest ago.
        clock: Tells the time, in seconds since 1970.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
        self.forget()

    def forget(self) -> None:
        """Forget all, as a fork has to."""
        self._size = 0
        self._sessions: OrderedDict[str, _Known] = OrderedDict()  # by a key: a text knows its hash
        self._noted: deque[tuple[Op[Any], Any, float]] = deque()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        self._take_in()
        return len(self._sessions)

    def note(self, op: Op[Any], result: Any) -> None:
        """Keep what an operation, which the store has done, tells of its session."""
        self._noted.append((op, result, self._clock()))

    def catch_up(self) -> None:
        """Take in what was noted, where that is much; to be called now and then, best while there is nothing to do."""
        if len(self._noted) >= TOGETHER:
            self._take_in()

    def _take_in(self) -> None:
        with self._lock:
            while self._noted:
                op, result, at = self._noted.popleft()
                if (how := _how(type(op))) is not None:
                    how(self, op, result, int(at * 1000))

    def last(self, keys: SessionKeys) -> tuple[SessionData, int] | None:
        """Return what the last read of a session returned, and how many entries this process has appended since."""
        self._take_in()
        with self._lock:
            known = self._sessions.get(keys.meta)
            if known is None or known.data is None:
                return None
            return known.data, sum(len(op.entries) for op in known.writes if isinstance(op, Append))

    def sessions(self) -> Iterator[tuple[SessionKeys, Session]]:
        """Make the sessions that are known, those first that were used longest ago."""
        self._take_in()
        with self._lock:
            known = list(self._sessions.values())
        return ((each.keys, each.session()) for each in known)

    def _note_read(self, op: Read, data: SessionData, now: int) -> None:
        if not op.window:
            return
        if not data.total and not any(data):
            self._forget(op, data, now)
            return
        known = self._use(op.keys)
        before = known.size
        known.take(data, now)
        self._grow(known.size - before)

    def _note_write(self, op: SessionOp[Any], result: Any, now: int) -> None:
        if result is False:  # a commit whose claim was void is nothing
            return
        size = ENTRY
        if isinstance(op, Append):
            known = self._use(op.keys)
            size += _size(op.entries)
        elif op.keys.meta in self._sessions:  # what is known by another write alone is no conversation
            known = self._use(op.keys)
        else:
            return
        known.at = known.at or now
        known.writes.append(op)
        known.size += size
        if len(known.writes) > MOST_WRITES:
            self._settle(known, now)
        self._grow(size)

    def _settle(self, known: _Known, now: int) -> None:
        """Do the writes to the read."""
        before = known.size
        known.take(Read(known.keys, None, refresh=False).apply(known.session(), now), now)
        self._size += known.size - before

    def _forget(self, op: SessionOp[Any], result: Any, now: int) -> None:
        if (known := self._sessions.pop(op.keys.meta, None)) is not None:
            self._size -= known.size

    def _use(self, keys: SessionKeys) -> _Known:
        """Return what is known of a session, which is used now."""
        meta, sessions = keys.meta, self._sessions
        if (known := sessions.get(meta)) is None:
            known = sessions[meta] = _Known(keys)
        else:
            sessions.move_to_end(meta)
        return known

    def _grow(self, size: int) -> None:
        self._size += size
        while self._size > self._most:
            _, gone = self._sessions.popitem(last=False)
            self._size -= gone.size


@functools.cache
def _how(kind: type[Op[Any]]) -> Callable[[LastKnown, Any, Any, int], None] | None:
    """Return how to take in what an operation of a kind tells; None: it tells nothing."""
    if issubclass(kind, Read):
        return LastKnown._note_read
    if issubclass(kind, (Clear, Restore)):
        return LastKnown._forget
    return LastKnown._note_write if issubclass(kind, SessionOp) else None


def _size(entries: Sequence[bytes]) -> int:
    """Return about how many bytes entries take: those of many are told from a few."""
    sample = entries if len(entries) <= SAMPLE else entries[:: len(entries) // SAMPLE]
    text = (sum(map(len, sample)) * len(entries)) // max(1, len(sample))
    return 2 * text + (ENTRY + DECODED) * len(entries) if isinstance(entries, Window) else text + ENTRY * len(entries)
