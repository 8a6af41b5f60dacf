"""Operations as bytes, for a journal in a file, and back."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import fields
from typing import Any

from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.kv import Expire, Set, Unlink
from langchain_memstore.ops.once import Delete, Increment
from langchain_memstore.ops.records import UpdateRecord
from langchain_memstore.ops.session import Append, Clear, Pop, RegisterTurn, SetSummary, Touch
from langchain_memstore.window import Bounds

JOURNALLED: tuple[type[Op[Any]], ...] = (
    *(Append, Pop, RegisterTurn, SetSummary, Touch, Clear),
    *(Set, Unlink, Expire, Delete, Increment, UpdateRecord),
)

_CLASSES: dict[str, type[Any]] = {cls.__name__: cls for cls in (*JOURNALLED, SessionKeys, Bounds)}


def write_op(op: Op[Any]) -> bytes:
    """Write an operation that an outage has journalled as JSON: `{"<class>": [<its fields>]}`."""
    return json.dumps(_packed(op), separators=(",", ":")).encode()


def read_op(data: bytes) -> Op[Any]:
    """Read what `write_op` wrote; nothing but operations, and what they consist of, is ever built.

    Raises:
        ValueError: It is not an operation.
    """
    try:
        op = _unpacked(json.loads(data))
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"not an operation: {error}") from None
    if not isinstance(op, JOURNALLED):
        raise ValueError("not an operation")
    return op


def _packed(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"bytes": b64encode(value).decode()}
    if isinstance(value, tuple):
        return [_packed(each) for each in value]
    if type(value).__name__ in _CLASSES:
        return {type(value).__name__: [_packed(getattr(value, field.name)) for field in fields(value) if field.init]}
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return tuple([_unpacked(each) for each in value])
    if isinstance(value, dict):
        ((name, packed),) = value.items()
        return b64decode(packed) if name == "bytes" else _CLASSES[name](*_unpacked(packed))
    return value
