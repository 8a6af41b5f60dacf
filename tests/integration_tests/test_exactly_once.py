"""Connections that break lose nothing and repeat nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from langchain_memstore import BackendError, codec
from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.redis.backend import RedisBackend
from langchain_memstore.backends.redis.connections import Connections
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.reading import Read
from langchain_memstore.ops.session import Append, Pop, RegisterTurn, SetSummary
from langchain_memstore.ops.write_ids import MOST_GAPS, MOST_WRITERS
from langchain_memstore.testing import Execute, Run
from langchain_memstore.window import Bounds
from support.proxy import LostReplies, Proxy, RandomCuts
from support.servers import Server, every_server
from support.variants import VariantOf
from support.ways import borrowed_client, own_connections

KEYS = SessionKeys("conversation", "session")
BOUNDS = Bounds(None, None, codec.RESULTS, codec.TURN_STARTS)
TTL = 60_000
PAIRS = [(b'{"type":"human","data":"%d"}' % number, b'{"type":"ai","data":"%d"}' % number) for number in range(200)]

MakeBackend = Callable[[int], Backend]


@pytest.fixture(params=[own_connections, borrowed_client()], ids=["own connections", "bare client"])
def make_backend(request: pytest.FixtureRequest, server: Server, run: Run) -> Iterator[MakeBackend]:
    """Makes a backend that reaches the server through another port, and closes it after the test."""
    with ExitStack() as stack:
        yield lambda port: stack.enter_context(request.param(server.through(port), run))


def converse(execute: Execute) -> None:
    """Append, count and pop, and look whether each was done once."""
    for number, pair in enumerate(PAIRS, 1):
        assert execute(Append(KEYS, pair, BOUNDS, TTL))[:4] == (2 * number, 2 * number, number, 0)
    assert [execute(RegisterTurn(KEYS, TTL)) for _ in range(20)] == list(range(201, 221))
    for pair in PAIRS[:-21:-1]:
        assert execute(Pop(KEYS, 2, codec.TURN_STARTS, TTL)) == list(pair)
    execute(SetSummary(KEYS, "short", TTL))
    expected = [entry for pair in PAIRS[:180] for entry in pair]
    assert execute(Read(KEYS, TTL, refresh=False))[:4] == (expected, "short", 200, 400)


def test_lost_replies(server: Server, make_backend: MakeBackend, variant_of: VariantOf) -> None:
    replies = LostReplies()
    with Proxy(server.port, lambda: replies) as proxy:
        converse(variant_of(make_backend(proxy.port)))
    assert replies.lost >= 100


@every_server
def test_writers_are_remembered_whatever_others_write_meanwhile(server: Server) -> None:
    backend = RedisBackend(Connections.of_url(server.url))
    late = RegisterTurn(KEYS, TTL)
    backend.execute(late)
    for writer in range(60):
        for number in range(20):
            backend.execute(RegisterTurn(KEYS, TTL, f"{writer:016x}.{number}"))
    assert backend.execute(late) == 1 + 60 * 20
    others = [f"{writer:016x}.7" for writer in range(100, 400)]
    for other in others:
        backend.execute(RegisterTurn(KEYS, TTL, other))
    turns = 1 + 60 * 20 + 300
    assert backend.execute(late) == turns
    for other in others:
        assert backend.execute(RegisterTurn(KEYS, TTL, other)) <= turns
    assert backend.execute(RegisterTurn(KEYS, TTL, f"{399:016x}.6")) == turns + 1
    with server.admin() as admin:
        for writer in range(1000, 1000 + MOST_WRITERS):
            backend.execute(RegisterTurn(KEYS, TTL, f"{writer:016x}.0"))
        assert MOST_WRITERS // 2 < admin.hlen(KEYS.meta) < MOST_WRITERS + 10
    turns = backend.execute(RegisterTurn(KEYS, TTL))
    for writer in range(900 + MOST_WRITERS, 1000 + MOST_WRITERS):
        assert backend.execute(RegisterTurn(KEYS, TTL, f"{writer:016x}.0")) <= turns
    with server.admin() as admin:  # what changes nothing is remembered within the same bound
        for writer in range(5000, 5000 + 2 * MOST_WRITERS):
            assert backend.execute(Pop(KEYS, 1, codec.TURN_STARTS, TTL, f"{writer:016x}.0")) == []
        assert MOST_WRITERS // 2 < admin.hlen(KEYS.meta) < MOST_WRITERS + 10
    backend.close()


@every_server
def test_a_write_that_comes_after_too_many_others_is_refused_and_not_lost(
    server: Server, variant_of: VariantOf
) -> None:
    backend = RedisBackend(Connections.of_url(server.url))
    execute = variant_of(backend)
    execute(RegisterTurn(KEYS, TTL))
    slow = Append(KEYS, PAIRS[0], BOUNDS, TTL)
    for _ in range(MOST_GAPS + 2):
        RegisterTurn(KEYS, TTL)  # never sent
        execute(RegisterTurn(KEYS, TTL))
    for _ in range(2):
        with pytest.raises(BackendError, match="sent too long ago: whether it was done is not known"):
            execute(slow)
    assert execute(Read(KEYS, TTL, refresh=False)).total == 0
    backend.close()


def test_connections_cut_anywhere(server: Server, make_backend: MakeBackend, variant_of: VariantOf) -> None:
    cuts = RandomCuts(seed=7)
    with Proxy(server.port, cuts.plan) as proxy:
        converse(variant_of(make_backend(proxy.port)))
    assert cuts.connections >= 20
