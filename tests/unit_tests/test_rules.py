"""The checkers of the providers' rules accept what the providers accept, and object to what they refuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from support.conversations import converse, turns
from support.rules import NOT_THE_USER, anthropic_objections, openai_objections

HELLO = HumanMessage("hello")
ANSWER = AIMessage("there you are")
SYSTEM = SystemMessage("be brief")


def calls(*ids: str) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": call} for call in ids])


def result(call: str) -> ToolMessage:
    return ToolMessage("found", tool_call_id=call)


@pytest.mark.parametrize(
    "messages",
    [
        [HELLO],
        [SYSTEM, SYSTEM, HELLO, ANSWER, HELLO],
        [HELLO, HELLO, ANSWER, ANSWER, HELLO],
        [HELLO, calls("a", "b"), result("b"), result("a"), HELLO],
        [HELLO, calls("a"), result("a"), calls("b"), result("b"), ANSWER],
        [HELLO, calls("a"), result("a"), calls("a"), result("a")],  # some models count anew each time
    ],
)
def test_what_all_accept(messages: list[BaseMessage]) -> None:
    assert not openai_objections(messages)
    assert not anthropic_objections(messages)


@pytest.mark.parametrize(
    ("messages", "objection"),
    [
        ([HELLO, result("a")], "result a answers no call right before it"),
        ([HELLO, ANSWER, result("a")], "result a answers no call right before it"),
        ([HELLO, calls("a"), result("b"), result("a")], "result b answers no call right before it"),
        ([HELLO, calls("a"), result("a"), result("a")], "result a answers no call right before it"),
        ([HELLO, calls("a"), result("a"), HELLO, result("a")], "result a answers no call right before it"),
        ([HELLO, calls("a")], "call a has no result right after it"),
        ([HELLO, calls("a"), HELLO], "call a has no result right after it"),
        ([HELLO, calls("a"), HELLO, result("a")], "call a has no result right after it"),
        ([HELLO, calls("a", "b"), result("a"), ANSWER], "call b has no result right after it"),
        ([HELLO, calls("a", "b"), result("a"), ANSWER, result("b")], "call b has no result right after it"),
        ([HELLO, calls("a"), calls("b"), result("b")], "call a has no result right after it"),
        (
            [HELLO, AIMessage("", invalid_tool_calls=[{"name": "look", "args": "{", "id": "a", "error": None}])],
            "call a has no result right after it",
        ),
    ],
)
def test_what_all_refuse(messages: list[BaseMessage], objection: str) -> None:
    assert objection in openai_objections(messages)
    assert objection in anthropic_objections(messages)


@pytest.mark.parametrize(
    ("messages", "objection"),
    [
        ([ANSWER, HELLO], NOT_THE_USER),
        ([SYSTEM, calls("a"), result("a"), HELLO], NOT_THE_USER),
        ([SYSTEM], NOT_THE_USER),
        ([SYSTEM, HELLO, SYSTEM], "system message 'be brief' is not at the head"),
    ],
)
def test_what_anthropic_alone_refuses(messages: list[BaseMessage], objection: str) -> None:
    assert not openai_objections(messages)
    assert anthropic_objections(messages) == [objection]


@given(st.lists(turns, min_size=1, max_size=4))
def test_the_conversations_of_these_tests_are_accepted(plan: list[list[int]]) -> None:
    assert not anthropic_objections(converse(plan))


@given(st.lists(turns, min_size=1, max_size=4), st.data())
def test_a_missing_message_of_a_call_group_is_seen(plan: list[list[int]], data: st.DataObject) -> None:
    messages = converse([*plan, [2, 0]])
    grouped = [
        at for at, each in enumerate(messages) if isinstance(each, ToolMessage) or getattr(each, "tool_calls", 0)
    ]
    del messages[data.draw(st.sampled_from(grouped))]
    assert openai_objections(messages)
