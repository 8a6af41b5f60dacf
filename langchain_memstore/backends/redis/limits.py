"""How long a call may take, and what ends it early: what the pools of threads and of event loops have in common."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

IDLE = 30.0  # seconds after which a connection that was idle is tried before it is used
PONG_WITHIN = 1.0  # seconds in which it has to answer
SECOND_TRY = 1.0  # seconds beside `socket_timeout` that a call has, for a second try over a new connection
MARGIN = 0.4  # seconds of these that are left to tell the caller
_DEFAULT = inspect.signature(AbstractConnection.__init__).parameters["socket_timeout"].default  # None before redis-py 8
PATIENCE = 5.0  # seconds that a call has where `socket_timeout` is None


class ConnectionCut(RedisConnectionError):
    """A connection was closed while commands were sent over it, or their answers read."""


def is_cut(error: Exception) -> bool:
    """Tell whether an error that came while commands were sent, or their answers read, says that the line was closed.

    redis-py raises connection errors for answers, too: where the server loads its data, or is a replica.
    """
    if isinstance(error.__context__, ResponseError):
        return False
    return isinstance(error, OSError) or type(error) is RedisConnectionError


class ScriptsCut(RedisError):
    """The server answers, but a connection is closed when a script is sent over it."""


class OperationCut(RedisError):
    """The server closes the connection over which an operation is sent, and serves others."""


class WaitEnded(RedisConnectionError):
    """A call waited for a connection when an outage began, or for as long as it may."""


def ended() -> WaitEnded:
    """Return the error to raise at those who wait for a connection when an outage begins."""
    return WaitEnded("an outage has begun, while this call waited for a connection")


def busy(most: int) -> WaitEnded:
    """Return the error to raise at those who have waited for a connection for as long as a call may take."""
    return WaitEnded(f"all {most} connections were busy for as long as a call may take; see max_connections")


class TimeLimits:
    """How long a call may take, and its parts; in seconds.

    Args:
        options: redis-py's options of a connection.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.answer: float | None = options.get("socket_timeout", _DEFAULT)
        """An answer; None: as long as it takes."""
        self.connect: float | None = options.get("socket_connect_timeout", self.answer)
        """To connect; None: as long as it takes."""
        self.call = PATIENCE if self.answer is None else self.answer + SECOND_TRY - MARGIN
        """All of it: a wait for a connection, and every try."""
