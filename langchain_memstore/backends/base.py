"""What a backend is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from langchain_memstore.ops.base import Op

R = TypeVar("R")


@dataclass(frozen=True)
class SummaryFailure:
    """A summary that could not be made; nothing was lost."""

    session_id: str
    """Of which conversation."""
    cause: str
    """What went wrong."""
    at: datetime
    """When."""


@dataclass(frozen=True)
class Status:
    """How a backend does: what a health endpoint shows."""

    backend: str
    """What serves operations: `redis` or `local`."""
    degraded: bool = False
    """Whether operations are served by the stand-in for a store that cannot be reached."""
    pending: int = 0
    """How many operations wait to be replayed."""
    since: datetime | None = None
    """Since when the backend is degraded; None: it is not."""
    summary_failures: tuple[SummaryFailure, ...] = ()
    """The last summaries that could not be made in this process, oldest first."""


class Backend(Protocol):
    """Where sessions are kept: one verb, in two faces."""

    @property
    def status(self) -> Status:
        """How the backend does; looking does no I/O."""
        ...

    def execute(self, op: Op[R]) -> R:
        """Execute an operation.

        Args:
            op: What to do.

        Returns:
            The operation's result.

        Raises:
            BackendError: The store refused, could not be reached, or is closed.
        """
        ...

    async def aexecute(self, op: Op[R]) -> R:
        """Execute an operation; the async face of `execute`."""
        ...

    def close(self) -> None:
        """Let go of what the backend owns; closing twice is closing once."""
        ...

    async def aclose(self) -> None:
        """Let go of what the backend owns; the async face of `close`."""
        ...
