"""Connections that break change no counter twice, and no answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from langchain_memstore import BackendError, Memstore
from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.redis.backend import RedisBackend
from langchain_memstore.backends.redis.connections import Connections
from langchain_memstore.keys import Namespace
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.kv import Get, Set, Unlink
from langchain_memstore.ops.kv_scripts import HEAD, Delete, Increment, SetNew, UpdateRecord
from langchain_memstore.ops.limit import Hit
from langchain_memstore.ops.lock import Acquire, Extend, GiveUp
from langchain_memstore.ops.write_ids import EVERY, MOST_WRITERS
from langchain_memstore.testing import Execute
from support.proxy import HeldRequests, LostReplies, Proxy, RandomCuts
from support.servers import Server, every_server
from support.variants import VariantOf
from support.waiting import wait_until
from support.ways import own_connections

SPACE = Namespace("conversation", "kv")
HOUR = 3_600_000
TIMES = 60


@pytest.fixture
def through(family_server: Server) -> Iterator[Callable[[int], Backend]]:
    """Makes a backend that reaches the server through another port."""
    with ExitStack() as stack:
        yield lambda port: stack.enter_context(own_connections(family_server.through(port)))


def use_values(send: Execute) -> None:
    """Count, claim, delete and lock, and look whether each was done once and told as it was."""

    def execute(op: Op[Any]) -> Any:
        try:
            return send(op)
        finally:
            op.finish()

    counter, other = SPACE.keys("counter"), SPACE.keys("other")
    assert [execute(Increment(counter, 3, HOUR)) for _ in range(TIMES)] == list(range(3, 3 * TIMES + 3, 3))
    for number in range(TIMES):
        assert execute(SetNew(other, b"%d" % number, None))
        assert not execute(SetNew(other, b"%d" % number, None))  # the same value, but another caller
        assert execute(Get((other[0],))) == [b"%d" % number]
        assert execute(Delete(other))
        assert not execute(Delete(other))
    execute(Set(tuple((SPACE.key(str(number)), b"%d" % number) for number in range(TIMES)), HOUR))
    keys = tuple(SPACE.key(str(number)) for number in range(TIMES))
    assert execute(Get(keys)) == [b"%d" % number for number in range(TIMES)]
    execute(Unlink(keys[1:]))
    assert execute(Get(keys[:2])) == [b"0", None]
    lock = Namespace("conversation", "lock").keys("lock")
    for number in range(TIMES):
        token, late = f"token{number}", f"late{number}"
        taken = Acquire(lock, token, HOUR)
        assert execute(taken) == 0
        assert execute(Extend(lock, token, 2 * HOUR))
        assert execute(Acquire(lock, late, HOUR)) > HOUR
        assert not execute(GiveUp(lock, late))
        assert execute(GiveUp(lock, token))
        with pytest.raises(BackendError, match="sent too long ago"):
            send(taken)
    record = Namespace("memory", "WORKING_MEMORY").key("c")
    execute(Set(((record, HEAD + b'then","n":0}'),), HOUR))
    for number in range(TIMES):
        assert execute(UpdateRecord((record,), b',"n":%d}' % number, HOUR))
    assert execute(Get((record,))) == [HEAD + b'then","n":%d}' % (TIMES - 1)]


def test_lost_replies(family_server: Server, through: Callable[[int], Backend], variant_of: VariantOf) -> None:
    replies = LostReplies()
    with Proxy(family_server.port, lambda: replies) as proxy:
        use_values(variant_of(through(proxy.port)))
    assert replies.lost >= 200


def test_connections_cut_anywhere(
    family_server: Server, through: Callable[[int], Backend], variant_of: VariantOf
) -> None:
    cuts = RandomCuts(seed=11)
    with Proxy(family_server.port, cuts.plan) as proxy:
        use_values(variant_of(through(proxy.port)))
    assert cuts.connections >= 20


def test_locks_and_limits_hold_when_replies_are_lost(family_server: Server) -> None:
    replies, count = LostReplies(), 0
    with Proxy(family_server.port, lambda: replies) as proxy:
        url = family_server.url.replace(str(family_server.port), str(proxy.port))
        with Memstore.from_url(url, fallback=False) as store:
            for _ in range(30):
                with store.lock("a", wait=0) as lock:
                    assert lock.owned()
                    count += 1
            limiter = store.rate_limiter(30, 60)
            passed = sum(limiter.hit() for _ in range(60))
    assert count == 30 and replies.lost > 20
    assert 15 <= passed <= 30  # a hit whose reply is lost may count twice


@every_server
def test_a_lost_reply_is_told_however_many_calls_come_between(family_server: Server, variant_of: VariantOf) -> None:
    """Calls of the same process, and of many that live for one call."""
    with closing(RedisBackend(Connections.of_url(family_server.url))) as backend:
        execute = variant_of(backend)
        counter, other = SPACE.keys("counter"), SPACE.keys("other")
        lock, limit = (Namespace("conversation", kind).keys("one") for kind in ("lock", "limit"))
        lost: list[Op[Any]] = [
            Increment(counter, 1, HOUR),
            SetNew(other, b"1", HOUR),
            Delete(other),
            GiveUp(lock, "nobody"),
            Hit(limit, 3000, 60),
        ]
        first = [execute(op) for op in lost]
        assert first[:4] == [1, True, True, False]
        for number in range(300):
            others: list[Op[Any]] = [
                Increment(counter, 1, HOUR, f"{number:x}.0.-"),
                Increment(counter, 1, HOUR),
                Hit(limit, 3000, 60),
                GiveUp(lock, "another"),
                SetNew(other, b"2", HOUR),
                Delete(other),
            ]
            for op in others:
                execute(op)
        assert [execute(op) for op in lost] == first
        assert execute(Get((counter[0],))) == [b"601"]
        assert execute(Hit(limit, 3000, 60, count=False)).hits == 301


@every_server
def test_what_tells_of_writes_on_a_value_is_bounded(family_server: Server) -> None:
    counter = SPACE.keys("counter")
    with closing(RedisBackend(Connections.of_url(family_server.url))) as backend, family_server.admin() as admin:
        for number in range(2 * MOST_WRITERS):
            backend.execute(Increment(counter, 1, HOUR, f"{number:x}.0.-"))
        assert admin.hlen(counter[1]) < MOST_WRITERS + EVERY
        assert HOUR - 60_000 < admin.pttl(counter[1]) <= HOUR
        admin.delete(counter[1])
        for _ in range(3000):
            op = Increment(counter, 1, HOUR)
            backend.execute(op)
            op.finish()
        assert admin.hlen(counter[1]) == 1
        assert admin.memory_usage(counter[1]) < 300


async def test_a_cancelled_lock_is_taken_by_nobody(family_server: Server) -> None:
    """Its request is heard long after, when many others have had the lock."""
    held = HeldRequests()
    with Proxy(family_server.port, lambda: held) as proxy:
        async with Memstore.from_url(family_server.through(proxy.port).url, fallback=False) as store:
            held.hold = True
            task = asyncio.create_task(store.lock("busy").__aenter__())
            await asyncio.to_thread(wait_until, lambda: bool(held.requests))
            held.hold = False
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            for _ in range(60):
                async with store.lock("busy", wait=0):
                    pass
            with socket.create_connection(("127.0.0.1", family_server.port)) as late:
                late.sendall(b"".join(held.requests))
                assert late.recv(65536).startswith(b"-")
            async with store.lock("busy", wait=0):
                pass
