"""What makes a summary: a chat model, a Runnable or a function, through either variant."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseLanguageModel, FakeListChatModel, FakeListLLM
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, Runnable, RunnableLambda
from langchain_core.tracers.context import collect_runs

from langchain_memstore import Memstore, RunnableWithHistory
from langchain_memstore.summaries.summarizer import asummarize, summarize, summary_prompt, transcript

MESSAGES: list[BaseMessage] = [HumanMessage("What is the time in Oslo?"), AIMessage("Ten past nine.")]

T = TypeVar("T")

Make = Callable[..., Awaitable[str]]


@pytest.fixture(params=["sync", "sync, on an event loop", "async"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a summary through one variant; the sync one with and without an event loop that runs in the thread."""

    async def through_the_variant(summarizer: Any, previous: str = "", messages: list[BaseMessage] = MESSAGES) -> str:
        if request.param == "async":
            return await asummarize(summarizer, previous, messages)
        if request.param == "sync":
            return await asyncio.to_thread(summarize, summarizer, previous, messages)
        return summarize(summarizer, previous, messages)

    return through_the_variant


class Recorder(BaseCallbackHandler):
    """Notes what models are given, and which runs there are."""

    def __init__(self) -> None:
        self.prompts: list[list[BaseMessage]] = []
        self.runs: list[str] = []

    def on_chat_model_start(self, serialized: Any, messages: Any, *, name: str = "", **_: Any) -> None:
        self.prompts += messages
        self.runs.append(name)

    def on_chain_start(self, serialized: Any, inputs: Any, *, name: str = "", **_: Any) -> None:
        self.runs.append(name)


class TestTranscript:
    def test_tools_are_told_readably_and_in_order(self) -> None:
        conversation = [
            SystemMessage("Be brief."),
            HumanMessage("Is it warmer in Oslo or in Bodø?"),
            AIMessage(
                "I look.",
                tool_calls=[
                    {"name": "weather", "args": {"city": "Oslo"}, "id": "call_1"},
                    {"name": "weather", "args": {"city": "Bodø"}, "id": "call_2"},
                ],
            ),
            ToolMessage("21 °C", tool_call_id="call_1", name="weather"),
            ToolMessage("14 °C", tool_call_id="call_2"),
            AIMessage("In Oslo."),
            FunctionMessage(name="clock", content="9:10"),
            ChatMessage(role="critic", content="Right."),
        ]
        assert transcript(conversation).splitlines() == [
            "System: Be brief.",
            "Human: Is it warmer in Oslo or in Bodø?",
            "Assistant: I look.",
            'Assistant calls weather (call_1): {"city": "Oslo"}',
            'Assistant calls weather (call_2): {"city": "Bodø"}',
            "Result of weather (call_1): 21 °C",
            "Result of tool (call_2): 14 °C",
            "Assistant: In Oslo.",
            "Result: 9:10",
            "Critic: Right.",
        ]

    def test_calls_are_told_once(self) -> None:
        """A provider that repeats its calls among the blocks of content, and its thoughts, adds nothing."""
        call = {"name": "clock", "args": {"zone": "CET"}, "id": "toolu_1"}
        blocks: list[str | dict[str, Any]] = [
            {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmF0dXJl"},
            {"type": "tool_use", "name": "clock", "input": {"zone": "CET"}, "id": "toolu_1"},
        ]
        told = transcript([AIMessage(blocks, tool_calls=[call])])
        assert told == 'Assistant calls clock (toolu_1): {"zone": "CET"}'

    def test_media_are_named_and_not_copied(self) -> None:
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5000}}
        assert transcript([HumanMessage(["What", " is this?", image])]) == "Human: What is this? [image_url]"
        assert transcript([HumanMessage([image])]) == "Human: [image_url]"

    def test_other_blocks_are_told_as_they_are(self) -> None:
        found = {"type": "search_result", "title": "Zeitzonen für alle"}
        told = transcript([ToolMessage([found], tool_call_id="call_1", name="search")])
        assert told == 'Result of search (call_1): {"type": "search_result", "title": "Zeitzonen für alle"}'

    def test_an_empty_message_is_told(self) -> None:
        assert transcript([HumanMessage("")]) == "Human: "

    def test_the_prompt_carries_the_previous_summary_and_the_messages(self) -> None:
        system, human = summary_prompt("They spoke of Bergen.", MESSAGES)
        assert isinstance(system, SystemMessage) and "summary" in system.text
        assert human == HumanMessage(
            "Previous summary:\nThey spoke of Bergen.\n\n"
            "Messages:\nHuman: What is the time in Oslo?\nAssistant: Ten past nine."
        )
        assert summary_prompt("", MESSAGES)[1].text.startswith("Previous summary:\n(none)\n")


class Plain:
    """A callable object."""

    def __call__(self, previous: str, messages: list[BaseMessage]) -> str:
        return _joined(previous, messages)

    def method(self, previous: str, messages: list[BaseMessage]) -> str:
        return _joined(previous, messages)


class Native:
    """A callable object whose call is async."""

    async def __call__(self, previous: str, messages: list[BaseMessage]) -> str:
        await asyncio.sleep(0)
        return _joined(previous, messages)


def _joined(previous: str, messages: list[BaseMessage]) -> str:
    return "|".join([previous, *(message.text for message in messages)])


async def _ajoined(previous: str, messages: list[BaseMessage]) -> str:
    await asyncio.sleep(0)
    return _joined(previous, messages)


def _joined_later(previous: str, messages: list[BaseMessage]) -> Awaitable[str]:
    return _ajoined(previous, messages)


FUNCTIONS = {
    "function": _joined,
    "async function": _ajoined,
    "function that returns a coroutine": _joined_later,
    "partial": functools.partial(_joined),
    "partial of an async function": functools.partial(_ajoined),
    "object": Plain(),
    "async object": Native(),
    "method": Plain().method,
}


class TestFunctions:
    @pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())
    async def test_a_function_is_given_the_summary_and_the_messages(self, make: Make, function: Any) -> None:
        assert await make(function, "Bergen") == "Bergen|What is the time in Oslo?|Ten past nine."

    @pytest.mark.parametrize("function", [_joined, _ajoined])
    async def test_a_sync_function_does_not_block_the_event_loop(self, function: Any) -> None:
        """It runs beside the event loop, an async one on it."""
        running: list[asyncio.AbstractEventLoop | None] = []

        def note() -> None:
            try:
                running.append(asyncio.get_running_loop())
            except RuntimeError:
                running.append(None)

        def noting(previous: str, messages: list[BaseMessage]) -> Any:
            note()
            return function(previous, messages)

        async def anoting(previous: str, messages: list[BaseMessage]) -> str:
            note()
            return await function(previous, messages)

        await asummarize(anoting if function is _ajoined else noting, "", MESSAGES)
        assert running == [asyncio.get_running_loop() if function is _ajoined else None]

    @pytest.mark.parametrize("asynchronous", [False, True])
    async def test_a_function_sees_the_context_of_its_caller(self, make: Make, asynchronous: bool) -> None:
        tenant = ContextVar("tenant", default="nobody")
        tenant.set("ada")

        async def name(previous: str, messages: list[BaseMessage]) -> str:
            return tenant.get()

        assert await make(name if asynchronous else lambda previous, messages: tenant.get()) == "ada"

    @pytest.mark.parametrize("answer", [None, 7, b"bytes", ["text"], {"summary": "text"}], ids=repr)
    async def test_what_is_no_text_is_refused(self, make: Make, answer: Any) -> None:
        with pytest.raises(TypeError, match=f"returned {type(answer).__name__}, not a text"):
            await make(lambda previous, messages: answer)

    @pytest.mark.parametrize(
        ("answer", "summary"),
        [
            ("  Oslo, 9:10\n", "Oslo, 9:10"),
            (" \n\t", ""),
            ("", ""),
            (AIMessage([{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Oslo "}]), "Oslo"),
            ("half a face: \ud83d", "half a face: ?"),
        ],
        ids=repr,
    )
    async def test_the_text_is_cleaned(self, make: Make, answer: Any, summary: str) -> None:
        assert await make(lambda previous, messages: answer) == summary

    async def test_an_error_passes(self, make: Make) -> None:
        async def fail(previous: str, messages: list[BaseMessage]) -> str:
            raise LookupError("no model")

        with pytest.raises(LookupError, match="no model"):
            await make(fail)


def _model(**options: Any) -> FakeListChatModel:
    return FakeListChatModel(responses=[" Oslo, 9:10 "], **options)


OTHER = FakeListChatModel(responses=["never"])

WRAPPED: dict[str, Callable[[FakeListChatModel], Runnable[Any, Any]]] = {
    "itself": lambda model: model,
    "bind": lambda model: model.bind(stop=["\n"]),
    "with_config": lambda model: model.with_config(tags=["summary"]),
    "with_retry": lambda model: model.with_retry(),
    "with_fallbacks": lambda model: model.with_fallbacks([OTHER]),
    "all of these": lambda model: model.bind(stop=["\n"]).with_retry().with_fallbacks([OTHER]),
    "alternatives": lambda model: model.configurable_alternatives(ConfigurableField("model"), other=OTHER),
    "parsed": lambda model: model | StrOutputParser(),
}


class TestRunnables:
    @pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED.keys())
    async def test_a_chat_model_is_given_the_prompt(self, make: Make, wrap: Any) -> None:
        recorder = Recorder()
        assert await make(wrap(_model(callbacks=[recorder])), "Bergen") == "Oslo, 9:10"
        assert recorder.prompts == [summary_prompt("Bergen", MESSAGES)]

    async def test_a_text_model_is_given_the_prompt(self, make: Make) -> None:
        model: BaseLanguageModel[Any] = FakeListLLM(responses=["Oslo"])
        assert await make(model) == "Oslo"

    async def test_a_chain_is_given_both_by_name(self, make: Make) -> None:
        recorder = Recorder()
        prompt = ChatPromptTemplate.from_messages([("system", "Add to: {previous}"), ("placeholder", "{messages}")])
        assert await make(prompt | _model(callbacks=[recorder]), "Bergen") == "Oslo, 9:10"
        assert recorder.prompts == [[SystemMessage("Add to: Bergen"), *MESSAGES]]

    async def test_a_runnable_that_does_not_say_what_it_takes(self, make: Make) -> None:
        class Mute(Runnable, Generic[T]):  # type: ignore[type-arg]
            def invoke(self, input: Any, config: Any = None, **_: Any) -> str:
                return _joined(**input)

        assert await make(Mute(), "Bergen") == "Bergen|What is the time in Oslo?|Ten past nine."

    async def test_an_answer_that_is_no_text_is_refused(self, make: Make) -> None:
        with pytest.raises(TypeError, match="returned dict, not a text"):
            await make(RunnableLambda(lambda given: given))


class TestInThePrompt:
    """How the summary comes before the window."""

    @pytest.fixture
    def store(self) -> Memstore:
        store = Memstore.from_url()
        store.history("one").add_messages(MESSAGES)
        store.history("one").set_summary("They spoke of {Bergen}.")
        return store

    @pytest.mark.parametrize(
        ("options", "first"),
        [
            ({}, [SystemMessage("Summary of the conversation so far:\nThey spoke of {Bergen}.")]),
            ({"summary_role": "human", "summary_template": "{summary}"}, [HumanMessage("They spoke of {Bergen}.")]),
            ({"summary_template": "{so far} {summary}"}, [SystemMessage("{so far} They spoke of {Bergen}.")]),
            ({"summary_role": None}, []),
        ],
    )
    async def test_by_its_role_and_template(self, store: Memstore, options: Any, first: list[BaseMessage]) -> None:
        history = store.history("one", **options)
        assert history.messages == await history.aget_messages() == [*first, *MESSAGES]
        assert history.snapshot().messages == MESSAGES

    def test_without_a_summary_there_is_no_message(self, store: Memstore) -> None:
        store.history("one").set_summary(None)
        assert store.history("one").messages == MESSAGES


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("summarize", "later"),
        ("summary_role", "ai"),
        ("summarize_every", 0),
        ("max_evicted", 0),
        ("lease_time", 0),
        ("lease_time", None),
        ("summary_template", "no placeholder"),
        ("summarizer", "gpt"),
    ],
)
def test_options_that_make_no_sense_are_refused(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=option):
        Memstore.from_url(**{option: value})


@pytest.mark.parametrize("summarize", ["inline", "background"])
@pytest.mark.parametrize("way", ["sync", "async", "events"])
async def test_a_summary_is_no_part_of_the_run(way: str, summarize: Any) -> None:
    """Whoever listens to a run, by callbacks, by a collector or to its events, hears nothing of the summary."""
    summarizer, talker = _model().with_config(run_name="summarizer"), OTHER.with_config(run_name="talker")
    store = Memstore.from_url(summarizer=summarizer, summarize=summarize, summarize_every=1, max_messages=2)
    store.history("one").add_messages(MESSAGES)
    chain = RunnableWithHistory(talker, store.history)
    recorder, events = Recorder(), []
    config: Any = {"configurable": {"session_id": "one"}, "callbacks": [recorder]}
    with collect_runs() as collected:
        if way == "sync":
            chain.invoke("Really?", config)
        elif way == "async":
            await chain.ainvoke("Really?", config)
        else:
            events = [event["name"] async for event in chain.astream_events("Really?", config)]
        await store.aclose()
    assert store.history("one").summary == "Oslo, 9:10"
    assert recorder.runs == ["RunnableWithHistory", "talker"]
    assert [run.name for run in collected.traced_runs] == ["RunnableWithHistory"]
    assert way != "events" or set(events) == {"RunnableWithHistory", "talker"}
