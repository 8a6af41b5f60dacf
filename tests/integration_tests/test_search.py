"""Searching conversations in Redis: the same answers as in the process, page by page, and no TTL is refreshed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from langchain_memstore import Memstore
from langchain_memstore.backends.redis.backend import RedisBackend
from langchain_memstore.backends.redis.connections import Connections
from langchain_memstore.ops.base import Op
from support.servers import Server, every_server

R = TypeVar("R")

TRIP = [
    HumanMessage("Trains from Porto to the Straße of Gibraltar?"),
    AIMessage("", tool_calls=[{"name": "find_trains", "args": {"from": "Porto", "to": "São Bento"}, "id": "a"}]),
    ToolMessage("Two trains: 08:15, 13:40.", tool_call_id="a"),
    AIMessage("There are two; PORTO is where you board."),
]


@pytest.fixture
def store(server: Server) -> Iterator[Memstore]:
    with Memstore.from_url(server.url, ttl=100, max_messages=3, summarize="manual") as store:
        yield store


@every_server
@pytest.mark.parametrize(
    ("text", "options", "found"),
    [
        ("porto", {}, [0, 1, 3]),  # the first of them waits for a summary
        ("Porto", {"case_sensitive": True}, [0, 1]),
        ("STRASSE", {}, [0]),
        ("são bento", {}, [1]),
        ("two", {"types": ["tool"]}, [2]),
        ("porto", {"types": "ai", "limit": 1}, [1]),
        ("Lisboa", {}, []),
    ],
)
async def test_what_is_found(store: Memstore, text: str, options: dict[str, object], found: list[int]) -> None:
    history = store.history("trip")
    history.add_messages(TRIP)
    assert history.snapshot().evicted == 1
    expected = [TRIP[at] for at in found]
    assert history.search(text, **options) == await history.asearch(text, **options) == expected
    assert [hit.message for hit in store.search(text, **options)] == expected
    assert [hit.message async for hit in store.asearch(text, **options)] == expected
    await store.aclose()


async def test_no_ttl_is_refreshed(store: Memstore, admin: redis.Redis) -> None:
    history = store.history("trip")
    history.add_messages(TRIP)
    keys = [key for key in history.keys.siblings() if admin.pexpire(key, 5000)]
    assert len(keys) == 4  # all but the summary
    assert history.search("Porto") and await history.asearch("Porto")
    assert [*store.search("Porto")] and [hit async for hit in store.asearch("Porto")]
    assert all(0 < admin.pttl(key) <= 5000 for key in keys)
    assert history.messages  # reading does refresh it
    assert all(admin.pttl(key) > 90_000 for key in keys)
    await store.aclose()


class Recording(RedisBackend):
    """Redis, with a note of the operations that are executed."""

    def __init__(self, connections: Connections) -> None:
        super().__init__(connections)
        self.done: list[str] = []

    def execute(self, op: Op[R]) -> R:
        self.done.append(type(op).__name__)
        return super().execute(op)

    async def aexecute(self, op: Op[R]) -> R:
        self.done.append(type(op).__name__)
        return await super().aexecute(op)


async def test_hits_come_before_the_listing_is_over(server: Server) -> None:
    backend = Recording(Connections.of_url(server.url))
    async with Memstore(backend) as store:
        for number in range(800):  # more than a page
            store.history(f"session-{number}").add_messages([HumanMessage(f"hello {number}")])
        backend.done.clear()

        hits = store.search("hello")
        assert backend.done == []
        first = next(hits)
        assert backend.done.count("ReadEntries") == 1
        assert backend.done.count("Scan") == 1
        found = {hit.session_id for hit in (first, *hits)}
        assert len(found) == 800 == backend.done.count("ReadEntries")
        assert backend.done.count("Scan") > 1
        backend.done.clear()

        async for hit in store.asearch("hello", limit=1):
            assert hit.session_id in found
        assert backend.done.count("ReadEntries") == 1
        assert backend.done.count("Scan") == 1
