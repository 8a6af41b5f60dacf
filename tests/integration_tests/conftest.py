"""The servers, as fixtures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
import redis

from langchain_memstore.backends.base import Backend
from langchain_memstore.testing import Execute
from support.servers import COMMANDS, FAMILY_RIGHTS, USER, Server
from support.topologies import ClusterOfServers, WatchedServers


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
def family_server(server: Server, admin: redis.Redis) -> Server:
    """The server, whose user may do what the key-value family needs, and no more."""
    admin.execute_command("ACL", "SETUSER", USER, *FAMILY_RIGHTS)
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


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> Iterator[Callable[[Backend], Execute]]:
    """Chooses a face of a backend, by which operations are executed."""
    if request.param == "sync":
        yield lambda backend: backend.execute
        return
    loop = asyncio.new_event_loop()
    yield lambda backend: lambda op: loop.run_until_complete(backend.aexecute(op))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
