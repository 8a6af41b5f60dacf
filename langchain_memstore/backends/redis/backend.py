"""The Redis backend: Redis 6.2 and later, or Valkey 8; core commands and Lua only."""

from __future__ import annotations

import asyncio
import logging
import random
import time
import weakref
from abc import abstractmethod
from typing import Any

from redis.exceptions import NoScriptError, RedisError, ResponseError
from typing_extensions import override

from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.redis.connections import Connections, Shared
from langchain_memstore.backends.redis.errors import FINAL, LOST, translate
from langchain_memstore.backends.redis.limits import ConnectionCut
from langchain_memstore.backends.redis.protocol import commands_of, result_of, was_not_queued, with_source
from langchain_memstore.backends.redis.requests import insist
from langchain_memstore.backends.redis.scanning import PageOfRun, run_of
from langchain_memstore.backends.steps import arun_steps, run_steps
from langchain_memstore.errors import BackendClosed
from langchain_memstore.models import Status
from langchain_memstore.ops.base import Op, R

RETRIES = 3  # how often an operation is sent again, at the most, after its connection was lost


logger = logging.getLogger(__name__)

_warned: weakref.WeakSet[Shared] = weakref.WeakSet()
"""Those of whose servers it was logged that they refuse INFO."""


class RemoteBackend(Backend):
    """Keeps sessions in Redis.

    Operations travel over the connections of redis-py's pools: a command is written and its answer is read as it
    came, whatever the client that lent the connection decodes or retries. An operation whose connection was lost is
    sent again, at most three times; each operation is such that this is safe.

    Args:
        shared: How to reach it; what is shared with other backends of the same Redis is closed with the last of them.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared.home
        self._closed = False
        self._shared.retain(self)

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({'closed' if self._closed else 'open'})"

    @property
    @override
    def status(self) -> Status:
        return Status(backend="redis")

    @override
    def execute(self, op: Op[R]) -> R:
        try:
            result = result_of(op, self._call(op))
        except (RedisError, OSError) as error:
            raise translate(error, op, self._shared.has_connected) from error
        self._shared.has_connected = True
        if (rest := op.follow_up(result)) is not None:
            self.execute(rest)
        return result

    @override
    async def aexecute(self, op: Op[R]) -> R:
        try:
            result = result_of(op, await self._acall(op))
        except (RedisError, OSError) as error:
            raise translate(error, op, self._shared.has_connected) from error
        self._shared.has_connected = True
        if (rest := op.follow_up(result)) is not None:
            await self.aexecute(rest)
        return result

    @override
    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._shared.release(self):
                self._shared.close()

    @override
    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            if self._shared.release(self):
                await self._shared.aclose()

    @abstractmethod
    def _call(self, op: Op[Any]) -> list[Any]:
        """Send an operation, and return the answers."""

    @abstractmethod
    async def _acall(self, op: Op[Any]) -> list[Any]:
        """Send an operation; the async variant of `_call`."""

    def _run_of(self, info: Any) -> int:
        """Return which run of a server has answered INFO; 0: it does not tell."""
        if isinstance(info, ResponseError) and self._shared not in _warned:
            _warned.add(self._shared)
            logger.warning(
                "the server refuses INFO, or lacks it: a listing cannot tell whether the server was restarted or "
                "replaced between two of its pages, and may then miss names; grant +info: %s",
                info,
            )
        return run_of(info)

    def _check_open(self) -> None:
        if self._closed:
            raise BackendClosed("the store was closed; make a new one")


class RedisBackend(RemoteBackend):
    """Keeps sessions in one Redis server, or in the master that sentinels name.

    Args:
        connections: How to reach the server.
    """

    def __init__(self, connections: Connections) -> None:
        super().__init__(connections)
        self._connections = connections

    @override
    def _call(self, op: Op[Any]) -> list[Any]:
        self._check_open()
        if op.scans:
            scan = PageOfRun.of(op)
            return self._page(scan, self._call(scan))
        pool, commands = self._connections.thread_pool(), commands_of(op)
        losses, is_apart, until = 0, False, time.monotonic() + pool.limits.call
        while commands:
            try:
                replies = pool.request(commands, until)
            except LOST as error:
                losses += 1
                if losses <= RETRIES or not isinstance(error, ConnectionCut):
                    time.sleep(pause(error, losses, until))
                    continue
                replies = run_steps(insist(self._connections, commands, until))
            if isinstance(replies[-1], NoScriptError):
                commands = with_source(op)
            elif not is_apart and was_not_queued(op, replies):
                commands, is_apart = op.commands(), True
            else:
                return [b"OK", replies] if is_apart else replies
        return []

    @override
    async def _acall(self, op: Op[Any]) -> list[Any]:
        self._check_open()
        if op.scans:
            scan = PageOfRun.of(op)
            return self._page(scan, await self._acall(scan))
        request, commands = self._connections.arequest, commands_of(op)
        losses, is_apart = 0, False
        until = time.monotonic() + (await self._connections.loop_connections()).limits.call
        while commands:
            try:
                replies = await request(commands, until, alone=losses > 0)
            except LOST as error:
                losses += 1
                if losses <= RETRIES or not isinstance(error, ConnectionCut):
                    await asyncio.sleep(pause(error, losses, until))
                    continue
                replies = await arun_steps(insist(self._connections, commands, until))
            if isinstance(replies[-1], NoScriptError):
                commands = with_source(op)
            elif not is_apart and was_not_queued(op, replies):
                commands, is_apart = op.commands(), True
            else:
                return [b"OK", replies] if is_apart else replies
        return []

    def _page(self, asked: PageOfRun, replies: list[Any]) -> list[Any]:
        """Put where the next page starts into the reply to a scan."""
        info, page = replies
        if isinstance(page, ResponseError):
            return [page]
        following = asked.at.after(int(page[0]), self._run_of(info))
        return [[following.as_int() if following else 0, page[1]]]


def pause(error: Exception, losses: int, until: float) -> float:
    """Return how many seconds to wait before an operation is sent again, or raise the error when that is in vain."""
    seconds = random.uniform(0.5, 1) * 0.01 * float(2**losses)
    if losses > RETRIES or time.monotonic() + seconds > until or isinstance(error, FINAL):
        raise error
    return seconds
