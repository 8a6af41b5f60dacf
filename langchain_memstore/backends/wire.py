"""What travels over a connection to Redis: commands, as they are packed, and answers, as they come."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hiredis import pack_command
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

from langchain_memstore.ops.base import Command, Op

if TYPE_CHECKING:
    from langchain_memstore.backends.connections import Connections

RETRIES = 3  # how often an operation is sent again after its connection was lost
PATIENCE = 5.0  # seconds after which an operation is not sent again, nor waits for a borrowed pool that is exhausted

LOST = (RedisConnectionError, RedisTimeoutError, OSError)
REFUSED_LOGIN = (AuthenticationError, AuthorizationError)


Meanwhile = Callable[[], None]
"""What to do while the answers are under way, at no cost: something quick."""


def nothing() -> None:
    """Do nothing meanwhile."""


def exchange(connections: Connections, commands: list[Command], meanwhile: Meanwhile) -> list[Any]:
    """Send commands over one connection, and return their answers: errors of the server among them."""
    pool = connections.pool
    connection = pool.take()
    fit = False
    try:
        connection.send_packed_command([packed(commands)])
        meanwhile()
        replies: list[Any] = []
        for _ in commands:
            try:
                replies.append(connection.read_response(disable_decoding=True))
            except ResponseError as error:
                replies.append(error)
        fit = not is_left_open(replies)
        return replies
    finally:
        pool.give(connection, fit)


async def aexchange(
    connections: Connections, commands: list[Command], meanwhile: Meanwhile, alone: bool = False
) -> list[Any]:
    """Send commands over one connection; the async face of `exchange`.

    Args:
        connections: Where to.
        commands: What.
        meanwhile: What to do while the answers are under way.
        alone: Whether they have to have the connection for themselves.
    """
    return await (await connections.async_pool()).sender.exchange(commands, meanwhile, alone)


def packed(commands: list[Command]) -> bytes:
    """Return commands as they are sent."""
    return b"".join([pack_command(command) for command in commands])  # type: ignore[arg-type]  # it takes any tuple


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


def is_left_open(replies: list[Any]) -> bool:
    """Tell whether a connection may still be in a transaction, as where the server refuses the user EXEC."""
    return len(replies) > 1 and isinstance(replies[-1], ResponseError) and not isinstance(replies[-1], ExecAbortError)


def pause(error: Exception, losses: int, until: float) -> float:
    """Return how many seconds to wait before an operation is sent again, or raise the error when that is in vain."""
    if losses > RETRIES or time.monotonic() > until or isinstance(error, REFUSED_LOGIN):
        raise error
    if isinstance(error, MaxConnectionsError):  # a borrowed pool that does not wait by itself
        return 0.01
    return random.uniform(0.5, 1) * 0.01 * float(2**losses)
