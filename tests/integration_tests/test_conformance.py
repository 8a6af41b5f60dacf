"""Every kind of connection to every server passes the suite of all backends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from langchain_memstore.backends.redis.backend import RedisBackend
from langchain_memstore.backends.redis.connections import Borrowed, Connections
from langchain_memstore.testing import BackendConformance, Run
from support.servers import PASSWORD, USER, Server, every_server


@every_server
class TestUrl(BackendConformance):
    """Connections of our own."""

    @pytest.fixture
    def backend(self, server: Server) -> Iterator[RedisBackend]:
        backend = RedisBackend(Connections.of_url(server.url))
        yield backend
        backend.close()


@every_server
class TestBorrowedClient(BackendConformance):
    """The connections of a client for threads, which tries nothing again, and for event loops their twins."""

    @pytest.fixture(params=[{"protocol": 2}, {"protocol": 3, "decode_responses": True}], ids=str)
    def backend(self, server: Server, request: pytest.FixtureRequest) -> Iterator[RedisBackend]:
        settings = {"username": USER, "password": PASSWORD, "retry": Retry(NoBackoff(), 0), **request.param}
        with redis.Redis(host="127.0.0.1", port=server.port, **settings) as client:
            yield RedisBackend(Borrowed(client, None))


@every_server
class TestBorrowedAsyncClient(BackendConformance):
    """The connections of a client for an event loop, and for threads their twins."""

    @pytest.fixture(params=[{"protocol": 2, "decode_responses": True}, {"protocol": 3}], ids=str)
    def backend(self, server: Server, run: Run, request: pytest.FixtureRequest) -> Iterator[RedisBackend]:
        client = redis.asyncio.Redis.from_url(server.url, **request.param)
        backend = RedisBackend(Borrowed(None, client))
        yield backend
        backend.close()
        run(client.aclose())
