"""The backend that keeps windows in the process, and asks the store only for what came since."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from typing_extensions import override

from langchain_memstore.backends.base import Backend, BackendWrapper
from langchain_memstore.backends.outage.session_mirror import SessionMirror
from langchain_memstore.ops.base import Op, R
from langchain_memstore.ops.reading import CHANGED, Read, ReadTail

AHEAD = 4  # how many entries to read beyond those that are expected to be new: others may have appended, too


class NearCacheBackend(BackendWrapper):
    """Reads windows from what the process has of them, and from the store what was appended since, in one round trip.

    Where anything else has changed (entries were taken off, the session is another), or more was appended than was
    asked for, the whole window is read.

    Args:
        backend: The store.
        mirror: What is known of sessions.
        records: Whether to record there what operations tell; not where somebody else does.
    """

    def __init__(self, backend: Backend, mirror: SessionMirror, records: bool) -> None:
        super().__init__(backend)
        self._mirror = mirror
        self._records = records

    @override
    def execute(self, op: Op[R]) -> R:
        whole, tail = self._reads(op)
        began = self._mirror.begin()
        result = self._backend.execute(tail or whole)
        if result is CHANGED:
            result = self._backend.execute(whole)
        return self._recorded(op, result, began)

    @override
    async def aexecute(self, op: Op[R]) -> R:
        whole, tail = self._reads(op)
        began = self._mirror.begin()
        result = await self._backend.aexecute(tail or whole)
        if result is CHANGED:
            result = await self._backend.aexecute(whole)
        return self._recorded(op, result, began)

    def _reads(self, op: Op[R]) -> tuple[Op[R], Op[R] | None]:
        """Return what to execute, and what to try before: the read of what came since. None: there is nothing that it
        could follow on.
        """
        if op.mirror != "view" or not (read := cast("Read", op)).window:
            return op, None
        whole = cast("Op[R]", replace(read, trail=True))
        if (last := self._mirror.last(read.keys)) is None:
            return whole, None
        known, appended = last
        tail = ReadTail(read.keys, read.ttl, read.refresh, trail=True, known=known, count=appended + AHEAD)
        return whole, cast("Op[R]", tail)

    def _recorded(self, op: Op[Any], result: R, began: int) -> R:
        if self._records:
            self._mirror.record(op, result, began)
        return result
