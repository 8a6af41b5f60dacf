"""Whatever is done to values, in whatever order, the in-process backend answers as Redis does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from langchain_memstore import BackendError, Memstore, ValueDecodeError
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.keys import Namespace
from langchain_memstore.kv import KeyValueStore, WorkingMemory
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.kv import Exists, Expire, Get, Set, Ttl, Unlink
from langchain_memstore.ops.kv_scripts import Delete, Increment, SetNew, UpdateRecord
from langchain_memstore.ops.limit import Hit
from langchain_memstore.ops.lock import Acquire, Extend, GiveUp, Owns
from support.servers import Server, every_server
from support.worlds import PASS_TIME

HOUR = 3_600_000
NAMES = ["a", "b", "{c}:*"]
TOKENS = ["one", "two"]

names = st.sampled_from(NAMES)
namespaces = st.sampled_from(["kv", "other"])
# What is left of a TTL is compared in quarters of an hour: real time passes too.
ttls = st.sampled_from([None, HOUR, 10 * HOUR])
rests = st.sampled_from([None, -HOUR, 0, HOUR, 10 * HOUR])  # of a TTL, where an operation has waited
times = st.sampled_from([HOUR // 4, HOUR // 2, 2 * HOUR, 9 * HOUR])
numbers = st.sampled_from([1, -1, 7, 2**53 + 1, 2**62, -(2**63), 2**63 - 1])
values = st.one_of(
    st.none(),
    st.booleans(),
    numbers,
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.lists(st.integers(), max_size=3),
    st.tuples(st.text(max_size=2), st.sets(st.integers(0, 3))),
    st.dictionaries(st.text(max_size=2) | st.integers(0, 3), st.integers(), max_size=2),
)
data = st.sampled_from(
    [b"", b"1", b"-7", b"007", b"-0", b"+1", b" 1", b"9223372036854775807", b"\x00\xff", b"x" * 5000]
)


class BothBackends(RuleBasedStateMachine):
    """Does everything to both backends."""

    def __init__(self, server: Server, admin: redis.Redis) -> None:
        super().__init__()
        admin.delete(*admin.keys("*") or ["nothing"])
        self.admin = admin
        self.passed = 0.0
        local = LocalBackend(clock=lambda: time.time() + self.passed)
        self.stores = [Memstore(local), Memstore.from_url(server.url, fallback=False)]
        self.spaces = [Namespace("conversation", kind) for kind in ("kv", "kv/other")]
        self.lock = Namespace("conversation", "lock").keys("lock")
        self.done: list[Op[Any]] = []

    def teardown(self) -> None:
        self.stores[1].close()

    def both(self, call: Callable[[Memstore], Any]) -> None:
        local, remote = (answer(lambda store=store: call(store)) for store in self.stores)
        assert local == remote

    def do(self, op: Op[Any]) -> None:
        self.done.append(op)
        self.both(lambda store: store._backend.execute(op))

    def kv(self, call: Callable[[KeyValueStore], Any], namespace: str) -> None:
        self.both(lambda store: call(store.kv(namespace)))

    # Through the store, with values

    @rule(namespace=namespaces, name=names, value=values, ttl=ttls, nx=st.booleans())
    def set(self, namespace: str, name: str, value: Any, ttl: int | None, nx: bool) -> None:
        self.kv(lambda kv: kv.set(name, value, ttl and ttl / 1000, nx), namespace)

    @rule(namespace=namespaces, pairs=st.lists(st.tuples(names, values), max_size=4))
    def mset(self, namespace: str, pairs: list[tuple[str, Any]]) -> None:
        self.kv(lambda kv: kv.mset(pairs), namespace)

    @rule(namespace=namespaces, some=st.lists(names, max_size=3))
    def mget_and_mdelete(self, namespace: str, some: list[str]) -> None:
        self.kv(lambda kv: repr(kv.mget(some)), namespace)
        self.kv(lambda kv: kv.mdelete(some), namespace)

    @rule(namespace=namespaces, pattern=st.sampled_from(["*", "a*", "?", "[!a]*", "{c}*", "[*]", "b"]))
    def delete_pattern(self, namespace: str, pattern: str) -> None:
        self.kv(lambda kv: sorted(kv.keys(pattern)), namespace)
        self.kv(lambda kv: kv.delete_pattern(pattern), namespace)

    @rule(name=names, value=values, ttl=ttls, update=st.booleans())
    def remember(self, name: str, value: Any, ttl: int | None, update: bool) -> None:
        def write(memory: WorkingMemory) -> Any:
            return memory.update(name, value) if update else memory.store(name, value)

        self.both(lambda store: write(store.working_memory("conversation", ttl and ttl / 1000)))

    @rule(name=names)
    def forget(self, name: str) -> None:
        self.both(lambda store: store.working_memory("conversation").delete(name))

    # As operations, which may be repeated

    @rule(space=st.integers(0, 1), name=names, by=numbers, ttl=rests)
    def increment(self, space: int, name: str, by: int, ttl: int | None) -> None:
        self.do(Increment(self.spaces[space].keys(name), by, ttl))

    @rule(space=st.integers(0, 1), name=names, held=data, ttl=ttls)
    def set_new(self, space: int, name: str, held: bytes, ttl: int | None) -> None:
        self.do(SetNew(self.spaces[space].keys(name), held, ttl))

    @rule(space=st.integers(0, 1), name=names, held=data, ttl=rests)
    def set_data(self, space: int, name: str, held: bytes, ttl: int | None) -> None:
        self.do(Set(((self.spaces[space].key(name), held),), ttl))

    @rule(name=names, ttl=rests)
    def update(self, name: str, ttl: int | None) -> None:
        self.do(UpdateRecord((Namespace("conversation", "WORKING_MEMORY").key(name),), b',"updated_at":"?"}', ttl))

    @rule(space=st.integers(0, 1), name=names)
    def delete(self, space: int, name: str) -> None:
        self.do(Delete(self.spaces[space].keys(name)))

    @rule(space=st.integers(0, 1), name=names, ttl=rests)
    def expire(self, space: int, name: str, ttl: int | None) -> None:
        self.do(Expire((self.spaces[space].key(name),), ttl))

    @rule(name=names)
    def unlink(self, name: str) -> None:
        self.do(Unlink((self.spaces[0].key(name),)))

    @rule(token=st.sampled_from(TOKENS), ttl=st.sampled_from([HOUR, 3 * HOUR]), step=st.sampled_from("aeg"))
    def use_lock(self, token: str, ttl: int, step: str) -> None:
        if step == "g":
            self.do(GiveUp(self.lock, token))
        else:
            self.do(Acquire(self.lock, token, ttl) if step == "a" else Extend(self.lock, token, ttl))

    @precondition(lambda self: self.done)
    @rule(data=st.data())
    def do_again(self, data: st.DataObject) -> None:
        ago = data.draw(st.integers(1, min(len(self.done), 8)), label="steps ago")
        self.do(self.done[-ago])

    @rule(milliseconds=times)
    def pass_time(self, milliseconds: int) -> None:
        self.passed += milliseconds / 1000
        self.admin.eval(PASS_TIME, 0, milliseconds)

    @invariant()
    def values_are_the_same(self) -> None:
        for space in self.spaces:
            keys = tuple(map(space.key, NAMES))
            self.both(lambda store, keys=keys: store._backend.execute(Get(keys)))
            for name in NAMES:
                key = (space.key(name),)
                self.both(lambda store, key=key: store._backend.execute(Exists(key)))
                self.both(lambda store, key=key: roughly(store._backend.execute(Ttl(key))))
        for token in TOKENS:
            self.both(lambda store, token=token: store._backend.execute(Owns(self.lock[:1], token)))
        self.both(
            lambda store: sorted(
                (each.conversation_id, repr(each.data)) for each in store.working_memory("conversation").records()
            )
        )


def answer(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or its error; of a lock, about how long another has it."""
    try:
        result = call()
    except (BackendError, ValueDecodeError) as error:
        return type(error)
    return roughly(result) if type(result) is int and abs(result) < 100 * HOUR else result


def roughly(left: int | None) -> int | None:
    return None if left is None else round(left / HOUR * 4) if left > HOUR / 10 else left


@every_server
def test_both_backends_answer_the_same(family_server: Server, admin: redis.Redis) -> None:
    run_state_machine_as_test(
        lambda: BothBackends(family_server, admin), settings=settings(max_examples=60, stateful_step_count=40)
    )


@every_server
def test_both_count_alike(family_server: Server) -> None:
    """Hits come at their own times, on either backend, and windows of a second are told apart by a tenth of it."""
    local, remote = LocalBackend(), Memstore.from_url(family_server.url, fallback=False)._backend
    for pause in (0, 0, 0.3, 0, 0.3, 0.3, 0.3, 0, 0, 0.2, 1.2, 0):
        time.sleep(pause)
        op = Hit(Namespace("conversation", "limit").keys("x"), most=4, per=1)
        for each in (op, Hit(op.keys, op.most, op.per, count=False)):
            one, other = local.execute(each), remote.execute(each)
            assert one[:2] == other[:2]
            assert abs(one.ttl_ms - other.ttl_ms) < 50
    remote.close()
