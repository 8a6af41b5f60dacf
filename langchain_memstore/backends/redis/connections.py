"""Connections to one Redis server, or to the master of a service: a pool for threads, and one for each event loop."""

from __future__ import annotations

import asyncio
import functools
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Hashable
from contextlib import suppress
from typing import Any, TypeVar, cast

import redis
import redis.asyncio
from typing_extensions import Unpack, override

from langchain_memstore.backends.redis.batching import PipelineBatcher
from langchain_memstore.backends.redis.loop_pool import LoopPool
from langchain_memstore.backends.redis.pool import ThreadPool
from langchain_memstore.backends.redis.pool_makers import MakePool, pool_like, sentinel_pools, url_pools
from langchain_memstore.backends.redis.sentinel import Address
from langchain_memstore.backends.redis.urls import SENTINEL_SCHEMES, settings_of, shared_key
from langchain_memstore.ops.base import Command
from langchain_memstore.options import ConnectionOptions

S = TypeVar("S", bound="Shared")

_shared: dict[Hashable, Shared] = {}
_shared_lock = threading.Lock()


class Shared(ABC):
    """What the backends of a process share for as long as one uses it; the last of its users has to close it.

    Args:
        key: By which the process shares it; None: it is not shared.
    """

    def __init__(self, key: Hashable = None) -> None:
        self._key = key
        self.has_connected = False
        """Whether an operation went over these connections."""
        self._users: weakref.WeakSet[object] = weakref.WeakSet()
        self.controllers: dict[Hashable, Any] = {}
        """What stands in for the server in an outage, by the options of the stores; see `backends.factory`."""

    @property
    def home(self) -> Shared:
        """What stands for the server in this process, the same for all who reach it through the same connections."""
        return self

    def retain(self, user: object) -> None:
        """Count a user, until it lets go or is no more.

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

    @abstractmethod
    def end_waits(self, address: Address | None = None) -> None:
        """Have those raise at once who wait for a connection: an outage has begun. From any thread.

        Args:
            address: Of which node of a Cluster; None: of all.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connections of threads, and leave those of event loops to their loops."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections of threads and the running event loop's."""


def find_shared(key: Hashable, make: Callable[[], S]) -> S:
    """Return what the process shares by a key, made when it is first asked for."""
    with _shared_lock:
        if key not in _shared:
            _shared[key] = make()
        return cast(S, _shared[key])


_twins_lock = threading.Lock()
_twins: weakref.WeakKeyDictionary[Any, Connections] = weakref.WeakKeyDictionary()
"""By the pool of a client that was lent: connections like its own, for the variant and the loops that it cannot
serve."""
_lent_to_threads: weakref.WeakValueDictionary[int, ThreadPool] = weakref.WeakValueDictionary()
_lent_to_loops: weakref.WeakValueDictionary[int, LoopConnections] = weakref.WeakValueDictionary()
"""By the identity of the pool of a client that was lent: what all use here who use it, and are bounded by."""
_open: set[LoopConnections] = set()
"""Those of event loops that have not been shut down."""


class LoopConnections:
    """The connections of one event loop: a pool, and the batcher through which its tasks send commands.

    They are closed when the loop shuts down, as `asyncio.run` does it; once their owner has abandoned them or is no
    more, when the next ones are opened in the loop.

    Args:
        pool: redis-py's pool.
        owner: Who uses them.
        is_own: Whether nobody else uses the pool.
    """

    def __init__(self, pool: Any, owner: object, is_own: bool) -> None:
        self._pool = LoopPool(pool, is_own)
        self.limits = self._pool.limits
        self.batcher = PipelineBatcher(self._pool)
        self.abandoned = False
        self._owner = weakref.ref(owner)
        self.loop = asyncio.get_running_loop()

    async def open(self) -> None:
        """Have them closed with the running event loop, and close those of the loop that nobody uses any more."""
        self._closer = self._close_with_loop()
        await anext(self._closer)
        _open.add(self)
        for other in _open.copy():
            if other.loop.is_closed():  # without having been shut down
                _open.discard(other)
            elif other.loop is self.loop and (other.abandoned or other._owner() is None) and other in _open:
                await other.aclose()

    def end_waits(self) -> None:
        """Have those raise at once who wait for a connection; from any thread."""
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            self.loop.call_soon_threadsafe(self._pool.end_waits)

    async def aclose(self) -> None:
        """Close them, in their event loop."""
        await self._closer.aclose()

    async def _close_with_loop(self) -> AsyncGenerator[None]:
        """Wait to be closed, as the event loop closes every asynchronous generator when it shuts down."""
        try:
            yield
        finally:
            _open.discard(self)
            await self.batcher.aclose()
            await self._pool.aclose()


class Connections(Shared):
    """The connection pools that reach one server: one for threads, and one for each running event loop.

    Nothing connects before a command is sent. The pool of an event loop is closed by `aclose`, or else by the loop's
    own shutdown, as `asyncio.run` does it.

    Args:
        make_pool: Makes the pools.
        key: By which the process shares these connections; None: they are not shared.
    """

    def __init__(self, make_pool: MakePool, key: tuple[Any, ...] | None = None) -> None:
        super().__init__(key)
        self._make_pool = make_pool
        self._lock = threading.Lock()
        self._pool: ThreadPool | None = None
        self.lent: weakref.WeakValueDictionary[int, ThreadPool | LoopConnections] = weakref.WeakValueDictionary()
        """Those of clients to which these connections are the twins, by identity."""
        self._loops: weakref.WeakValueDictionary[asyncio.AbstractEventLoop, LoopConnections] = (
            weakref.WeakValueDictionary()
        )

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
        key = shared_key(url, settings)
        make = sentinel_pools if url.startswith(SENTINEL_SCHEMES) else url_pools
        return find_shared(key, lambda: cls(make(url, settings), key))

    async def arequest(self, commands: list[Command], until: float, alone: bool = False) -> list[Any]:
        """Send commands over one connection of the running event loop's, and return their answers.

        Args:
            commands: What to send.
            until: When to give up, by the monotonic clock.
            alone: Whether they have to have the connection for themselves.
        """
        return await (await self.loop_connections()).batcher.request(commands, alone, until)

    @override
    def end_waits(self, address: Address | None = None) -> None:
        if self._pool is not None:
            self._pool.end_waits()
        for loop_connections in self._loops.valuerefs():  # a copy, which no other thread changes
            if (connections := loop_connections()) is not None:
                connections.end_waits()
        for lent in self.lent.valuerefs():
            if (pool := lent()) is not None:
                pool.end_waits()

    def thread_pool(self) -> ThreadPool:
        """Return the pool for threads."""
        if self._pool is None:
            with self._lock:
                if self._pool is None:
                    self._pool = ThreadPool(self._make_pool(False), is_own=True)
        return self._pool

    async def loop_connections(self) -> LoopConnections:
        """Return the connections of the running event loop."""
        loop = asyncio.get_running_loop()
        connections = self._loops.get(loop)
        if connections is None:
            connections = self._loops[loop] = LoopConnections(self._make_pool(True), self, is_own=True)
            await connections.open()
        return connections

    @override
    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
        for connections in list(self._loops.values()):
            connections.abandoned = True
        self._loops.clear()

    @override
    async def aclose(self) -> None:
        connections = self._loops.pop(asyncio.get_running_loop(), None)
        self.close()
        if connections is not None:
            await connections.aclose()


class Borrowed(Connections):
    """The connections of clients that someone else owns, which are never closed.

    For the variant, or the event loop, that no client was lent for, connections with the same settings are made.

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
        self._lent: ThreadPool | None = None
        self._lent_async: LoopConnections | None = None
        self._lent_loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        lent: Any = client if client is not None else async_client
        like_lent = functools.partial(pool_like, weakref.ref(lent.connection_pool))
        with _twins_lock:
            self._twin = _twins.setdefault(lent.connection_pool, Connections(like_lent))
            if client is not None:
                pool = client.connection_pool
                self._lent = _lent_to_threads.get(id(pool)) or ThreadPool(pool, is_own=False)
                _lent_to_threads[id(pool)] = self._twin.lent[id(self._lent)] = self._lent

    @property
    @override
    def home(self) -> Shared:
        return self._twin

    @override
    def thread_pool(self) -> ThreadPool:
        return self._lent or self._twin.thread_pool()

    @override
    async def loop_connections(self) -> LoopConnections:
        if (client := self._clients[1]) is not None:
            loop = asyncio.get_running_loop()
            if self._lent_loop is None:
                self._lent_loop, pool = weakref.ref(loop), client.connection_pool
                lent = _lent_to_loops.get(id(pool))
                if lent is None or lent.loop is not loop:
                    lent = LoopConnections(pool, self, is_own=False)
                self._lent_async = _lent_to_loops[id(pool)] = self._twin.lent[id(lent)] = lent
            if self._lent_async is not None and self._lent_loop() is loop:
                return self._lent_async
        return await self._twin.loop_connections()
