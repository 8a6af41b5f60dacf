"""Floor B's encoding: a cheap one that keeps these messages whole.

An entry is the JSON array of a kind and of the values of the class's fields in their order, by orjson, so that no field
is named. A message is built back by writing its fields straight into a bare object. Nothing is checked: extra fields,
values that JSON changes, messages of other classes and entries of other versions all come out wrong. So this is no
codec to use, only one to measure against.
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

_CLASSES = (HumanMessage, AIMessage, ToolMessage)
_KINDS = {cls: kind for kind, cls in enumerate(_CLASSES)}
_SHAPES = tuple((cls, tuple(cls.model_fields), set(cls.model_fields)) for cls in _CLASSES)


def encode(message: BaseMessage) -> bytes:
    return orjson.dumps((_KINDS[type(message)], *message.__dict__.values()))


def decode(entry: bytes) -> BaseMessage:
    kind, *values = orjson.loads(entry)
    cls, names, fields = _SHAPES[kind]
    message: Any = _new(cls)
    _set_fields(message, dict(zip(names, values)))  # noqa: B905 (a check that takes time)
    _set_fields_set(message, fields.copy())
    _set_extra(message, {})
    _set_private(message, None)
    return message
