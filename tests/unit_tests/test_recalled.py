"""Messages that were decoded before come back as new ones, equal to those that decoding makes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_memstore import MessageDecodeError, codec
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.reading import Window
from langchain_memstore.options import Policy
from langchain_memstore.recalled import decode_window
from langchain_memstore.session_codec import SessionCodec

from .strategies import MESSAGES, any_values, canonical, messages


def spoil(value: object) -> None:
    """Change whatever can be changed."""
    if isinstance(value, dict):
        for each in value.values():
            spoil(each)
        value["spoiled"] = True
    elif isinstance(value, list):
        for each in value:
            spoil(each)
        value.append("spoiled")


@given(st.lists(st.one_of([messages(cls, any_values) for cls in MESSAGES]), max_size=6))
def test_copies_are_as_if_decoded(said: list[BaseMessage]) -> None:
    entries = codec.encode(said)
    window = Window([*entries, *entries])
    for _ in range(3):
        decoded, expected = decode_window(window), [codec.decode(entry) for entry in window]
        assert canonical(decoded) == canonical(expected)
        for one, other in zip(decoded, expected, strict=True):
            assert type(one) is type(other)
            assert one.model_fields_set == other.model_fields_set
            assert repr(one) == repr(other)
        for message in decoded:
            for value in message.__dict__.values():
                spoil(value)
            spoil(message.__pydantic_extra__)
            message.content = "spoiled"
            message.spoiled = True  # type: ignore[attr-defined]


def test_what_is_decoded_once_is_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    window = Window(codec.encode([HumanMessage("hello"), AIMessage("hi", id="1")]))
    first = decode_window(window)
    monkeypatch.setattr("langchain_memstore.recalled.decode", None)
    assert decode_window(window) == first
    assert decode_window(window)[0] is not first[0]


def test_corrupt_entries_are_named_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    window = Window([*codec.encode([HumanMessage("hello")]), b"{", b'{"type":"ai"}'])
    keys = SessionKeys("conversation", "session")
    for _ in range(2):
        with pytest.raises(MessageDecodeError, match=r"'session', entry 1"):
            SessionCodec(keys, Policy(on_corrupt="raise")).decode(window)
        assert SessionCodec(keys, Policy(on_corrupt="skip")).decode(window) == [HumanMessage("hello")]
    assert "at index [1, 2]" in caplog.text
