"""What the in-process backend holds: things that expire, by key, up to a bound."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar


@dataclass
class Expires:
    """A thing that expires; times in milliseconds."""

    expires: int | None = None
    due: int | None = None
    """When `Expiring` looks whether it has expired; None: it never does."""
    ticket: int = 0
    """Which of the appointments that `Expiring` made for its key is this thing's."""

    def left(self, now: int) -> int | None:
        """Return how long it lives on, in milliseconds; None: it does not expire."""
        return None if self.expires is None else self.expires - now


K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Expires)


class Expiring(Generic[K, V]):
    """Things that expire, by key.

    Args:
        most: The most to hold; past that the least recently used go. None: no bound.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._held: OrderedDict[K, V] = OrderedDict()
        self._appointments: list[tuple[int, int, K]] = []
        self._ticket = 0

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[K]:
        return iter(self._held)

    def items(self) -> Iterator[tuple[K, V]]:
        """Return what is held, without counting it as used."""
        return iter(self._held.items())

    def find(self, key: K) -> V | None:
        """Return what a key holds, without counting it as used; None where there is nothing."""
        return self._held.get(key)

    def keep(self, key: K, thing: V) -> None:
        """Hold what was used just now."""
        self._held[key] = thing
        self._held.move_to_end(key)
        while self._most is not None and len(self._held) > self._most:
            self._held.popitem(last=False)
        if thing.expires is not None and (thing.due is None or thing.expires < thing.due):
            self._ticket += 1
            thing.ticket = self._ticket
            self._appoint(key, thing, thing.expires)

    def drop(self, key: K) -> bool:
        """Let go of what a key holds; tells whether there was anything."""
        return self._held.pop(key, None) is not None

    def expire(self, now: int) -> None:
        """Let go of everything whose time has come."""
        while self._appointments and self._appointments[0][0] <= now:
            _, ticket, key = heapq.heappop(self._appointments)
            thing = self._held.get(key)
            if thing is None or thing.ticket != ticket:
                continue
            thing.due = None
            if thing.expires is not None:
                if thing.expires <= now:
                    del self._held[key]
                else:
                    self._appoint(key, thing, thing.expires)

    def _appoint(self, key: K, thing: V, due: int) -> None:
        thing.due = due
        heapq.heappush(self._appointments, (due, thing.ticket, key))
        if len(self._appointments) > 2 * len(self._held) + 64:  # most are of things that are gone
            self._appointments = [
                (when, ticket, each)
                for when, ticket, each in self._appointments
                if (held := self._held.get(each)) and held.ticket == ticket
            ]
            heapq.heapify(self._appointments)


@dataclass
class Value(Expires):
    """What a key of the key-value family holds."""

    data: Any = b""


class Values(Expiring[str, Value]):
    """Values, by their keys in Redis."""

    def find(self, key: str) -> Value | None:
        """Return what a key holds, and count it as used; None where there is nothing."""
        if (value := self._held.get(key)) is not None:
            self._held.move_to_end(key)
        return value
