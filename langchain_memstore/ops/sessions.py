"""Sessions, as the in-process backend holds them."""

from __future__ import annotations

from dataclasses import dataclass, field

from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.batches import Writers
from langchain_memstore.ops.expiring import Expires, Expiring

RECENT = 512  # bytes of recent batch ids and results to keep, as in lua/common.lua


@dataclass
class Session(Expires):
    """One session, as Redis would hold it; times in milliseconds."""

    messages: list[bytes] = field(default_factory=list)
    summary: str = ""
    evicted: list[bytes] = field(default_factory=list)
    away: int = 0
    """How many entries wait before those of `evicted` that are known by their number only."""
    summarized: int = 0
    lost: int = 0
    covered: int = 0
    claim: str = ""
    lease: int = 0
    """Until when the claim keeps others out."""
    turns: int = 0
    total: int = 0
    epoch: str = ""
    origin: str = ""
    """What the session was restored from; empty: it was not."""
    created: int = 0
    updated: int = 0
    batches: str = ""
    writers: Writers = field(default_factory=Writers)
    popped: list[tuple[str, list[bytes]]] = field(default_factory=list)

    def recall(self, batch: str) -> str | None:
        """Return the result of an earlier call with this batch id; empty: it was long ago; None: there was none."""
        _, found, rest = self.batches.partition(f"{batch}=")
        if found:
            return rest[: rest.index(";")]
        return "" if self.writers.has(batch) else None

    def commit(self, batch: str, result: str, ttl: int | None, now: int) -> str:
        """Keep what every change leaves behind, and start the TTL anew when it has worn off enough."""
        if not self.epoch:
            self.epoch, self.created = batch, now
        self.updated = now
        self.writers.add(batch)
        self.batches += f"{batch}={result};"
        if len(self.batches) > RECENT:
            self.batches = self.batches[self.batches.index(";", len(self.batches) - RECENT - 1) + 1 :]
        self.expire(ttl, now)
        return result

    @property
    def waiting(self) -> int:
        """How many entries wait to be summarised."""
        return self.away + len(self.evicted)

    def drop_waiting(self, count: int) -> None:
        """Let the oldest of the entries go that wait to be summarised."""
        known = max(0, count - self.away)
        self.away -= count - known
        del self.evicted[:known]

    def expire(self, ttl: int | None, now: int) -> None:
        """Start the TTL anew, unless less than a hundredth of it has worn off."""
        if worn(self.left(now), ttl):
            self.expires = None if ttl is None else now + ttl


def worn(left: int | None, ttl: int | None) -> bool:
    """Tell whether a TTL is to be set anew.

    Args:
        left: The milliseconds left; None: there is no expiry.
        ttl: The milliseconds there should be; None: no expiry.
    """
    if ttl is None or left is None:
        return ttl is not left
    return left > ttl or ttl - left > ttl / 100


class Sessions(Expiring[SessionKeys, Session]):
    """All sessions of an in-process store."""

    def open(self, keys: SessionKeys) -> Session:
        """Return a session; a new one where there is none, which `keep` has to be told of."""
        return self._held.get(keys) or Session()

    def keep(self, keys: SessionKeys, session: Session) -> None:
        """Hold a session that was used just now, unless nothing was ever written to it."""
        if session.epoch:
            super().keep(keys, session)
