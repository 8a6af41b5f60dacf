"""The connection pools of threads and of event loops, which keep idle connections at hand."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import weakref
from contextlib import suppress
from typing import Any

from redis.asyncio.connection import BlockingConnectionPool as AsyncBlockingConnectionPool
from redis.connection import BlockingConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from langchain_memstore.backends.redis.checkout import aconnection_of, connection_of
from langchain_memstore.backends.redis.protocol import is_left_open, packed
from langchain_memstore.ops.base import Command

# `asyncio.timeout`, or what stands for it in older Pythons, where redis-py brings it.
if sys.version_info >= (3, 11, 3):
    from asyncio import Timeout, timeout

    def prolong(limit: Timeout, until: float) -> None:
        """Let a time limit end later, by the event loop's clock."""
        limit.reschedule(until)

else:
    from async_timeout import Timeout, timeout  # type: ignore[import-not-found,no-redef,unused-ignore]

    def prolong(limit: Timeout, until: float) -> None:
        """Let a time limit end later, by the event loop's clock."""
        limit.update(until)  # type: ignore[attr-defined,unused-ignore]


__all__ = ["LoopPool", "ThreadPool", "prolong", "timeout"]

_pools: weakref.WeakSet[ThreadPool] = weakref.WeakSet()


class ThreadPool:
    """Lends the connections of a redis-py pool to threads.

    The connections of a pool that nobody else uses stay here, idle, when they are released. To give one back to
    redis-py and to take it again takes a tenth of the time of an append.

    Args:
        pool: redis-py's pool.
        is_own: Whether nobody else uses it.
    """

    def __init__(self, pool: Any, is_own: bool) -> None:
        self._pool = pool
        self._keeps_idle = is_own and type(pool) is BlockingConnectionPool
        self._start()
        _pools.add(self)

    def _start(self) -> None:
        self._idle: list[Any] = []
        self._semaphore = threading.Semaphore(self._pool.max_connections)

    def request(self, commands: list[Command]) -> list[Any]:
        """Send commands over one connection, and return their answers: errors of the server among them."""
        connection = self.acquire()
        healthy = False
        try:
            connection.send_packed_command([packed(commands)])
            replies: list[Any] = []
            for _ in commands:
                try:
                    replies.append(connection.read_response(disable_decoding=True))
                except ResponseError as error:
                    replies.append(error)
            healthy = not is_left_open(replies)
            return replies
        finally:
            self.release(connection, healthy)

    def acquire(self) -> Any:
        """Return a connection, which is to be released; of a pool of our own, wait for one."""
        if not self._keeps_idle:
            return connection_of(self._pool)
        self._semaphore.acquire()
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._pool.get_connection()
            if _is_healthy(connection):
                return connection
            self._drop(connection)
            return self._pool.get_connection()
        except BaseException:
            self._semaphore.release()
            raise

    def release(self, connection: Any, healthy: bool) -> None:
        """Give a connection back.

        Args:
            connection: What `acquire` returned.
            healthy: Whether it may be used again; else an answer may still be under way.
        """
        try:
            if not healthy:
                self._drop(connection)
            elif self._keeps_idle and not _is_marked(connection):
                self._idle.append(connection)
            else:
                self._pool.release(connection)
        finally:
            if self._keeps_idle:
                self._semaphore.release()

    def close(self) -> None:
        """Close all connections."""
        with suppress(IndexError):
            while True:
                self._pool.release(self._idle.pop())
        self._pool.disconnect()

    def _drop(self, connection: Any) -> None:
        connection.disconnect()
        self._pool.release(connection)


class LoopPool:
    """Lends the connections of a redis-py pool to the tasks of one event loop.

    The connections of a pool that nobody else uses stay here, idle, when they are released, and leave it to their user
    to bound the time of each request: redis-py takes a timer for each thing sent and each answer.

    Args:
        pool: redis-py's pool.
        is_own: Whether nobody else uses it.
    """

    def __init__(self, pool: Any, is_own: bool) -> None:
        self._pool = pool
        self._keeps_idle = is_own and type(pool) is AsyncBlockingConnectionPool
        self._idle: list[Any] = []
        self.patience: float | None = pool.connection_kwargs.get("socket_timeout")
        """How long a request may take, in seconds; None: as long as it takes."""
        if self._keeps_idle:
            pool.connection_kwargs.update(socket_timeout=None, redis_connect_func=self._log_in)
        self._semaphore = asyncio.Semaphore(pool.max_connections)
        # redis-py's plain pool does not wait for a free connection. Its waiting pool wakes one task, and forgets the
        # others when that one is cancelled just then, which `asyncio.Condition` mends in Python 3.13
        # (https://github.com/python/cpython/issues/112202).

    async def _log_in(self, connection: Any) -> None:
        try:
            async with timeout(self.patience):
                await connection.on_connect()
        except asyncio.TimeoutError:
            raise RedisTimeoutError("Timeout logging in to server") from None

    async def acquire(self) -> Any:
        """Wait for a connection, and return it; it is to be released."""
        await self._semaphore.acquire()
        try:
            if not self._keeps_idle:
                return await aconnection_of(self._pool)
            if self._idle:
                connection, healthy = self._idle.pop(), False
                try:
                    healthy = await _ais_healthy(connection)
                finally:
                    if not healthy:
                        await self._drop(connection)
                if healthy:
                    return connection
            return await self._pool.get_connection()
        except BaseException:
            self._semaphore.release()
            raise

    async def release(self, connection: Any, healthy: bool) -> None:
        """Give a connection back.

        Args:
            connection: What `acquire` returned.
            healthy: Whether it may be used again; else an answer may still be under way.
        """
        try:
            if not healthy:
                await self._drop(connection)
            elif self._keeps_idle and not _is_marked(connection):
                self._idle.append(connection)
            else:
                await self._pool.release(connection)
        finally:
            self._semaphore.release()

    async def aclose(self) -> None:
        """Close all connections, in their event loop."""
        while self._idle:
            await self._pool.release(self._idle.pop())
        await self._pool.disconnect()

    async def _drop(self, connection: Any) -> None:
        await connection.disconnect(nowait=True)
        await self._pool.release(connection)


def _is_marked(connection: Any) -> bool:
    """Tell whether a connection is to be made anew, as a server asks that moves; redis-py 6 does not know of that."""
    return bool(getattr(connection, "should_reconnect", bool)())


def _is_healthy(connection: Any) -> bool:
    """Tell whether a connection that has been idle is open still, with nothing to be read."""
    try:
        return not connection.can_read()
    except (RedisConnectionError, OSError):
        return False


async def _ais_healthy(connection: Any) -> bool:
    """Tell whether a connection that has been idle is open still; the async variant of `_is_healthy`."""
    try:
        return not await (
            connection.can_read() if hasattr(connection, "can_read") else connection.can_read_destructive()
        )
    except (RedisConnectionError, OSError):
        return False


if hasattr(os, "register_at_fork"):  # the connections are the parent's

    def _after_fork() -> None:
        for pool in list(_pools):
            pool._start()

    os.register_at_fork(after_in_child=_after_fork)
