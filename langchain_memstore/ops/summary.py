"""The operations of a rolling summary: claim, then commit or release."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from typing_extensions import override

from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.base import Argument, InOutage, R, Script
from langchain_memstore.ops.session import SessionScript
from langchain_memstore.ops.state import Session
from langchain_memstore.ops.write_ids import new_token


class SummaryScript(SessionScript[R]):
    """A script that takes the lease's key as well.

    Summaries wait for an outage to end: what there is to summarise lies in the store.
    """

    in_outage: ClassVar[InOutage] = "refuse"

    @override
    def script_keys(self) -> tuple[str, ...]:
        return (*self.keys.script_keys, self.keys.lease)


class Claimed(NamedTuple):
    """What a claim returns: all that the next summary is made of."""

    base: int
    """How many messages were summarised, or lost, before."""
    turns: int
    """The turn counter."""
    summary: str
    """The summary so far; empty where there is none."""
    entries: list[bytes]
    """The entries that wait, oldest first."""


@dataclass(frozen=True)
class Claim(SummaryScript[Claimed | None]):
    """Claim the summary of a session; None where none is due, or somebody else is at it.

    Args:
        keys: The session.
        lease: Milliseconds that the claim keeps others out.
        every: How many turns must have passed since the last summary; 0: it is enough that something waits.
        write_id: The token of the claim, which is no number: a claim that is declined leaves nothing behind.
    """

    script: ClassVar[Script] = Script("claim")

    keys: SessionKeys
    lease: int
    every: int
    write_id: str = field(default_factory=new_token)
    ttl: None = field(default=None, init=False)

    @override
    def values(self) -> tuple[Argument, ...]:
        return (self.lease, self.every)

    @override
    def decode(self, reply: list[Any] | None) -> Claimed | None:
        if reply is None:
            return None
        base, turns, summary, entries = reply
        return Claimed(base, turns, summary.decode(), entries)

    @override
    def apply(self, session: Session, now: int) -> Claimed | None:
        if session.claim not in ("", self.write_id) and session.lease > now:
            return None
        if not session.evicted or session.turns - session.covered < self.every:
            return None
        session.claim, session.lease = self.write_id, now + self.lease
        return Claimed(session.summarized + session.lost, session.turns, session.summary, session.evicted.copy())


@dataclass(frozen=True)
class Commit(SummaryScript[bool]):
    """Set the summary that a claim has led to, and let go of what it covers; False where the claim is void.

    A claim is void when the summary was claimed anew since, was set by hand, or the session was cleared or expired.
    That its time has run out is not enough.

    Args:
        keys: The session.
        summary: The new summary.
        claimed: What the claim returned.
        ttl: Milliseconds until the session expires; None: never.
        token: The token of the claim.
        write_id: The id by which a repetition is known; empty: a new one.
    """

    script: ClassVar[Script] = Script("commit")

    keys: SessionKeys
    summary: str
    claimed: Claimed
    ttl: int | None
    token: str
    write_id: str = ""

    @override
    def values(self) -> tuple[Argument, ...]:
        return (self.summary, self.claimed.base, len(self.claimed.entries), self.claimed.turns, self.token)

    @override
    def decode(self, reply: int) -> bool:
        return reply == 1

    @override
    def apply(self, session: Session, now: int) -> bool:
        if (done := session.writers.find_result(self.write_id)) is not None:
            return done == "1"
        if session.claim != self.token:
            session.record_unchanged(self.write_id, "0", now)
            return False
        count = len(self.claimed.entries)
        dropped = min(count, session.summarized + session.lost - self.claimed.base)
        session.drop_evicted(count - dropped)
        session.summary, session.claim, session.lease = self.summary, "", 0
        session.summarized += count
        session.lost -= dropped
        session.covered = self.claimed.turns
        session.commit(self.write_id, "1", self.ttl, now)
        return True

    @override
    def reapply(self, session: Session, now: int) -> None:
        session.claim = self.token  # which was good elsewhere
        self.apply(session, now)


@dataclass(frozen=True)
class Release(SummaryScript[None]):
    """Give a claim up, so that the next turn can claim at once; a claim that is void already stays so.

    Args:
        keys: The session.
        write_id: The token of the claim.
    """

    script: ClassVar[Script] = Script("release")

    keys: SessionKeys
    write_id: str
    ttl: None = field(default=None, init=False)

    @override
    def apply(self, session: Session, now: int) -> None:
        if session.claim == self.write_id:
            session.claim, session.lease = "", 0
