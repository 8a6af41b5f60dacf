"""Sentinels that hang, or are away, while the master is well: no call waits for them."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.sentinel import Sentinel

from langchain_memstore import BackendUnavailable, Memstore
from support.servers import COMMANDS, Server
from support.topologies import SERVICE, WatchedServers
from support.variants import acall
from support.waiting import wait_until
from support.ways import LOGIN

OBSERVED = 3.5  # seconds for which calls are made: the sentinels are asked every second


@pytest.fixture(scope="module")
def running_watched() -> Iterator[WatchedServers]:
    """Servers of these tests' own: sentinels that were frozen start no failover for half a minute."""
    watched = WatchedServers(next(iter(COMMANDS.values())))
    yield watched
    watched.stop()


@contextmanager
def hung(sentinels: list[Server]) -> Iterator[None]:
    """Freeze sentinels, and let them go on after it."""
    for sentinel in sentinels:
        sentinel.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for sentinel in sentinels:
            sentinel.signal(signal.SIGCONT)


async def times(variant: str, store: Memstore, seconds: float = OBSERVED) -> list[float]:
    """Make calls, and return how long each took."""
    taken = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        start = time.monotonic()
        await acall(variant, store.history("session").register_turn)
        taken.append(time.monotonic() - start)
        await asyncio.sleep(0.02)
    return taken


@pytest.mark.parametrize("how_many", [1, 3])
async def test_no_call_waits_for_sentinels_that_hang(
    watched: WatchedServers, open_store: Callable[..., Memstore], variant: str, how_many: int
) -> None:
    store = open_store(watched.url, fallback=False)
    await acall(variant, store.history("session").register_turn)
    with hung(watched.sentinels[:how_many]):
        assert max(await times(variant, store)) < 0.5


async def test_a_new_connection_goes_to_the_last_master_known(
    watched: WatchedServers, open_store: Callable[..., Memstore], variant: str
) -> None:
    store = open_store(watched.url, fallback=False)
    await acall(variant, store.history("session").register_turn)
    master = watched.master
    with hung(watched.sentinels), master.admin() as admin:
        admin.client_kill_filter(_type="normal", skipme=True)
        assert max(await times(variant, store, 1.5)) < 0.5


@pytest.mark.parametrize("how_many", [1, 3])
async def test_the_first_call_waits_a_second_at_most(
    watched: WatchedServers, open_store: Callable[..., Memstore], variant: str, how_many: int
) -> None:
    store = open_store(watched.url, fallback=False)
    with hung(watched.sentinels[:how_many]):
        start = time.monotonic()
        if how_many == 1:
            await acall(variant, store.history("session").register_turn)
            assert time.monotonic() - start < 1.5
        else:
            with pytest.raises(BackendUnavailable, match="no sentinel names the master"):
                await acall(variant, store.history("session").register_turn)
            assert time.monotonic() - start < 7


@pytest.mark.parametrize("lent", ["sync", "async"])
async def test_no_call_of_a_borrowed_client_waits_either(watched: WatchedServers, lent: str) -> None:
    sentinel = (Sentinel if lent == "sync" else AsyncSentinel)(watched.hosts, socket_timeout=5)
    client = sentinel.master_for(SERVICE, **LOGIN)
    store = Memstore.from_client(*([client] if lent == "sync" else [None, client]), fallback=False)
    await acall(lent, store.history("session").register_turn)
    with hung(watched.sentinels):
        assert max(await times(lent, store)) < 0.5
    await asyncio.sleep(0.2)
    store.close()
    for each in (client, *sentinel.sentinels):
        await each.aclose() if lent == "async" else each.close()


async def test_nothing_that_asks_is_left(watched: WatchedServers, variant: str) -> None:
    def asking() -> list[str]:
        threads = [each.name for each in threading.enumerate() if each.name == "memstore-sentinel"]
        return threads + [repr(task) for task in asyncio.all_tasks() if "_ask_one" in repr(task)]

    with hung(watched.sentinels[:2]):
        async with Memstore.from_url(watched.url, fallback=False) as store:
            await acall(variant, store.history("session").register_turn)
            assert asking()
        wait_until(lambda: not asking(), 1)
        store = Memstore.from_url(watched.url, fallback=False)
        await acall(variant, store.history("session").register_turn)
        del store
        gc.collect()
        await asyncio.sleep(1.2)
        wait_until(lambda: not asking(), 2)
