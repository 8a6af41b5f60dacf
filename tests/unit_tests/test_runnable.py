"""RunnableWithHistory: what a run is given, what it keeps, and which conversation that is."""

from __future__ import annotations

import functools
from datetime import datetime, timezone
from decimal import Decimal
from threading import Lock
from typing import Any

import pytest
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, HumanMessageChunk, ToolMessage
from langchain_core.prompt_values import ChatPromptValue
from langchain_core.runnables import AddableDict, ConfigurableFieldSpec, RunnableLambda

from langchain_memstore import LocalChatMessageHistory, Memstore, MessageEncodeError, RunnableWithHistory
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.ops.reading import Read
from langchain_memstore.ops.session import Append
from support.runs import SESSION, ScriptedModel, every_stream, every_way, said, streaming

CALL = {"name": "add", "args": {"a": 1}, "id": "c1", "type": "tool_call"}


@every_way
async def test_a_conversation_goes_on(store: Memstore, way: Any) -> None:
    model = ScriptedModel(answers=["Hello Ada.", "You are Ada."])
    chain = RunnableWithHistory(model, store.history)
    await way(chain, "I am Ada.")
    await way(chain, "Who am I?")
    assert model.seen == [["I am Ada."], ["I am Ada.", "Hello Ada.", "Who am I?"]]
    messages = store.history("s").messages
    assert [message.content for message in messages] == ["I am Ada.", "Hello Ada.", "Who am I?", "You are Ada."]
    assert [type(message) for message in messages] == [HumanMessage, AIMessage] * 2


@every_way
async def test_a_turn_is_one_read_and_one_append(way: Any) -> None:
    done = []

    class Counting(LocalBackend):
        def execute(self, op: Any) -> Any:
            done.append(type(op))
            return super().execute(op)

    await way(RunnableWithHistory(lambda _: "OK", Memstore(Counting()).history), "hi")
    assert done == [Read, Append]


@pytest.mark.parametrize(
    "value",
    [
        "hi",
        HumanMessage("hi"),
        HumanMessageChunk("hi"),
        [HumanMessage("hi")],
        (HumanMessage("hi"),),
        ["hi"],
        [("human", "hi")],
        [{"role": "user", "content": "hi"}],
        ChatPromptValue(messages=[HumanMessage("hi")]),
        {"input": "hi"},
        {"question": [HumanMessage("hi")]},
        {"input": "hi", "language": "en"},
    ],
    ids=repr,
)
@every_way
async def test_inputs(store: Memstore, way: Any, value: Any) -> None:
    given = []
    chain = RunnableWithHistory(lambda messages: given.append(messages) or "OK", store.history)
    await way(chain, value)
    assert given == [[HumanMessage("hi")]]
    assert said(store) == [("human", "hi"), ("ai", "OK")]


@every_way
async def test_an_input_of_several_messages(store: Memstore, way: Any) -> None:
    asked = [ToolMessage("3", tool_call_id="c1"), HumanMessage("And?")]
    await way(RunnableWithHistory(lambda messages: str(len(messages)), store.history), asked)
    assert store.history("s").messages == [*asked, AIMessage("2")]


@pytest.mark.parametrize("output_key", [None, "answer"])
@pytest.mark.parametrize(
    ("keys", "value", "given"),
    [
        ({}, ["hi"], ["before", "hi"]),
        ({"input_messages_key": "question"}, {"question": "hi", "k": 1}, {"question": ["before", "hi"], "k": 1}),
        ({"history_messages_key": "past"}, {"question": "hi"}, {"question": "hi", "past": ["before"]}),
        ({"history_messages_key": "past"}, {"input": "hi", "k": 1}, {"input": "hi", "k": 1, "past": ["before"]}),
        (
            {"input_messages_key": "question", "history_messages_key": "past"},
            {"question": "hi", "input": "no", "past": "no"},
            {"question": "hi", "input": "no", "past": ["before"]},
        ),
    ],
)
@every_way
async def test_keys(store: Memstore, way: Any, keys: Any, value: Any, given: Any, output_key: str | None) -> None:
    def contents(value: Any) -> Any:
        return [message.content for message in value] if isinstance(value, list) else value

    def answer(prompt: Any) -> Any:
        if isinstance(prompt, dict):
            assert {key: contents(value) for key, value in prompt.items()} == given
        else:
            assert contents(prompt) == given
        return {"answer": "OK", "output": "no"} if output_key else {"answer": "OK"}

    store.history("s").add_user_message("before")
    await way(RunnableWithHistory(answer, store.history, output_messages_key=output_key, **keys), value)
    assert said(store) == [("human", "before"), ("human", "hi"), ("ai", "OK")]


OUTPUTS = [
    "OK",
    AIMessage("OK"),
    AIMessageChunk("OK"),
    [AIMessage("OK")],
    (AIMessage("OK"),),
    ["OK"],
    [("ai", "OK")],
    ChatPromptValue(messages=[AIMessage("OK")]),
    {"output": "OK", "steps": 3},
    {"messages": [AIMessage("OK")], "steps": 3},
    {"text": AIMessage("OK")},
]


@pytest.mark.parametrize("output", OUTPUTS, ids=repr)
@every_way
async def test_outputs(store: Memstore, way: Any, output: Any) -> None:
    returned = await way(RunnableWithHistory(lambda _: output, store.history), "hi")
    assert returned == ([output] if way.__name__.endswith("stream") else output)
    assert store.history("s").messages == [HumanMessage("hi"), AIMessage("OK")]


@pytest.mark.parametrize("output", OUTPUTS, ids=repr)
@every_way
async def test_the_same_question_and_answer_again(store: Memstore, way: Any, output: Any) -> None:
    chain = RunnableWithHistory(lambda _: output, store.history)
    for _ in range(3):
        await way(chain, "Agreed?")
    assert said(store) == [("human", "Agreed?"), ("ai", "OK")] * 3


@every_way
async def test_messages_come_back_equal(store: Memstore, way: Any) -> None:
    odd = {
        "bytes": b"\xff",
        "tuple": (1, {2}),
        "at": datetime(2024, 2, 29, tzinfo=timezone.utc),
        "price": Decimal("1.10"),
    }
    asked = HumanMessage("hi", additional_kwargs=odd)
    answer = [
        AIMessage("", tool_calls=[CALL], additional_kwargs=odd),
        ToolMessage("3", tool_call_id="c1", artifact=odd),
        AIMessage([{"type": "text", "text": "3", "extras": odd}]),
    ]
    await way(RunnableWithHistory(lambda _: answer, store.history), asked)
    assert store.history("s").messages == [asked, *answer]


@every_way
async def test_what_the_runnable_does_to_its_prompt_is_not_kept(store: Memstore, way: Any) -> None:
    def mark(messages: list[BaseMessage]) -> str:
        messages[-1].content[0]["cache_control"] = {"type": "ephemeral"}
        messages[-1].id = "changed"
        messages.clear()
        return "OK"

    asked = HumanMessage([{"type": "text", "text": "hi"}])
    await way(RunnableWithHistory(mark, store.history), [asked])
    assert store.history("s").messages == [HumanMessage([{"type": "text", "text": "hi"}]), AIMessage("OK")]


@pytest.mark.parametrize("keys", [{}, {"input_messages_key": "messages"}], ids=["list", "dict"])
@every_way
async def test_a_runnable_that_appends_to_its_own_prompt(store: Memstore, way: Any, keys: Any) -> None:
    def answer(prompt: Any) -> list[BaseMessage]:
        messages = prompt["messages"] if keys else prompt
        messages.append(AIMessage("OK"))
        return messages

    for _ in range(2):
        await way(RunnableWithHistory(answer, store.history, **keys), {"messages": "hi"} if keys else "hi")
    assert said(store) == [("human", "hi"), ("ai", "OK")] * 2


@pytest.mark.parametrize("whole", [False, True], ids=["alone", "behind the prompt"])
@every_way
async def test_an_answer_from_a_cache(store: Memstore, way: Any, whole: bool) -> None:
    """It has the id of an earlier message."""
    cached = AIMessage("OK", id="run-1")
    chain = RunnableWithHistory(lambda messages: [*messages, cached] if whole else cached, store.history)
    for _ in range(2):
        await way(chain, "Agreed?")
    assert store.history("s").messages == [HumanMessage("Agreed?"), cached] * 2


PARTS = {
    "texts": (["O", "", "K"], [AIMessage("OK")]),
    "chunks": ([AIMessageChunk("O"), AIMessageChunk("K")], [AIMessage("OK")]),
    "one chunk": ([AIMessageChunk("OK")], [AIMessage("OK")]),
    "chunks of a tool call": (
        [
            AIMessageChunk("", tool_call_chunks=[{"name": "add", "args": '{"a"', "id": "c1", "index": 0}]),
            AIMessageChunk("", tool_call_chunks=[{"name": None, "args": ": 1}", "id": None, "index": 0}]),
        ],
        [AIMessage("", tool_calls=[CALL])],
    ),
    "addable dicts": (
        [AddableDict(context="c"), AddableDict(answer=AIMessageChunk("O")), AddableDict(answer=AIMessageChunk("K"))],
        [AIMessage("OK")],
    ),
    "dicts": ([{"answer": "O"}, {"answer": "OK"}], [AIMessage("OK")]),
    "messages": (
        [AIMessage("", tool_calls=[CALL]), ToolMessage("3", tool_call_id="c1"), AIMessage("3")],
        [AIMessage("", tool_calls=[CALL]), ToolMessage("3", tool_call_id="c1"), AIMessage("3")],
    ),
    "messages and chunks": (
        [
            AIMessage("", tool_calls=[CALL]),
            ToolMessage("3", tool_call_id="c1"),
            AIMessageChunk("O"),
            AIMessageChunk("K"),
        ],
        [AIMessage("", tool_calls=[CALL]), ToolMessage("3", tool_call_id="c1"), AIMessage("OK")],
    ),
    "lists": ([[AIMessage("O")], [AIMessage("K")]], [AIMessage("O"), AIMessage("K")]),
    "nothing": ([], []),
}


@pytest.mark.parametrize(("parts", "kept"), PARTS.values(), ids=PARTS)
@every_stream
async def test_a_stream_is_kept_as_what_it_adds_up_to(store: Memstore, way: Any, parts: Any, kept: Any) -> None:
    chain = RunnableWithHistory(streaming(*parts), store.history, output_messages_key="answer")
    assert await way(chain, "hi") == parts
    assert store.history("s").messages == [HumanMessage("hi"), *kept]


@every_way
async def test_two_keys_make_out_the_conversation(store: Memstore, way: Any) -> None:
    def find(user_id: str, conversation_id: str) -> Any:
        return store.history(f"{user_id}/{conversation_id}")

    specs = [ConfigurableFieldSpec(id=key, annotation=str) for key in ("conversation_id", "user_id")]
    chain = RunnableWithHistory(lambda _: "OK", find, history_factory_config=specs)
    await way(chain, "hi", {"configurable": {"user_id": "u", "conversation_id": "c"}})
    assert said(store, "u/c") == [("human", "hi"), ("ai", "OK")]
    with pytest.raises(ValueError, match=r"lacks \['user_id'\].*'conversation_id': '...', 'user_id': '...'"):
        await way(chain, "hi", {"configurable": {"conversation_id": "c"}})


@every_way
async def test_a_key_of_another_name(store: Memstore, way: Any) -> None:
    specs = [ConfigurableFieldSpec(id="thread_id", annotation=str)]
    chain = RunnableWithHistory(lambda _: "OK", store.history, history_factory_config=specs)
    await way(chain, "hi", {"configurable": {"thread_id": "t"}})
    assert said(store, "t") == [("human", "hi"), ("ai", "OK")]


@every_way
async def test_a_factory_without_arguments_needs_no_config(store: Memstore, way: Any) -> None:
    chain = RunnableWithHistory(lambda _: "OK", lambda: store.history("the one"))
    await way(chain, "hi", None)
    assert said(store, "the one") == [("human", "hi"), ("ai", "OK")]


@every_way
async def test_the_views_of_single_runs_serve_too(store: Memstore, way: Any) -> None:
    chain = RunnableWithHistory(lambda messages: str(len(messages)), store.get_session_history)
    await way(chain, "hi")
    await way(chain, "ho")
    assert said(store) == [("human", "hi"), ("ai", "1"), ("human", "ho"), ("ai", "3")]


@every_way
async def test_a_history_class_is_a_factory(way: Any) -> None:
    await way(
        RunnableWithHistory(lambda _: "OK", LocalChatMessageHistory), "hi", {"configurable": {"session_id": "class"}}
    )
    history = LocalChatMessageHistory("class")
    assert history.messages == [HumanMessage("hi"), AIMessage("OK")]
    history.clear()


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainDeprecationWarning")
@every_way
async def test_histories_of_langchain_core(way: Any) -> None:
    def answer(prompt: dict[str, Any]) -> str:
        prompt["past"].clear()  # is not the history's own list
        return prompt["input"].upper()

    histories: dict[str, Any] = {"s": InMemoryChatMessageHistory()}
    chain = RunnableWithHistory(answer, histories.__getitem__, history_messages_key="past")
    await way(chain, {"input": "hi"})
    await way(chain, {"input": "ho"})
    assert [message.content for message in histories["s"].messages] == ["hi", "HI", "ho", "HO"]


@pytest.mark.parametrize("config", [None, {}, {"configurable": {}}, {"configurable": {"thread_id": "t"}}])
@every_way
async def test_a_missing_session_id(store: Memstore, way: Any, config: Any) -> None:
    model = ScriptedModel(answers=["never"])
    with pytest.raises(ValueError, match=r"lacks \['session_id'\]; .* \{'configurable': \{'session_id': '\.\.\.'\}\}"):
        await way(RunnableWithHistory(model, store.history), "hi", config)
    assert model.seen == []


@pytest.mark.parametrize(
    ("factory", "keys"),
    [
        (lambda one, two: None, None),
        (lambda *, session_id: None, None),
        (lambda user_id: None, ["user_id", "conversation_id"]),
        (lambda user, conversation: None, ["user_id", "conversation_id"]),
        (LocalChatMessageHistory("a history, no factory"), None),
        (None, None),
    ],
)
def test_a_factory_that_cannot_be_called(factory: Any, keys: list[str] | None) -> None:
    specs = [ConfigurableFieldSpec(id=key, annotation=str) for key in keys or []]
    with pytest.raises(ValueError, match="get_session_history cannot be called with"):
        RunnableWithHistory(lambda _: "OK", factory, history_factory_config=specs)


def test_a_factory_may_take_more_than_the_keys(store: Memstore) -> None:
    def find(user_id: str, conversation_id: str, *, tenant: str = "t") -> Any:
        return store.history(f"{tenant}/{user_id}/{conversation_id}")

    specs = [ConfigurableFieldSpec(id=key, annotation=str) for key in ("user_id", "conversation_id")]
    chain = RunnableWithHistory(lambda _: "OK", find, history_factory_config=specs)
    chain.invoke("hi", {"configurable": {"user_id": "u", "conversation_id": "c"}})
    assert len(said(store, "t/u/c")) == 2
    RunnableWithHistory(lambda _: "OK", functools.partial(find, conversation_id="c")).invoke("hi", SESSION)
    assert len(said(store, "t/s/c")) == 2


@pytest.mark.parametrize(
    ("keys", "value", "complaint"),
    [
        ({}, None, "not NoneType"),
        ({}, 5, "not int"),
        ({}, b"hi", "not bytes"),
        ({}, {HumanMessage}, "not set"),
        ({}, [5], "Unsupported message type"),
        ({}, [{"role": "nobody", "content": "hi"}], "nobody"),
        ({}, {"input": 5}, "not int"),
        ({}, {"question": "hi", "language": "en"}, "no key 'input', only .*; pass input_messages_key"),
        ({"input_messages_key": "question"}, {"input": "hi"}, "no key 'question', only"),
        ({"input_messages_key": "question"}, "hi", "must be a dict with the key 'question', not str"),
        ({"history_messages_key": "past"}, [HumanMessage("hi")], "must be a dict with the key 'past', not list"),
    ],
)
@every_way
async def test_a_wrong_input(store: Memstore, way: Any, keys: Any, value: Any, complaint: str) -> None:
    calls: list[Any] = []
    chain = RunnableWithHistory(RunnableLambda(calls.append), store.history, save_input_on_error=True, **keys)
    with pytest.raises(ValueError, match=complaint):
        await way(chain, value)
    assert calls == [] and said(store) == []


@pytest.mark.parametrize(
    ("output", "complaint"),
    [
        (None, "not NoneType"),
        (5, "not int"),
        ([5], "Unsupported message type"),
        ({"answer": "OK", "steps": 3}, "no key 'output', only .*; pass output_messages_key"),
        ({"messages": 5, "steps": 3}, "not int"),
    ],
)
@every_way
async def test_a_wrong_output(store: Memstore, way: Any, output: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        await way(RunnableWithHistory(lambda _: output, store.history), "hi")
    assert said(store) == []


@pytest.mark.parametrize("save_input", [False, True])
@every_way
async def test_what_cannot_be_kept_raises(store: Memstore, way: Any, save_input: bool) -> None:
    bad = {"additional_kwargs": {"odd": object()}}
    chain = RunnableWithHistory(lambda _: AIMessage("OK", **bad), store.history, save_input_on_error=save_input)
    with pytest.raises(MessageEncodeError, match=r"messages\[1\].data.additional_kwargs.*odd"):
        await way(chain, "hi")
    chain = RunnableWithHistory(lambda _: "OK", store.history, save_input_on_error=save_input)
    with pytest.raises(MessageEncodeError, match=r"messages\[0\].data.additional_kwargs.*odd"):
        await way(chain, HumanMessage("hi", **bad))
    assert said(store) == []


@every_way
async def test_an_input_that_cannot_be_copied_raises_before_the_model_is_called(store: Memstore, way: Any) -> None:
    model = ScriptedModel(answers=["never"])
    with pytest.raises(MessageEncodeError, match="cannot be copied"):
        await way(RunnableWithHistory(model, store.history), HumanMessage("hi", additional_kwargs={"k": Lock()}))
    assert model.seen == []
