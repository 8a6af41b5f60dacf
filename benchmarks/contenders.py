"""Who is measured: each contender keeps one conversation, bounded to a window, in a Redis of its own making."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

import orjson
import redis
import redis.asyncio
from agents.extensions.memory.redis_session import RedisSession
from langchain_community.chat_message_histories import RedisChatMessageHistory
from langchain_core.messages import BaseMessage, message_to_dict

from benchmarks import cheapest
from benchmarks.messages import as_item
from langchain_memstore import Memstore, codec

TTL = 86_400


class Clients:
    """What the contenders of one run share, each as its own documentation sets it up."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.redis = redis.Redis.from_url(url)
        self.aredis = redis.asyncio.Redis.from_url(url)
        self.store = Memstore.from_url(url, ttl=TTL)
        self.community = redis.Redis.from_url(url)
        self.agents = redis.asyncio.Redis.from_url(url)

    async def aclose(self) -> None:
        self.redis.close()
        self.community.close()
        await self.aredis.aclose()
        await self.agents.aclose()
        await self.store.aclose()


class Contender:
    """One conversation in one contender's hands."""

    name: ClassVar[str]
    operations: ClassVar[Sequence[str]] = ("append", "read", "turn")
    faces: ClassVar[Sequence[str]] = ("sync", "async")

    def __init__(self, clients: Clients, session_id: str, window: int) -> None:
        self.clients, self.session_id, self.window = clients, session_id, window
        self.key = f"{self.name}:{session_id}"

    def fill(self, messages: list[BaseMessage]) -> None:
        """Put messages there; not timed."""
        raise NotImplementedError

    def native(self, batch: list[BaseMessage]) -> Any:
        """Make of messages what this contender appends; not timed."""
        return batch

    def settle(self) -> None:
        """Bring a conversation back to its window, where the contender does not bound it; not timed."""

    def append(self, batch: Any) -> Any:
        raise NotImplementedError

    def read(self) -> Any:
        raise NotImplementedError

    async def aappend(self, batch: Any) -> Any:
        raise NotImplementedError

    async def aread(self) -> Any:
        raise NotImplementedError


class FloorA(Contender):
    """The bytes-level minimum in raw redis-py: entries are bytes already, and stay bytes."""

    name = "floor A"

    def fill(self, messages: list[BaseMessage]) -> None:
        self.clients.redis.rpush(self.key, *self.encode(messages))

    def native(self, batch: list[BaseMessage]) -> Any:
        return self.encode(batch)

    def encode(self, messages: Any) -> Any:
        return codec.encode(messages)

    def _push(self, pipeline: Any, entries: Any) -> Any:
        pipeline.rpush(self.key, *entries)
        pipeline.ltrim(self.key, -self.window, -1)
        pipeline.expire(self.key, TTL)
        return pipeline

    def _fetch(self, pipeline: Any) -> Any:
        pipeline.lrange(self.key, 0, -1)
        pipeline.expire(self.key, TTL)
        return pipeline

    def append(self, batch: Any) -> Any:
        return self._push(self.clients.redis.pipeline(), batch).execute()

    def read(self) -> Any:
        return self._fetch(self.clients.redis.pipeline()).execute()[0]

    async def aappend(self, batch: Any) -> Any:
        return await self._push(self.clients.aredis.pipeline(), batch).execute()

    async def aread(self) -> Any:
        return (await self._fetch(self.clients.aredis.pipeline()).execute())[0]


class FloorB(FloorA):
    """Floor A with the cheapest conceivable encoding; see `cheapest.py`."""

    name = "floor B"

    def native(self, batch: list[BaseMessage]) -> Any:
        return batch

    def encode(self, messages: Any) -> Any:
        return [cheapest.encode(message) for message in messages]

    def append(self, batch: Any) -> Any:
        return super().append(self.encode(batch))

    def read(self) -> Any:
        return [cheapest.decode(entry) for entry in super().read()]

    async def aappend(self, batch: Any) -> Any:
        return await super().aappend(self.encode(batch))

    async def aread(self) -> Any:
        return [cheapest.decode(entry) for entry in await super().aread()]


class Multi(FloorA):
    """A MULTI pipeline that leaves behind what our append does, but for the exactly-once; its entries are bytes."""

    name = "multi"
    operations = ("append",)

    def _push(self, pipeline: Any, entries: Any) -> Any:
        pipeline.rpush(self.key, *entries)
        pipeline.ltrim(self.key, -self.window, -1)
        pipeline.incrby(f"{self.key}:turns", 1)
        pipeline.hset(f"{self.key}:meta", mapping={"schema": 1, "updated": 1_700_000_000_000, "total": 1_000})
        for sibling in ("", ":meta", ":turns", ":summary"):
            pipeline.expire(self.key + sibling, TTL)
        return pipeline


class Ours(Contender):
    """This package, as its README sets it up."""

    name = "memstore"

    def __init__(self, clients: Clients, session_id: str, window: int) -> None:
        super().__init__(clients, session_id, window)
        self.history = clients.store.history(session_id, max_messages=window)

    def fill(self, messages: list[BaseMessage]) -> None:
        self.history.add_messages(messages)

    def append(self, batch: Any) -> Any:
        return self.history.add_messages(batch)

    def read(self) -> Any:
        return self.history.messages

    async def aappend(self, batch: Any) -> Any:
        return await self.history.aadd_messages(batch)

    async def aread(self) -> Any:
        return await self.history.aget_messages()


class Community(Contender):
    """langchain-community's class: newest first, unbounded, and its async methods call the sync ones in threads."""

    name = "community"

    def __init__(self, clients: Clients, session_id: str, window: int) -> None:
        super().__init__(clients, session_id, window)
        self.history = RedisChatMessageHistory(session_id, url=clients.url, key_prefix="community:", ttl=TTL)
        self.history.redis_client = clients.community  # in place of a client and its pool for each history

    def fill(self, messages: list[BaseMessage]) -> None:
        self.clients.redis.lpush(self.history.key, *[json.dumps(message_to_dict(message)) for message in messages])

    def settle(self) -> None:
        self.clients.redis.ltrim(self.history.key, 0, self.window - 1)

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
    faces = ("async",)

    def __init__(self, clients: Clients, session_id: str, window: int) -> None:
        super().__init__(clients, session_id, window)
        self.session = RedisSession(session_id, redis_client=clients.agents, key_prefix="agents", ttl=TTL)

    def fill(self, messages: list[BaseMessage]) -> None:
        items = [orjson.dumps(as_item(message)) for message in messages]
        self.clients.redis.rpush(f"agents:{self.session_id}:messages", *items)

    def native(self, batch: list[BaseMessage]) -> Any:
        return [as_item(message) for message in batch]

    def settle(self) -> None:
        self.clients.redis.ltrim(f"agents:{self.session_id}:messages", -self.window, -1)

    async def aappend(self, batch: Any) -> Any:
        return await self.session.add_items(batch)

    async def aread(self) -> Any:
        return await self.session.get_items()


CONTENDERS: Sequence[type[Contender]] = (FloorA, FloorB, Multi, Ours, Community, Agents)
