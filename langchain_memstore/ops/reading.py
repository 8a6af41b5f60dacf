"""The operations that read one session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from typing_extensions import override

from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.base import Command, InOutage, MirrorEffect
from langchain_memstore.ops.session import SessionKeysOp, SessionOp, Touch
from langchain_memstore.ops.state import LocalState, Session, worn
from langchain_memstore.ops.write_ids import NUMBERING

_FIELDS = ("total", "summarized", "lost", "epoch")  # of `meta`
SKEW = 20  # milliseconds by which TTLs may differ that are read one after the other, as in lua/common.lua


class SessionView(NamedTuple):
    """What a read returns."""

    entries: list[bytes]
    """The window, oldest first."""
    summary: str = ""
    """The rolling summary; empty where there is none."""
    turns: int = 0
    """The turn counter."""
    total: int = 0
    """How many messages were ever appended."""
    evicted: int = 0
    """How many messages wait to be summarised."""
    summarized: int = 0
    """How many messages the summaries have covered so far."""
    lost: int = 0
    """How many messages were dropped while they waited."""
    ttl_ms: int | None = None
    """Milliseconds until the session expires, the messages above all; None: never."""
    epoch: str = ""
    """What changes when entries are taken off, and when a session begins; empty: another package made the session."""
    trail: str = ""
    """What the last changes have left behind, each something of its own; empty: it was not read."""
    seen: str = ""
    """Which writes of this process are in it; see `Writer.seen`."""
    is_apart: bool = False
    """Whether somebody else has set when one of the keys expires, so that they do not expire together."""


@dataclass(frozen=True)
class Read(SessionOp[SessionView]):
    """Read all there is of a session at one moment.

    Args:
        keys: The session.
        ttl: Milliseconds that the session lives on after it was read; None: no expiry.
        refresh: Whether reading starts the TTL anew, once a hundredth of it has worn off.
        window: Whether to read the entries too.
        trail: Whether to read what tells a later `ReadTail` whether what was read still stands.
    """

    in_outage: ClassVar[InOutage] = "serve"
    mirror: ClassVar[MirrorEffect] = "view"

    keys: SessionKeys
    ttl: int | None
    refresh: bool
    window: bool = True
    trail: bool = False

    @override
    def commands(self) -> list[Command]:
        keys = self.keys
        reads: list[Command] = [
            ("GET", keys.summary),  # MGET takes a key of another type for one that is missing
            ("GET", keys.turns),
            ("HMGET", keys.meta, *_FIELDS, f"writer:{NUMBERING.writer}", *(("batches",) if self.trail else ())),
            ("LLEN", keys.evicted),
            *(("PTTL", key) for key in keys.script_keys),
        ]
        return [*reads, ("LRANGE", keys.messages, 0, -1)] if self.window else reads

    @override
    def decode(self, reply: list[Any]) -> SessionView:
        *rest, window = reply if self.window else (*reply, [])
        return self._view(rest, window)

    def _view(self, reply: list[Any], entries: list[bytes]) -> SessionView:
        summary, turns, (total, summarized, lost, epoch, writer, *trail), evicted, *ttls = reply
        ttls = [ttl_ms for ttl_ms in ttls if ttl_ms != -2]  # of the keys that exist
        return SessionView(
            entries=entries,
            summary=(summary or b"").decode(),
            turns=int(turns or 0),
            total=int(total or 0),
            evicted=evicted,
            summarized=int(summarized or 0),
            lost=int(lost or 0),
            ttl_ms=ttls[0] if ttls and ttls[0] >= 0 else None,
            epoch=(epoch or b"").decode(),
            trail=(trail[0] or b"").decode() if trail else "",
            seen=writer.decode().partition(":")[2].partition("=")[0] if writer else "",
            is_apart=bool(ttls) and max(ttls) - min(ttls) > SKEW,
        )

    @override
    def follow_up(self, result: SessionView) -> Touch | None:
        if result.is_apart:
            return Touch(self.keys, self.ttl if self.refresh else result.ttl_ms)
        due = self.refresh and any(result) and worn(result.ttl_ms, self.ttl)
        return Touch(self.keys, self.ttl) if due else None

    @override
    def apply(self, session: Session, now: int) -> SessionView:
        view = SessionView(
            entries=session.messages.copy() if self.window else [],
            summary=session.summary,
            turns=session.turns,
            total=session.total,
            evicted=session.evicted_count,
            summarized=session.summarized,
            lost=session.lost,
            ttl_ms=session.ttl_ms(now),
            epoch=session.epoch,
            seen=session.writers.seen(NUMBERING.writer),
        )
        if self.follow_up(view) is not None:
            session.refresh_ttl(self.ttl, now)
        return view


@dataclass(frozen=True)
class ReadTail(Read):
    """Read what has come since an earlier read; `CHANGED` where more has happened than that entries came and went.

    Entries never change. So where the epoch is the same, and the trail goes on from that of the earlier read, the
    window is what it was, with what was appended since, and without what was cut off its head, of which its length
    tells. The trail of a server that was rolled back does not go on: it has other changes.

    Args:
        known: What the earlier read returned, trail included.
        count: How many entries to read from the end of the window: those that are expected to be new, and a few more.
    """

    known: SessionView | None = None
    count: int = 1

    @override
    def commands(self) -> list[Command]:
        *reads, _ = super().commands()
        messages = self.keys.messages
        return [*reads, ("LLEN", messages), ("LRANGE", messages, -self.count, -1)]

    @override
    def decode(self, reply: list[Any]) -> SessionView:
        *rest, length, tail = reply
        view = self._view(rest, [])
        known = self.known
        assert known is not None
        new = view.total - known.total
        if not view.epoch or view.epoch != known.epoch or not 0 <= new <= len(tail):
            return CHANGED
        if not _goes_on(known.trail, view.trail):
            return CHANGED
        window = known.entries + tail[len(tail) - new :]
        if length > len(window) or window[len(window) - len(tail) :] != tail:
            return CHANGED
        return view._replace(entries=window[len(window) - length :])

    @override
    def follow_up(self, result: SessionView) -> Touch | None:
        return None if result is CHANGED else super().follow_up(result)


def _goes_on(known: str, trail: str) -> bool:
    """Tell whether a trail is an earlier one with further changes; each is bounded, so it may lack the oldest."""
    end = trail.rfind(known[known.rfind(";", 0, -1) + 1 :])
    return end >= 0 and bool(known) and known.endswith(trail[: trail.index(";", end) + 1])


CHANGED = SessionView([])
"""What `ReadTail` returns where all is to be read."""


@dataclass(frozen=True)
class ReadEntries(SessionKeysOp[list[bytes]]):
    """Read the entries that wait to be summarised, then those of the window; no TTL is refreshed.

    Args:
        keys: The session.
    """

    in_outage: ClassVar[InOutage] = "serve"

    keys: SessionKeys

    @override
    def commands(self) -> list[Command]:
        return [("LRANGE", self.keys.evicted, 0, -1), ("LRANGE", self.keys.messages, 0, -1)]

    @override
    def decode(self, reply: list[list[bytes]]) -> list[bytes]:
        return reply[0] + reply[1]

    @override
    def run(self, state: LocalState, now: int) -> list[bytes]:
        session = state.sessions.find(self.keys)
        return session.evicted + session.messages if session else []
