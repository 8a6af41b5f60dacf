"""The store: where an application's conversations are kept, and the hub from which their histories come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from typing_extensions import Self, Unpack, override

from langchain_memstore import display
from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.factory import LOCAL, backend_of_url
from langchain_memstore.display.notebook import shows
from langchain_memstore.history import ChatMessageHistory, RunHistory, compactor_for
from langchain_memstore.keys import SessionKeys, SessionPattern
from langchain_memstore.kv.factories import KeyValueFamily
from langchain_memstore.listing import (
    Query,
    alist_sessions,
    asearch_sessions,
    glimpse_sessions,
    list_sessions,
    search_sessions,
    skip_absent_nodes,
)
from langchain_memstore.models import SearchHit, SessionInfo, Shown, Status
from langchain_memstore.options import (
    ClientOptions,
    HistoryOptions,
    LayerPolicy,
    Options,
    Policy,
    check_count,
    split_options,
)

if TYPE_CHECKING:
    from langchain_memstore.summaries.compactor import Compactor

GLIMPSE = 1000, 1.0  # sessions and seconds, after which a store that shows itself looks no further


class Memstore(KeyValueFamily, Shown):
    """A store of conversations.

    Serves threads and event loops alike, and any number of them. Use it as a context manager, sync or async, or close
    it when the application ends.

    Args:
        backend: Where conversations are kept.
        **options: How they are kept; see `HistoryOptions`.

    Raises:
        ValueError: An option makes no sense.
    """

    def __init__(self, backend: Backend, **options: Unpack[HistoryOptions]) -> None:
        self._backend = backend
        self._policy = Policy(**options)
        self._compactor: Compactor | None = None

    @classmethod
    def from_url(cls, url: str = LOCAL, **options: Unpack[Options]) -> Self:
        """Make a store at a URL, without connecting yet.

        Args:
            url: `memory://` (in the process, for this store alone), `memory://<name>` (in the process, for all stores
                of that name), `redis://`, `rediss://` (TLS), `unix://`, `redis+cluster://host:port,host:port`,
                `redis+sentinel://host:port,host:port/service/db`; or these with `rediss+`.
            **options: See `HistoryOptions`, `ConnectionOptions` and `LayerOptions`.

        Raises:
            ValueError: The URL or an option makes no sense.
        """
        history, connection, fallback = split_options(options)
        key_ring = Policy(**history).key_ring
        return cls(backend_of_url(url, connection, LayerPolicy(**fallback), key_ring), **history)

    @classmethod
    def from_env(cls, **options: Unpack[Options]) -> Self:
        """Make a store as the environment and a `.env` file say; see `MemstoreSettings`.

        Args:
            **options: What to take instead of what the environment says.

        Raises:
            ValueError: A variable or an option makes no sense.
        """
        from langchain_memstore.settings import MemstoreSettings

        settings = MemstoreSettings.load()
        merged: Options = {**settings.options(), **options}
        try:
            return cls.from_url(settings.url(), **merged)
        except ValueError as error:
            if settings.redis_url is None or "URL" not in str(error):  # an option is wrong
                raise
            raise ValueError(f"the environment (or .env) cannot be used: REDIS_URL: {error}") from None

    @classmethod
    def from_client(cls, redis_client: Any = None, async_client: Any = None, **options: Unpack[ClientOptions]) -> Self:
        """Make a store that borrows Redis clients, and never closes them.

        Args:
            redis_client: A `redis.Redis`, of a server or of `Sentinel.master_for`, or a `redis.RedisCluster`.
            async_client: The same of `redis.asyncio`. For the variant that no client is given for, connections with the
                same settings are made; and of a cluster's client, its settings are taken for both.
            **options: See `HistoryOptions` and `LayerOptions`.

        Raises:
            ValueError: No client is given, or an option makes no sense.
        """
        from langchain_memstore.backends.factory import redis_of_clients

        history, connection, fallback = split_options(options)
        if connection:
            raise ValueError(f"{', '.join(connection)} cannot be set here: the clients have connections of their own")
        key_ring = Policy(**history).key_ring
        return cls(redis_of_clients(redis_client, async_client, LayerPolicy(**fallback), key_ring), **history)

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}(backend={self._backend!r}, key_prefix={self._policy.key_prefix!r})"

    @property
    def status(self) -> Status:
        """How the store does: what a health endpoint shows. Looking does no I/O."""
        failures = self._compactor.failures if self._compactor is not None else ()
        return replace(self._backend.status, summary_failures=failures)

    def history(self, session_id: str, **options: Unpack[HistoryOptions]) -> ChatMessageHistory:
        """Return the history of a conversation.

        Args:
            session_id: Which conversation; any non-empty text.
            **options: What this history does differently from its store.

        Raises:
            ValueError: The session id is not a non-empty text, or an option makes no sense.
        """
        policy = self._policy.with_options(**options)
        return ChatMessageHistory(session_id, self._backend, policy, self._compactor_for(policy))

    def get_session_history(self, session_id: str) -> RunHistory:
        """Return the history of a conversation for one run of `RunnableWithMessageHistory`.

        It keeps its first read for as long as it lives, so that the run neither loses nor repeats messages. Use
        `history` elsewhere.

        Args:
            session_id: Which conversation; any non-empty text.

        Raises:
            ValueError: The session id is not a non-empty text.
        """
        return RunHistory(session_id, self._backend, self._policy, self._compactor_for(self._policy))

    def sessions(self, match: str = "*") -> Iterator[SessionInfo]:
        """List conversations, page by page; every one that exists all the while is listed once.

        Args:
            match: A pattern over session ids: `*`, `?`, `[seq]`, `[!seq]`.

        Returns:
            An iterator over what is known of each session. Looking refreshes no TTL.

        Raises:
            ValueError: The pattern is not a non-empty text.
            BackendError: The store refused or could not be reached.
        """
        return list_sessions(self._backend, self._pattern(match))

    def asessions(self, match: str = "*") -> AsyncIterator[SessionInfo]:
        """List conversations; the async variant of `sessions`."""
        return alist_sessions(self._backend, self._pattern(match))

    def search(
        self,
        text: str,
        *,
        match: str = "*",
        case_sensitive: bool = False,
        types: Collection[str] | None = None,
        limit: int | None = None,
    ) -> Iterator[SearchHit]:
        """Find messages in all conversations, as the listing goes on; no TTL is refreshed.

        Args:
            text: What a message's text, or its tool calls, must hold.
            match: In which sessions; see `sessions`.
            case_sensitive: Whether capitals matter.
            types: The types of messages to look at, such as `human` and `ai`; None: all.
            limit: The most messages to find; None: all.

        Returns:
            An iterator over the messages that were found, with their sessions' ids.

        Raises:
            ValueError: An argument makes no sense.
            DecryptError: An entry cannot be decrypted.
            BackendError: The store refused or could not be reached.
        """
        query = Query(text, case_sensitive, types, limit)
        return search_sessions(self._backend, self._pattern(match), query, self._policy)

    def asearch(
        self,
        text: str,
        *,
        match: str = "*",
        case_sensitive: bool = False,
        types: Collection[str] | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[SearchHit]:
        """Find messages in all conversations; the async variant of `search`."""
        query = Query(text, case_sensitive, types, limit)
        return asearch_sessions(self._backend, self._pattern(match), query, self._policy)

    def compact_due(self, limit: int | None = None) -> int:
        """Make the summaries that are due; what a worker process calls in a loop.

        Sessions on nodes of a Cluster that cannot be reached are left for later.

        Args:
            limit: The most summaries to make; None: all that are due.

        Returns:
            How many summaries were made. One that fails is logged, shown in `status`, and not counted.

        Raises:
            ValueError: The store has no summarizer, or the limit is not a whole number of at least 1.
            DecryptError: What waits in a session, or its summary, cannot be decrypted.
            BackendError: The store refused or could not be reached.
        """
        compactor, policy, made = self._summarizing(limit), self._policy, 0
        for info in list_sessions(self._backend, self._pattern("*"), partial=True):
            if made == limit:
                break
            if info.evicted:
                keys = SessionKeys(policy.key_prefix, info.session_id)
                with skip_absent_nodes():
                    made += compactor.compact(keys, policy, policy.summarize_every)
        return made

    async def acompact_due(self, limit: int | None = None) -> int:
        """Make the summaries that are due; the async variant of `compact_due`."""
        compactor, policy, made = self._summarizing(limit), self._policy, 0
        async for info in alist_sessions(self._backend, self._pattern("*"), partial=True):
            if made == limit:
                break
            if info.evicted:
                keys = SessionKeys(policy.key_prefix, info.session_id)
                with skip_absent_nodes():
                    made += await compactor.acompact(keys, policy, policy.summarize_every)
        return made

    def close(self) -> None:
        """Wait for summaries in the background, then let go of what the store owns; what it borrowed stays open.

        Closing twice is closing once.
        """
        if self._compactor is not None:
            self._compactor.close()
        self._backend.close()

    async def aclose(self) -> None:
        """Wait for summaries in the background, then let go of what the store owns; the async variant of `close`."""
        if self._compactor is not None:
            await self._compactor.aclose()
        await self._backend.aclose()

    def _page(self) -> display.Page:
        found, whole = glimpse_sessions(self._backend, self._pattern("*"), *GLIMPSE)
        return display.store_page(self.status, self._policy.key_prefix, found, whole=whole)

    def _pattern(self, match: str) -> SessionPattern:
        return SessionPattern(self._policy.key_prefix, match)

    def _compactor_for(self, policy: Policy) -> Compactor | None:
        if self._compactor is None:
            self._compactor = compactor_for(self._backend, policy)
        return self._compactor

    def _summarizing(self, limit: int | None) -> Compactor:
        check_count("limit", limit, optional=True)
        compactor = self._compactor_for(self._policy)
        if compactor is None or self._policy.summarizer is None:
            raise ValueError("the store has no summarizer; pass summarizer= when it is made")
        return compactor

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


shows(Memstore, lambda store: store._page())
