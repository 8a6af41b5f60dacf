"""Records of what an agent knows."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from langchain_memstore import BackendError, Memstore, ValueDecodeError, ValueEncodeError
from langchain_memstore.kv import WorkingMemory, WorkingMemoryRecord
from langchain_memstore.ops.kv import Set
from langchain_memstore.testing import HOSTILE_IDS
from support.clock import Clock


@pytest.fixture
def memory(store: Memstore) -> WorkingMemory:
    return store.working_memory()


def test_a_record(memory: WorkingMemory) -> None:
    before = datetime.now(timezone.utc)
    data = {"facts": ["likes tea"], "seen": before, "raw": b"\x00"}
    assert memory.store("conv_123", data, metadata={"source": "chat"}) == "memory:WORKING_MEMORY:{conv_123}"
    record = memory.retrieve("conv_123")
    assert record is not None
    assert record == WorkingMemoryRecord(
        "conv_123", "WORKING_MEMORY", data, {"source": "chat"}, record.created_at, record.created_at
    )
    assert before <= record.created_at <= datetime.now(timezone.utc)
    assert memory.retrieve("conv_123", "EPISODIC") is memory.retrieve("other") is None


def test_an_update_keeps_when_it_was_created(memory: WorkingMemory) -> None:
    assert not memory.update("c", 1)
    assert memory.retrieve("c") is None
    memory.store("c", {"a": 1}, metadata={"m": 1})
    first = memory.retrieve("c")
    assert memory.update("c", [2]) and memory.update("c", [3], metadata={"n": 2})
    last = memory.retrieve("c")
    assert first is not None and last is not None
    assert (last.data, last.metadata, last.created_at) == ([3], {"n": 2}, first.created_at)
    assert last.updated_at > first.updated_at
    memory.store("c", None)
    again = memory.retrieve("c")
    assert again is not None and (again.data, again.metadata) == (None, {}) and again.created_at > first.created_at


def test_types_and_conversations_are_apart(memory: WorkingMemory) -> None:
    types = ("WORKING_MEMORY", "EPISODIC", "a:b", "{x}", "*", "a%3Ab")
    for memory_type in types:
        keys = memory.store_many([(each, [each, memory_type]) for each in HOSTILE_IDS], memory_type, {"t": memory_type})
        assert len(set(keys)) == len(HOSTILE_IDS)
    found = {(record.conversation_id, record.memory_type) for record in memory.records()}
    assert found == {(each, memory_type) for each in HOSTILE_IDS for memory_type in types}
    for memory_type in types:
        assert {record.conversation_id for record in memory.records(memory_type=memory_type)} == set(HOSTILE_IDS)
    for each in HOSTILE_IDS:
        assert {record.memory_type for record in memory.records(each)} == set(types)
        (record,) = memory.records(each, "a:b")
        assert (record.data, record.metadata) == ([each, "a:b"], {"t": "a:b"})
    assert memory.delete("*", "*") and not memory.delete("*", "*")
    assert len(list(memory.records())) == len(HOSTILE_IDS) * len(types) - 1


def test_nothing_else_is_a_record(store: Memstore) -> None:
    other = Memstore(store._backend, key_prefix="memory")
    other.history("c").add_user_message("hello")
    other.kv().incr("c")
    other.kv("EPISODIC").set("c", 1)
    other.cache().update("p", "m", [])
    store.working_memory("memory:x").store("c", 1)
    store.working_memory("mem").store("c", 1)
    assert list(store.working_memory().records()) == []
    store.working_memory().store("c", 1)
    assert [record.conversation_id for record in store.working_memory().records()] == ["c"]


@pytest.mark.parametrize("memory_type", ["messages", "kv", "kv/x", "done/kv", "cache", "lock", "limit"])
def test_types_that_name_other_keys_are_refused(memory: WorkingMemory, memory_type: str) -> None:
    for call in (
        memory.retrieve,
        memory.delete,
        lambda c, t: memory.store(c, 1, t),
        lambda c, t: list(memory.records(c, t)),
    ):
        with pytest.raises(ValueError, match="memory_type must not be"):
            call("c", memory_type)


def test_time(store: Memstore, clock: Clock) -> None:
    memory = store.working_memory()
    memory.store("c", 1)
    memory.store("d", 1)
    clock.now += 43_199
    assert memory.update("c", 2) and memory.retrieve("d") is not None
    clock.now += 43_199
    assert memory.retrieve("d") is None and memory.retrieve("c") is not None
    clock.now += 1
    assert memory.retrieve("c") is None and not memory.update("c", 3) and not memory.delete("c")
    store.working_memory(ttl=None).store("kept", 1)
    store.working_memory(ttl=timedelta(minutes=1)).store("short", 1)
    clock.now += 60
    assert [record.conversation_id for record in memory.records()] == ["kept"]


async def test_every_method_has_a_twin(memory: WorkingMemory) -> None:
    assert await memory.astore("c", 1, metadata={"m": 1}) == "memory:WORKING_MEMORY:{c}"
    assert await memory.astore_many([("d", 2)], "EPISODIC") == ["memory:EPISODIC:{d}"]
    assert await memory.aupdate("c", 3)
    record = await memory.aretrieve("c")
    assert record is not None and record.data == 3
    assert {each.data async for each in memory.arecords()} == {2, 3}
    assert await memory.adelete("c") and not await memory.adelete("c")


@pytest.mark.parametrize("held", [b"{", b"{}", b'{"created_at":"yesterday","updated_at":"","data":1,"metadata":{}}'])
def test_what_is_no_record(
    store: Memstore, memory: WorkingMemory, held: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    memory.store("good", 1)
    store._backend.execute(Set(((memory.store("c", 1), held),), None))
    with pytest.raises(ValueDecodeError, match=r"'memory:WORKING_MEMORY:\{c\}' holds no record"):
        memory.retrieve("c")
    assert [record.conversation_id for record in memory.records()] == ["good"]
    assert "skipped a record" in caplog.text
    if b"created" not in held:
        with pytest.raises(BackendError, match=r"\{c\}.*is not a record"):
            memory.update("c", 1)


def test_bad_arguments(store: Memstore, memory: WorkingMemory) -> None:
    def values(**bad: Any) -> None:
        memory.store("c", bad.get("data"), metadata=bad.get("metadata"))

    with pytest.raises(ValueEncodeError, match=r"data for conversation 'c'\.a is of builtins.object"):
        values(data={"a": object()})
    with pytest.raises(ValueEncodeError, match=r"metadata for conversation 'c'\.a is of builtins.object"):
        values(metadata={"a": object()})
    for message, call in {
        "conversation_id must be": lambda: memory.store("", 1),
        "memory_type must be": lambda: memory.store("c", 1, ""),
        "prefix must be": lambda: store.working_memory(""),
        "ttl must be": lambda: store.working_memory(ttl=0),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
    assert list(memory.records()) == []
