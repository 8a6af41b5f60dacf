"""Where conversations come from: the histories of other packages, and JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeVar

from langchain_core.messages import BaseMessage

from langchain_memstore import codec
from langchain_memstore.backends.steps import ExecuteOp, Steps, completed
from langchain_memstore.errors import BackendError, MessageEncodeError
from langchain_memstore.keys import check_name, glob_literal
from langchain_memstore.listing import Listing
from langchain_memstore.memstore import Memstore
from langchain_memstore.ops.server import Kept, ReadDocuments, ReadList, ScanKeys
from langchain_memstore.ops.transfer import SessionDump
from langchain_memstore.transfer.found import Found, Reading
from langchain_memstore.transfer.jsonlines import from_line

P = TypeVar("P")


class Source(Protocol[P]):
    """Where conversations come from; a flow (see `backends/steps.py`) finds and reads them."""

    def places(self) -> Steps[Iterable[P]]:
        """Find where conversations are; with a length, where it is known how many there are."""
        ...

    def read(self, place: P) -> Steps[Found]:
        """Read one conversation, and note what of it cannot be read."""
        ...


class CommunityLists:
    """The conversations of `RedisChatMessageHistory` of langchain-community.

    Each is a list of JSON messages at `<prefix><session id>`, newest first
    (langchain_community/chat_message_histories/redis.py, 0.4).

    Args:
        store: A store of the server that holds the lists; it may be the one that they are imported into.
        prefix: What their keys begin with: the `key_prefix` of that class.

    Raises:
        ValueError: The prefix is not a non-empty text.
    """

    def __init__(self, store: Memstore, prefix: str = "message_store:") -> None:
        self._backend = store._backend
        self._prefix = check_name("prefix", prefix)

    def places(self) -> Steps[list[bytes]]:
        """Find the lists."""
        return (yield from _keys(self._backend, self._prefix, "list"))

    def read(self, place: bytes) -> Steps[Found]:
        """Read a list; the place of a message is its index there, as LINDEX takes it."""
        reading = Reading(_shown(place))
        kept: Kept = yield ExecuteOp(self._backend, ReadList(place))
        session_id = _decoded(place)[len(self._prefix) :]
        if not session_id:
            return reading.nothing("its key names no session")
        entries = [(f"index {index}", entry) for index, entry in enumerate(kept.value or [])]
        state = SessionDump(messages=tuple(reading.entries(reversed(entries))), ttl_ms=kept.ttl_ms)
        return reading.found(session_id, state)


class _Document(NamedTuple):
    """A message as langchain-redis keeps it."""

    time: float
    place: str
    entry: bytes


class JsonDocuments:
    """The conversations of `RedisChatMessageHistory` of langchain-redis.

    Each message is a JSON document of its own at `<prefix><session id>:<message id>`
    (langchain_redis/chat_message_history.py, 0.2). That class keeps little more than the content of a message: ids,
    names, usage and, but for those in `additional_kwargs`, tool calls are gone already.

    Args:
        store: A store of the server that holds the documents; it needs the JSON module.
        prefix: What their keys begin with: the `key_prefix` of that class.

    Raises:
        ValueError: The prefix is not a non-empty text.
    """

    def __init__(self, store: Memstore, prefix: str = "chat:") -> None:
        self._backend = store._backend
        self._prefix = check_name("prefix", prefix)

    def places(self) -> Steps[list[tuple[bytes, list[bytes]]]]:
        """Find the documents, by session."""
        sessions: dict[bytes, list[bytes]] = {}
        for key in (yield from _keys(self._backend, self._prefix)):
            sessions.setdefault(key.rpartition(b":")[0], []).append(key)
        return list(sessions.items())

    def read(self, place: tuple[bytes, list[bytes]]) -> Steps[Found]:
        """Read the documents of a session; the place of a message is its key."""
        start, keys = place
        reading = Reading(f"{_shown(start)}:*")
        session_id = _decoded(start)[len(self._prefix) :]
        if not session_id:
            return reading.nothing("its key names no session")
        documents, ttls, ttl_ms = [], list[int](), None
        for key, kept in (yield from self._read_documents(keys, reading)):
            if kept.value is not None:
                documents.append((_shown(key), kept.value))
                ttls += [kept.ttl_ms] if kept.ttl_ms is not None else []
        entries = _in_order(documents, session_id, reading)
        if len(ttls) == len(documents):  # a message that does not expire keeps the session
            ttl_ms = max(ttls, default=None)
        return reading.found(session_id, SessionDump(messages=tuple(reading.entries(entries)), ttl_ms=ttl_ms))

    def _read_documents(self, keys: list[bytes], reading: Reading) -> Steps[list[tuple[bytes, Kept]]]:
        try:
            kept = yield ExecuteOp(self._backend, ReadDocuments(tuple(keys)))
            return list(zip(keys, kept, strict=True))
        except BackendError as error:
            if "unknown command" in str(error):
                raise ValueError(
                    "this server has no JSON module, so it cannot read langchain-redis's documents: import from a "
                    "server that has it, or from a dump of them"
                ) from error
            if "WRONGTYPE" not in str(error) and "wrong Redis type" not in str(error):
                raise
            if len(keys) == 1:
                reading.note("not a JSON document", _shown(keys[0]))
                return []
        found: list[tuple[bytes, Kept]] = []
        for key in keys:  # find out which it is
            found += yield from self._read_documents([key], reading)
        return found


class JsonDump:
    """The conversations of langchain-redis, out of a file: its JSON documents as JSON.GET returns them, one a line.

        redis-cli --scan --pattern 'chat:*' | while read -r key; do redis-cli --raw JSON.GET "$key"; done > dump.jsonl

    Args:
        file: Its path, or the file, open for reading bytes.
    """

    def __init__(self, file: str | Path | BinaryIO) -> None:
        self._file = file

    def places(self) -> Steps[list[tuple[str, list[tuple[str, bytes]]]]]:
        """Read the file, and find the documents by session."""
        sessions: dict[str, list[tuple[str, bytes]]] = {}
        for number, line in _lines(self._file):
            try:
                session_id = _document(line)["session_id"]
                session_id.encode()
            except (ValueError, KeyError, AttributeError):
                session_id = ""
            sessions.setdefault(session_id, []).append((f"line {number}", line))
        return completed(list(sessions.items()))

    def read(self, place: tuple[str, list[tuple[str, bytes]]]) -> Steps[Found]:
        """Read the documents of a session; the place of a message is its line."""
        session_id, documents = place
        reading = Reading(_name(self._file))
        if not session_id:
            for line, _ in documents:
                reading.note("not a document of langchain-redis", line)
            return completed(reading.found("", None))
        entries = _in_order(documents, session_id, reading)
        return completed(
            reading.found(session_id, SessionDump(messages=tuple(reading.entries(entries))), knows_ttl=False)
        )


class Histories:
    """Conversations that LangChain's histories hold: `InMemoryChatMessageHistory`, or any that has `messages`.

    Args:
        histories: By session id, the history. Its `messages` are read when its turn comes, also by an async import.
    """

    def __init__(self, histories: Mapping[str, Any]) -> None:
        self._histories = histories

    def places(self) -> Steps[list[str]]:
        """Find the session ids."""
        return completed(list(self._histories))

    def read(self, place: str) -> Steps[Found]:
        """Read a history."""
        reading = Reading(repr(place))
        messages: list[BaseMessage] = self._histories[place].messages
        entries: list[bytes] = []
        for index, message in enumerate(messages):
            try:
                entries += codec.encode([message])
            except MessageEncodeError as error:
                reading.note(str(error).replace("messages[0]", f"messages[{index}]"), f"messages[{index}]")
        return completed(reading.found(place, SessionDump(messages=tuple(entries)), knows_ttl=False))


class JsonLines:
    """Conversations out of a file, one a line: what `export_conversations` made, or at least
    `{"session_id": ..., "messages": [...]}` with messages as langchain-core's `message_to_dict` makes them.

    Args:
        file: Its path, or the file, open for reading bytes.
    """

    def __init__(self, file: str | Path | BinaryIO) -> None:
        self._file = file

    def places(self) -> Steps[Iterator[tuple[int, bytes]]]:
        """Go through the lines."""
        return completed(_lines(self._file))

    def read(self, place: tuple[int, bytes]) -> Steps[Found]:
        """Read a line."""
        number, line = place
        return completed(from_line(line, f"{_name(self._file)}, line {number}"))


def _keys(backend: Any, prefix: str, kind: str | None = None) -> Steps[list[bytes]]:
    """Find every key with a prefix, once each, in the order of their names."""
    listing, keys = Listing(ScanKeys(f"{glob_literal(prefix)}*", kind=kind)), list[bytes]()
    while (scan := listing.next_page()) is not None:
        keys += listing.fresh((yield ExecuteOp(backend, scan)))
    return sorted(keys)


def _document(text: bytes) -> dict[str, Any]:
    value = json.loads(text)
    if isinstance(value, list) and len(value) == 1:  # as JSON.GET returns it for the path $
        value = value[0]
    if not isinstance(value, dict):
        raise ValueError("no document")
    return value


def _in_order(documents: Iterable[tuple[str, bytes]], session_id: str, reading: Reading) -> list[tuple[str, bytes]]:
    """Make entries of langchain-redis's documents of a session, oldest first, and note those that are none."""
    found: list[_Document] = []
    for place, text in documents:
        try:
            value = _document(text)
            entry = json.dumps({"type": value["type"], "data": value["data"]}).encode()
            time, whose = float(value["timestamp"]), value["session_id"]
        except (ValueError, KeyError, TypeError):
            reading.note("not a document of langchain-redis", place)
            continue
        if whose == session_id:
            found.append(_Document(time, place, entry))
        else:
            reading.note(f"of session {whose!r}, though its key says {session_id!r}: is that the right prefix?", place)
    found.sort(key=lambda document: document[:2])
    return [(document.place, document.entry) for document in found]


def _lines(file: str | Path | BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Return the lines that are not empty, with their numbers."""
    if isinstance(file, (str, Path)):
        with open(file, "rb") as opened:
            yield from _lines(opened)
    else:
        yield from ((number, line) for number, line in enumerate(file, 1) if line.strip())


def _name(file: str | Path | BinaryIO) -> str:
    return str(file) if isinstance(file, (str, Path)) else str(getattr(file, "name", "input"))


def _decoded(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        return ""


def _shown(key: bytes) -> str:
    return key.decode(errors="backslashreplace")
