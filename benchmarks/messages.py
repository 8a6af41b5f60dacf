"""The conversation that every contender keeps: about 330 bytes a message, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import cycle
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage, message_to_dict

SIZE = 330
"""Bytes of a message as the JSON of `message_to_dict`."""
TEXT = (
    "The night train leaves Lisbon at 21:25 and is in Madrid at 06:40; a cabin for two is 148 euros, and breakfast, "
    "\u201ccaf\u00e9 y tostada\u201d, comes at six. Shall I book it for Friday, or look for a flight instead? "
)
USAGE = {"input_tokens": 812, "output_tokens": 46, "total_tokens": 858}


def conversation(count: int) -> list[BaseMessage]:
    """Make a conversation: a question, a tool call, its result, an answer, a question, an answer, and again."""
    return [_sized(kind, number) for number, kind in zip(range(count), cycle(_KINDS), strict=False)]


def pairs() -> Iterator[list[BaseMessage]]:
    """Yield the batches of two that are appended, without end; a window that they pass through keeps its mix."""
    whole = conversation(len(_KINDS))
    return cycle([whole[at : at + 2] for at in range(0, len(whole), 2)])


def as_item(message: BaseMessage) -> dict[str, Any]:
    """Make the item of the OpenAI Agents SDK that stands for a message, of the same size."""
    text = str(message.content)
    if isinstance(message, ToolMessage):
        return _padded({"type": "function_call_output", "call_id": message.tool_call_id}, "output", text)
    if isinstance(message, AIMessage) and message.tool_calls:
        call = message.tool_calls[0]
        item = {"type": "function_call", "call_id": call["id"], "name": call["name"], "id": message.id}
        return _padded(item, "arguments", json.dumps(call["args"]))
    if isinstance(message, AIMessage):
        item = {"type": "message", "role": "assistant", "status": "completed", "id": message.id}
        return {**item, "content": [_padded({"type": "output_text", "annotations": []}, "text", text, 90)]}
    return _padded({"role": "user"}, "content", text)


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


def _sized(kind: Any, number: int) -> BaseMessage:
    """Give a message the text that brings it to the size."""
    room = SIZE - _size(message_to_dict(kind(number, "")))
    text = (TEXT * 2)[: max(room, 16)]
    while len(text) > 16 and _size(text) - 2 > room:
        text = text[:-1]
    return kind(number, text)


def _padded(item: dict[str, Any], key: str, text: str, more: int = 0) -> dict[str, Any]:
    room = SIZE - more - _size({**item, key: ""})
    return {**item, key: (text + TEXT * 2)[: max(room, 0)]}


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
