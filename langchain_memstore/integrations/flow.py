"""Flows of several operations, written once for both faces: generators that yield operations and are sent results."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

from langchain_memstore.backends.base import Backend
from langchain_memstore.errors import BackendError
from langchain_memstore.ops.base import Op

T = TypeVar("T")

Steps = Generator[tuple[Backend, Op[Any]], Any, T]
"""A flow: it yields an operation, with the backend that is to execute it, and is sent the result."""


def done(result: T) -> Steps[T]:
    """Return a flow that needs no step."""
    return result
    yield


def take(steps: Steps[T]) -> T:
    """Take the steps of a flow, and return what it comes to; errors of backends are raised at the step."""
    try:
        backend, op = next(steps)
        while True:
            try:
                result = backend.execute(op)
            except BackendError as error:
                backend, op = steps.throw(error)
            else:
                backend, op = steps.send(result)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def atake(steps: Steps[T]) -> T:
    """Take the steps of a flow; the async face of `take`."""
    try:
        backend, op = next(steps)
        while True:
            try:
                result = await backend.aexecute(op)
            except BackendError as error:
                backend, op = steps.throw(error)
            else:
                backend, op = steps.send(result)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
