"""The operations that move sessions: all of one out of a store, and into another."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, cast

from typing_extensions import override

from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.base import Argument, Command, InOutage, MirrorEffect, Script
from langchain_memstore.ops.session import SessionKeysOp
from langchain_memstore.ops.state import LocalState, Session
from langchain_memstore.ops.summary import SummaryScript
from langchain_memstore.ops.write_ids import new_token


@dataclass(frozen=True)
class SessionDump:
    """All that is kept of a session, but for what repeated operations are known by."""

    messages: tuple[bytes, ...]
    """The entries of the window, oldest first."""
    evicted: tuple[bytes, ...] = ()
    """The entries that wait to be summarised, oldest first; they are older than the window."""
    summary: str = ""
    """The rolling summary; empty where there is none."""
    turns: int = 0
    """The turn counter."""
    total: int = 0
    """How many messages were ever appended."""
    summarized: int = 0
    """How many messages the summaries have covered so far."""
    lost: int = 0
    """How many messages were dropped while they waited."""
    covered: int = 0
    """What the turn counter was when the last summary was claimed."""
    created: int | None = None
    """When the session was first written to, in milliseconds since 1970; None: unknown."""
    updated: int | None = None
    """When the session was last written to, in milliseconds since 1970; None: unknown."""
    ttl_ms: int | None = None
    """Milliseconds until the session expires; None: never."""

    @property
    def entries(self) -> tuple[bytes, ...]:
        """The entries that wait, then those of the window."""
        return self.evicted + self.messages

    def digest(self) -> str:
        """Return a name for what was said: two states with the same have the same messages, summary and counters."""
        numbers = (self.turns, self.total, self.summarized, self.lost, self.covered)
        digest = hashlib.sha256(repr(numbers).encode())
        for part in (self.summary.encode(), *self.entries):
            digest.update(b"%d:" % len(part) + part)
        return digest.hexdigest()[:32]


@dataclass(frozen=True)
class Dump(SessionKeysOp["SessionDump | None"]):
    """Read all of a session at one moment; None where there is none. No TTL is refreshed.

    Args:
        keys: The session.
    """

    in_outage: ClassVar[InOutage] = "refuse"

    keys: SessionKeys

    @override
    def commands(self) -> list[Command]:
        keys = self.keys
        return [
            ("LRANGE", keys.messages, 0, -1),
            ("LRANGE", keys.evicted, 0, -1),
            ("GET", keys.summary),
            ("GET", keys.turns),
            ("HMGET", keys.meta, "total", "summarized", "lost", "covered", "created", "updated"),
            ("PTTL", keys.meta),
        ]

    @override
    def decode(self, reply: list[Any]) -> SessionDump | None:
        messages, evicted, summary, turns, meta, ttl_ms = reply
        if not (messages or evicted or summary or turns or any(meta)):
            return None
        total, summarized, lost, covered, created, updated = (None if value is None else int(value) for value in meta)
        return SessionDump(
            messages=tuple(messages),
            evicted=tuple(evicted),
            summary=(summary or b"").decode(),
            turns=int(turns or 0),
            total=len(messages) if total is None else total,  # a list that another package wrote has no meta
            summarized=summarized or 0,
            lost=lost or 0,
            covered=covered or 0,
            created=created,
            updated=updated,
            ttl_ms=ttl_ms if ttl_ms >= 0 else None,
        )

    @override
    def run(self, state: LocalState, now: int) -> SessionDump | None:
        session = state.sessions.find(self.keys)
        if session is None:
            return None
        return SessionDump(
            messages=tuple(session.messages),
            evicted=tuple(session.evicted),
            summary=session.summary,
            turns=session.turns,
            total=session.total,
            summarized=session.summarized,
            lost=session.lost,
            covered=session.covered,
            created=session.created,
            updated=session.updated,
            ttl_ms=session.ttl_ms(now),
        )


class Restored(NamedTuple):
    """What became of a session that was to be restored."""

    outcome: Literal["made", "replaced", "same", "exists"]
    """`made`; `replaced` what there was; `same`: it exists, and was once restored from the same; or it `exists`."""
    messages: int
    """How many messages the window holds now; 0 where nothing was written."""
    evicted: int
    """How many messages wait to be summarised now; 0 where nothing was written."""


@dataclass(frozen=True)
class Restore(SummaryScript[Restored]):
    """Set a session to a state as one, TTL included; what exists is left alone, or replaced where that is asked for.

    Args:
        keys: The session.
        dump: What the session is to be.
        origin: What the state was made of: its name, by which a later call knows that this was done before.
        replace: Whether what exists is replaced.
        write: Whether to write; without, the outcome tells what would become of the session.
        write_id: The id by which a repetition is known; empty: a new one.
    """

    script: ClassVar[Script] = Script("restore")
    mirror: ClassVar[MirrorEffect] = "forget"

    keys: SessionKeys
    dump: SessionDump
    origin: str
    replace: bool = False
    write: bool = True
    write_id: str = ""

    @override
    def __post_init__(self) -> None:
        if not self.write and not self.write_id:
            object.__setattr__(self, "write_id", new_token())  # what writes nothing takes no number
        super().__post_init__()

    @property
    @override
    def ttl(self) -> int | None:  # type: ignore[override]
        """Milliseconds until the session expires; None: never."""
        return self.dump.ttl_ms

    @override
    def values(self) -> tuple[Argument, ...]:
        dump = self.dump
        return (
            self.origin,
            int(self.replace),
            int(self.write),
            dump.summary,
            dump.turns,
            dump.total,
            dump.summarized,
            dump.lost,
            dump.covered,
            "" if dump.created is None else dump.created,
            "" if dump.updated is None else dump.updated,
            len(dump.evicted),
            *(dump.entries if self.write else ()),
        )

    @override
    def decode(self, reply: bytes) -> Restored:
        outcome, messages, evicted = reply.decode().split(",")
        return Restored(cast(Any, outcome), int(messages), int(evicted))

    @override
    def apply(self, session: Session, now: int) -> Restored:
        if (done := session.writers.find_result(self.write_id)) is not None:
            return self.decode((done or "same,0,0").encode())
        outcome = "made"
        if session.epoch:
            outcome = "replaced" if self.replace else "same" if session.origin == self.origin else "exists"
        if not self.write:
            return Restored(cast(Any, outcome), 0, 0)
        if outcome in ("same", "exists"):
            session.record_unchanged(self.write_id, f"{outcome},0,0", now)
            return Restored(cast(Any, outcome), 0, 0)
        dump = self.dump
        session.messages, session.evicted, session.evicted_unseen = list(dump.messages), list(dump.evicted), 0
        session.summary, session.turns, session.total = dump.summary, dump.turns, dump.total
        session.summarized, session.lost, session.covered = dump.summarized, dump.lost, dump.covered
        session.claim, session.lease, session.expires = "", 0, None
        session.epoch, session.origin = "", self.origin
        result = f"{outcome},{len(dump.messages)},{len(dump.evicted)}"
        session.commit(self.write_id, result, dump.ttl_ms, now)
        session.created = now if dump.created is None else dump.created
        session.updated = now if dump.updated is None else dump.updated
        return self.decode(result.encode())


@dataclass(frozen=True)
class Expiries(SessionKeysOp[tuple["int | None", ...]]):
    """Tell when the keys of a session expire, at one moment; those that do not exist are left out.

    Args:
        keys: The session.
    """

    in_outage: ClassVar[InOutage] = "refuse"

    keys: SessionKeys

    @override
    def commands(self) -> list[Command]:
        return [("PTTL", key) for key in self.keys.script_keys]

    @override
    def decode(self, reply: list[int]) -> tuple[int | None, ...]:
        return tuple(ttl_ms if ttl_ms >= 0 else None for ttl_ms in reply if ttl_ms != -2)

    @override
    def run(self, state: LocalState, now: int) -> tuple[int | None, ...]:
        session = state.sessions.find(self.keys)
        return () if session is None else (session.ttl_ms(now),)
