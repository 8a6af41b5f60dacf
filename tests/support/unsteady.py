"""A store that cannot always be reached."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.backends.outage.breaker import CircuitBreaker
from langchain_memstore.backends.outage.controller import OutageController
from langchain_memstore.backends.outage.fallback import FallbackBackend
from langchain_memstore.backends.outage.journal import Journal
from langchain_memstore.errors import BackendError, BackendUnavailable
from langchain_memstore.models import Status
from langchain_memstore.ops.base import Op
from support.clock import Clock

R = TypeVar("R")

made: list[tuple[weakref.ref[FallbackBackend], Backend]] = []
"""What `falling_back` made, and of what."""


class Unsteady:
    """A backend that a test takes away.

    Args:
        backend: What does the operations.
    """

    mode: Literal["up", "down", "losing replies"] = "up"
    refusal: BackendError | None = None
    """What a store that can be reached says of every operation."""
    refuse: Callable[[Op[Any]], BackendError | None] = staticmethod(lambda op: None)
    """Tells what the store says of an operation; None: it does it."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.done: list[Op[Any]] = []
        """The operations that the store has done, repetitions included."""

    @property
    def status(self) -> Status:
        return Status(backend="redis")

    def execute(self, op: Op[R]) -> R:
        if self.mode == "down":
            raise BackendUnavailable("away")
        if self.refusal is not None:
            raise self.refusal
        if (refusal := self.refuse(op)) is not None:
            raise refusal
        result = self.backend.execute(op)
        self.done.append(op)
        if self.mode == "losing replies":
            raise BackendUnavailable("the reply was lost")
        return result

    async def aexecute(self, op: Op[R]) -> R:
        return self.execute(op)

    def close(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


def quick_breaker() -> CircuitBreaker:
    """Make a breaker whose seconds are milliseconds."""
    return CircuitBreaker(clock=lambda: time.monotonic() * 1000)


class RecordingBreaker(CircuitBreaker):
    """A breaker that records its pauses, in seconds, and takes none of them."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        super().__init__(Clock(), chance=lambda: 0)

    def open(self) -> None:
        super().open()
        self.pauses.append(super().remaining())

    def remaining(self) -> float:
        return 0.0


def falling_back(
    primary: Backend, make_journal: Callable[[], Journal] = lambda: Journal(10_000), **options: Any
) -> FallbackBackend:
    """Make a backend that tries the store again within milliseconds."""
    options = {"make_breaker": quick_breaker, **options}
    backend = FallbackBackend(primary, OutageController(make_journal, **options), lambda: primary)
    made.append((weakref.ref(backend), primary))
    return backend


def unsteady() -> tuple[Unsteady, FallbackBackend]:
    """Make a store that a test takes away, and what falls back from it."""
    primary = Unsteady(LocalBackend())
    return primary, falling_back(primary)
