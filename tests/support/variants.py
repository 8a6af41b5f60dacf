"""The two variants of everything, sync and async, called by one name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_memstore import ChatMessageHistory
from langchain_memstore.backends.base import Backend
from langchain_memstore.testing import Execute, Run

VariantOf = Callable[[Backend], Execute]
"""Returns the variant under test of a backend, by which operations are executed."""

Call = Callable[..., Any]
"""Calls a method of a history, or reads a property, by the name of the sync variant."""


def call_sync(history: ChatMessageHistory, name: str, *args: Any) -> Any:
    """Call a method of a history, or read a property."""
    found = getattr(history, name)
    return found(*args) if callable(found) else found


def call_async(run: Run, history: ChatMessageHistory, name: str, *args: Any) -> Any:
    """Call the async variant of a method or property, by the name of the sync one."""
    name = f"aget_{name}" if name in ("messages", "summary", "turns") else f"a{name}"
    return run(getattr(history, name)(*args))


async def acall(variant: str, method: Any, *args: Any) -> Any:
    """Call a variant of a bound method, given the sync one, on the running event loop."""
    if variant == "sync":
        return method(*args)
    return await getattr(method.__self__, f"a{method.__name__}")(*args)
