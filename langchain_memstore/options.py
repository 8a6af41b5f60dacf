"""The options of a history, and what they come to once they are checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal, TypedDict, cast

from langchain_core.messages import BaseMessage
from typing_extensions import Unpack

from langchain_memstore.keys import check_name

SECONDS_LIMIT = 10**12
"""No option is as many seconds as this: what is longer is a mistake, and Redis cannot count it."""

TokenCounter = Callable[[Sequence[BaseMessage]], int]


class WindowOptions(TypedDict, total=False):
    """How a history bounds and shows a conversation.

    Out-of-range values raise ValueError at construction.
    """

    max_messages: int | None
    """The most messages that the window keeps; None: no bound. Default: 50."""
    max_turns: int | None
    """The most turns that the window keeps, each from a human message up to the next; None: no bound (the default)."""
    max_tokens: int | None
    """The most tokens that a read returns, the summary counted in; None: no bound (the default)."""
    token_counter: TokenCounter | None
    """Counts the tokens of messages. Default: `count_tokens_approximately` of langchain-core."""
    refresh_ttl_on_read: bool
    """Whether reading starts the TTL anew. Default: True."""
    summary_role: Literal["system", "human"] | None
    """The role of the message with which `messages` begins where there is a summary; None: none. Default: `system`."""
    on_corrupt: Literal["skip", "raise"]
    """What a read does with an entry that is not a message: `skip` it with a logged warning (the default), or `raise`
    MessageDecodeError."""


class HistoryOptions(WindowOptions, total=False):
    """How a history keeps a conversation; keyword arguments of the stores and of the history classes."""

    key_prefix: str
    """The first part of every key; sets one application or tenant apart from the next. Default: `conversation`."""
    ttl: float | timedelta | None
    """Seconds (or a timedelta) until an unused session expires; None: never. Default: 86400, one day."""


class ConnectionOptions(TypedDict, total=False):
    """How to connect to Redis.

    Out-of-range values raise ValueError at construction.
    """

    max_connections: int
    """The most connections per URL and process (and event loop); who finds none free waits. Default: 20."""
    socket_timeout: float | None
    """Seconds to wait for an answer; None: as long as it takes. Default: 5."""
    socket_connect_timeout: float | None
    """Seconds to wait for a connection; None: as long as it takes. Default: 5."""


class RedisOptions(WindowOptions, ConnectionOptions, total=False):
    """What `RedisChatMessageHistory` takes beside its own arguments."""


class Options(HistoryOptions, ConnectionOptions, total=False):
    """Every option of a store that is made from a URL."""


def split_options(options: Mapping[str, Any]) -> tuple[HistoryOptions, ConnectionOptions]:
    """Part the options of a history from those of its connection."""
    connection = {name: value for name, value in options.items() if name in ConnectionOptions.__annotations__}
    history = {name: value for name, value in options.items() if name not in connection}
    return cast(HistoryOptions, history), cast(ConnectionOptions, connection)


@dataclass(frozen=True)
class Policy:
    """The options of a history, checked and complete."""

    key_prefix: str = "conversation"
    max_messages: int | None = 50
    max_turns: int | None = None
    max_tokens: int | None = None
    token_counter: TokenCounter | None = None
    ttl: float | timedelta | None = 86_400
    refresh_ttl_on_read: bool = True
    summary_role: Literal["system", "human"] | None = "system"
    on_corrupt: Literal["skip", "raise"] = "skip"

    def __post_init__(self) -> None:
        check_name("key_prefix", self.key_prefix)
        for name in ("max_messages", "max_turns", "max_tokens"):
            check_count(name, getattr(self, name), optional=True)
        if self.token_counter is not None and not callable(self.token_counter):
            raise ValueError(f"token_counter must be callable, not {self.token_counter!r}")
        check_seconds("ttl", self.ttl)
        _check_choice("refresh_ttl_on_read", self.refresh_ttl_on_read, (True, False))
        _check_choice("summary_role", self.summary_role, ("system", "human", None))
        _check_choice("on_corrupt", self.on_corrupt, ("skip", "raise"))

    @property
    def ttl_ms(self) -> int | None:
        """The TTL in milliseconds; None: no expiry."""
        if self.ttl is None:
            return None
        seconds = self.ttl.total_seconds() if isinstance(self.ttl, timedelta) else self.ttl
        return max(1, round(seconds * 1000))

    def with_options(self, **options: Unpack[HistoryOptions]) -> Policy:
        """Return the policy with some options changed."""
        return replace(self, **options) if options else self


def check_count(name: str, value: object, *, optional: bool = False) -> None:
    """Check that an option is a whole number of at least 1, or None where that is allowed."""
    if optional and value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be at least 1{' or None' if optional else ''}, not {value!r}")


def check_seconds(name: str, value: object) -> None:
    """Check that an option is a positive number of seconds, a positive timedelta, or None."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds is None:
        return
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 < seconds < SECONDS_LIMIT:
        raise ValueError(f"{name} must be a positive number of seconds or None, not {value!r}")


def _check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}")
