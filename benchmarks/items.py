"""The same conversation as other packages represent it: each message of about the same size as JSON."""

from __future__ import annotations

import json
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from llama_index.core.llms import ChatMessage

from benchmarks.messages import SIZE, long_text, size_of

_ROLES = {"human": "user", "ai": "assistant", "tool": "tool"}


def as_agents_item(message: BaseMessage) -> dict[str, Any]:
    """Make the item of the OpenAI Agents SDK that stands for a message."""
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


def as_llama_message(message: BaseMessage) -> ChatMessage:
    """Make the message of llama-index that stands for a message."""
    extra: dict[str, Any] = {}
    if isinstance(message, ToolMessage):
        extra = {"tool_call_id": message.tool_call_id, "name": message.name}
    if isinstance(message, AIMessage) and message.tool_calls:
        call = message.tool_calls[0]
        function = {"name": call["name"], "arguments": json.dumps(call["args"])}
        extra = {"tool_calls": [{"id": call["id"], "type": "function", "function": function}]}
    made = ChatMessage(role=_ROLES[message.type], content=str(message.content), additional_kwargs=extra)
    room = SIZE - size_of(made.model_dump(mode="json"))
    if room > 0 or not extra:
        text = str(message.content)
        made.content = (text + long_text(SIZE))[: max(16, len(text) + room)]
    return made


def _padded(item: dict[str, Any], key: str, text: str, more: int = 0) -> dict[str, Any]:
    room = SIZE - more - size_of({**item, key: ""})
    return {**item, key: (text + long_text(SIZE))[: max(room, 0)]}
