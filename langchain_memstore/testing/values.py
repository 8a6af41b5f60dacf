"""The suite of the key-value family; it needs limits."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from langchain_memstore.errors import BackendError
from langchain_memstore.keys import Namespace, RecordPattern, SessionKeys, SessionPattern, ValuePattern
from langchain_memstore.ops.kv import Exists, Expire, Get, Set, Ttl, Unlink
from langchain_memstore.ops.kv_scripts import HEAD, Delete, Increment, SetNew, UpdateRecord
from langchain_memstore.ops.limit import Hit
from langchain_memstore.ops.lock import Acquire, Extend, GiveUp, Owns
from langchain_memstore.ops.server import Info, SlowLog
from langchain_memstore.ops.session import RegisterTurn
from langchain_memstore.testing.talk import scan
from langchain_memstore.testing.variants import HOSTILE_IDS, MINUTE, Execute, Variants

BIG = 2**63 - 1


class ValueConformance(Variants):
    """Every operation of the key-value family, through both variants; a subclass overrides the fixture `backend`.

    The tests use keys of their own, with a prefix that begins with `conversation-` and goes on at random.
    """

    @pytest.fixture
    def space(self, prefix: str) -> Namespace:
        """A namespace in which there is nothing yet."""
        return Namespace(prefix, "kv")

    def test_values_are_bytes(self, execute: Execute, space: Namespace) -> None:
        """Values come back as they were, wherever they are; a batch of none is one."""
        items = tuple((space.key(name), name.encode() * 2) for name in HOSTILE_IDS)
        items += ((space.key("empty"), b""), (space.key("big"), b"\x00\xff\r\n" * 300_000))
        keys = tuple(key for key, _ in items)
        assert execute(Get(keys)) == [None] * len(keys)
        execute(Set(items, None))
        assert execute(Get((*keys, space.key("missing"), keys[0]))) == [*(data for _, data in items), None, items[0][1]]
        execute(Unlink((*keys[1:], space.key("missing"))))
        assert execute(Get(keys)) == [items[0][1]] + [None] * (len(keys) - 1)
        assert [execute(Exists((key,))) for key in keys[:2]] == [True, False]
        assert (execute(Get(())), execute(Set((), None)), execute(Unlink(()))) == ([], True, None)

    def test_time(self, execute: Execute, space: Namespace) -> None:
        """A value expires when it was told to."""
        key = (space.key("key"),)
        assert [execute(Ttl(key)), execute(Expire(key, MINUTE)), execute(Expire(key, None))] == [0, False, False]
        execute(Set(((key[0], b"1"),), MINUTE))
        assert MINUTE - 20_000 < execute(Ttl(key)) <= MINUTE
        assert execute(Expire(key, None)) and execute(Expire(key, None)) and execute(Ttl(key)) is None
        assert execute(Expire(key, 2 * MINUTE)) and MINUTE < execute(Ttl(key)) <= 2 * MINUTE
        execute(Set(((key[0], b"2"),), None))
        assert execute(Ttl(key)) is None
        execute(Expire(key, 20))
        deadline = time.monotonic() + 5
        while execute(Exists(key)) and time.monotonic() < deadline:
            time.sleep(0.005)
        assert execute(Get(key)) == [None]

    def test_what_is_sent_again_is_done_once(self, execute: Execute, space: Namespace) -> None:
        """An operation that is sent again changes nothing, and returns what it did at first."""
        keys = space.keys("key")
        claim, rival = SetNew(keys, b"same", MINUTE), SetNew(keys, b"same", None)
        assert [execute(op) for op in (claim, rival, claim)] == [True, False, True]
        assert execute(Ttl(keys[:1])) > 0
        delete = Delete(keys)
        assert [execute(delete), execute(Delete(keys)), execute(rival), execute(delete)] == [True, False, False, True]
        assert execute(Get(keys[:1])) == [None]
        execute(Unlink(keys[:1]))
        adds = [Increment(keys, by, MINUTE) for by in (2, BIG - 2, -1)]
        assert [execute(op) for op in (*adds, adds[0], adds[1])] == [2, BIG, BIG - 1, 2, BIG]
        assert execute(Get(keys[:1])) == [b"%d" % (BIG - 1)]

    def test_counters(self, execute: Execute, space: Namespace) -> None:
        """A counter gets its TTL when it is made; what is none is told, and stays as it is."""
        keys = space.keys("counter")
        assert [execute(Increment(keys, 1, MINUTE)), execute(Increment(keys, 1, None))] == [1, 2]
        assert MINUTE - 20_000 < execute(Ttl(keys[:1])) <= MINUTE
        for data in (b"%d" % BIG, b"1.5", b"", b"007", b"text"):
            execute(Set(((keys[0], data),), None))
            with pytest.raises(BackendError, match="not a whole number of 64 bits"):
                execute(Increment(keys, 1, MINUTE))
            assert (execute(Get(keys[:1])), execute(Ttl(keys[:1]))) == ([data], None)

    def test_listing(self, execute: Execute, space: Namespace) -> None:
        """A listing has the values of its namespace, and of those the ones that match."""
        execute(RegisterTurn(SessionKeys(space.prefix, "session"), MINUTE))
        for other in (Namespace(space.prefix, "kv/kv"), Namespace(f"{space.prefix}x", "kv")):
            execute(Set(((other.key("other"), b""),), MINUTE))
        execute(Set(tuple((space.key(name), b"") for name in HOSTILE_IDS), MINUTE))
        assert scan(execute, ValuePattern(space.prefix), count=10) == set(HOSTILE_IDS)
        assert scan(execute, ValuePattern(space.prefix, "a*"), count=10) == {"a}b", "a:{b", "a\\*"}
        assert scan(execute, ValuePattern(space.prefix, "*", "kv/kv"), count=10) == {"other"}
        assert scan(execute, SessionPattern(space.prefix), count=10) == {"session"}

    def test_records(self, execute: Execute, space: Namespace) -> None:
        """An update keeps when a record was created."""
        key = Namespace(space.prefix, "TYPE").key("c")
        update = UpdateRecord((key,), b',"data":2}', MINUTE)
        assert not execute(update)
        execute(Set(((key, HEAD + b'then","data":1}'),), None))
        assert execute(update) and execute(update)
        assert execute(Get((key,))) == [HEAD + b'then","data":2}']
        assert MINUTE - 20_000 < execute(Ttl((key,))) <= MINUTE
        pattern = RecordPattern(space.prefix, conversation_id="c")
        assert scan(execute, pattern) == {key} and pattern.parse(key) == ("c", "TYPE")
        execute(Set(((key, b'{"data":1}'),), None))
        with pytest.raises(BackendError, match="it is not a record"):
            execute(update)

    def test_locks(self, execute: Execute, prefix: str) -> None:
        """One token has a lock, for its time."""
        keys = Namespace(prefix, "lock").keys("lock")
        assert [execute(Acquire(keys, "a", MINUTE)) for _ in range(2)] == [0, 0]
        assert MINUTE - 20_000 < execute(Acquire(keys, "b", MINUTE)) <= MINUTE
        assert [execute(Owns(keys[:1], token)) for token in "ab"] == [True, False]
        assert [execute(Extend(keys, token, 2 * MINUTE)) for token in "ab"] == [True, False]
        assert execute(Acquire(keys, "c", MINUTE)) > MINUTE
        give_up = GiveUp(keys, "a")
        given_up = [execute(op) for op in (GiveUp(keys, "b"), give_up, GiveUp(keys, "a"), give_up)]
        assert given_up == [False, True, False, True]
        busy, taken = Acquire(keys, "a", MINUTE), Acquire(keys, "b", MINUTE)
        assert execute(taken) == 0 < execute(busy)
        assert execute(GiveUp(keys, "b")) and execute(busy) > 0  # who was told that another has it is not given it

    def test_what_was_given_up_is_refused_when_it_comes_late(self, execute: Execute, space: Namespace) -> None:
        """A call whose caller has gone changes nothing once the same process has done another."""
        keys, counter = space.keys("lock"), space.keys("counter")
        for late, next_one in (
            (Acquire(keys, "a", MINUTE), GiveUp(keys, "a")),
            (SetNew(keys, b"late", MINUTE), Delete(keys)),
            (Increment(counter, 1, None), Increment(counter, 1, None)),
        ):
            late.finish()
            execute(replace(next_one, write_id=""))
            next_one.finish()
            with pytest.raises(BackendError, match="sent too long ago"):
                execute(late)
        assert execute(Get((keys[0], counter[0]))) == [None, b"1"]

    def test_limits(self, execute: Execute, prefix: str) -> None:
        """So many hits are in a window, and no more."""
        keys = Namespace(prefix, "limit").keys("limit")
        look, hits = Hit(keys, 3, 60, count=False), [Hit(keys, 3, 60) for _ in range(4)]
        assert execute(look) == (False, 0, 0)
        told = [execute(hit) for hit in hits[:3]]
        assert [state[:2] for state in told] == [(True, 1), (True, 2), (True, 3)]
        assert [execute(hit) for hit in hits[:3]] == told  # sent again
        assert execute(hits[3])[:2] == execute(look)[:2] == (False, 3)
        assert 40_000 < execute(look).ttl_ms <= 60_000

    def test_what_is_known_of_the_store(self, execute: Execute, space: Namespace) -> None:
        """It tells what it holds, of all its parts."""
        before: Any = execute(Info())
        execute(Set(tuple((space.key(str(number)), b"x" * 1000) for number in range(50)), MINUTE))
        execute(Get((space.key("0"), space.key("missing"))))
        after: Any = execute(Info())
        assert after.keys >= before.keys + 50 and after.used_memory > 50_000
        assert 0 < after.hit_rate <= 1
        assert len(execute(SlowLog(2))) <= 2
