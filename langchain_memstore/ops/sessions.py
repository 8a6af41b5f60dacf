"""What the in-process backend holds: sessions, by key, with their expiry."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.batches import Writers

RECENT = 1024  # bytes of recent batch ids and results to keep, as in lua/common.lua


@dataclass
class Session:
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
    expires: int | None = None
    due: int | None = None
    """When `Sessions` looks whether the session has expired; None: it never does."""
    ticket: int = 0
    """Which of the appointments that `Sessions` made for these keys is this session's."""

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

    def left(self, now: int) -> int | None:
        """Return how long the session lives on, in milliseconds; None: it does not expire."""
        return None if self.expires is None else self.expires - now

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


class Sessions:
    """All sessions of an in-process store.

    Args:
        most: The most sessions to hold; past that the least recently used go.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._sessions: OrderedDict[SessionKeys, Session] = OrderedDict()
        self._appointments: list[tuple[int, int, SessionKeys]] = []
        self._ticket = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[SessionKeys]:
        return iter(self._sessions)

    def open(self, keys: SessionKeys) -> Session:
        """Return a session; a new one where there is none, which `keep` has to be told of."""
        return self._sessions.get(keys) or Session()

    def find(self, keys: SessionKeys) -> Session | None:
        """Return a session without counting it as used; None where there is none."""
        return self._sessions.get(keys)

    def keep(self, keys: SessionKeys, session: Session) -> None:
        """Hold a session that was used just now, unless nothing was ever written to it."""
        if not session.epoch:
            return
        self._sessions[keys] = session
        self._sessions.move_to_end(keys)
        while len(self._sessions) > self._most:
            self._sessions.popitem(last=False)
        if session.expires is not None and (session.due is None or session.expires < session.due):
            self._ticket += 1
            session.ticket = self._ticket
            self._appoint(keys, session, session.expires)

    def drop(self, keys: SessionKeys) -> bool:
        """Let a session go; tells whether there was one."""
        return self._sessions.pop(keys, None) is not None

    def expire(self, now: int) -> None:
        """Let go of every session whose time has come."""
        while self._appointments and self._appointments[0][0] <= now:
            _, ticket, keys = heapq.heappop(self._appointments)
            session = self._sessions.get(keys)
            if session is None or session.ticket != ticket:
                continue
            session.due = None
            if session.expires is not None:
                if session.expires <= now:
                    del self._sessions[keys]
                else:
                    self._appoint(keys, session, session.expires)

    def _appoint(self, keys: SessionKeys, session: Session, due: int) -> None:
        session.due = due
        heapq.heappush(self._appointments, (due, session.ticket, keys))
        if len(self._appointments) > 2 * len(self._sessions) + 64:  # most are of sessions that are gone
            self._appointments = [
                (when, ticket, keys)
                for when, ticket, keys in self._appointments
                if (held := self._sessions.get(keys)) and held.ticket == ticket
            ]
            heapq.heapify(self._appointments)
