"""The operations over many keys: listing by cursor, and what is known of each session."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, ClassVar

from typing_extensions import override

from langchain_memstore.errors import BackendUnavailable
from langchain_memstore.keys import SessionKeys, SessionPattern
from langchain_memstore.models import SessionInfo
from langchain_memstore.ops.base import Command, InOutage, Op, ScanOp
from langchain_memstore.ops.state import LocalState


@dataclass(frozen=True)
class ScanPage:
    """One page of a listing."""

    cursor: int
    """Where the next page starts; 0: there is none."""
    names: tuple[str, ...]
    """The names found, of sessions their ids; one that is listed twice in a listing is one."""


@dataclass(frozen=True)
class Scan(ScanOp[ScanPage]):
    """List a page of names: of sessions, or of values.

    A listing sees every name that exists from its beginning to its end (https://redis.io/docs/latest/commands/scan/).

    Args:
        pattern: Which names.
        cursor: Where the page starts; 0: at the beginning.
        count: About how many keys the server looks at for one page.
        strict: Whether an outage refuses it, where what the process knows is not all there is.
    """

    in_outage: ClassVar[InOutage] = "serve"

    pattern: SessionPattern
    cursor: int = 0
    count: int = 500
    strict: bool = field(default=False, kw_only=True)

    @override
    def commands(self) -> list[Command]:
        return [("SCAN", self.cursor, "MATCH", self.pattern.scan_pattern(), "COUNT", self.count)]

    @override
    def decode(self, reply: list[Any]) -> ScanPage:
        cursor, keys = reply[0]
        return ScanPage(int(cursor), tuple(name for name in map(self._name, keys) if name))

    def _name(self, key: bytes) -> str | None:
        try:
            return self.pattern.name(key.decode())
        except UnicodeDecodeError:  # somebody else's key
            return None

    @override
    def run(self, state: LocalState, now: int) -> ScanPage:
        if self.cursor:
            raise BackendUnavailable("an outage has interrupted the listing; begin it anew")
        if self.strict and not state.values.is_complete:
            raise BackendUnavailable("the store cannot be reached, and this process does not know all of its keys")
        return ScanPage(0, tuple(name for key in state if (name := self.pattern.name(key))))


@dataclass(frozen=True)
class Stats(Op[list[SessionInfo]]):
    """Tell what is known of sessions; those that do not exist are left out. No TTL is refreshed.

    Args:
        sessions: Which sessions.
    """

    atomic: ClassVar[bool] = False
    in_outage: ClassVar[InOutage] = "serve"

    sessions: tuple[SessionKeys, ...]

    @override
    def commands(self) -> list[Command]:
        commands: list[Command] = []
        for keys in self.sessions:
            commands += [
                ("HMGET", keys.meta, "total", "created", "updated"),
                ("LLEN", keys.messages),
                ("LLEN", keys.evicted),
                ("GET", keys.turns),
                ("EXISTS", keys.summary),
                ("PTTL", keys.meta),
            ]
        return commands

    @override
    def decode(self, reply: list[Any]) -> list[SessionInfo]:
        found = []
        for at, keys in enumerate(self.sessions):
            (total, created, updated), messages, evicted, turns, summary, ttl_ms = reply[at * 6 : at * 6 + 6]
            if created is None:
                continue
            try:
                info = SessionInfo(
                    session_id=keys.session_id,
                    messages=messages,
                    evicted=evicted,
                    turns=int(turns or 0),
                    total=int(total or 0),
                    ttl=ttl_ms / 1000 if ttl_ms >= 0 else None,
                    summary=bool(summary),
                    created=_time(int(created)),
                    updated=_time(int(updated)),
                )
            except (ValueError, TypeError, OverflowError, OSError) as error:
                raise ValueError(f"session {keys.session_id!r}: {error}") from error
            found.append(info)
        return found

    @override
    def run(self, state: LocalState, now: int) -> list[SessionInfo]:
        return [
            SessionInfo(
                session_id=keys.session_id,
                messages=len(session.messages),
                evicted=session.evicted_count,
                turns=session.turns,
                total=session.total,
                ttl=None if session.expires is None else (session.expires - now) / 1000,
                summary=bool(session.summary),
                created=_time(session.created),
                updated=_time(session.updated),
            )
            for keys in self.sessions
            if (session := state.sessions.find(keys))
        ]


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc)
