"""The connection pool of an event loop, which is closed with the loop."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator
from typing import Any

_open: set[LoopPool] = set()
"""The pools of event loops that have not been shut down."""


class LoopPool:
    """A connection pool of one event loop.

    It is closed when the loop shuts down, as `asyncio.run` does it; once its owner has abandoned it or is no more, when
    the next pool is opened in the loop.

    Args:
        pool: redis-py's pool.
        owner: Who uses it.
    """

    def __init__(self, pool: Any, owner: object) -> None:
        self.pool = pool
        self.gate = asyncio.Semaphore(pool.max_connections)
        """What to hold for as long as a connection.

        redis-py's plain pool does not wait for a free connection. Its waiting pool wakes one task, and forgets the
        others when that one is cancelled just then, which `asyncio.Condition` mends in Python 3.13
        (https://github.com/python/cpython/issues/112202).
        """
        self.abandoned = False
        self._owner = weakref.ref(owner)

    async def open(self) -> None:
        """Have the pool closed with the running event loop, and close those of the loop that nobody uses any more."""
        self._loop = asyncio.get_running_loop()
        self._closer = self._close_with_loop()
        await anext(self._closer)
        _open.add(self)
        for other in _open.copy():
            if other._loop.is_closed():  # without having been shut down
                _open.discard(other)
            elif other._loop is self._loop and (other.abandoned or other._owner() is None) and other in _open:
                await other.aclose()

    async def aclose(self) -> None:
        """Close the pool, in its event loop."""
        await self._closer.aclose()

    async def _close_with_loop(self) -> AsyncGenerator[None]:
        """Wait to be closed, as the event loop closes every asynchronous generator when it shuts down."""
        try:
            yield
        finally:
            _open.discard(self)
            await self.pool.disconnect()
