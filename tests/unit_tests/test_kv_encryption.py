"""Values, results, answers and records of a store with encryption keys."""

from __future__ import annotations

import logging
import os
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation

from langchain_memstore import DecryptError, Memstore
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.ops.kv import Get, Set
from support.unsteady import Unsteady, falling_back

OLD, NEW = os.urandom(32), os.urandom(32)
SECRET = "hunter2"


@pytest.fixture
def store(backend: LocalBackend) -> Memstore:
    return Memstore(backend, encryption_keys=[OLD])


def held(backend: LocalBackend) -> dict[str, bytes]:
    return {key: value.data for key, value in backend._state.values.items()}


def put(backend: LocalBackend, key: str, data: bytes) -> None:
    backend.execute(Set(((key, data),), None))


def test_nothing_is_in_clear_and_all_comes_back(store: Memstore, backend: LocalBackend) -> None:
    kv, cache, memory = store.kv(), store.cache(), store.working_memory()
    answers: list[Generation] = [ChatGeneration(message=AIMessage(SECRET)), Generation(text=SECRET)]
    remember = kv.cached(name="f")(lambda x: {"secret": x})
    kv.set("set", {SECRET: b"1"})
    kv.set("new", SECRET, nx=True)
    kv.mset([("many", [SECRET]), ("more", 5)])
    cache.update(SECRET, SECRET, answers)
    memory.store("c", "first")
    memory.update("c", {SECRET: 1}, metadata={"by": SECRET})
    assert [remember(SECRET), remember(SECRET)] == [{"secret": SECRET}] * 2 and remember.cache_info().hits == 1
    assert SECRET not in str(held(backend))
    assert kv.mget(["set", "new", "many", "more"]) == [{SECRET: b"1"}, SECRET, [SECRET], 5]
    assert cache.lookup(SECRET, SECRET) == answers
    record = memory.retrieve("c")
    assert record is not None and (record.data, record.metadata) == ({SECRET: 1}, {"by": SECRET})
    assert (kv.incr("n"), kv.incr("n"), kv.get("n")) == (1, 2, 2)


def test_keys_rotate(store: Memstore, backend: LocalBackend, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def count() -> int:
        calls.append(1)
        return len(calls)

    store.kv().set("key", 1)
    store.working_memory().store("c", 1)
    store.cache().update("p", "m", [])
    store.kv().cached(name="count")(count)()
    rotated = Memstore(backend, encryption_keys=[NEW, OLD])
    assert rotated.kv().get("key") == 1
    rotated.kv().set("key", 2)
    for other in (Memstore(backend, encryption_keys=[os.urandom(32)]), Memstore(backend)):
        with pytest.raises(DecryptError, match=r"kv\['key'\] (was encrypted with|is encrypted; pass)"):
            other.kv().get("key")
        with pytest.raises(DecryptError, match="data for conversation 'c'"):
            other.working_memory().retrieve("c")
        with caplog.at_level(logging.WARNING):
            assert other.cache().lookup("p", "m") is None  # an answer can be had anew, and so can a result
    assert Memstore(backend, encryption_keys=[NEW]).kv().get("key") == 2
    assert Memstore(backend, encryption_keys=[NEW]).kv().cached(name="count")(count)() == 2


def test_what_was_changed_or_moved_is_refused(store: Memstore, backend: LocalBackend) -> None:
    kv, memory = store.kv(), store.working_memory()
    kv.set("a", "mine")
    kv.cached(name="f")(lambda: "result")()
    memory.store("c", "data", metadata={"m": 1})
    memory.store("d", "other")
    found = held(backend)
    sealed = found["conversation:kv:{a}"]
    changes = [sealed[:-10] + b'AAAAAAA"]}', sealed.replace(b'["sealed","', b'["sealed","AAAA'), b'"plain"', b'{"a":1}']
    changes.append(next(data for key, data in found.items() if "f/" in key))
    for change in changes:
        put(backend, "conversation:kv:{a}", change)
        with pytest.raises(DecryptError, match=r"kv\['a'\]"):
            kv.get("a")
    put(backend, "conversation:kv:{b}", sealed)
    put(backend, "conversation:kv/a:{a}", sealed)
    for moved, name in ((kv, "b"), (store.kv("a"), "a")):
        with pytest.raises(DecryptError, match="moved here from elsewhere"):
            moved.get(name)
    record = found["memory:WORKING_MEMORY:{c}"]
    swapped = record.replace(b'"data"', b'"x"').replace(b'"metadata"', b'"data"').replace(b'"x"', b'"metadata"')
    for change in (swapped, found["memory:WORKING_MEMORY:{d}"], record.replace(b'"data":', b'"data":7,"old":')):
        put(backend, "memory:WORKING_MEMORY:{c}", change)
        with pytest.raises(DecryptError, match="conversation 'c'"):
            memory.retrieve("c")
        with pytest.raises(DecryptError, match="conversation 'c'"):
            list(memory.records("c"))


def test_plaintext_is_read_where_that_is_said(backend: LocalBackend) -> None:
    Memstore(backend).kv().set("old", {"a": 1})
    store = Memstore(backend, encryption_keys=[OLD], accept_plaintext=True)
    assert store.kv().get("old") == {"a": 1}
    with pytest.raises(DecryptError, match="accept_plaintext=True"):
        Memstore(backend, encryption_keys=[OLD]).kv().get("old")


@pytest.mark.parametrize("value", [{"__memstore__": ["sealed", "AAAA"]}, '{"__memstore__":["sealed","AAAA"]}'])
def test_no_value_is_taken_for_a_sealed_one(backend: LocalBackend, value: Any) -> None:
    kv = Memstore(backend).kv()
    kv.set("key", value)
    assert kv.get("key") == value


def test_what_waits_in_an_outage_is_not_in_clear() -> None:
    primary = Unsteady(LocalBackend())
    backend = falling_back(primary)
    store = Memstore(backend, encryption_keys=[OLD])
    primary.mode = "down"
    store.kv().set("key", SECRET)
    store.working_memory().store("c", SECRET)
    assert SECRET not in repr(list(backend._controller.journal)) and store.kv().get("key") == SECRET
    primary.mode = "up"
    backend.close()
    (data,) = primary.backend.execute(Get(("conversation:kv:{key}",)))
    assert data is not None and SECRET.encode() not in data
