"""The connection pool of threads, which keeps connections at hand."""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import suppress
from typing import Any

from redis.connection import BlockingConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError

from langchain_memstore.backends.watched import connection_of

_pools: weakref.WeakSet[ThreadPool] = weakref.WeakSet()


class ThreadPool:
    """Lends the connections of a redis-py pool to threads.

    The connections of a pool that nobody else uses are kept when they are given back. To give one back to redis-py and
    to take it again takes a tenth of the time of an append.

    Args:
        pool: redis-py's pool.
        is_own: Whether nobody else uses it.
    """

    def __init__(self, pool: Any, is_own: bool) -> None:
        self._pool = pool
        self._keeps = is_own and type(pool) is BlockingConnectionPool
        self._start()
        _pools.add(self)

    def _start(self) -> None:
        self._kept: list[Any] = []
        self._gate = threading.Semaphore(self._pool.max_connections)

    def take(self) -> Any:
        """Return a connection, which is to be given back; of a pool of our own, wait for one."""
        if not self._keeps:
            return connection_of(self._pool)
        self._gate.acquire()
        try:
            try:
                connection = self._kept.pop()
            except IndexError:
                return self._pool.get_connection()
            if _is_fit(connection):
                return connection
            self._drop(connection)
            return self._pool.get_connection()
        except BaseException:
            self._gate.release()
            raise

    def give(self, connection: Any, fit: bool) -> None:
        """Give a connection back.

        Args:
            connection: What `take` returned.
            fit: Whether it may be used again; an answer may still be under way.
        """
        try:
            if not fit:
                self._drop(connection)
            elif self._keeps and not is_marked(connection):
                self._kept.append(connection)
            else:
                self._pool.release(connection)
        finally:
            if self._keeps:
                self._gate.release()

    def close(self) -> None:
        """Close all connections."""
        with suppress(IndexError):
            while True:
                self._pool.release(self._kept.pop())
        self._pool.disconnect()

    def _drop(self, connection: Any) -> None:
        connection.disconnect()
        self._pool.release(connection)


def is_marked(connection: Any) -> bool:
    """Tell whether a connection is to be made anew, as a server asks that moves; redis-py 6 does not know of that."""
    return bool(getattr(connection, "should_reconnect", bool)())


def _is_fit(connection: Any) -> bool:
    """Tell whether a connection that has been idle is open still, with nothing to be read."""
    try:
        return not connection.can_read()
    except (RedisConnectionError, OSError):
        return False


if hasattr(os, "register_at_fork"):  # the connections are the parent's

    def _after_fork() -> None:
        for pool in list(_pools):
            pool._start()

    os.register_at_fork(after_in_child=_after_fork)
