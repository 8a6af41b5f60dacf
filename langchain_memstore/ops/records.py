"""The operation on records of a working memory that no operation on values does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from langchain_memstore.errors import BackendError
from langchain_memstore.ops.base import Command, InOutage, Script
from langchain_memstore.ops.expiring import Value
from langchain_memstore.ops.held import Held
from langchain_memstore.ops.kv import ValueOp, expiry

HEAD = b'{"created_at":"'
"""How a record begins; the time follows, and a quote."""


@dataclass(frozen=True)
class UpdateRecord(ValueOp[bool]):
    """Replace a record, but for when it was created, and tell whether there was one.

    Args:
        keys: Where it is.
        tail: The new record, without when it was created.
        ttl: Milliseconds until it expires; None: never.
    """

    script: ClassVar[Script] = Script("update_record", "values")
    in_outage: ClassVar[InOutage] = "journal"

    keys: tuple[str]
    tail: bytes
    ttl: int | None

    def arguments(self) -> Command:
        """Return the key and what the script takes."""
        return (1, *self.keys, "" if self.ttl is None else self.ttl, HEAD, self.tail)

    def decode(self, reply: Any) -> bool:
        """Tell whether there was a record."""
        return bool(reply == 1)

    def run(self, held: Held, now: int) -> bool:
        """Replace all but the beginning."""
        key = self.keys[0]
        if (value := held.values.find(key)) is None:
            return False
        last = value.data.find(b'"', len(HEAD))
        if not value.data.startswith(HEAD) or last < 0:
            raise BackendError(f"{self.subject}: it is not a record")
        held.values.keep(key, Value(expiry(self.ttl, now), data=value.data[: last + 1] + self.tail))
        return True
