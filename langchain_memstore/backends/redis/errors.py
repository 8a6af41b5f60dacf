"""What Redis refuses, in the words of this package."""

from __future__ import annotations

import re
from typing import Any, NoReturn, TypeVar

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    ClusterCrossSlotError,
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from langchain_memstore.backends.redis.limits import OperationCut, ScriptsCut, WaitEnded
from langchain_memstore.backends.redis.tls import TlsFailed
from langchain_memstore.errors import BackendDenied, BackendError, BackendFull, BackendUnavailable
from langchain_memstore.ops.base import Op

E = TypeVar("E", bound=Exception)

LOST = (RedisConnectionError, RedisTimeoutError, OSError)
REFUSED_LOGIN = (AuthenticationError, AuthorizationError)
FINAL = (*REFUSED_LOGIN, TlsFailed, WaitEnded)  # of those that are no loss of a connection, and not sent again
FOR_NOW = (ClusterDownError, TryAgainError)  # a cluster's answers that a while may change
_UNABLE = (ReadOnlyError, *FOR_NOW)
_ON_ITS_WAY = "access a non local key"  # a script, in a slot that is moved, looks for a key that it has just deleted
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


def raise_refusal(op: Op[Any], index: int, refusal: ResponseError) -> NoReturn:
    """Raise what a command of an operation was refused with, in words of its own where a key is somebody else's.

    Args:
        op: The operation.
        index: Which of its commands.
        refusal: The server's answer.
    """
    if _FOREIGN.search(str(refusal)):
        raise ResponseError(
            f"{_key_of(refusal, op, index)} holds what is not of this package; delete or rename it, or choose "
            f"another key_prefix: {_text(refusal)}"
        ) from refusal
    raise refusal


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


def is_for_now(error: Exception) -> bool:
    """Tell whether a node of a cluster cannot serve now what it, or another, will later."""
    return isinstance(error, FOR_NOW) or _ON_ITS_WAY in str(error)


def blame(error: E, node: tuple[str, int]) -> E:
    """Note which node of a Cluster an error came from."""
    error.node = node  # type: ignore[attr-defined]
    return error


def translate(error: Exception, op: Op[Any], has_connected: bool) -> BackendError:
    """Return the error to raise at the caller of an operation, for one of redis-py's or of the system.

    Args:
        error: What happened.
        op: The operation.
        has_connected: Whether an operation went over these connections before; TLS was right then.
    """
    node = getattr(error, "node", None)
    raised = _translated(error, op, has_connected, "" if node is None else " (node {}:{})".format(*node))
    raised.node = node
    if is_for_now(error) and (node is None or not isinstance(error, ClusterDownError)):
        raised.scope = "operation"  # a slot is on its way, or nobody serves it: other slots are well
    elif isinstance(error, (*REFUSED_LOGIN, TlsFailed)) or str(error).startswith("DENIED"):
        raised.scope = "node"
    return raised


def _translated(error: Exception, op: Op[Any], has_connected: bool, node: str) -> BackendError:
    where = f"Redis{node}" if op.subject is None else f"Redis{node}, for {op.subject}"
    if isinstance(error, REFUSED_LOGIN):
        return BackendDenied(f"{where}: the login was refused: {error}")
    if isinstance(error, TlsFailed):
        if not has_connected:
            return BackendDenied(f"{where}: {error}")
        return BackendUnavailable(
            f"{where}: cannot be reached: TLS fails that worked before; a certificate may have expired or been "
            f"replaced: {error}"
        )
    if isinstance(error, ScriptsCut):
        return BackendDenied(f"{where}: {error}")
    if isinstance(error, OperationCut):
        return BackendError(f"{where}: {error}")
    if isinstance(error, LOST):
        return BackendUnavailable(f"{where}: cannot be reached: {error}")
    text = _text(error)
    if isinstance(error, (AskError, ClusterCrossSlotError)):
        return BackendError(
            f"{where}: this server is part of a Redis Cluster; its URL is redis+cluster://host:port (over TLS "
            "rediss+cluster://), and its client a RedisCluster"
        )
    if isinstance(error, _UNABLE) or text.startswith(_UNABLE_CODES) or _ON_ITS_WAY in text:
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
