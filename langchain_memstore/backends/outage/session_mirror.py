"""What the process last knew of the sessions that it used recently: for an outage, and for the near cache."""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.base import MirrorEffect, Op
from langchain_memstore.ops.reading import Read, SessionView
from langchain_memstore.ops.session import Append, Appended, SessionKeysOp, SessionScript
from langchain_memstore.ops.state import Session
from langchain_memstore.ops.write_ids import NUMBERING, WriteId, Writer, Writers
from langchain_memstore.window import bounded_start

MOST_WRITES = 64  # how many writes to keep beside a view before they are done to it
ENTRY = 60  # bytes that an entry, or an operation, takes beside its text
TOGETHER = 16  # how many operations to apply at a time: it is quicker together
SAMPLE = 4  # how many entries to measure, or a few more


class _Write(NamedTuple):
    """A write that was recorded."""

    op: SessionScript[Any]
    at: int
    """At which moment."""
    size: int
    """About how many bytes it takes."""


class _Mirrored:
    """A session: its last view, and the writes that followed.

    Args:
        keys: The session.
    """

    __slots__ = ("appended", "at", "is_complete", "keys", "lost", "size", "view", "viewed", "writes")

    def __init__(self, keys: SessionKeys) -> None:
        self.keys = keys
        self.view: SessionView | None = None
        """What the last read returned, with what was done to it since; None: there was none."""
        self.is_complete = False
        """Whether nothing of the window is missing there."""
        self.at = 0
        """When it was, in milliseconds."""
        self.viewed = -1.0
        """At which moment it was recorded."""
        self.size = 0
        """About how many bytes all takes."""
        self.writes: list[_Write] = []
        """What was written since, or while the view was read, and is not in it."""
        self.appended: Appended | None = None
        """What the last write left behind, where all of them were appends."""
        self.lost = 0
        """How many messages the writes have dropped that waited."""

    def replace_view(self, view: SessionView, now: int, began: float, moment: float, is_complete: bool = True) -> None:
        """Keep a view.

        Args:
            view: The view.
            now: The time, in milliseconds.
            began: The moment when it began to be read; it has all that was recorded before.
            moment: The moment when it was recorded; what begins later is not in it.
            is_complete: Whether nothing of the window is missing there.
        """
        self.writes = [each for each in self.writes if each.at > began and not _has(view, each.op)]
        self.appended, self.lost = None, 0
        self.view = view
        self.is_complete = is_complete
        self.at, self.viewed = now, moment
        self.size = _size(view.entries) + sum(each.size for each in self.writes)

    def has_seen(self, op: SessionScript[Any], began: float) -> bool:
        """Tell whether the view has a write that began at a moment: its read has overtaken the reply to it."""
        return began < self.viewed and self.view is not None and _has(self.view, op)

    def session(self) -> Session:
        """Make the session of it."""
        session = Session(created=self.at, updated=self.at)
        if (view := self.view) is not None:
            session.epoch = view.epoch or "known"  # another package made it
            session.messages = view.entries.copy()
            session.summary, session.turns, session.total = view.summary, view.turns, view.total
            session.evicted_unseen, session.summarized, session.lost = view.evicted, view.summarized, view.lost
            session.expires = None if view.ttl_ms is None else self.at + view.ttl_ms
            session.writers.restore(NUMBERING.writer, view.seen)
        for write in self.writes.copy():
            write.op.reapply(session, self.at)
        if (last := self.appended) is not None:
            session.turns, session.total = last.turns, last.total
        return session

    def compact(self, now: int) -> None:
        """Apply the writes to the view; if all are appends, use the counters of the last one."""
        if (last := self.appended) is None:
            view = Read(self.keys, None, refresh=False).apply(self.session(), now)
            self.replace_view(view, now, math.inf, self.viewed, is_complete=False)
            return
        view, appends = self.view or SessionView([]), cast("list[Append]", [each.op for each in self.writes])
        writers = Writers()
        writers.restore(NUMBERING.writer, view.seen)
        for op in appends:
            writers.record(op.write_id, "", now)
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
            seen=writers.seen(NUMBERING.writer),
        )
        self.replace_view(view, now, math.inf, self.viewed, is_complete)


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
        self._recorded: deque[tuple[Op[Any], Any, float, float, int]] = deque()
        self._moments = itertools.count()
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

    def begin(self) -> int:
        """Return the moment at which an operation begins; later ones are higher."""
        return next(self._moments)

    def record(self, op: Op[Any], result: Any, began: float = math.inf) -> None:
        """Keep what an operation, which the store has done, tells of its session.

        Args:
            op: The operation.
            result: What it has led to.
            began: The moment when it began; by default after all that was recorded before.
        """
        if op.mirror == "none":
            return
        self._recorded.append((op, result, self._clock(), began, next(self._moments)))
        if len(self._recorded) >= TOGETHER:
            self._apply()

    def last(self, keys: SessionKeys) -> tuple[SessionView, int] | None:
        """Return what the last read of a session returned, and how many entries this process has appended since."""
        self._apply()
        with self._lock:
            mirrored = self._sessions.get(keys.meta)
            if mirrored is None or mirrored.view is None or not mirrored.is_complete:
                return None
            appends = cast("list[Append]", [each.op for each in mirrored.writes if each.op.mirror == "append"])
            return mirrored.view, sum(len(op.entries) for op in appends)

    def session(self, keys: SessionKeys) -> Session | None:
        """Make a session; None where it is not mirrored."""
        self._apply()
        with self._lock:
            mirrored = self._sessions.get(keys.meta)
        return None if mirrored is None else mirrored.session()

    def sessions(self) -> list[tuple[SessionKeys, Session]]:
        """Make the sessions that are mirrored, those first that were used longest ago."""
        self._apply()
        with self._lock:
            mirrored = list(self._sessions.values())
        return [(each.keys, each.session()) for each in mirrored]

    def _apply(self) -> None:
        with self._lock:
            while self._recorded:
                op, result, at, began, moment = self._recorded.popleft()
                _EFFECTS[op.mirror](self, op, result, int(at * 1000), began, moment)

    def _apply_view(self, op: Read, view: SessionView, now: int, began: float, moment: int) -> None:
        if not op.window:
            return
        if not view.total and not any(view):
            self._apply_forget(op, view, now, began, moment)
            return
        if (touch := op.follow_up(view)) is not None:  # the store has started the TTL anew
            view = view._replace(ttl_ms=touch.ttl)
        mirrored = self._use(op.keys)
        before = mirrored.size
        mirrored.replace_view(view, now, began, moment)
        self._grow(mirrored.size - before)

    def _apply_append(self, op: Append, appended: Appended, now: int, began: float, moment: int) -> None:
        mirrored = self._use(op.keys)
        if mirrored.has_seen(op, began):
            return
        if mirrored.appended is not None or not mirrored.writes:
            mirrored.appended = appended
            mirrored.lost += appended.lost
        self._add(mirrored, _Write(op, moment, ENTRY + _size(op.entries)), now)

    def _apply_write(self, op: SessionScript[Any], result: Any, now: int, began: float, moment: int) -> None:
        if result is False:  # a commit whose claim was void is nothing
            return
        mirrored = self._use(op.keys)
        if not mirrored.has_seen(op, began):
            mirrored.appended = None
            self._add(mirrored, _Write(op, moment, ENTRY), now)

    def _apply_forget(self, op: SessionKeysOp[Any], result: Any, now: int, began: float, moment: int) -> None:
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

    def _add(self, mirrored: _Mirrored, write: _Write, now: int) -> None:
        before = mirrored.size
        mirrored.at = mirrored.at or now
        mirrored.writes.append(write)
        mirrored.size += write.size
        if len(mirrored.writes) > MOST_WRITES:
            mirrored.compact(now)
        self._grow(mirrored.size - before)

    def _grow(self, size: int) -> None:
        self._size += size
        while self._size > self._most:
            _, gone = self._sessions.popitem(last=False)
            self._size -= gone.size


_EFFECTS: dict[MirrorEffect, Callable[[SessionMirror, Any, Any, int, float, int], None]] = {
    "view": SessionMirror._apply_view,
    "append": SessionMirror._apply_append,
    "write": SessionMirror._apply_write,
    "forget": SessionMirror._apply_forget,
}


def _has(view: SessionView, op: SessionScript[Any]) -> bool:
    """Tell whether a view has a write of this process."""
    writer, number, _ = WriteId.parse(op.write_id)
    return writer == NUMBERING.writer and Writer.of_seen(view.seen).has(number)


def _size(entries: Sequence[bytes]) -> int:
    """Return about how many bytes entries take: those of many are told from a few."""
    sample = entries[:: len(entries) // SAMPLE | 1]  # an odd step, for questions and answers take turns
    return (sum(map(len, sample)) * len(entries)) // max(1, len(sample)) + ENTRY * len(entries)
