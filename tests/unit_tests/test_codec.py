"""Messages to bytes and back: nothing is lost, nothing is believed."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pickle
import sys
import time
from collections.abc import Sequence
from copy import deepcopy
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import langchain_core.messages
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    BaseMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
    message_chunk_to_message,
    message_to_dict,
    messages_from_dict,
)
from pydantic import create_model

from langchain_memstore.codec import messages as codec
from langchain_memstore.codec.messages import MESSAGE_CLASSES, RESULTS, TURN_STARTS, decode, encode
from langchain_memstore.codec.tagged import _FROM_JSON, MARK
from langchain_memstore.errors import MessageDecodeError, MessageEncodeError
from support.strategies import (
    CHUNKS,
    MESSAGES,
    any_text,
    any_values,
    canonical,
    messages,
    nested,
    plain_leaves,
    plain_values,
)

few = settings(max_examples=40)  # for each class
every_class = pytest.mark.parametrize("cls", [*MESSAGES, *CHUNKS], ids=lambda cls: cls.__name__)
every_full_class = pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.__name__)


def back(message: BaseMessage) -> BaseMessage:
    (entry,) = encode([message])
    return decode(entry)


def tool(artifact: Any) -> ToolMessage:
    return ToolMessage("result", tool_call_id="call-1", artifact=artifact)


def example(cls: type[BaseMessage]) -> BaseMessage:
    """A message of a class with a value in every place."""
    call = {"name": "add", "args": {"a": [1]}, "id": "call-1", "type": "tool_call"}
    more: dict[str, Any] = {"content": ["words", {"type": "text", "text": "more"}]}
    if issubclass(cls, RemoveMessage):
        more = {}
    elif issubclass(cls, AIMessage):
        more["tool_calls"] = [call]
        more["invalid_tool_calls"] = [{**call, "args": "{", "error": "no JSON", "type": "invalid_tool_call"}]
        more["usage_metadata"] = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    elif issubclass(cls, ToolMessage):
        more |= {"tool_call_id": "call-1", "artifact": {"rows": [1]}, "status": "error"}
    elif issubclass(cls, ChatMessage):
        more["role"] = "critic"
    return cls(id="id-1", name="name", additional_kwargs={"a": 1}, response_metadata={"b": [2]}, extra="field", **more)


# What goes in comes out


@every_class
@few
@given(data=st.data())
def test_what_goes_in_comes_out(cls: type[BaseMessage], data: st.DataObject) -> None:
    message = data.draw(messages(cls, any_values, any_text))
    before = canonical(message)
    came_back = back(message)
    assert canonical(came_back) == canonical(message_chunk_to_message(message))
    assert canonical(message) == before


ALONE = [
    float("nan"),
    float("inf"),
    float("-inf"),
    2**64,
    -(2**63) - 1,
    "\ud800",
    b"",
    (),
    set(),
    {1: 2},
    {"\ud800": 1},
]
ALONE += [{None: 1}, {True: 1}, {b"": 1}, Decimal("sNaN"), datetime(2024, 5, 6, fold=1), {MARK: [b""]}]


@pytest.mark.parametrize("value", ALONE, ids=repr)
def test_one_value_that_json_would_lose_comes_back(value: Any) -> None:
    """Nothing else in the message gives it away."""
    for message in (
        tool(value),
        tool([{"x": [value]}]),
        HumanMessage("text", x=value),
        HumanMessage([{"x": value}]),
        AIMessage("text", response_metadata={"x": value}),
        AIMessage("", tool_calls=[{"name": "f", "args": {"x": value}, "id": "1"}]),
    ):
        assert canonical(back(message)) == canonical(message)


@every_class
@few
@given(data=st.data())
def test_an_ordinary_message_is_the_json_of_message_to_dict(cls: type[BaseMessage], data: st.DataObject) -> None:
    message = message_chunk_to_message(data.draw(messages(cls, plain_values)))
    (entry,) = encode([message])
    assert canonical(json.loads(entry)) == canonical(message_to_dict(message))
    assert entry.startswith(b'{"type":"%b","data":{' % message.type.encode())


@every_full_class
@few
@given(data=st.data())
def test_an_ordinary_message_comes_back_as_validation_would_make_it(
    cls: type[BaseMessage], data: st.DataObject
) -> None:
    message = data.draw(messages(cls, plain_values))
    (entry,) = encode([message])
    quick, validated = decode(entry), messages_from_dict([json.loads(entry)])[0]
    assert quick == validated == message
    assert canonical(quick) == canonical(validated)
    assert quick.model_fields_set == validated.model_fields_set
    assert quick.__pydantic_private__ == validated.__pydantic_private__
    assert quick.model_dump_json(exclude_unset=True) == validated.model_dump_json(exclude_unset=True)


@every_full_class
def test_a_message_that_came_back_is_like_any_other(cls: type[BaseMessage]) -> None:
    message = example(cls)
    came_back = back(message)
    assert came_back == message and type(came_back) is cls
    assert type(came_back.model_fields_set) is set
    assert pickle.loads(pickle.dumps(came_back)) == message
    assert came_back.model_copy(deep=True) == deepcopy(came_back) == message
    assert came_back.model_dump() == message.model_dump()
    assert repr(came_back) == repr(message)
    came_back.name = "another"
    came_back.more = "an extra field"  # type: ignore[attr-defined]
    came_back.response_metadata["c"] = 3
    assert came_back.name == "another" and came_back.model_extra == {"extra": "field", "more": "an extra field"}
    assert back(came_back) == came_back != message
    assert back(message) == message  # no two share anything
    assert "more" not in back(message).model_fields_set


def test_what_is_set_on_a_message_is_set_on_none_of_another_read() -> None:
    (entry,) = encode([HumanMessage("hello")])
    fields = decode(entry).model_fields_set.copy()
    decode(entry).more = "an extra field"  # type: ignore[attr-defined]
    assert decode(entry).model_fields_set == fields


@every_full_class
def test_an_ordinary_message_is_not_validated_again(cls: type[BaseMessage], monkeypatch: pytest.MonkeyPatch) -> None:
    (entry,) = encode([example(cls)])
    monkeypatch.setattr(codec, "messages_from_dict", None)
    assert decode(entry) == example(cls)


def test_changes_in_place_are_kept() -> None:
    message = AIMessage("text")
    message.response_metadata["a"] = 1
    message.additional_kwargs["b"] = {"c": None}
    message.tool_calls.append({"name": "f", "args": {}, "id": None, "type": "tool_call"})
    message.extra = "field"  # type: ignore[attr-defined]
    message.content = [{"type": "text", "text": "other"}]
    came_back = back(message)
    assert came_back == message
    assert came_back.response_metadata == {"a": 1}
    assert came_back.model_extra == {"extra": "field"}


def test_tool_calls_are_kept_as_they_are() -> None:
    """Validation would make calls out of `additional_kwargs`, and give each a type."""
    message = AIMessage("text")
    message.additional_kwargs["tool_calls"] = [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]
    assert back(message) == message and not message.tool_calls
    message.tool_calls = [{"name": "f", "args": {}, "id": "1", "extras": {"signature": "x"}}]  # type: ignore[typeddict-unknown-key]
    assert back(message) == message


def test_text_of_a_message_is_text() -> None:
    message = AIMessage("")
    message.content = HumanMessage("text").text  # a str of another class
    message.response_metadata["score"] = float("nan")
    assert canonical(back(message).content) == canonical("text")


@every_full_class
def test_a_field_that_langchain_core_came_to_have_gets_its_default(
    cls: type[BaseMessage], monkeypatch: pytest.MonkeyPatch
) -> None:
    message, bare = example(cls), example(cls)
    del bare.extra  # type: ignore[attr-defined]
    entry, bare_entry = encode([message, bare])
    grown = create_model(cls.__name__, __base__=cls, new=(int, 7))
    monkeypatch.setattr(langchain_core.messages, cls.__name__, grown)
    spec = importlib.util.spec_from_file_location("langchain_memstore.later_codec", codec.__file__)
    assert spec and spec.loader
    later = importlib.util.module_from_spec(spec)  # the codec as it is with such a langchain-core
    spec.loader.exec_module(later)
    for old in (entry, bare_entry, json.dumps(message_to_dict(message))):
        came_back = later.decode(old)
        assert type(came_back) is grown
        assert came_back.new == 7
        assert came_back.content == message.content
    assert later.decode(entry).model_extra == {"extra": "field"}
    newer = came_back.model_copy(update={"new": 8})
    assert later.decode(*later.encode([newer])) == newer


class Spoken(HumanMessage):
    voice: str = "calm"


class Part(AIMessageChunk):
    pass


class Custom(BaseMessage):
    type: Literal["custom"] = "custom"


def test_a_subclass_is_stored_as_the_class_it_derives_from() -> None:
    assert back(Spoken("hello", voice="loud")) == HumanMessage("hello", voice="loud")
    assert back(Part("hello", id="1")) == AIMessage("hello", id="1")


def test_chunks_that_were_added_up_are_stored_as_their_message() -> None:
    call = {"name": "add", "args": '{"a":', "id": "1", "index": 0}
    whole = AIMessageChunk("Wait", tool_call_chunks=[call]) + AIMessageChunk(
        "!", tool_call_chunks=[{"name": None, "args": " 1}", "id": None, "index": 0}], chunk_position="last"
    )
    came_back = back(whole)
    assert type(came_back) is AIMessage
    assert came_back == message_chunk_to_message(whole)
    assert came_back.tool_calls == [{"name": "add", "args": {"a": 1}, "id": "1", "type": "tool_call"}]


@every_class
@pytest.mark.parametrize("metadata", [{}, {"marked": b"bytes"}], ids=["plain", "marked"])
def test_entries_tell_results_and_turns_by_how_they_begin(cls: type[BaseMessage], metadata: dict[str, Any]) -> None:
    message = message_chunk_to_message(example(cls))
    entries = [*encode([message]), json.dumps(message_to_dict(message)).encode()]
    message.response_metadata = metadata
    for entry in [*entries, *encode([message])]:
        assert entry.startswith(RESULTS) is isinstance(message, (ToolMessage, FunctionMessage))
        assert entry.startswith(TURN_STARTS) is isinstance(message, HumanMessage)


# What is refused


class Opaque:
    pass


@pytest.mark.parametrize(
    ("message", "path"),
    [
        (tool(Opaque()), "data.artifact"),
        (tool({"x": [1, 2, Opaque()]}), "data.artifact.x[2]"),
        (tool({"x": ({Opaque()},)}), "data.artifact.x[0][0]"),
        (tool({3: Opaque()}), "data.artifact[3]"),
        (tool(Document("text", metadata={"x": Opaque()})), "data.artifact.metadata.x"),
        (AIMessage("", tool_calls=[{"name": "f", "args": {"x": Opaque()}, "id": "1"}]), "data.tool_calls[0].args.x"),
        (HumanMessage(["text", {"image": Opaque()}]), "data.content[1].image"),
        (HumanMessage("text", additional_kwargs={"x": Opaque()}), "data.additional_kwargs.x"),
        (AIMessage("text", response_metadata={"x": Opaque()}), "data.response_metadata.x"),
        (HumanMessage("text", x=Opaque()), "data.x"),
        (AIMessageChunk("text", response_metadata={"x": Opaque()}), "data.response_metadata.x"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_kept_is_refused_with_its_path(message: BaseMessage, path: str) -> None:
    with pytest.raises(MessageEncodeError) as caught:
        encode([HumanMessage("fine"), message])
    assert str(caught.value).startswith(f"messages[1].{path} is of {__package__}.test_codec.Opaque, ")


def endless() -> list[Any]:
    value: list[Any] = []
    value.append({"again": value})
    return value


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"deeper": value}
    return value


@pytest.mark.parametrize("artifact", [endless(), deep(300), deep(100_000), [b"marked", deep(300)]], ids=lambda _: "")
def test_what_is_nested_too_deeply_is_refused(artifact: Any) -> None:
    with pytest.raises(MessageEncodeError, match=r"messages\[1\].* too deeply"):
        encode([HumanMessage("fine"), tool(artifact)])


def test_deep_nesting_is_kept() -> None:
    assert back(tool(deep(200))) == tool(deep(200))
    assert back(tool([b"marked", deep(200)])) == tool([b"marked", deep(200)])


@pytest.mark.parametrize(
    ("message", "field", "value"),
    [
        (HumanMessage("text"), "content", None),
        (HumanMessage("text"), "content", 5),
        (HumanMessage("text"), "content", ["text", 5]),
        (HumanMessage("text"), "content", ({"type": "text"},)),
        (HumanMessage("text"), "name", 5),
        (HumanMessage("text"), "id", 5),
        (HumanMessage("text"), "type", "ai"),
        (HumanMessage("text"), "additional_kwargs", None),
        (HumanMessage("text"), "response_metadata", [1]),
        (AIMessage("text"), "additional_kwargs", None),
        (AIMessage("text"), "tool_calls", None),
        (AIMessage("text"), "tool_calls", [None]),
        (AIMessage("text"), "tool_calls", [{"name": "f"}]),
        (AIMessage("text"), "invalid_tool_calls", "none"),
        (AIMessage("text"), "usage_metadata", {"input_tokens": 1}),
        (ToolMessage("text", tool_call_id="1"), "content", None),
        (ToolMessage("text", tool_call_id="1"), "content", [5]),
        (ToolMessage("text", tool_call_id="1"), "tool_call_id", None),
        (ToolMessage("text", tool_call_id="1"), "status", "maybe"),
        (ChatMessage("text", role="critic"), "role", None),
        (FunctionMessage("text", name="f"), "name", None),
        (HumanMessageChunk("text"), "content", None),
        (AIMessageChunk("text"), "response_metadata", None),
        (AIMessageChunk("text"), "tool_calls", [None]),
        (AIMessageChunk("text"), "additional_kwargs", None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseMessage) else str(value),
)
def test_a_message_that_was_made_invalid_is_refused(message: BaseMessage, field: str, value: Any) -> None:
    message = message.model_copy()
    setattr(message, field, value)
    before = canonical(message)
    with pytest.raises(MessageEncodeError, match=r"messages\[1\] (has fields|is a chunk)") as caught:
        encode([HumanMessage("fine"), message])
    assert field in str(caught.value) or "Error: " in str(caught.value)
    assert canonical(message) == before


@pytest.mark.parametrize(
    "wrong",
    ["text", HumanMessage("text"), None, 5, {"type": "human"}, {HumanMessage}, iter([HumanMessage("text")])],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_sequence_is_refused(wrong: Any) -> None:
    with pytest.raises(MessageEncodeError, match=f"must be a sequence of messages, not {type(wrong).__name__}; wrap"):
        encode(wrong)


@pytest.mark.parametrize(
    "wrong", [None, "text", {"type": "human"}, ("human", "text"), [HumanMessage("text")], HumanMessage, 5], ids=repr
)
def test_what_is_no_message_is_refused(wrong: Any) -> None:
    with pytest.raises(MessageEncodeError, match=rf"^messages\[1\] is not a message but {type(wrong).__name__}$"):
        encode([HumanMessage("fine"), wrong])


def test_a_kind_that_langchain_core_does_not_have_is_refused() -> None:
    with pytest.raises(MessageEncodeError, match=r"messages\[0\] is of Custom, with type 'custom', .*\(human, ai, "):
        encode([Custom("text")])


def test_any_sequence_will_do() -> None:
    class Few(Sequence[BaseMessage]):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: Any) -> Any:
            return [HumanMessage("text")][index]

    assert encode(Few()) == encode((HumanMessage("text"),)) == encode([HumanMessage("text")])
    assert encode([]) == encode(()) == ()


# Entries that others wrote


foreign_values = nested(
    st.one_of(plain_leaves, any_text, st.floats(), st.integers(-(2**200), 2**200)), st.one_of(any_text, st.just(MARK))
)


@every_full_class
@few
@given(data=st.data(), ascii_only=st.booleans())
def test_what_json_dumps_wrote_is_read(cls: type[BaseMessage], data: st.DataObject, ascii_only: bool) -> None:
    message = data.draw(messages(cls, foreign_values if ascii_only else plain_values))
    written = json.dumps(message_to_dict(message), ensure_ascii=ascii_only)
    assert canonical(decode(written)) == canonical(decode(written.encode())) == canonical(message)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"type": "human", "data": {"content": "hi"}}, HumanMessage("hi")),
        ({"data": {"id": 5, "content": "hi"}, "type": "human", "more": 1}, HumanMessage("hi", id="5")),
        ({"type": "human", "data": {"content": "hi", "example": False}}, HumanMessage("hi", example=False)),
        (
            {"type": "ai", "data": {"content": "", "tool_calls": [{"name": "f", "args": {}, "id": "1"}]}},
            AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1", "type": "tool_call"}]),
        ),
        (
            {
                "type": "ai",
                "data": {
                    "content": "",
                    "additional_kwargs": {"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]},
                },
            },
            AIMessage(
                "",
                additional_kwargs={"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]},
                tool_calls=[{"name": "f", "args": {}, "id": "1"}],
            ),
        ),
        ({"type": "AIMessageChunk", "data": {"content": "hi", "id": "1"}}, AIMessage("hi", id="1")),
        ({"type": "ToolMessageChunk", "data": {"content": 5, "tool_call_id": 7}}, ToolMessage("5", tool_call_id="7")),
    ],
    ids=repr,
)
def test_entries_of_older_versions_are_validated(value: Any, message: BaseMessage) -> None:
    came_back = decode(json.dumps(value))
    assert came_back == message
    assert type(came_back) is type(message)


# Entries that nobody should have written


def is_message_or_refused(entry: bytes | str) -> None:
    with contextlib.suppress(MessageDecodeError):
        assert type(decode(entry)) in MESSAGE_CLASSES.values()


some_message = st.sampled_from([*MESSAGES, *CHUNKS]).flatmap(lambda cls: messages(cls, any_values, any_text))
some_json = st.one_of(
    nested(st.one_of(plain_leaves, st.just(10**30)), st.text(max_size=3)),
    st.builds(
        lambda kind, content: {MARK: [kind, content]},
        st.sampled_from([*_FROM_JSON, "nope"]),
        nested(
            st.sampled_from(
                [None, True, -1, 2**63, 1e300, "", "x", "2024-05-06", "24:00", "0x", "-inf", "Europe/", {}]
            ),
            st.sampled_from(["x", MARK]),
        ),
    ),
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container in a JSON value, with each of its keys."""
    found = []
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            found += [(value, key), *places(value[key])]
    return found


@settings(max_examples=250)
@given(some_message, some_json, st.data())
def test_an_entry_with_anything_in_it_is_a_message_or_refused(
    message: BaseMessage, replacement: Any, data: st.DataObject
) -> None:
    value = json.loads(encode([message])[0])
    value["marked"] = True
    container, key = data.draw(st.sampled_from(places(value)))
    container[key] = replacement
    is_message_or_refused(json.dumps(value))
    del container[key]
    is_message_or_refused(json.dumps(value, separators=(",", ":")))


@settings(max_examples=250)
@given(some_message, st.data())
def test_a_damaged_entry_is_a_message_or_refused(message: BaseMessage, data: st.DataObject) -> None:
    (entry,) = encode([message])
    start, length = data.draw(st.integers(0, len(entry))), data.draw(st.integers(0, 4))
    is_message_or_refused(entry[:start] + data.draw(st.binary(max_size=4)) + entry[start + length :])


@given(st.binary() | st.text())
def test_anything_is_a_message_or_refused(entry: bytes | str) -> None:
    is_message_or_refused(entry)


@every_full_class
def test_a_truncated_entry_is_refused(cls: type[BaseMessage]) -> None:
    for entry in (encode([example(cls)])[0], json.dumps(message_to_dict(example(cls))).encode()):
        for length in range(len(entry)):
            with pytest.raises(MessageDecodeError):
                decode(entry[:length])


def marked(content: Any) -> str:
    (entry,) = encode([tool("here")])
    return json.dumps({**json.loads(entry), "marked": True}).replace('"here"', json.dumps(content))


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"null",
        b"5",
        b"[]",
        b'"text"',
        b"{}",
        b'{"type":"human"}',
        b'{"type":"human","data":null}',
        b'{"type":"human","data":[]}',
        b'{"type":"human","data":"content"}',
        b'{"type":"human","data":{}}',
        b'{"type":"human","data":{"content":null}}',
        b'{"type":"human","data":{"content":"x","self":1}}',
        b'{"type":"human","data":{"content":"x","type":"ai"}}',
        b'{"type":["human"],"data":{"content":"x"}}',
        b'{"type":{},"data":{"content":"x"}}',
        b'{"type":"custom","data":{"content":"x"}}',
        b'{"type":"HumanMessage","data":{"content":"x"}}',
        b'{"type":"ai","data":{"content":"x","additional_kwargs":[]}}',
        b'{"type":"ai","data":{"content":"x","tool_calls":[1]}}',
        b'{"type":"tool","data":{"content":"x"}}',
        b'{"type":"human","data":{"content":"\xff"}}',
        b'{"type":"human","data":{"content":"x"}}}',
        b'{"type":"human","data":{"content":"x"},"marked":true,}',
        b'{"lc":1,"type":"constructor","id":["langchain","schema","messages","HumanMessage"],"kwargs":{"content":"x"}}',
        b'{"type":"human","data":{"content":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        b'{"type": "human", "data": {"content": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        b'{"type": "human", "data": {"content": ' + b"9" * 100_000 + b"}}",
        b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x04text\x94.",  # a pickle
        *[
            marked({MARK: content})
            for content in [
                None,
                [],
                ["bytes"],
                ["bytes", 1, 2],
                ["bytes", "no base64"],
                ["str", "gA=="],
                ["nope", 1],
                [["bytes"], 1],
                ["timedelta", [10**30, 0, 0]],
                ["decimal", "many"],
                ["int", "0y"],
                ["float", "much"],
                ["date", "2024-13-01"],
                ["datetime", ["2024-05-06T00:00:00", "No/Such", 0]],
                ["datetime", ["2024-05-06T00:00:00", "../../etc/passwd", 0]],
                ["datetime", ["2024-05-06T00:00:00", "Europe", 0]],
                ["datetime", ["2024-05-06T00:00:00", "x" * 5_000, 0]],
                ["datetime", ["2024-05-06T00:00:00", None, 9]],
                ["time", ["25:00", None, 0]],
                ["uuid", 5],
                ["set", [[]]],
                ["dict", [[{}, 1]]],
                ["document", ["text", None, None]],
            ]
        ],
        marked({MARK: ["bytes", "AA=="], "more": 1}),
    ],
    ids=lambda entry: repr(entry[:60]) if isinstance(entry, bytes) else entry[-70:-30],
)
def test_what_is_no_message_raises(entry: bytes | str) -> None:
    with pytest.raises(MessageDecodeError, match="not a message: "):
        decode(entry)


CONSTRUCTOR = {
    "lc": 1,
    "type": "constructor",
    "id": ["langchain_core", "prompts", "prompt", "PromptTemplate"],
    "kwargs": {"template": "{x}", "input_variables": ["x"]},
}
SECRETS = {"lc": 1, "type": "secret", "id": ["PATH"]}


@pytest.mark.parametrize("value", [CONSTRUCTOR, SECRETS, {"lc": 2, "type": "not_implemented", "id": ["os", "system"]}])
def test_langchain_constructors_are_only_dictionaries(value: dict[str, Any]) -> None:
    loaded = set(sys.modules)
    call = {"name": "f", "args": {"x": value, **value}, "id": "1", "type": "tool_call"}
    fields: dict[str, Any] = {"content": [value, {"type": "text", "text": "x", "more": value}]}
    fields |= {"additional_kwargs": {"x": value, **value}, "response_metadata": value, "extra": [value]}
    for data in ({**fields, "tool_calls": [call]}, {**fields, "tool_call_id": "1", "artifact": value}):
        kind = "tool" if "artifact" in data else "ai"
        for mark in ({}, {"marked": True}):
            message = decode(json.dumps({"type": kind, "data": data, **mark}))
            assert type(message) is MESSAGE_CLASSES[kind]
            for name, field in data.items():
                assert canonical(getattr(message, name)) == canonical(field)
    for entry in (value, {**value, "data": fields}, {"type": "constructor", "data": value}, [value]):
        with pytest.raises(MessageDecodeError):
            decode(json.dumps(entry))
    assert type(decode(json.dumps({"data": fields, **value, "type": "human"}))) is HumanMessage
    assert not {name for name in set(sys.modules) - loaded if not name.startswith("langchain_core.messages")}


PLACES = ("content", "additional_kwargs", "response_metadata", "tool_calls", "artifact", "extra")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("opening", ["[", '{"a":', f'{{"{MARK}":["tuple",[', f'{{"{MARK}":["dict",[[1,'])
def test_any_nesting_is_a_message_or_refused_at_once(place: str, opening: str) -> None:
    closing = "".join({"[": "]", "{": "}"}[each] for each in reversed(opening) if each in "[{")
    started = time.monotonic()
    for levels in (10, 240, 500, 900, 1020, 100_000):
        nested = opening * levels + "1" + closing * levels
        data = {"content": "x", "tool_call_id": "1", place: ["HERE"] if place == "content" else {"x": "HERE"}}
        if place == "tool_calls":
            data[place] = [{"name": "f", "args": {"x": "HERE"}, "id": "1"}]
        value = {"type": "ai" if place == "tool_calls" else "tool", "data": data, "marked": MARK in opening}
        for separators in ((",", ":"), (", ", ": ")):
            is_message_or_refused(json.dumps(value, separators=separators).replace('"HERE"', nested))
    assert time.monotonic() - started < 5


def test_of_duplicate_keys_the_last_counts() -> None:
    entry = '{"type":"human","type":"ai","data":5,"data":{"content":"a","content":"b","id":"1","id":null}}'
    assert decode(entry) == decode(entry.replace(":", ": ")) == AIMessage("b")
    is_message_or_refused('{"type":"ai","data":{"content":"a"},"data":{}}')
    is_message_or_refused('{"type":"human","data":{"content":"a","type":"human","type":"ai"}}')


@pytest.mark.parametrize(
    "number", ["9" * 4_000, "9" * 5_000, "-" + "9" * 100_000, "1e999999", "1E-999999", "0." + "1" * 100_000]
)
def test_huge_numbers_are_a_message_or_refused_at_once(number: str) -> None:
    started = time.monotonic()
    (entry,) = encode([tool("HERE")])
    for text in (entry.decode(), json.dumps(json.loads(entry))):
        is_message_or_refused(text.replace('"HERE"', number))
        for kind in ("int", "float", "decimal", "timedelta", "date"):
            is_message_or_refused(marked({MARK: [kind, number]}))
            is_message_or_refused(marked({MARK: [kind, "0x" + number]}))
            is_message_or_refused(marked({MARK: [kind, "HERE"]}).replace('"HERE"', number))
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("junk", [b"\xff", b"\xc3", b"\xf8\x88\x80\x80\x80", b"\0", b"\xfe\xff"])
def test_invalid_utf_8_is_refused(junk: bytes) -> None:
    (entry,) = encode([HumanMessage("HERE")])
    for text in (entry, entry.replace(b'{"type":', b'{"type": ')):
        with pytest.raises(MessageDecodeError):
            decode(text.replace(b"HERE", junk))
        is_message_or_refused(text.replace(b"HERE", b"\xed\xa0\x80"))  # a lone surrogate, which json.loads lets pass


def test_marks_mean_nothing_in_an_entry_that_has_none() -> None:
    artifact = {MARK: ["bytes", "AA=="]}
    assert decode(marked(artifact)).artifact == b"\0"  # type: ignore[attr-defined]
    assert decode(marked(artifact).replace('"marked": true', '"marked": false')).artifact == artifact  # type: ignore[attr-defined]


def test_no_entry_names_what_is_imported_or_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "canary.py").write_text("class Canary: pass")
    monkeypatch.syspath_prepend(tmp_path)
    names = {"lc": 1, "type": "constructor", "id": ["canary", "Canary"], "kwargs": {}, "py/object": "canary.Canary"}
    for place in ("content", "additional_kwargs", "response_metadata", "artifact", "extra", "tool_call_id", "name"):
        value = message_to_dict(example(ToolMessage))
        value["data"][place] = [names] if place == "content" else names
        for entry in (json.dumps(value), json.dumps({**value, "marked": True})):
            if place in ("tool_call_id", "name"):
                with pytest.raises(MessageDecodeError):
                    decode(entry)
            else:
                assert decode(entry).model_dump()[place] == value["data"][place]
    is_message_or_refused(json.dumps(names))
    is_message_or_refused(json.dumps({**names, "type": "canary.Canary", "data": names}))
    is_message_or_refused(marked({MARK: ["canary.Canary", names]}))
    assert "canary" not in sys.modules


# Messages that providers made


SHARED_DATA = Path(__file__).parents[2].parent / "shared" / "data"
CONVERSATIONS = Path(os.environ.get("MEMSTORE_PROVIDER_DATA") or SHARED_DATA) / "provider_conversations.jsonl"
REASON = "there are no recorded provider messages; MEMSTORE_PROVIDER_DATA may name the folder that holds them"


@pytest.fixture(scope="module")
def recorded() -> list[dict[str, Any]]:
    if not CONVERSATIONS.exists():
        pytest.skip(REASON)
    with CONVERSATIONS.open(encoding="utf-8") as lines:
        found = [message for line in lines for message in json.loads(line)["messages"]]
    assert len(found) > 100
    return found


@pytest.mark.provider_data
def test_messages_of_providers_come_back(recorded: list[dict[str, Any]]) -> None:
    made = messages_from_dict(recorded)
    whole = [message_chunk_to_message(message) for message in made]
    assert any(isinstance(message, BaseMessageChunk) for message in made)
    entries = encode(made)
    assert [canonical(decode(entry)) for entry in entries] == [canonical(message) for message in whole]
    assert [json.loads(entry) for entry in entries] == [message_to_dict(message) for message in whole]


@pytest.mark.provider_data
def test_what_other_histories_stored_of_providers_is_read(recorded: list[dict[str, Any]]) -> None:
    for value in recorded:
        assert decode(json.dumps(value)) == message_chunk_to_message(messages_from_dict([value])[0])


@pytest.mark.provider_data
def test_messages_of_providers_are_not_validated_again(
    recorded: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = encode(messages_from_dict(recorded))
    monkeypatch.setattr(codec, "messages_from_dict", None)
    for entry in entries:
        decode(entry)


def test_messages_of_every_known_class_are_tested() -> None:
    assert set(MESSAGES) == set(MESSAGE_CLASSES.values())
    known = {cls for cls in vars(sys.modules["langchain_core.messages"]).values() if isinstance(cls, type)}
    full = {cls for cls in known if issubclass(cls, BaseMessage) and not issubclass(cls, BaseMessageChunk)}
    assert full - {BaseMessage} <= set(MESSAGES), "langchain-core has a message class that the codec does not know"
    assert SystemMessage in full
