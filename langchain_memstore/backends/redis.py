"""The Redis backend: one server (Redis 6.2 and later, Valkey 8), core commands and Lua only."""

from __future__ import annotations

import asyncio
import random
import re
import time
from typing import Any, TypeVar

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ExecAbortError,
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
_UNABLE_CODES = ("READONLY", "BUSY", "NOREPLICAS", "MASTERDOWN")

# How servers of all versions say, within scripts and without, what they have no error code for.
_FORBIDDEN = re.compile("no permissions to|can't run this command|can't access at least one of the keys", re.IGNORECASE)
_UNKNOWN = re.compile("unknown (redis )?command", re.IGNORECASE)
_FOREIGN = re.compile("WRONGTYPE|value is not an integer|would overflow")
_SCRIPT_LINE = re.compile(r"@user_script: ?(\d+)")
_AROUND = re.compile(  # what stands around an error within a script, and after an unknown command: its arguments
    r"^Error running script \(call to \w+\): (@user_script: ?\d+: )+-?"
    r"| script: \w+, on @user_script:\d+\.$"
    r"|, with args .*$",
    re.DOTALL,
)


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
        while True:
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

    async def _acall(self, op: Op[Any]) -> list[Any]:
        self._check_open()
        commands, losses, until = _commands(op), 0, time.monotonic() + PATIENCE
        while True:
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
            if _is_left_open(replies):
                connection.disconnect()
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
                if _is_left_open(replies):
                    await connection.disconnect(nowait=True)
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


def _is_left_open(replies: list[Any]) -> bool:
    """Tell whether a connection may still be in a transaction, as where the server refuses the user EXEC."""
    return len(replies) > 1 and isinstance(replies[-1], ResponseError) and not isinstance(replies[-1], ExecAbortError)


def _result(op: Op[R], replies: list[Any]) -> R:
    """Return the operation's result, or raise the first error among the replies."""
    _raise_first(op, replies)
    reply = replies
    if op.script is not None:
        reply = replies[0]
    elif op.atomic and len(replies) > 1:
        reply = replies[-1]
        _raise_first(op, reply)
    try:
        return op.decode(reply)
    except (ValueError, TypeError) as error:
        raise ResponseError(f"a key holds what is not of this package: {error}") from error


def _raise_first(op: Op[Any], replies: list[Any]) -> None:
    for index, reply in enumerate(replies):
        if isinstance(reply, ResponseError):
            if _FOREIGN.search(str(reply)):
                raise ResponseError(
                    f"{_key_of(reply, op, index)} holds what is not of this package; delete or rename it, or choose "
                    f"another key_prefix: {_text(reply)}"
                ) from reply
            raise reply


def _key_of(error: ResponseError, op: Op[Any], index: int) -> str:
    """Name the key on which a command failed: its first argument, or that of the line where a script called it."""
    if op.script is None:
        return f"the key {op.commands()[index][1]!r}"
    key = re.search(r"KEYS\[(\d)\]", _line_of(error, op))
    return f"the key {op.arguments()[int(key[1])]!r}" if key else "a key"  # the arguments begin with how many keys


def _line_of(error: Exception, op: Op[Any]) -> str:
    """Return the line of a script in which a command failed; empty: it was no script, or does not tell."""
    line = _SCRIPT_LINE.search(str(error))
    return op.script.source.decode().splitlines()[int(line[1]) - 1] if line and op.script is not None else ""


def _pause(error: Exception, losses: int, until: float) -> float:
    """Return how many seconds to wait before an operation is sent again, or raise the error when that is in vain."""
    if losses > RETRIES or time.monotonic() > until or isinstance(error, _REFUSED_LOGIN):
        raise error
    if isinstance(error, MaxConnectionsError):  # a borrowed pool that does not wait by itself
        return 0.01
    return random.uniform(0.5, 1) * 0.01 * float(2**losses)


def _translate(error: Exception, op: Op[Any]) -> BackendError:
    keys = getattr(op, "keys", None)
    where = "Redis" if keys is None else f"Redis, for session {keys.session_id!r} (prefix {keys.prefix!r})"
    if isinstance(error, _REFUSED_LOGIN):
        return BackendDenied(f"{where}: the login was refused: {error}")
    if isinstance(error, _LOST):
        return BackendUnavailable(f"{where}: cannot be reached: {error}")
    text = _text(error)
    if isinstance(error, _UNABLE) or text.startswith(_UNABLE_CODES):
        return BackendUnavailable(f"{where}: cannot serve now: {text}")
    if isinstance(error, OutOfMemoryError) or text.startswith("OOM"):
        return BackendFull(f"{where}: out of memory, nothing was written: {text}")
    if text.startswith("MISCONF"):
        return BackendFull(f"{where}: cannot persist to disk and takes no writes, nothing was written: {text}")
    if text.startswith("DENIED"):
        return BackendDenied(f"{where}: the connection was refused: {text}")
    call = re.search(r"redis\.call\('(\w+)'", _line_of(error, op))
    command = f" ({call[1]})" if call else ""
    if isinstance(error, NoPermissionError) or _FORBIDDEN.search(text):
        return BackendDenied(f"{where}: the user may not do what this package needs; {_RIGHTS}: {text}{command}")
    if _UNKNOWN.search(text):
        return BackendDenied(
            f"{where}: lacks a command that this package needs, or has it renamed; {_RIGHTS}: {text}{command}"
        )
    return BackendError(f"{where}: {text}")


_RIGHTS = 'the README lists all of them under "A Redis user with few rights"'


def _text(error: Exception) -> str:
    """Return what an error says, without what scripts put around it, and without arguments."""
    return _AROUND.sub("", str(error))
