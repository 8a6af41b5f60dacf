"""Going through the names of a store, page by page, and finding messages by what they say."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any, Generic, cast

from langchain_core.messages import AIMessage, BaseMessage

from langchain_memstore.backends.base import Backend
from langchain_memstore.codec.messages import MESSAGE_CLASSES
from langchain_memstore.errors import BackendUnavailable
from langchain_memstore.keys import SessionKeys, SessionPattern
from langchain_memstore.models import SearchHit, SessionInfo
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.listing import Scan, Stats
from langchain_memstore.ops.reading import ReadEntries
from langchain_memstore.ops.scanning import N, ScanCursor, ScanOp, ScanPage
from langchain_memstore.options import Policy, check_count

MOST_RESTARTS = 20  # how often a listing begins again before it gives up


logger = logging.getLogger(__name__)


class Listing(Generic[N]):
    """Goes through the pages of a listing; what exists from its beginning to its end is found.

    What was listed is listed again where a server was restarted or replaced meanwhile, or a Cluster has moved slots.

        listing = Listing(Scan(pattern))
        while (scan := listing.next_page()) is not None:
            names = listing.fresh(backend.execute(scan))

    Args:
        scan: The scan for the first page.
    """

    def __init__(self, scan: ScanOp[N]) -> None:
        self._scan = scan
        self._seen: set[N] = set()
        self.is_finished = False
        """Whether there is no further page."""

    def next_page(self) -> ScanOp[N] | None:
        """Return the scan for the next page; None: there is none."""
        return None if self.is_finished else self._scan

    def names(self, page: ScanPage[N]) -> list[N]:
        """Take in a page, and return its names, each once.

        Raises:
            BackendUnavailable: The listing has begun again too often.
        """
        if ScanCursor.of(page.cursor).restarts > MOST_RESTARTS:
            raise BackendUnavailable(
                f"the listing has begun again {MOST_RESTARTS} times, for servers are restarted or replaced, or slots "
                "moved, all the time; begin it anew later"
            )
        self.is_finished = page.cursor == 0
        self._scan = replace(cast("Any", self._scan), cursor=page.cursor)
        return list(dict.fromkeys(page.names))

    def fresh(self, page: ScanPage[N]) -> list[N]:
        """Take in a page, and return the names that were not listed before; raises as `names` does."""
        fresh = [name for name in self.names(page) if name not in self._seen]
        self._seen.update(fresh)
        return fresh


def list_sessions(backend: Backend, pattern: SessionPattern, *, partial: bool = False) -> Iterator[SessionInfo]:
    """List sessions; every one that exists all the while is listed once.

    Args:
        backend: Where the sessions are kept.
        pattern: Which sessions.
        partial: Whether to leave out those on nodes of a Cluster that cannot be reached, instead of raising.

    Raises:
        BackendError: The store refused or could not be reached.
    """
    return (info for _, infos in _session_pages(backend, pattern, partial) for info in infos)


async def alist_sessions(
    backend: Backend, pattern: SessionPattern, *, partial: bool = False
) -> AsyncIterator[SessionInfo]:
    """List sessions; the async variant of `list_sessions`."""
    async for _, infos in _asession_pages(backend, pattern, partial):
        for info in infos:
            yield info


@contextmanager
def skip_absent_nodes() -> Iterator[None]:
    """Leave for later what is on a node of a Cluster that cannot be reached."""
    try:
        yield
    except BackendUnavailable as error:
        if error.node is None:
            raise
        logger.warning("left for later: %s", error)


def list_names(backend: Backend, scan: ScanOp[N]) -> Iterator[list[N]]:
    """List names, some at a time; every one that exists all the while is listed once.

    Args:
        backend: Where they are kept.
        scan: The scan for the first page.

    Raises:
        BackendError: The store refused or could not be reached.
    """
    listing = Listing(scan)
    while (page := listing.next_page()) is not None:
        if fresh := listing.fresh(backend.execute(page)):
            yield fresh


async def alist_names(backend: Backend, scan: ScanOp[N]) -> AsyncIterator[list[N]]:
    """List names; the async variant of `list_names`."""
    listing = Listing(scan)
    while (page := listing.next_page()) is not None:
        if fresh := listing.fresh(await backend.aexecute(page)):
            yield fresh


def delete_names(backend: Backend, scan: ScanOp[str], delete: Callable[[list[str]], Op[Any]]) -> int:
    """Delete every name that exists all the while; one that a failover brings back meanwhile is deleted again.

    Args:
        backend: Where they are kept.
        scan: The scan for the first page.
        delete: Makes the operation that deletes names.

    Returns:
        How many names were found, and deleted.

    Raises:
        BackendError: The store refused or could not be reached; some names may have been deleted.
    """
    listing, deleted = Listing(scan), set[str]()
    while (page := listing.next_page()) is not None:
        if names := listing.names(backend.execute(page)):
            backend.execute(delete(names))
            deleted.update(names)
    return len(deleted)


async def adelete_names(backend: Backend, scan: ScanOp[str], delete: Callable[[list[str]], Op[Any]]) -> int:
    """Delete names; the async variant of `delete_names`."""
    listing, deleted = Listing(scan), set[str]()
    while (page := listing.next_page()) is not None:
        if names := listing.names(await backend.aexecute(page)):
            await backend.aexecute(delete(names))
            deleted.update(names)
    return len(deleted)


def _session_pages(
    backend: Backend, pattern: SessionPattern, partial: bool = False
) -> Iterator[tuple[bool, list[SessionInfo]]]:
    """List sessions, some at a time, and tell whether a server has listed them."""
    listing = Listing(Scan(pattern, partial=partial))
    while (scan := listing.next_page()) is not None:
        page = backend.execute(scan)
        if session_ids := listing.fresh(page):
            yield page.by_server, backend.execute(_stats(pattern, session_ids, page.by_server))


async def _asession_pages(
    backend: Backend, pattern: SessionPattern, partial: bool = False
) -> AsyncIterator[tuple[bool, list[SessionInfo]]]:
    """List sessions; the async variant of `_session_pages`."""
    listing = Listing(Scan(pattern, partial=partial))
    while (scan := listing.next_page()) is not None:
        page = await backend.aexecute(scan)
        if session_ids := listing.fresh(page):
            yield page.by_server, await backend.aexecute(_stats(pattern, session_ids, page.by_server))


def _stats(pattern: SessionPattern, session_ids: list[str], by_server: bool) -> Stats:
    return Stats(tuple(SessionKeys(pattern.prefix, session_id) for session_id in session_ids), listed=by_server)


def glimpse_sessions(
    backend: Backend, pattern: SessionPattern, most: int, seconds: float
) -> tuple[list[SessionInfo], bool]:
    """List sessions for a look at them, which ends soon however many there are.

    Args:
        backend: Where the sessions are kept.
        pattern: Which sessions.
        most: The most sessions to list.
        seconds: After how long no further page is asked for.

    Returns:
        The sessions, and whether these are all.
    """
    listing, deadline = Listing(Scan(pattern)), time.monotonic() + seconds
    found: list[SessionInfo] = []
    while (scan := listing.next_page()) is not None:
        page = backend.execute(scan)
        session_ids = listing.fresh(page)
        room = most - len(found)
        if session_ids and room:
            last_used = session_ids[-room:]  # the last used stand last, where the store is in the process
            infos = backend.execute(_stats(pattern, last_used, page.by_server))
            found += infos
        if len(session_ids) > room or (time.monotonic() >= deadline and not listing.is_finished):
            return found, False
    return found, True


class Query:
    """What to look for in messages.

    Args:
        text: What a message's text, or its tool calls, must hold.
        case_sensitive: Whether capitals matter.
        types: The types of messages to look at, such as `human` and `ai`; None: all.
        limit: The most messages to find; None: all.

    Raises:
        ValueError: An argument makes no sense.
    """

    def __init__(
        self, text: str, case_sensitive: bool = False, types: Collection[str] | None = None, limit: int | None = None
    ) -> None:
        if not isinstance(text, str) or not text:
            raise ValueError(f"text must be a non-empty string, not {text!r}")
        check_count("limit", limit, optional=True)
        self._fold = str if case_sensitive else str.casefold
        self._text = self._fold(text)
        self._as_json = self._fold(_json(text)[1:-1])
        self._types = None if types is None else frozenset((types,) if isinstance(types, str) else types)
        if unknown := (self._types or frozenset()) - MESSAGE_CLASSES.keys():
            raise ValueError(f"types must be of {', '.join(MESSAGE_CLASSES)}, not {sorted(unknown, key=str)}")
        self.limit = limit

    def matches(self, message: BaseMessage) -> bool:
        """Tell whether a message is what is looked for."""
        if self._types is not None and message.type not in self._types:
            return False
        if self._text in self._fold(message.text):
            return True
        calls = message.tool_calls if isinstance(message, AIMessage) else ()
        for call in calls:
            said = self._fold(f"{call['name']} {_json(call['args'])}")
            if self._text in said or self._as_json in said:
                return True
        return False

    def first(self, messages: Iterable[BaseMessage]) -> list[BaseMessage]:
        """Return the first of the messages that match, up to the limit."""
        return list(islice(filter(self.matches, messages), self.limit))


def search_sessions(backend: Backend, pattern: SessionPattern, query: Query, policy: Policy) -> Iterator[SearchHit]:
    """Find messages in sessions, as the listing of these goes on.

    Args:
        backend: Where the sessions are kept.
        pattern: Which sessions.
        query: What to look for.
        policy: With which keys to decrypt, and what to do with entries that are not messages.
    """
    pages = _session_pages(backend, pattern)
    reads = (_read(pattern, info, by_server) for by_server, infos in pages for info in infos)
    hits = (hit for read in reads for hit in _hits(read.keys, backend.execute(read), query, policy))
    return islice(hits, query.limit)


async def asearch_sessions(
    backend: Backend, pattern: SessionPattern, query: Query, policy: Policy
) -> AsyncIterator[SearchHit]:
    """Find messages in sessions; the async variant of `search_sessions`."""
    found = 0
    async for by_server, infos in _asession_pages(backend, pattern):
        for info in infos:
            read = _read(pattern, info, by_server)
            for hit in _hits(read.keys, await backend.aexecute(read), query, policy):
                yield hit
                found += 1
                if found == query.limit:
                    return


def _read(pattern: SessionPattern, info: SessionInfo, by_server: bool) -> ReadEntries:
    return ReadEntries(SessionKeys(pattern.prefix, info.session_id), listed=by_server)


def _hits(keys: SessionKeys, entries: list[bytes], query: Query, policy: Policy) -> Iterator[SearchHit]:
    messages = policy.session_codec(keys).decode(entries)
    return (SearchHit(keys.session_id, message) for message in messages if query.matches(message))


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str, skipkeys=True)
    except RecursionError:  # other hands wrote it: no value that `codec.encode` stores has so many levels
        return ""
