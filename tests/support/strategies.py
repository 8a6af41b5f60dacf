"""Values and messages to test with, and how to compare them."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, namedtuple
from datetime import datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
)
from pydantic import BaseModel

from langchain_memstore.codec.tagged import MARK

MESSAGES = (HumanMessage, AIMessage, ToolMessage, SystemMessage, ChatMessage, FunctionMessage, RemoveMessage)
CHUNKS = (
    HumanMessageChunk,
    AIMessageChunk,
    ToolMessageChunk,
    SystemMessageChunk,
    ChatMessageChunk,
    FunctionMessageChunk,
)

Point = namedtuple("Point", "x y")

text = st.text(max_size=8)
any_text = st.text(st.characters(exclude_categories=()), max_size=8)  # lone surrogates too
keys = st.one_of(text, st.sampled_from(["type", "lc", "id", "data", "marked", "tool_calls"]))

zones = st.one_of(
    st.none(),
    st.sampled_from(
        [timezone.utc, timezone(timedelta(hours=-3, minutes=-30)), timezone(timedelta(hours=5, seconds=7))]
    ),
    st.sampled_from(["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe"]).map(ZoneInfo),
)
folds = st.integers(0, 1)
moments = st.one_of(
    st.builds(lambda moment, fold: moment.replace(fold=fold), st.datetimes(timezones=zones), folds),
    st.builds(lambda moment, fold: moment.replace(fold=fold), st.times(timezones=zones), folds),
)


def nested(leaves: st.SearchStrategy[Any], names: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
        max_leaves=6,
    )


plain_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    text,
)
plain_values = nested(plain_leaves, keys)
"""What JSON keeps."""

marked_leaves = st.one_of(
    st.sampled_from([float("nan"), float("inf"), float("-inf"), -0.0]),
    st.integers(min_value=2**63 - 1, max_value=2**200) | st.integers(max_value=-(2**63), min_value=-(2**200)),
    any_text,
    st.binary(max_size=8),
    moments,
    st.dates(),
    st.timedeltas(),
    st.decimals(),
    st.uuids(),
)
any_keys = st.one_of(
    keys,
    any_text,
    st.just(MARK),
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.binary(max_size=3),
    st.tuples(text, st.integers(0, 3)),
    st.frozensets(text, max_size=2),
)
like_marks = st.one_of(
    st.builds(lambda kind, content: {MARK: [kind, content]}, st.sampled_from(["bytes", "tuple", "nope"]), plain_values),
    st.builds(lambda content: {MARK: content}, plain_values),
)
any_values = st.recursive(
    st.one_of(plain_leaves, marked_leaves, like_marks),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(any_keys, inner, max_size=3),
        st.tuples(inner, inner),
        st.builds(Point, inner, inner),
        st.sets(any_keys, max_size=3),
        st.frozensets(any_keys, max_size=3),
        st.builds(lambda pairs: defaultdict(list, pairs), st.dictionaries(any_keys, inner, max_size=2)),
        st.builds(OrderedDict, st.dictionaries(any_keys, inner, max_size=2)),
        st.builds(Document, page_content=text, metadata=st.dictionaries(keys, inner, max_size=2), id=st.none() | text),
    ),
    max_leaves=6,
)
"""Everything that can be kept."""


def canonical(value: Any) -> Any:
    """Make equal what is the same, type and all: NaN is NaN, 1 is neither True nor 1.0, a fold counts."""
    if isinstance(value, BaseModel):
        return type(value).__name__, canonical(value.__dict__), canonical(value.__pydantic_extra__ or {})
    if isinstance(value, dict):
        return "dict", [(canonical(key), canonical(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return "list" if isinstance(value, list) else "tuple", [canonical(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return type(value).__name__, sorted(repr(canonical(item)) for item in value)
    if isinstance(value, (datetime, time)):
        return type(value).__name__, value.isoformat(), getattr(value.tzinfo, "key", None), value.fold
    return type(value).__name__, repr(value)


def blocks(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(lambda words: {"type": "text", "text": words}, text),
        st.builds(lambda words: {"type": "image_url", "image_url": {"url": words}}, text),
        st.dictionaries(keys, values, max_size=3),
    )


def messages(
    cls: type[BaseMessage], values: st.SearchStrategy[Any], text: st.SearchStrategy[str] = text
) -> st.SearchStrategy[BaseMessage]:
    """Messages of a class, with values of a strategy in their free places; chunks have no extra fields to lose."""
    mapping = st.dictionaries(keys, values, max_size=3)
    fields: dict[str, Any] = {
        "content": text | st.lists(text | blocks(values), max_size=3),
        "additional_kwargs": mapping,
        "response_metadata": mapping,
        "name": st.none() | text,
        "id": st.none() | text,
    }
    if issubclass(cls, RemoveMessage):
        fields |= {"id": text}
        del fields["content"]
    elif issubclass(cls, AIMessage):
        call = {"name": text, "args": st.dictionaries(text, values, max_size=2), "id": st.none() | text}
        failed = {"name": st.none() | text, "args": st.none() | text, "id": st.none() | text, "error": st.none() | text}
        count = st.integers(0, 10**6)
        usage = {"input_tokens": count, "output_tokens": count, "total_tokens": count}
        details = {"input_token_details": st.fixed_dictionaries({}, optional={"cache_read": count})}
        fields["usage_metadata"] = st.none() | st.fixed_dictionaries(usage, optional=details)
        if issubclass(cls, AIMessageChunk):
            part = {
                "name": st.none() | text,
                "args": st.sampled_from([None, "{", '{"a":1}']),
                "index": st.none() | count,
            }
            fields["tool_call_chunks"] = st.lists(st.fixed_dictionaries({**part, "id": st.none() | text}), max_size=2)
        else:
            fields["tool_calls"] = st.lists(st.fixed_dictionaries(call), max_size=2)
            fields["invalid_tool_calls"] = st.lists(st.fixed_dictionaries(failed), max_size=2)
    elif issubclass(cls, ToolMessage):
        fields |= {"tool_call_id": text, "artifact": values, "status": st.sampled_from(["success", "error"])}
    elif issubclass(cls, ChatMessage):
        fields["role"] = text
    elif issubclass(cls, FunctionMessage):
        fields["name"] = text
    taken = {*cls.model_fields, "self", "content_blocks"}
    names = st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda key: key not in taken)
    extras = st.dictionaries(names, values, max_size=0 if cls in CHUNKS else 2)
    return st.builds(lambda known, more: cls(**known, **more), st.fixed_dictionaries(fields), extras)
