"""Every kind of connection, to servers, clusters and what sentinels watch, passes the suite of the key-value family."""

from __future__ import annotations

import pytest

from langchain_memstore import Memstore
from langchain_memstore.testing import ValueConformance
from support.servers import Server, every_server, grant
from support.topologies import ClusterOfServers, WatchedServers
from support.ways import backend_fixture


@pytest.fixture
def cluster(cluster: ClusterOfServers) -> ClusterOfServers:
    """The cluster, whose user may do what the family needs, and no more."""
    grant(*cluster.servers)
    return cluster


@pytest.fixture
def watched(watched: WatchedServers) -> WatchedServers:
    """What sentinels watch, whose user may do what the family needs, and no more."""
    grant(*watched.servers)
    return watched


@every_server
class TestUrl(ValueConformance):
    backend = backend_fixture("url")

    @pytest.fixture
    def place(self, family_server: Server) -> Server:
        return family_server


class TestBorrowedClients(ValueConformance):
    backend = backend_fixture("client", "decoding client", "decoding async client")

    @pytest.fixture
    def place(self, family_server: Server) -> Server:
        return family_server


class TestCluster(ValueConformance):
    backend = backend_fixture("cluster url")

    @pytest.fixture
    def place(self, cluster: ClusterOfServers) -> ClusterOfServers:
        return cluster


class TestSentinel(ValueConformance):
    backend = backend_fixture("sentinel url")

    @pytest.fixture
    def place(self, watched: WatchedServers) -> WatchedServers:
        return watched


async def test_the_whole_family_on_a_cluster(cluster: ClusterOfServers) -> None:
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
