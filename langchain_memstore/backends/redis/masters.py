"""Pools of connections to the master that sentinels name: redis-py's, which a watch tells of the master."""

from __future__ import annotations

from typing import Any

import redis.asyncio.sentinel as aio
import redis.sentinel as sync
from redis.exceptions import ReadOnlyError, RedisError
from typing_extensions import override

from langchain_memstore.backends.redis.lines import AsyncExplained, AsyncTlsConnection, Explained, TlsConnection
from langchain_memstore.backends.redis.sentinel import Address, AsyncWatch, Watch


class _Manager(sync.Sentinel):
    """Tells redis-py's pool the master that a watch knows."""

    def __init__(self, service: str, clients: list[Any]) -> None:
        super().__init__([])  # type: ignore[no-untyped-call]
        self.sentinels = clients
        self.watch = Watch(self, service)

    @override
    def discover_master(self, service_name: str) -> Address:
        return self.watch.find()


class _AsyncManager(aio.Sentinel):
    """Tells redis-py's pool the master that a watch knows; the async variant of `_Manager`."""

    def __init__(self, service: str, clients: list[Any]) -> None:
        super().__init__([])  # type: ignore[no-untyped-call]
        self.sentinels = clients
        self.watch = AsyncWatch(self, service)

    @override
    async def discover_master(self, service_name: str) -> Address:
        return await self.watch.find()


class _MasterConnection(Explained, sync.SentinelManagedConnection):
    """A connection for threads to a master, which is doubted where it says that it is none."""

    @override
    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)
        except RedisError as error:
            if isinstance(error.__context__, ReadOnlyError):
                self.connection_pool.sentinel_manager.watch.doubt()
            raise


class _MasterTlsConnection(_MasterConnection, TlsConnection):
    """The same over TLS."""


class _AsyncMasterConnection(AsyncExplained, aio.SentinelManagedConnection):
    """A connection for an event loop to a master, which is doubted where it says that it is none."""

    @override
    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)
        except RedisError as error:
            if isinstance(error.__context__, ReadOnlyError):
                self.connection_pool.sentinel_manager.watch.doubt()
            raise


class _AsyncMasterTlsConnection(_AsyncMasterConnection, AsyncTlsConnection):
    """The same over TLS."""


class SentinelPool(sync.SentinelConnectionPool):
    """Connections for threads to the master of a service.

    Args:
        service: What the sentinels call it.
        clients: The clients of the sentinels, which are closed with the pool.
        tls: Whether the master is reached over TLS.
        **options: Of the pool and its connections.
    """

    def __init__(self, service: str, clients: list[Any], tls: bool, **options: Any) -> None:
        kind = _MasterTlsConnection if tls else _MasterConnection
        super().__init__(service, _Manager(service, clients), connection_class=kind, **options)  # type: ignore[no-untyped-call]

    @override
    def disconnect(self, inuse_connections: bool = True) -> None:
        super().disconnect(inuse_connections)
        if inuse_connections:
            for sentinel in self.sentinel_manager.sentinels:
                sentinel.connection_pool.disconnect()


class AsyncSentinelPool(aio.SentinelConnectionPool):
    """Connections for an event loop to the master of a service; the async variant of `SentinelPool`."""

    def __init__(self, service: str, clients: list[Any], tls: bool, **options: Any) -> None:
        kind = _AsyncMasterTlsConnection if tls else _AsyncMasterConnection
        super().__init__(service, _AsyncManager(service, clients), connection_class=kind, **options)  # type: ignore[no-untyped-call]

    @override
    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        if inuse_connections:
            await self.sentinel_manager.watch.stop()
            for sentinel in self.sentinel_manager.sentinels:
                await sentinel.connection_pool.disconnect()
