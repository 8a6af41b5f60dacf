"""What becomes of values, locks and limits while the store cannot be reached."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from langchain_memstore import BackendUnavailable, LockTaken, Memstore
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.backends.outage.controller import State
from langchain_memstore.backends.outage.journal import JOURNALED, read_op, write_op
from langchain_memstore.ops.kv import Set
from support.unsteady import Unsteady, falling_back
from support.waiting import wait_until


@pytest.fixture
def primary() -> Unsteady:
    return Unsteady(LocalBackend())


@pytest.fixture(params=["falls back", "raises"])
def store(primary: Unsteady, request: pytest.FixtureRequest) -> Iterator[Memstore]:
    backend: Any = falling_back(primary) if request.param == "falls back" else primary
    yield Memstore(backend)
    primary.mode = "up"
    backend.close()


@pytest.fixture
def falls_back(primary: Unsteady) -> Iterator[Memstore]:
    backend = falling_back(primary)
    yield Memstore(backend)
    primary.mode = "up"
    backend.close()


async def test_a_lock_raises_unless_told_otherwise(store: Memstore, primary: Unsteady) -> None:
    primary.mode = "down"
    with pytest.raises(BackendUnavailable):
        store.lock("a").__enter__()
    with pytest.raises(BackendUnavailable):
        await store.lock("a").__aenter__()


async def test_a_lock_may_hold_in_the_process(
    store: Memstore, primary: Unsteady, caplog: pytest.LogCaptureFixture
) -> None:
    primary.mode = "down"
    with caplog.at_level(logging.WARNING), store.lock("a", on_outage="local") as lock:
        assert lock.owned()
        with pytest.raises(LockTaken), store.lock("a", wait=0.01, on_outage="local"):
            pass
        primary.mode = "up"
        lock.extend()
        with store.lock("a", wait=0):  # in the store, nobody has it
            pass
    assert "may hold in this process alone" in caplog.text
    primary.mode = "down"
    async with store.lock("a", wait=0, on_outage="local") as lock:
        assert await lock.aowned()


def test_a_lock_whose_store_goes_away(store: Memstore, primary: Unsteady, caplog: pytest.LogCaptureFixture) -> None:
    def hold(error: Exception | None = None) -> None:
        with store.lock("a", on_outage="local"):
            primary.mode = "down"
            if error is not None:
                raise error

    with pytest.raises(BackendUnavailable):
        hold()
    primary.mode = "up"
    primary.backend = LocalBackend()
    wait_until(lambda: not store.status.degraded)
    with pytest.raises(ZeroDivisionError):
        hold(ZeroDivisionError())
    assert "while ZeroDivisionError was raised" in caplog.text


async def test_a_limiter_raises_unless_told_otherwise(store: Memstore, primary: Unsteady) -> None:
    primary.mode = "down"
    limiter = store.rate_limiter(1, 60)
    for call in (limiter.hit, limiter.acquire, limiter.remaining):
        with pytest.raises(BackendUnavailable):
            call()
    with pytest.raises(BackendUnavailable):
        await limiter.aacquire()


async def test_a_limiter_may_count_in_the_process(store: Memstore, primary: Unsteady) -> None:
    limiter, other = (store.rate_limiter(2, 60, on_outage="local") for _ in range(2))
    assert limiter.hit() and limiter.remaining() == 1
    primary.mode = "down"
    assert [limiter.hit(), await other.ahit(), other.hit(), await limiter.ahit()] == [True, True, False, False]
    assert (limiter.remaining(), await other.aremaining()) == (0, 0)
    primary.mode = "up"
    wait_until(lambda: limiter.remaining() == 1)


def test_a_store_that_is_away_is_not_asked_each_time(primary: Unsteady) -> None:
    asked = 0

    class Counting(Unsteady):
        def execute(self, op: Any) -> Any:
            nonlocal asked
            asked += 1
            return super().execute(op)

    store = Memstore(Counting(primary.backend))
    store._backend.mode = "down"  # type: ignore[attr-defined]
    limiter = store.rate_limiter(1000, 60, on_outage="local")
    assert all(limiter.hit() for _ in range(1000))
    assert asked < 5


def test_values_are_kept_for_the_store(falls_back: Memstore, primary: Unsteady) -> None:
    kv, memory = falls_back.kv(), falls_back.working_memory()
    kv.mset([("old", 1), ("gone", 1)])
    primary.mode = "down"
    kv.set("new", {"a": b"1"}, ttl=60)
    kv.mdelete(["gone"])
    kv.delete("new")
    kv.set("new", 2)
    kv.expire("new", 90)
    kv.set("n", 40)
    assert (kv.mget(["new", "gone"]), kv.incr("n"), kv.incr("n")) == ([2, None], 41, 42)
    memory.store("c", 1)
    assert memory.update("c", 2)
    with pytest.raises(BackendUnavailable, match="SetNew needs it"):
        kv.set("claim", 1, nx=True)
    assert falls_back.status.pending == 10
    primary.mode = "up"
    wait_until(lambda: not falls_back.status.degraded)
    assert kv.mget(["old", "gone", "new", "n"]) == [1, None, 2, 42]
    assert 80 < (kv.ttl("new") or 0) <= 90
    record = memory.retrieve("c")
    assert record is not None and record.data == 2


def test_a_process_counts_for_itself_where_it_may(falls_back: Memstore, primary: Unsteady) -> None:
    kv, other = falls_back.kv(on_outage="local"), falls_back.kv()
    kv.mset([("old", 1), ("n", 40), ("gone", 1), ("timed", 1)])
    primary.mode = "down"
    assert (kv.get("old"), kv.exists("old"), kv.ttl("old"), kv.mget(["old", "n"])) == (None, False, 0, [None, None])
    assert (kv.incr("n", ttl=60), kv.incr("n"), kv.get("n"), kv.keys()) == (1, 2, 2, ["n"])
    assert (kv.delete("gone"), kv.get("gone"), other.get("gone")) == (False, None, None)
    assert not kv.expire("timed", 90)
    for unknown in ("old", "n", "timed"):  # what was counted since the outage began is not what there is
        with pytest.raises(BackendUnavailable):
            other.get(unknown)
    primary.mode = "up"
    wait_until(lambda: not falls_back.status.degraded)
    assert kv.mget(["old", "n", "gone", "timed"]) == [1, 42, None, 1]
    assert (kv.ttl("n"), 80 < (kv.ttl("timed") or 0) <= 90) == (None, True)


async def test_an_outage_refuses_what_the_process_does_not_know(falls_back: Memstore, primary: Unsteady) -> None:
    kv, memory = falls_back.kv(), falls_back.working_memory()
    kv.mset([("a", 1), ("b", 2)])
    memory.store("c", {"goal": "Porto"})
    primary.mode = "down"
    kv.set("b", 3)
    calls: list[Callable[[], Any]] = [
        lambda: kv.get("a"),
        lambda: kv.mget(["b", "a"]),
        lambda: kv.exists("a"),
        lambda: kv.ttl("a"),
        lambda: kv.expire("a", 5),
        lambda: kv.delete("a"),
        lambda: kv.incr("a"),
        lambda: memory.retrieve("c"),
        lambda: memory.update("c", 1),
        lambda: memory.delete("c"),
    ]
    for call in calls:
        with pytest.raises(
            BackendUnavailable, match=r"key '(conversation:kv:\{a|memory:WORKING_MEMORY:\{c)\}': .*\"local\""
        ):
            call()
    async_calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: kv.aget("a"),
        lambda: kv.amget(["b", "a"]),
        lambda: kv.aexists("a"),
        lambda: kv.attl("a"),
        lambda: kv.aexpire("a", 5),
        lambda: kv.adelete("a"),
        lambda: kv.aincr("a"),
        lambda: memory.aretrieve("c"),
        lambda: memory.aupdate("c", 1),
        lambda: memory.adelete("c"),
    ]
    for acall in async_calls:
        with pytest.raises(BackendUnavailable, match="does not know"):
            await acall()
    listings: list[Callable[[], Any]] = [
        kv.keys,
        lambda: kv.delete_pattern("*"),
        lambda: list(kv.yield_keys()),
        lambda: list(memory.records()),
    ]
    for call in listings:
        with pytest.raises(BackendUnavailable, match="all of its keys"):
            call()
    with pytest.raises(BackendUnavailable, match="all of its keys"):
        await kv.akeys()
    assert kv.get("b") == 3
    primary.mode = "up"
    wait_until(lambda: not falls_back.status.degraded)
    assert kv.mget(["a", "b"]) == [1, 3]  # nothing that was refused is done later
    record = memory.retrieve("c")
    assert record is not None and record.data == {"goal": "Porto"}


@pytest.mark.parametrize("call", ["incr", "delete", "update"])
def test_what_was_refused_as_an_outage_began_is_not_done_later(
    falls_back: Memstore, primary: Unsteady, call: str
) -> None:
    kv, memory = falls_back.kv(), falls_back.working_memory()
    kv.set("a", 1)
    memory.store("c", 1)
    primary.mode = "down"
    with pytest.raises(BackendUnavailable):
        memory.update("c", 2) if call == "update" else getattr(kv, call)("a")
    primary.mode = "up"
    wait_until(lambda: not falls_back.status.degraded)
    record = memory.retrieve("c")
    assert (kv.get("a"), record and record.data) == (1, 1)


async def test_an_update_never_replaces_a_record_that_nobody_saw(falls_back: Memstore, primary: Unsteady) -> None:
    memory = falls_back.working_memory(on_outage="local")
    memory.store("c", {"goal": "Porto", "budget": 300})
    primary.mode = "down"
    assert memory.retrieve("c") is None and list(memory.records()) == []
    assert not memory.update("c", {"goal": "Lisbon"}) and not await memory.aupdate("c", {"goal": "Lisbon"})
    primary.mode = "up"
    wait_until(lambda: not falls_back.status.degraded)
    record = memory.retrieve("c")
    assert record is not None and record.data == {"goal": "Porto", "budget": 300}


def test_what_was_deleted_or_has_expired_in_an_outage_is_absent(falls_back: Memstore, primary: Unsteady) -> None:
    kv = falls_back.kv()
    kv.mset([("a", 1), ("b", 1)])
    primary.mode = "down"
    kv.mdelete(["a"])
    kv.set("b", 2, ttl=0.01)
    time.sleep(0.02)
    assert kv.mget(["a", "b"]) == [None, None]
    assert (kv.exists("a"), kv.ttl("b"), kv.delete("a"), kv.incr("b")) == (False, 0, False, 1)


def test_on_outage_is_one_of_two(store: Memstore) -> None:
    for make in (store.kv, store.working_memory, lambda **options: store.lock("a", **options)):
        with pytest.raises(ValueError, match="on_outage must be 'raise' or 'local', not 'wait'"):
            make(on_outage="wait")  # type: ignore[operator]


def test_values_in_the_process_are_all_known() -> None:
    kv = Memstore.from_url("memory://").kv()
    assert (kv.get("a"), kv.delete("a"), kv.incr("a"), kv.keys()) == (None, False, 1, ["a"])


def test_only_the_keys_that_wait_wait(falls_back: Memstore, primary: Unsteady, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a replay goes on, the store answers for all other keys, and those are told by nobody else."""
    kv = falls_back.kv()
    kv.mset([("a", 1), ("b", 1), ("c", 1)])
    primary.mode = "down"
    kv.set("b", 2)
    kv.mset([("a", 2), ("last", 2)])
    kv.set("c", 2)
    controller = falls_back._backend._controller  # type: ignore[attr-defined]
    goes_on = threading.Event()
    execute = primary.execute

    def wait_before_a(op: Any) -> Any:
        if isinstance(op, Set) and "{a}" in op.items[0][0] and threading.current_thread().name.startswith("memstore"):
            goes_on.wait(10)
        return execute(op)

    monkeypatch.setattr(primary, "execute", wait_before_a)
    primary.mode = "up"
    try:
        wait_until(lambda: controller.state is State.REPLAYING)
        began = time.monotonic()
        assert (kv.get("b"), kv.get("unrelated"), kv.incr("unrelated")) == (2, None, 1)
        kv.set("b", 3)
        assert falls_back.working_memory().retrieve("c") is None
        assert time.monotonic() - began < 0.4
        assert (kv.get("last"), kv.get("a")) == (2, 2)  # from the process, as they wait
        with pytest.raises(BackendUnavailable):
            kv.mget(["a", "b"])  # `b` was set since in the store, so the process does not know it any more
        kv.set("a", 4)
    finally:
        goes_on.set()
    wait_until(lambda: not falls_back.status.degraded)
    assert kv.mget(["a", "b", "c", "last"]) == [4, 3, 2, 2]


def test_what_can_be_had_anew_is_not_kept_for_the_store(falls_back: Memstore, primary: Unsteady) -> None:
    double = falls_back.kv().cached(name="double")(lambda x: 2 * x)
    cache = falls_back.cache()
    primary.mode = "down"
    falls_back.kv(on_outage="local").get("what the store is tried with")
    cache.update("p", "m", [])
    assert (double(2), double(2), cache.lookup("p", "m"), falls_back.status.pending) == (4, 4, [], 0)
    assert double.cache_info() == (1, 1)
    primary.mode = "up"
    wait_until(lambda: not falls_back.status.degraded)
    assert cache.lookup("p", "m") is None


def test_what_was_done_before_the_outage_was_seen_is_not_done_again(falls_back: Memstore, primary: Unsteady) -> None:
    kv = falls_back.kv(on_outage="local")
    kv.set("n", 5)
    kv.set("gone", 1)
    primary.mode = "losing replies"
    kv.incr("n")
    primary.mode = "up"
    wait_until(lambda: not falls_back.status.degraded)
    assert kv.get("n") == 6


def test_every_operation_can_be_written_down(falls_back: Memstore, primary: Unsteady) -> None:
    kv = falls_back.kv()
    primary.mode = "down"
    kv.set("a", 1, ttl=5)
    kv.mset([("a", b"\xff"), ("b", 2)])
    kv.mdelete(["b"])
    kv.expire("a", None)
    kv.delete("a")
    falls_back.kv(on_outage="local").incr("n", -(2**63), ttl=1)
    falls_back.working_memory().store("c", 1)
    falls_back.working_memory().update("c", 2)
    journal = [waiting.op for waiting in falls_back._backend._controller.journal]  # type: ignore[attr-defined]
    assert [read_op(write_op(op)) for op in journal] == journal
    assert {type(op).__name__ for op in journal} == {"Set", "Unlink", "Expire", "Delete", "Increment", "UpdateRecord"}
    assert {type(op) for op in journal} < set(JOURNALED.values())
