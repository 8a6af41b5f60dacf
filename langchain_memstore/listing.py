"""Going through the names of a store, page by page, and finding messages by what they say."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from itertools import islice
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from langchain_memstore.backends.base import Backend
from langchain_memstore.codec.messages import MESSAGE_CLASSES
from langchain_memstore.keys import SessionKeys, SessionPattern
from langchain_memstore.models import SearchHit, SessionInfo
from langchain_memstore.ops.listing import Scan, ScanPage, Stats
from langchain_memstore.ops.reading import ReadEntries
from langchain_memstore.options import Policy, check_count


def list_sessions(backend: Backend, pattern: SessionPattern) -> Iterator[SessionInfo]:
    """List sessions; every one that exists all the while is listed once.

    Args:
        backend: Where the sessions are kept.
        pattern: Which sessions.
    """
    for names in list_names(backend, pattern):
        yield from backend.execute(_stats(pattern, names))


async def alist_sessions(backend: Backend, pattern: SessionPattern) -> AsyncIterator[SessionInfo]:
    """List sessions; the async variant of `list_sessions`."""
    async for names in alist_names(backend, pattern):
        for info in await backend.aexecute(_stats(pattern, names)):
            yield info


def list_names(backend: Backend, pattern: SessionPattern, *, strict: bool = False) -> Iterator[list[str]]:
    """List the names that match, some at a time; every one that exists all the while is listed once.

    Args:
        backend: Where they are kept.
        pattern: Which names.
        strict: Whether an outage raises BackendUnavailable, instead of listing what the process knows.
    """
    listing = _Listing(pattern, strict)
    while (scan := listing.next_page()) is not None:
        if fresh := listing.fresh(backend.execute(scan)):
            yield fresh


async def alist_names(backend: Backend, pattern: SessionPattern, *, strict: bool = False) -> AsyncIterator[list[str]]:
    """List the names that match; the async variant of `list_names`."""
    listing = _Listing(pattern, strict)
    while (scan := listing.next_page()) is not None:
        if fresh := listing.fresh(await backend.aexecute(scan)):
            yield fresh


def _stats(pattern: SessionPattern, session_ids: list[str]) -> Stats:
    return Stats(tuple(SessionKeys(pattern.prefix, session_id) for session_id in session_ids))


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
    listing, deadline = _Listing(pattern), time.monotonic() + seconds
    found: list[SessionInfo] = []
    while (scan := listing.next_page()) is not None:
        session_ids = listing.fresh(backend.execute(scan))
        room = most - len(found)
        if session_ids and room:
            last_used = session_ids[-room:]  # the last used stand last, where the store is in the process
            infos = backend.execute(_stats(pattern, last_used))
            found += infos
        if len(session_ids) > room or (time.monotonic() >= deadline and not listing.is_finished):
            return found, False
    return found, True


class _Listing:
    """Where a listing has come to."""

    def __init__(self, pattern: SessionPattern, strict: bool = False) -> None:
        self._pattern = pattern
        self._strict = strict
        self._cursor: int | None = None
        self._seen: set[str] = set()

    @property
    def is_finished(self) -> bool:
        """Whether there is no further page."""
        return self._cursor == 0

    def next_page(self) -> Scan | None:
        """Return the scan for the next page; None: there is none."""
        return None if self.is_finished else Scan(self._pattern, self._cursor or 0, strict=self._strict)

    def fresh(self, page: ScanPage) -> list[str]:
        """Return the names of a page that were not listed before."""
        self._cursor = page.cursor
        fresh = [name for name in dict.fromkeys(page.names) if name not in self._seen]
        self._seen.update(fresh)
        return fresh


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
    reads = (_read(pattern, info) for info in list_sessions(backend, pattern))
    hits = (hit for read in reads for hit in _hits(read.keys, backend.execute(read), query, policy))
    return islice(hits, query.limit)


async def asearch_sessions(
    backend: Backend, pattern: SessionPattern, query: Query, policy: Policy
) -> AsyncIterator[SearchHit]:
    """Find messages in sessions; the async variant of `search_sessions`."""
    found = 0
    async for info in alist_sessions(backend, pattern):
        read = _read(pattern, info)
        for hit in _hits(read.keys, await backend.aexecute(read), query, policy):
            yield hit
            found += 1
            if found == query.limit:
                return


def _read(pattern: SessionPattern, info: SessionInfo) -> ReadEntries:
    return ReadEntries(SessionKeys(pattern.prefix, info.session_id))


def _hits(keys: SessionKeys, entries: list[bytes], query: Query, policy: Policy) -> Iterator[SearchHit]:
    messages = policy.session_codec(keys).decode(entries)
    return (SearchHit(keys.session_id, message) for message in messages if query.matches(message))


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str, skipkeys=True)
    except RecursionError:  # other hands wrote it: no value that `codec.encode` stores has so many levels
        return ""
