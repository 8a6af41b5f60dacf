"""Going through the names of a store, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import chain, islice

from langchain_memstore.backends.base import Backend
from langchain_memstore.keys import SessionKeys, SessionPattern
from langchain_memstore.ops.listing import Page, Scan, SessionInfo, Stats


def list_sessions(backend: Backend, pattern: SessionPattern) -> Iterator[SessionInfo]:
    """List sessions; every one that exists all the while is listed once.

    Args:
        backend: Where the sessions are kept.
        pattern: Which sessions.
    """
    for names in list_names(backend, pattern):
        yield from backend.execute(_stats(pattern, names))


async def alist_sessions(backend: Backend, pattern: SessionPattern) -> AsyncIterator[SessionInfo]:
    """List sessions; the async face of `list_sessions`."""
    async for names in alist_names(backend, pattern):
        for info in await backend.aexecute(_stats(pattern, names)):
            yield info


def glimpse_sessions(backend: Backend, pattern: SessionPattern, most: int) -> tuple[list[SessionInfo], bool]:
    """Look at some sessions, and tell whether there are others.

    Args:
        backend: Where the sessions are kept.
        pattern: Which sessions.
        most: How many to look at.
    """
    names = list(islice(chain.from_iterable(list_names(backend, pattern)), most + 1))
    return backend.execute(_stats(pattern, names[:most])) if names else [], len(names) > most


def list_names(backend: Backend, pattern: SessionPattern) -> Iterator[list[str]]:
    """List the names that match, some at a time; every one that exists all the while is listed once.

    Args:
        backend: Where they are kept.
        pattern: Which names.
    """
    listing = _Listing(pattern)
    while (scan := listing.next_page()) is not None:
        if fresh := listing.fresh(backend.execute(scan)):
            yield fresh


async def alist_names(backend: Backend, pattern: SessionPattern) -> AsyncIterator[list[str]]:
    """List the names that match; the async face of `list_names`."""
    listing = _Listing(pattern)
    while (scan := listing.next_page()) is not None:
        if fresh := listing.fresh(await backend.aexecute(scan)):
            yield fresh


def _stats(pattern: SessionPattern, session_ids: list[str]) -> Stats:
    return Stats(tuple(SessionKeys(pattern.prefix, session_id) for session_id in session_ids))


class _Listing:
    """Where a listing has come to."""

    def __init__(self, pattern: SessionPattern) -> None:
        self._pattern = pattern
        self._cursor: int | None = None
        self._seen: set[str] = set()

    def next_page(self) -> Scan | None:
        """Return the scan for the next page; None: there is none."""
        return None if self._cursor == 0 else Scan(self._pattern, self._cursor or 0)

    def fresh(self, page: Page) -> list[str]:
        """Return the names of a page that were not listed before."""
        self._cursor = page.cursor
        fresh = [name for name in dict.fromkeys(page.names) if name not in self._seen]
        self._seen.update(fresh)
        return fresh
