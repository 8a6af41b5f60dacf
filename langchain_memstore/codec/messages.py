"""Messages to bytes and back, without loss.

An entry is the JSON of langchain-core's `message_to_dict`: `{"type": ..., "data": {...}}`. A value that JSON loses or
refuses travels as a marked value (see `tagged.py`) and comes back as it was; such an entry says so, with
`"marked": true` at its end. What cannot be kept is refused before anything is written.

Decoding builds only the message classes of `MESSAGE_CLASSES` and the marked values. Nothing in an entry names an import
path or a constructor. A message whose fields are all there and of the right types is rebuilt without validating it
again, which takes a fifth of the time; any other takes langchain-core's own road.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    BaseMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
    message_chunk_to_message,
    messages_from_dict,
)
from pydantic import BaseModel, ValidationError

from langchain_memstore.codec.compression import expand, is_compressed
from langchain_memstore.codec.tagged import pack, unpack
from langchain_memstore.errors import MessageDecodeError, MessageEncodeError, MissingPackage

MESSAGE_CLASSES: dict[str, type[BaseMessage]] = {
    "human": HumanMessage,
    "ai": AIMessage,
    "tool": ToolMessage,
    "system": SystemMessage,
    "chat": ChatMessage,
    "function": FunctionMessage,
    "remove": RemoveMessage,
}

# How entries begin, as this package writes them and as `json.dumps` does.
RESULTS = tuple(start % kind for kind in (b"tool", b"function") for start in (b'{"type":"%b"', b'{"type": "%b"'))
"""How the entries begin that never head a window: results of tools and of the older function calls."""
TURN_STARTS = (b'{"type":"human"', b'{"type": "human"')
"""How the entries begin that start a turn: messages of the human."""
SEALED = b',"sealed":"'
"""What follows the type in an entry that is encrypted; see `session.py`."""

_TYPES = {cls: name for name, cls in MESSAGE_CLASSES.items()}
_FIELDS = {cls: set(cls.model_fields) for cls in _TYPES}
_CHECKED = {"content", "additional_kwargs", "response_metadata", "type", "name", "id", "role", "tool_calls"}
_CHECKED |= {"invalid_tool_calls", "usage_metadata", "tool_call_id", "status", "artifact"}
_SHAPES = {
    name: (cls, _FIELDS[cls], -1 if _FIELDS[cls] - _CHECKED else len(_FIELDS[cls])) for cls, name in _TYPES.items()
}
"""Of each kind: its class, its fields, and how many values an entry has that has just these. That number is never met
where there are fields that `is_complete` does not look for, as a later langchain-core may add some."""


def encode(messages: Sequence[BaseMessage]) -> tuple[bytes, ...]:
    """Encode messages as entries.

    Args:
        messages: The messages. Chunks are stored as the full messages they stand for, and messages of a subclass as
            the langchain-core class that they derive from.

    Returns:
        One entry for each message.

    Raises:
        MessageEncodeError: Something is not a message, or holds a value that would not come back equal; the error
            names where.
    """
    if isinstance(messages, (BaseMessage, str)) or not isinstance(messages, Sequence):
        raise MessageEncodeError(
            f"messages must be a sequence of messages, not {type(messages).__name__}; wrap a single message in a list"
        )
    return tuple([_encode(message, index) for index, message in enumerate(messages)])


def _encode(message: BaseMessage, index: int) -> bytes:
    cls = type(message)
    if cls not in _TYPES:
        message = _full_message(message, index)
        cls = MESSAGE_CLASSES[message.type]
    data = message.__dict__
    if message.__pydantic_extra__:
        data = data | message.__pydantic_extra__
    kind = _TYPES[cls]
    value = {"type": kind, "data": data}
    try:
        entry = orjson.dumps(value) if _is_plain(data.values()) else _marked_json(value, index)
    except (TypeError, RecursionError):  # a big integer, a key that is not a string, a lone surrogate, many levels
        entry = _marked_json(value, index)
    if not is_complete(kind, data) and (changed := _changed(message, entry)):
        raise MessageEncodeError(f"messages[{index}] has fields that no {cls.__name__} can have: {changed}")
    return entry


def _is_plain(values: Iterable[Any]) -> bool:
    """Tell whether values are only of types that JSON keeps; that they are in its range is left to orjson."""
    for value in values:
        kind = type(value)
        if kind is str or value is None:
            continue
        if kind is dict:
            if value and not _is_plain(value.values()):
                return False
        elif kind is list:
            if value and not _is_plain(value):
                return False
        elif kind is float:
            if value - value != 0:  # infinite, or not a number
                return False
        elif kind is not int and kind is not bool:
            return False
    return True


def _marked_json(value: dict[str, Any], index: int) -> bytes:
    path = f"messages[{index}]"
    try:
        return orjson.dumps({"type": value["type"], "data": pack(value["data"], f"{path}.data"), "marked": True})
    except (TypeError, RecursionError) as error:
        raise MessageEncodeError(f"{path} is nested too deeply to be stored") from error


def _changed(message: BaseMessage, entry: bytes) -> str:
    """Name the fields that do not come back as they are; empty: all of them do."""
    try:
        back = decode(entry)
    except MessageDecodeError as error:
        return _invalid(error.__cause__)
    before, after = (each.__dict__ | (each.__pydantic_extra__ or {}) for each in (message, back))
    return ", ".join(sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key)))


def _invalid(error: BaseException | None) -> str:
    fields = []
    if isinstance(error, ValidationError):
        fields = [str(each["loc"][0]) for each in error.errors(include_input=False) if each["loc"]]
    return ", ".join(sorted(set(fields))) or f"{type(error).__name__}: {error}"


def _full_message(message: object, index: int) -> BaseMessage:
    if not isinstance(message, BaseMessage):
        raise MessageEncodeError(f"messages[{index}] is not a message but {type(message).__name__}")
    while isinstance(message, BaseMessageChunk):  # a subclass of a chunk class becomes that class first
        try:
            message = message_chunk_to_message(message)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise MessageEncodeError(f"messages[{index}] is a chunk of no whole message: {_invalid(error)}") from error
    known = MESSAGE_CLASSES.get(message.type)
    if known is None or not isinstance(message, known):
        raise MessageEncodeError(
            f"messages[{index}] is of {type(message).__name__}, with type {message.type!r}, "
            f"which is none of langchain-core's ({', '.join(MESSAGE_CLASSES)})"
        )
    return message


def decode(entry: bytes | str) -> BaseMessage:
    """Decode an entry.

    Args:
        entry: What `encode` made, or the JSON of `message_to_dict` that another library wrote.

    Returns:
        A new message.

    Raises:
        MessageDecodeError: The entry is not a message.
    """
    return decode_all((entry,))[0]


def is_sealed(value: bytes) -> bool:
    """Tell whether an entry, or a summary, has the form of an encrypted one."""
    return value.startswith((b'{"type":"', b'{"item":"')) and value.startswith(SEALED, value.find(b","))


def decode_all(entries: Sequence[bytes | str]) -> list[BaseMessage]:
    """Decode entries; see `decode`. One that is not a message fails all."""
    messages: list[BaseMessage] = []
    append, loads, complete, shapes = messages.append, orjson.loads, is_complete, _SHAPES  # quicker to reach, in a loop
    # Messages of one read share the set that tells which of their fields are set: all are, and only a name that is no
    # field can be added there. One for each would take 728 bytes, and in a large window a fifteenth of the time.
    all_set: dict[str, set[str]] = {}
    try:
        for entry in entries:
            # Entries of others have a space there. `json.dumps` writes into them what orjson refuses (NaN, lone
            # surrogates) or reads as floats (big integers).
            try:
                value = loads(entry) if entry[8] == _QUOTE else json.loads(entry)
            except ValueError:
                if not is_compressed(entry):
                    raise
                entry = expand(entry)
                value = loads(entry) if entry[8] == _QUOTE else json.loads(entry)
            kind, data = value["type"], value["data"]
            if len(value) != 2 and value.get("marked"):
                value["data"] = data = unpack(data)
            if kind not in shapes or not complete(kind, data):
                append(message_chunk_to_message(messages_from_dict([value])[0]))
                continue
            cls, known, size = shapes[kind]
            fields, extra = all_set.get(kind), {}
            if fields is None:
                fields = all_set[kind] = known.copy()
            if len(data) != size:
                extra = {key: data.pop(key) for key in [*data] if key not in known}
                if len(data) != len(known):  # the entry is older than a field of the class
                    append(cls(**data, **extra))
                    continue
                fields = known | extra.keys()
            message = _new(cls)  # as `model_construct` does it, but quicker: no field needs a default
            _set_fields(message, data)
            _set_fields_set(message, fields)
            _set_extra(message, extra)
            _set_private(message, None)
            append(message)
    except MissingPackage:
        raise
    except Exception as error:  # an entry may hold anything, and fail in any way
        raise MessageDecodeError(f"not a message: {type(error).__name__}") from error
    return messages


_QUOTE = ord('"')

# What a message is built with, where a function would cost a twentieth of the time.
_new = object.__new__
_set_fields = BaseModel.__dict__["__dict__"].__set__
_set_fields_set = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_set_extra = BaseModel.__dict__["__pydantic_extra__"].__set__
_set_private = BaseModel.__dict__["__pydantic_private__"].__set__


def is_complete(kind: str, data: dict[str, Any]) -> bool:
    """Tell whether every field of a message is there and has the type that validation asks for: it then needs none."""
    try:
        content, name, message_id = data["content"], data["name"], data["id"]
        if not (
            (isinstance(content, str) or _are_blocks(content))
            and isinstance(data["additional_kwargs"], dict)
            and isinstance(data["response_metadata"], dict)
            and data["type"] == kind
            and (message_id is None or isinstance(message_id, str))
            and (name is None or isinstance(name, str))
        ):
            return False
        if kind == "ai":
            calls, invalid, usage = data["tool_calls"], data["invalid_tool_calls"], data["usage_metadata"]
            return (
                isinstance(calls, list)
                and isinstance(invalid, list)
                and not (calls and not _are_calls(calls))
                and not (invalid and not _are_calls(invalid))
                and (usage is None or _is_usage(usage))
            )
        if kind == "tool":
            return isinstance(data["tool_call_id"], str) and data["status"] in _STATUS and "artifact" in data
        if kind == "chat":
            return isinstance(data["role"], str)
        return kind != "function" or name is not None
    except (KeyError, TypeError):
        return False


_STATUS = ("success", "error")


def _are_blocks(content: Any) -> bool:
    return isinstance(content, list) and all(isinstance(block, (dict, str)) for block in content)


def _are_calls(calls: list[Any]) -> bool:
    for call in calls:  # a generator would take twice as long
        if not isinstance(call, dict) or "name" not in call or "args" not in call or "id" not in call:
            return False
    return True


def _is_usage(usage: Any) -> bool:
    return isinstance(usage, dict) and "input_tokens" in usage and "output_tokens" in usage and "total_tokens" in usage
