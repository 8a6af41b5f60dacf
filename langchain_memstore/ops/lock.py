"""The operations of a lock: take it, hold it for longer, look whether one has it, give it up.

The lock is a string that holds its holder's token, as redis-py's own `Lock` keeps it, so that the two exclude each
other. Unlike that one, these operations may be sent again when their reply is lost. A lock that the process keeps for
itself is another promise, so nothing stands in for the store; see `kv/lock.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from typing_extensions import override

from langchain_memstore.ops.base import Argument, Command, InOutage, R, Script
from langchain_memstore.ops.kv import ValueOp
from langchain_memstore.ops.kv_scripts import VALUES, ValueFlag, ValueScript, find_result, record_result
from langchain_memstore.ops.state import LocalState, Value


@dataclass(frozen=True)
class LockOp(ValueScript[R]):
    """An operation on a lock.

    Args:
        keys: The lock; see `ValueScript`.
        token: The token of whoever asks.
        write_id: The id by which a repetition is known; empty: a new one.
    """

    writes: ClassVar[bool] = True
    in_outage: ClassVar[InOutage] = "refuse"

    keys: tuple[str, str]
    token: str
    write_id: str = field(default="", kw_only=True)

    def has(self, state: LocalState) -> bool:
        """Tell whether the token has the lock."""
        lock = state.leases.find(self.keys[0])
        return lock is not None and lock.data == self.token


@dataclass(frozen=True)
class Acquire(LockOp[int]):
    """Take a lock, where nobody else has it: 0, or the milliseconds for which another will have it (-1: no end).

    Args:
        keys, token, write_id: See `LockOp`.
        ttl: Milliseconds for which it is held.
    """

    script: ClassVar[Script] = Script("acquire", VALUES)

    ttl: int

    @override
    def values(self) -> tuple[Argument, ...]:
        return (self.token, self.ttl)

    @override
    def run(self, state: LocalState, now: int) -> int:
        if (done := find_result(state, self)) is not None:
            return int(done)
        lock = state.leases.find(self.keys[0])
        if lock is not None and lock.data != self.token:
            ttl_ms = lock.ttl_ms(now)
            taken = -1 if ttl_ms is None else ttl_ms
            record_result(state, self, str(taken), now)
            return taken
        state.leases.keep(self.keys[0], Value(now + self.ttl, data=self.token))
        return 0


@dataclass(frozen=True)
class Extend(LockOp[bool], ValueFlag):
    """Hold a lock for longer; False where the token has it no more.

    Args:
        keys, token, write_id: See `LockOp`.
        ttl: Milliseconds from now.
    """

    script: ClassVar[Script] = Script("extend", VALUES)

    ttl: int

    @override
    def values(self) -> tuple[Argument, ...]:
        return (self.token, self.ttl)

    @override
    def run(self, state: LocalState, now: int) -> bool:
        if self.has(state):
            state.leases.keep(self.keys[0], Value(now + self.ttl, data=self.token))
            return True
        return False


@dataclass(frozen=True)
class Owns(ValueOp[bool]):
    """Tell whether a token has a lock.

    Args:
        keys: The lock.
        token: The token.
    """

    in_outage: ClassVar[InOutage] = "refuse"

    keys: tuple[str]
    token: str

    @override
    def commands(self) -> list[Command]:
        return [("GET", *self.keys)]

    @override
    def decode(self, reply: list[Any]) -> bool:
        return bool(reply[0] == self.token.encode())

    @override
    def run(self, state: LocalState, now: int) -> bool:
        lock = state.leases.find(self.keys[0])
        return lock is not None and bool(lock.data == self.token)


@dataclass(frozen=True)
class GiveUp(LockOp[bool], ValueFlag):
    """Give a lock up, and have its token void from now on; False where the token did not have it.

    Args:
        keys, token, write_id: See `LockOp`.
    """

    script: ClassVar[Script] = Script("give_up", VALUES)

    @override
    def values(self) -> tuple[Argument, ...]:
        return (self.token,)

    @override
    def run(self, state: LocalState, now: int) -> bool:
        if (done := find_result(state, self)) is not None:
            return done == "1"
        had = self.has(state)
        if had:
            state.leases.drop(self.keys[0])
        record_result(state, self, "1" if had else "0", now)
        return had
