"""The least that raw redis-py takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import BaseMessage

from benchmarks import cheapest
from benchmarks.contenders import TTL, Contender
from langchain_memstore import codec


class FloorA(Contender):
    """The bytes-level minimum in raw redis-py: entries are bytes already, and stay bytes."""

    name = "floor A"

    def fill(self, messages: list[BaseMessage]) -> None:
        self.clients.redis.rpush(self.key, *self.encode(messages))

    def native(self, batch: list[BaseMessage]) -> Any:
        return self.encode(batch)

    def encode(self, messages: Any) -> Any:
        return codec.encode(messages)

    def push(self, pipeline: Any, entries: Any) -> Any:
        pipeline.rpush(self.key, *entries)
        pipeline.ltrim(self.key, -self.window, -1)
        pipeline.expire(self.key, TTL)
        return pipeline

    def fetch(self, pipeline: Any) -> Any:
        pipeline.lrange(self.key, 0, -1)
        pipeline.expire(self.key, TTL)
        return pipeline

    def append(self, batch: Any) -> Any:
        return self.push(self.clients.redis.pipeline(), batch).execute()

    def read(self) -> Any:
        return self.fetch(self.clients.redis.pipeline()).execute()[0]

    async def aappend(self, batch: Any) -> Any:
        return await self.push(self.clients.aredis.pipeline(), batch).execute()

    async def aread(self) -> Any:
        return (await self.fetch(self.clients.aredis.pipeline()).execute())[0]


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


class OnePipeline(FloorA):
    """Floor A by hand, by someone who has all tasks' operations together: one pipeline takes those of all."""

    name = "one pipeline"
    variants = ()
    """It has no operation of one conversation: `atogether` has those of a group."""

    async def atogether(self, group: Sequence[OnePipeline], operation: str, batch: Any) -> None:
        """Do an operation of each conversation of a group."""
        if operation != "append":
            pipeline = self.clients.aredis.pipeline()
            for each in group:
                each.fetch(pipeline)
            await pipeline.execute()
        if operation != "read":
            pipeline = self.clients.aredis.pipeline()
            for each in group:
                each.push(pipeline, batch)
            await pipeline.execute()
