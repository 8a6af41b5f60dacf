"""What travels over a connection to Redis: commands, as they are packed, and answers, as they come."""

from __future__ import annotations

import random
import time
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ExecAbortError,
    MaxConnectionsError,
    OutOfMemoryError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from langchain_memstore.backends.connections import Connections
from langchain_memstore.backends.watched import aconnection_of, connection_of
from langchain_memstore.ops.base import Command, Op

RETRIES = 3  # how often an operation is sent again after its connection was lost
PATIENCE = 5.0  # seconds after which an operation is not sent again, nor waits for a borrowed pool that is exhausted

LOST = (RedisConnectionError, RedisTimeoutError, OSError)
REFUSED_LOGIN = (AuthenticationError, AuthorizationError)


def exchange(connections: Connections, commands: list[Command]) -> list[Any]:
    """Send commands over one connection, and return their answers: errors of the server among them."""
    pool = connections.pool
    connection = connection_of(pool)
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


async def aexchange(connections: Connections, commands: list[Command]) -> list[Any]:
    """Send commands over one connection; the async face of `exchange`."""
    pool = await connections.async_pool()
    async with pool.gate:
        connection = await aconnection_of(pool.pool)
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


def commands_of(op: Op[Any]) -> list[Command]:
    """Return what is sent for an operation."""
    if op.script is not None:
        return [("EVALSHA", op.script.sha, *op.arguments())]
    commands = op.commands()
    return [("MULTI",), *commands, ("EXEC",)] if op.atomic and len(commands) > 1 else commands


def with_source(op: Op[Any]) -> list[Command]:
    """Send the script itself, which the server then knows by name."""
    assert op.script is not None
    return [("EVAL", op.script.source, *op.arguments())]


def was_not_queued(replies: list[Any]) -> bool:
    """Tell whether a server that is full refused even to queue the reads of a transaction, as Redis 6 and 7 do."""
    return len(replies) > 1 and isinstance(replies[1], OutOfMemoryError)


def _is_left_open(replies: list[Any]) -> bool:
    """Tell whether a connection may still be in a transaction, as where the server refuses the user EXEC."""
    return len(replies) > 1 and isinstance(replies[-1], ResponseError) and not isinstance(replies[-1], ExecAbortError)


def pause(error: Exception, losses: int, until: float) -> float:
    """Return how many seconds to wait before an operation is sent again, or raise the error when that is in vain."""
    if losses > RETRIES or time.monotonic() > until or isinstance(error, REFUSED_LOGIN):
        raise error
    if isinstance(error, MaxConnectionsError):  # a borrowed pool that does not wait by itself
        return 0.01
    return random.uniform(0.5, 1) * 0.01 * float(2**losses)
