"""What a runnable is asked and what it answers, as messages: pure functions."""

from __future__ import annotations

import copy
import functools
import itertools
import operator
from contextlib import suppress
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    BaseMessageChunk,
    HumanMessage,
    convert_to_messages,
    message_chunk_to_message,
)
from langchain_core.prompt_values import PromptValue

from langchain_memstore import codec
from langchain_memstore.errors import MessageEncodeError

CLASSES = frozenset(codec.MESSAGE_CLASSES.values())


def value_of(mapping: dict[str, Any], key: str | None, which: str, *usual: str) -> Any:
    """Return what holds the messages of a dict: under its key, its only key, or a usual one."""
    if key is None:
        key = next(iter(mapping)) if len(mapping) == 1 else next((name for name in usual if name in mapping), usual[0])
    if key not in mapping:
        raise ValueError(f"{which} has no key {key!r}, only {sorted(map(str, mapping))}; pass {which}_messages_key")
    return mapping[key]


def messages_of(which: str, value: Any, text: type[HumanMessage] | type[AIMessage]) -> list[BaseMessage]:
    """Return a value as full messages; a text stands for a message of that type."""
    if isinstance(value, PromptValue):
        value = value.to_messages()
    elif isinstance(value, (str, BaseMessage)):
        value = [value]
    elif not isinstance(value, (list, tuple)):
        raise ValueError(f"{which} must be a text, a message or a list of messages, not {type(value).__name__}")
    try:
        messages = convert_to_messages([text(each) if isinstance(each, str) else each for each in value])
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(f"{which} must be messages: {error}") from error
    return [message_chunk_to_message(message) for message in messages]


def frozen_copy(messages: list[BaseMessage]) -> list[BaseMessage]:
    """Return messages as they are now, whatever becomes of them."""
    if all(type(message) in CLASSES for message in messages):
        with suppress(MessageEncodeError):  # a history of another kind may keep what ours cannot
            return [codec.decode(entry) for entry in codec.encode(messages)]  # quicker than a deep copy
    try:
        return copy.deepcopy(messages)
    except Exception as error:
        raise MessageEncodeError(f"input holds a value that cannot be copied: {error}") from error


def combine_chunks(parts: list[Any]) -> Any:
    """Add up the parts of a stream; where they do not add up, the last is the whole."""
    if all(isinstance(part, BaseMessage) for part in parts):
        messages: list[BaseMessage] = []
        for cls, group in itertools.groupby(parts, type):  # chunks add up to one message, full messages are many
            first, *others = group
            messages += [first + others] if issubclass(cls, BaseMessageChunk) else [first, *others]
        return messages[0] if len(messages) == 1 else messages
    if all(isinstance(part, str) for part in parts):
        return "".join(parts)
    try:
        return functools.reduce(operator.add, parts)
    except TypeError:
        return parts[-1]


def new_messages(messages: list[BaseMessage], given: list[BaseMessage], asked: list[BaseMessage]) -> list[BaseMessage]:
    """Leave out of an output what the runnable was given, and what it put before that: a graph returns its whole state.

    Most states begin with all that was given. One that was trimmed, or begins with a summary, holds the last message
    that was given, and what follows is new. An output that holds nothing of what was given is new from its start.
    """
    if len(messages) >= len(given) and all(map(_same, messages, given)):
        return messages[len(given) :]
    ids, objects = {each.id for each in given} - {None}, {id(each) for each in given}
    for end in range(len(messages), 0, -1):
        last = messages[end - 1]
        if last.id in ids or id(last) in objects or (asked and _same(last, asked[-1])):
            return messages[end:]
    return messages


def _same(one: BaseMessage, other: BaseMessage) -> bool:
    """Tell whether a message is another, or a copy of it, perhaps with the id that a graph gave it."""
    if one is other:
        return True
    if one.id is not None and other.id is not None:
        return one.id == other.id
    return one.model_copy(update={"id": None}) == other.model_copy(update={"id": None})
