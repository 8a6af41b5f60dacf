"""What the process last knew of the sessions that it used recently."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.moving import Restore
from langchain_memstore.ops.reading import Read, SessionData
from langchain_memstore.ops.session import Append, Clear, SessionOp
from langchain_memstore.ops.sessions import Session

MOST_WRITES = 32  # how many writes to keep beside a read before they are done to it
ENTRY = 60  # bytes that an entry, or an operation, takes beside its text


@dataclass
class _Known:
    data: SessionData | None
    """What the last read returned; None: there was none."""
    at: int
    """When it was read, in milliseconds."""
    writes: list[SessionOp[Any]]
    """What was done to the session since, oldest first."""
    size: int
    """About how many bytes this takes."""

    def session(self) -> Session:
        """Make the session of it: the read, and the writes that followed."""
        session = Session(epoch="known", created=self.at, updated=self.at)
        if self.data is not None:
            session.messages = self.data.entries.copy()
            session.summary, session.turns, session.total = self.data.summary, self.data.turns, self.data.total
            session.away, session.summarized, session.lost = self.data.evicted, self.data.summarized, self.data.lost
            session.expires = None if self.data.left is None else self.at + self.data.left
        for write in self.writes:
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
        self._sessions: OrderedDict[SessionKeys, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def note(self, op: Op[Any], result: Any) -> None:
        """Keep what an operation, which the store has done, tells of its session."""
        if isinstance(op, Read):
            if op.window:
                size = sum(map(len, result.entries)) + ENTRY * len(result.entries)
                with self._lock:
                    self._keep(op.keys, _Known(result, self._now(), [], size) if any(result) else None)
        elif isinstance(op, (Clear, Restore)):
            with self._lock:
                self._keep(op.keys, None)
        elif isinstance(op, SessionOp) and result is not False:  # a commit whose claim was void changes nothing
            self._note_write(op)

    def sessions(self) -> Iterator[tuple[SessionKeys, Session]]:
        """Make the sessions that are known, those first that were used longest ago."""
        with self._lock:
            known = list(self._sessions.items())
        return ((keys, each.session()) for keys, each in known)

    def _note_write(self, op: SessionOp[Any]) -> None:
        with self._lock:
            known = self._sessions.get(op.keys)
            if isinstance(op, Append):
                size = ENTRY + sum(map(len, op.entries)) + ENTRY * len(op.entries)
                known = known or _Known(None, self._now(), [], 0)
            elif known is None:  # what is known by this write alone is no conversation
                return
            else:
                size = ENTRY
            writes = [*known.writes, op]
            changed = _Known(known.data, known.at, writes, known.size + size)
            self._keep(op.keys, self._settled(changed) if len(writes) > MOST_WRITES else changed)

    def _settled(self, known: _Known) -> _Known:
        now = self._now()
        data = Read(known.writes[0].keys, None, refresh=False).apply(known.session(), now)
        return _Known(data, now, [], sum(map(len, data.entries)) + ENTRY * len(data.entries))

    def _keep(self, keys: SessionKeys, known: _Known | None) -> None:
        if (before := self._sessions.pop(keys, None)) is not None:
            self._size -= before.size
        if known is not None:
            self._sessions[keys] = known
            self._size += known.size
            while self._size > self._most:
                _, gone = self._sessions.popitem(last=False)
                self._size -= gone.size

    def _now(self) -> int:
        return int(self._clock() * 1000)
