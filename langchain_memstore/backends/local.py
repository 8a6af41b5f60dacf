"""The in-process backend: the same answers as Redis, from plain lists under a lock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from typing_extensions import override

from langchain_memstore.backends.base import Backend
from langchain_memstore.models import Status
from langchain_memstore.ops.base import Op, R
from langchain_memstore.ops.state import MOST_SESSIONS, MOST_VALUES, LocalState, Sessions, Values
from langchain_memstore.options import check_count

_shared: dict[str, LocalBackend] = {}
_shared_lock = threading.Lock()


class LocalBackend(Backend):
    """Keeps sessions and values inside the process.

    Args:
        max_sessions: The most sessions to hold; past that the least recently used go.
        max_values: The most values of the key-value family to hold; past that the least recently used go.
        clock: Tells the time, in seconds since 1970.
    """

    def __init__(
        self,
        *,
        max_sessions: int = MOST_SESSIONS,
        max_values: int = MOST_VALUES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_count("max_sessions", max_sessions)
        check_count("max_values", max_values)
        self._state = LocalState(clock, Sessions(max_sessions), Values(max_values))
        self._lock = threading.Lock()

    @classmethod
    def shared(cls, name: str) -> LocalBackend:
        """Return the process's backend of a name, made when it is first asked for."""
        with _shared_lock:
            return _shared.setdefault(name, cls())

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}(sessions={len(self._state.sessions)})"

    @property
    @override
    def status(self) -> Status:
        return Status(backend="local")

    @override
    def execute(self, op: Op[R]) -> R:
        with self._lock:
            return self._state.execute(op.run)

    @override
    async def aexecute(self, op: Op[R]) -> R:
        return self.execute(op)  # it takes microseconds, so the event loop does it itself

    @override
    def close(self) -> None:
        """Keep everything: there is nothing to let go of."""

    @override
    async def aclose(self) -> None:
        """Keep everything: there is nothing to let go of."""
