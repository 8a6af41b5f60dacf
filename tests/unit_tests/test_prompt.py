"""What a model sees: the summary, then as much of the window as the budget allows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.utils import count_tokens_approximately

from langchain_memstore.options import Policy
from langchain_memstore.prompt import build_prompt, is_result

SUMMARY = "They like tea."
MESSAGE = "Summary of the conversation so far:\nThey like tea."
WINDOW: list[BaseMessage] = [
    HumanMessage("1"),
    AIMessage("2", tool_calls=[{"name": "f", "args": {}, "id": "c"}]),
    ToolMessage("3", tool_call_id="c"),
    AIMessage("4"),
]


def prompt(summary: str = "", window: Sequence[BaseMessage] = WINDOW, **options: Any) -> list[BaseMessage]:
    return build_prompt(list(window), summary, Policy(**options), "session-1")


def count_messages(messages: Sequence[BaseMessage]) -> int:
    return len(messages)


@pytest.mark.parametrize(
    ("role", "head"),
    [("system", [SystemMessage(MESSAGE)]), ("human", [HumanMessage(MESSAGE)]), (None, [])],
)
def test_the_summary_comes_first_in_its_role(role: Any, head: list[BaseMessage]) -> None:
    assert prompt(SUMMARY, summary_role=role) == [*head, *WINDOW]
    assert prompt("", summary_role=role) == WINDOW
    assert prompt(SUMMARY, window=[], summary_role=role) == head


@pytest.mark.parametrize(("budget", "kept"), [(9, "1234"), (4, "1234"), (3, "14"), (2, "14"), (1, "4")])
def test_the_budget_bounds_the_window_legally(budget: int, kept: str, caplog: pytest.LogCaptureFixture) -> None:
    window = prompt(max_tokens=budget, token_counter=count_messages)
    assert "".join(message.text for message in window) == kept
    assert not caplog.records


def test_the_summary_counts_into_the_budget() -> None:
    assert prompt(SUMMARY, max_tokens=4, token_counter=count_messages) == [
        SystemMessage(MESSAGE),
        WINDOW[0],
        WINDOW[3],
    ]
    assert prompt(SUMMARY, max_tokens=4, token_counter=count_messages, summary_role=None) == WINDOW


@pytest.mark.parametrize("window", [WINDOW[:3], WINDOW[1:3], WINDOW[2:3]], ids=["cut", "whole", "result alone"])
def test_a_prompt_is_never_empty(window: list[BaseMessage], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert prompt(window=window, max_tokens=1, token_counter=lambda _: 100) == [
            message for message in WINDOW[1:3] if message in window
        ]
    (record,) = caplog.records
    assert record.getMessage() == (
        "session 'session-1': the last messages alone exceed max_tokens=1; they are returned all the same"
    )


def test_tokens_are_counted_as_langchain_core_counts_them() -> None:
    budget = count_tokens_approximately(WINDOW)
    assert prompt(max_tokens=budget) == WINDOW
    assert prompt(max_tokens=budget - 1) == [WINDOW[0], WINDOW[3]]


def test_results_are_those_of_tools_and_functions() -> None:
    results = [ToolMessage("", tool_call_id="c"), FunctionMessage("", name="f")]
    assert [is_result(message) for message in [*results, *WINDOW[:2], SystemMessage("")]] == [
        True,
        True,
        False,
        False,
        False,
    ]
