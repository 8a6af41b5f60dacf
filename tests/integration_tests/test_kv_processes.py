"""Locks and limiters across processes, and what a killed process leaves."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import pytest
import redis
import redis.asyncio

from langchain_memstore import LockTaken, Memstore
from support.servers import PASSWORD, USER, Server, every_server
from support.worlds import forking

PROCESSES = 8


def in_processes(work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Do work in several processes at once, and return what each of them did."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(PROCESSES)

    def run(pipe: Connection) -> None:
        try:
            start.wait(20)
            pipe.send(work(*arguments))
        except BaseException as error:
            pipe.send(error)

    pipes, processes = [], []
    for _ in range(PROCESSES):
        receiving, sending = context.Pipe(duplex=False)
        pipes.append(receiving)
        processes.append(context.Process(target=run, args=(sending,)))
        processes[-1].start()
    try:
        results = []
        for pipe in pipes:
            assert pipe.poll(60), "a process did not answer in time"
            results.append(pipe.recv())
    finally:
        for process in processes:
            process.join(5)
            process.kill()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def hit_for(url: str, seconds: float, blocking: bool) -> list[tuple[float, float]]:
    """Ask a limiter as often as it answers; return when each request that passed was asked for, and when it passed."""
    passed = []
    with Memstore.from_url(url, fallback=False) as store:
        limiter = store.rate_limiter(100, 1)
        until = time.monotonic() + seconds
        while (asked := time.monotonic()) < until:
            if limiter.acquire(blocking=blocking):
                passed.append((asked, time.monotonic()))
            else:
                time.sleep(0.001)
    return passed


@forking
@every_server
@pytest.mark.parametrize("blocking", [True, False], ids=["waiting", "asking"])
def test_processes_share_a_limit(family_server: Server, blocking: bool) -> None:
    """At most 100 pass in any second, of whoever asks, and at least 95 of those that may."""
    seconds = 4.0
    passed = sorted(each for part in in_processes(hit_for, family_server.url, seconds, blocking) for each in part)
    asked, heard = [ask for ask, _ in passed], sorted(hear for _, hear in passed)
    # The server counted a request some time between its being asked for and its being heard of. 101 of them within a
    # second for sure are those of which the first was counted after the second began, and the last before it ended.
    for first, last in zip(asked, heard[100:], strict=False):
        assert last - first > 1, "101 passed within a second"
    span = heard[-1] - asked[0]
    assert len(passed) >= 0.95 * 100 * int(span)
    assert len(passed) <= 100 * (int(span) + 1)


def add_under_lock(url: str, key: str, times: int) -> None:
    """Add to a number that nothing but the lock protects."""
    with Memstore.from_url(url, fallback=False) as store, redis.Redis.from_url(url, decode_responses=True) as client:
        lock = store.lock("counter")
        for _ in range(times):
            with lock:
                client.set(key, int(client.get(key) or 0) + 1)


async def add_in_tasks(url: str, key: str, tasks: int, times: int) -> None:
    async with Memstore.from_url(url, fallback=False) as store, redis.asyncio.Redis.from_url(url) as client:
        lock = store.lock("counter")

        async def add() -> None:
            for _ in range(times):
                async with lock:
                    seen = int(await client.get(key) or 0)
                    await asyncio.sleep(0)
                    await client.set(key, seen + 1)

        await asyncio.gather(*(add() for _ in range(tasks)))


def add_both_ways(url: str, key: str) -> None:
    add_under_lock(url, key, 20)
    asyncio.run(add_in_tasks(url, key, 5, 4))


@forking
def test_processes_under_a_lock_lose_nothing(family_server: Server, admin: redis.Redis) -> None:
    in_processes(add_both_ways, family_server.url, "conversation:sum")
    assert int(admin.get("conversation:sum") or 0) == PROCESSES * 40
    assert not admin.exists("conversation:lock:{counter}")


@every_server
async def test_tasks_under_a_lock_lose_nothing(family_server: Server, admin: redis.Redis) -> None:
    await add_in_tasks(family_server.url, "conversation:sum", 50, 4)
    assert int(admin.get("conversation:sum") or 0) == 200


def hold_for_good(url: str, pipe: Connection) -> None:
    with Memstore.from_url(url, fallback=False).lock("a", ttl=1):
        pipe.send("held")
        time.sleep(60)


@forking
def test_a_killed_holder_frees_the_lock_after_its_ttl(family_server: Server) -> None:
    receiving, sending = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("fork")
    holder = context.Process(target=hold_for_good, args=(family_server.url, sending))
    holder.start()
    try:
        assert receiving.poll(20) and receiving.recv() == "held"
        held = time.monotonic()
        os.kill(holder.pid or 0, signal.SIGKILL)
        holder.join(5)
        with Memstore.from_url(family_server.url, fallback=False) as store:
            with pytest.raises(LockTaken), store.lock("a", wait=0.1):
                pass
            with store.lock("a", wait=10) as lock:
                assert lock.owned()
                assert 0.8 < time.monotonic() - held < 3
    finally:
        holder.kill()


@every_server
async def test_excludes_redis_own_lock(family_server: Server) -> None:
    """The lock is kept as redis-py keeps its own, so that code that uses either is told apart by neither."""
    with (
        Memstore.from_url(family_server.url, fallback=False) as store,
        redis.Redis(port=family_server.port, username=USER, password=PASSWORD) as client,
    ):
        theirs = client.lock("conversation:lock:{a}", timeout=60, blocking=False)
        with store.lock("a"):
            assert not theirs.acquire()
        assert theirs.acquire()
        with pytest.raises(LockTaken), store.lock("a", wait=0):
            pass
        with contextlib.suppress(redis.exceptions.ResponseError):  # some of their commands are not among our rights
            theirs.release()


async def test_cancelled_tasks_leave_nothing(family_server: Server, admin: redis.Redis) -> None:
    """Tasks that are cancelled at whatever moment, while they wait or take it, leave no lock behind."""
    async with Memstore.from_url(family_server.url, fallback=False) as store:
        for delay in range(60):
            task = asyncio.create_task(store.lock("a", ttl=60).__aenter__())
            await asyncio.sleep(delay / 20_000)
            task.cancel()
            try:
                lock = await task
            except asyncio.CancelledError:
                pass
            else:
                await lock.__aexit__(None, None, None)
            async with store.lock("a", wait=2):
                pass
    assert not admin.exists("conversation:lock:{a}")


@every_server
def test_what_is_known_of_the_server(family_server: Server, admin: redis.Redis) -> None:
    admin.config_set("slowlog-log-slower-than", 0)
    admin.slowlog_reset()
    try:
        with Memstore.from_url(family_server.url, fallback=False) as store:
            kv = store.kv()
            kv.mset([(str(number), "x" * 1000) for number in range(50)])
            kv.mget(["0", "nothing"])
            info, slow = kv.info(), kv.slowlog(100)
            assert asyncio.run(kv.ainfo()).keys == info.keys == 50
            assert asyncio.run(kv.aslowlog(3))[0].number > slow[0].number
        assert info.backend == "redis" and info.clients and info.commands_per_second >= 0
        assert 50_000 < info.used_memory <= (info.peak_memory or 0)
        assert info.hit_rate is not None and 0 < info.hit_rate < 1
        assert [entry.command for entry in slow if entry.command.startswith("GET")] == [
            "GET conversation:kv:{nothing}",
            "GET conversation:kv:{0}",
        ]
        assert all(abs(entry.at.timestamp() - time.time()) < 60 and entry.seconds < 10 for entry in slow)
    finally:
        admin.config_set("slowlog-log-slower-than", 10_000)
