"""The operations on values of which doing one twice is doing it once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from typing_extensions import override

from langchain_memstore.ops.base import Command, InOutage, Op, R
from langchain_memstore.ops.stand_in import find_known
from langchain_memstore.ops.state import LocalState, Value


class ValueOp(Op[R]):
    """An operation on values.

    Those on several are not one transaction: on a Cluster the values are in different places. A TTL may have run out
    (0 or less), where an operation has waited in a journal: what it sets is deleted then.
    """

    atomic: ClassVar[bool] = False
    in_outage: ClassVar[InOutage] = "serve"

    @property
    @override
    def targets(self) -> tuple[Hashable, ...]:
        return self.concerns

    @property
    def concerns(self) -> tuple[str, ...]:
        """The keys of the values."""
        keys: tuple[str, ...] = getattr(self, "keys", ())
        return keys

    @property
    @override
    def subject(self) -> str | None:
        return f"key {self.concerns[0]!r}" if len(self.concerns) == 1 else None


@dataclass(frozen=True)
class LookupOp(ValueOp[R]):
    """An operation on values whose result depends on what they were.

    Args:
        strict: Whether an outage refuses it where the process does not know a value, which else counts as absent. It is
            no matter of the store, so journals do not hold it.
    """

    strict: bool = field(default=False, kw_only=True, compare=False)

    def find(self, state: LocalState, key: str) -> Value | None:
        """Return a value; None where there is none.

        Raises:
            UnknownValue: The process does not know whether there is one, and the operation is strict.
        """
        return find_known(state, key) if self.strict else state.values.find(key)


def expiry(ttl: int | None, now: int) -> int | None:
    """Return when what lives for some milliseconds expires."""
    return None if ttl is None else now + ttl


@dataclass(frozen=True)
class Get(LookupOp[list[bytes | None]]):
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
        values = [None if (value := self.find(state, key)) is None else value.data for key in self.keys]
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

    @property
    @override
    def concerns(self) -> tuple[str, ...]:
        return tuple(key for key, _ in self.items)

    @override
    def commands(self) -> list[Command]:
        if self.ttl is None:
            return [("SET", key, data) for key, data in self.items]
        if self.ttl <= 0:
            return [("UNLINK", key) for key, _ in self.items]
        return [("SET", key, data, "PX", self.ttl) for key, data in self.items]

    @override
    def decode(self, reply: list[Any]) -> bool:
        return True

    @override
    def run(self, state: LocalState, now: int) -> bool:
        for key, data in self.items:
            state.values.keep(key, Value(expiry(self.ttl, now), data=data))
        return True

    @override
    def at_replay(self, waited_ms: int, stand_in: LocalState) -> Op[Any]:
        now = stand_in.now()
        ttls = [stand_in.values.ttl_of(key, self.ttl, waited_ms, now) for key, _ in self.items]
        if len(set(ttls)) > 1:
            pairs = zip(self.items, ttls, strict=True)
            return SetEach(tuple(replace(self, items=(item,), ttl=ttl) for item, ttl in pairs))
        return replace(self, ttl=ttls[0]) if ttls else self


@dataclass(frozen=True)
class SetEach(ValueOp[None]):
    """Set values that expire at different times: those of a `Set` that has waited, of which some were set to.

    Args:
        sets: What to set.
    """

    writes: ClassVar[bool] = True

    sets: tuple[Set, ...]

    @property
    @override
    def concerns(self) -> tuple[str, ...]:
        return tuple(key for each in self.sets for key in each.concerns)

    @override
    def commands(self) -> list[Command]:
        return [command for each in self.sets for command in each.commands()]

    @override
    def decode(self, reply: list[Any]) -> None:
        """Return nothing."""

    @override
    def run(self, state: LocalState, now: int) -> None:
        for each in self.sets:
            each.run(state, now)


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
class Exists(LookupOp[bool]):
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
        return self.find(state, self.keys[0]) is not None


@dataclass(frozen=True)
class Ttl(LookupOp[int | None]):
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
        value = self.find(state, self.keys[0])
        return 0 if value is None else value.ttl_ms(now)


@dataclass(frozen=True)
class Expire(LookupOp[bool]):
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
        if (value := self.find(state, self.keys[0])) is None:
            return False
        value.expires = expiry(self.ttl, now)
        state.values.keep(self.keys[0], value)
        return True

    @override
    def at_replay(self, waited_ms: int, stand_in: LocalState) -> Op[Any]:
        values, key = stand_in.values, self.keys[0]
        if values.knows(key):
            return replace(self, ttl=values.ttl_of(key, self.ttl, waited_ms, stand_in.now()))
        return self if self.ttl is None else replace(self, ttl=self.ttl - waited_ms)
