"""The operations over many keys: listing by cursor, and what is known of each session."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, ClassVar

from langchain_memstore.errors import BackendUnavailable
from langchain_memstore.keys import SessionKeys, SessionPattern
from langchain_memstore.ops.base import Command, InOutage, Op
from langchain_memstore.ops.held import Held


@dataclass(frozen=True)
class SessionInfo:
    """What is known of a session without reading its messages."""

    session_id: str
    """Which conversation."""
    messages: int
    """How many messages the window holds."""
    turns: int
    """The turn counter."""
    total: int
    """How many messages were ever appended."""
    ttl: float | None
    """Seconds until the session expires; None: it does not."""
    evicted: int
    """How many messages wait to be summarised."""
    summary: bool
    """Whether the session has a summary."""
    created: datetime
    """When the session was first written to."""
    updated: datetime
    """When the session was last written to."""


@dataclass(frozen=True)
class Page:
    """One page of a listing."""

    cursor: int
    """Where the next page starts; 0: there is none."""
    names: tuple[str, ...]
    """The names found, of sessions their ids; one that is listed twice in a listing is one."""


@dataclass(frozen=True)
class Scan(Op[Page]):
    """List a page of names: of sessions, or of values.

    A listing sees every name that exists from its beginning to its end (https://redis.io/docs/latest/commands/scan/).

    Args:
        pattern: Which names.
        cursor: Where the page starts; 0: at the beginning.
        count: About how many keys the server looks at for one page.
    """

    in_outage: ClassVar[InOutage] = "serve"

    pattern: SessionPattern
    cursor: int = 0
    count: int = 500

    def commands(self) -> list[Command]:
        """Return one SCAN."""
        return [("SCAN", self.cursor, "MATCH", self.pattern.scan_pattern(), "COUNT", self.count)]

    def decode(self, reply: list[Any]) -> Page:
        """Read the names out of the keys."""
        cursor, keys = reply[0]
        return Page(int(cursor), tuple(name for name in map(self._name, keys) if name))

    def _name(self, key: bytes) -> str | None:
        try:
            return self.pattern.name(key.decode())
        except UnicodeDecodeError:  # somebody else's key
            return None

    def run(self, held: Held, now: int) -> Page:
        """List all names as one page."""
        if self.cursor:
            raise BackendUnavailable("an outage has interrupted the listing; begin it anew")
        return Page(0, tuple(name for key in held if (name := self.pattern.name(key))))


@dataclass(frozen=True)
class Stats(Op[list[SessionInfo]]):
    """Tell what is known of sessions; those that do not exist are left out. No TTL is refreshed.

    Args:
        sessions: Which sessions.
    """

    atomic: ClassVar[bool] = False
    in_outage: ClassVar[InOutage] = "serve"

    sessions: tuple[SessionKeys, ...]

    def commands(self) -> list[Command]:
        """Return six reads for each session."""
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

    def decode(self, reply: list[Any]) -> list[SessionInfo]:
        """Read six replies for each session."""
        found = []
        for at, keys in enumerate(self.sessions):
            (total, created, updated), messages, evicted, turns, summary, left = reply[at * 6 : at * 6 + 6]
            if created is None:
                continue
            try:
                info = SessionInfo(
                    session_id=keys.session_id,
                    messages=messages,
                    evicted=evicted,
                    turns=int(turns or 0),
                    total=int(total or 0),
                    ttl=left / 1000 if left >= 0 else None,
                    summary=bool(summary),
                    created=_time(int(created)),
                    updated=_time(int(updated)),
                )
            except (ValueError, TypeError, OverflowError, OSError) as error:
                raise ValueError(f"session {keys.session_id!r}: {error}") from error
            found.append(info)
        return found

    def run(self, held: Held, now: int) -> list[SessionInfo]:
        """Look each session up."""
        found = []
        for keys in self.sessions:
            if session := held.sessions.find(keys):
                left = session.left(now)
                found.append(
                    SessionInfo(
                        session_id=keys.session_id,
                        messages=len(session.messages),
                        evicted=session.waiting,
                        turns=session.turns,
                        total=session.total,
                        ttl=None if left is None else left / 1000,
                        summary=bool(session.summary),
                        created=_time(session.created),
                        updated=_time(session.updated),
                    )
                )
        return found


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc)
