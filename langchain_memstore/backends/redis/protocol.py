"""What travels over a connection to Redis: the commands of an operation, and the replies that make its result."""

from __future__ import annotations

from typing import Any

from hiredis import pack_command
from redis.exceptions import ExecAbortError, OutOfMemoryError, ResponseError

from langchain_memstore.backends.redis.errors import raise_refusal
from langchain_memstore.ops.base import Command, Op, R

PING = pack_command(("PING",))


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


def was_not_queued(op: Op[Any], replies: list[Any]) -> bool:
    """Tell whether a server that is full refused even to queue the reads of a transaction, as Redis 6 and 7 do."""
    return op.atomic and len(replies) > 1 and isinstance(replies[1], OutOfMemoryError)


def is_left_open(replies: list[Any]) -> bool:
    """Tell whether a connection may still be in a transaction, as where the server refuses the user EXEC."""
    return len(replies) > 1 and isinstance(replies[-1], ResponseError) and not isinstance(replies[-1], ExecAbortError)


def result_of(op: Op[R], replies: list[Any]) -> R:
    """Return the operation's result, or raise the first error among the replies."""
    _raise_first(op, replies)
    reply: Any = replies
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
            raise_refusal(op, index, reply)
