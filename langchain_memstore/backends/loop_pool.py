"""The connection pool of an event loop, which keeps connections at hand, and is closed with the loop."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator
from typing import Any

from redis.asyncio.connection import BlockingConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from langchain_memstore.backends.sender import Sender
from langchain_memstore.backends.thread_pool import is_marked
from langchain_memstore.backends.timeout import timeout
from langchain_memstore.backends.watched import aconnection_of

_open: set[LoopPool] = set()
"""The pools of event loops that have not been shut down."""


class LoopPool:
    """Lends the connections of a redis-py pool to the tasks of one event loop.

    The connections of a pool that nobody else uses are kept when they are given back, and leave it to their user to
    bound the time of each exchange: redis-py takes a timer for each thing sent and each answer.

    The pool is closed when the loop shuts down, as `asyncio.run` does it; once its owner has abandoned it or is no
    more, when the next pool is opened in the loop.

    Args:
        pool: redis-py's pool.
        owner: Who uses it.
        is_own: Whether nobody else uses it.
    """

    def __init__(self, pool: Any, owner: object, is_own: bool) -> None:
        self._pool = pool
        self._keeps = is_own and type(pool) is BlockingConnectionPool
        self._kept: list[Any] = []
        self.patience: float | None = pool.connection_kwargs.get("socket_timeout")
        """How long an exchange may take, in seconds; None: as long as it takes."""
        if self._keeps:
            pool.connection_kwargs.update(socket_timeout=None, redis_connect_func=self._log_in)
        self._gate = asyncio.Semaphore(pool.max_connections)
        # redis-py's plain pool does not wait for a free connection. Its waiting pool wakes one task, and forgets the
        # others when that one is cancelled just then, which `asyncio.Condition` mends in Python 3.13
        # (https://github.com/python/cpython/issues/112202).
        self.sender = Sender(self)
        """Through whom tasks send commands."""
        self.abandoned = False
        self._owner = weakref.ref(owner)

    async def _log_in(self, connection: Any) -> None:
        try:
            async with timeout(self.patience):
                await connection.on_connect()
        except asyncio.TimeoutError:
            raise RedisTimeoutError("Timeout logging in to server") from None

    async def take(self) -> Any:
        """Wait for a connection, and return it; it is to be given back."""
        await self._gate.acquire()
        try:
            if not self._keeps:
                return await aconnection_of(self._pool)
            if self._kept:
                connection, fit = self._kept.pop(), False
                try:
                    fit = await _is_fit(connection)
                finally:
                    if not fit:
                        await self._drop(connection)
                if fit:
                    return connection
            return await self._pool.get_connection()
        except BaseException:
            self._gate.release()
            raise

    async def give(self, connection: Any, fit: bool) -> None:
        """Give a connection back.

        Args:
            connection: What `take` returned.
            fit: Whether it may be used again; an answer may still be under way.
        """
        try:
            if not fit:
                await self._drop(connection)
            elif self._keeps and not is_marked(connection):
                self._kept.append(connection)
            else:
                await self._pool.release(connection)
        finally:
            self._gate.release()

    async def _drop(self, connection: Any) -> None:
        await connection.disconnect(nowait=True)
        await self._pool.release(connection)

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
            while self._kept:
                await self._pool.release(self._kept.pop())
            await self._pool.disconnect()


async def _is_fit(connection: Any) -> bool:
    """Tell whether a connection that has been idle is open still, with nothing to be read."""
    try:
        return not await (
            connection.can_read() if hasattr(connection, "can_read") else connection.can_read_destructive()
        )
    except (RedisConnectionError, OSError):
        return False
