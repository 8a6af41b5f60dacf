"""What a lock, a rate limiter or values do while the store cannot be reached: their user chooses."""

from __future__ import annotations

import logging
from typing import Literal

from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.backends.outage.breaker import CircuitBreaker
from langchain_memstore.errors import BackendUnavailable
from langchain_memstore.ops.base import Op, R

OnOutage = Literal["raise", "local"]

logger = logging.getLogger(__name__)


def is_local(on_outage: OnOutage) -> bool:
    """Return whether an outage is to be answered from what the process has.

    Raises:
        ValueError: It is neither `raise` nor `local`.
    """
    if on_outage not in ("raise", "local"):
        raise ValueError(f"on_outage must be 'raise' or 'local', not {on_outage!r}")
    return on_outage == "local"


class OutagePolicy:
    """Executes operations in the store; while that cannot be reached, raises, or executes them inside the process.

    The two know nothing of each other: what is promised across processes holds in each process alone then.

    Args:
        backend: The store.
        stand_in: What stands in for it; None: an outage raises.
    """

    def __init__(self, backend: Backend, stand_in: LocalBackend | None = None) -> None:
        self._backend = backend
        self._stand_in = stand_in
        self._breaker = CircuitBreaker()

    def execute(self, op: Op[R]) -> tuple[R, Backend]:
        """Execute an operation, and tell where."""
        try:
            if self._stand_in is None:
                return self._backend.execute(op), self._backend
            if self._breaker.remaining() <= 0:
                try:
                    return self._came_back(self._backend.execute(op))
                except BackendUnavailable as error:
                    self._went_away(error)
            return self._stand_in.execute(op), self._stand_in
        finally:
            op.finish()

    async def aexecute(self, op: Op[R]) -> tuple[R, Backend]:
        """Execute an operation; the async variant of `execute`."""
        try:
            if self._stand_in is None:
                return await self._backend.aexecute(op), self._backend
            if self._breaker.remaining() <= 0:
                try:
                    return self._came_back(await self._backend.aexecute(op))
                except BackendUnavailable as error:
                    self._went_away(error)
            return self._stand_in.execute(op), self._stand_in
        finally:
            op.finish()

    def _came_back(self, result: R) -> tuple[R, Backend]:
        self._breaker.close()
        return result, self._backend

    def _went_away(self, error: BackendUnavailable) -> None:
        self._breaker.open()
        logger.warning("locks and limits that may hold in this process alone do so now: %s", error)
