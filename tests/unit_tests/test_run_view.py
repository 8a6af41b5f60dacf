"""Histories under langchain-core's RunnableWithMessageHistory, and what the view of a single run mends there.

That class reads the history when a run begins and again when it ends, takes as many messages off the run's input as it
then finds, and keeps the rest.
"""

from __future__ import annotations

import threading
import time
import uuid
import warnings
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
from langchain_core._api import LangChainDeprecationWarning
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import ConfigurableFieldSpec, Runnable, RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory

from langchain_memstore import LocalChatMessageHistory, Memstore
from support.runs import SESSION, ScriptedModel, every_stream, every_way

Factory = Callable[[str], Any]


@pytest.fixture(params=["history", "get_session_history", "LocalChatMessageHistory"])
def factory(store: Memstore, request: pytest.FixtureRequest) -> Factory:
    """Each factory that serves the class."""
    name = uuid.uuid4().hex
    if request.param == "LocalChatMessageHistory":
        return lambda session_id: LocalChatMessageHistory(session_id, name=name)
    return getattr(store, request.param)


def old(runnable: Any, factory: Callable[..., Any], **options: Any) -> Runnable:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LangChainDeprecationWarning)
        return RunnableWithMessageHistory(runnable, factory, **options)


def contents(messages: list[BaseMessage]) -> list[Any]:
    return [message.content for message in messages]


def kept(factory: Factory, session_id: str = "s") -> list[Any]:
    return contents(factory(session_id).messages)


@RunnableLambda
def repeat(messages: list[BaseMessage]) -> str:
    return " ".join(message.content for message in messages if message.type == "human")


@pytest.mark.parametrize("ask", [lambda text: text, HumanMessage, lambda text: [HumanMessage(text)]])
@every_way
async def test_messages_in_and_a_text_out(factory: Factory, way: Any, ask: Any) -> None:
    chain = old(repeat, factory)
    for text in "abc":
        await way(chain, ask(text))
    assert kept(factory) == ["a", "a", "b", "a b", "c", "a b c"]
    assert factory("s").messages[:2] == [HumanMessage("a"), AIMessage("a")]


@every_way
async def test_a_dict_in(factory: Factory, way: Any) -> None:
    chain = old(RunnableLambda(lambda given: repeat.invoke(given["messages"])), factory, input_messages_key="messages")
    await way(chain, {"messages": [HumanMessage("a")]})
    await way(chain, {"messages": "b"})
    assert kept(factory) == ["a", "a", "b", "a b"]


OUTPUTS = {
    "a text": (lambda text: text, {}),
    "a message": (AIMessage, {}),
    "messages": (lambda text: [AIMessage(text)], {}),
    "a dict": (lambda text: {"answer": AIMessage(text), "k": 1}, {"output_messages_key": "answer"}),
    "a dict of messages": (lambda text: {"output": [AIMessage(text)], "k": 1}, {}),
}


@pytest.mark.parametrize(("output", "keys"), OUTPUTS.values(), ids=OUTPUTS)
@every_way
async def test_a_dict_with_a_place_for_the_history(factory: Factory, way: Any, output: Any, keys: Any) -> None:
    def answer(given: dict[str, Any]) -> Any:
        return output(repeat.invoke([*given["past"], HumanMessage(given["question"])]))

    keys = {"input_messages_key": "question", "history_messages_key": "past", **keys}
    chain = old(RunnableLambda(answer), factory, **keys)
    await way(chain, {"question": "a"})
    await way(chain, {"question": "b"})
    assert kept(factory) == ["a", "a", "b", "a b"]


@every_way
async def test_a_chat_model(factory: Factory, way: Any) -> None:
    model = ScriptedModel(answers=["one two", AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1}, "id": "c"}])])
    chain = old(model, factory)
    await way(chain, "a")
    await way(chain, "b")
    assert model.seen == [["a"], ["a", "one two", "b"]]
    messages = factory("s").messages
    assert [type(message) for message in messages] == [HumanMessage, AIMessage] * 2
    assert messages[3].tool_calls == [{"name": "add", "args": {"a": 1}, "id": "c", "type": "tool_call"}]


@every_way
async def test_a_prompt_and_a_parser(factory: Factory, way: Any) -> None:
    model = ScriptedModel(answers=["A.", "B."])
    prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("past"), ("human", "{question}")])
    keys = {"input_messages_key": "question", "history_messages_key": "past"}
    chain = old(prompt | model | StrOutputParser(), factory, **keys)
    await way(chain, {"question": "a"})
    await way(chain, {"question": "b"})
    assert model.seen[-1] == ["a", "A.", "b"]
    assert kept(factory) == ["a", "A.", "b", "B."]


@every_way
async def test_the_values_of_messages(factory: Factory, way: Any) -> None:
    odd = {"bytes": b"\xff", "tuple": (1, 2), "at": datetime(2024, 2, 29, tzinfo=timezone.utc)}
    asked = [ToolMessage("3", tool_call_id="c1", artifact=odd), HumanMessage("a", additional_kwargs=odd)]
    answer = AIMessage([{"type": "text", "text": "A", "extras": odd}])
    await way(old(RunnableLambda(lambda _: answer), factory), asked)
    assert factory("s").messages == [*asked, answer]


@every_stream
async def test_tokens(factory: Factory, way: Any) -> None:
    chain = old(ScriptedModel(answers=["one two three"]), factory) | StrOutputParser()
    assert [part for part in await way(chain, "a") if part] == ["one ", "two ", "three"]
    assert kept(factory) == ["a", "one two three"]


@every_way
async def test_sessions_of_two_keys(factory: Factory, way: Any) -> None:
    def find(user_id: str, conversation_id: str) -> Any:
        return factory(f"{user_id}/{conversation_id}")

    specs = [ConfigurableFieldSpec(id=key, annotation=str, default="") for key in ("user_id", "conversation_id")]
    chain = old(repeat, find, history_factory_config=specs)
    for user, text in ("u", "a"), ("v", "b"), ("u", "c"):
        await way(chain, text, {"configurable": {"user_id": user, "conversation_id": "1"}})
    assert kept(factory, "u/1") == ["a", "a", "c", "a c"]
    assert kept(factory, "v/1") == ["b", "b"]
    with pytest.raises(ValueError, match=r"Missing keys \['conversation_id'\]"):
        await way(chain, "a", {"configurable": {"user_id": "u"}})


@every_way
async def test_one_session_for_all(factory: Factory, way: Any) -> None:
    chain = old(repeat, lambda: factory("the one"))
    await way(chain, "a", None)
    await way(chain, "b", None)
    assert kept(factory, "the one") == ["a", "a", "b", "a b"]


async def test_batches_of_sessions(factory: Factory) -> None:
    chain = old(repeat, factory)
    configs = [{"configurable": {"session_id": each}} for each in "uvw"]
    assert chain.batch(["a"] * 3, configs) == ["a"] * 3
    assert await chain.abatch(["a"] * 3, configs) == ["a a"] * 3
    assert [kept(factory, each) for each in "uvw"] == [["a", "a", "a", "a a"]] * 3


@pytest.mark.parametrize("output", [False, 123])
@every_way
async def test_an_answer_that_is_none_keeps_nothing(factory: Factory, way: Any, output: Any) -> None:
    await way(old(RunnableLambda(lambda _: output), factory), "a")  # that class but logs the error
    assert kept(factory) == []


async def test_a_view_keeps_to_its_first_read(store: Memstore) -> None:
    history, view, other = store.history("s"), store.get_session_history("s"), store.get_session_history("s")
    history.add_user_message("a")
    assert contents(view.messages) == contents(await other.aget_messages()) == ["a"]
    view.add_messages([AIMessage("A")])
    await other.aadd_messages([AIMessage("B")])
    for _ in range(2):
        for messages in view.messages, await view.aget_messages(), other.messages, await other.aget_messages():
            assert contents(messages) == ["a"]
            messages.clear()
    assert kept(store.history) == kept(store.get_session_history) == ["a", "A", "B"]


async def test_a_view_of_nothing_keeps_to_that_too(store: Memstore) -> None:
    view, other = store.get_session_history("s"), store.get_session_history("s")
    assert view.messages == await other.aget_messages() == []
    store.history("s").add_user_message("a")
    assert view.messages == await view.aget_messages() == other.messages == await other.aget_messages() == []


TURN = [HumanMessage("a"), AIMessage("A")]
CALL = [
    AIMessage("call", tool_calls=[{"name": "add", "args": {}, "id": "c1"}]),
    ToolMessage("result", tool_call_id="c1"),
]


def meanwhile(store: Memstore, event: str) -> None:
    if event == "clear":
        store.history("s").clear()
    elif event == "lapse":
        store.history("s", ttl=0.001).touch()
        time.sleep(0.01)
    else:
        store.history("s", max_messages=4 if event == "shrink" else None).add_user_message("x")


@pytest.mark.parametrize(
    ("event", "before", "plain", "view"),
    [
        # The conversation, cleared or expired, comes back whole.
        ("clear", TURN, ["a", "A", "b", "B", "c", "C"], ["c", "C"]),
        ("lapse", TURN, ["a", "A", "b", "B", "c", "C"], ["c", "C"]),
        # The conversation has grown: the question is lost.
        ("grow", TURN, ["a", "A", "b", "B", "x", "C"], ["a", "A", "b", "B", "x", "c", "C"]),
        # The window has left the call and its result behind: the last message is kept once more.
        ("shrink", CALL, ["b", "B", "x", "B", "c", "C"], ["b", "B", "x", "c", "C"]),
    ],
)
@pytest.mark.parametrize("factory_name", ["history", "get_session_history"])
@every_way
@pytest.mark.usefixtures("passing_time")
async def test_what_comes_between_the_two_reads(
    store: Memstore, way: Any, factory_name: str, event: str, before: Any, plain: Any, view: Any
) -> None:
    def answer(_: Any) -> str:
        meanwhile(store, event)
        return "C"

    store.history("s").add_messages([*before, HumanMessage("b"), AIMessage("B")])
    await way(old(RunnableLambda(answer), getattr(store, factory_name)), "c")
    assert kept(store.history) == (plain if factory_name == "history" else view)


def test_a_batch_on_one_session(store: Memstore) -> None:
    barrier = threading.Barrier(4)

    def answer(messages: list[BaseMessage]) -> str:
        barrier.wait(10)
        return f"re {messages[-1].content}"

    questions = [f"question {number}" for number in range(4)]
    chain = old(RunnableLambda(answer), store.get_session_history)
    chain.batch(questions, {**SESSION, "max_concurrency": 4})
    found = kept(store.history)
    assert sorted(found[::2]) == questions
    assert found[1::2] == [f"re {question}" for question in found[::2]]
