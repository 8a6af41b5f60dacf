"""The Redis backend: Redis 6.2 and later, or Valkey 8; core commands and Lua only."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from typing import Any, TypeVar

from redis.exceptions import MaxConnectionsError, NoScriptError, RedisError

from langchain_memstore.backends.answers import result_of, translate
from langchain_memstore.backends.base import Status
from langchain_memstore.backends.connections import Connections
from langchain_memstore.backends.shared import Shared
from langchain_memstore.backends.wire import (
    LOST,
    PATIENCE,
    Meanwhile,
    aexchange,
    commands_of,
    exchange,
    nothing,
    pause,
    was_not_queued,
    with_source,
)
from langchain_memstore.errors import BackendClosed
from langchain_memstore.ops.base import Op

R = TypeVar("R")


class RemoteBackend(ABC):
    """Keeps sessions in Redis.

    Operations travel over the connections of redis-py's pools: a command is written and its answer is read as it
    came, whatever the client that lent the connection decodes or retries. An operation whose connection was lost is
    sent again, at most three times; each operation is such that this is safe.

    Args:
        shared: What is shared with other backends of the same Redis, and closed with the last of them.
        meanwhile: What to do while an answer is under way, at no cost.
    """

    def __init__(self, shared: Shared, meanwhile: Meanwhile) -> None:
        self._shared = shared
        self._meanwhile = meanwhile
        self._closed = False
        shared.retain(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'closed' if self._closed else 'open'})"

    @property
    def status(self) -> Status:
        """How the backend does."""
        return Status(backend="redis")

    def execute(self, op: Op[R]) -> R:
        """Execute an operation in one round trip."""
        try:
            result = result_of(op, self._call(op))
        except (RedisError, OSError) as error:
            raise translate(error, op) from error
        if (after := op.after(result)) is not None:
            self.execute(after)
        return result

    async def aexecute(self, op: Op[R]) -> R:
        """Execute an operation in one round trip."""
        try:
            result = result_of(op, await self._acall(op))
        except (RedisError, OSError) as error:
            raise translate(error, op) from error
        if (after := op.after(result)) is not None:
            await self.aexecute(after)
        return result

    def close(self) -> None:
        """Let go of the connections; what others lent stays open."""
        if not self._closed:
            self._closed = True
            if self._shared.release(self):
                self._shared.close()

    async def aclose(self) -> None:
        """Let go of the connections, the running event loop's included."""
        if not self._closed:
            self._closed = True
            if self._shared.release(self):
                await self._shared.aclose()

    @abstractmethod
    def _call(self, op: Op[Any]) -> list[Any]:
        """Send an operation, and return the answers."""

    @abstractmethod
    async def _acall(self, op: Op[Any]) -> list[Any]:
        """Send an operation; the async face of `_call`."""

    def _check_open(self) -> None:
        if self._closed:
            raise BackendClosed("the store was closed; make a new one")


class RedisBackend(RemoteBackend):
    """Keeps sessions in one Redis server, or in the master that sentinels name.

    Args:
        connections: How to reach the server.
        meanwhile: What to do while an answer is under way, at no cost.
    """

    def __init__(self, connections: Connections, meanwhile: Meanwhile = nothing) -> None:
        super().__init__(connections, meanwhile)
        self._connections = connections

    def _call(self, op: Op[Any]) -> list[Any]:
        self._check_open()
        commands, losses, until = commands_of(op), 0, time.monotonic() + PATIENCE
        while commands:
            try:
                replies = exchange(self._connections, commands, self._meanwhile)
                if isinstance(replies[-1], NoScriptError):
                    return exchange(self._connections, with_source(op), self._meanwhile)
                if was_not_queued(replies):
                    return [b"OK", exchange(self._connections, op.commands(), self._meanwhile)]
                return replies
            except LOST as error:
                losses += not isinstance(error, MaxConnectionsError)
                time.sleep(pause(error, losses, until))
        return []

    async def _acall(self, op: Op[Any]) -> list[Any]:
        self._check_open()
        commands, losses, until = commands_of(op), 0, time.monotonic() + PATIENCE
        while commands:
            try:
                replies = await aexchange(self._connections, commands, self._meanwhile, alone=losses > 0)
                if isinstance(replies[-1], NoScriptError):
                    return await aexchange(self._connections, with_source(op), self._meanwhile)
                if was_not_queued(replies):
                    return [b"OK", await aexchange(self._connections, op.commands(), self._meanwhile)]
                return replies
            except LOST as error:
                losses += not isinstance(error, MaxConnectionsError)
                await asyncio.sleep(pause(error, losses, until))
        return []
