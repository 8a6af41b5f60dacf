"""Connections taken from redis-py's pools, where something is to be seen to: sentinels to ask, errors to explain."""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import redis.asyncio.connection
import redis.asyncio.sentinel
import redis.connection
import redis.sentinel
from redis.exceptions import MaxConnectionsError

from langchain_memstore.backends.redis.lines import FAILURES, AsyncExplained, Explained, Line
from langchain_memstore.backends.redis.masters import AsyncSentinelPool, SentinelPool
from langchain_memstore.backends.redis.sentinel import Address, AsyncWatch, Watch
from langchain_memstore.backends.redis.tls import Tls


class _Known(NamedTuple):
    """What belongs to a pool."""

    watch: Any
    """Asks for the master; None: there are no sentinels."""
    line: Line | None
    """Explains errors; None: the connections do it."""


_known: weakref.WeakKeyDictionary[Any, _Known] = weakref.WeakKeyDictionary()


def connection_of(pool: Any) -> Any:
    """Take a connection from a pool: to the master of now, where sentinels name it."""
    watch, line = _known.get(pool) or _know(pool)
    if watch is not None:
        watch.look()
    connection = None
    try:
        connection = pool.get_connection()
        if watch is not None and watch.is_stale(connection):
            connection.disconnect()
            connection.connect()
        if line is not None:
            line.has_connected = True
        return connection
    except BaseException as error:
        if connection is not None:
            pool.release(connection)
        if not isinstance(error, FAILURES):
            raise
        _doubt(watch, error)
        if line is None or (told := line.explained(error, *_address(pool))) is None:
            raise
        raise told from error


async def aconnection_of(pool: Any) -> Any:
    """Take a connection from a pool; the async variant of `connection_of`."""
    watch, line = _known.get(pool) or _know(pool)
    if watch is not None:
        watch.look()
    connection = None
    try:
        connection = await pool.get_connection()
        if watch is not None and watch.is_stale(connection):
            await connection.disconnect()
            await connection.connect()
        if line is not None:
            line.has_connected = True
        return connection
    except BaseException as error:
        if connection is not None:
            await pool.release(connection)
        if not isinstance(error, FAILURES):
            raise
        _doubt(watch, error)
        if line is None or (told := await line.aexplained(error, *_address(pool))) is None:
            raise
        raise told from error


def _know(pool: Any) -> _Known:
    if isinstance(pool, (SentinelPool, AsyncSentinelPool)):
        return _known.setdefault(pool, _Known(pool.sentinel_manager.watch, None))
    watch: Any = None
    if isinstance(pool, redis.sentinel.SentinelConnectionPool) and pool.is_master:
        watch = Watch(pool.sentinel_manager, pool.service_name)
    elif isinstance(pool, redis.asyncio.sentinel.SentinelConnectionPool) and pool.is_master:
        watch = AsyncWatch(pool.sentinel_manager, pool.service_name)
    return _known.setdefault(pool, _Known(watch, _line(pool)))


def _line(pool: Any) -> Line | None:
    """Return what explains the errors of connections that are not our own, where they are redis-py's and not local."""
    kind = pool.connection_class
    is_own = issubclass(kind, (Explained, AsyncExplained))
    if is_own or not issubclass(kind, (redis.connection.Connection, redis.asyncio.connection.Connection)):
        return None
    is_tls = issubclass(kind, (redis.connection.SSLConnection, redis.asyncio.connection.SSLConnection))
    return Line(Tls(pool.connection_kwargs) if is_tls else None)


def _address(pool: Any) -> Address:
    """Return where a connection of a pool was to go."""
    named = getattr(pool, "master_address", None)
    settings = pool.connection_kwargs
    return named or (settings.get("host", "localhost"), int(settings.get("port", 6379)))


def _doubt(watch: Any, error: Exception) -> None:
    """Have the sentinels asked again before the next connection is made, where the master could not be reached."""
    if watch is not None and not isinstance(error, MaxConnectionsError):
        watch.doubt()
