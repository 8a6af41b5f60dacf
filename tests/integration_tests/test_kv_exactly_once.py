"""Connections that break change no counter twice, and no answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from langchain_memstore import Memstore
from langchain_memstore.backends.base import Backend
from langchain_memstore.keys import Namespace
from langchain_memstore.ops.kv import Get, Set, Unlink
from langchain_memstore.ops.kv_scripts import HEAD, Delete, Increment, SetNew, UpdateRecord
from langchain_memstore.ops.lock import Acquire, Extend, GiveUp
from langchain_memstore.testing import Execute
from support.proxy import LostReplies, Proxy, RandomCuts
from support.servers import Server
from support.variants import VariantOf
from support.ways import own_connections

SPACE = Namespace("conversation", "kv")
HOUR = 3_600_000
TIMES = 60


@pytest.fixture
def through(family_server: Server) -> Iterator[Callable[[int], Backend]]:
    """Makes a backend that reaches the server through another port."""
    with ExitStack() as stack:
        yield lambda port: stack.enter_context(own_connections(family_server.through(port)))


def use_values(execute: Execute) -> None:
    """Count, claim, delete and lock, and look whether each was done once and told as it was."""
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
        assert execute(Acquire(lock, token, HOUR)) == 0
        assert execute(Extend(lock, token, 2 * HOUR))
        assert execute(Acquire(lock, late, HOUR)) > HOUR
        assert not execute(GiveUp(lock, late))
        assert execute(GiveUp(lock, token))
        assert execute(Acquire(lock, late, HOUR)) == execute(Acquire(lock, token, HOUR)) == -1  # void from now on
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
