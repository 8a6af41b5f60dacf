"""All that the in-process backend holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from langchain_memstore.ops.activity import Activity
from langchain_memstore.ops.expiring import Values
from langchain_memstore.ops.sessions import Sessions


@dataclass(frozen=True)
class Held:
    """What operations run on inside the process."""

    sessions: Sessions
    values: Values
    leases: Values = field(default_factory=lambda: Values(None))
    """Locks, the times of limited hits, and what calls have done: none goes before it expires, which is soon."""
    activity: Activity = field(default_factory=Activity)

    def __iter__(self) -> Iterator[str]:
        """Return the key of every value, and of every session `meta`."""
        yield from (keys.meta for keys in self.sessions)
        yield from self.values

    def expire(self, now: int) -> None:
        """Let go of everything whose time, in milliseconds since 1970, has come."""
        self.sessions.expire(now)
        self.values.expire(now)
        self.leases.expire(now)
