"""The operations of a lock: take it, hold it for longer, look whether one has it, give it up.

The lock is a string that holds its holder's token, as redis-py's own `Lock` keeps it, so that the two exclude each
other. Unlike that one, these operations may be sent again when their reply is lost. A lock that the process keeps for
itself is another promise, so nothing stands in for the store; see `kv/lock.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from langchain_memstore.ops.base import Argument, Command, InOutage, Script
from langchain_memstore.ops.expiring import Value
from langchain_memstore.ops.held import Held
from langchain_memstore.ops.kv import ValueOp
from langchain_memstore.ops.once import ValueScript, recall, remember

R = TypeVar("R")


class LockOp(ValueScript[R]):
    """An operation on a lock; its batch id is the token of whoever asks."""

    in_outage: ClassVar[InOutage] = "refuse"

    def has(self, held: Held) -> bool:
        """Tell whether the token has the lock."""
        lock = held.leases.find(self.keys[0])
        return lock is not None and lock.data == self.batch


@dataclass(frozen=True)
class Acquire(LockOp[int]):
    """Take a lock, where nobody else has it: 0, or the milliseconds for which another will have it (-1: no end).

    Args:
        keys: The lock; see `ValueScript`.
        batch: The token.
        ttl: Milliseconds for which it is held.
    """

    script: ClassVar[Script] = Script("acquire", "values")

    keys: tuple[str, str]
    batch: str
    ttl: int

    def values(self) -> tuple[Argument, ...]:
        """Return the time."""
        return (self.ttl,)

    def decode(self, reply: int) -> int:
        """Return the time that is left."""
        return reply

    def run(self, held: Held, now: int) -> int:
        """Hold the token."""
        if recall(held, self) is not None:
            return -1
        lock = held.leases.find(self.keys[0])
        if lock is not None and lock.data != self.batch:
            left = lock.left(now)
            return -1 if left is None else left
        held.leases.keep(self.keys[0], Value(now + self.ttl, data=self.batch))
        return 0


@dataclass(frozen=True)
class Extend(LockOp[bool]):
    """Hold a lock for longer; False where the token has it no more.

    Args:
        keys: The lock; see `ValueScript`.
        batch: The token.
        ttl: Milliseconds from now.
    """

    script: ClassVar[Script] = Script("extend", "values")

    keys: tuple[str, str]
    batch: str
    ttl: int

    def values(self) -> tuple[Argument, ...]:
        """Return the time."""
        return (self.ttl,)

    def decode(self, reply: int) -> bool:
        """Tell whether it is held."""
        return reply == 1

    def run(self, held: Held, now: int) -> bool:
        """Put the expiry off."""
        if self.has(held):
            held.leases.keep(self.keys[0], Value(now + self.ttl, data=self.batch))
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

    def commands(self) -> list[Command]:
        """Return one GET."""
        return [("GET", *self.keys)]

    def decode(self, reply: list[Any]) -> bool:
        """Compare the token."""
        return bool(reply[0] == self.token.encode())

    def run(self, held: Held, now: int) -> bool:
        """Compare the token."""
        lock = held.leases.find(self.keys[0])
        return lock is not None and bool(lock.data == self.token)


@dataclass(frozen=True)
class GiveUp(LockOp[bool]):
    """Give a lock up, and have its token void from now on; False where the token did not have it.

    Args:
        keys: The lock; see `ValueScript`.
        batch: The token.
    """

    script: ClassVar[Script] = Script("give_up", "values")

    keys: tuple[str, str]
    batch: str

    def decode(self, reply: int) -> bool:
        """Tell whether it was held."""
        return reply == 1

    def run(self, held: Held, now: int) -> bool:
        """Forget the token."""
        if (done := recall(held, self)) is not None:
            return done == "1"
        had = self.has(held)
        if had:
            held.leases.drop(self.keys[0])
        remember(held, self, "1" if had else "0", now)
        return had
