"""The backend that keeps windows in the process, and asks the store only for what came since."""

from __future__ import annotations

from typing import TypeVar, cast

from langchain_memstore.backends.base import Backend, Status
from langchain_memstore.backends.last_known import LastKnown
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.reading import CHANGED, Read, ReadTail

R = TypeVar("R")

OVERLAP = 4  # how many entries to read beyond those that are expected to be new: others may have appended, too


class NearCacheBackend:
    """Reads windows from what the process has of them, and from the store what was appended since, in one round trip.

    Where anything else has changed (entries were taken off, the session is another), or more was appended than was
    asked for, the whole window is read.

    Args:
        backend: The store.
        known: What is known of sessions.
        notes: Whether to note there what operations tell; not where somebody else does.
    """

    def __init__(self, backend: Backend, known: LastKnown, notes: bool) -> None:
        self._backend = backend
        self._known = known
        self._notes = notes

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._backend!r})"

    @property
    def status(self) -> Status:
        """How the backend does."""
        return self._backend.status

    def execute(self, op: Op[R]) -> R:
        """Execute an operation; a read, from what is known, where that is enough."""
        tail = self._tail(op)
        result = self._backend.execute(op if tail is None else tail)
        if result is CHANGED:
            result = self._backend.execute(op)
        return self._noted(op, result)

    async def aexecute(self, op: Op[R]) -> R:
        """Execute an operation; the async face of `execute`."""
        tail = self._tail(op)
        result = await self._backend.aexecute(op if tail is None else tail)
        if result is CHANGED:
            result = await self._backend.aexecute(op)
        return self._noted(op, result)

    def close(self) -> None:
        """Close the store."""
        self._backend.close()

    async def aclose(self) -> None:
        """Close the store; the async face of `close`."""
        await self._backend.aclose()

    def _tail(self, op: Op[R]) -> Op[R] | None:
        """Return the read of what came since; None: there is nothing that it could follow on."""
        if type(op) is not Read or not op.window or (last := self._known.last(op.keys)) is None:
            return None
        known, appended = last
        return cast("Op[R]", ReadTail(op.keys, op.ttl, op.refresh, True, known, appended + OVERLAP))

    def _noted(self, op: Op[R], result: R) -> R:
        if self._notes:
            self._known.note(op, result)
        return result
