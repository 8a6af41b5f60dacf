"""Finding messages by what they say."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from langchain_memstore.backends.base import Backend
from langchain_memstore.codec import MESSAGE_CLASSES
from langchain_memstore.keys import SessionKeys, SessionPattern
from langchain_memstore.listing import alist_sessions, list_sessions
from langchain_memstore.ops.listing import SessionInfo
from langchain_memstore.ops.reading import ReadEntries
from langchain_memstore.options import Policy, check_count
from langchain_memstore.session_codec import SessionCodec


@dataclass(frozen=True)
class SearchHit:
    """A message that a search over conversations has found."""

    session_id: str
    """In which conversation."""
    message: BaseMessage
    """The message."""


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
        self,
        text: str,
        case_sensitive: bool = False,
        types: Collection[str] | None = None,
        limit: int | None = None,
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
    """Find messages in sessions; the async face of `search_sessions`."""
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
    messages = SessionCodec(keys, policy).decode(entries)
    return (SearchHit(keys.session_id, message) for message in messages if query.matches(message))


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str, skipkeys=True)
    except RecursionError:  # other hands wrote it: no value that `codec.encode` stores has so many levels
        return ""
