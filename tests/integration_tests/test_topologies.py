"""Clusters and sentinels: every backend's suite, and how they are reached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
import redis
import redis.asyncio
from langchain_core.messages import HumanMessage
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.cluster import ClusterNode
from redis.sentinel import Sentinel

from langchain_memstore import BackendError, Memstore, RedisChatMessageHistory
from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.redis.backend import RedisBackend
from langchain_memstore.backends.redis.cluster import ClusterBackend
from langchain_memstore.backends.redis.connections import Borrowed, Connections
from langchain_memstore.backends.redis.topology import Cluster
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.session import RegisterTurn
from langchain_memstore.testing import HOSTILE_IDS, BackendConformance, Execute, Run
from support.servers import PASSWORD, USER, Server
from support.topologies import SERVICE, ClusterOfServers, WatchedServers

LOGIN = {"username": USER, "password": PASSWORD}


class TestCluster(BackendConformance):
    @pytest.fixture
    def backend(self, cluster: ClusterOfServers) -> Iterator[ClusterBackend]:
        backend = ClusterBackend(Cluster.of_url(cluster.url))
        yield backend
        backend.close()


class TestBorrowedCluster(BackendConformance):
    @pytest.fixture(params=["sync", "async"])
    def backend(self, cluster: ClusterOfServers, request: pytest.FixtureRequest, run: Run) -> Iterator[ClusterBackend]:
        if request.param == "sync":
            node = ClusterNode("127.0.0.1", cluster.servers[0].port)
            with redis.RedisCluster(startup_nodes=[node]) as client:  # which asks for more rights itself than a store
                backend = ClusterBackend(Cluster.of_client(client))
                yield backend
                backend.close()
            return
        async_client = redis.asyncio.RedisCluster(host="127.0.0.1", port=cluster.servers[0].port)
        backend = ClusterBackend(Cluster.of_client(async_client))
        yield backend
        backend.close()
        run(async_client.aclose())


class TestSentinel(BackendConformance):
    @pytest.fixture
    def backend(self, watched: WatchedServers) -> Iterator[RedisBackend]:
        backend = RedisBackend(Connections.of_url(watched.url))
        yield backend
        backend.close()


class TestBorrowedFromSentinel(BackendConformance):
    @pytest.fixture(params=["sync", "async"])
    def backend(self, watched: WatchedServers, request: pytest.FixtureRequest, run: Run) -> Iterator[RedisBackend]:
        if request.param == "sync":
            sentinel = Sentinel(watched.hosts)
            with sentinel.master_for(SERVICE, **LOGIN) as client:
                backend = RedisBackend(Borrowed(client, None))
                yield backend
                backend.close()
            for each in sentinel.sentinels:
                each.close()
            return
        async_sentinel = AsyncSentinel(watched.hosts)
        async_client = async_sentinel.master_for(SERVICE, **LOGIN)
        backend = RedisBackend(Borrowed(None, async_client))
        yield backend
        backend.close()
        run(async_client.aclose())
        for each in async_sentinel.sentinels:
            run(each.aclose())


@pytest.fixture(params=["cluster", "watched"])
def url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(request.param).url


async def test_a_store_uses_both_faces(url: str) -> None:
    async with Memstore.from_url(url, max_messages=3) as store:
        history = store.history("session")
        history.add_user_message("one")
        await history.aadd_messages([HumanMessage("two")])
        assert [message.text for message in await history.aget_messages()] == ["one", "two"]
        assert RedisChatMessageHistory("session", url).messages == history.messages
        assert store.status.backend == "redis"


def test_event_loops_in_turn_have_connections_of_their_own(url: str) -> None:
    with Memstore.from_url(url) as store:

        async def count() -> int:
            return await store.history("session").aregister_turn()

        assert [asyncio.run(count()) for _ in range(3)] == [1, 2, 3]


async def test_sessions_of_all_masters_are_listed_once_each(cluster: ClusterOfServers) -> None:
    ids = {f"user-{number}/chat" for number in range(300)} | set(HOSTILE_IDS)
    async with Memstore.from_url(cluster.url) as store:
        for session_id in ids:
            store.history(session_id).register_turn()
        assert all(cluster.ask(master, "DBSIZE") > 100 for master in cluster.masters())
        assert sorted(info.session_id for info in store.sessions()) == sorted(ids)
        assert sorted([info.session_id async for info in store.asessions()]) == sorted(ids)
        assert len(list(store.sessions("user-1*/chat"))) == 111


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis+cluster://user:hunter2@host:1/3", "database 0"),
        ("redis+cluster://user:hunter2@", "name its hosts"),
        ("redis+cluster://user:hunter2@host:port", "name its hosts"),
        ("redis+cluster://user:hunter2@host:1?no_such=1", "no_such"),
        ("redis+sentinel://user:hunter2@host:1", "name a service"),
        ("redis+sentinel://user:hunter2@host:1/service/first", "name a service"),
        ("redis+sentinel://user:hunter2@host:1/service/0?no_such=1", "no_such"),
        ("redis+nothing://user:hunter2@host:1", r"redis\+cluster"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused_without_its_password(url: str, says: str) -> None:
    for make in (Memstore.from_url, lambda url: RedisChatMessageHistory("session", url)):
        with pytest.raises(ValueError, match=says) as caught:
            make(url)
        assert "hunter2" not in str(caught.value)


def test_ipv6_and_default_ports() -> None:
    Memstore.from_url("redis+cluster://[::1]:7000,[::1]")
    Memstore.from_url("rediss+sentinel://one,two:26380/service?sentinel_password=x&ssl_ca_certs=/nowhere")


def test_making_them_does_no_io(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    Memstore.from_url(url).history("session").register_turn()  # all modules are loaded

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("I/O")

    monkeypatch.setattr("socket.socket", refuse)
    Memstore.from_url(url).history("session")
    Memstore.from_url(url, max_connections=3).history("session")


def test_a_cluster_that_is_no_cluster_is_told(server: Server, face: Callable[[Backend], Execute]) -> None:
    backend = ClusterBackend(Cluster.of_url(f"redis+cluster://{USER}:{PASSWORD}@127.0.0.1:{server.port}"))
    with pytest.raises(BackendError, match="cluster support disabled"):
        face(backend)(RegisterTurn(SessionKeys("conversation", "session"), None))
    backend.close()
