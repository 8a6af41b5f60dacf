"""Scripts on one value: those that take effect once per write id, and the update of a record."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from typing_extensions import override

from langchain_memstore.errors import BackendError
from langchain_memstore.keys import meta_key
from langchain_memstore.ops.base import Argument, Command, InOutage, Op, R, Script
from langchain_memstore.ops.kv import LookupOp, ValueOp, expiry
from langchain_memstore.ops.stand_in import find_known
from langchain_memstore.ops.state import LocalState, Value
from langchain_memstore.ops.write_ids import DAY, Numbered, Writers

VALUES = ("writes", "values")  # what the scripts follow on
MINUTE = 60_000  # milliseconds, as in lua/values.lua

_INTEGER = re.compile(rb"0|-?[1-9][0-9]*")  # what Redis takes for a whole number


class ValueScript(Numbered, ValueOp[R]):
    """An operation on one value that is a script, and is done once for each write id.

    Its keys are that of the value and that of what tells of writes on it; see `keys.Namespace`.
    """

    numbered_by = property(lambda op: op.keys[0])

    keys: tuple[str, str]
    write_id: str

    @override
    def __post_init__(self) -> None:
        if ":done/" in self.keys[1]:  # perhaps out of a journal of version 0.1, which keeps something else there
            object.__setattr__(self, "keys", (self.keys[0], meta_key(self.keys[0])))
        super().__post_init__()

    @property
    @override
    def concerns(self) -> tuple[str, ...]:
        return self.keys[:1]

    @override
    def at_replay(self, waited_ms: int, stand_in: LocalState) -> Op[Any]:
        return self.renumbered()

    @override
    def arguments(self) -> Command:
        return (2, *self.keys, self.write_id, *self.values())

    def values(self) -> tuple[Argument, ...]:
        """Return the operation's own arguments."""
        return ()


class ValueFlag(ValueScript[bool]):
    """A `ValueScript` that returns whether it changed anything."""

    @override
    def decode(self, reply: int) -> bool:
        return reply == 1


def find_result(state: LocalState, op: ValueScript[Any]) -> str | None:
    """Return what an operation did when it was done before; None: it was not."""
    writers = state.leases.find(op.keys[1])
    return None if writers is None else writers.data.find_result(op.write_id)


def record_result(state: LocalState, op: ValueScript[Any], result: str, now: int, time: int = MINUTE) -> None:
    """Keep what an operation did, for so many milliseconds at least."""
    writers = state.leases.find(op.keys[1]) or Value(data=Writers())
    writers.data.record(op.write_id, result, now)
    writers.expires = max(writers.expires or 0, now + time)
    state.leases.keep(op.keys[1], writers)


@dataclass(frozen=True)
class SetNew(ValueFlag):
    """Set a value that is not there yet, and tell whether it was set. Whoever asks must be sure of the answer, so
    nothing stands in for the store.

    Args:
        keys: Where; see `ValueScript`.
        data: The value.
        ttl: Milliseconds until it expires; None: never.
        write_id: The id by which a repetition is known.
    """

    script: ClassVar[Script] = Script("set_new", VALUES)
    writes: ClassVar[bool] = True
    in_outage: ClassVar[InOutage] = "refuse"

    keys: tuple[str, str]
    data: bytes
    ttl: int | None
    write_id: str = ""

    @override
    def values(self) -> tuple[Argument, ...]:
        return ("" if self.ttl is None else self.ttl, self.data)

    @override
    def run(self, state: LocalState, now: int) -> bool:
        if (done := find_result(state, self)) is not None:
            return done == "1"
        new = state.values.find(self.keys[0]) is None
        if new:
            state.values.keep(self.keys[0], Value(expiry(self.ttl, now), data=self.data))
        record_result(state, self, str(int(new)), now)
        return new


@dataclass(frozen=True)
class Delete(LookupOp[bool], ValueFlag):
    """Delete a value, and tell whether there was one.

    Args:
        keys: Where; see `ValueScript`.
        write_id: The id by which a repetition is known.
    """

    script: ClassVar[Script] = Script("delete", VALUES)
    writes: ClassVar[bool] = True
    in_outage: ClassVar[InOutage] = "journal"
    journal_name: ClassVar[str] = "Delete"

    keys: tuple[str, str]
    write_id: str = ""

    @override
    def run(self, state: LocalState, now: int) -> bool:
        if (done := find_result(state, self)) is not None:
            return done == "1"
        deleted = self.find(state, self.keys[0]) is not None
        state.values.drop(self.keys[0])
        record_result(state, self, str(int(deleted)), now)
        return deleted


@dataclass(frozen=True)
class Increment(LookupOp[int], ValueScript[int]):
    """Add to a counter, and return it.

    Args:
        keys: Where; see `ValueScript`.
        by: What to add; a signed 64-bit number.
        ttl: Milliseconds until a counter expires that is made now; None: never.
        write_id: The id by which a repetition is known.
    """

    script: ClassVar[Script] = Script("increment", VALUES)
    writes: ClassVar[bool] = True
    in_outage: ClassVar[InOutage] = "journal"
    journal_name: ClassVar[str] = "Increment"

    keys: tuple[str, str]
    by: int
    ttl: int | None
    write_id: str = ""

    @override
    def values(self) -> tuple[Argument, ...]:
        return ("" if self.ttl is None else self.ttl, self.by)

    @override
    def decode(self, reply: bytes) -> int:
        return int(reply)

    @override
    def run(self, state: LocalState, now: int) -> int:
        if (done := find_result(state, self)) is not None:
            return int(done)
        key = self.keys[0]
        if (value := self.find(state, key)) is None:
            value = Value(expiry(self.ttl, now), data=b"0", is_partial=not state.values.knows(key))
        counter = int(value.data) if _INTEGER.fullmatch(value.data) else 2**63
        if not all(-(2**63) <= number < 2**63 for number in (counter, counter + self.by)):
            raise BackendError(f"{self.subject}: its value is not a whole number of 64 bits, or would not be")
        value.data = b"%d" % (counter + self.by)
        state.values.keep(key, value)
        ttl_ms = value.ttl_ms(now)
        lifetime = DAY if ttl_ms is None or ttl_ms > DAY else max(ttl_ms, MINUTE)
        record_result(state, self, str(counter + self.by), now, lifetime)
        return counter + self.by

    @override
    def at_replay(self, waited_ms: int, stand_in: LocalState) -> Op[Any]:
        ttl = stand_in.values.ttl_of(self.keys[0], self.ttl, waited_ms, stand_in.now())
        return replace(self.renumbered(), ttl=ttl)


HEAD = b'{"created_at":"'
"""How a record begins; the time follows, and a quote."""


@dataclass(frozen=True)
class UpdateRecord(ValueOp[bool]):
    """Replace a record, but for when it was created, and tell whether there was one.

    An outage refuses it where the process does not know the record: it would replace what nobody has looked at.

    Args:
        keys: Where it is.
        tail: The new record, without when it was created.
        ttl: Milliseconds until it expires; None: never.
    """

    script: ClassVar[Script] = Script("update_record", ())
    writes: ClassVar[bool] = True
    in_outage: ClassVar[InOutage] = "journal"
    journal_name: ClassVar[str] = "UpdateRecord"

    keys: tuple[str]
    tail: bytes
    ttl: int | None

    @override
    def arguments(self) -> Command:
        return (1, *self.keys, "" if self.ttl is None else self.ttl, HEAD, self.tail)

    @override
    def decode(self, reply: Any) -> bool:
        return bool(reply == 1)

    @override
    def run(self, state: LocalState, now: int) -> bool:
        key = self.keys[0]
        if (value := find_known(state, key)) is None:
            return False
        last = value.data.find(b'"', len(HEAD))
        if not value.data.startswith(HEAD) or last < 0:
            raise BackendError(f"{self.subject}: it is not a record")
        state.values.keep(key, Value(expiry(self.ttl, now), data=value.data[: last + 1] + self.tail))
        return True

    @override
    def at_replay(self, waited_ms: int, stand_in: LocalState) -> Op[Any]:
        return replace(self, ttl=stand_in.values.ttl_of(self.keys[0], self.ttl, waited_ms, stand_in.now()))
