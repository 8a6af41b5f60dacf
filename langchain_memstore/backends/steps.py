"""What both faces of a backend do alike: written once, as a generator of steps, and driven by either."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import Any, TypeVar

from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.journal import Journal
from langchain_memstore.errors import BackendError
from langchain_memstore.ops.base import Op

R = TypeVar("R")

Step = float | Journal | Op[Any]
"""A number of seconds to pause, a journal to sync, or an operation to execute, whose result is sent back."""


def drive(steps: Generator[Step, Any, R], backend: Backend) -> R:
    """Take steps.

    Args:
        steps: The steps. A `BackendError` of one is raised where it was yielded.
        backend: Executes the operations.

    Returns:
        What the generator returns.
    """
    try:
        step = next(steps)
        while True:
            answer: Any = None
            try:
                if isinstance(step, float):
                    time.sleep(step)
                elif isinstance(step, Journal):
                    step.sync()
                else:
                    answer = backend.execute(step)
            except BackendError as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()


async def adrive(steps: Generator[Step, Any, R], backend: Backend) -> R:
    """Take steps; the async face of `drive`. A thread waits for the disk, where a journal is to be synced."""
    try:
        step = next(steps)
        while True:
            answer: Any = None
            try:
                if isinstance(step, float):
                    await asyncio.sleep(step)
                elif isinstance(step, Journal):
                    if step.is_durable:
                        await asyncio.to_thread(step.sync)
                else:
                    answer = await backend.aexecute(step)
            except BackendError as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()
