"""Chat message histories: what LangChain sees of a conversation.

This is the only file that meets `BaseChatMessageHistory`, which langchain-core deprecates and removes in 2.0.0.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage
from typing_extensions import Unpack, override

from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.conversation import Conversation
from langchain_memstore.keys import check_name
from langchain_memstore.options import HistoryOptions, LayerPolicy, Policy, RedisOptions, split_options

if TYPE_CHECKING:
    from langchain_memstore.backends.base import Backend
    from langchain_memstore.summaries.compactor import Compactor

try:
    from langchain_core.chat_history import BaseChatMessageHistory
except ImportError:  # langchain-core 2.0
    BaseChatMessageHistory = object  # type: ignore[assignment,misc]


class ChatMessageHistory(Conversation, BaseChatMessageHistory):  # type: ignore[override]
    """The history of one conversation: a `BaseChatMessageHistory`; see `Conversation` for what it does.

    Stores make it: `Memstore.history`.
    """


def compactor_for(backend: Backend, policy: Policy) -> Compactor | None:
    """Return what makes the summaries of a history without a store; None where nothing waits for one."""
    if policy.bounds.max_evicted is None:
        return None
    from langchain_memstore.summaries.compactor import Compactor

    return Compactor(backend)


class RunHistory(ChatMessageHistory):
    """A history as one run of `RunnableWithMessageHistory` is to see it: with its first read for as long as it lives.

    That class reads the history once more when the run ends, and takes as many messages off the run's input as it
    finds. Between the two reads a bounded, expiring or shared history changes, and then it loses or repeats messages.
    """

    _first: list[BaseMessage] | None = None

    @property
    @override
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        """The conversation as it was when this run first read it."""
        if self._first is None:
            self._first = super().messages
        return self._first.copy()

    @override
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
        redis_url: `redis://`, `rediss://` or `unix://`, and the others of `Memstore.from_url`.
        key_prefix: The first part of every key.
        ttl: Seconds (or a timedelta) until an unused session expires; None: never.
        url: Another name of `redis_url`.
        redis_client: A client to borrow in place of a URL, as in `Memstore.from_client`; it is never closed.
        async_client: An async client to borrow; without one, the async methods make connections like those of
            `redis_client`.
        **options: See `HistoryOptions`, `ConnectionOptions` and `LayerOptions`.

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
        from langchain_memstore.backends.factory import redis_of_clients, redis_of_url

        history, connection, fallback = split_options({**options, "key_prefix": key_prefix, "ttl": ttl})
        policy = Policy(**history)
        check_name("session_id", session_id)
        backend = (
            redis_of_clients(redis_client, async_client, LayerPolicy(**fallback), policy.key_ring)
            if redis_client is not None or async_client is not None
            else redis_of_url(url or redis_url, connection, LayerPolicy(**fallback), policy.key_ring)
        )
        super().__init__(session_id, backend, policy, compactor_for(backend, policy))


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
        backend, policy = LocalBackend.shared(name), Policy(**options)
        super().__init__(session_id, backend, policy, compactor_for(backend, policy))
