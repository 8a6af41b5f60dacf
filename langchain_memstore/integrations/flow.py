"""Flows of operations on several stores: generators of steps, for `backends.steps` to drive by either face."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

from langchain_memstore.backends.base import Backend
from langchain_memstore.ops.base import Op

T = TypeVar("T")

Step = tuple[Backend, Op[Any]]
"""An operation, and the backend that is to execute it; the result is sent back."""

Steps = Generator[Step, Any, T]


def done(result: T) -> Steps[T]:
    """Return a flow that needs no step."""
    return result
    yield


def take(step: Step) -> Any:
    """Execute an operation."""
    backend, op = step
    return backend.execute(op)


async def atake(step: Step) -> Any:
    """Execute an operation; the async face of `take`."""
    backend, op = step
    return await backend.aexecute(op)
