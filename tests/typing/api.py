"""Every public call, as a type checker is to see it; checked, not run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import redis
import redis.asyncio
from agents import Agent, Runner, Session, SessionSettings, TResponseInputItem
from langchain.agents import create_agent
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.globals import set_llm_cache
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.runnables import ConfigurableFieldSpec, Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.stores import BaseStore
from pydantic import BaseModel
from redis.credentials import UsernamePasswordCredentialProvider
from typing_extensions import assert_type

from langchain_memstore import (
    BackendClosed,
    BackendError,
    BackendFull,
    BackendUnavailable,
    ChatMessageHistory,
    DecryptError,
    LocalChatMessageHistory,
    Memstore,
    MemstoreError,
    MemstoreSettings,
    MessageDecodeError,
    MessageEncodeError,
    MissingPackage,
    RedisChatMessageHistory,
    RunnableWithHistory,
    SessionInfo,
    Snapshot,
    Status,
    __version__,
    display,
)
from langchain_memstore.integrations.agents import HistoryMiddleware
from langchain_memstore.integrations.importers import (
    CommunityLists,
    Histories,
    ImportReport,
    JsonDocuments,
    JsonDump,
    JsonLines,
    Problem,
    Source,
    aexport_conversations,
    aimport_conversations,
    export_conversations,
    import_conversations,
)
from langchain_memstore.integrations.openai_agents import MemstoreSession
from langchain_memstore.kv import (
    CacheInfo,
    KeyValueStore,
    Lock,
    SlowCommand,
    StoreInfo,
    WorkingMemory,
    WorkingMemoryRecord,
    local_redis,
)

version: str = __version__


# Stores


def count_tokens(messages: Sequence[BaseMessage]) -> int:
    return len(messages)


assert_type(Memstore.from_url(), Memstore)
Memstore.from_url("memory://name")
Memstore.from_url("redis://localhost:6379/0", max_messages=50, ttl=86400)
Memstore.from_url(
    "redis://localhost:6379/0",
    key_prefix="chat",
    max_messages=None,
    max_turns=10,
    max_tokens=4000,
    token_counter=count_tokens,
    ttl=timedelta(hours=1),
    refresh_ttl_on_read=False,
    summary_role="human",
    on_corrupt="raise",
    encryption_keys=[b"0" * 32, "a-url-safe-base64-text"],
    accept_plaintext=True,
    compress_above=4096,
    max_connections=5,
    socket_timeout=1.5,
    socket_connect_timeout=None,
    credential_provider=UsernamePasswordCredentialProvider("user", "password"),
)
Memstore.from_url("memory://", summary_role="robot")  # type: ignore[arg-type]
Memstore.from_url("redis://host", credential_provider="password")  # type: ignore[arg-type]
Memstore.from_url("memory://", max_message=50)  # type: ignore[call-arg]
assert_type(Memstore.from_env(), Memstore)
Memstore.from_env(max_messages=20, max_connections=5)
assert_type(Memstore.from_client(redis.Redis()), Memstore)
Memstore.from_client(redis.Redis(), redis.asyncio.Redis(), ttl=None)
Memstore.from_client(async_client=redis.asyncio.Redis(), max_turns=3)
Memstore.from_client(redis.Redis(), max_connections=5)  # type: ignore[call-arg]


class MyStore(Memstore):
    pass


assert_type(MyStore.from_url(), MyStore)

with Memstore.from_url() as store:
    assert_type(store, Memstore)

assert_type(store.status, Status)
assert_type(store.status.backend, str)
assert_type(store.status.degraded, bool)
assert_type(store.status.pending, int)
assert_type(store.status.since, datetime | None)
store.close()

history = store.history("session", max_messages=20, ttl=None)
assert_type(history, ChatMessageHistory)
base: BaseChatMessageHistory = store.get_session_history("session")

assert_type(store.sessions(), Iterator[SessionInfo])
for info in store.sessions(match="user-7/*"):
    assert_type(info.session_id, str)
    assert_type(info.messages, int)
    assert_type(info.turns, int)
    assert_type(info.total, int)
    assert_type(info.ttl, float | None)
    assert_type(info.summary, bool)
    assert_type(info.created, datetime)
    assert_type(info.updated, datetime)


async def stores() -> None:
    async with Memstore.from_url() as store:
        assert_type(store, Memstore)
        assert_type(store.asessions("user-7/*"), AsyncIterator[SessionInfo])
        async for info in store.asessions():
            assert_type(info, SessionInfo)
    await store.aclose()


settings = MemstoreSettings.load()
assert_type(settings, MemstoreSettings)
assert_type(settings.url(), str)
Memstore.from_url(settings.url(), **settings.options())


# Histories

base = history
base = RedisChatMessageHistory("session")
base = LocalChatMessageHistory("session")
RedisChatMessageHistory("session", "redis://localhost:6379/0", "chat", 3600)
RedisChatMessageHistory("session", url="redis://localhost:6379/0", ttl=timedelta(hours=1), max_messages=20)
RedisChatMessageHistory("session", redis_client=redis.Redis(), async_client=redis.asyncio.Redis(), key_prefix="chat")
RedisChatMessageHistory("session", redis_url="redis://localhost:6379/0", max_connections=5, socket_timeout=None)
LocalChatMessageHistory("session", name="tests", max_messages=20, ttl=None)
LocalChatMessageHistory("session", max_connections=5)  # type: ignore[call-arg]

assert_type(history.session_id, str)
assert_type(history.keys.messages, str)
assert_type(history.add_messages([HumanMessage("a"), AIMessage("b")]), None)
history.add_messages((HumanMessage("a"),))
history.add_messages("a")  # type: ignore[arg-type]
history.add_message(HumanMessage("a"))
history.add_user_message("a")
history.add_user_message(HumanMessage("a"))
history.add_ai_message("b")
history.add_ai_message(AIMessage("b"))
assert_type(history.messages, list[BaseMessage])
assert_type(history.summary, str | None)
history.set_summary("s")
history.set_summary(None)
assert_type(history.turns, int)
assert_type(history.register_turn(), int)
assert_type(history.pop(), list[BaseMessage])
history.pop(2)
assert_type(history.touch(), bool)
assert_type(history.clear(), None)

snapshot = history.snapshot()
assert_type(snapshot, Snapshot)
assert_type(snapshot.messages, list[BaseMessage])
assert_type(snapshot.summary, str | None)
assert_type(snapshot.turns, int)
assert_type(snapshot.total, int)
assert_type(snapshot.ttl, float | None)


async def histories() -> None:
    await history.aadd_messages([HumanMessage("a")])
    await history.aadd_message(HumanMessage("a"))
    await history.aadd_user_message("a")
    await history.aadd_ai_message("b")
    assert_type(await history.aget_messages(), list[BaseMessage])
    assert_type(await history.aget_summary(), str | None)
    await history.aset_summary("s")
    assert_type(await history.aget_turns(), int)
    assert_type(await history.aregister_turn(), int)
    assert_type(await history.asnapshot(), Snapshot)
    assert_type(await history.apop(2), list[BaseMessage])
    assert_type(await history.atouch(), bool)
    assert_type(await history.aclear(), None)


# Runnables


def answer(messages: list[BaseMessage]) -> AIMessage:
    return AIMessage("b")


chat = RunnableWithHistory(RunnableLambda(answer), store.history)
runnable: Runnable[Any, Any] = chat
RunnableWithHistory(answer, store.history)
RunnableWithHistory(
    answer,
    lambda user, conversation: store.history(f"{user}/{conversation}"),
    input_messages_key="question",
    output_messages_key="answer",
    history_messages_key="history",
    history_factory_config=[
        ConfigurableFieldSpec(id="user", annotation=str),
        ConfigurableFieldSpec(id="conversation", annotation=str),
    ],
    save_input_on_error=True,
)
config: RunnableConfig = {"configurable": {"session_id": "session"}}
chat.invoke("a", config)
chat.invoke([HumanMessage("a")], config)
chat.invoke({"question": "a"}, config)
chat.batch(["a", "b"], [config, config])
for _ in chat.stream("a", config):
    pass
assert_type(chat.config_specs, list[ConfigurableFieldSpec])


async def runnables() -> None:
    await chat.ainvoke("a", config)
    await chat.abatch(["a"], config)
    async for _ in chat.astream("a", config):
        pass


RunnableWithMessageHistory(RunnableLambda(answer), store.get_session_history)


# Moving in and out

kept = {"session": store.history("session")}
sources: list[Source[Any]] = [CommunityLists(store), JsonDocuments(store, "chat:"), JsonDump("dump.jsonl")]
sources += [Histories(kept), JsonLines(Path("backup.jsonl")), JsonLines(BytesIO())]


def told(done: int, total: int | None) -> None: ...


assert_type(import_conversations(store, sources[0]), ImportReport)
report = import_conversations(store, JsonLines("x"), dry_run=True, force=True, skip_corrupt=True, progress=told)
assert_type(report.imported, int)
assert_type(report.existing, list[str])
assert_type(report.problems, list[Problem])
assert_type(report.problems[0].place, str)
assert_type(report.complete, bool)
assert_type(export_conversations(store, "user-7/*"), Iterator[bytes])


async def moving() -> None:
    assert_type(await aimport_conversations(store, CommunityLists(store), progress=told), ImportReport)
    assert_type(aexport_conversations(store), AsyncIterator[bytes])


# Agents


@dataclass
class Context:
    session_id: str


class Answer(BaseModel):
    text: str


middleware = HistoryMiddleware(store.history)
create_agent("openai:gpt-5", [], middleware=[middleware])
create_agent("openai:gpt-5", [], middleware=[middleware], context_schema=Context, response_format=Answer)

session = MemstoreSession("session", store, session_settings=SessionSettings(limit=20), max_messages=50)
sdk_session: Session = session
MemstoreSession("session", store, max_message=50)  # type: ignore[call-arg]
assert_type(session.session_id, str)


async def sessions() -> None:
    assert_type(await session.get_items(limit=2), list[TResponseInputItem])
    assert_type(await session.add_items([{"role": "user", "content": "a"}]), None)
    assert_type(await session.pop_item(), TResponseInputItem | None)
    assert_type(await session.clear_session(), None)
    await Runner.run(Agent("a"), "a", session=session)


# The key-value family

kv = store.kv("scores", ttl=timedelta(hours=1))
assert_type(kv, KeyValueStore)
base_store: BaseStore[str, Any] = kv
assert_type(kv.set("a", 1, ttl=5, nx=True), bool)
assert_type(kv.mget(["a"]), list[Any])
assert_type(kv.delete("a"), bool)
assert_type(kv.exists("a"), bool)
assert_type(kv.expire("a", None), bool)
assert_type(kv.ttl("a"), float | None)
assert_type(kv.incr("a", by=2, ttl=timedelta(minutes=1)), int)
assert_type(kv.keys("a*"), list[str])
assert_type(kv.yield_keys(prefix="a"), Iterator[str])
assert_type(kv.delete_pattern("a*"), int)
assert_type(kv.info(), StoreInfo)
assert_type(kv.slowlog(5), list[SlowCommand])
kv.mset([("a", 1)])
kv.mset({"a": 1})  # type: ignore[arg-type]


@kv.cached(ttl=300)
def price(item: str, currency: str = "EUR") -> float:
    return 1.0


@kv.cached(ttl=None, key=lambda item: item)
async def stock(item: str) -> int:
    return 1


class Shop:
    @kv.cached(key=lambda self, item: item)
    def price(self, item: str) -> float:
        return 1.0


assert_type(price("tea"), float)
price("tea", currency="USD")
price(7)  # type: ignore[arg-type]
price()  # type: ignore[call-arg]
assert_type(price.invalidate("tea"), bool)
price.invalidate(7)  # type: ignore[arg-type]
assert_type(price.cache_clear(), int)
assert_type(price.cache_info(), CacheInfo)
assert_type(Shop().price("tea"), float)

set_llm_cache(store.cache(ttl=60))
limiter: BaseRateLimiter = store.rate_limiter(100, per=60, key="user-7", on_outage="local")
assert_type(store.rate_limiter(100, 60).hit(), bool)
assert_type(store.rate_limiter(100, 60).remaining(), int)
store.rate_limiter(100, 60, on_outage="ignore")  # type: ignore[arg-type]

with store.lock("report", ttl=30, wait=0) as lock:
    assert_type(lock, Lock)
    assert_type(lock.owned(), bool)
    lock.extend(60)

memory = store.working_memory(prefix="memory", ttl=43200, on_outage="raise")
store.kv(on_outage="local")
store.kv(on_outage="ignore")  # type: ignore[arg-type]
assert_type(memory, WorkingMemory)
assert_type(memory.store("c", {"a": 1}, memory_type="EPISODIC", metadata={"b": 2}), str)
assert_type(memory.store_many([("c", 1)]), list[str])
assert_type(memory.retrieve("c"), WorkingMemoryRecord | None)
assert_type(memory.update("c", 1), bool)
assert_type(memory.delete("c"), bool)
assert_type(memory.records(memory_type="EPISODIC"), Iterator[WorkingMemoryRecord])
assert_type(local_redis("name", decode_responses=True), redis.asyncio.Redis)


async def family() -> None:
    assert_type(await kv.aset("a", 1), bool)
    assert_type(await kv.aincr("a"), int)
    assert_type(await kv.ainfo(), StoreInfo)
    assert_type(kv.ayield_keys(), AsyncIterator[str])
    assert_type(await stock("tea"), int)
    assert_type(await stock.ainvalidate("tea"), bool)
    assert_type(await store.rate_limiter(100, 60).ahit(), bool)
    async with store.lock("report") as lock:
        assert_type(lock, Lock)
        await lock.aextend()
    assert_type(await memory.aretrieve("c"), WorkingMemoryRecord | None)
    async for record in memory.arecords("c"):
        assert_type(record.data, Any)


# Errors

errors: list[type[MemstoreError]] = [MessageEncodeError, MessageDecodeError, DecryptError, MissingPackage, BackendError]
refusals: list[type[BackendError]] = [BackendUnavailable, BackendFull, BackendClosed]
values: list[type[ValueError]] = [MessageEncodeError, MessageDecodeError]


# In a notebook

page = display.Page(messages=[HumanMessage("hello")])
assert_type(display.text(page), str)
assert_type(display.html(page), str)
assert_type(display.message_text(HumanMessage("hello")), str)
assert_type(display.snapshot_page(store.history("user-1").snapshot()), display.Page)
assert_type(store._repr_html_(), str)
assert_type(store.history("user-1")._repr_html_(), str)
assert_type(store.history("user-1").snapshot()._repr_html_(), str)
