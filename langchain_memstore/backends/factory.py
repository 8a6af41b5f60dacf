"""Which backend a URL, or clients, stand for."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.options import ConnectionOptions, LayerPolicy

if TYPE_CHECKING:
    from langchain_memstore.backends.outage.controller import OutageController
    from langchain_memstore.backends.outage.journal import Journal
    from langchain_memstore.backends.redis.connections import Connections
    from langchain_memstore.backends.redis.topology import Cluster
    from langchain_memstore.codec.encryption import KeyRing

LOCAL = "memory://"

_controllers_lock = threading.Lock()


def backend_of_url(url: str, options: ConnectionOptions, layers: LayerPolicy, key_ring: KeyRing | None) -> Backend:
    """Make the backend of a URL, without connecting yet.

    Args:
        url: `memory://`, `memory://<name>`, or that of a Redis.
        options: How to connect.
        layers: What is between a store and Redis.
        key_ring: The keys by which a journal in a file is encrypted; None: it is not.

    Raises:
        ValueError: The URL or an option makes no sense.
    """
    if isinstance(url, str) and url.startswith(LOCAL):
        name = url.removeprefix(LOCAL)
        return LocalBackend.shared(name) if name else LocalBackend()
    return redis_of_url(url, options, layers, key_ring)


def redis_of_url(url: str, options: ConnectionOptions, layers: LayerPolicy, key_ring: KeyRing | None) -> Backend:
    """Make the backend of a Redis URL, without connecting yet.

    Args:
        url: `redis://`, `rediss://` or `unix://`; with `+cluster` or `+sentinel` for several servers.
        options: How to connect.
        layers: What is between a store and Redis.
        key_ring: The keys by which a journal in a file is encrypted; None: it is not.

    Raises:
        ValueError: The URL or an option makes no sense.
    """
    from langchain_memstore.backends.redis.connections import Connections
    from langchain_memstore.backends.redis.topology import Cluster
    from langchain_memstore.backends.redis.urls import CLUSTER_SCHEMES

    if not isinstance(url, str) or "://" not in url:
        raise ValueError(f"the URL must be {LOCAL}, or one of a Redis: redis://host:port/0")
    if url.startswith(CLUSTER_SCHEMES):
        return backend_over(Cluster.of_url(url, **options), layers, key_ring)
    return backend_over(Connections.of_url(url, **options), layers, key_ring)


def redis_of_clients(client: Any, async_client: Any, layers: LayerPolicy, key_ring: KeyRing | None) -> Backend:
    """Make the backend over clients that someone else owns.

    Args:
        client: A `redis.Redis` or a `redis.RedisCluster`, or None.
        async_client: A `redis.asyncio.Redis` or a `redis.asyncio.RedisCluster`, or None.
        layers: What is between a store and Redis.
        key_ring: The keys by which a journal in a file is encrypted; None: it is not.

    Raises:
        ValueError: There is no client, or one that is not redis-py's.
    """
    import redis.asyncio.cluster
    import redis.cluster

    from langchain_memstore.backends.redis.connections import Borrowed
    from langchain_memstore.backends.redis.topology import Cluster

    clusters = redis.cluster.RedisCluster, redis.asyncio.cluster.RedisCluster
    connections: Connections | Cluster
    if isinstance(lent := client if client is not None else async_client, clusters):
        connections = Cluster.of_client(lent)
    else:
        connections = Borrowed(client, async_client)
    return backend_over(connections, layers, key_ring)


def backend_over(connections: Connections | Cluster, layers: LayerPolicy, key_ring: KeyRing | None = None) -> Backend:
    """Make a backend over connections to Redis, without connecting yet.

    Args:
        connections: How to reach it.
        layers: What is between. All backends of one Redis and policy share the journal, and what is known.
        key_ring: The keys by which a journal in a file is encrypted; None: it is not.

    Raises:
        ValueError: The system cannot keep a journal in a file.
    """
    from langchain_memstore.backends.near_cache import NearCacheBackend
    from langchain_memstore.backends.outage.controller import OutageController
    from langchain_memstore.backends.outage.fallback import FallbackBackend
    from langchain_memstore.backends.outage.session_mirror import SessionMirror
    from langchain_memstore.backends.redis.backend import RedisBackend
    from langchain_memstore.backends.redis.cluster import ClusterBackend, nodes_of
    from langchain_memstore.backends.redis.topology import Cluster

    make_backend: Callable[[], Backend]
    nodes: dict[str, Any] = {}
    if isinstance(connections, Cluster):
        make_backend = functools.partial(ClusterBackend, connections)
        nodes["locate"] = functools.partial(nodes_of, connections)
    else:
        make_backend = functools.partial(RedisBackend, connections)
    if layers.fallback is False:
        if layers.near_cache is False:
            return make_backend()
        return NearCacheBackend(make_backend(), SessionMirror(layers.mirror_bytes, time.time), records=True)
    with _controllers_lock:
        controllers: dict[Any, OutageController] = connections.home.controllers
        key = layers.path, layers.max_journal, layers.mirror_bytes, key_ring and layers.path and key_ring.names
        if key not in controllers:
            make_journal = functools.partial(_journal, layers, key_ring)
            controllers[key] = OutageController(make_journal, mirror_bytes=layers.mirror_bytes, **nodes)
        controller = controllers[key]
        backend: Backend = make_backend()
        if layers.near_cache is not False:
            backend = NearCacheBackend(backend, controller.mirror, records=False)
        return FallbackBackend(backend, controller, make_backend, connections.home.end_waits)


def _journal(layers: LayerPolicy, key_ring: KeyRing | None) -> Journal:
    from langchain_memstore.backends.outage.file_journal import FileJournal
    from langchain_memstore.backends.outage.journal import Journal

    if layers.path is None:
        return Journal(layers.max_journal)
    return FileJournal(layers.path, layers.max_journal, key_ring.cipher("journal") if key_ring else None)
