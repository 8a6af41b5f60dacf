"""The operations on values of which doing one twice is doing it once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, ClassVar

from typing_extensions import override

from langchain_memstore.ops.base import Command, InOutage, Op, R
from langchain_memstore.ops.state import LocalState, Value


class ValueOp(Op[R]):
    """An operation on values.

    Those on several are not one transaction: on a Cluster the values are in different places.
    """

    atomic: ClassVar[bool] = False
    in_outage: ClassVar[InOutage] = "serve"

    @property
    @override
    def targets(self) -> tuple[Hashable, ...]:
        return ("values",)

    @property
    @override
    def subject(self) -> str | None:
        keys: tuple[str, ...] = getattr(self, "keys", ())
        return f"key {keys[0]!r}" if len(keys) == 1 else None


def expiry(ttl: int | None, now: int) -> int | None:
    """Return when what lives for some milliseconds expires."""
    return None if ttl is None else now + ttl


@dataclass(frozen=True)
class Get(ValueOp[list[bytes | None]]):
    """Read values; None for each that is not there.

    Args:
        keys: Where they are.
    """

    keys: tuple[str, ...]

    @override
    def commands(self) -> list[Command]:
        return [("GET", key) for key in self.keys]

    @override
    def run(self, state: LocalState, now: int) -> list[bytes | None]:
        values = [None if (value := state.values.find(key)) is None else value.data for key in self.keys]
        missing = values.count(None)
        state.activity.misses += missing
        state.activity.hits += len(values) - missing
        return values


@dataclass(frozen=True)
class Set(ValueOp[bool]):
    """Set values; True.

    Args:
        items: Where, and what.
        ttl: Milliseconds until they expire; None: never.
    """

    writes: ClassVar[bool] = True
    in_outage: ClassVar[InOutage] = "journal"
    journal_name: ClassVar[str | None] = "Set"

    items: tuple[tuple[str, bytes], ...]
    ttl: int | None

    @override
    def commands(self) -> list[Command]:
        px = () if self.ttl is None else ("PX", self.ttl)
        return [("SET", key, data, *px) for key, data in self.items]

    @override
    def decode(self, reply: list[Any]) -> bool:
        return True

    @override
    def run(self, state: LocalState, now: int) -> bool:
        for key, data in self.items:
            state.values.keep(key, Value(expiry(self.ttl, now), data=data))
        return True


@dataclass(frozen=True)
class SetCached(Set):
    """Set values that can be had anew: an outage does not keep them for the store."""

    in_outage: ClassVar[InOutage] = "serve"
    journal_name: ClassVar[str | None] = None


@dataclass(frozen=True)
class Unlink(ValueOp[None]):
    """Delete values, whether they are there or not.

    Args:
        keys: Where they are.
    """

    writes: ClassVar[bool] = True
    in_outage: ClassVar[InOutage] = "journal"
    journal_name: ClassVar[str] = "Unlink"

    keys: tuple[str, ...]

    @override
    def commands(self) -> list[Command]:
        return [("UNLINK", key) for key in self.keys]  # which does not keep the server busy, as DEL does

    @override
    def decode(self, reply: list[int]) -> None:
        """Return nothing."""

    @override
    def run(self, state: LocalState, now: int) -> None:
        for key in self.keys:
            state.values.drop(key)


@dataclass(frozen=True)
class Exists(ValueOp[bool]):
    """Tell whether there is a value.

    Args:
        keys: Where.
    """

    keys: tuple[str]

    @override
    def commands(self) -> list[Command]:
        return [("EXISTS", *self.keys)]

    @override
    def decode(self, reply: list[int]) -> bool:
        return reply[0] > 0

    @override
    def run(self, state: LocalState, now: int) -> bool:
        return state.values.find(self.keys[0]) is not None


@dataclass(frozen=True)
class Ttl(ValueOp[int | None]):
    """Tell how many milliseconds a value lives on: None where it does not expire, 0 where there is none.

    Args:
        keys: Where.
    """

    keys: tuple[str]

    @override
    def commands(self) -> list[Command]:
        return [("PTTL", *self.keys)]

    @override
    def decode(self, reply: list[int]) -> int | None:
        return {-1: None, -2: 0}.get(reply[0], reply[0])  # no expiry, no value

    @override
    def run(self, state: LocalState, now: int) -> int | None:
        value = state.values.find(self.keys[0])
        return 0 if value is None else value.ttl_ms(now)


@dataclass(frozen=True)
class Expire(ValueOp[bool]):
    """Set when a value expires, and tell whether there is one.

    Args:
        keys: Where.
        ttl: Milliseconds from now; None: never.
    """

    atomic: ClassVar[bool] = True
    writes: ClassVar[bool] = True
    in_outage: ClassVar[InOutage] = "journal"
    journal_name: ClassVar[str] = "Expire"

    keys: tuple[str]
    ttl: int | None

    @override
    def commands(self) -> list[Command]:
        if self.ttl is None:
            return [("EXISTS", *self.keys), ("PERSIST", *self.keys)]  # which does not tell whether there is a value
        return [("PEXPIRE", *self.keys, self.ttl)]

    @override
    def decode(self, reply: list[int]) -> bool:
        return reply[0] > 0

    @override
    def run(self, state: LocalState, now: int) -> bool:
        if (value := state.values.find(self.keys[0])) is None:
            return False
        value.expires = expiry(self.ttl, now)
        state.values.keep(self.keys[0], value)
        return True
