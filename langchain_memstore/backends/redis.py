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
    NoPermissionError,
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
from langchain_memstore.errors import BackendClosed, BackendDenied, BackendError, BackendFull, BackendUnavailable
from langchain_memstore.ops.base import Command, Op

R = TypeVar("R")

RETRIES = 3  # how often an operation is sent again after its connection was lost
PATIENCE = 5.0  # seconds after which an operation is not sent again, nor waits for a borrowed pool that is exhausted

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
        connections.retain(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'closed' if self._closed else 'open'})"

    @property
    def status(self) -> Status:
        """How the backend does."""
        return Status(backend="redis")

    def execute(self, op: Op[R]) -> R:
        """Execute an operation in one round trip."""
        try:
            result = _result(op, self._call(op))
        except (RedisError, OSError) as error:
            raise _translate(error, op) from error
        if (after := op.after(result)) is not None:
            self.execute(after)
        return result

    async def aexecute(self, op: Op[R]) -> R:
        """Execute an operation in one round trip."""
        try:
            result = _result(op, await self._acall(op))
        except (RedisError, OSError) as error:
            raise _translate(error, op) from error
        if (after := op.after(result)) is not None:
            await self.aexecute(after)
        return result

    def close(self) -> None:
        """Let go of the connections; what others lent stays open."""
        if not self._closed:
            self._closed = True
            if self._connections.release(self):
                self._connections.close()

    async def aclose(self) -> None:
        """Let go of the connections, the running event loop's included."""
        if not self._closed:
            self._closed = True
            if self._connections.release(self):
                await self._connections.aclose()

    def _call(self, op: Op[Any]) -> list[Any]:
        self._check_open()
        commands, losses, until = _commands(op), 0, time.monotonic() + PATIENCE
        while commands:
            try:
                replies = self._exchange(commands)
                if isinstance(replies[-1], NoScriptError):
                    return self._exchange(_with_source(op))
                if _was_not_queued(replies):
                    return [b"OK", self._exchange(op.commands())]
                return replies
            except _LOST as error:
                losses += not isinstance(error, MaxConnectionsError)
                time.sleep(_pause(error, losses, until))
        return []

    async def _acall(self, op: Op[Any]) -> list[Any]:
        self._check_open()
        commands, losses, until = _commands(op), 0, time.monotonic() + PATIENCE
        while commands:
            try:
                replies = await self._aexchange(commands)
                if isinstance(replies[-1], NoScriptError):
                    return await self._aexchange(_with_source(op))
                if _was_not_queued(replies):
                    return [b"OK", await self._aexchange(op.commands())]
                return replies
            except _LOST as error:
                losses += not isinstance(error, MaxConnectionsError)
                await asyncio.sleep(_pause(error, losses, until))
        return []

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
        async with pool.gate:
            connection = await pool.pool.get_connection()
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
                await pool.pool.release(connection)

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


def _was_not_queued(replies: list[Any]) -> bool:
    """Tell whether a server that is full refused even to queue the reads of a transaction, as Redis 6 and 7 do."""
    return len(replies) > 1 and isinstance(replies[1], OutOfMemoryError)


def _result(op: Op[R], replies: list[Any]) -> R:
    """Return the operation's result, or raise the first error among the replies."""
    _raise_first(replies)
    reply = replies
    if op.script is not None:
        reply = replies[0]
    elif op.atomic and len(replies) > 1:
        reply = replies[-1]
        _raise_first(reply)
    try:
        return op.decode(reply)
    except (ValueError, TypeError) as error:
        raise ResponseError(f"a key holds what is not of this package: {error}") from error


def _raise_first(replies: list[Any]) -> None:
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise reply


def _pause(error: Exception, losses: int, until: float) -> float:
    """Return how many seconds to wait before an operation is sent again, or raise the error when that is in vain."""
    if losses > RETRIES or time.monotonic() > until or isinstance(error, _REFUSED_LOGIN):
        raise error
    if isinstance(error, MaxConnectionsError):  # a borrowed pool that does not wait by itself
        return 0.01
    return random.uniform(0.5, 1) * 0.01 * float(2**losses)


def _translate(error: Exception, op: Op[Any]) -> BackendError:
    where = "Redis" if op.subject is None else f"Redis, for {op.subject}"
    if isinstance(error, _REFUSED_LOGIN):
        return BackendDenied(f"{where}: the login was refused: {error}")
    if isinstance(error, NoPermissionError):
        return BackendDenied(f"{where}: the user may not do what is needed: {error}")
    if isinstance(error, _LOST):
        return BackendUnavailable(f"{where}: cannot be reached: {error}")
    if isinstance(error, _UNABLE) or _wraps(error, "READONLY"):
        return BackendUnavailable(f"{where}: cannot serve now: {error}")
    if isinstance(error, OutOfMemoryError) or _wraps(error, "OOM"):
        return BackendFull(f"{where}: out of memory, nothing was written: {error}")
    return BackendError(f"{where}: {error}")


def _wraps(error: Exception, code: str) -> bool:
    """Tell whether a script failed by a command's error of that code, which Redis 6 hands on as text."""
    return f": -{code} " in str(error)
