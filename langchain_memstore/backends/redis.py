"""The Redis backend: one server (Redis 6.2 and later, Valkey 8), core commands and Lua only."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any, TypeVar

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    MaxConnectionsError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from langchain_memstore.backends.base import Status
from langchain_memstore.backends.connections import Connections
from langchain_memstore.errors import BackendClosed, BackendError, BackendFull, BackendUnavailable
from langchain_memstore.ops.base import Command, Op

R = TypeVar("R")

RETRIES = 3  # how often an operation is sent again after its connection was lost
PATIENCE = 5.0  # seconds to wait for a borrowed pool that is exhausted

_LOST = (RedisConnectionError, RedisTimeoutError, OSError)
_REFUSED_LOGIN = (AuthenticationError, AuthorizationError)
_UNABLE = (ReadOnlyError, ClusterDownError, TryAgainError)  # of the server's answers, those that a while may change


class RedisBackend:
    """Keeps sessions in Redis.

    Operations travel over the connections of redis-py's pools: a command is written and its answer is read as it
    came, whatever the client that lent the connection decodes or retries. An operation whose connection was lost is
    sent again, at most three times; each operation is such that this is safe.

    Args:
        connections: How to reach the server.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'closed' if self._closed else 'open'})"

    @property
    def status(self) -> Status:
        """How the backend does."""
        return Status(backend="redis")

    def execute(self, op: Op[R]) -> R:
        """Execute an operation in one round trip."""
        try:
            result = op.decode(_result(op, self._call(op)))
        except (RedisError, OSError) as error:
            raise _translate(error, op) from error
        if (after := op.after(result)) is not None:
            self.execute(after)
        return result

    async def aexecute(self, op: Op[R]) -> R:
        """Execute an operation in one round trip."""
        try:
            result = op.decode(_result(op, await self._acall(op)))
        except (RedisError, OSError) as error:
            raise _translate(error, op) from error
        if (after := op.after(result)) is not None:
            await self.aexecute(after)
        return result

    def close(self) -> None:
        """Let go of the connections; what others lent stays open."""
        if not self._closed:
            self._closed = True
            if self._connections.release():
                self._connections.close()

    async def aclose(self) -> None:
        """Let go of the connections, the running event loop's included."""
        if not self._closed:
            self._closed = True
            if self._connections.release():
                await self._connections.aclose()

    def _call(self, op: Op[Any]) -> list[Any]:
        self._check_open()
        commands, failures = _commands(op), 0
        while True:
            try:
                replies = self._exchange(commands)
                return self._exchange(_with_source(op)) if isinstance(replies[-1], NoScriptError) else replies
            except _LOST as error:
                failures += 1
                time.sleep(_pause(error, failures))

    async def _acall(self, op: Op[Any]) -> list[Any]:
        self._check_open()
        commands, failures = _commands(op), 0
        while True:
            try:
                replies = await self._aexchange(commands)
                return await self._aexchange(_with_source(op)) if isinstance(replies[-1], NoScriptError) else replies
            except _LOST as error:
                failures += 1
                await asyncio.sleep(_pause(error, failures))

    def _exchange(self, commands: list[Command]) -> list[Any]:
        pool = self._connections.pool
        connection = pool.get_connection()
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            replies: list[Any] = []
            for _ in commands:
                try:
                    replies.append(connection.read_response(disable_decoding=True))
                except ResponseError as error:
                    replies.append(error)
            return replies
        except BaseException:
            connection.disconnect()  # an answer may still be under way
            raise
        finally:
            pool.release(connection)

    async def _aexchange(self, commands: list[Command]) -> list[Any]:
        pool = await self._connections.async_pool()
        connection = await pool.get_connection()
        try:
            await connection.send_packed_command(connection.pack_commands(commands))
            replies: list[Any] = []
            for _ in commands:
                try:
                    replies.append(await connection.read_response(disable_decoding=True))
                except ResponseError as error:
                    replies.append(error)
            return replies
        except BaseException:
            await connection.disconnect(nowait=True)  # an answer may still be under way
            raise
        finally:
            await pool.release(connection)

    def _check_open(self) -> None:
        if self._closed:
            raise BackendClosed("the store was closed; make a new one")


def _commands(op: Op[Any]) -> list[Command]:
    if op.script is not None:
        return [("EVALSHA", op.script.sha, *op.arguments())]
    commands = op.commands()
    return [("MULTI",), *commands, ("EXEC",)] if op.atomic and len(commands) > 1 else commands


def _with_source(op: Op[Any]) -> list[Command]:
    """Send the script itself, which the server then knows by name."""
    assert op.script is not None
    return [("EVAL", op.script.source, *op.arguments())]


def _result(op: Op[Any], replies: list[Any]) -> Any:
    """Return what the operation decodes, or raise the first error among the replies."""
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise reply
    if op.script is not None:
        return replies[0]
    if op.atomic and len(replies) > 1:
        replies = replies[-1]
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
    return replies


def _pause(error: Exception, failures: int) -> float:
    """Return how many seconds to wait before an operation is sent again, or raise the error when that is in vain."""
    if isinstance(error, MaxConnectionsError):  # a borrowed pool that does not wait by itself
        if failures < PATIENCE * 100:
            return 0.01
    elif failures <= RETRIES and not isinstance(error, _REFUSED_LOGIN):
        return random.uniform(0.5, 1) * 0.01 * float(2**failures)
    raise error


def _translate(error: Exception, op: Op[Any]) -> BackendError:
    keys = getattr(op, "keys", None)
    where = "Redis" if keys is None else f"Redis, for session {keys.session_id!r} (prefix {keys.prefix!r})"
    if isinstance(error, _REFUSED_LOGIN):
        return BackendError(f"{where}: the login was refused: {error}")
    if isinstance(error, _LOST):
        return BackendUnavailable(f"{where}: cannot be reached: {error}")
    if isinstance(error, _UNABLE):
        return BackendUnavailable(f"{where}: cannot serve now: {error}")
    if isinstance(error, OutOfMemoryError) or str(error).startswith("OOM"):
        return BackendFull(f"{where}: out of memory, nothing was written: {error}")
    return BackendError(f"{where}: {error}")
