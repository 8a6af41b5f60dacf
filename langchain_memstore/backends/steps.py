"""What both faces do alike: written once, as a generator of steps, and driven by either."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

S = TypeVar("S")
R = TypeVar("R")


def drive(steps: Generator[S, Any, R], take: Callable[[S], Any]) -> R:
    """Take steps.

    Args:
        steps: Yields steps, and is sent what each leads to; an error of a step is raised where it was yielded.
        take: Takes a step.

    Returns:
        What the generator returns.
    """
    try:
        step = next(steps)
        while True:
            try:
                answer = take(step)
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()


async def adrive(steps: Generator[S, Any, R], take: Callable[[S], Awaitable[Any]]) -> R:
    """Take steps; the async face of `drive`."""
    try:
        step = next(steps)
        while True:
            try:
                answer = await take(step)
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()
