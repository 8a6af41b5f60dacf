"""In a long conversation every prompt is one that models accept, and every message that left is summarised once."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from langchain_core.messages import BaseMessage, HumanMessage

from langchain_memstore import Memstore
from langchain_memstore.history import ChatMessageHistory
from support.conversations import converse
from support.rules import NOT_THE_USER, anthropic_objections, openai_objections
from support.servers import COMMANDS

SHAPES = [[0], [2, 0], [0], [1, 0], [3, 1, 0], [1, 0]] * 20
random.Random(3).shuffle(SHAPES)
CONVERSATION = converse(SHAPES)
STARTS = [at for at, message in enumerate(CONVERSATION) if isinstance(message, HumanMessage)]
TURNS = [CONVERSATION[start:end] for start, end in pairwise([*STARTS, len(CONVERSATION)])]


class Summarizer:
    """Notes what it is given; its summary says how many messages that was."""

    def __init__(self) -> None:
        self.summary = ""
        self.given: list[BaseMessage] = []

    def __call__(self, previous: str, messages: list[BaseMessage]) -> str:
        assert previous == self.summary
        self.given += messages
        self.summary = f"{len(self.given)} messages"
        return self.summary


@pytest.fixture
def summarizer() -> Summarizer:
    return Summarizer()


@pytest.fixture(params=["local", *COMMANDS])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "local":
        return f"memory://{secrets.token_hex(8)}"
    server = request.getfixturevalue("running")(request.param)
    server.reset()
    return server.url


@pytest.fixture
def options(url: str, summarizer: Summarizer) -> dict[str, Any]:
    return {"url": url, "max_messages": 20, "summarizer": summarizer}


def talk(history: ChatMessageHistory, *, at_once: bool = True) -> Iterator[list[BaseMessage]]:
    """Have the conversation; yields each turn's prompt."""
    for human, *rest in TURNS:
        yield [*history.messages, human]
        for messages in [[human, *rest]] if at_once else [[message] for message in (human, *rest)]:
            history.add_messages(messages)


def check_summarised(history: ChatMessageHistory, summarizer: Summarizer) -> None:
    """Check that every message is in one place: given to the summarizer, or in the window."""
    assert history.compact() or not history.snapshot().evicted
    snapshot = history.snapshot()
    assert [*summarizer.given, *snapshot.messages] == CONVERSATION
    assert (snapshot.summarized, snapshot.evicted, snapshot.lost) == (len(summarizer.given), 0, 0)
    assert snapshot.summary == summarizer.summary


def test_the_conversation_is_long_and_calls_tools() -> None:
    assert len(CONVERSATION) == 500
    assert not anthropic_objections(CONVERSATION)
    assert {len(getattr(message, "tool_calls", ())) for message in CONVERSATION} == {0, 1, 2, 3}


@pytest.mark.parametrize("at_once", [True, False], ids=["turns at once", "message by message"])
@pytest.mark.parametrize("max_tokens", [None, 160])
@pytest.mark.parametrize("kind", ["pairs", "turns"])
def test_every_prompt_is_accepted_and_every_message_summarised(
    options: dict[str, Any], summarizer: Summarizer, kind: str, max_tokens: int | None, at_once: bool
) -> None:
    with Memstore.from_url(**options, window=kind, max_tokens=max_tokens) as store:
        history = store.history("session")
        for prompt in talk(history, at_once=at_once):
            assert not openai_objections(prompt)
            assert len(prompt) <= 22  # the summary, the window, and the new message
            if kind == "turns":
                assert not anthropic_objections(prompt)
        check_summarised(history, summarizer)


async def test_the_async_variant_does_the_same(options: dict[str, Any], summarizer: Summarizer) -> None:
    async with Memstore.from_url(**options, window="turns") as store:
        history = store.history("session")
        for turn in TURNS:
            assert not anthropic_objections([*await history.aget_messages(), turn[0]])
            await history.aadd_messages(turn)
        check_summarised(history, summarizer)


def test_summaries_in_the_background_do_the_same(options: dict[str, Any], summarizer: Summarizer) -> None:
    with Memstore.from_url(**options, window="turns", summarize="background") as store:
        for prompt in talk(store.history("session")):
            assert not anthropic_objections(prompt)
    # Closing has waited for the summary in the making.
    with Memstore.from_url(**options) as store:
        check_summarised(store.history("session"), summarizer)


def test_pairs_may_start_with_the_model_which_anthropic_refuses(options: dict[str, Any]) -> None:
    """`window="pairs"` keeps all that OpenAI accepts, which may start in the midst of a turn. Nothing else is wrong."""
    with Memstore.from_url(**options, window="pairs") as store:
        objections = [anthropic_objections(prompt) for prompt in talk(store.history("session"))]
    assert {each for prompt in objections for each in prompt} == {NOT_THE_USER}
    assert sum(map(bool, objections)) > len(TURNS) / 3


def test_pairs_satisfy_anthropic_where_the_summary_is_the_users(options: dict[str, Any]) -> None:
    """A summary in a human message starts the prompt, from the moment that something leaves the window."""
    with Memstore.from_url(**options, window="pairs", summary_role="human", summarize_every=1) as store:
        for prompt in talk(store.history("session")):
            assert not anthropic_objections(prompt)
