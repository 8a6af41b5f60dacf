"""The conversation that every contender keeps: by default about 330 bytes a message, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import cycle
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage, message_to_dict

SIZE = 330
"""Bytes of a message as the JSON of `message_to_dict`."""
LARGE = 4_096
TEXT = (
    "The night train leaves Lisbon at 21:25 and is in Madrid at 06:40; a cabin for two is 148 euros, and breakfast, "
    "\u201ccaf\u00e9 y tostada\u201d, comes at six. Shall I book it for Friday, or look for a flight instead? "
)
USAGE = {"input_tokens": 812, "output_tokens": 46, "total_tokens": 858}


def conversation(count: int, size: int = SIZE) -> list[BaseMessage]:
    """Make a conversation: a question, a tool call, its result, an answer, a question, an answer, and again."""
    return [_sized(kind, number, size) for number, kind in zip(range(count), cycle(_KINDS), strict=False)]


def pairs(size: int = SIZE) -> Iterator[list[BaseMessage]]:
    """Yield the batches of two that are appended, without end; a window that they pass through keeps its mix."""
    whole = conversation(len(_KINDS), size)
    return cycle([whole[at : at + 2] for at in range(0, len(whole), 2)])


def _human(number: int, text: str) -> BaseMessage:
    return HumanMessage(text, id=f"human-{number:08}")


def _answer(number: int, text: str) -> BaseMessage:
    return AIMessage(text, id=f"run--{number:08}", usage_metadata=dict(USAGE))


def _call(number: int, text: str) -> BaseMessage:
    call = {"name": "trains", "args": {"to": text}, "id": f"call_{number:08}"}
    return AIMessage("", id=f"run--{number:08}", tool_calls=[call])


def _result(number: int, text: str) -> BaseMessage:
    return ToolMessage(text, name="trains", tool_call_id=f"call_{number - 1:08}")


_KINDS = (_human, _call, _result, _answer, _human, _answer)


def long_text(least: int) -> str:
    return TEXT * (least // len(TEXT) + 1)


def size_of(value: Any) -> int:
    """Return the bytes of a value as compact JSON."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def _sized(kind: Any, number: int, size: int) -> BaseMessage:
    """Give a message the text that brings it to the size."""
    room = size - size_of(message_to_dict(kind(number, "")))
    text = long_text(room)[: max(room, 16)]
    while len(text) > 16 and (over := size_of(text) - 2 - room) > 0:
        text = text[: -max(1, over // 2)]
    return kind(number, text)
