"""Which backend a URL, or clients, stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.options import ConnectionOptions, LayerPolicy

if TYPE_CHECKING:
    from langchain_memstore.backends.connections import Connections
    from langchain_memstore.backends.nodes import Cluster
    from langchain_memstore.encryption import KeyRing

LOCAL = "memory://"


def backend_of_url(url: str, options: ConnectionOptions, fallback: LayerPolicy, key_ring: KeyRing | None) -> Backend:
    """Make the backend of a URL, without connecting yet.

    Args:
        url: `memory://`, `memory://<name>`, or that of a Redis.
        options: How to connect.
        fallback: What happens while Redis cannot be reached.
        key_ring: The keys by which a journal in a file is encrypted; None: it is not.

    Raises:
        ValueError: The URL or an option makes no sense.
    """
    if isinstance(url, str) and url.startswith(LOCAL):
        name = url.removeprefix(LOCAL)
        return LocalBackend.shared(name) if name else LocalBackend()
    return redis_of_url(url, options, fallback, key_ring)


def redis_of_url(url: str, options: ConnectionOptions, fallback: LayerPolicy, key_ring: KeyRing | None) -> Backend:
    """Make the backend of a Redis URL, without connecting yet.

    Args:
        url: `redis://`, `rediss://` or `unix://`; with `+cluster` or `+sentinel` for several servers.
        options: How to connect.
        fallback: What happens while it cannot be reached.
        key_ring: The keys by which a journal in a file is encrypted; None: it is not.

    Raises:
        ValueError: The URL or an option makes no sense.
    """
    from langchain_memstore.backends.connections import Connections
    from langchain_memstore.backends.fallback import backend_over
    from langchain_memstore.backends.nodes import Cluster
    from langchain_memstore.backends.pools import CLUSTER_SCHEMES

    if not isinstance(url, str) or "://" not in url:
        raise ValueError(f"the URL must be {LOCAL}, or one of a Redis: redis://host:port/0")
    if url.startswith(CLUSTER_SCHEMES):
        return backend_over(Cluster.of_url(url, **options), fallback, key_ring)
    return backend_over(Connections.of_url(url, **options), fallback, key_ring)


def redis_of_clients(client: Any, async_client: Any, fallback: LayerPolicy, key_ring: KeyRing | None) -> Backend:
    """Make the backend over clients that someone else owns.

    Args:
        client: A `redis.Redis` or a `redis.RedisCluster`, or None.
        async_client: A `redis.asyncio.Redis` or a `redis.asyncio.RedisCluster`, or None.
        fallback: What happens while Redis cannot be reached.
        key_ring: The keys by which a journal in a file is encrypted; None: it is not.

    Raises:
        ValueError: There is no client, or one that is not redis-py's.
    """
    import redis.asyncio.cluster
    import redis.cluster

    from langchain_memstore.backends.connections import Borrowed
    from langchain_memstore.backends.fallback import backend_over
    from langchain_memstore.backends.nodes import Cluster

    clusters = redis.cluster.RedisCluster, redis.asyncio.cluster.RedisCluster
    connections: Connections | Cluster
    if isinstance(lent := client if client is not None else async_client, clusters):
        connections = Cluster.of_client(lent)
    else:
        connections = Borrowed(client, async_client)
    return backend_over(connections, fallback, key_ring)
