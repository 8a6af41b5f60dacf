"""The store: where an application's conversations are kept, and the hub from which their histories come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any

from typing_extensions import Self, Unpack

from langchain_memstore.backends.base import Backend, Status
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.history import ChatMessageHistory, RunHistory
from langchain_memstore.keys import SessionKeys, SessionPattern
from langchain_memstore.ops.listing import Page, Scan, SessionInfo, Stats
from langchain_memstore.options import ConnectionOptions, HistoryOptions, Options, Policy, split_options

LOCAL_SCHEME = "memory://"


class Memstore:
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

    @classmethod
    def from_url(cls, url: str = LOCAL_SCHEME, **options: Unpack[Options]) -> Self:
        """Make a store at a URL, without connecting yet.

        Args:
            url: `memory://` (in the process, for this store alone), `memory://<name>` (in the process, for all stores
                of that name), `redis://`, `rediss://` or `unix://`.
            **options: See `HistoryOptions` and `ConnectionOptions`.

        Raises:
            ValueError: The URL or an option makes no sense.
        """
        history_options, connection_options = split_options(options)
        Policy(**history_options)
        return cls(_backend(url, connection_options), **history_options)

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
        return cls.from_url(settings.url(), **merged)

    @classmethod
    def from_client(cls, redis_client: Any = None, async_client: Any = None, **options: Unpack[HistoryOptions]) -> Self:
        """Make a store that borrows Redis clients, and never closes them.

        Args:
            redis_client: A `redis.Redis`.
            async_client: A `redis.asyncio.Redis`. For the face that no client is given for, connections with the same
                settings are made.
            **options: See `HistoryOptions`.

        Raises:
            ValueError: No client is given, or an option makes no sense.
        """
        from langchain_memstore.backends.connections import Borrowed
        from langchain_memstore.backends.redis import RedisBackend

        return cls(RedisBackend(Borrowed(redis_client, async_client)), **options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(backend={self._backend!r}, key_prefix={self._policy.key_prefix!r})"

    @property
    def status(self) -> Status:
        """How the store does: what a health endpoint shows. Looking does no I/O."""
        return self._backend.status

    def history(self, session_id: str, **options: Unpack[HistoryOptions]) -> ChatMessageHistory:
        """Return the history of a conversation.

        Args:
            session_id: Which conversation; any non-empty text.
            **options: What this history does differently from its store.

        Raises:
            ValueError: The session id is not a non-empty text, or an option makes no sense.
        """
        return ChatMessageHistory(session_id, self._backend, self._policy.with_options(**options))

    def get_session_history(self, session_id: str) -> RunHistory:
        """Return the history of a conversation for one run of `RunnableWithMessageHistory`.

        It keeps its first read for as long as it lives, so that the run neither loses nor repeats messages. Use
        `history` elsewhere.

        Args:
            session_id: Which conversation; any non-empty text.

        Raises:
            ValueError: The session id is not a non-empty text.
        """
        return RunHistory(session_id, self._backend, self._policy)

    def sessions(self, match: str = "*") -> Iterator[SessionInfo]:
        """List conversations, page by page; every one that exists all the while is listed once.

        Args:
            match: A pattern over session ids: `*`, `?`, `[seq]`, `[!seq]`.

        Yields:
            What is known of each session. Looking refreshes no TTL.

        Raises:
            ValueError: The pattern is not a non-empty text.
            BackendError: The store refused or could not be reached.
        """
        listing = _Listing(self._policy.key_prefix, match)
        while (scan := listing.next_page()) is not None:
            stats = listing.stats(self._backend.execute(scan))
            if stats.sessions:
                yield from self._backend.execute(stats)

    async def asessions(self, match: str = "*") -> AsyncIterator[SessionInfo]:
        """List conversations; the async face of `sessions`."""
        listing = _Listing(self._policy.key_prefix, match)
        while (scan := listing.next_page()) is not None:
            stats = listing.stats(await self._backend.aexecute(scan))
            if stats.sessions:
                for info in await self._backend.aexecute(stats):
                    yield info

    def close(self) -> None:
        """Let go of what the store owns; what it borrowed stays open. Closing twice is closing once."""
        self._backend.close()

    async def aclose(self) -> None:
        """Let go of what the store owns, the running event loop's connections included."""
        await self._backend.aclose()

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


class _Listing:
    """Where a listing of sessions has come to."""

    def __init__(self, prefix: str, match: str) -> None:
        self._pattern = SessionPattern(prefix, match)
        self._cursor: int | None = None
        self._seen: set[str] = set()

    def next_page(self) -> Scan | None:
        """Return the scan for the next page; None: there is none."""
        return None if self._cursor == 0 else Scan(self._pattern, self._cursor or 0)

    def stats(self, page: Page) -> Stats:
        """Return the look at the sessions of a page that were not listed before."""
        self._cursor = page.cursor
        fresh = [session_id for session_id in dict.fromkeys(page.session_ids) if session_id not in self._seen]
        self._seen.update(fresh)
        return Stats(tuple(SessionKeys(self._pattern.prefix, session_id) for session_id in fresh))


def _backend(url: str, options: ConnectionOptions) -> Backend:
    if not isinstance(url, str) or "://" not in url:
        raise ValueError("the URL must be memory://, redis://, rediss:// or unix://")
    if url.startswith(LOCAL_SCHEME):
        name = url.removeprefix(LOCAL_SCHEME)
        return LocalBackend.shared(name) if name else LocalBackend()
    from langchain_memstore.backends.connections import Connections
    from langchain_memstore.backends.redis import RedisBackend

    return RedisBackend(Connections.of_url(url, **options))
