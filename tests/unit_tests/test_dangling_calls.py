"""A history whose run broke off between a call and its result is read as a model accepts it, and stays as it is."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    message_chunk_to_message,
    messages_from_dict,
)

from langchain_memstore import Memstore
from langchain_memstore.history import ChatMessageHistory
from langchain_memstore.prompt import CANCELLED, settle_calls
from support.conversations import converse, turns
from support.rules import anthropic_objections, openai_objections

Choice = Literal["keep", "drop", "answer"]

BOTH = pytest.mark.parametrize("choice", ["drop", "answer"])
GO_ON = HumanMessage("go on")


def human(text: str = "look") -> HumanMessage:
    return HumanMessage(text)


def calls(*ids: str) -> AIMessage:
    return AIMessage("one moment", tool_calls=[{"name": f"look_{call}", "args": {}, "id": call} for call in ids])


def result(call: str, text: str = "found") -> ToolMessage:
    return ToolMessage(text, tool_call_id=call)


def history(choice: Choice, messages: list[BaseMessage], **options: object) -> ChatMessageHistory:
    kept = Memstore.from_url("memory://", dangling_calls=choice, **options).history("session")
    kept.add_messages(messages)
    return kept


def brief(messages: list[BaseMessage]) -> list[str]:
    """Messages as `human look`, `ai a b`, `tool a found`, and `tool a cancelled`."""
    said = []
    for message in messages:
        if isinstance(message, ToolMessage):
            said.append(f"tool {message.tool_call_id} {'cancelled' if message.text == CANCELLED else message.text}")
        elif isinstance(message, AIMessage) and (made := [*message.tool_calls, *message.invalid_tool_calls]):
            said.append(" ".join(["ai", *(str(call["id"]) for call in made)]))
        else:
            said.append(f"{message.type} {message.text}")
    return said


BROKEN: dict[str, tuple[list[BaseMessage], list[str], list[str]]] = {
    # what is stored; what of it is read with "drop", and with "answer"
    "no result": (
        [human(), calls("a")],
        ["human look"],
        ["human look", "ai a", "tool a cancelled"],
    ),
    "none of two parallel results": (
        [human(), calls("a", "b")],
        ["human look"],
        ["human look", "ai a b", "tool a cancelled", "tool b cancelled"],
    ),
    "one of two parallel results": (
        [human(), calls("a", "b"), result("b")],
        ["human look"],
        ["human look", "ai a b", "tool b found", "tool a cancelled"],
    ),
    "a group in order before it": (
        [human(), calls("a"), result("a"), calls("b")],
        ["human look", "ai a", "tool a found"],
        ["human look", "ai a", "tool a found", "ai b", "tool b cancelled"],
    ),
    "a group in order after it": (
        [human(), calls("a"), human("again"), calls("b"), result("b")],
        ["human look", "human again", "ai b", "tool b found"],
        ["human look", "ai a", "tool a cancelled", "human again", "ai b", "tool b found"],
    ),
    "two broken groups": (
        [human(), calls("a"), human("again"), calls("b", "c"), result("c"), human("once more")],
        ["human look", "human again", "human once more"],
        [
            *("human look", "ai a", "tool a cancelled", "human again"),
            *("ai b c", "tool c found", "tool b cancelled", "human once more"),
        ],
    ),
    "two broken groups in a row": (
        [human(), calls("a"), calls("b")],
        ["human look"],
        ["human look", "ai a", "tool a cancelled", "ai b", "tool b cancelled"],
    ),
    "a result that came too late": (
        [human(), calls("a", "b"), result("a"), human("again"), result("b")],
        ["human look", "human again"],
        ["human look", "ai a b", "tool a found", "tool b cancelled", "human again"],
    ),
    "a result that came twice": (
        [human(), calls("a"), result("a", "lost"), result("a", "found")],
        ["human look", "ai a", "tool a found"],
        ["human look", "ai a", "tool a found"],
    ),
    "an invalid call": (
        [human(), AIMessage("", invalid_tool_calls=[{"name": "look", "args": "{", "id": "a", "error": "no JSON"}])],
        ["human look"],
        ["human look", "ai a", "tool a cancelled"],
    ),
    "an invalid call beside an answered one": (
        [
            human(),
            AIMessage(
                "",
                tool_calls=[{"name": "look", "args": {}, "id": "a"}],
                invalid_tool_calls=[{"name": "look", "args": None, "id": "b", "error": None}],
            ),
            result("a"),
        ],
        ["human look"],
        ["human look", "ai a b", "tool a found", "tool b cancelled"],
    ),
    "a call without a name, which no provider takes": (
        [human(), AIMessage("", invalid_tool_calls=[{"name": None, "args": "", "id": "a", "error": None}]), human()],
        ["human look", "human look"],
        ["human look", "human look"],
    ),
    "a call without an id, which no result can name": (
        [human(), AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": None}]), human()],
        ["human look", "human look"],
        ["human look", "human look"],
    ),
}
broken = pytest.mark.parametrize(("stored", "dropped", "answered"), BROKEN.values(), ids=BROKEN.keys())


@broken
def test_what_is_read(stored: list[BaseMessage], dropped: list[str], answered: list[str]) -> None:
    assert openai_objections(stored)
    for choice, read in (("drop", dropped), ("answer", answered)):
        messages = history(choice, stored).messages
        assert brief(messages) == read
        assert not openai_objections(messages)
        assert not anthropic_objections([*messages, GO_ON])


@broken
async def test_nothing_is_written_back(stored: list[BaseMessage], dropped: list[str], answered: list[str]) -> None:
    for choice, read in (("drop", dropped), ("answer", answered), ("keep", brief(stored))):
        kept = history(choice, stored)
        assert brief(await kept.aget_messages()) == brief(kept.messages) == read
        assert kept.snapshot().messages == stored
        assert kept.snapshot().total == len(stored)
        kept.add_messages([GO_ON])
        assert kept.snapshot().messages == [*stored, GO_ON]


def test_they_are_kept_by_default() -> None:
    stored, *_ = BROKEN["no result"]
    kept = Memstore.from_url("memory://").history("session")
    kept.add_messages(stored)
    assert kept.messages == stored


def test_the_answer_says_what_became_of_the_call() -> None:
    answer = history("answer", [human(), calls("a")]).messages[-1]
    assert isinstance(answer, ToolMessage)
    assert (answer.tool_call_id, answer.name, answer.status) == ("a", "look_a", "error")
    assert "cancelled" in answer.text


def test_a_result_that_comes_in_time_after_all_takes_the_place_of_the_answer() -> None:
    kept = history("answer", [human(), calls("a", "b"), result("a")])
    assert brief(kept.messages)[-1] == "tool b cancelled"
    kept.add_messages([result("b"), AIMessage("there you are")])
    assert brief(kept.messages)[-3:] == ["tool a found", "tool b found", "ai there you are"]


@BOTH
def test_a_result_of_a_call_elsewhere_stays(choice: Choice) -> None:
    stored = [result("x"), human(), AIMessage("as the screen shows"), result("y")]
    assert history(choice, stored).messages == stored


@BOTH
@given(plan=st.lists(turns, min_size=1, max_size=4))
def test_a_conversation_in_order_is_read_as_it_is(choice: Choice, plan: list[list[int]]) -> None:
    assert settle_calls(converse(plan), answer=choice == "answer") == converse(plan)


@BOTH
@given(plan=st.lists(turns, min_size=1, max_size=4), data=st.data())
def test_runs_that_crash_anywhere(choice: Choice, plan: list[list[int]], data: st.DataObject) -> None:
    whole = converse(plan)
    starts = [at for at, message in enumerate(whole) if isinstance(message, HumanMessage)]
    messages: list[BaseMessage] = []
    for start, end in pairwise([*starts, len(whole)]):
        messages += whole[start : data.draw(st.integers(start + 1, end))]
    settled = settle_calls(messages, answer=choice == "answer")
    assert not anthropic_objections(settled)
    assert [message for message in messages if message in settled] == [
        message for message in settled if message.text != CANCELLED
    ]
    assert all(message in settled for message in messages if isinstance(message, HumanMessage))


# Together with the other options.


@pytest.mark.parametrize(
    ("choice", "budget", "read"),
    [
        ("keep", 5, ["human look", "ai a b", "tool a found", "human again"]),
        ("answer", 5, ["human look", "ai a b", "tool a found", "tool b cancelled", "human again"]),
        ("answer", 4, ["ai a b", "tool a found", "tool b cancelled", "human again"]),
        ("answer", 3, ["human again"]),
        ("drop", 2, ["human look", "human again"]),
        ("drop", 1, ["human again"]),
    ],
)
def test_the_answers_count_and_are_never_cut_off(choice: Choice, budget: int, read: list[str]) -> None:
    stored = [human(), calls("a", "b"), result("a"), human("again")]
    assert brief(history(choice, stored, max_tokens=budget, token_counter=len).messages) == read


@BOTH
def test_the_summary_stays_at_the_head(choice: Choice) -> None:
    kept = history(choice, [human(), calls("a")])
    kept.set_summary("They are in Porto.")
    summary, *read = kept.messages
    assert isinstance(summary, SystemMessage) and "Porto" in summary.text
    assert brief(read) == ["human look", "ai a", "tool a cancelled"][: 1 if choice == "drop" else 3]
    assert not anthropic_objections(kept.messages)


def test_the_summarizer_is_given_what_was_said_and_no_answer_for_it() -> None:
    given: list[BaseMessage] = []

    def summarize(previous: str, messages: list[BaseMessage]) -> str:
        given.extend(messages)
        return "They looked."

    stored = [human(), calls("a"), human("again"), human("once more")]
    kept = history("answer", stored, max_messages=1, summarizer=summarize, summarize_every=1)
    assert given == stored[:-1]
    assert brief(kept.messages) == ["system Summary of the conversation so far:\nThey looked.", "human once more"]


# What providers really said: see the README beside the data.

FOLDER = Path(os.environ.get("MEMSTORE_PROVIDER_DATA", Path(__file__).parents[3] / "shared" / "data"))
DATA = FOLDER / "provider_conversations.jsonl"


def provider_conversations() -> list[list[BaseMessage]]:
    conversations = [messages_from_dict(json.loads(line)["messages"]) for line in DATA.read_text().splitlines()]
    return [[message_chunk_to_message(message) for message in messages] for messages in conversations]


@pytest.mark.provider_data
@pytest.mark.skipif(not DATA.exists(), reason=f"there is no {DATA.name}: MEMSTORE_PROVIDER_DATA names its folder")
@BOTH
def test_real_conversations_that_break_off_after_any_message(choice: Choice) -> None:
    broke_off = 0
    for messages in provider_conversations():
        for end in range(1, len(messages) + 1):
            kept = history(choice, messages[:end])
            kept.add_messages([GO_ON])
            objections = openai_objections([*messages[:end], GO_ON])
            broke_off += bool(objections)
            assert kept.snapshot().messages == [*messages[:end], GO_ON]
            assert not openai_objections(kept.messages)
            assert objections or kept.messages == kept.snapshot().messages
    assert broke_off > 50
