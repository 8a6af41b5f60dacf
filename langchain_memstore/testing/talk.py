"""A session of the backend under test, as the suites talk to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from langchain_memstore import codec
from langchain_memstore.keys import SessionKeys, SessionPattern
from langchain_memstore.ops import session as ops
from langchain_memstore.ops.listing import Scan
from langchain_memstore.ops.reading import Read, SessionView
from langchain_memstore.testing.variants import MINUTE, Execute, Variants
from langchain_memstore.window import Bounds

UNKNOWN = SessionView([])
KINDS = {"h": "human", "a": "ai", "r": "tool", "f": "function", "s": "system"}  # in capitals: as json.dumps writes them


class Counts(NamedTuple):
    """What an append tells of the window."""

    messages: int
    total: int
    turns: int
    dropped: int


class Talk:
    """One session of the backend under test, its entries called by the letters of `KINDS`."""

    def __init__(self, execute: Execute, keys: SessionKeys) -> None:
        self.execute = execute
        self.keys = keys
        self.ttl: int | None = MINUTE
        self.joined: tuple[tuple[bytes, bytes], ...] = ()
        self.said: list[bytes] = []

    def appending(self, kinds: str, max_messages: int | None = None, max_turns: int | None = None) -> ops.Append:
        """Make the operation that appends entries of some kinds."""
        for letter in kinds:
            space, kind = " " if letter.isupper() else "", KINDS[letter.lower()]
            self.said.append(f'{{"type":{space}"{kind}","data":{{"content":"{len(self.said)}"}}}}'.encode())
        entries = tuple(self.said[len(self.said) - len(kinds) :])
        bounds = Bounds(max_messages, max_turns, codec.RESULTS, codec.TURN_STARTS, joined=self.joined)
        return ops.Append(self.keys, entries, bounds, self.ttl)

    def append(self, kinds: str, max_messages: int | None = None, max_turns: int | None = None) -> Counts:
        """Append entries of some kinds."""
        return Counts(*self.execute(self.appending(kinds, max_messages, max_turns))[:4])

    def popping(self, count: int = 1) -> ops.Pop:
        """Make the operation that takes entries off."""
        return ops.Pop(self.keys, count, codec.TURN_STARTS, self.ttl)

    def set_summary(self, summary: str) -> Any:
        """Set the summary."""
        return self.execute(ops.SetSummary(self.keys, summary, self.ttl))

    def register_turn(self) -> Any:
        """Count a turn."""
        return self.execute(ops.RegisterTurn(self.keys, self.ttl))

    def read(self, refresh: bool = False) -> Any:
        """Read all there is."""
        return self.execute(Read(self.keys, self.ttl, refresh))


WRITES: dict[str, Callable[[Talk], object]] = {
    "append": lambda talk: talk.append("h"),
    "register_turn": Talk.register_turn,
    "set_summary": lambda talk: talk.set_summary("summary"),
    "pop": lambda talk: talk.execute(talk.popping()),
    "touch": lambda talk: talk.execute(ops.Touch(talk.keys, talk.ttl)),
}


def about(ttl_ms: int | None, expected: int | None) -> bool:
    """Tell whether a TTL is as expected, but for what wears off in a test or may have worn off unnoticed."""
    if ttl_ms is None or expected is None:
        return ttl_ms is expected
    return expected * 0.99 - 10_000 < ttl_ms <= expected


def scan(execute: Execute, pattern: SessionPattern, count: int = 500) -> set[str]:
    """List the names that a pattern finds."""
    page = execute(Scan(pattern, 0, count))
    found = set(page.names)
    while page.cursor:
        page = execute(Scan(pattern, page.cursor, count))
        found.update(page.names)
    return found


class SessionVariants(Variants):
    """What the suites of sessions share."""

    @pytest.fixture
    def talk(self, execute: Execute, prefix: str) -> Talk:
        """A session that does not exist yet."""
        return Talk(execute, SessionKeys(prefix, "session"))
