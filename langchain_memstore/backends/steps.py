"""Flows that both variants share: written once, as a generator of steps, and run by either.

    def ping_all(backends: list[Backend]) -> Steps[int]:
        answers = 0
        for backend in backends:
            answers += (yield ExecuteOp(backend, Ask(("PING",)))) is not None
        return answers

    run_steps(ping_all(backends))
    await arun_steps(ping_all(backends))

An error of a step is raised where the step was yielded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import Any, NamedTuple, Protocol

from langchain_memstore.backends.base import Backend
from langchain_memstore.ops.base import Op, R


class Step(Protocol):
    """One thing that takes time."""

    def run(self) -> Any:
        """Do it, and return what it leads to."""
        ...

    async def arun(self) -> Any:
        """Do it; the async variant of `run`."""
        ...


Steps = Generator[Step, Any, R]
"""Yields steps, and is sent what each leads to."""


class ExecuteOp(NamedTuple):
    """Execute an operation on a backend."""

    backend: Backend
    op: Op[Any]

    def run(self) -> Any:
        """Execute it."""
        return self.backend.execute(self.op)

    async def arun(self) -> Any:
        """Execute it; the async variant of `run`."""
        return await self.backend.aexecute(self.op)


class Pause(NamedTuple):
    """Wait for some seconds."""

    seconds: float

    def run(self) -> None:
        """Wait."""
        time.sleep(self.seconds)

    async def arun(self) -> None:
        """Wait; the async variant of `run`."""
        await asyncio.sleep(self.seconds)


def completed(result: R) -> Steps[R]:
    """Return a flow that needs no step."""
    return result
    yield


def run_steps(steps: Steps[R]) -> R:
    """Run a flow to its end, and return what it returns."""
    try:
        step = next(steps)
        while True:
            try:
                answer = step.run()
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()


async def arun_steps(steps: Steps[R]) -> R:
    """Run a flow to its end; the async variant of `run_steps`."""
    try:
        step = next(steps)
        while True:
            try:
                answer = await step.arun()
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()
