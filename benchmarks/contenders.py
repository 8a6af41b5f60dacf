"""What a contender is, what all of them share, and this package as one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import redis
import redis.asyncio
from langchain_core.messages import BaseMessage

from langchain_memstore import Memstore

TTL = 86_400
MOST_CONNECTIONS = 1_000  # redis-py's own bound of 100 refuses 512 tasks


class Clients:
    """What the contenders of one run share, each as its own documentation sets it up."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.redis = redis.Redis.from_url(url)
        self.community = redis.Redis.from_url(url)
        self.llama = redis.Redis.from_url(url)
        self.aredis, self.agents, self.allama = (
            redis.asyncio.Redis.from_url(url, max_connections=MOST_CONNECTIONS) for _ in range(3)
        )
        self._stores: list[Memstore] = []
        self.store = self.open(url)

    def open(self, url: str, **options: Any) -> Memstore:
        """Make a store that is closed with these clients."""
        self._stores.append(store := Memstore.from_url(url, ttl=TTL, **options))
        return store

    async def aclose(self) -> None:
        for client in (self.redis, self.community, self.llama):
            client.close()
        for aclient in (self.aredis, self.agents, self.allama):
            await aclient.aclose()
        for store in self._stores:
            await store.aclose()


class Contender:
    """One conversation in one contender's hands."""

    name: ClassVar[str]
    variants: ClassVar[Sequence[str]] = ("sync", "async")

    def __init__(self, clients: Clients, session_id: str, window: int) -> None:
        self.clients, self.session_id, self.window = clients, session_id, window
        self.key = f"{self.name}:{session_id}"

    def fill(self, messages: list[BaseMessage]) -> None:
        """Put messages there; not timed."""
        raise NotImplementedError

    def native(self, batch: list[BaseMessage]) -> Any:
        """Make of messages what this contender appends; not timed."""
        return batch

    def settle(self, pipeline: Any) -> None:
        """Bring a conversation back to its window, where the contender does not bound it; not timed."""

    def append(self, batch: Any) -> Any:
        raise NotImplementedError

    def read(self) -> Any:
        raise NotImplementedError

    async def aappend(self, batch: Any) -> Any:
        raise NotImplementedError

    async def aread(self) -> Any:
        raise NotImplementedError


class Ours(Contender):
    """This package, as its README sets it up.

    Args:
        store: Another store than the one that all share.
    """

    name = "memstore"

    def __init__(self, clients: Clients, session_id: str, window: int, store: Memstore | None = None) -> None:
        super().__init__(clients, session_id, window)
        self.history = (store or clients.store).history(session_id, max_messages=window)

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
