"""The lock inside the process: who has it, for how long, and how it is given up."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from langchain_memstore import BackendError, LockLost, LockTaken, Memstore
from langchain_memstore.backends.local import LocalBackend
from support.clock import Clock


def test_one_at_a_time(store: Memstore) -> None:
    with store.lock("a") as lock:
        assert lock.owned()
        assert not store.lock("a").owned()
        with pytest.raises(LockTaken, match="another has the lock 'a', and has had it for the 0 s of wait="):
            store.lock("a", wait=0).__enter__()
        with store.lock("b", wait=0), Memstore(store._backend, key_prefix="other").lock("a", wait=0):
            pass
    with store.lock("a", wait=0):
        pass
    assert not lock.owned()


async def test_one_at_a_time_async(store: Memstore) -> None:
    async with store.lock("a") as lock:
        assert await lock.aowned()
        with pytest.raises(TimeoutError):
            await store.lock("a", wait=0.01).__aenter__()
    async with store.lock("a", wait=0):
        pass


def test_waits_for_as_long_as_it_is_told(store: Memstore) -> None:
    with store.lock("a"):
        started = time.monotonic()
        with pytest.raises(LockTaken), store.lock("a", wait=timedelta(seconds=0.1)):
            pass
        assert 0.09 < time.monotonic() - started < 1


def test_threads_lose_nothing(store: Memstore) -> None:
    lock, count = store.lock("a"), [0]

    def add(_: int) -> None:
        with lock:
            seen = count[0]
            time.sleep(0.0005)
            count[0] = seen + 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(100)))
    assert count == [100]


async def test_tasks_lose_nothing(store: Memstore) -> None:
    lock, count = store.lock("a"), [0]

    async def add() -> None:
        async with lock:
            seen = count[0]
            await asyncio.sleep(0.0005)
            count[0] = seen + 1

    await asyncio.gather(*(add() for _ in range(50)))
    assert count == [50]


def test_a_lost_lease_is_reported(store: Memstore, clock: Clock) -> None:
    def lose() -> None:
        with store.lock("a", ttl=5) as lock:
            clock.now += 5
            assert not lock.owned()
            with store.lock("a", wait=0) as other:
                with pytest.raises(LockLost):
                    lock.extend()
                assert other.owned()

    with pytest.raises(LockLost, match="the time of the lock 'a' ran out"):
        lose()


def test_only_the_holder_gives_up(store: Memstore, clock: Clock) -> None:
    first, second = store.lock("a", ttl=5), store.lock("a", ttl=60)
    first.__enter__()
    clock.now += 6
    with second:
        with pytest.raises(LockLost):
            first.__exit__(None, None, None)
        assert second.owned()
        with pytest.raises(LockTaken), store.lock("a", wait=0):
            pass


async def test_a_lost_lease_of_a_shared_object(store: Memstore, clock: Clock) -> None:
    lock, lost, entered = store.lock("a", ttl=5), asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with lock:
            clock.now += 6
            lost.set()
            await entered.wait()

    async def second() -> None:
        await lost.wait()
        async with lock:
            entered.set()
            await asyncio.sleep(0.01)
            assert await lock.aowned()

    results = await asyncio.gather(first(), second(), return_exceptions=True)
    assert [type(result) for result in results] == [LockLost, type(None)]


def test_an_error_that_is_under_way_goes_first(store: Memstore, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        with store.lock("a", ttl=5):
            clock.now += 5
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert "ran out" in caplog.text and "while ZeroDivisionError was raised" in caplog.text


async def test_extending(store: Memstore, clock: Clock) -> None:
    async with store.lock("a", ttl=5) as lock:
        for _ in range(5):
            clock.now += 4
            await lock.aextend()
        lock.extend(timedelta(seconds=100))
        clock.now += 99
        assert await lock.aowned()
        with pytest.raises(ValueError, match="ttl must be"):
            lock.extend(0)
    with pytest.raises(RuntimeError, match="is not held through this object"):
        lock.extend()


async def test_is_not_reentrant(store: Memstore) -> None:
    lock = store.lock("a")
    async with lock:
        with pytest.raises(RuntimeError, match="has the lock 'a' already; a lock is not reentrant"):
            await lock.__aenter__()
        assert await lock.aowned()
    async with lock:
        pass


async def test_cancelled_waiting_leaves_nothing(store: Memstore) -> None:
    async with store.lock("a"):
        waiting = [asyncio.create_task(store.lock("a").__aenter__()) for _ in range(5)]
        await asyncio.sleep(0.02)
        for task in waiting:
            task.cancel()
        assert {type(error) for error in await asyncio.gather(*waiting, return_exceptions=True)} == {
            asyncio.CancelledError
        }
    async with store.lock("a", wait=0):
        pass


class Late:
    """A backend that answers late, after the operation was done."""

    def __init__(self, backend: LocalBackend) -> None:
        self.backend = backend
        self.status = backend.status

    async def aexecute(self, op: Any) -> Any:
        result = self.backend.execute(op)
        await asyncio.sleep(0.05)
        return result


async def test_cancelled_while_it_was_taken_leaves_nothing(store: Memstore) -> None:
    late = Memstore(Late(store._backend))  # type: ignore[arg-type]
    task = asyncio.create_task(late.lock("a").__aenter__())
    await asyncio.sleep(0.01)
    with pytest.raises(LockTaken):
        await store.lock("a", wait=0).__aenter__()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with store.lock("a", wait=0):
        pass


async def test_cancelled_while_it_is_given_up_gives_it_up(store: Memstore) -> None:
    late, held = Memstore(Late(store._backend)), asyncio.Event()  # type: ignore[arg-type]

    async def hold() -> None:
        async with late.lock("a"):
            held.set()

    task = asyncio.create_task(hold())
    await held.wait()
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with store.lock("a", wait=0):
        pass


def test_a_block_may_end_in_another_thread(store: Memstore) -> None:
    lock = store.lock("a")
    thread = threading.Thread(target=lock.__enter__)
    thread.start()
    thread.join(5)
    lock.__exit__(None, None, None)
    with store.lock("a", wait=0):
        pass


def test_one_object_serves_both_variants(store: Memstore) -> None:
    lock = store.lock("a")

    async def hold() -> bool:
        async with lock:
            return await lock.aowned()

    with lock:
        assert lock.owned()
    assert [asyncio.run(hold()) for _ in range(2)] == [True, True]


def test_interrupted_waiting_leaves_nothing(store: Memstore, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with store.lock("a"), monkeypatch.context() as patch:
        patch.setattr(time, "sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.lock("a").__enter__()
    with store.lock("a", wait=0):
        pass


def test_a_failure_to_give_up_is_raised(store: Memstore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(op: Any) -> Any:
        raise BackendError("no")

    with pytest.raises(BackendError, match="no"), store.lock("a"):
        monkeypatch.setattr(store._backend, "execute", refuse)


def test_bad_arguments(store: Memstore) -> None:
    for message, arguments in {
        "name must be": {"name": ""},
        "ttl must be a positive number of seconds or None, not 0": {"ttl": 0},
        "ttl must be a positive number of seconds, not None": {"ttl": None},
        "wait must be": {"wait": -1},
        "on_outage must be 'raise' or 'local'": {"on_outage": "ignore"},
    }.items():
        with pytest.raises(ValueError, match=message):
            store.lock(**{"name": "a", **arguments})  # type: ignore[arg-type]
    assert repr(store.lock("a", ttl=2, wait=3)) == "Lock('a', ttl=2.0, wait=3)"
