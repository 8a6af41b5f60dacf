"""The options of a history, and what they come to once they are checked."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, cast

from langchain_core.messages import BaseMessage
from typing_extensions import Unpack

from langchain_memstore.codec.compression import load_zstandard
from langchain_memstore.codec.messages import RESULTS, TURN_STARTS
from langchain_memstore.codec.session import SessionCodec
from langchain_memstore.codec.values import ValueCodec
from langchain_memstore.keys import SessionKeys, check_name
from langchain_memstore.window import Bounds

SECONDS_LIMIT = 10**12
"""No option is as many seconds as this: what is longer is a mistake, and Redis cannot count it."""

if TYPE_CHECKING:
    from langchain_core.language_models import BaseLanguageModel
    from langchain_core.runnables import Runnable
    from redis.credentials import CredentialProvider

    from langchain_memstore.codec.encryption import KeyRing

Summarizer: TypeAlias = (
    "Runnable[Any, Any] | Callable[[str, list[BaseMessage]], str] | Callable[[str, list[BaseMessage]], Awaitable[str]]"
)
"""What makes a summary of the previous one and of the messages that have left the window since.

A chat model is given `summary_prompt`; so is what wraps one, with options, retries or fallbacks, or begins with one.
Another Runnable is given `{"previous": str, "messages": list[BaseMessage]}`. Both return a text or a message. A
function, sync or async, is called with the two and returns a text.
"""
EncryptionKeys: TypeAlias = "Sequence[bytes | str]"
TokenCounter: TypeAlias = "Callable[[Sequence[BaseMessage]], int] | BaseLanguageModel[Any]"
COUNT = "get_num_tokens_from_messages"  # how a chat model counts tokens


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
    """Counts the tokens of messages: a function, or a chat model that does it. Default: `count_tokens_approximately` of
    langchain-core."""
    refresh_ttl_on_read: bool
    """Whether reading starts the TTL anew. Default: True."""
    window: Literal["pairs", "turns"]
    """Where a window may start: `pairs` never parts tool calls from their results (the default); `turns` starts every
    window that was cut with a human message as well, where there is one."""
    dangling_calls: Literal["keep", "drop", "answer"]
    """What a read does with tool calls that never got their results: `keep` them (the default), `drop` their messages,
    or `answer` them with a tool message that says that the call was cancelled. Nothing of it is stored."""
    summarizer: Summarizer | None
    """Makes the rolling summary of the messages that leave the window: a chat model, a Runnable, or a function, sync or
    async, of the previous summary and the messages. None: they are dropped (the default)."""
    summarize: Literal["inline", "background", "manual"]
    """When summaries are made: `inline`, within the turn that makes one due (the default); in the `background`; or
    `manual`, by `compact` and `compact_due` alone, perhaps of another process that has the summarizer."""
    summarize_every: int
    """How many turns must have passed since the last summary for the next to be due. Default: 5."""
    lease_time: float | timedelta
    """Seconds (or a timedelta) for which one summary in the making keeps others from making the same. Default: 60."""
    max_evicted: int
    """The most messages that wait to be summarised; past that the oldest are dropped, with a warning. Default: 1000."""
    summary_template: str
    """The text of the summary's message; `{summary}` stands for the summary."""
    summary_role: Literal["system", "human"] | None
    """The role of the message with which `messages` begins where there is a summary; None: none. Default: `system`."""
    on_corrupt: Literal["skip", "raise"]
    """What a read does with an entry that is not a message: `skip` it with a logged warning (the default), or `raise`
    MessageDecodeError."""
    encryption_keys: EncryptionKeys | None
    """Encrypt messages, summaries and values: keys of 32 bytes each, as bytes or as url-safe base64 text, such as
    `Fernet.generate_key()` gives. The first encrypts, all decrypt. None: no encryption (the default)."""
    accept_plaintext: bool
    """Whether a history with `encryption_keys` also reads what is not encrypted, as it was stored before there were
    keys; whoever can write to the store can then put messages into it. Default: False."""
    compress_above: int | None
    """Compress messages that are longer than this, in bytes as JSON, where that makes them shorter; every store reads
    them, if it has the extra `[compression]`. None: compress none (the default)."""


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
    credential_provider: CredentialProvider | None
    """Gives the user name and the password of each new connection, in place of those in the URL: a
    `redis.credentials.CredentialProvider`. None: those in the URL (the default)."""


class LayerOptions(TypedDict, total=False):
    """What is between a store and Redis.

    Out-of-range values raise ValueError at construction.
    """

    fallback: bool | str | os.PathLike[str]
    """Whether conversations go on inside the process then, and Redis is told of them when it is back (the default). A
    path: what is to be told is kept in that file too, so that the next process can tell it. False: operations raise
    BackendUnavailable."""
    max_journal: int
    """The most operations that wait for Redis; past that, a write raises BackendUnavailable. Default: 10,000."""
    near_cache: bool | int
    """Whether the process keeps the windows of recently used sessions, and asks Redis only for what came since: True,
    up to 32 MiB of them, or the most bytes to keep. Default: False."""


class ClientOptions(HistoryOptions, LayerOptions, total=False):
    """Every option of a store that borrows clients."""


class RedisOptions(WindowOptions, ConnectionOptions, LayerOptions, total=False):
    """What `RedisChatMessageHistory` takes beside its own arguments."""


class Options(ClientOptions, ConnectionOptions, total=False):
    """Every option of a store that is made from a URL."""


def split_options(options: Mapping[str, Any]) -> tuple[HistoryOptions, ConnectionOptions, LayerOptions]:
    """Part the options of a history, of its connections, and of outages."""
    connection = {name: value for name, value in options.items() if name in ConnectionOptions.__annotations__}
    fallback = {name: value for name, value in options.items() if name in LayerOptions.__annotations__}
    history = {name: value for name, value in options.items() if name not in connection and name not in fallback}
    return cast(HistoryOptions, history), cast(ConnectionOptions, connection), cast(LayerOptions, fallback)


@dataclass(frozen=True)
class LayerPolicy:
    """What is between a store and Redis; the options, checked and complete."""

    fallback: bool | str | os.PathLike[str] = True
    max_journal: int = 10_000
    near_cache: bool | int = False

    def __post_init__(self) -> None:
        if not isinstance(self.fallback, bool) and not (
            isinstance(self.fallback, (str, os.PathLike)) and os.fspath(self.fallback)
        ):
            raise ValueError(f"fallback must be True, False or the path of a file, not {self.fallback!r}")
        check_count("max_journal", self.max_journal)
        if not isinstance(self.near_cache, bool):
            check_count("near_cache", self.near_cache)

    @property
    def mirror_bytes(self) -> int:
        """About how many bytes of windows to keep."""
        return 32 * 2**20 if isinstance(self.near_cache, bool) else self.near_cache

    @property
    def path(self) -> str | None:
        """The file of the journal; None: it is in memory alone."""
        return None if isinstance(self.fallback, bool) else os.path.abspath(os.fspath(self.fallback))


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
    window: Literal["pairs", "turns"] = "pairs"
    dangling_calls: Literal["keep", "drop", "answer"] = "keep"
    summarizer: Summarizer | None = None
    summarize: Literal["inline", "background", "manual"] = "inline"
    summarize_every: int = 5
    lease_time: float | timedelta = 60
    max_evicted: int = 1000
    summary_template: str = "Summary of the conversation so far:\n{summary}"
    summary_role: Literal["system", "human"] | None = "system"
    on_corrupt: Literal["skip", "raise"] = "skip"
    encryption_keys: EncryptionKeys | KeyRing | None = None
    accept_plaintext: bool = False
    compress_above: int | None = None

    def __post_init__(self) -> None:
        check_name("key_prefix", self.key_prefix)
        for name in ("max_messages", "max_turns", "max_tokens", "compress_above"):
            check_count(name, getattr(self, name), optional=True)
        for name in ("summarize_every", "max_evicted"):
            check_count(name, getattr(self, name))
        if self.token_counter is not None and not callable(getattr(self.token_counter, COUNT, self.token_counter)):
            raise ValueError(f"token_counter must be a function or a chat model, not {self.token_counter!r}")
        if self.summarizer is not None and not callable(getattr(self.summarizer, "invoke", self.summarizer)):
            kind = type(self.summarizer).__name__
            raise ValueError(f"summarizer must be a chat model, a Runnable or a function, not {kind}")
        if not isinstance(self.summary_template, str) or "{summary}" not in self.summary_template:
            raise ValueError(f"summary_template must be a text with {{summary}} in it, not {self.summary_template!r}")
        check_seconds("ttl", self.ttl)
        _check_choice("refresh_ttl_on_read", self.refresh_ttl_on_read, (True, False))
        check_seconds("lease_time", self.lease_time)
        if self.lease_time is None:
            raise ValueError("lease_time must be a positive number of seconds, not None")
        _check_choice("window", self.window, ("pairs", "turns"))
        _check_choice("dangling_calls", self.dangling_calls, ("keep", "drop", "answer"))
        _check_choice("summarize", self.summarize, ("inline", "background", "manual"))
        _check_choice("summary_role", self.summary_role, ("system", "human", None))
        _check_choice("on_corrupt", self.on_corrupt, ("skip", "raise"))
        _check_choice("accept_plaintext", self.accept_plaintext, (True, False))
        if self.compress_above is not None:
            load_zstandard("compress_above needs")
        if self.encryption_keys is not None:
            from langchain_memstore.codec.encryption import KeyRing

            if not isinstance(self.encryption_keys, KeyRing):  # which shows no key, as the repr of a policy must not
                object.__setattr__(self, "encryption_keys", KeyRing(self.encryption_keys))

    @property
    def ttl_ms(self) -> int | None:
        """The TTL in milliseconds; None: no expiry."""
        return None if self.ttl is None else milliseconds(self.ttl)

    @property
    def lease_ms(self) -> int:
        """The lease time in milliseconds."""
        return milliseconds(self.lease_time)

    @property
    def key_ring(self) -> KeyRing | None:
        """The keys that encrypt; None: there is no encryption."""
        return cast("KeyRing | None", self.encryption_keys)

    @property
    def bounds(self) -> Bounds:
        """How much of a session the store keeps."""
        keeps_evicted = self.summarizer is not None or self.summarize == "manual"
        return Bounds(
            max_messages=self.max_messages,
            max_turns=self.max_turns,
            whole_turns=self.window == "turns",
            max_evicted=self.max_evicted if keeps_evicted else None,
            results=RESULTS,
            turn_starts=TURN_STARTS,
        )

    def session_codec(self, keys: SessionKeys) -> SessionCodec:
        """Return what encodes the messages and the summary of a session."""
        return SessionCodec(
            keys,
            self.key_ring,
            accept_plaintext=self.accept_plaintext,
            compress_above=self.compress_above,
            on_corrupt=self.on_corrupt,
        )

    def value_codec(self) -> ValueCodec:
        """Return what encodes the values of the key-value family."""
        return ValueCodec(self.key_ring, accept_plaintext=self.accept_plaintext)

    def with_options(self, **options: Unpack[HistoryOptions]) -> Policy:
        """Return the policy with some options changed."""
        return replace(self, **options) if options else self


def milliseconds(duration: float | timedelta) -> int:
    """Return a number of seconds, or a timedelta, in milliseconds; at least one."""
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    return max(1, round(seconds * 1000))


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
