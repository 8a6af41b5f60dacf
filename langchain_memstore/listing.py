"""Going through the sessions of a store, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from langchain_memstore.backends.base import Backend
from langchain_memstore.keys import SessionKeys, SessionPattern
from langchain_memstore.ops.listing import Page, Scan, SessionInfo, Stats


def list_sessions(backend: Backend, pattern: SessionPattern) -> Iterator[SessionInfo]:
    """List sessions; every one that exists all the while is listed once.

    Args:
        backend: Where the sessions are kept.
        pattern: Which sessions.
    """
    listing = _Listing(pattern)
    while (scan := listing.next_page()) is not None:
        stats = listing.stats(backend.execute(scan))
        if stats.sessions:
            yield from backend.execute(stats)


async def alist_sessions(backend: Backend, pattern: SessionPattern) -> AsyncIterator[SessionInfo]:
    """List sessions; the async face of `list_sessions`."""
    listing = _Listing(pattern)
    while (scan := listing.next_page()) is not None:
        stats = listing.stats(await backend.aexecute(scan))
        if stats.sessions:
            for info in await backend.aexecute(stats):
                yield info


class _Listing:
    """Where a listing of sessions has come to."""

    def __init__(self, pattern: SessionPattern) -> None:
        self._pattern = pattern
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
