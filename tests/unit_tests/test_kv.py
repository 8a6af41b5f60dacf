"""The key-value store inside the process: values, keys, time, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.stores import BaseStore

from langchain_memstore import BackendError, Memstore, ValueDecodeError, ValueEncodeError
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.kv import KeyValueStore
from langchain_memstore.ops.kv import Set
from langchain_memstore.testing import HOSTILE_IDS
from support.clock import Clock

VALUES = [
    None,
    True,
    0,
    2**80,
    -0.5,
    math.inf,
    "text \x00 ü🔑",
    "\ud800",
    [],
    {},
    [1, [2, {"a": None}]],
    {"nested": {"deep": [(1, 2), {3}, frozenset({"x"})]}},
    {1: "one", None: "none"},
    {"__memstore__": ["bytes", "not one of ours"]},
    b"\x00\xff",
    datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc),
    date(2026, 1, 2),
    timedelta(days=1, microseconds=3),
    Decimal("1.10"),
    UUID(int=7),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_equal_and_of_its_type(kv: KeyValueStore, value: Any) -> None:
    kv.set("key", value)
    kv.mset([("other", value)])
    assert kv.mget(["key", "other", "missing"]) == [value, value, None]
    assert type(kv.get("key")) is type(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()) | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner) | st.tuples(inner, inner),
    max_leaves=12,
)


@given(json_values)
def test_whatever_value(value: Any) -> None:
    kv = Memstore.from_url("memory://").kv()
    kv.set("key", value)
    assert kv.get("key") == value


def test_what_is_handed_out_can_be_changed(kv: KeyValueStore) -> None:
    given_in = {"a": [1]}
    kv.set("key", given_in)
    given_in["a"].append(2)
    kv.get("key")["a"].append(3)
    assert kv.get("key") == {"a": [1]}


@pytest.mark.parametrize(
    ("value", "where"),
    [(object(), r"scores\['ada'\] is of builtins.object"), ({"a": [1, object()]}, r"scores\['ada'\]\.a\[1\] is of")],
)
@pytest.mark.parametrize("write", ["set", "nx", "mset"])
def test_a_value_that_cannot_be_stored_is_refused_by_name(store: Memstore, value: Any, where: str, write: str) -> None:
    kv = store.kv("scores")
    writes = {
        "set": lambda: kv.set("ada", value),
        "nx": lambda: kv.set("ada", value, nx=True),
        "mset": lambda: kv.mset([("bob", 1), ("ada", value)]),
    }
    with pytest.raises(ValueEncodeError, match=where):
        writes[write]()
    assert kv.keys() == []


def test_a_value_that_is_nested_too_deeply_is_refused(kv: KeyValueStore) -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueEncodeError, match=r"kv\['key'\] is nested too deeply"):
        kv.set("key", value)


def test_a_value_of_other_hands_that_is_none(store: Memstore, kv: KeyValueStore) -> None:
    store._backend.execute(
        Set((("conversation:kv:{odd}", b"{not json"), ("conversation:kv:{json}", b' {"a": 1}')), None)
    )
    assert kv.get("json") == {"a": 1}
    with pytest.raises(ValueDecodeError, match=r"kv\['odd'\] is no JSON of this package; delete it or set it anew"):
        kv.get("odd")


def test_every_key_is_apart(store: Memstore) -> None:
    namespaces = [store.kv(), store.kv("kv/kv"), store.kv("a:b"), store.kv("a"), store.kv("done/kv")]
    namespaces += [Memstore(store._backend, key_prefix="conversation:kv").kv(), store.kv("messages")]
    keys = [*HOSTILE_IDS, "a:{b}", "kv"]
    for number, kv in enumerate(namespaces):
        kv.mset([(key, [number, key]) for key in keys])
    for number, kv in enumerate(namespaces):
        assert kv.mget(keys) == [[number, key] for key in keys]
        assert sorted(kv.keys()) == sorted(keys)
    assert namespaces[3].delete_pattern("*") == len(keys)
    assert [len(kv.keys()) for kv in namespaces] == [len(keys) if kv is not namespaces[3] else 0 for kv in namespaces]


def test_no_key_is_a_conversation(store: Memstore) -> None:
    store.history("s").add_user_message("hello")
    for namespace in ("messages", "meta", "kv"):
        store.kv(namespace).set("s", 1)
        store.kv(namespace).delete_pattern("*")
    assert store.history("s").turns == 1
    assert [info.session_id for info in store.sessions()] == ["s"]


def test_patterns(kv: KeyValueStore) -> None:
    keys = {"user-1", "user-2", "user-10", "user-é", "*", "{}", "[a]"}
    kv.mset([(key, 1) for key in keys])
    assert sorted(kv.keys("user-?")) == ["user-1", "user-2", "user-é"]
    assert sorted(kv.keys("user-[!1]*")) == ["user-2", "user-é"]
    assert kv.keys("[*]") == list(kv.yield_keys(prefix="*")) == ["*"]
    assert list(kv.yield_keys(prefix="[a")) == ["[a]"]
    assert set(kv.yield_keys()) == set(kv.yield_keys(prefix="")) == set(kv.keys()) == keys
    assert (kv.delete_pattern("user-*"), kv.delete_pattern("user-*")) == (4, 0)
    assert set(kv.keys()) == {"*", "{}", "[a]"}


def test_time(store: Memstore, clock: Clock) -> None:
    kv = store.kv(ttl=10)
    kv.set("default", 1)
    kv.set("own", 1, ttl=timedelta(seconds=20))
    kv.mset([("many", 1)])
    kv.set("kept", 1)
    assert kv.expire("kept", None)
    assert [kv.ttl(key) for key in ("default", "own", "many", "kept", "missing")] == [10, 20, 10, None, 0]
    clock.now += 9.999
    assert kv.ttl("default") == 0.001 and kv.expire("many", 5)
    clock.now += 0.001
    assert sorted(kv.keys()) == ["kept", "many", "own"]
    assert (kv.get("default"), kv.exists("default"), kv.expire("default", 5), kv.delete("default")) == (
        *(None, False, False),
        False,
    )
    assert kv.set("default", 2, nx=True) and not kv.set("own", 2, nx=True)
    clock.now += 1e9
    assert kv.keys() == ["kept"]


def test_a_plain_set_takes_an_expiry_off(kv: KeyValueStore) -> None:
    kv.set("key", 1, ttl=5)
    kv.set("key", 2)
    assert kv.ttl("key") is None


def test_a_counter_gets_its_ttl_when_it_is_made(store: Memstore, clock: Clock) -> None:
    kv = store.kv()
    assert (kv.incr("hits", ttl=10), kv.incr("hits", 5, ttl=99), kv.incr("hits", -1)) == (1, 6, 5)
    assert kv.ttl("hits") == 10
    clock.now += 10
    assert (kv.incr("hits"), kv.ttl("hits"), kv.get("hits")) == (1, None, 1)
    assert store.kv("with", ttl=7).incr("n") == 1 and store.kv("with").ttl("n") == 7
    kv.set("set", 41)
    assert kv.incr("set") == 42


@pytest.mark.parametrize("value", [1.0, True, "1", None, [1], 2**63 - 1, 2**70])
def test_what_is_no_counter_is_told(kv: KeyValueStore, value: Any) -> None:
    kv.set("key", value)
    with pytest.raises(BackendError, match=r"conversation:kv:\{key\}"):
        kv.incr("key")
    assert kv.get("key") == value


def test_bad_arguments(store: Memstore, kv: KeyValueStore) -> None:
    bad: list[tuple[str, Callable[[], object]]] = [
        ("key must be a non-empty string", lambda: kv.get("")),
        ("key must be a non-empty string", lambda: kv.set(7, 1)),  # type: ignore[arg-type]
        ("key must be text that UTF-8", lambda: kv.delete("\ud800")),
        ("keys must be a sequence of keys", lambda: kv.mget("abc")),
        ("ttl must be a positive", lambda: kv.set("key", 1, ttl=0)),
        ("ttl must be a positive", lambda: kv.expire("key", -1)),
        ("by must be a whole number", lambda: kv.incr("key", 1.5)),  # type: ignore[arg-type]
        ("by must be a whole number", lambda: kv.incr("key", 2**63)),
        ("pattern must be", lambda: kv.keys("")),
        ("n must be at least 1", lambda: kv.slowlog(0)),
        ("namespace must be", lambda: store.kv("")),
        ("ttl must be", lambda: store.kv(ttl=0)),
    ]
    for message, call in bad:
        with pytest.raises(ValueError, match=message):
            call()
    assert kv.keys() == []


async def test_every_verb_has_a_twin(kv: KeyValueStore) -> None:
    assert isinstance(kv, BaseStore)
    assert await kv.aset("a", 1, ttl=5) and not await kv.aset("a", 2, nx=True)
    assert await kv.aget("a") == 1 and await kv.aexists("a") and await kv.attl("a") == 5
    assert await kv.aexpire("a", None) and await kv.attl("a") is None
    assert await kv.aincr("n", 2, ttl=3) == 2
    await kv.amset([("b", 1), ("c", 2)])
    assert await kv.amget(["b", "c", "d"]) == [1, 2, None]
    assert sorted(await kv.akeys("[a-c]")) == [key async for key in kv.ayield_keys(prefix="") if key != "n"]
    await kv.amdelete(["b", "nothing"])
    assert await kv.adelete("c") and not await kv.adelete("c")
    assert await kv.adelete_pattern("*") == 2
    assert (await kv.ainfo()).keys == 0 and await kv.aslowlog() == kv.slowlog()


def test_info_inside_the_process(store: Memstore, kv: KeyValueStore, clock: Clock) -> None:
    assert kv.info().hit_rate is None
    kv.mset([("a", "x" * 1000), ("b", 1)])
    store.history("s").add_user_message("y" * 500)
    kv.mget(["a", "b", "c", "d"])
    clock.now += 1
    info = kv.info()
    assert (info.backend, info.keys, info.hit_rate, info.clients, info.peak_memory) == ("local", 3, 0.5, None, None)
    assert 1500 < info.used_memory < 2500
    assert info.commands_per_second >= 4
    clock.now += 5
    assert kv.info().commands_per_second == 0


def test_there_is_no_slow_log_inside_the_process(kv: KeyValueStore) -> None:
    kv.set("a", 1)
    assert kv.slowlog() == []


def test_the_least_recently_used_values_go() -> None:
    kv = Memstore(LocalBackend(max_values=3)).kv()
    for key in "abc":
        kv.set(key, 1)
    kv.get("a")
    kv.set("d", 1)
    assert sorted(kv.keys()) == ["a", "c", "d"]


def test_a_repr_says_what_it_is(kv: KeyValueStore) -> None:
    assert repr(kv) == "KeyValueStore(namespace='kv', ttl=None, backend=LocalBackend(sessions=0))"
