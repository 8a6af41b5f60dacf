"""Every kind of connection, to servers, clusters and what sentinels watch, passes the suite of the key-value family."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from langchain_memstore import Memstore
from langchain_memstore.backends.redis.backend import RedisBackend
from langchain_memstore.backends.redis.cluster import ClusterBackend
from langchain_memstore.backends.redis.connections import Borrowed, Connections
from langchain_memstore.backends.redis.topology import Cluster
from langchain_memstore.testing import Run, ValueConformance
from support.servers import FAMILY_RIGHTS, PASSWORD, USER, Server, every_server
from support.topologies import ClusterOfServers, WatchedServers


def grant(*servers: Server) -> None:
    """Have the user do what the family needs, and no more."""
    for server in servers:
        with server.admin() as admin:
            admin.execute_command("ACL", "SETUSER", USER, *FAMILY_RIGHTS)


@every_server
class TestUrl(ValueConformance):
    @pytest.fixture
    def backend(self, family_server: Server) -> Iterator[RedisBackend]:
        with closing(RedisBackend(Connections.of_url(family_server.url))) as backend:
            yield backend


class TestBorrowedClient(ValueConformance):
    @pytest.fixture(params=[{"protocol": 2}, {"protocol": 3, "decode_responses": True}], ids=str)
    def backend(self, family_server: Server, request: pytest.FixtureRequest) -> Iterator[RedisBackend]:
        settings = {"username": USER, "password": PASSWORD, "retry": Retry(NoBackoff(), 0), **request.param}
        with redis.Redis(host="127.0.0.1", port=family_server.port, **settings) as client:
            yield RedisBackend(Borrowed(client, None))


class TestBorrowedAsyncClient(ValueConformance):
    @pytest.fixture
    def backend(self, family_server: Server, run: Run) -> Iterator[RedisBackend]:
        client = redis.asyncio.Redis.from_url(family_server.url, decode_responses=True)
        with closing(RedisBackend(Borrowed(None, client))) as backend:
            yield backend
        run(client.aclose())


class TestCluster(ValueConformance):
    @pytest.fixture
    def backend(self, cluster: ClusterOfServers) -> Iterator[ClusterBackend]:
        grant(*cluster.servers)
        with closing(ClusterBackend(Cluster.of_url(cluster.url))) as backend:
            yield backend


class TestSentinel(ValueConformance):
    @pytest.fixture
    def backend(self, watched: WatchedServers) -> Iterator[RedisBackend]:
        grant(*watched.servers)
        with closing(RedisBackend(Connections.of_url(watched.url))) as backend:
            yield backend


async def test_the_whole_family_on_a_cluster(cluster: ClusterOfServers) -> None:
    grant(*cluster.servers)
    async with Memstore.from_url(cluster.url, fallback=False) as store:
        kv, limiter = store.kv(), store.rate_limiter(2, 60)
        await kv.amset([(str(number), number) for number in range(100)])
        assert await kv.amget([str(number) for number in range(100)]) == list(range(100))
        assert sorted(await kv.akeys("1?")) == [str(number) for number in range(10, 20)]
        assert (await kv.ainfo()).keys >= 100
        assert await kv.adelete_pattern("*") == 100 and await kv.akeys() == []
        async with store.lock("a", wait=0) as lock:
            assert await lock.aowned()
        assert [await limiter.ahit() for _ in range(3)] == [True, True, False]
        assert await kv.cached(name="f")(_double)(4) == 8
        store.cache().update("p", "m", [])
        assert store.cache().lookup("p", "m") == []
        memory = store.working_memory()
        await memory.astore_many([(str(number), number) for number in range(20)])
        assert sorted([each.data async for each in memory.arecords()]) == list(range(20))
        assert len(await kv.aslowlog(5)) <= 5


async def _double(x: int) -> int:
    return 2 * x
