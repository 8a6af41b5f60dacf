"""All that the in-process backend holds."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_memstore.ops.expiring import Values
from langchain_memstore.ops.sessions import Sessions


@dataclass(frozen=True)
class Held:
    """What operations run on inside the process."""

    sessions: Sessions
    values: Values

    def expire(self, now: int) -> None:
        """Let go of everything whose time, in milliseconds since 1970, has come."""
        self.sessions.expire(now)
        self.values.expire(now)
