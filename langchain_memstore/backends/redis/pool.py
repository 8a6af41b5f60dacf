"""The connection pool of threads, which keeps idle connections at hand."""

from __future__ import annotations

import os
import time
import weakref
from contextlib import suppress
from typing import Any

from redis.connection import BlockingConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MaxConnectionsError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from langchain_memstore.backends.redis.checkout import (
    Out,
    connect_within,
    connection_of,
    drop_unused,
    give_back,
    hasty,
    reclaim,
)
from langchain_memstore.backends.redis.limits import IDLE, PONG_WITHIN, ConnectionCut, TimeLimits, busy, ended, is_cut
from langchain_memstore.backends.redis.protocol import PING, is_left_open, packed
from langchain_memstore.backends.redis.slots import Slot, Slots
from langchain_memstore.ops.base import Command

_pools: weakref.WeakSet[ThreadPool] = weakref.WeakSet()


class ThreadPool:
    """Lends the connections of a redis-py pool to threads.

    The connections of a pool that nobody else uses are made and kept here: to give one back to redis-py and to take it
    again takes a tenth of the time of an append.

    Args:
        pool: redis-py's pool.
        is_own: Whether nobody else uses it.
    """

    def __init__(self, pool: Any, is_own: bool) -> None:
        self._pool = pool
        self._keeps_idle = is_own and type(pool) is BlockingConnectionPool
        self.limits = TimeLimits(pool.connection_kwargs)
        self._answer = self.limits.answer
        self._start()
        _pools.add(self)

    def _start(self) -> None:
        self._idle: list[tuple[Any, float]] = []
        """Connections, and when they were used last."""
        self._used: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()
        """When the connections of somebody else's pool were used last."""
        self._out: Out = {}
        """The connections of somebody else's pool that are used here."""
        self._generation = 0
        """How often the pool was closed."""
        self._slots = Slots(self._pool.max_connections)

    def request(self, commands: list[Command], until: float) -> list[Any]:
        """Send commands over one connection, and return their answers: errors of the server among them.

        Args:
            commands: What to send.
            until: When to give up, by the monotonic clock.
        """
        slot = connection = None
        is_healthy, generation = False, self._generation
        try:
            slot = self._slots.acquire(until)
            connection = self._own(until) if self._keeps_idle else self._lent(until, weakref.ref(slot))
            connection.send_packed_command([packed(commands)], check_health=False)
            remaining = until - time.monotonic()
            if self._answer is not None and remaining < self._answer and not connection.can_read(max(0.0, remaining)):
                raise RedisTimeoutError("Timeout reading from server")
            replies: list[Any] = []
            for _ in commands:
                try:
                    replies.append(connection.read_response(disable_decoding=True))
                except ResponseError as error:
                    replies.append(error)
            is_healthy = not is_left_open(replies)
            return replies
        except RedisTimeoutError:
            if connection is not None:
                self.drop_idle()  # what has dropped this connection may have dropped all
            raise
        except (RedisConnectionError, OSError) as error:
            if connection is None or not is_cut(error):
                raise
            self.drop_idle()
            raise ConnectionCut(str(error)) from error
        finally:
            if connection is not None:
                self._give_back(connection, is_healthy and generation == self._generation)
            del slot, connection  # which a traceback may outlive

    def end_waits(self) -> None:
        """Have those raise at once who wait for a connection: an outage has begun."""
        self._slots.end_waits()

    def drop_idle(self) -> None:
        """Close the connections that nobody uses."""
        with suppress(IndexError):
            while True:
                self._idle.pop()[0].disconnect()
        if not self._keeps_idle:
            drop_unused(self._pool)

    def close(self) -> None:
        """Close all connections; those in use, when they are given back."""
        self._generation += 1
        self.drop_idle()
        self._pool.disconnect()

    def _own(self, until: float) -> Any:
        """Take an idle connection that is healthy, or make one."""
        while True:
            try:
                connection, used = self._idle.pop()
            except IndexError:
                return self._connect(until)
            if self._is_healthy(connection, used, until):
                return connection

    def _lent(self, until: float, holder: weakref.ref[Slot]) -> Any:
        """Take a connection from a pool that others use too."""
        outages = self._slots.outages
        connection = None
        if len(self._out) >= len(self._slots):  # of which this thread's has no connection yet
            reclaim(self._pool, self._out)
        try:
            while connection is None:
                try:
                    connection = connection_of(self._pool, until, self._out, holder)
                except MaxConnectionsError as error:
                    if self._slots.outages != outages:
                        raise ended() from error
                    if time.monotonic() > until:
                        raise busy(self._slots.most) from error
                    reclaim(self._pool, self._out)
                    time.sleep(0.01)
            if not self._is_healthy(connection, self._used.get(connection, 0.0), until):
                connect_within(connection, until)
            return connection
        except BaseException:
            if connection is not None:
                give_back(self._pool, self._out, connection)
            raise

    def _connect(self, until: float) -> Any:
        connection = self._pool.connection_class(**self._pool.connection_kwargs)
        connect_within(connection, until)
        return connection

    def _is_healthy(self, connection: Any, used: float, until: float) -> bool:
        """Tell whether a connection can be used; one that cannot is closed.

        One that has idled for long is tried: a NAT or a load balancer may have dropped it, which nobody is told.
        """
        is_healthy = False
        try:
            if not connection.can_read(0):  # else it is closed, or there is something to be read
                is_healthy = time.monotonic() - used < IDLE
                if not is_healthy:
                    connection.send_packed_command([PING], check_health=False)
                    is_healthy = connection.can_read(max(0.0, min(PONG_WITHIN, until - time.monotonic())))
                    if is_healthy:
                        connection.read_response(disable_decoding=True)
                    else:
                        self.drop_idle()
        except (RedisConnectionError, RedisTimeoutError, OSError):
            is_healthy = False
        finally:
            if not is_healthy:
                connection.disconnect()
        return is_healthy

    def _give_back(self, connection: Any, is_healthy: bool) -> None:
        """Keep a connection for the next request, or close it."""
        if not self._keeps_idle:
            try:
                self._used[connection] = time.monotonic()
                if not is_healthy or connection in hasty:
                    connection.disconnect()
            finally:
                give_back(self._pool, self._out, connection)
        # redis-py 8 marks connections that are to be made anew, as a server asks that moves
        elif is_healthy and not getattr(connection, "should_reconnect", bool)() and connection not in hasty:
            self._idle.append((connection, time.monotonic()))
        else:
            connection.disconnect()


if hasattr(os, "register_at_fork"):  # the connections are the parent's

    def _after_fork() -> None:
        for pool in list(_pools):
            pool._start()

    os.register_at_fork(after_in_child=_after_fork)
