"""Connections to one Redis server: a pool for threads, and one for each event loop."""

from __future__ import annotations

import asyncio
import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.connection as aio
import redis.connection as sync
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry
from typing_extensions import Unpack

from langchain_memstore._version import __version__
from langchain_memstore.backends.loop_pool import LoopPool
from langchain_memstore.options import ConnectionOptions, check_count, check_seconds

SCHEMES = ("redis", "rediss", "unix")
HEALTH_CHECK_INTERVAL = 30  # seconds that a connection may idle before it is tried before use

MakePool = Callable[[bool], Any]
"""Makes a connection pool: for the running event loop where its argument is True, else for threads."""

_shared: dict[tuple[Any, ...], Connections] = {}
_shared_lock = threading.Lock()
_twins: weakref.WeakKeyDictionary[Any, Connections] = weakref.WeakKeyDictionary()
"""By the pool of a client that was lent: connections like its own, for the face and the loops that it cannot serve."""


class Connections:
    """The connection pools that reach one server: one for threads, and one for each running event loop.

    Nothing connects before a pool is asked for a connection. The pool of an event loop is closed by `aclose`, or else
    by the loop's own shutdown, as `asyncio.run` does it.

    Args:
        make_pool: Makes the pools.
        key: By which the process shares these connections; None: they are not shared.
    """

    def __init__(self, make_pool: MakePool, key: tuple[Any, ...] | None = None) -> None:
        self._make_pool = make_pool
        self._key = key
        self._users: weakref.WeakSet[object] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._pool: Any = None
        self._loops: weakref.WeakValueDictionary[asyncio.AbstractEventLoop, LoopPool] = weakref.WeakValueDictionary()

    @classmethod
    def of_url(cls, url: str, **options: Unpack[ConnectionOptions]) -> Connections:
        """Return the process's connections to a URL.

        Args:
            url: `redis://`, `rediss://` or `unix://`, with redis-py's own query options.
            **options: How to connect.

        Raises:
            ValueError: The URL or an option makes no sense.
        """
        settings = _settings(options)
        key = (url, *sorted(settings.items()))
        with _shared_lock:
            if key not in _shared:
                _shared[key] = cls(_url_pools(url, settings), key)
            return _shared[key]

    @property
    def home(self) -> Connections:
        """What stands for the server in this process, the same for all who reach it through these pools."""
        return self

    @property
    def pool(self) -> Any:
        """The pool for threads."""
        if self._pool is None:
            with self._lock:
                if self._pool is None:
                    self._pool = self._make_pool(False)
        return self._pool

    async def async_pool(self) -> LoopPool:
        """Return the pool for the running event loop."""
        loop = asyncio.get_running_loop()
        pool = self._loops.get(loop)
        if pool is None:
            pool = self._loops[loop] = LoopPool(self._make_pool(True), self)
            await pool.open()
        return pool

    def retain(self, user: object) -> None:
        """Count a user, until it lets go of the connections or is no more.

        When the last user is no more, without having let go, the connections stay for the next.
        """
        with _shared_lock:
            self._users.add(user)
            if self._key is not None:
                _shared.setdefault(self._key, self)

    def release(self, user: object) -> bool:
        """Let go of the connections; tells whether this was their last user, who has to close them."""
        with _shared_lock:
            self._users.discard(user)
            if self._users:
                return False
            if self._key is not None and _shared.get(self._key) is self:
                del _shared[self._key]
            return True

    def close(self) -> None:
        """Close the pool for threads, and leave those of event loops to their loops."""
        if self._pool is not None:
            self._pool.disconnect()
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
        self._lent = client.connection_pool if client is not None else None
        self._lent_async = LoopPool(async_client.connection_pool, self) if async_client is not None else None
        self._lent_loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        lent: Any = client if client is not None else async_client
        like_lent = functools.partial(_pool_like, weakref.ref(lent.connection_pool))
        with _shared_lock:
            self._twin = _twins.setdefault(lent.connection_pool, Connections(like_lent))

    @property
    def home(self) -> Connections:
        """What stands for the server in this process: of all who were lent these pools."""
        return self._twin

    @property
    def pool(self) -> Any:
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


def _settings(options: ConnectionOptions) -> dict[str, Any]:
    settings: dict[str, Any] = {"max_connections": 20, "socket_timeout": 5.0, "socket_connect_timeout": 5.0, **options}
    check_count("max_connections", settings["max_connections"])
    check_seconds("socket_timeout", settings["socket_timeout"])
    check_seconds("socket_connect_timeout", settings["socket_connect_timeout"])
    return settings


def _identity() -> dict[str, Any]:
    """Name this package to the server; without it redis-py reads its own version from disk when it connects."""
    if hasattr(redis, "DriverInfo"):
        return {"driver_info": redis.DriverInfo(name="langchain-memstore", lib_version=__version__)}
    return {"lib_name": "langchain-memstore", "lib_version": __version__}


def _url_pools(url: str, settings: dict[str, Any]) -> MakePool:
    try:
        sync.parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError:  # its text may quote the password
        if url.partition("://")[0] not in SCHEMES:
            raise ValueError(f"the Redis URL must start with one of {', '.join(f'{s}://' for s in SCHEMES)}") from None
        raise ValueError(
            "the Redis URL cannot be read; percent-encode special characters in its user name and password"
        ) from None

    if not url.startswith("unix"):
        settings = {**settings, "socket_keepalive": True}

    def make(asynchronous: bool) -> Any:
        retry = (AsyncRetry if asynchronous else Retry)(NoBackoff(), 0)  # the backend itself tries again
        return (aio if asynchronous else sync).BlockingConnectionPool.from_url(
            url,
            **settings,
            timeout=None,
            retry=retry,
            health_check_interval=HEALTH_CHECK_INTERVAL,
            **_identity(),
        )

    try:
        make(False).make_connection()  # which does not connect yet
    except TypeError as error:
        unknown = str(error).rpartition("argument ")[2]
        raise ValueError(f"the Redis URL has an option that redis-py does not know: {unknown}") from None
    return make


_TWINS = (
    (sync.Connection, aio.Connection),
    (sync.SSLConnection, aio.SSLConnection),
    (sync.UnixDomainSocketConnection, aio.UnixDomainSocketConnection),
)
# What a connection for threads and one for an event loop understand alike, beside what starts with `ssl_`.
_COMMON = {"host", "port", "path", "db", "username", "password", "credential_provider", "protocol", "client_name"}
_COMMON |= {"socket_timeout", "socket_connect_timeout", "socket_keepalive", "socket_keepalive_options"}
_COMMON |= {"health_check_interval"}


def _pool_like(lent: weakref.ref[Any], asynchronous: bool) -> Any:
    pool: Any = lent()
    for twins in _TWINS:
        if pool.connection_class in twins:
            settings = {k: v for k, v in pool.connection_kwargs.items() if k in _COMMON or k.startswith("ssl_")}
            return (aio if asynchronous else sync).BlockingConnectionPool(
                max_connections=min(pool.max_connections, 20),
                timeout=None,
                connection_class=twins[asynchronous],
                retry=(AsyncRetry if asynchronous else Retry)(NoBackoff(), 0),
                **settings,
                **_identity(),
            )
    missing = "async_client=redis.asyncio.Redis(...)" if asynchronous else "redis_client=redis.Redis(...)"
    raise ValueError(f"connections of {pool.connection_class.__name__} have no twin; pass {missing} too")
