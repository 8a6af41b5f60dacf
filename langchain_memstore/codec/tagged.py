"""Values that JSON loses or refuses, as marked values that it keeps."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from langchain_core.documents import Document

from langchain_memstore.errors import MessageEncodeError

MARK = "__memstore__"
"""The one key of an object that stands for a value of another kind: `{MARK: [<kind>, <value>]}`."""


def pack(value: Any, path: str) -> Any:
    """Make a value that JSON keeps out of any value that can be kept.

    Args:
        value: The value.
        path: Where it stands, for the error.

    Returns:
        The same value, with what JSON would lose or refuse marked.

    Raises:
        MessageEncodeError: The value cannot be kept.
    """
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return _pack_str(str.__str__(value))
    if isinstance(value, int):
        value = int(value)
        return value if -(2**63) <= value < 2**63 else {MARK: ["int", hex(value)]}
    if isinstance(value, float):
        value = float(value)
        return value if math.isfinite(value) else {MARK: ["float", repr(value)]}
    if isinstance(value, dict):
        return _pack_dict(value, path)
    if isinstance(value, list):
        return [pack(item, f"{path}[{i}]") for i, item in enumerate(value)]
    for kind, (cls, to_json, from_json) in _KINDS.items():
        if isinstance(value, cls):
            content = to_json(value, path)
            if type(value) is cls or _comes_back(value, cls, content, from_json):
                return {MARK: [kind, content]}
    raise _refusal(value, path)


def _refusal(value: Any, path: str) -> MessageEncodeError:
    return MessageEncodeError(
        f"{path} is of {type(value).__module__}.{type(value).__qualname__}, which cannot be stored and come back equal;"
        " convert it to plain values first (for a pydantic model: .model_dump())"
    )


def _comes_back(value: Any, cls: Any, content: Any, from_json: Callable[[Any], Any]) -> bool:
    """Tell whether a value of a subclass equals the plain one that will come back for it."""
    if cls in (tuple, set, frozenset) and type(value).__eq__ is cls.__eq__:
        return True  # comparing would tell so, but for a NaN in it, which equals nothing
    try:
        return bool(from_json(content) == value)
    except Exception:  # a subclass may do anything; pandas' NaT is a datetime
        return False


def unpack(value: Any) -> Any:
    """Undo `pack`.

    Args:
        value: A value out of JSON.

    Returns:
        The value that was packed.

    Raises:
        ValueError, TypeError, KeyError: The value was not made by `pack`.
    """
    if isinstance(value, list):
        return [unpack(item) for item in value]
    if not isinstance(value, dict):
        return value
    if MARK not in value:
        return {key: unpack(item) for key, item in value.items()}
    kind, content = value[MARK]
    if len(value) != 1:
        raise ValueError("a marked value has one key")
    return _FROM_JSON[kind](content)


def _pack_str(value: str) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:
        return {MARK: ["str", _to_base64(value.encode("utf-8", "surrogatepass"))]}
    return value


def _pack_dict(value: dict[Any, Any], path: str) -> Any:
    if MARK not in value and all(isinstance(key, str) and isinstance(_pack_str(key), str) for key in value):
        return {str.__str__(key): pack(item, f"{path}.{key}") for key, item in value.items()}
    return {
        MARK: [
            "dict",
            [[pack(key, f"{path} (key)"), pack(item, f"{path}[{key!r}]")] for key, item in value.items()],
        ]
    }


def _to_base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _from_base64(value: str) -> bytes:
    return base64.b64decode(value, validate=True)


def _pack_moment(value: datetime | time, _: str) -> Any:
    zone = value.tzinfo
    if isinstance(zone, ZoneInfo) and _is_known(zone.key):
        return [value.replace(tzinfo=None).isoformat(), zone.key, value.fold]
    return [value.isoformat(), None, value.fold]


def _is_known(zone: str | None) -> bool:
    """Tell whether a zone can be found by its key: one that was read from a file may have any key, or none."""
    try:
        return zone is not None and ZoneInfo(zone) is not None
    except (ValueError, LookupError, OSError):
        return False


def _unpack_datetime(value: Any) -> datetime:
    text, zone, fold = value
    moment = datetime.fromisoformat(text).replace(fold=fold)
    return moment.replace(tzinfo=ZoneInfo(zone)) if zone else moment


def _unpack_time(value: Any) -> time:
    text, zone, fold = value
    moment = time.fromisoformat(text).replace(fold=fold)
    return moment.replace(tzinfo=ZoneInfo(zone)) if zone else moment


def _pack_document(value: Document, path: str) -> Any:
    page_content, metadata, document_id = value.page_content, value.metadata, value.id
    if not (
        isinstance(page_content, str) and isinstance(metadata, dict) and isinstance(document_id, (str, type(None)))
    ):
        raise _refusal(value, path)  # changed into what no document can be
    return [pack(page_content, path), pack(metadata, f"{path}.metadata"), pack(document_id, path)]


def _unpack_document(value: Any) -> Document:
    page_content, metadata, document_id = unpack(value)
    return Document(page_content=page_content, metadata=metadata, id=document_id)


# Of each kind: its class, how it becomes JSON (of the value and its path), and how it comes back. A class stands
# before the classes that it derives from.
_KINDS: dict[str, tuple[type, Callable[[Any, str], Any], Callable[[Any], Any]]] = {
    "tuple": (tuple, lambda v, path: pack(list(v), path), lambda v: tuple(unpack(v))),
    "bytes": (bytes, lambda v, _: _to_base64(v), _from_base64),
    "set": (set, lambda v, path: pack(list(v), path), lambda v: set(unpack(v))),
    "frozenset": (frozenset, lambda v, path: pack(list(v), path), lambda v: frozenset(unpack(v))),
    "datetime": (datetime, _pack_moment, _unpack_datetime),
    "date": (date, lambda v, _: v.isoformat(), date.fromisoformat),
    "time": (time, _pack_moment, _unpack_time),
    "timedelta": (timedelta, lambda v, _: [v.days, v.seconds, v.microseconds], lambda v: timedelta(*v)),
    "decimal": (Decimal, lambda v, _: str(v), Decimal),
    "uuid": (UUID, lambda v, _: str(v), UUID),
    "document": (Document, _pack_document, _unpack_document),
}

_FROM_JSON: dict[str, Callable[[Any], Any]] = {
    **{kind: from_json for kind, (_, _, from_json) in _KINDS.items()},
    "str": lambda v: _from_base64(v).decode("utf-8", "surrogatepass"),
    "int": lambda v: int(v, 16),
    "float": float,
    "dict": lambda v: {unpack(key): unpack(item) for key, item in v},
}
