"""The servers, as fixtures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import redis

from langchain_memstore import Memstore
from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.redis.backend import RedisBackend
from langchain_memstore.testing import Execute
from support.servers import COMMANDS, Server, grant
from support.topologies import ClusterOfServers, WatchedServers
from support.variants import VariantOf
from support.ways import own_connections


@pytest.fixture(scope="session")
def running() -> Iterator[Callable[[str], Server]]:
    """Starts each server when it is first asked for, and stops all of them at the end."""
    servers: dict[str, Server] = {}

    def find(name: str) -> Server:
        if name not in servers:
            servers[name] = Server(COMMANDS[name])
        return servers[name]

    yield find
    for server in servers.values():
        server.stop()


@pytest.fixture
def server_name() -> str:
    """The server to use; `every_server` makes it each in turn."""
    return next(iter(COMMANDS))


@pytest.fixture
def server(server_name: str, running: Callable[[str], Server]) -> Server:
    """A running server, empty, that the tests share."""
    server = running(server_name)
    server.reset()
    return server


@pytest.fixture
def admin(server: Server) -> Iterator[redis.Redis]:
    """A client of the server that may do everything."""
    with server.admin(single_connection_client=True) as client:
        yield client


@pytest.fixture
def family_server(server: Server) -> Server:
    """The server, whose user may do what the key-value family needs, and no more."""
    grant(server)
    return server


@pytest.fixture
def start_server(server_name: str) -> Iterator[Callable[..., Server]]:
    """Starts further servers with options of their own, and stops them after the test."""
    servers: list[Server] = []

    def start(*options: str) -> Server:
        servers.append(Server(COMMANDS[server_name], *options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def running_cluster() -> Iterator[ClusterOfServers]:
    """A cluster that the tests share, started when it is first asked for."""
    cluster = ClusterOfServers(next(iter(COMMANDS.values())))
    yield cluster
    cluster.stop()


@pytest.fixture
def cluster(running_cluster: ClusterOfServers) -> ClusterOfServers:
    """A running cluster, empty, that the tests share."""
    running_cluster.reset()
    return running_cluster


@pytest.fixture(scope="session")
def running_watched() -> Iterator[WatchedServers]:
    """A master with its replica and sentinels, which the tests share, started when they are first asked for."""
    watched = WatchedServers(next(iter(COMMANDS.values())))
    yield watched
    watched.stop()


@pytest.fixture
def watched(running_watched: WatchedServers) -> WatchedServers:
    """A running master with its replica and sentinels, empty, that the tests share."""
    running_watched.reset()
    return running_watched


@pytest.fixture
def backend(server: Server) -> Iterator[RedisBackend]:
    """A backend on the server, as the user with few rights."""
    with own_connections(server) as backend:
        yield backend


@pytest.fixture
def execute(backend: Backend, variant_of: VariantOf) -> Execute:
    """The variant under test of `backend`."""
    return variant_of(backend)


@pytest.fixture
async def store(server: Server) -> AsyncIterator[Memstore]:
    """A store on the server; modules whose stores have options override it."""
    async with Memstore.from_url(server.url) as store:
        yield store
