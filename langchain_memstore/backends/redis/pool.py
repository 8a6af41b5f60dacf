"""The connection pool of threads, which keeps idle connections at hand."""

from __future__ import annotations

import os
import time
import weakref
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from redis.connection import BlockingConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MaxConnectionsError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from langchain_memstore.backends.redis.checkout import connection_of
from langchain_memstore.backends.redis.limits import (
    IDLE,
    PONG_WITHIN,
    POOL_LOOKS,
    ConnectionCut,
    TimeLimits,
    busy,
    ended,
    is_marked,
)
from langchain_memstore.backends.redis.protocol import PING, is_left_open, packed
from langchain_memstore.ops.base import Command

_pools: weakref.WeakSet[ThreadPool] = weakref.WeakSet()


class _Slot:
    """The right to use one connection, for as long as somebody holds it."""

    __slots__ = ("__weakref__",)


class _Slots:
    """Counts the slots that somebody holds: one is free again when nobody holds it any more, however that has come.

    Args:
        most: The most slots.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._held: dict[int, tuple[object, object]] = {}
        self._freed: SimpleQueue[object] = SimpleQueue()
        """Wakes those who wait."""

    def __len__(self) -> int:
        return len(self._held)

    def take(self) -> _Slot | None:
        """Return a slot; None where none is free."""
        slot, held = _Slot(), self._held
        for number in range(self.most):
            if number not in held:
                # What is called when the slot is gone is no Python, in which an interrupt could strike.
                mine = weakref.ref(slot, partial(held.pop, number)), weakref.ref(slot, self._freed.put)
                if held.setdefault(number, mine) is mine:
                    with suppress(Empty):
                        self._freed.get_nowait()
                    return slot
        return None

    def wait(self, seconds: float) -> None:
        """Wait until a slot may be free, at the most for so long."""
        with suppress(Empty):
            self._freed.get(timeout=seconds)


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
        self._start()
        _pools.add(self)

    def _start(self) -> None:
        self._idle: list[tuple[Any, float]] = []
        """Connections, and when they were used last."""
        self._used: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()
        """When the connections of somebody else's pool were used last."""
        self._outages = 0
        self._generation = 0
        """How often the pool was closed."""
        self._slots = _Slots(self._pool.max_connections)

    def request(self, commands: list[Command], until: float) -> list[Any]:
        """Send commands over one connection, and return their answers: errors of the server among them.

        Args:
            commands: What to send.
            until: When to give up, by the monotonic clock.
        """
        slot = connection = None
        is_healthy, generation = False, self._generation
        try:
            slot = self._slot(until)
            connection = self._connection(until)
            connection.send_packed_command([packed(commands)])
            if not self.limits.allow_whole(until) and not connection.can_read(max(0.0, until - time.monotonic())):
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
            if connection is None:
                raise
            raise ConnectionCut(str(error)) from error
        finally:
            if connection is not None:
                self._give_back(connection, is_healthy and generation == self._generation)
            del slot, connection  # which a traceback may outlive

    def end_waits(self) -> None:
        """Have those raise at once who wait for a connection: an outage has begun."""
        self._outages += 1

    def drop_idle(self) -> None:
        """Close the connections that nobody uses."""
        with suppress(IndexError):
            while True:
                self._idle.pop()[0].disconnect()
        if not self._keeps_idle:
            self._pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close all connections; those in use, when they are given back."""
        self._generation += 1
        self.drop_idle()
        self._pool.disconnect()

    def _slot(self, until: float) -> _Slot:
        """Wait until fewer connections are in use than may be."""
        outages = self._outages
        while (slot := self._slots.take()) is None:
            remaining = until - time.monotonic()
            if self._outages != outages:
                raise ended()
            if remaining <= 0:
                raise busy(self._slots.most)
            self._slots.wait(min(remaining, POOL_LOOKS))
        return slot

    def _connection(self, until: float) -> Any:
        """Take an idle connection that is healthy, or make one."""
        if not self._keeps_idle:
            return self._lent(until)
        while True:
            try:
                connection, used = self._idle.pop()
            except IndexError:
                return self._connect(until)
            if self._is_healthy(connection, used, until):
                return connection

    def _lent(self, until: float) -> Any:
        """Take a connection from a pool that others use too."""
        outages = self._outages
        connection = None
        try:
            while connection is None:
                try:
                    connection = connection_of(self._pool)
                except MaxConnectionsError:
                    if self._outages != outages:
                        raise ended() from None
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.01)
            if not self._is_healthy(connection, self._used.get(connection, 0.0), until):
                connection.connect()
            return connection
        except BaseException:
            if connection is not None:
                self._pool.release(connection)
            raise

    def _connect(self, until: float) -> Any:
        options = self._pool.connection_kwargs
        if not self.limits.allow_whole(until):
            options = {**options, **self.limits.within(until)}
        connection = self._pool.connection_class(**options)
        connection.connect()
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
                if not is_healthy:
                    connection.disconnect()
            finally:
                self._pool.release(connection)
        elif is_healthy and not is_marked(connection) and connection.socket_timeout == self.limits.answer:
            self._idle.append((connection, time.monotonic()))
        else:
            connection.disconnect()


if hasattr(os, "register_at_fork"):  # the connections are the parent's

    def _after_fork() -> None:
        for pool in list(_pools):
            pool._start()

    os.register_at_fork(after_in_child=_after_fork)
