"""What the documented designs do, done here: each call of `docs/coming_from.md`, and what they promise together."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_memstore import BackendUnavailable, Memstore, MemstoreSettings
from langchain_memstore.kv import local_redis
from support.readme import table
from support.servers import Server

PAGE = (Path(__file__).parents[2] / "docs" / "coming_from.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", PAGE, re.MULTILINE))

UNLOCK = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end"


def summarize(previous: str, messages: list[BaseMessage]) -> str:
    return f"{previous} {len(messages)} more.".strip()


async def look_up(place: str) -> str:
    return place.upper()


@pytest.fixture(params=["local", "redis"])
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Where the store is; the environment says nothing."""
    monkeypatch.chdir(tmp_path)
    for name in MemstoreSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return "memory://" if request.param == "local" else request.getfixturevalue("family_server").url


@pytest.fixture
def store(url: str) -> Iterator[Memstore]:
    with Memstore.from_url(url) as store:
        yield store


@pytest.mark.parametrize("section", SECTIONS)
async def test_every_call_of_the_page(section: str, url: str) -> None:
    for name in ("default", "another"):
        await local_redis(name).flushall()
    cells = [here for _, here in table("there", SECTIONS[section])]
    assert len(cells) > 5
    names: dict[str, Any] = {
        **{name: globals()[name] for name in ("Memstore", "HumanMessage", "AIMessage", "local_redis", "UNLOCK")},
        **{"summarize": summarize, "look_up": look_up, "URL": url},
    }
    for cell in cells:
        source = re.fullmatch(r"`(.*)`", cell)
        assert source, f"{cell} is no code"
        code = compile(source[1], "coming_from.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if inspect.isawaitable(done := eval(code, names)):
            await done
    for value in names.values():
        if isinstance(value, Memstore):
            await value.aclose()


async def test_a_stand_in_for_a_client() -> None:
    """(a) Data that all clients share, and the script that gives a lock up."""
    async with local_redis("stand-in") as client, local_redis("stand-in", decode_responses=True) as other:
        assert await client.set("lock", "mine", ex=30, nx=True)
        assert not await other.set("lock", "theirs", ex=30, nx=True)
        assert await other.eval(UNLOCK, 1, "lock", "theirs") == 0
        assert await other.get("lock") == "mine" and await client.get("lock") == b"mine"
        assert 0 < await client.ttl("lock") <= 30
        assert await client.eval(UNLOCK, 1, "lock", "mine") == 1
        assert await client.rpush("queue", "a", "b") == 2
        assert [await other.lpop("queue"), await client.llen("queue"), await client.lpop("queue")] == ["a", 1, b"b"]
        assert await other.lpop("queue") is None
        assert await client.set("short", "x", px=20) and await client.ping()
        await asyncio.sleep(0.03)
        assert await other.get("short") is None
        with pytest.raises(redis.ResponseError):
            await client.incr("text") if await client.set("text", "x") else None


def test_a_stand_in_outlives_loops_and_clients() -> None:
    async def write() -> None:
        async with local_redis("loops") as client:
            await client.set("key", "value")

    async def read() -> Any:
        return await local_redis("loops", decode_responses=True).get("key")

    asyncio.run(write())
    assert asyncio.run(read()) == "value"
    with pytest.raises(ValueError, match="name must be"):
        local_redis("")


async def test_a_conversation_memory(url: str) -> None:
    """(b) 50 messages and a day, turns, a summary of what leaves, and a conversation that can be cleared."""
    async with Memstore.from_url(url, max_messages=50, ttl=86_400, summarizer=summarize) as store:
        history = store.history("session")
        for number in range(40):
            await history.aadd_messages([HumanMessage(f"question {number}"), AIMessage(f"answer {number}")])
        snapshot = await history.asnapshot()
        assert (len(snapshot.messages), snapshot.turns, snapshot.total) == (50, 40, 80)
        assert snapshot.summary and snapshot.summarized + snapshot.evicted == 30
        assert 86_000 < (snapshot.ttl or 0) <= 86_400
        assert await history.aregister_turn() == 41
        await history.aclear()
        assert (await history.aget_messages(), await history.aget_summary(), await history.aget_turns()) == (
            [],
            None,
            0,
        )


def test_a_conversation_goes_on_without_redis(start_server: Any) -> None:
    """(b) The fallback, and (c) graceful degradation: nothing is to be caught, and nothing is lost."""
    server: Server = start_server()
    with Memstore.from_url(server.open_url, max_messages=15) as store:
        history, kv = store.history("session"), store.kv()
        history.add_user_message("before")
        server.kill()
        history.add_ai_message("meanwhile")
        kv.set("key", 1)
        assert [message.text for message in history.messages] == ["before", "meanwhile"]
        assert history.search("mean")[0].text == "meanwhile"
        assert kv.get("key") == 1 and store.status.degraded
        with pytest.raises(BackendUnavailable):
            store.rate_limiter(1, 60).hit()
        assert store.rate_limiter(1, 60, on_outage="local").hit()
        with store.lock("a", on_outage="local") as lock:
            assert lock.owned()


def test_fifteen_messages_per_user(store: Memstore) -> None:
    """(c) The last 15 of each user, a day long, to be searched."""
    for user in ("ada", "ben"):
        history = store.history(user, max_messages=15, ttl=86_400)
        for number in range(20):
            history.add_user_message(f"{user} says {number}")
        assert [message.text for message in history.messages] == [f"{user} says {number}" for number in range(5, 20)]
        assert history.search("says 1") == [message for message in history.messages if "says 1" in message.text]
        assert 86_000 < (history.snapshot().ttl or 0) <= 86_400
    assert {hit.session_id for hit in store.search("SAYS 7")} == {"ada", "ben"}
    assert store.history("ada").search("says 1", case_sensitive=True, limit=1)


async def test_a_provider(store: Memstore) -> None:
    """(d) The verbs together: a counter that limits, a value that slides, a cache of what was looked up."""
    kv, calls = store.kv("app"), []

    @kv.cached(ttl=300)
    async def look(place: str) -> dict[str, str]:
        calls.append(place)
        return {"place": place}

    assert [await look("Porto"), await look("Porto")] == [{"place": "Porto"}] * 2 and calls == ["Porto"]
    assert [await kv.aincr("user:7:requests", ttl=60) for _ in range(3)] == [1, 2, 3]
    assert 50 < (await kv.attl("user:7:requests") or 0) <= 60
    await kv.aset("user:7", {"tags": {"a", "b"}}, ttl=5)
    assert await kv.aexpire("user:7", 500) and (await kv.attl("user:7") or 0) > 400
    assert sorted(await kv.akeys("user:*")) == ["user:7", "user:7:requests"]
    assert await kv.adelete_pattern("user:*") == 2
    limiter = store.rate_limiter(2, per=60, key="user:7")
    assert [await limiter.ahit() for _ in range(3)] == [True, True, False]


async def test_a_working_memory(store: Memstore) -> None:
    """(e) By conversation and type, and a twin that answers the same."""
    answers = []
    for memory in (store.working_memory(), Memstore.from_url("memory://").working_memory()):
        key = await memory.astore("conv", {"goal": "Porto"}, "EPISODIC", {"by": "planner"})
        first = await memory.aretrieve("conv", "EPISODIC")
        assert first is not None and await memory.aupdate("conv", {"goal": "Faro"}, "EPISODIC")
        last = await memory.aretrieve("conv", "EPISODIC")
        assert last is not None and last.created_at == first.created_at < last.updated_at
        found = [each.data async for each in memory.arecords("conv")]
        gone = [await memory.adelete("conv", "EPISODIC"), await memory.aretrieve("conv", "EPISODIC")]
        answers.append((key, first.data, last.data, last.metadata, found, gone))
    assert answers[0] == answers[1]
