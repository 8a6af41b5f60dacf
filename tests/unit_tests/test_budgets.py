"""Whatever the bounds and the budget, a window is as long as they allow, and no provider refuses it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.utils import count_tokens_approximately
from pydantic import Field

from langchain_memstore import Memstore
from langchain_memstore.history import ChatMessageHistory
from langchain_memstore.options import Policy
from langchain_memstore.prompt import build_prompt
from support.conversations import Bounds, batches, bounds, converse, turns
from support.rules import NOT_THE_USER, anthropic_objections, openai_objections

plans = st.lists(turns, min_size=1, max_size=5)
kinds = st.sampled_from(["pairs", "turns"])


@dataclass
class Weights:
    """Counts tokens: each message of a conversation weighs its own."""

    weights: list[int]
    summary: int = 0

    def __call__(self, messages: Sequence[BaseMessage]) -> int:
        return sum(self.weigh(message) for message in messages)

    def weigh(self, message: BaseMessage) -> int:
        return self.weights[int(message.id) % len(self.weights)] if message.id else self.summary


weights = st.builds(Weights, st.lists(st.integers(2, 9), min_size=1, max_size=12))


@st.composite
def windows(draw: st.DrawFn) -> list[BaseMessage]:
    """What a store may hold: a conversation, perhaps without its oldest messages, and perhaps still under way."""
    messages = converse(draw(plans))[: draw(st.none() | st.integers(1, 40))]
    starts = [at for at, message in enumerate(messages) if not isinstance(message, ToolMessage)]
    return messages[draw(st.sampled_from(starts)) :]


@dataclass
class Case:
    """A window that is over its budget."""

    messages: list[BaseMessage]
    counter: Weights
    budget: int
    kind: str

    def prompt(self) -> list[BaseMessage]:
        return prompt(self.messages, self.budget, self.counter, self.kind)

    def legal_prompts(self) -> list[list[BaseMessage]]:
        """All prompts that a model may be sent, best first.

        One with the human message of the last turn is better than one without, and a longer one than a shorter one.
        """
        messages = self.messages
        prompts = [messages[at:] for at in range(len(messages))]
        if humans := [at for at, message in enumerate(messages) if isinstance(message, HumanMessage)]:
            with_human, without = prompts[: humans[-1] + 1], prompts[humans[-1] + 1 :]
            if self.kind == "turns":
                with_human = [each for each in with_human if isinstance(each[0], HumanMessage)]
            prompts = [*with_human, *([messages[humans[-1]], *each] for each in without), *without]
        objections = set(openai_objections(messages))  # to what is still under way
        return [each for each in prompts if objections.issuperset(openai_objections(each))]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    messages, counter = draw(windows()), draw(weights)
    return Case(messages, counter, draw(st.integers(1, counter(messages) - 1)), draw(kinds))


def prompt(messages: list[BaseMessage], budget: int, counter: Weights, kind: str) -> list[BaseMessage]:
    policy = Policy(max_tokens=budget, token_counter=counter, window=kind)
    return build_prompt(messages, "", policy, "session")


@settings(max_examples=500)
@given(cases())
def test_the_best_prompt_that_fits(case: Case) -> None:
    legal = case.legal_prompts()
    fitting = [each for each in legal if case.counter(each) <= case.budget]
    assert case.prompt() == (fitting[0] if fitting else min(legal, key=len))


@given(windows(), weights, kinds)
def test_all_of_it_where_it_fits(messages: list[BaseMessage], counter: Weights, kind: str) -> None:
    assert prompt(messages, counter(messages), counter, kind) == messages


@given(cases())
def test_is_never_refused_for_what_was_cut(case: Case) -> None:
    assert case.prompt()
    assert set(openai_objections(case.prompt())) <= set(openai_objections(case.messages))


@given(cases())
def test_whole_turns_start_with_the_human(case: Case) -> None:
    cut = case.prompt()
    humans = [message for message in case.messages if isinstance(message, HumanMessage)]
    assert isinstance(cut[0], HumanMessage) or case.kind == "pairs" or not humans or humans[-1] not in cut


LONG_TURN = converse([[0], [1, 2, 1]])  # a turn of eight messages, after one of two


def test_a_turn_that_does_not_fit_loses_its_middle() -> None:
    counter = Weights([1])
    said = [message.text for message in prompt(LONG_TURN, 4, counter, "turns")]
    assert said == ["human 2", "ai 8", "tool 9"]


def test_a_human_message_that_does_not_fit_makes_room_for_the_end_of_its_turn(caplog: pytest.LogCaptureFixture) -> None:
    counter = Weights([9, *[1] * 7])  # the human message, the others
    messages = converse([[1, 1, 1, 0]])
    assert prompt(messages, 5, counter, "pairs") == prompt(messages, 5, counter, "turns") == messages[-5:]
    assert not warnings(caplog)


def history(**options: object) -> ChatMessageHistory:
    return Memstore.from_url("memory://", **options).history("session")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("kind", ["pairs", "turns"])
@pytest.mark.parametrize(
    ("messages", "shown"),
    [
        ([HumanMessage("x" * 4000)], 1),
        ([HumanMessage("hi"), AIMessage("x" * 4000)], 1),
        ([*converse([[0], [3]])[:-1], ToolMessage("x" * 4000, tool_call_id="3.2")], 4),
    ],
    ids=["human", "ai", "calls"],
)
def test_what_cannot_fit_is_shown_all_the_same_with_one_warning(
    messages: list[BaseMessage], shown: int, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept = history(max_tokens=100, window=kind)
    kept.add_messages(messages)
    assert kept.messages == messages[-shown:]
    assert len(warnings(caplog)) == 1
    assert "'session'" in warnings(caplog)[0] and "max_tokens=100" in warnings(caplog)[0]


async def test_the_async_variant_cuts_and_warns_the_same(caplog: pytest.LogCaptureFixture) -> None:
    kept = history(max_tokens=10)
    await kept.aadd_messages([HumanMessage("hi"), AIMessage("x" * 4000)])
    assert [message.type for message in await kept.aget_messages()] == ["ai"]
    assert len(warnings(caplog)) == 1


def test_nothing_is_warned_of_where_it_fits(caplog: pytest.LogCaptureFixture) -> None:
    kept = history(max_tokens=100)
    assert kept.messages == []
    kept.add_messages([HumanMessage("x" * 390), HumanMessage("hi")])
    assert [message.text for message in kept.messages] == ["hi"]
    assert not warnings(caplog)


def test_a_budget_cuts_what_is_read_and_not_what_is_stored() -> None:
    kept = history(max_tokens=1)
    kept.add_messages(LONG_TURN)
    assert len(kept.messages) == 2
    assert kept.snapshot().messages == LONG_TURN


@given(st.integers(0, 30), st.integers(1, 60), weights, kinds)
def test_the_summary_counts_and_is_never_left_out(summary: int, budget: int, counter: Weights, kind: str) -> None:
    policy = Policy(max_tokens=summary + budget, token_counter=replace(counter, summary=summary), window=kind)
    head, *rest = build_prompt(LONG_TURN, "They are in Porto.", policy, "session")
    assert head == SystemMessage("Summary of the conversation so far:\nThey are in Porto.")
    assert rest == prompt(LONG_TURN, budget, counter, kind)


def test_the_last_group_is_kept_where_the_summary_leaves_it_no_room(caplog: pytest.LogCaptureFixture) -> None:
    policy = Policy(max_tokens=10, token_counter=Weights([1], summary=10))
    _, *rest = build_prompt(LONG_TURN, "They are in Porto.", policy, "session")
    assert rest == LONG_TURN[-2:]
    assert len(warnings(caplog)) == 1


def test_a_summary_alone_over_the_budget_is_shown_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    kept = history(max_tokens=10)
    kept.set_summary("x" * 4000)
    kept.register_turn()
    assert [message.type for message in kept.messages] == ["system"]
    assert len(warnings(caplog)) == 1
    assert "summary" in warnings(caplog)[0]


class CountingModel(FakeListChatModel):
    """A chat model that counts a token for each word, and ten more for each prompt."""

    responses: list[str] = Field(default_factory=list)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[object] | None = None) -> int:
        assert isinstance(messages, list)
        return 10 + sum(len(message.text.split()) for message in messages)


@pytest.mark.parametrize(("budget", "shown"), [(26, 8), (25, 6), (21, 3), (15, 2)])
def test_a_chat_model_counts(budget: int, shown: int) -> None:
    kept = history(max_tokens=budget, token_counter=CountingModel())
    kept.add_messages(LONG_TURN[2:])  # eight messages of two words each
    assert len(kept.messages) == shown


def test_tokens_are_counted_approximately_by_default() -> None:
    kept = history(max_tokens=20)
    messages = converse([[0]] * 9)
    kept.add_messages(messages)
    shown = len(kept.messages)
    assert count_tokens_approximately(messages[-shown:]) <= 20 < count_tokens_approximately(messages[-shown - 1 :])


# What the store keeps.


@given(batches, bounds)
def test_the_store_keeps_what_the_bounds_say(batches: list[list[BaseMessage]], bounds: Bounds) -> None:
    kept, expected = history(**bounds.options()), []
    for batch in batches:
        kept.add_messages(batch)
        expected = bounds.window([*expected, *batch])
        assert kept.messages == expected


@given(plans, st.integers(1, 5), st.integers(1, 8), st.none() | st.integers(1, 3), kinds)
def test_what_the_store_keeps_is_never_refused_for_what_left(
    plan: list[list[int]], batch: int, max_messages: int, max_turns: int | None, kind: str
) -> None:
    kept = history(max_messages=max_messages, max_turns=max_turns, window=kind)
    messages = converse(plan)
    for end in range(batch, len(messages) + batch, batch):
        kept.add_messages(messages[end - batch : end])
        assert set(openai_objections(kept.messages)) <= set(openai_objections(messages[:end]))


@given(plans, st.integers(1, 3))
def test_max_turns_keeps_whole_turns(plan: list[list[int]], max_turns: int) -> None:
    kept = history(max_turns=max_turns, max_messages=None)
    for turn in plan:
        kept.add_messages(converse([turn]))
    assert kept.messages == [message for turn in plan[-max_turns:] for message in converse([turn])]
    assert kept.turns == len(plan)


def test_whole_turns_satisfy_anthropic_where_a_turn_is_in_the_window() -> None:
    pairs, whole = history(max_messages=6), history(max_messages=6, window="turns")
    for kept in (pairs, whole):
        kept.add_messages(converse([[0], [2, 0], [0]]))
    assert [message.text for message in pairs.messages] == ["ai 3", "tool 4", "tool 5", "ai 6", "human 7", "ai 8"]
    assert [message.text for message in whole.messages] == ["human 7", "ai 8"]
    assert anthropic_objections(pairs.messages) == [NOT_THE_USER]
    assert not anthropic_objections(whole.messages)


def test_whole_turns_are_cut_in_the_midst_of_a_turn_longer_than_the_window() -> None:
    kept = history(max_messages=4, window="turns")
    kept.add_messages(LONG_TURN)
    assert [message.text for message in kept.messages] == ["ai 8", "tool 9"]
