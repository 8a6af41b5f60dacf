"""What other packages offer in its place."""

from __future__ import annotations

import json
import warnings
from functools import cache
from typing import Any

import orjson
from agents.extensions.memory.redis_session import RedisSession
from langchain_community.chat_message_histories import RedisChatMessageHistory
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.messages import BaseMessage, message_to_dict
from llama_index.storage.chat_store.redis import RedisChatStore

from benchmarks.contenders import TTL, Clients, Contender
from benchmarks.items import as_agents_item, as_llama_message


class Community(Contender):
    """langchain-community's class: newest first, unbounded, and its async methods call the sync ones in threads."""

    name = "community"

    def __init__(self, clients: Clients, session_id: str, window: int) -> None:
        super().__init__(clients, session_id, window)
        self.history = RedisChatMessageHistory(session_id, url=clients.url, key_prefix="community:", ttl=TTL)
        self.history.redis_client.close()
        self.history.redis_client = clients.community  # in place of a client and its pool for each history

    def fill(self, messages: list[BaseMessage]) -> None:
        self.clients.redis.lpush(self.history.key, *[json.dumps(message_to_dict(message)) for message in messages])

    def settle(self, pipeline: Any) -> None:
        pipeline.ltrim(self.history.key, 0, self.window - 1)

    def append(self, batch: Any) -> Any:
        return self.history.add_messages(batch)

    def read(self) -> Any:
        return self.history.messages

    async def aappend(self, batch: Any) -> Any:
        return await self.history.aadd_messages(batch)

    async def aread(self) -> Any:
        return await self.history.aget_messages()


class Agents(Contender):
    """openai-agents' RedisSession: its own items (plain dicts, not message objects), unbounded, async only."""

    name = "openai-agents"
    variants = ("async",)

    def __init__(self, clients: Clients, session_id: str, window: int) -> None:
        super().__init__(clients, session_id, window)
        self.session = RedisSession(session_id, redis_client=clients.agents, key_prefix="agents", ttl=TTL)
        self.list = f"agents:{session_id}:messages"

    def fill(self, messages: list[BaseMessage]) -> None:
        self.clients.redis.rpush(self.list, *[orjson.dumps(as_agents_item(message)) for message in messages])

    def native(self, batch: list[BaseMessage]) -> Any:
        return [as_agents_item(message) for message in batch]

    def settle(self, pipeline: Any) -> None:
        pipeline.ltrim(self.list, -self.window, -1)

    async def aappend(self, batch: Any) -> Any:
        return await self.session.add_items(batch)

    async def aread(self) -> Any:
        return await self.session.get_items()


class Llama(Contender):
    """llama-index's RedisChatStore: its own messages, unbounded; each message is two round trips."""

    name = "llama-index"

    def __init__(self, clients: Clients, session_id: str, window: int) -> None:
        super().__init__(clients, session_id, window)
        self.store = _llama_store(clients)

    def fill(self, messages: list[BaseMessage]) -> None:
        self.clients.redis.rpush(self.key, *[as_llama_message(message).model_dump_json() for message in messages])

    def native(self, batch: list[BaseMessage]) -> Any:
        return [as_llama_message(message) for message in batch]

    def settle(self, pipeline: Any) -> None:
        pipeline.ltrim(self.key, -self.window, -1)

    def append(self, batch: Any) -> Any:
        for message in batch:
            self.store.add_message(self.key, message)

    def read(self) -> Any:
        return self.store.get_messages(self.key)

    async def aappend(self, batch: Any) -> Any:
        for message in batch:
            await self.store.async_add_message(self.key, message)

    async def aread(self) -> Any:
        return await self.store.aget_messages(self.key)


class InMemory(Contender):
    """langchain-core's class: a list that keeps the very objects; no bound, no copy, no expiry, no other process."""

    name = "langchain-core"

    def __init__(self, clients: Clients, session_id: str, window: int) -> None:
        super().__init__(clients, session_id, window)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is deprecated
            self.history = InMemoryChatMessageHistory()

    def fill(self, messages: list[BaseMessage]) -> None:
        self.history.add_messages(messages)

    def settle(self, pipeline: Any) -> None:
        del self.history.messages[: -self.window]

    def append(self, batch: Any) -> Any:
        return self.history.add_messages(batch)

    def read(self) -> Any:
        return self.history.messages

    async def aappend(self, batch: Any) -> Any:
        return await self.history.aadd_messages(batch)

    async def aread(self) -> Any:
        return await self.history.aget_messages()


@cache
def _llama_store(clients: Clients) -> RedisChatStore:
    return RedisChatStore(redis_client=clients.llama, aredis_client=clients.allama, ttl=TTL)
