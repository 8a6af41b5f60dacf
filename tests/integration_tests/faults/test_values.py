"""Values while a server is away, and when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from langchain_memstore import BackendUnavailable, Memstore
from support.servers import Server
from support.waiting import wait_until


async def test_values_in_and_after_an_outage(durable: Server, open_store: Callable[..., Memstore]) -> None:
    store = open_store(durable.open_url)
    kv, local, memory = store.kv(), store.kv(on_outage="local"), store.working_memory()
    kv.mset([("visits", 40), ("address", "Porto")])
    memory.store("c", {"goal": "Porto", "budget": 300})
    cache, double = store.cache(), kv.cached(name="double")(lambda x: 2 * x)
    assert double(2) == 4
    durable.kill()
    with pytest.raises(BackendUnavailable, match=r"key 'conversation:kv:\{address\}'.*on_outage"):
        kv.get("address")
    with pytest.raises(BackendUnavailable, match=r"key 'memory:WORKING_MEMORY:\{c\}'"):
        await memory.aupdate("c", {"goal": "Lisbon"})
    assert (local.get("address"), local.incr("visits"), await local.aincr("visits")) == (None, 1, 2)
    await kv.aset("otp", 123456, ttl=0.4)
    kv.set("session", "Ada", ttl=0.4)
    assert kv.expire("session", 60)
    assert (double(2), cache.lookup("p", "m")) == (4, None)
    await asyncio.sleep(0.5)
    assert kv.mget(["otp", "session"]) == [None, "Ada"]
    durable.start()
    wait_until(lambda: not store.status.degraded)
    assert kv.mget(["otp", "session", "visits", "address"]) == [None, "Ada", 42, "Porto"]
    assert 50 < (kv.ttl("session") or 0) < 60
    record = memory.retrieve("c")
    assert record is not None and record.data == {"goal": "Porto", "budget": 300}
