"""What the process last knew of the sessions that it used recently: for an outage, and for the near cache."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any, cast

from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.base import MirrorEffect, Op
from langchain_memstore.ops.reading import Read, SessionView
from langchain_memstore.ops.session import Append, Appended, SessionKeysOp, SessionScript
from langchain_memstore.ops.state import Session
from langchain_memstore.window import bounded_start

MOST_WRITES = 64  # how many writes to keep beside a view before they are done to it
ENTRY = 60  # bytes that an entry, or an operation, takes beside its text
RECENT = 16  # ids of writes to remember of a session
TOGETHER = 16  # how many operations to apply at a time: it is quicker together
SAMPLE = 4  # how many entries to measure, or a few more


class _Mirrored:
    """A session: its last view, and the writes that followed.

    Args:
        keys: The session.
    """

    __slots__ = ("appended", "at", "is_complete", "keys", "lost", "recent", "size", "view", "writes")

    def __init__(self, keys: SessionKeys) -> None:
        self.keys = keys
        self.view: SessionView | None = None
        """What the last read returned, with what was done to it since; None: there was none."""
        self.is_complete = False
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
        """The ids of the last writes before the view, which has them."""

    def replace_view(self, view: SessionView, now: int, is_complete: bool = True) -> None:
        """Keep a view, which has what was written before."""
        if self.writes:
            self.recent += [op.write_id for op in self.writes]
            del self.recent[:-RECENT]
            self.writes.clear()
        self.appended, self.lost = None, 0
        self.view = view
        self.is_complete = is_complete
        self.at = now
        self.size = _size(view.entries)

    def session(self) -> Session:
        """Make the session of it."""
        session = Session(created=self.at, updated=self.at)
        if (view := self.view) is not None:
            session.epoch = view.epoch or "known"  # another package made it
            session.messages = view.entries.copy()
            session.summary, session.turns, session.total = view.summary, view.turns, view.total
            session.evicted_unseen, session.summarized, session.lost = view.evicted, view.summarized, view.lost
            session.expires = None if view.ttl_ms is None else self.at + view.ttl_ms
        for write_id in self.recent:
            session.writers.record(write_id, "", self.at)
        for write in self.writes.copy():
            write.reapply(session, self.at)
        if (last := self.appended) is not None:
            session.turns, session.total = last.turns, last.total
        return session

    def compact(self, now: int) -> None:
        """Apply the writes to the view; if all are appends, use the counters of the last one."""
        if (last := self.appended) is None:
            view = Read(self.keys, None, refresh=False).apply(self.session(), now)
            self.replace_view(view, now, is_complete=False)
            return
        view, appends = self.view or SessionView([]), cast("list[Append]", self.writes)
        ttl, bounds = appends[-1].ttl, appends[-1].bounds
        entries = view.entries + [entry for op in appends for entry in op.entries]
        is_complete = self.is_complete and last.total - view.total == len(entries) - len(view.entries)
        start = len(entries) - last.messages if is_complete else bounded_start(entries, bounds)  # others appended
        view = view._replace(
            entries=entries[max(0, start) :],
            turns=last.turns,
            total=last.total,
            evicted=view.evicted if bounds.max_evicted is None else last.evicted,
            lost=view.lost + self.lost,
            ttl_ms=ttl,
            trail="",
        )
        self.replace_view(view, now, is_complete)


class SessionMirror:
    """Keeps the last view of each session and the writes since; these are applied later, as keeping them costs little.

        read ── record(view) ── append ── record(write) ── append ── record(write) ── outage ── sessions()
                the view             the view and two writes                       the view with both applied

    What is recorded is applied to the sessions every 16th time, or when it is asked for.

    Args:
        most: About how many bytes to keep; past that the sessions go that were used longest ago.
        clock: Tells the time, in seconds since 1970.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
        self._size = 0
        self._sessions: OrderedDict[str, _Mirrored] = OrderedDict()  # by a key: a text knows its hash
        self._recorded: deque[tuple[Op[Any], Any, float]] = deque()
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Forget all, as a fork has to."""
        self._size = 0
        self._sessions.clear()
        self._recorded.clear()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        self._apply()
        return len(self._sessions)

    def record(self, op: Op[Any], result: Any) -> None:
        """Keep what an operation, which the store has done, tells of its session."""
        if op.mirror == "none":
            return
        self._recorded.append((op, result, self._clock()))
        if len(self._recorded) >= TOGETHER:
            self._apply()

    def last(self, keys: SessionKeys) -> tuple[SessionView, int] | None:
        """Return what the last read of a session returned, and how many entries this process has appended since."""
        self._apply()
        with self._lock:
            mirrored = self._sessions.get(keys.meta)
            if mirrored is None or mirrored.view is None or not mirrored.is_complete:
                return None
            appends = cast("list[Append]", [op for op in mirrored.writes if op.mirror == "append"])
            return mirrored.view, sum(len(op.entries) for op in appends)

    def sessions(self) -> list[tuple[SessionKeys, Session]]:
        """Make the sessions that are mirrored, those first that were used longest ago."""
        self._apply()
        with self._lock:
            mirrored = list(self._sessions.values())
        return [(each.keys, each.session()) for each in mirrored]

    def _apply(self) -> None:
        with self._lock:
            while self._recorded:
                op, result, at = self._recorded.popleft()
                _EFFECTS[op.mirror](self, op, result, int(at * 1000))

    def _apply_view(self, op: Read, view: SessionView, now: int) -> None:
        if not op.window:
            return
        if not view.total and not any(view):
            self._apply_forget(op, view, now)
            return
        if (touch := op.follow_up(view)) is not None:  # the store has started the TTL anew
            view = view._replace(ttl_ms=touch.ttl)
        mirrored = self._use(op.keys)
        before = mirrored.size
        mirrored.replace_view(view, now)
        self._grow(mirrored.size - before)

    def _apply_append(self, op: Append, appended: Appended, now: int) -> None:
        mirrored = self._use(op.keys)
        if mirrored.appended is not None or not mirrored.writes:
            mirrored.appended = appended
            mirrored.lost += appended.lost
        self._add(mirrored, op, ENTRY + _size(op.entries), now)

    def _apply_write(self, op: SessionScript[Any], result: Any, now: int) -> None:
        if result is False:  # a commit whose claim was void is nothing
            return
        if op.keys.meta in self._sessions:  # what is known by another write alone is no conversation
            mirrored = self._use(op.keys)
            mirrored.appended = None
            self._add(mirrored, op, ENTRY, now)

    def _apply_forget(self, op: SessionKeysOp[Any], result: Any, now: int) -> None:
        if (mirrored := self._sessions.pop(op.keys.meta, None)) is not None:
            self._size -= mirrored.size

    def _use(self, keys: SessionKeys) -> _Mirrored:
        """Return what is known of a session, which is used now."""
        meta, sessions = keys.meta, self._sessions
        if (mirrored := sessions.get(meta)) is None:
            mirrored = sessions[meta] = _Mirrored(keys)
        else:
            sessions.move_to_end(meta)
        return mirrored

    def _add(self, mirrored: _Mirrored, op: SessionScript[Any], size: int, now: int) -> None:
        before = mirrored.size
        mirrored.at = mirrored.at or now
        mirrored.writes.append(op)
        mirrored.size += size
        if len(mirrored.writes) > MOST_WRITES:
            mirrored.compact(now)
        self._grow(mirrored.size - before)

    def _grow(self, size: int) -> None:
        self._size += size
        while self._size > self._most:
            _, gone = self._sessions.popitem(last=False)
            self._size -= gone.size


_EFFECTS: dict[MirrorEffect, Callable[[SessionMirror, Any, Any, int], None]] = {
    "view": SessionMirror._apply_view,
    "append": SessionMirror._apply_append,
    "write": SessionMirror._apply_write,
    "forget": SessionMirror._apply_forget,
}


def _size(entries: Sequence[bytes]) -> int:
    """Return about how many bytes entries take: those of many are told from a few."""
    sample = entries[:: len(entries) // SAMPLE | 1]  # an odd step, for questions and answers take turns
    return (sum(map(len, sample)) * len(entries)) // max(1, len(sample)) + ENTRY * len(entries)
