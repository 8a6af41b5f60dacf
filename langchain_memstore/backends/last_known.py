"""What the process last knew of the sessions that it used recently: for an outage, and for the near cache."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.moving import Restore
from langchain_memstore.ops.reading import Read, SessionData
from langchain_memstore.ops.session import Append, Clear, SessionOp, SessionScript
from langchain_memstore.ops.sessions import Session

MOST_WRITES = 32  # how many writes to keep beside a read before they are done to it
ENTRY = 60  # bytes that an entry, or an operation, takes beside its text
RECENT = 16  # ids of writes to remember of a session
TOGETHER = 16  # how many operations to take in at a time
SAMPLE = 8  # how many entries to measure


class _Known:
    """A session: its last read, and the writes that followed.

    Args:
        keys: The session.
        data: What the read returned; None: there was none.
        at: When it was, in milliseconds.
        size: About how many bytes it takes.
    """

    __slots__ = ("at", "data", "keys", "recent", "size", "writes")

    def __init__(self, keys: SessionKeys, data: SessionData | None, at: int, size: int) -> None:
        self.keys = keys
        self.data = data
        self.at = at
        self.size = size
        self.writes: list[SessionOp[Any]] = []
        self.recent: list[str] = []
        """The ids of the last writes before the read, which has them."""

    def ids(self) -> list[str]:
        """Return the ids of the last writes."""
        return [*self.recent, *(op.batch for op in self.writes if isinstance(op, SessionScript))][-RECENT:]

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
        for write in self.writes.copy():
            write.follow(session, self.at)
        return session


class LastKnown:
    """Keeps the last read of each session and the writes that followed it, as they are, so that keeping costs little.

    Args:
        most: About how many bytes to keep; past that the sessions go that were used longest ago.
        clock: Tells the time, in seconds since 1970.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
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
        if len(self._noted) >= TOGETHER:
            self._take_in()

    def _take_in(self) -> None:
        """Take in what was noted; it is quicker together."""
        with self._lock:
            while self._noted:
                op, result, at = self._noted.popleft()
                now = int(at * 1000)
                if isinstance(op, Read):
                    if op.window:
                        self._note_read(op.keys, result, now)
                elif isinstance(op, (Clear, Restore)):
                    self._forget(op.keys.meta)
                elif isinstance(op, SessionOp) and result is not False:  # a commit whose claim was void is nothing
                    self._note_write(op, now)

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

    def _note_read(self, keys: SessionKeys, data: SessionData, now: int) -> None:
        meta = keys.meta
        before = self._sessions.get(meta)
        self._forget(meta)
        if any(data):
            known = self._sessions[meta] = _Known(keys, data, now, _size(data.entries))
            known.recent = before.ids() if before is not None else []
            self._grow(known.size)

    def _note_write(self, op: SessionOp[Any], now: int) -> None:
        meta = op.keys.meta
        known = self._sessions.get(meta)
        if known is None:
            if not isinstance(op, Append):  # what is known by this write alone is no conversation
                return
            known = self._sessions[meta] = _Known(op.keys, None, now, 0)
        else:
            self._sessions.move_to_end(meta)
        known.writes.append(op)
        size = ENTRY + (_size(op.entries) if isinstance(op, Append) else 0)
        known.size += size
        self._grow(size)
        if len(known.writes) > MOST_WRITES and meta in self._sessions:
            self._settle(known, now)

    def _settle(self, known: _Known, now: int) -> None:
        """Do the writes to the read."""
        self._size -= known.size
        known.data = Read(known.keys, None, refresh=False).apply(known.session(), now)
        known.at, known.size = now, _size(known.data.entries)
        known.recent = known.ids()
        known.writes.clear()
        self._size += known.size

    def _forget(self, meta: str) -> None:
        if (known := self._sessions.pop(meta, None)) is not None:
            self._size -= known.size

    def _grow(self, size: int) -> None:
        self._size += size
        while self._size > self._most:
            _, gone = self._sessions.popitem(last=False)
            self._size -= gone.size


def _size(entries: Sequence[bytes]) -> int:
    """Return about how many bytes entries take: those of many are told from a few."""
    sample = entries if len(entries) <= SAMPLE else entries[:: len(entries) // SAMPLE]
    return (sum(map(len, sample)) * len(entries)) // max(1, len(sample)) + ENTRY * len(entries)
