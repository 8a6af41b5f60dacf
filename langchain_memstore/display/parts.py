"""What a message is made of, for a person to read: text, thoughts, calls, pictures, files.

Messages carry the content blocks of langchain-core or those of their provider; both are read as they are. What is not
known is shown as its JSON, and nothing in a message makes reading it fail.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

MOST = 30  # parts of a message that are shown
DEEPEST = 20  # levels of nested values that are shown


@dataclass(frozen=True)
class Said:
    """What is said."""

    text: str


@dataclass(frozen=True)
class Thought:
    """What a model has thought before it spoke."""

    text: str


@dataclass(frozen=True)
class Call:
    """A call of a tool."""

    name: str
    id: str
    args: Any
    error: str | None = None
    """Why the call is invalid; None: it is valid."""


@dataclass(frozen=True)
class Picture:
    """A picture that can be shown without asking anybody for it."""

    mime_type: str
    base64: str


@dataclass(frozen=True)
class File:
    """What is named, and not shown: sound, video, a document, a picture that is elsewhere."""

    kind: str
    details: tuple[str, ...]
    """Its name, its type, its size: what is known."""
    url: str | None = None
    """Where it is, when it is elsewhere."""


@dataclass(frozen=True)
class Other:
    """Anything else."""

    kind: str
    value: Any


@dataclass(frozen=True)
class Omitted:
    """What is left out."""

    count: int


Part = Said | Thought | Call | Picture | File | Other | Omitted

# What browsers show as a picture and nothing else. SVG is a document, which can hold scripts.
_PICTURES = {f"image/{kind}" for kind in ("png", "jpeg", "jpg", "gif", "webp", "bmp", "avif")}
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w.+=-]+)*?(;base64)?,(.*)", re.DOTALL | re.IGNORECASE)

_SAID = {"text": "text", "input_text": "text", "output_text": "text", "text-plain": "text", "refusal": "refusal"}
_MEDIA = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "audio": "audio",
    "input_audio": "audio",
    "video": "video",
    "video_url": "video",
    "file": "file",
    "input_file": "file",
    "document": "file",
    "media": "file",
}
_CALLS = {"tool_use", "tool_call", "tool_call_chunk", "invalid_tool_call", "function_call"}


def parts(message: BaseMessage) -> list[Part]:
    """Take a message apart, in the order in which it is read: thoughts, what is said, calls, what came with a result.

    Args:
        message: Any message; it is not changed.
    """
    content: Any = message.content
    found: list[Part] = []
    if isinstance(thought := message.additional_kwargs.get("reasoning_content"), str) and thought:
        found.append(Thought(thought))
    calls = [*message.tool_calls, *message.invalid_tool_calls] if isinstance(message, AIMessage) else []
    for block in [content] if isinstance(content, (str, Mapping)) else content:
        found += _of_block(block, bool(calls))
    for call in calls:
        invalid = call.get("type") == "invalid_tool_call"
        error = (_text(call.get("error")) or "its arguments cannot be read") if invalid else None
        found.append(Call(_text(call.get("name")), _text(call.get("id")), call.get("args"), error))
    if isinstance(message, ToolMessage) and message.artifact is not None:
        found.append(Other("artifact", message.artifact))
    return found if len(found) <= MOST else [*found[:MOST], Omitted(len(found) - MOST)]


def _of_block(block: Any, calls_are_known: bool) -> Iterator[Part]:
    if isinstance(block, str):
        if block:
            yield Said(block)
        return
    if not isinstance(block, Mapping):
        yield Other(type(block).__name__, block)
        return
    kind = block.get("type")
    kind = kind if isinstance(kind, str) else ""
    if kind in _SAID and isinstance(text := block.get(_SAID[kind]), str):
        if text:
            yield Said(text)
    elif kind in ("reasoning", "thinking") and (text := _thought(block)) is not None:
        if text:
            yield Thought(text)
    elif kind in _MEDIA:
        yield _medium(block, kind)
    elif kind not in _CALLS or not calls_are_known:
        yield Other(kind or "block", block)


def _thought(block: Mapping[str, Any]) -> str | None:
    """Return what a model thought; empty where its provider keeps that to itself, None where the block is odd."""
    for text in block.get("reasoning"), block.get("thinking"):
        if isinstance(text, str):
            return text
    summary = block.get("summary", [])
    if not isinstance(summary, Sequence):
        return None
    texts = [each.get("text") for each in summary if isinstance(each, Mapping)]
    return "\n\n".join(text for text in texts if isinstance(text, str))


def _medium(block: Mapping[str, Any], kind: str) -> Part:
    """Read a picture, a sound, a video or a document, in the shape of any provider."""
    layers = [block, *(inner for name in _INNER if isinstance(inner := block.get(name), Mapping))]

    def known(*names: str) -> Any:
        values = (layer.get(name) for layer in layers for name in names)
        return next((value for value in values if value and isinstance(value, (str, bytes))), None)

    mime_type = known("mime_type", "media_type")
    mime_type = mime_type.lower() if isinstance(mime_type, str) else ""
    data, address = known("base64", "data", "file_data"), known("url", "file_url", "image_url", "video_url")
    for text in data, address:
        if isinstance(text, str) and (url := _DATA_URL.fullmatch(text)):
            mime_type, data = (url[1] or "").lower(), url[3] if url[2] else url[3].encode(errors="replace")
            address = None
    kind = _MEDIA[kind]
    if isinstance(data, bytes):
        data = base64.b64encode(data).decode()
    if isinstance(data, str):
        data = "".join(data.split())
        if mime_type in _PICTURES and _BASE64.fullmatch(data):
            return Picture(mime_type, data)
    details = [known("filename", "name", "title"), mime_type or known("format"), known("file_id"), known("transcript")]
    if isinstance(data, str):
        details.append(size(data))
    return File(kind, tuple(filter(None, map(_text, details))), address if isinstance(address, str) else None)


_INNER = ("source", "image_url", "input_audio", "file", "video_url", "audio", "extras", "metadata")


def size(base64_text: str) -> str:
    """Say how large something is that is given as base64."""
    count = len(base64_text) * 3 / 4
    for unit in ("bytes", "kB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} MB"


def as_json(value: Any, indent: int | None = None) -> str:
    """Write any value down as JSON, or as near to it as it comes."""
    return json.dumps(_plain(value, DEEPEST), ensure_ascii=False, indent=indent)


def _plain(value: Any, depth: int) -> Any:
    if isinstance(value, int) and value.bit_length() > 1000:  # Python refuses to write the largest down
        return f"(a whole number of {value.bit_length()} bits)"
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (bytes, bytearray)):
        return f"({len(value)} bytes)"
    if not depth:
        return "…"
    if isinstance(value, Mapping):
        return {_text(key): _plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, depth - 1) for item in value]
    return _text(value)


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)
