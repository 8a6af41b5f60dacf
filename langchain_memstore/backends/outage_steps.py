"""The steps of what goes on in an outage, and how each face takes them; see `steps.py`."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.journal import Journal
from langchain_memstore.ops.base import Op

PAUSE = 0.005  # seconds between two looks at how far a replay has come

Step = float | Journal | Op[Any]
"""A number of seconds to pause, a journal to sync, or an operation to execute, whose result is sent back."""


def take(backend: Backend, step: Step) -> Any:
    """Take a step, by a backend of the store."""
    if isinstance(step, float):
        return time.sleep(step)
    if isinstance(step, Journal):
        return step.sync()
    return backend.execute(step)


async def atake(backend: Backend, step: Step) -> Any:
    """Take a step, by a backend of the store; a thread waits for the disk, where a journal is in a file."""
    if isinstance(step, float):
        return await asyncio.sleep(step)
    if isinstance(step, Journal):
        return await asyncio.to_thread(step.sync) if step.is_durable else None
    return await backend.aexecute(step)
