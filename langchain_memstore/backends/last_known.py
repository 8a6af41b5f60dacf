"""What the process last knew of the sessions that it used recently: for an outage, and for the near cache."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.moving import Restore
from langchain_memstore.ops.reading import Read, SessionData, Window
from langchain_memstore.ops.session import Append, Appended, Clear, SessionOp, SessionScript
from langchain_memstore.ops.sessions import Session
from langchain_memstore.window import bounded_start

MOST_WRITES = 64  # how many writes to keep beside a read before they are done to it
ENTRY = 60  # bytes that an entry, or an operation, takes beside its text
DECODED = 800  # bytes that a message takes beside its text
RECENT = 16  # ids of writes to remember of a session
TOGETHER = 16  # how many operations to take in at a time: it is quicker together
SAMPLE = 4  # how many entries to measure, or a few more


class _Known:
    """A session: its last read, and the writes that followed.

    Args:
        keys: The session.
    """

    __slots__ = ("appended", "at", "data", "is_whole", "keys", "lost", "recent", "size", "writes")

    def __init__(self, keys: SessionKeys) -> None:
        self.keys = keys
        self.data: SessionData | None = None
        """What the read returned, with what was done to it since; None: there was none."""
        self.is_whole = False
        """Whether nothing of the window is missing there."""
        self.at = 0
        """When it was, in milliseconds."""
        self.size = 0
        """About how many bytes all takes."""
        self.writes: list[SessionScript[Any]] = []
        self.appended: Appended | None = None
        """What the last write left behind, where all of them were appends."""
        self.lost = 0
        """How many messages the writes have dropped that waited."""
        self.recent: list[str] = []
        """The ids of the last writes before the read, which has them."""

    def take(self, data: SessionData, now: int, is_whole: bool = True) -> None:
        """Take in a read, which has what was written before."""
        if self.writes:
            self.recent += [op.batch for op in self.writes]
            del self.recent[:-RECENT]
            self.writes.clear()
        self.appended, self.lost = None, 0
        self.data = data
        self.is_whole = is_whole
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
        for write in self.writes.copy():
            write.follow(session, self.at)
        if (last := self.appended) is not None:
            session.turns, session.total = last.turns, last.total
        return session

    def settle(self, now: int) -> None:
        """Do the writes to the read. Where all of them are appends the last of them tells how the session is."""
        if (last := self.appended) is None:
            self.take(Read(self.keys, None, refresh=False).apply(self.session(), now), now, is_whole=False)
            return
        data, appends = self.data or SessionData([]), cast("list[Append]", self.writes)
        ttl, bounds = appends[-1].ttl, appends[-1].bounds
        entries = data.entries + [entry for op in appends for entry in op.entries]
        is_whole = self.is_whole and last.total - data.total == len(entries) - len(data.entries)
        start = len(entries) - last.messages if is_whole else bounded_start(entries, bounds)  # others have appended too
        data = data._replace(
            entries=entries[max(0, start) :],
            turns=last.turns,
            total=last.total,
            evicted=data.evicted if bounds.max_evicted is None else last.waiting,
            lost=data.lost + self.lost,
            left=ttl,
        )
        self.take(data, now, is_whole)


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
            if known is None or known.data is None or not known.is_whole:
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
        if op.after(data) is not None:  # the store has started the TTL anew
            data = data._replace(left=op.ttl)
        known = self._use(op.keys)
        before = known.size
        known.take(data, now)
        self._grow(known.size - before)

    def _note_write(self, op: SessionScript[Any], result: Any, now: int) -> None:
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
        if not isinstance(op, Append):
            known.appended = None
        elif known.appended is not None or not known.writes:
            known.appended = result
            known.lost += result.lost
        known.writes.append(op)
        known.size += size
        if len(known.writes) > MOST_WRITES:
            before = known.size - size
            known.settle(now)
            size = known.size - before
        self._grow(size)

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
    return LastKnown._note_write if issubclass(kind, SessionScript) else None


def _size(entries: Sequence[bytes]) -> int:
    """Return about how many bytes entries take: those of many are told from a few."""
    sample = entries[:: len(entries) // SAMPLE | 1]  # an odd step, for questions and answers take turns
    text = (sum(map(len, sample)) * len(entries)) // max(1, len(sample))
    return 2 * text + (ENTRY + DECODED) * len(entries) if isinstance(entries, Window) else text + ENTRY * len(entries)
