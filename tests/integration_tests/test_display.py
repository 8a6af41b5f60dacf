"""What notebooks show of conversations in Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage

from langchain_memstore import Memstore
from support.servers import Server, every_server


@every_server
def test_looking_starts_no_ttl_anew(server: Server, admin: redis.Redis) -> None:
    with Memstore.from_url(server.url, ttl=1000) as store:
        history = store.history("<s>")
        history.add_messages([HumanMessage("hi"), AIMessage("hello")])
        for key in history.keys.siblings():
            admin.pexpire(key, 500_000)
        for shown in history, store, store.get_session_history("<s>"):
            data = shown._repr_mimebundle_()
            assert "&lt;s&gt;" in data["text/html"] and "<s>" in data["text/plain"]
            assert shown._repr_html_().startswith('<div class="memstore">')
        assert "expires in 8 min" in history._repr_html_()
        assert "redis · prefix conversation · 1 session" in store._repr_html_()
        assert max(admin.pttl(key) for key in history.keys.siblings()) <= 500_000


def test_a_store_of_many_sessions_is_shown_soon(server: Server, admin: redis.Redis) -> None:
    pipeline = admin.pipeline(transaction=False)
    for number in range(50_000):
        pipeline.hset(f"conversation:meta:{{{number}}}", mapping={"total": 1, "created": 1, "updated": 1})
    pipeline.execute()
    with Memstore.from_url(server.url) as store:
        start = time.perf_counter()
        shown = store._repr_html_()
        assert time.perf_counter() - start < 5
        assert "The listing stopped after 1000 sessions." in shown
        assert shown.count("<tr>") == 21


def test_a_store_among_many_other_keys_is_looked_through_for_a_while(server: Server, admin: redis.Redis) -> None:
    pipeline = admin.pipeline(transaction=False)
    for number in range(100_000):
        pipeline.set(f"other:{number}", 1)
    pipeline.execute()
    with Memstore.from_url(server.url) as store, pytest.MonkeyPatch.context() as patch:
        store.history("s").add_user_message("hi")
        patch.setattr("langchain_memstore.memstore.GLIMPSE", (1000, 60.0))
        assert "1 session<" in store._repr_html_()
        patch.setattr("langchain_memstore.memstore.GLIMPSE", (1000, 0.0))
        assert "or more" in store._repr_html_()


def test_redis_out_of_reach(start_server: Callable[..., Server]) -> None:
    server = start_server()
    with Memstore.from_url(server.open_url) as bridged, Memstore.from_url(server.open_url, fallback=False) as strict:
        bridged.history("s").add_user_message("before")
        server.kill()
        for shown in strict, strict.history("s"):
            assert "cannot be reached" in shown._repr_html_()
        bridged.history("s").add_user_message("after")
        for shown in bridged, bridged.history("s"):
            assert "Redis is out of reach since" in shown._repr_html_()
            assert "1 operation waits to be replayed" in shown._repr_html_()
        assert "before" in bridged.history("s")._repr_html_()


def test_in_a_running_loop(server: Server) -> None:
    async def cell(store: Memstore) -> str:
        history = store.history("s")
        await history.aadd_messages([HumanMessage("hi")])
        return store._repr_html_() + history._repr_html_() + (await history.asnapshot())._repr_html_()

    with Memstore.from_url(server.url) as store:
        assert asyncio.run(cell(store)).count('<div class="memstore">') == 3
        asyncio.run(store.aclose())
