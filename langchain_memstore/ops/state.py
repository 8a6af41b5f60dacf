"""All that the in-process backend holds: sessions, values and leases, which expire."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, cast

from typing_extensions import override

from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.write_ids import WriteId, Writers

MOST_SESSIONS = MOST_VALUES = 100_000  # to hold, unless somebody says otherwise


@dataclass
class Expires:
    """A thing that expires; times in milliseconds."""

    expires: int | None = None
    due: int | None = None
    """When `Expiring` looks whether it has expired; None: it never does."""
    ticket: int = 0
    """Which of the appointments that `Expiring` made for its key is this thing's."""
    born: int = 0
    """When its key began to hold something; what replaces a thing is born with it. 0: before the process looked."""

    def ttl_ms(self, now: int) -> int | None:
        """Return how long it lives on, in milliseconds; None: it does not expire."""
        return None if self.expires is None else self.expires - now


K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Expires)
R = TypeVar("R")


class Expiring(Generic[K, V]):
    """Things that expire, by key.

    Args:
        most: The most to hold; past that the least recently used go. None: no bound.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._things: OrderedDict[K, V] = OrderedDict()
        self._appointments: list[tuple[int, int, K]] = []
        self._ticket = 0
        self._now = 0

    def __len__(self) -> int:
        return len(self._things)

    def __iter__(self) -> Iterator[K]:
        return iter(self._things)

    def items(self) -> Iterator[tuple[K, V]]:
        """Return what is held, without counting it as used."""
        return iter(self._things.items())

    def find(self, key: K) -> V | None:
        """Return what a key holds, without counting it as used; None where there is nothing."""
        return self._things.get(key)

    def keep(self, key: K, thing: V) -> None:
        """Hold what was used just now."""
        held = self._things.get(key)
        thing.born = self._now if held is None else held.born
        self._things[key] = thing
        self._things.move_to_end(key)
        while self._most is not None and len(self._things) > self._most:
            self._things.popitem(last=False)
        if thing.expires is not None and (thing.due is None or thing.expires < thing.due):
            self._ticket += 1
            thing.ticket = self._ticket
            self._appoint(key, thing, thing.expires)

    def drop(self, key: K) -> bool:
        """Let go of what a key holds; tells whether there was anything."""
        return self._things.pop(key, None) is not None

    def drop_expired(self, now: int) -> None:
        """Let go of everything whose time has come; what `keep` is given from now on is born now."""
        self._now = now
        while self._appointments and self._appointments[0][0] <= now:
            _, ticket, key = heapq.heappop(self._appointments)
            thing = self._things.get(key)
            if thing is None or thing.ticket != ticket:
                continue
            thing.due = None
            if thing.expires is not None:
                if thing.expires <= now:
                    self._expire(key)
                else:
                    self._appoint(key, thing, thing.expires)

    def ttl_of(self, key: K, ttl: int | None, waited_ms: int, now: int) -> int | None:
        """Return how long that lives on which an operation has written, and others may have prolonged or cut short.

        Args:
            key: Where.
            ttl: The milliseconds that the operation gave it; None: no expiry.
            waited_ms: How many milliseconds ago that was.
            now: The time, in milliseconds since 1970.

        Returns:
            The milliseconds, 0 or less where it has expired; None: no expiry.
        """
        held = self._things.get(key)
        if held is not None and held.born <= now - waited_ms:
            return held.ttl_ms(now)
        return None if ttl is None else ttl - waited_ms

    def _expire(self, key: K) -> None:
        del self._things[key]

    def _appoint(self, key: K, thing: V, due: int) -> None:
        thing.due = due
        heapq.heappush(self._appointments, (due, thing.ticket, key))
        if len(self._appointments) > 2 * len(self._things) + 64:  # most are of things that are gone
            self._appointments = [
                (when, ticket, each)
                for when, ticket, each in self._appointments
                if (held := self._things.get(each)) and held.ticket == ticket
            ]
            heapq.heapify(self._appointments)


class Popped(NamedTuple):
    """Entries that were popped, for a repeated call."""

    writer: str
    number: int
    entries: list[bytes]
    until: int
    """When they are forgotten, in milliseconds since 1970."""


@dataclass
class Session(Expires):
    """One session, as Redis would hold it; times in milliseconds."""

    messages: list[bytes] = field(default_factory=list)
    summary: str = ""
    evicted: list[bytes] = field(default_factory=list)
    evicted_unseen: int = 0
    """How many entries were evicted before those of `evicted`, and are known by their number only."""
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
    writers: Writers = field(default_factory=Writers)
    popped: list[Popped] = field(default_factory=list)

    def commit(self, write_id: str, result: str, ttl: int | None, now: int) -> str:
        """Keep what every change leaves behind, and start the TTL anew when it has worn off enough."""
        if not self.epoch:
            self.epoch, self.created = WriteId.parse(write_id).name, now
        self.updated = now
        self.writers.record(write_id, result, now)
        self.refresh_ttl(ttl, now)
        return result

    def record_unchanged(self, write_id: str, result: str, now: int) -> None:
        """Keep that a write was done, which has changed nothing; a session that does not exist keeps nothing."""
        if self.epoch:
            self.writers.record(write_id, result, now)

    @property
    def evicted_count(self) -> int:
        """How many entries wait to be summarised."""
        return self.evicted_unseen + len(self.evicted)

    def drop_evicted(self, count: int) -> None:
        """Let the oldest of the entries go that wait to be summarised."""
        known = max(0, count - self.evicted_unseen)
        self.evicted_unseen -= count - known
        del self.evicted[:known]

    def refresh_ttl(self, ttl: int | None, now: int) -> None:
        """Start the TTL anew, unless less than a hundredth of it has worn off."""
        if worn(self.ttl_ms(now), ttl):
            self.expires = None if ttl is None else now + ttl


def worn(ttl_ms: int | None, ttl: int | None) -> bool:
    """Tell whether a TTL is to be set anew.

    Args:
        ttl_ms: The milliseconds left; None: there is no expiry.
        ttl: The milliseconds there should be; None: no expiry.
    """
    if ttl is None or ttl_ms is None:
        return ttl is not ttl_ms
    return ttl_ms > ttl or ttl - ttl_ms > ttl / 100


class Sessions(Expiring[SessionKeys, Session]):
    """All sessions of an in-process store."""

    def open(self, keys: SessionKeys) -> Session:
        """Return a session; a new one where there is none, which `keep` has to be told of."""
        return self._things.get(keys) or Session()

    @override
    def keep(self, key: SessionKeys, thing: Session) -> None:
        if thing.epoch:  # else nothing was ever written to it
            super().keep(key, thing)


@dataclass
class Value(Expires):
    """What a key of the key-value family holds."""

    data: Any = b""
    is_partial: bool = False
    """Whether it is a counter of which the process knows only what was added in an outage."""


class Values(Expiring[str, Value]):
    """Values, by their keys in Redis."""

    is_complete: ClassVar[bool] = True
    """Whether there are no others."""

    def knows(self, key: str) -> bool:
        """Tell whether what a key holds, or that it holds nothing, is known."""
        return True

    def forget(self, keys: Iterable[Hashable]) -> None:
        """Know nothing of keys any more; those of anything else than values are none."""
        for key in keys:
            self._things.pop(cast("str", key), None)

    @override
    def find(self, key: str) -> Value | None:
        if (value := self._things.get(key)) is not None:
            self._things.move_to_end(key)  # looking counts as use
        return value


@dataclass
class Activity:
    """The operations that were done, and the values that were asked for."""

    hits: int = 0
    """How many of the values that were asked for there were."""
    misses: int = 0
    """How many of the values that were asked for there were not."""
    _second: int = 0
    _done: int = 0
    _done_before: int = 0

    def count(self, now: int) -> None:
        """Count an operation, by when it was done, in milliseconds since 1970."""
        self._advance(now)
        self._done += 1

    def per_second(self, now: int) -> int:
        """Return how many operations were done in the last full second."""
        self._advance(now)
        return self._done_before

    def _advance(self, now: int) -> None:
        second = now // 1000
        if second != self._second:
            self._done_before = self._done if second == self._second + 1 else 0
            self._second, self._done = second, 0


@dataclass(frozen=True)
class LocalState:
    """What operations run on inside the process.

    Args:
        clock: Tells the time, in seconds since 1970.
    """

    clock: Callable[[], float]
    sessions: Sessions = field(default_factory=lambda: Sessions(MOST_SESSIONS))
    values: Values = field(default_factory=lambda: Values(MOST_VALUES))
    leases: Values = field(default_factory=lambda: Values(None))
    """Locks, the times of limited hits, and what calls have done: none goes before it expires, which is soon."""
    activity: Activity = field(default_factory=Activity)

    def __iter__(self) -> Iterator[str]:
        """Return the key of every value, and of every session `meta`."""
        yield from (keys.meta for keys in self.sessions)
        yield from self.values

    def now(self) -> int:
        """Return the time, in milliseconds since 1970."""
        return int(self.clock() * 1000)

    def execute(self, run: Callable[[LocalState, int], R], at: int | None = None) -> R:
        """Run the Python meaning of an operation, on all that has not expired by then.

        Args:
            run: The `run` of the operation.
            at: When, in milliseconds since 1970; None: now. What is done again to make a state is done in its order.
        """
        now = self.now() if at is None else at
        self.activity.count(now)
        self.sessions.drop_expired(now)
        self.values.drop_expired(now)
        self.leases.drop_expired(now)
        return run(self, now)
