"""Connections taken from redis-py's pools, where something is to be seen to: sentinels to ask, errors to explain."""

from __future__ import annotations

import time
import weakref
from queue import Empty
from typing import Any, NamedTuple

import redis.asyncio.connection
import redis.asyncio.sentinel
import redis.connection
import redis.sentinel
from redis.backoff import NoBackoff
from redis.exceptions import MaxConnectionsError
from redis.retry import Retry

from langchain_memstore.backends.redis.lines import FAILURES, AsyncExplained, Explained, Line
from langchain_memstore.backends.redis.masters import AsyncSentinelPool, SentinelPool
from langchain_memstore.backends.redis.sentinel import Address, AsyncWatch, Watch
from langchain_memstore.backends.redis.tls import Tls

_ONCE = Retry(NoBackoff(), 0)
_NONE = object()

hasty: weakref.WeakSet[Any] = weakref.WeakSet()
"""Connections that were made with less time for an answer than their pool has: for the end of one call alone."""


class _Known(NamedTuple):
    """What belongs to a pool."""

    watch: Any
    """Asks for the master; None: there are no sentinels."""
    line: Line | None
    """Explains errors; None: the connections do it."""


_known: weakref.WeakKeyDictionary[Any, _Known] = weakref.WeakKeyDictionary()


class Lent(NamedTuple):
    """A connection that was taken from a pool."""

    connection: Any
    holder: weakref.ref[Any]
    """What is no more when nobody uses the connection any more, however that has come."""


Out = dict[Any, Lent]
"""By the connections that were taken from a pool."""


def connection_of(pool: Any, until: float, out: Out, holder: weakref.ref[Any]) -> Any:
    """Take a connection from a pool: to the master of now, where sentinels name it.

    Args:
        pool: redis-py's pool.
        until: When to give up, by the monotonic clock.
        out: Where to note it.
        holder: Refers to what lives for as long as it is used; a traceback is not to keep that alive.

    Raises:
        MaxConnectionsError: All of the pool's are in use.
    """
    watch, line = _known.get(pool) or _know(pool)
    if watch is not None:
        watch.look()
    connection = None
    try:
        connection = _take(pool, out, holder)
        if watch is not None and watch.is_stale(connection):
            connection.disconnect()
        connect_within(connection, until)
        if line is not None:
            line.has_connected = True
        return connection
    except BaseException as error:
        if connection is not None:
            try:
                connection.disconnect()  # it may be half connected
            finally:
                give_back(pool, out, connection)
        if not isinstance(error, FAILURES):
            raise
        _doubt(watch, error)
        if line is None or (told := line.explained(error, *_address(pool))) is None:
            raise
        raise told from error


def connect_within(connection: Any, until: float) -> None:
    """Connect a connection that is not, once, and within the time of a call, whatever its pool would try and wait."""
    if not hasattr(connection, "socket_timeout"):  # one that keeps answers, in redis-py 6 and 7
        connection.connect()
        return
    answer, connect = connection.socket_timeout, connection.socket_connect_timeout
    options = answer, connect, connection.retry
    remaining = max(0.01, until - time.monotonic())
    try:
        connection.retry = _ONCE
        connection.socket_connect_timeout = remaining if connect is None else min(connect, remaining)
        if answer is not None and remaining < answer:
            connection.socket_timeout = remaining
            hasty.add(connection)
        else:
            hasty.discard(connection)
        connection.connect()
    finally:
        connection.socket_timeout, connection.socket_connect_timeout, connection.retry = options


def drop_unused(pool: Any) -> None:
    """Close the connections of a pool that nobody uses."""
    try:
        pool.disconnect(inuse_connections=False)
    except TypeError:  # a pool of redis-py 6 that waits closes all or none
        if not isinstance(pool, redis.connection.BlockingConnectionPool):
            raise


def give_back(pool: Any, out: Out, connection: Any) -> None:
    """Give a connection back to its pool."""
    pool.release(out.pop(connection).connection)  # in one line: an interrupt leaves it noted, or given back


def reclaim(pool: Any, out: Out) -> None:
    """Give the connections back that were taken and are used no more, for something has interrupted whoever did."""
    for connection, lent in list(out.items()):
        if lent.holder() is None and out.pop(connection, None) is lent:
            try:
                connection.disconnect()
                pool.release(connection)
            except BaseException:
                out[connection] = lent
                raise


def _take(pool: Any, out: Out, holder: weakref.ref[Any]) -> Any:
    """Take a connection out of a pool as it is.

    redis-py has no public way to take one without connecting it, which it does for as long, and as often, as the client
    has it try. A pool of another kind, or of a redis-py that works in another way, is asked as usual.
    """
    if type(pool).get_connection is redis.connection.BlockingConnectionPool.get_connection and hasattr(pool, "pool"):
        return _take_of_blocking(pool, out, holder)
    if type(pool).get_connection is redis.connection.ConnectionPool.get_connection and all(
        hasattr(pool, name) for name in ("_checkpid", "_lock", "_available_connections", "_in_use_connections")
    ):
        return _take_of_plain(pool, out, holder)
    connection = pool.get_connection()
    out[connection] = Lent(connection, holder)
    return connection


def _take_of_plain(pool: Any, out: Out, holder: weakref.ref[Any]) -> Any:
    pool._checkpid()
    connection = None
    with pool._lock:
        try:
            try:
                connection = pool._available_connections.pop()
            except IndexError:
                connection = pool.make_connection()
            pool._in_use_connections.add(connection)
            out[connection] = Lent(connection, holder)
            return connection
        except BaseException as error:
            if connection is not None:
                out.pop(connection, None)
                pool._in_use_connections.discard(connection)
                pool._available_connections.append(connection)
            raise _exhausted(error) from error.__cause__


def _take_of_blocking(pool: Any, out: Out, holder: weakref.ref[Any]) -> Any:
    pool._checkpid()
    taken = connection = _NONE
    try:
        taken = connection = pool.pool.get(block=False)
        if connection is None:
            connection = pool.make_connection()
        out[connection] = Lent(connection, holder)
        return connection
    except BaseException as error:
        if taken is not _NONE:
            out.pop(connection, None)
            pool.pool.put_nowait(connection)
        raise (MaxConnectionsError("Too many connections") if isinstance(error, Empty) else error) from None


def _exhausted(error: BaseException) -> BaseException:
    """Return the error for a pool whose connections are all in use; in some redis-py 6 it is no class of its own."""
    return MaxConnectionsError(str(error)) if str(error) == "Too many connections" else error


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
            try:
                await connection.disconnect(nowait=True)  # it may be half connected
            finally:
                await pool.release(connection)
        if not isinstance(error, FAILURES):
            raise
        if isinstance(exhausted := _exhausted(error), MaxConnectionsError):
            raise exhausted from None
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
