"""The connection pool of an event loop, which keeps idle connections at hand."""

from __future__ import annotations

import asyncio
import sys
import time
import weakref
from collections import deque
from contextlib import suppress
from typing import Any

from redis.asyncio.connection import BlockingConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MaxConnectionsError
from redis.exceptions import TimeoutError as RedisTimeoutError

from langchain_memstore.backends.redis.checkout import aconnection_of
from langchain_memstore.backends.redis.limits import IDLE, PONG_WITHIN, TimeLimits, busy, ended
from langchain_memstore.backends.redis.protocol import PING

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


LENT_LOOKS = 0.01  # seconds between two looks whether a pool that others use too has a connection
# `asyncio.wait_for`, with which redis-py sends what logs in, may swallow a cancellation that comes just then, before
# Python 3.12 (https://github.com/python/cpython/issues/86296).
LEAST = 0.05  # seconds in which to connect one
DROP_WITHIN = 0.1  # seconds: with TLS the other side is waited for, which may be dead

__all__ = ["LoopPool", "prolong", "timeout"]


class LoopPool:
    """Lends the connections of a redis-py pool to the tasks of one event loop.

    The connections of a pool that nobody else uses are made and kept here, and leave it to their user to bound the time
    of each request: redis-py takes a timer for each thing sent and each answer.

    Args:
        pool: redis-py's pool.
        is_own: Whether nobody else uses it.
    """

    def __init__(self, pool: Any, is_own: bool) -> None:
        self._pool = pool
        self._keeps_idle = is_own and type(pool) is BlockingConnectionPool
        self._idle: list[tuple[Any, float]] = []
        """Connections, and when they were used last."""
        self._made: weakref.WeakSet[Any] = weakref.WeakSet()
        self._used: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()
        """When the connections of somebody else's pool were used last."""
        self.limits = TimeLimits(pool.connection_kwargs)
        self._options = pool.connection_kwargs
        if self._keeps_idle:
            self._options = {**self._options, "socket_timeout": None, "redis_connect_func": self._log_in}
        self._free = pool.max_connections
        # redis-py's waiting pool wakes one task, and forgets the others when that one is cancelled just then, which
        # `asyncio.Condition` mends in Python 3.13 (https://github.com/python/cpython/issues/112202).
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._outages = 0
        self._is_closed = False

    async def _log_in(self, connection: Any) -> None:
        try:
            async with timeout(self.limits.answer):
                await connection.on_connect()
        except asyncio.TimeoutError:
            raise RedisTimeoutError("Timeout logging in to server") from None

    async def acquire(self, until: float) -> Any:
        """Wait for a connection, and return it; it is to be released.

        Args:
            until: When to give up, by the monotonic clock.
        """
        await self._take_slot(until)
        try:
            return await (self._own(until) if self._keeps_idle else self._lent(until))
        except BaseException:
            self._give_slot()
            raise

    async def release(self, connection: Any, healthy: bool) -> None:
        """Give a connection back.

        Args:
            connection: What `acquire` returned.
            healthy: Whether it may be used again; else an answer may still be under way.
        """
        try:
            # redis-py 8 marks connections that are to be made anew, as a server asks that moves
            if not healthy or self._is_closed or (self._keeps_idle and getattr(connection, "should_reconnect", bool)()):
                await connection.disconnect(nowait=True)
                healthy = False
            if not self._keeps_idle:
                self._used[connection] = time.monotonic()
                await self._pool.release(connection)
            elif healthy:
                self._idle.append((connection, time.monotonic()))
        finally:
            self._give_slot()

    def end_waits(self) -> None:
        """Have those raise at once who wait for a connection: an outage has begun. In the event loop's thread alone."""
        self._outages += 1
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(ended())

    async def drop_idle(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            await self._idle.pop()[0].disconnect(nowait=True)
        if not self._keeps_idle:
            with suppress(asyncio.TimeoutError):
                async with timeout(DROP_WITHIN):
                    await self._pool.disconnect(inuse_connections=False)

    async def aclose(self) -> None:
        """Close all connections, in their event loop."""
        self._is_closed = True
        made = list(self._made)  # of which the idle ones are held by nothing else
        self._idle.clear()
        for connection in made:
            await connection.disconnect()
        await self._pool.disconnect()

    async def _take_slot(self, until: float) -> None:
        """Wait until fewer connections are in use than may be."""
        if self._free > 0:
            self._free -= 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with timeout(max(0.0, until - time.monotonic())):
                await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._give_slot()  # it was given, and this task is cancelled just then
            if isinstance(error, asyncio.TimeoutError):
                raise busy(self._pool.max_connections) from None
            raise

    def _give_slot(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1

    async def _own(self, until: float) -> Any:
        """Take an idle connection that is healthy, or make one."""
        while self._idle:
            connection, used = self._idle.pop()
            if await self._is_healthy(connection, used, until):
                return connection
        connection = self._pool.connection_class(**self._options)
        self._made.add(connection)
        try:
            async with timeout(max(0.0, until - time.monotonic())):
                await connection.connect()
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, asyncio.TimeoutError):
                raise RedisTimeoutError("Timeout connecting to server") from None
            raise
        return connection

    async def _lent(self, until: float) -> Any:
        """Take a connection from a pool that others use too."""
        outages, connection = self._outages, None
        if until - time.monotonic() < LEAST:
            raise RedisTimeoutError("Timeout getting a connection of the client")
        try:
            async with timeout(max(0.0, until - time.monotonic())):
                while connection is None:
                    try:
                        connection = await aconnection_of(self._pool)
                    except MaxConnectionsError as error:
                        if self._outages != outages:
                            raise ended() from error
                        if time.monotonic() + LENT_LOOKS > until:
                            raise busy(self._pool.max_connections) from error
                        await asyncio.sleep(LENT_LOOKS)
                if not await self._is_healthy(connection, self._used.get(connection, 0.0), until):
                    await connection.connect()
            return connection
        except BaseException as error:
            if connection is not None:
                await connection.disconnect(nowait=True)
                await self._pool.release(connection)
            if isinstance(error, asyncio.TimeoutError):
                raise RedisTimeoutError("Timeout getting a connection of the client") from None
            raise

    async def _is_healthy(self, connection: Any, used: float, until: float) -> bool:
        """Tell whether a connection can be used; one that cannot is closed.

        One that has idled for long is tried: a NAT or a load balancer may have dropped it, which nobody is told.
        """
        is_healthy = False
        try:
            if not await _can_read(connection):  # else it is closed, or there is something to be read
                is_healthy = time.monotonic() - used < IDLE or await self._answers(connection, until)
        except (RedisConnectionError, RedisTimeoutError, OSError):
            is_healthy = False
        finally:
            if not is_healthy:
                await connection.disconnect(nowait=True)
        return is_healthy

    async def _answers(self, connection: Any, until: float) -> bool:
        with suppress(asyncio.TimeoutError):
            async with timeout(max(0.0, min(PONG_WITHIN, until - time.monotonic()))):
                await connection.send_packed_command([PING], check_health=False)
                await connection.read_response(disable_decoding=True)
                return True
        await self.drop_idle()
        return False


async def _can_read(connection: Any) -> bool:
    """Tell whether there is something to be read, as there is where the other side has hung up."""
    return bool(await (connection.can_read() if hasattr(connection, "can_read") else connection.can_read_destructive()))
