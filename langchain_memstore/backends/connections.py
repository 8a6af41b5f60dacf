"""Connections to one Redis server, or to the master of a service: a pool for threads, and one for each event loop."""

from __future__ import annotations

import asyncio
import functools
import threading
import weakref
from typing import Any

import redis
import redis.asyncio
from typing_extensions import Unpack

from langchain_memstore.backends.loop_pool import LoopPool
from langchain_memstore.backends.pools import (
    SENTINEL_SCHEMES,
    MakePool,
    pool_like,
    sentinel_pools,
    settings_of,
    url_pools,
)
from langchain_memstore.backends.shared import Shared, find_shared
from langchain_memstore.backends.thread_pool import ThreadPool
from langchain_memstore.options import ConnectionOptions

_twins_lock = threading.Lock()
_twins: weakref.WeakKeyDictionary[Any, Connections] = weakref.WeakKeyDictionary()
"""By the pool of a client that was lent: connections like its own, for the face and the loops that it cannot serve."""


class Connections(Shared):
    """The connection pools that reach one server: one for threads, and one for each running event loop.

    Nothing connects before a pool is asked for a connection. The pool of an event loop is closed by `aclose`, or else
    by the loop's own shutdown, as `asyncio.run` does it.

    Args:
        make_pool: Makes the pools.
        key: By which the process shares these connections; None: they are not shared.
    """

    def __init__(self, make_pool: MakePool, key: tuple[Any, ...] | None = None) -> None:
        super().__init__(key)
        self._make_pool = make_pool
        self._lock = threading.Lock()
        self._pool: ThreadPool | None = None
        self._loops: weakref.WeakValueDictionary[asyncio.AbstractEventLoop, LoopPool] = weakref.WeakValueDictionary()

    @classmethod
    def of_url(cls, url: str, **options: Unpack[ConnectionOptions]) -> Connections:
        """Return the process's connections to a URL.

        Args:
            url: `redis://`, `rediss://`, `unix://`, `redis+sentinel://` or `rediss+sentinel://`, with redis-py's own
                query options.
            **options: How to connect.

        Raises:
            ValueError: The URL or an option makes no sense.
        """
        settings = settings_of(options)
        key = (url, *sorted(settings.items()))
        make = sentinel_pools if url.startswith(SENTINEL_SCHEMES) else url_pools
        return find_shared(key, lambda: cls(make(url, settings), key))

    @property
    def pool(self) -> ThreadPool:
        """The pool for threads."""
        if self._pool is None:
            with self._lock:
                if self._pool is None:
                    self._pool = ThreadPool(self._make_pool(False), is_own=True)
        return self._pool

    async def async_pool(self) -> LoopPool:
        """Return the pool for the running event loop."""
        loop = asyncio.get_running_loop()
        pool = self._loops.get(loop)
        if pool is None:
            pool = self._loops[loop] = LoopPool(self._make_pool(True), self, is_own=True)
            await pool.open()
        return pool

    def close(self) -> None:
        """Close the pool for threads, and leave those of event loops to their loops."""
        if self._pool is not None:
            self._pool.close()
        for pool in list(self._loops.values()):
            pool.abandoned = True
        self._loops.clear()

    async def aclose(self) -> None:
        """Close the pool for threads and the running event loop's."""
        pool = self._loops.pop(asyncio.get_running_loop(), None)
        self.close()
        if pool is not None:
            await pool.aclose()


class Borrowed(Connections):
    """The connections of clients that someone else owns, which are never closed.

    For the face, or the event loop, that no client was lent for, connections with the same settings are made.

    Args:
        client: A `redis.Redis`, or None.
        async_client: A `redis.asyncio.Redis`, or None. It belongs to the event loop that first uses it here.

    Raises:
        ValueError: There is no client, or one that is not redis-py's.
    """

    def __init__(self, client: Any, async_client: Any) -> None:
        if client is None and async_client is None:
            raise ValueError("a Redis client is needed: redis_client, async_client, or both")
        if client is not None and not isinstance(client, redis.Redis):
            raise ValueError(f"redis_client must be a redis.Redis, not {type(client)}")
        if async_client is not None and not isinstance(async_client, redis.asyncio.Redis):
            raise ValueError(f"async_client must be a redis.asyncio.Redis, not {type(async_client)}")
        self._clients = client, async_client  # which close their connections when they are no more
        self._lent = ThreadPool(client.connection_pool, is_own=False) if client else None
        self._lent_async = (
            LoopPool(async_client.connection_pool, self, is_own=False) if async_client is not None else None
        )
        self._lent_loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        lent: Any = client if client is not None else async_client
        like_lent = functools.partial(pool_like, weakref.ref(lent.connection_pool))
        with _twins_lock:
            self._twin = _twins.setdefault(lent.connection_pool, Connections(like_lent))

    @property
    def home(self) -> Shared:
        """What stands for the server in this process: the same for all who were lent these pools."""
        return self._twin

    @property
    def pool(self) -> ThreadPool:
        """The pool for threads."""
        return self._lent or self._twin.pool

    async def async_pool(self) -> LoopPool:
        """Return the pool for the running event loop."""
        if self._lent_async is not None:
            loop = asyncio.get_running_loop()
            if self._lent_loop is None:
                self._lent_loop = weakref.ref(loop)
            if self._lent_loop() is loop:
                return self._lent_async
        return await self._twin.async_pool()

    def retain(self, user: object) -> None:
        """Count a user of the connections that are not borrowed."""
        self._twin.retain(user)

    def release(self, user: object) -> bool:
        """Let go of the connections that are not borrowed; tells whether this was their last user."""
        return self._twin.release(user)

    def close(self) -> None:
        """Close what is not borrowed, for threads."""
        self._twin.close()

    async def aclose(self) -> None:
        """Close what is not borrowed, for threads and the running event loop."""
        await self._twin.aclose()
