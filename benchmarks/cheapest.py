"""Floor B's encoding: the cheapest conceivable that still yields message objects.

An entry is the JSON array of a kind and the few fields that the benchmark's messages use, by orjson. A message is built
back by writing its fields straight into a bare object: nothing is checked, and every field that the entry does not
carry is lost. So this is no codec to use, only what none can be faster than.
"""

from __future__ import annotations

from typing import Any

import orjson
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from pydantic import BaseModel

_set_fields = BaseModel.__dict__["__dict__"].__set__
_set_fields_set = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_set_extra = BaseModel.__dict__["__pydantic_extra__"].__set__
_set_private = BaseModel.__dict__["__pydantic_private__"].__set__
_new = object.__new__


def encode(message: Any) -> bytes:
    kind = type(message)
    if kind is HumanMessage:
        return orjson.dumps((0, message.content, message.id))
    if kind is AIMessage:
        return orjson.dumps((1, message.content, message.id, message.tool_calls, message.usage_metadata))
    return orjson.dumps((2, message.content, message.id, message.name, message.tool_call_id))


def decode(entry: bytes) -> BaseMessage:
    kind, content, message_id, *more = orjson.loads(entry)
    fields: dict[str, Any] = {
        "content": content,
        "additional_kwargs": {},
        "response_metadata": {},
        "id": message_id,
    }
    message: Any
    if kind == 0:
        message = _new(HumanMessage)
        fields["type"] = "human"
        fields["name"] = None
    elif kind == 1:
        message = _new(AIMessage)
        fields["type"] = "ai"
        fields["name"] = None
        fields["tool_calls"], fields["usage_metadata"] = more
        fields["invalid_tool_calls"] = []
    else:
        message = _new(ToolMessage)
        fields["type"] = "tool"
        fields["name"], fields["tool_call_id"] = more
        fields["artifact"] = None
        fields["status"] = "success"
    _set_fields(message, fields)
    _set_fields_set(message, set())
    _set_extra(message, {})
    _set_private(message, None)
    return message
