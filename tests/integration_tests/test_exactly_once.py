"""Connections that break lose nothing and repeat nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from langchain_memstore import BackendError, Memstore, codec
from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.redis.backend import RedisBackend
from langchain_memstore.backends.redis.connections import Connections
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.reading import Read
from langchain_memstore.ops.session import Append, Clear, Pop, RegisterTurn, SetSummary
from langchain_memstore.ops.summary import Claimed, Commit
from langchain_memstore.ops.transfer import Restore, SessionDump
from langchain_memstore.ops.write_ids import EVERY, MOST_WRITERS
from langchain_memstore.testing import Execute, Run
from langchain_memstore.window import Bounds
from support.proxy import HeldRequests, LostReplies, Proxy, RandomCuts
from support.servers import Server, every_server
from support.variants import VariantOf
from support.waiting import wait_until
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
            backend.execute(RegisterTurn(KEYS, TTL, f"{writer:016x}.{number}.-"))
    assert backend.execute(late) == 1
    others = [f"{writer:016x}.7.-" for writer in range(100, 400)]
    for other in others:
        backend.execute(RegisterTurn(KEYS, TTL, other))
    turns = 1 + 60 * 20 + 300
    told = [backend.execute(RegisterTurn(KEYS, TTL, other)) for other in others]
    assert (backend.execute(late), told) == (1, list(range(turns - 299, turns + 1)))
    assert backend.execute(RegisterTurn(KEYS, TTL)) == turns + 1
    with server.admin() as admin:
        most = MOST_WRITERS + EVERY + 10
        for writer in range(1000, 1000 + MOST_WRITERS):
            backend.execute(RegisterTurn(KEYS, TTL, f"{writer:016x}.0.-"))
        assert MOST_WRITERS // 2 < admin.hlen(KEYS.meta) < most
        turns = backend.execute(RegisterTurn(KEYS, TTL))
        for writer in range(900 + MOST_WRITERS, 1000 + MOST_WRITERS):
            assert backend.execute(RegisterTurn(KEYS, TTL, f"{writer:016x}.0.-")) < turns
        for writer in range(5000, 5000 + 2 * MOST_WRITERS):  # what changes nothing is remembered within the same bound
            assert backend.execute(Pop(KEYS, 1, codec.TURN_STARTS, TTL, f"{writer:016x}.0.-")) == []
            if writer % 100 == 0:
                assert admin.hlen(KEYS.meta) < most
        assert backend.execute(RegisterTurn(KEYS, TTL)) == turns + 1
    backend.close()


@every_server
def test_a_slow_write_is_done_however_many_of_its_process_come_before(server: Server, variant_of: VariantOf) -> None:
    keys = SessionKeys("conversation", "slow")
    backend = RedisBackend(Connections.of_url(server.url))
    execute = variant_of(backend)
    slow = Append(keys, PAIRS[0], BOUNDS, TTL)
    ops = [RegisterTurn(keys, TTL) for _ in range(3000)]
    for op in ops[::3] + ops[1::3]:
        execute(op)
        if op.write_id < ops[1500].write_id:
            op.finish()
    done = execute(slow)
    assert (done.total, done.turns) == (2, 2001)
    slow.finish()
    assert execute(ops[-3]) == 1000  # the first result, whatever came between
    for op in ops:
        op.finish()
    execute(RegisterTurn(keys, TTL))
    with server.admin() as admin:
        held = admin.hgetall(keys.meta)
    assert not [name for name in held if name.startswith(b"result:")]
    assert len(held[f"writer:{slow.write_id.partition('.')[0]}".encode()]) < 100
    for _ in range(2):
        with pytest.raises(BackendError, match="sent too long ago: whether it was done is not known"):
            execute(ops[2])
    backend.close()


@every_server
def test_a_write_that_changes_nothing_is_answered_as_at_first(server: Server, variant_of: VariantOf) -> None:
    backend = RedisBackend(Connections.of_url(server.url))
    execute = variant_of(backend)
    execute(RegisterTurn(KEYS, TTL))
    state = SessionDump((b"text",), total=1)
    void = Commit(KEYS, "summary", Claimed(0, 0, "", []), TTL, "00")
    pop, restore = Pop(KEYS, 1, codec.TURN_STARTS, TTL), Restore(KEYS, state, "elsewhere")
    first = execute(void), execute(pop), execute(restore)
    assert first == (False, [], ("exists", 0, 0))
    for _ in range(50):
        execute(Append(KEYS, PAIRS[0], BOUNDS, TTL))
    assert (execute(void), execute(pop), execute(restore)) == first
    assert execute(Read(KEYS, TTL, refresh=False)).total == 100
    backend.close()


@every_server
def test_what_was_popped_is_told_for_a_minute(server: Server, variant_of: VariantOf) -> None:
    keys = SessionKeys("conversation", "popped")
    backend = RedisBackend(Connections.of_url(server.url))
    execute = variant_of(backend)
    appended = Append(keys, tuple(b"x" * 4000 for _ in range(8000)), BOUNDS, TTL)
    execute(appended)
    appended.finish()
    pop = Pop(keys, 1000, codec.TURN_STARTS, TTL)
    for _ in range(8):
        pop.finish()
        pop = Pop(keys, 1000, codec.TURN_STARTS, TTL)
        assert len(execute(pop)) == 1000
    execute(Append(keys, PAIRS[0], BOUNDS, TTL))
    assert len(execute(pop)) == 1000
    with server.admin() as admin:
        assert admin.memory_usage(keys.meta) < 2000
        assert admin.memory_usage(keys.popped) < 10_000_000  # of the last pop alone: the others are known to have ended
        assert 50_000 < admin.pttl(keys.popped) <= 60_000
        admin.delete(keys.popped)
    with pytest.raises(BackendError, match="popped before, over a minute ago"):
        execute(pop)
    execute(Pop(keys, 1, codec.TURN_STARTS, TTL))
    execute(Clear(keys))
    with server.admin() as admin:
        assert admin.keys("*") == []
    backend.close()


@every_server
def test_what_was_done_before_a_restore_is_known_after_it(server: Server, variant_of: VariantOf) -> None:
    backend = RedisBackend(Connections.of_url(server.url))
    execute = variant_of(backend)
    lost = Append(KEYS, PAIRS[0], BOUNDS, TTL)
    done = execute(lost)
    assert execute(Restore(KEYS, SessionDump(PAIRS[1], total=2), "backup", replace=True)).outcome == "replaced"
    assert execute(lost) == done
    assert execute(Read(KEYS, TTL, refresh=False)).entries == list(PAIRS[1])
    backend.close()


@every_server
async def test_a_cancelled_append_does_not_land_after_later_ones(server: Server) -> None:
    held = HeldRequests()
    with Proxy(server.port, lambda: held) as proxy:
        async with Memstore.from_url(server.through(proxy.port).url, fallback=False, ttl=60) as store:
            history = store.history("cancelled")
            await history.aadd_user_message("first")
            held.hold = True
            task = asyncio.create_task(history.aadd_user_message("cancelled"))
            await asyncio.to_thread(wait_until, lambda: bool(held.requests))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            held.hold = False
            await history.aadd_user_message("second")
            with server.admin() as admin, socket.create_connection(("127.0.0.1", server.port)) as late:
                late.sendall(b"".join(held.requests))
                assert late.recv(65536).startswith(b"-")
                assert admin.llen(history.keys.messages) == 2
            assert [message.text for message in await history.aget_messages()] == ["first", "second"]


def test_connections_cut_anywhere(server: Server, make_backend: MakeBackend, variant_of: VariantOf) -> None:
    cuts = RandomCuts(seed=7)
    with Proxy(server.port, cuts.plan) as proxy:
        converse(variant_of(make_backend(proxy.port)))
    assert cuts.connections >= 20
