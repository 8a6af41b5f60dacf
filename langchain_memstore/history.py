"""Chat message histories: what LangChain sees of a conversation.

This is the only file that meets `BaseChatMessageHistory`, which langchain-core deprecates and removes in 2.0.0.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    get_buffer_string,
)
from typing_extensions import Unpack

from langchain_memstore import codec
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.errors import MessageDecodeError
from langchain_memstore.keys import SessionKeys, check_name
from langchain_memstore.ops.session import Append, Clear, Pop, Read, RegisterTurn, SessionData, SetSummary, Touch
from langchain_memstore.options import HistoryOptions, Policy, RedisOptions, check_count, split_options
from langchain_memstore.prompt import build_prompt
from langchain_memstore.window import Bounds

if TYPE_CHECKING:
    from langchain_memstore.backends.base import Backend

try:
    from langchain_core.chat_history import BaseChatMessageHistory
except ImportError:  # langchain-core 2.0
    BaseChatMessageHistory = object  # type: ignore[assignment,misc]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """All there is of a session at one moment."""

    messages: list[BaseMessage]
    """The window, oldest first, without the summary."""
    summary: str | None
    """The rolling summary; None: there is none."""
    turns: int
    """The turn counter."""
    total: int
    """How many messages were ever appended."""
    ttl: float | None
    """Seconds until the session would have expired when it was read; None: it does not expire."""


class ChatMessageHistory(BaseChatMessageHistory):
    """The history of one conversation; a `BaseChatMessageHistory` with native async methods.

    Making one does no I/O, and holds nothing of the conversation: two histories with the same session id on the same
    store are the same conversation. Stores make it: `Memstore.history`.

    Args:
        session_id: Which conversation; any non-empty text.
        backend: Where the conversation is kept.
        policy: How it is kept.

    Raises:
        ValueError: The session id is not a non-empty text.
    """

    def __init__(self, session_id: str, backend: Backend, policy: Policy) -> None:
        self.session_id = session_id
        self.keys = SessionKeys(policy.key_prefix, session_id)
        """The keys of the session in Redis."""
        self._backend = backend
        self._policy = policy
        self._ttl = policy.ttl_ms
        self._bounds = Bounds(policy.max_messages, policy.max_turns, codec.RESULTS, codec.TURN_STARTS)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(session_id={self.session_id!r}, backend={self._backend!r})"

    def __str__(self) -> str:
        return get_buffer_string(self.messages)

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages as one: all of them or none, and once, however often the connection is lost.

        Args:
            messages: What to append, oldest first; with none, nothing is done.

        Raises:
            MessageEncodeError: A message cannot be stored and come back equal; nothing was written.
            BackendError: The store refused or could not be reached.
        """
        if entries := codec.encode(messages):
            self._backend.execute(self._append(entries))

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages; the async face of `add_messages`."""
        if entries := codec.encode(messages):
            await self._backend.aexecute(self._append(entries))

    def add_message(self, message: BaseMessage) -> None:
        """Append one message; see `add_messages`."""
        self.add_messages([message])

    async def aadd_message(self, message: BaseMessage) -> None:
        """Append one message; see `add_messages`."""
        await self.aadd_messages([message])

    def add_user_message(self, message: HumanMessage | str) -> None:
        """Append what the human says, as a message or as its text; see `add_messages`."""
        self.add_messages([HumanMessage(message) if isinstance(message, str) else message])

    async def aadd_user_message(self, message: HumanMessage | str) -> None:
        """Append what the human says; the async face of `add_user_message`."""
        await self.aadd_messages([HumanMessage(message) if isinstance(message, str) else message])

    def add_ai_message(self, message: AIMessage | str) -> None:
        """Append what the model says, as a message or as its text; see `add_messages`."""
        self.add_messages([AIMessage(message) if isinstance(message, str) else message])

    async def aadd_ai_message(self, message: AIMessage | str) -> None:
        """Append what the model says; the async face of `add_ai_message`."""
        await self.aadd_messages([AIMessage(message) if isinstance(message, str) else message])

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        """The conversation as a model is to see it: a message with the summary where there is one, then the window.

        New messages each time: changing them changes nothing that is stored.

        Raises:
            MessageDecodeError: An entry is not a message, with `on_corrupt="raise"`.
            BackendError: The store refused or could not be reached.
        """
        return self._prompt(self._backend.execute(self._read()))

    async def aget_messages(self) -> list[BaseMessage]:
        """Return the conversation as a model is to see it; the async face of `messages`."""
        return self._prompt(await self._backend.aexecute(self._read()))

    @property
    def summary(self) -> str | None:
        """The rolling summary; None: there is none."""
        return self._backend.execute(self._read(window=False)).summary or None

    async def aget_summary(self) -> str | None:
        """Return the rolling summary; None: there is none."""
        return (await self._backend.aexecute(self._read(window=False))).summary or None

    def set_summary(self, summary: str | None) -> None:
        """Replace the rolling summary.

        Args:
            summary: The text; empty or None removes the summary, which does nothing where there is none.

        Raises:
            ValueError: The summary is not text that UTF-8 can encode.
            BackendError: The store refused or could not be reached.
        """
        self._backend.execute(self._set_summary(summary))

    async def aset_summary(self, summary: str | None) -> None:
        """Replace the rolling summary; the async face of `set_summary`."""
        await self._backend.aexecute(self._set_summary(summary))

    @property
    def turns(self) -> int:
        """The turn counter: how many human messages were appended, and turns registered by hand."""
        return self._backend.execute(self._read(window=False)).turns

    async def aget_turns(self) -> int:
        """Return the turn counter; the async face of `turns`."""
        return (await self._backend.aexecute(self._read(window=False))).turns

    def register_turn(self) -> int:
        """Count one turn by hand, and return the turn counter."""
        return self._backend.execute(RegisterTurn(self.keys, self._ttl))

    async def aregister_turn(self) -> int:
        """Count one turn by hand, and return the turn counter."""
        return await self._backend.aexecute(RegisterTurn(self.keys, self._ttl))

    def snapshot(self) -> Snapshot:
        """Read all there is of the session at one moment, in one round trip."""
        return self._snapshot(self._backend.execute(self._read()))

    async def asnapshot(self) -> Snapshot:
        """Read all there is of the session at one moment; the async face of `snapshot`."""
        return self._snapshot(await self._backend.aexecute(self._read()))

    def pop(self, count: int = 1) -> list[BaseMessage]:
        """Take the newest messages off, and the turns that they started off the turn counter.

        Args:
            count: How many messages, at least 1.

        Returns:
            The messages, oldest first; fewer where the window holds fewer.

        Raises:
            ValueError: The count is not a whole number of at least 1.
            BackendError: The store refused or could not be reached.
        """
        return self._decode(self._backend.execute(self._pop(count)))

    async def apop(self, count: int = 1) -> list[BaseMessage]:
        """Take the newest messages off; the async face of `pop`."""
        return self._decode(await self._backend.aexecute(self._pop(count)))

    def touch(self) -> bool:
        """Start the TTL anew, and tell whether there is such a session."""
        return self._backend.execute(Touch(self.keys, self._ttl))

    async def atouch(self) -> bool:
        """Start the TTL anew, and tell whether there is such a session."""
        return await self._backend.aexecute(Touch(self.keys, self._ttl))

    def clear(self) -> None:
        """Remove the session: messages, summary and turn counter. Clearing what is not there does nothing."""
        self._backend.execute(Clear(self.keys))

    async def aclear(self) -> None:
        """Remove the session; the async face of `clear`."""
        await self._backend.aexecute(Clear(self.keys))

    def _append(self, entries: tuple[bytes, ...]) -> Append:
        return Append(self.keys, entries, self._bounds, self._ttl)

    def _read(self, window: bool = True) -> Read:
        return Read(self.keys, self._ttl, self._policy.refresh_ttl_on_read, window)

    def _pop(self, count: int) -> Pop:
        check_count("count", count)
        return Pop(self.keys, count, codec.TURN_STARTS, self._ttl)

    def _set_summary(self, summary: str | None) -> SetSummary:
        if summary is not None and not isinstance(summary, str):
            raise ValueError(f"summary must be text or None, not {type(summary).__name__}")
        return SetSummary(self.keys, summary or "", self._ttl)

    def _decode(self, entries: list[bytes]) -> list[BaseMessage]:
        try:
            return [codec.decode(entry) for entry in entries]
        except MessageDecodeError:
            return self._decode_each(entries)

    def _decode_each(self, entries: list[bytes]) -> list[BaseMessage]:
        messages, corrupt = [], []
        for index, entry in enumerate(entries):
            try:
                messages.append(codec.decode(entry))
            except MessageDecodeError as error:
                if self._policy.on_corrupt == "raise":
                    raise MessageDecodeError(
                        f"session {self.session_id!r}, entry {index}: {error}; repair or clear the session, or read "
                        'with on_corrupt="skip"'
                    ) from error
                corrupt.append(index)
        logger.warning("session %r: skipped entries that are not messages, at index %s", self.session_id, corrupt)
        return messages

    def _prompt(self, data: SessionData) -> list[BaseMessage]:
        return build_prompt(self._decode(data.entries), data.summary, self._policy, self.session_id)

    def _snapshot(self, data: SessionData) -> Snapshot:
        return Snapshot(
            messages=self._decode(data.entries),
            summary=data.summary or None,
            turns=data.turns,
            total=data.total,
            ttl=None if data.left is None else data.left / 1000,
        )


class RunHistory(ChatMessageHistory):
    """A history as one run of `RunnableWithMessageHistory` is to see it: with its first read for as long as it lives.

    That class reads the history once more when the run ends, and takes as many messages off the run's input as it
    finds. Between the two reads a bounded, expiring or shared history changes, and then it loses or repeats messages.
    """

    _first: list[BaseMessage] | None = None

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        """The conversation as it was when this run first read it."""
        if self._first is None:
            self._first = super().messages
        return self._first.copy()

    async def aget_messages(self) -> list[BaseMessage]:
        """Return the conversation as it was when this run first read it."""
        if self._first is None:
            self._first = await super().aget_messages()
        return self._first.copy()


class RedisChatMessageHistory(ChatMessageHistory):
    """The history of one conversation in Redis, made without a store.

    Takes the place of the classes of the same name in langchain-community and langchain-redis: their arguments are
    understood, positions included. All histories of a URL share one connection pool in a process.

    Args:
        session_id: Which conversation; any non-empty text.
        redis_url: `redis://`, `rediss://` or `unix://`.
        key_prefix: The first part of every key.
        ttl: Seconds (or a timedelta) until an unused session expires; None: never.
        url: Another name of `redis_url`.
        redis_client: A `redis.Redis` to borrow in place of a URL; it is never closed.
        async_client: A `redis.asyncio.Redis` to borrow; without one, the async methods make connections like those of
            `redis_client`.
        **options: See `HistoryOptions` and `ConnectionOptions`.

    Raises:
        ValueError: An argument makes no sense.
    """

    def __init__(
        self,
        session_id: str,
        redis_url: str = "redis://localhost:6379/0",
        key_prefix: str = Policy.key_prefix,
        ttl: float | timedelta | None = Policy.ttl,
        *,
        url: str | None = None,
        redis_client: Any = None,
        async_client: Any = None,
        **options: Unpack[RedisOptions],
    ) -> None:
        from langchain_memstore.backends.connections import Borrowed, Connections
        from langchain_memstore.backends.redis import RedisBackend

        history_options, connection_options = split_options({**options, "key_prefix": key_prefix, "ttl": ttl})
        policy = Policy(**history_options)
        check_name("session_id", session_id)
        if redis_client is not None or async_client is not None:
            connections: Connections = Borrowed(redis_client, async_client)
        else:
            connections = Connections.of_url(url or redis_url, **connection_options)
        super().__init__(session_id, RedisBackend(connections), policy)


class LocalChatMessageHistory(ChatMessageHistory):
    """The history of one conversation inside the process, made without a store.

    Args:
        session_id: Which conversation; any non-empty text.
        name: Which of the process's named stores keeps it, as `Memstore.from_url("memory://<name>")` does.
        **options: See `HistoryOptions`.

    Raises:
        ValueError: An argument makes no sense.
    """

    def __init__(self, session_id: str, *, name: str = "default", **options: Unpack[HistoryOptions]) -> None:
        super().__init__(session_id, LocalBackend.shared(name), Policy(**options))
