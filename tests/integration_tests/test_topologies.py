"""Clusters and sentinels: every backend's suite, and how they are reached."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.messages import HumanMessage

from langchain_memstore import BackendError, Memstore, RedisChatMessageHistory
from langchain_memstore.backends.redis.cluster import ClusterBackend
from langchain_memstore.backends.redis.topology import Cluster
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.session import RegisterTurn
from langchain_memstore.testing import HOSTILE_IDS, BackendConformance
from support.servers import PASSWORD, USER, Server
from support.topologies import ClusterOfServers, WatchedServers
from support.variants import VariantOf
from support.ways import ON_A_CLUSTER, ON_SENTINELS, backend_fixture


class TestCluster(BackendConformance):
    backend = backend_fixture(*ON_A_CLUSTER)

    @pytest.fixture
    def place(self, cluster: ClusterOfServers) -> ClusterOfServers:
        return cluster


class TestSentinel(BackendConformance):
    backend = backend_fixture(*ON_SENTINELS)

    @pytest.fixture
    def place(self, watched: WatchedServers) -> WatchedServers:
        return watched


@pytest.fixture(params=["cluster", "watched"])
def url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(request.param).url


async def test_a_store_uses_both_variants(url: str) -> None:
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


def test_a_cluster_that_is_no_cluster_is_told(server: Server, variant_of: VariantOf) -> None:
    backend = ClusterBackend(Cluster.of_url(f"redis+cluster://{USER}:{PASSWORD}@127.0.0.1:{server.port}"))
    with pytest.raises(BackendError, match="cluster support disabled"):
        variant_of(backend)(RegisterTurn(SessionKeys("conversation", "session"), None))
    backend.close()
