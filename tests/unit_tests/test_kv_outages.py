"""What becomes of values, locks and limits while the store cannot be reached."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from langchain_memstore import BackendUnavailable, LockTaken, Memstore
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.backends.outage.journal import JOURNALED, read_op, write_op
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
    kv.mset([("old", 1), ("gone", 1), ("n", 40)])
    primary.mode = "down"
    kv.set("new", {"a": b"1"}, ttl=60)
    kv.mdelete(["gone"])
    kv.delete("new")
    kv.set("new", 2)
    kv.expire("new", 90)
    assert (kv.get("new"), kv.get("old"), kv.incr("n"), kv.incr("n"), kv.keys("ne*")) == (2, None, 1, 2, ["new"])
    memory.store("c", 1)
    memory.update("c", 2)
    with pytest.raises(BackendUnavailable, match="SetNew needs it"):
        kv.set("claim", 1, nx=True)
    assert falls_back.status.pending == 9
    primary.mode = "up"
    wait_until(lambda: not falls_back.status.degraded)
    assert kv.mget(["old", "gone", "new", "n"]) == [1, None, 2, 42]
    assert 80 < (kv.ttl("new") or 0) <= 90
    record = memory.retrieve("c")
    assert record is not None and record.data == 2


def test_what_can_be_had_anew_is_not_kept_for_the_store(falls_back: Memstore, primary: Unsteady) -> None:
    double = falls_back.kv().cached(name="double")(lambda x: 2 * x)
    cache = falls_back.cache()
    primary.mode = "down"
    falls_back.kv().get("what the store is tried with")
    cache.update("p", "m", [])
    assert (double(2), double(2), cache.lookup("p", "m"), falls_back.status.pending) == (4, 4, [], 0)
    assert double.cache_info() == (1, 1)
    primary.mode = "up"
    wait_until(lambda: not falls_back.status.degraded)
    assert cache.lookup("p", "m") is None


def test_what_was_done_before_the_outage_was_seen_is_not_done_again(falls_back: Memstore, primary: Unsteady) -> None:
    kv = falls_back.kv()
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
    kv.incr("n", -(2**63), ttl=1)
    falls_back.working_memory().store("c", 1)
    falls_back.working_memory().update("c", 2)
    journal = [waiting.op for waiting in falls_back._backend._controller.journal]  # type: ignore[attr-defined]
    assert [read_op(write_op(op)) for op in journal] == journal
    assert {type(op).__name__ for op in journal} == {"Set", "Unlink", "Expire", "Delete", "Increment", "UpdateRecord"}
    assert {type(op) for op in journal} < set(JOURNALED.values())
