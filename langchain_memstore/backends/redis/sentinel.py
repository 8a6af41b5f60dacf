"""The pool of a master that sentinels name, and connections to the master of now.

Sentinels that promote a replica leave the old master writable for some seconds. What it acknowledges then is lost, and
redis-py asks the sentinels only when it connects. So they are asked now and then, too.
"""

from __future__ import annotations

import time
import weakref
from contextlib import suppress
from typing import Any

import redis.asyncio.sentinel as aio
import redis.sentinel as sync
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from typing_extensions import override

Address = tuple[str, int]
"""A host and a port."""

ASK_EVERY = 1.0  # seconds

_silent = suppress(RedisConnectionError, RedisTimeoutError)
"""Where no sentinel answers, the connections may serve all the same."""
_asked: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()


class SentinelPool(sync.SentinelConnectionPool):
    """A pool that also closes the connections to the sentinels."""

    @override
    def disconnect(self, inuse_connections: bool = True) -> None:
        super().disconnect(inuse_connections)
        if inuse_connections:
            for sentinel in self.sentinel_manager.sentinels:
                sentinel.connection_pool.disconnect()


class AsyncSentinelPool(aio.SentinelConnectionPool):
    """A pool that also closes the connections to the sentinels."""

    @override
    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        if inuse_connections:
            for sentinel in self.sentinel_manager.sentinels:
                await sentinel.connection_pool.disconnect()


def connection_of(pool: Any) -> Any:
    """Take a connection from a pool: to the master of now, where sentinels name it."""
    if not isinstance(pool, sync.SentinelConnectionPool):
        return pool.get_connection()
    watched: Any = pool
    if _is_due(pool):
        with _silent:
            watched.get_master_address()
    connection = watched.get_connection()
    if _is_stale(pool, connection):
        try:
            connection.disconnect()
            connection.connect()
        except BaseException:
            watched.release(connection)
            raise
    return connection


async def aconnection_of(pool: Any) -> Any:
    """Take a connection from a pool; the async variant of `connection_of`."""
    if not isinstance(pool, aio.SentinelConnectionPool):
        return await pool.get_connection()
    watched: Any = pool
    if _is_due(pool):
        with _silent:
            await watched.get_master_address()
    connection = await watched.get_connection()
    if _is_stale(pool, connection):
        try:
            await connection.disconnect()
            await connection.connect()
        except BaseException:
            await watched.release(connection)
            raise
    return connection


def _is_due(pool: Any) -> bool:
    now = time.monotonic()
    if now - _asked.get(pool, 0.0) < ASK_EVERY:
        return False
    _asked[pool] = now
    return True


def _is_stale(pool: Any, connection: Any) -> bool:
    """Tell whether a connection is to another master than the sentinels have named since it was made."""
    return pool.is_master and pool.master_address not in (None, (connection.host, connection.port))
