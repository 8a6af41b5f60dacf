"""Messages that were decoded before: a copy takes half of the time of decoding, and less where messages are long.

Windows that the near cache keeps from one read to the next (see `backends/near_cache.py`) bring along what became of
their entries. Those that are compressed are decoded each time: kept, they would take more than the cache counts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from langchain_core.messages import BaseMessage

from langchain_memstore.codec import decode, is_plain, new, set_extra, set_fields, set_fields_set, set_private
from langchain_memstore.compression import is_compressed
from langchain_memstore.ops.reading import Window

T = TypeVar("T")


class _Original(NamedTuple):
    """What a message is made of; it is never handed out."""

    cls: type[BaseMessage]
    data: dict[str, Any]
    """Its fields; those that can be changed are left out."""
    changeable: tuple[tuple[str, Callable[[], Any]], ...]
    """The fields that can be changed, lists and dicts, and how to make each anew."""
    fields: frozenset[str]
    extra: dict[str, Any]


def _original(message: BaseMessage) -> _Original | None:
    """Take a message apart; None: it holds what cannot be copied so."""
    data, extra = message.__dict__, message.__pydantic_extra__ or {}
    if not is_plain(data.values()) or not is_plain(extra.values()):
        return None
    changeable: list[tuple[str, Callable[[], Any]]] = []
    for name, value in data.items():
        if type(value) in (dict, list):
            changeable.append((name, _copier(value)))
            data[name] = None
    makers = tuple(changeable)
    if all(make is dict or make is list for _, make in makers):
        makers = _one_of(makers)
    return _Original(type(message), data, makers, _one_of(frozenset(message.model_fields_set)), extra or _NO_EXTRA)


_NO_EXTRA: dict[str, Any] = {}


@functools.lru_cache(64)
def _one_of(value: T) -> T:
    """Return one of those that are equal: the fewer there are, the less the garbage collector has to go through."""
    return value


def _copier(value: Any) -> Callable[[], Any]:
    """Return what makes a copy of a list or a dict."""
    if not value:
        return type(value)
    is_flat = not any(type(each) in (dict, list) for each in (value.values() if type(value) is dict else value))
    return value.copy if is_flat else functools.partial(_copied, value)


def _copied(value: Any) -> Any:
    copy = value.copy()
    for key, each in copy.items() if type(copy) is dict else enumerate(copy):
        if type(each) is dict or type(each) is list:
            copy[key] = _copied(each)
    return copy


def decode_window(window: Window) -> list[BaseMessage]:
    """Decode the entries of a window, those that were decoded before by making copies.

    Raises:
        MessageDecodeError: An entry is not a message.
    """
    messages: list[BaseMessage] = []
    decoded = window.decoded
    all_set: dict[frozenset[str], set[str]] = {}  # shared by the messages of one read, as in `codec.py`
    for entry in window:
        original = decoded.get(entry)
        if original is None:
            message = decode(entry)
            original = None if is_compressed(entry) else _original(message)
            if original is None:
                messages.append(message)
                continue
            decoded[entry] = original
        cls, data, changeable, fields, extra = original
        data = data.copy()
        for name, make in changeable:
            data[name] = make()
        message = new(cls)
        set_fields(message, data)
        set_fields_set(message, all_set.get(fields) or all_set.setdefault(fields, set(fields)))
        set_extra(message, _copied(extra) if extra else {})
        set_private(message, None)
        messages.append(message)
    return messages
