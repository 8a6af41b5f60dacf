"""The seven ways to reach Redis, some in two variants: with our own connections, or those of a borrowed client.

Those to a server are three, those to a cluster and to what sentinels watch two each: their clients are of either kind.
Every suite that all backends pass runs over them:

    class TestServer(BackendConformance):
        backend = backend_fixture(*ON_A_SERVER)

        @pytest.fixture
        def place(self, server: Server) -> Server:
            return server
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry
from redis.sentinel import Sentinel

from langchain_memstore.backends.redis.backend import RedisBackend
from langchain_memstore.backends.redis.cluster import ClusterBackend
from langchain_memstore.backends.redis.connections import Borrowed, Connections
from langchain_memstore.backends.redis.topology import Cluster
from langchain_memstore.testing import Run
from support.servers import PASSWORD, USER, Reachable
from support.topologies import SERVICE, ClusterOfServers, WatchedServers

LOGIN = {"username": USER, "password": PASSWORD}

Way = Callable[[Any, Run], AbstractContextManager[RedisBackend]]
"""Makes a backend, given what it is to reach and what runs coroutines, and closes it."""


@contextmanager
def own_connections(place: Reachable, run: Run | None = None) -> Iterator[RedisBackend]:
    """Connections of our own, to a server or to the master that sentinels name."""
    with closing(RedisBackend(Connections.of_url(place.url))) as backend:
        yield backend


def borrowed_client(**settings: Any) -> Way:
    """The connections of a client for threads, which tries nothing again; event loops have twins of them."""

    @contextmanager
    def lend(place: Reachable, run: Run) -> Iterator[RedisBackend]:
        retry = Retry(NoBackoff(), 0)
        with (
            redis.Redis.from_url(place.url, retry=retry, **settings) as client,
            closing(RedisBackend(Borrowed(client, None))) as backend,
        ):
            yield backend

    return lend


def borrowed_async_client(**settings: Any) -> Way:
    """The connections of a client for an event loop; threads have twins of them."""

    @contextmanager
    def lend(place: Reachable, run: Run) -> Iterator[RedisBackend]:
        client = redis.asyncio.Redis.from_url(place.url, **settings)
        with closing(RedisBackend(Borrowed(None, client))) as backend:
            yield backend
        run(client.aclose())

    return lend


@contextmanager
def own_cluster(cluster: ClusterOfServers, run: Run) -> Iterator[ClusterBackend]:
    """Connections of our own, to the nodes of a cluster."""
    with closing(ClusterBackend(Cluster.of_url(cluster.url))) as backend:
        yield backend


@contextmanager
def borrowed_cluster(cluster: ClusterOfServers, run: Run) -> Iterator[ClusterBackend]:
    """The nodes of a cluster client for threads, which asks for more rights itself than a store."""
    node = ClusterNode("127.0.0.1", cluster.servers[0].port)
    with (
        redis.RedisCluster(startup_nodes=[node]) as client,
        closing(ClusterBackend(Cluster.of_client(client))) as backend,
    ):
        yield backend


@contextmanager
def borrowed_async_cluster(cluster: ClusterOfServers, run: Run) -> Iterator[ClusterBackend]:
    """The nodes of a cluster client for an event loop."""
    client = redis.asyncio.RedisCluster(host="127.0.0.1", port=cluster.servers[0].port)
    with closing(ClusterBackend(Cluster.of_client(client))) as backend:
        yield backend
    run(client.aclose())


@contextmanager
def borrowed_from_sentinel(watched: WatchedServers, run: Run) -> Iterator[RedisBackend]:
    """The connections of a client for threads that a sentinel client made."""
    sentinel = Sentinel(watched.hosts)
    with (
        sentinel.master_for(SERVICE, **LOGIN) as client,
        closing(RedisBackend(Borrowed(client, None))) as backend,
    ):
        yield backend
    for each in sentinel.sentinels:
        each.close()


@contextmanager
def borrowed_from_async_sentinel(watched: WatchedServers, run: Run) -> Iterator[RedisBackend]:
    """The connections of a client for an event loop that a sentinel client made."""
    sentinel = AsyncSentinel(watched.hosts)
    client = sentinel.master_for(SERVICE, **LOGIN)
    with closing(RedisBackend(Borrowed(None, client))) as backend:
        yield backend
    run(client.aclose())
    for each in sentinel.sentinels:
        run(each.aclose())


WAYS: dict[str, Way] = {
    "url": own_connections,
    "client": borrowed_client(protocol=2),
    "decoding client": borrowed_client(protocol=3, decode_responses=True),
    "async client": borrowed_async_client(protocol=3),
    "decoding async client": borrowed_async_client(protocol=2, decode_responses=True),
    "cluster url": own_cluster,
    "cluster client": borrowed_cluster,
    "async cluster client": borrowed_async_cluster,
    "sentinel url": own_connections,
    "sentinel client": borrowed_from_sentinel,
    "async sentinel client": borrowed_from_async_sentinel,
}
"""All of them, by name; those of single clients with both protocols, and with replies decoded or not."""

ON_A_SERVER = ("url", "client", "decoding client", "async client", "decoding async client")
ON_A_CLUSTER = ("cluster url", "cluster client", "async cluster client")
ON_SENTINELS = ("sentinel url", "sentinel client", "async sentinel client")


def backend_fixture(*ways: str) -> Any:
    """Make the fixture `backend` of a suite, which reaches the fixture `place` in these ways, one after the other."""

    @pytest.fixture(params=ways)
    def backend(self: Any, place: Any, request: pytest.FixtureRequest, run: Run) -> Iterator[RedisBackend]:
        with WAYS[request.param](place, run) as backend:
            yield backend

    return backend
