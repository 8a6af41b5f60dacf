"""Conversations as JSON Lines: one a line, with all that a store keeps of it."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import orjson

from langchain_memstore.ops.transfer import SessionDump
from langchain_memstore.transfer.found import Found, Reading

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MILLISECOND = timedelta(milliseconds=1)
_COUNTERS = {"turns": "turns", "total": "total", "summarized": "summarized", "lost": "lost", "covered": "summary_turns"}
"""By the field of a state, the name of that counter in a line."""


def to_line(session_id: str, state: SessionDump) -> bytes:
    """Write a session down as one line.

    A message is the JSON of langchain-core's `message_to_dict`, as it lies in the store. An entry that is written in
    any other way is kept to the byte: as text, or as `{"base64": ...}` where it is not even that.

    Args:
        session_id: Which conversation.
        state: All of it.
    """
    line = {
        "session_id": session_id,
        "messages": [_to_json(entry) for entry in state.messages],
        "evicted": [_to_json(entry) for entry in state.evicted],
        "summary": state.summary or None,
        **{name: getattr(state, field) for field, name in _COUNTERS.items()},
        "ttl": None if state.ttl_ms is None else state.ttl_ms / 1000,
        "created": _to_time(state.created),
        "updated": _to_time(state.updated),
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def from_line(line: bytes, place: str) -> Found:
    """Read a line.

    Args:
        line: What `to_line` wrote, or at least `{"session_id": ..., "messages": [...]}`. With no `total`, it is a plain
            conversation, whose window and counters are yet to be found.
        place: Where the line is.
    """
    reading = Reading(place)
    try:
        value = json.loads(line)
        if not isinstance(value, dict):
            raise ValueError("a conversation is an object of JSON")
        session_id, bounded = _text(value, "session_id"), "total" in value
        messages, evicted = _list(value, "messages"), _list(value, "evicted")
        counters: dict[str, Any] = {field: _count(value, name) for field, name in _COUNTERS.items() if bounded}
        state = SessionDump(
            messages=(),
            summary=_text(value, "summary") if value.get("summary") else "",
            **counters,
            created=_from_time(value, "created"),
            updated=_from_time(value, "updated"),
            ttl_ms=_milliseconds(value),
        )
    except ValueError as error:
        return reading.nothing(f"not a conversation: {error}")
    older = tuple(reading.entries(_written("evicted", evicted), exact=bounded))
    window = tuple(reading.entries(_written("messages", messages), exact=bounded))
    state = replace(state, messages=window, evicted=older) if bounded else replace(state, messages=older + window)
    return reading.found(session_id, state, bounded=bounded, knows_ttl="ttl" in value)


def _written(name: str, values: list[Any]) -> list[tuple[str, bytes]]:
    return [(f"{name}[{index}]", _from_json(value)) for index, value in enumerate(values)]


def _to_json(entry: bytes) -> Any:
    try:
        value = orjson.loads(entry)
        if isinstance(value, dict) and orjson.dumps(value) == entry:
            return value
    except ValueError:
        pass
    try:
        return entry.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(entry).decode()}


def _from_json(value: Any) -> bytes:
    """Return the entry that a value stands for; what stands for none is an entry that is not a message."""
    if isinstance(value, str):
        return value.encode(errors="surrogatepass")
    if isinstance(value, dict) and value.keys() == {"base64"} and isinstance(value["base64"], str):
        with contextlib.suppress(binascii.Error):
            return base64.b64decode(value["base64"])
    try:
        entry = orjson.dumps(value)
        if json.loads(entry) == value:
            return entry
    except TypeError:  # a big integer, a lone surrogate
        pass
    return json.dumps(value).encode()


def _text(value: dict[str, Any], name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str) or not text:
        raise ValueError(f"{name} must be a non-empty text")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be text that UTF-8 can encode") from None
    return text


def _list(value: dict[str, Any], name: str) -> list[Any]:
    found = value.get(name, [] if name == "evicted" else None)
    if not isinstance(found, list):
        raise ValueError(f"{name} must be a list")
    return found


def _count(value: dict[str, Any], name: str) -> int:
    count = value.get(name, 0)
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count < 2**53:
        raise ValueError(f"{name} must be a whole number of at least 0")
    return count


def _milliseconds(value: dict[str, Any]) -> int | None:
    ttl = value.get("ttl")
    if ttl is None:
        return None
    if not isinstance(ttl, (int, float)) or isinstance(ttl, bool) or not 0 <= ttl < 10**12:
        raise ValueError("ttl must be seconds, or null: it does not expire")
    return round(ttl * 1000)


def _to_time(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    return (_EPOCH + milliseconds * _MILLISECOND).isoformat(timespec="milliseconds")


def _from_time(value: dict[str, Any], name: str) -> int | None:
    text = value.get(name)
    if text is None:
        return None
    if not isinstance(text, str):
        raise ValueError(f"{name} must be a time, as ISO 8601 writes it")
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 knows no Z
    if moment.tzinfo is None:
        raise ValueError(f"{name} must say its offset from UTC")
    return (moment - _EPOCH) // _MILLISECOND
