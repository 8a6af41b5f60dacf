"""RunnableWithHistory around agent graphs, which return their whole state and stream whatever they are asked to."""

from __future__ import annotations

import sys
import threading
import uuid
import warnings
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
    messages_from_dict,
    messages_to_dict,
)
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.errors import GraphRecursionError
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES, add_messages
from langgraph.prebuilt import ToolNode, create_react_agent, tools_condition

from langchain_memstore import Memstore, RunnableWithHistory
from support.runs import SESSION, ScriptedModel, every_stream, every_way, said

KEY = {"input_messages_key": "messages"}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def call(number: int) -> dict[str, Any]:
    return {"name": "add", "args": {"a": number, "b": number}, "id": f"call {number}", "type": "tool_call"}


def script() -> ScriptedModel:
    """Answers to two questions: the first takes two tools at a time, the second none."""
    return ScriptedModel(answers=[AIMessage("", tool_calls=[call(1), call(2)]), "2 and 4", "You are welcome."])


TWO_TURNS = [
    ("human", "Add."),
    ("ai", ""),
    ("tool", "2"),
    ("tool", "4"),
    ("ai", "2 and 4"),
    ("human", "Thanks."),
    ("ai", "You are welcome."),
]


class State(MessagesState):
    steps: int


def agent(model: ScriptedModel) -> Any:
    """An agent with tools, whose state holds more than messages."""

    def ask(state: State) -> Any:
        return {"messages": [model.invoke(state["messages"])], "steps": state.get("steps", 0) + 1}

    graph = StateGraph(State)
    graph.add_node("agent", ask)
    graph.add_node("tools", ToolNode([add]))
    graph.add_edge(START, "agent")
    graph.add_conditional_edges("agent", tools_condition)
    graph.add_edge("tools", "agent")
    return graph.compile()


def prebuilt(model: ScriptedModel) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it lives in `langchain` now
        return create_react_agent(model, [add])


def functional(model: ScriptedModel) -> Any:
    """An agent without a state: it returns what it has said, and not what it was given."""

    @task
    def ask(messages: list[BaseMessage]) -> AIMessage:
        return model.invoke(messages)

    @entrypoint()
    def run(state: dict[str, Any]) -> dict[str, Any]:
        new = [ask(state["messages"]).result()]
        for each in new[-1].tool_calls:
            new.append(add.invoke(each))
        if len(new) > 1:
            new.append(ask([*state["messages"], *new]).result())
        return {"messages": new}

    return run


no_context = pytest.mark.skipif(sys.version_info < (3, 11), reason="tasks carry no context there")


@pytest.mark.parametrize("build", [agent, prebuilt, pytest.param(functional, marks=no_context)])
@every_way
async def test_only_what_is_new_is_kept(store: Memstore, way: Any, build: Any) -> None:
    model = script()
    chain = RunnableWithHistory(build(model), store.history, **KEY)
    await way(chain, {"messages": "Add."})
    await way(chain, {"messages": [HumanMessage("Thanks.")]})
    assert said(store) == TWO_TURNS
    assert model.seen[-1] == [content for _, content in TWO_TURNS[:-1]]
    messages = store.history("s").messages
    assert {type(message) for message in messages} == {HumanMessage, AIMessage, ToolMessage}
    assert messages[1].tool_calls == [call(1), call(2)]
    assert [message.tool_call_id for message in messages[2:4]] == ["call 1", "call 2"]


@pytest.mark.parametrize(
    "mode",
    [None, "values", "updates", "messages", "custom", "tasks", "debug", ["updates", "messages"], ["values"]],
    ids=str,
)
@every_stream
async def test_a_graph_may_stream_anything(store: Memstore, way: Any, mode: Any) -> None:
    chain = RunnableWithHistory(agent(script()), store.history, **KEY)
    await way(chain, {"messages": "Add."}, stream_mode=mode)
    await way(chain, {"messages": "Thanks."}, stream_mode=mode)
    assert said(store) == TWO_TURNS


@every_stream
async def test_a_stream_of_a_graph_comes_as_from_the_graph(store: Memstore, way: Any) -> None:
    parts = await way(RunnableWithHistory(agent(script()), store.history, **KEY), {"messages": "Add."})
    assert [list(part) for part in parts] == [["agent"], ["tools"], ["agent"]]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda graph: graph.with_config(tags=["t"]),
        lambda graph: graph.bind(stream_mode="updates"),
        lambda graph: graph.with_retry(),
        lambda graph: graph.with_config(tags=["t"]).bind(stream_mode="messages").with_types(input_type=dict),
    ],
    ids=["with_config", "bind", "with_retry", "all of it"],
)
@every_stream
async def test_a_wrapped_graph_streams_too(store: Memstore, way: Any, wrap: Any) -> None:
    chain = RunnableWithHistory(wrap(agent(script())), store.history, **KEY)
    await way(chain, {"messages": "Add."})
    await way(chain, {"messages": "Thanks."})
    assert said(store) == TWO_TURNS


@every_way
async def test_a_graph_in_a_graph(store: Memstore, way: Any) -> None:
    outer = StateGraph(MessagesState).add_node("inner", agent(script())).set_entry_point("inner").compile()
    chain = RunnableWithHistory(outer, store.history, **KEY)
    await way(chain, {"messages": "Add."})
    await way(chain, {"messages": "Thanks."})
    assert said(store) == TWO_TURNS


@every_way
async def test_within_a_graph(store: Memstore, way: Any) -> None:
    chain = RunnableWithHistory(agent(script()), store.history, **KEY)
    outer = StateGraph(MessagesState).add_node("chain", chain).set_entry_point("chain").compile()
    await way(outer, {"messages": [HumanMessage("Add.")]})
    await way(outer, {"messages": [HumanMessage("Thanks.")]})
    assert said(store) == TWO_TURNS


def graph_of(step: Any, state: Any = MessagesState) -> Any:
    return StateGraph(state).add_node("step", step).set_entry_point("step").compile()


def forgets_the_oldest(state: MessagesState) -> Any:
    return {"messages": [*(RemoveMessage(id=each.id) for each in state["messages"][:-2]), AIMessage("OK")]}


def summarizes(state: MessagesState) -> Any:
    kept = state["messages"][-2:]
    return {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES), HumanMessage("In short: ."), *kept, AIMessage("OK")]}


def begins_with_instructions(state: MessagesState) -> Any:
    return {
        "messages": [
            RemoveMessage(id=REMOVE_ALL_MESSAGES),
            SystemMessage("Be brief."),
            *state["messages"],
            AIMessage("OK"),
        ]
    }


def redacts_the_question(state: MessagesState) -> Any:
    return {"messages": [HumanMessage("***", id=state["messages"][-1].id), AIMessage("OK")]}


def forgets_all(state: MessagesState) -> Any:
    return {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES), AIMessage("OK")]}


@pytest.mark.parametrize(
    "step", [forgets_the_oldest, summarizes, begins_with_instructions, redacts_the_question, forgets_all]
)
@every_way
async def test_a_graph_that_edits_what_it_was_given(store: Memstore, way: Any, step: Any) -> None:
    chain = RunnableWithHistory(graph_of(step), store.history, **KEY)
    for _ in range(3):
        await way(chain, {"messages": "Agreed?"})
    assert said(store) == [("human", "Agreed?"), ("ai", "OK")] * 3


@every_way
async def test_a_graph_that_fails(store: Memstore, way: Any) -> None:
    for_ever = StateGraph(MessagesState).add_node("step", lambda _: {"messages": [AIMessage("Again.")]})
    graph = for_ever.set_entry_point("step").add_edge("step", "step").compile()
    for save_input, kept in (False, []), (True, [("human", "hi")]):
        chain = RunnableWithHistory(graph, store.history, save_input_on_error=save_input, **KEY)
        with pytest.raises(GraphRecursionError):
            await way(chain, {"messages": "hi"})
        assert said(store) == kept


async def test_a_stream_of_a_graph_closed_early(store: Memstore) -> None:
    chain = RunnableWithHistory(agent(script()), store.history, **KEY)
    parts = chain.stream({"messages": "Add."}, SESSION)
    next(parts)
    parts.close()
    aparts = chain.astream({"messages": "Add."}, SESSION)
    await anext(aparts)
    await aparts.aclose()
    assert said(store) == []


@every_way
async def test_clearing_during_the_run_of_a_graph(store: Memstore, way: Any) -> None:
    def step(state: MessagesState) -> Any:
        store.history("s").clear()
        return {"messages": [AIMessage("OK")]}

    store.history("s").add_messages([HumanMessage("long"), AIMessage("ago")])
    await way(RunnableWithHistory(graph_of(step), store.history, **KEY), {"messages": "hi"})
    assert said(store) == [("human", "hi"), ("ai", "OK")]


async def test_graphs_at_once_on_one_session(store: Memstore) -> None:
    barrier = threading.Barrier(4)

    def step(state: MessagesState) -> Any:
        barrier.wait(10)
        return {"messages": [AIMessage(f"re {state['messages'][-1].content}")]}

    chain = RunnableWithHistory(graph_of(step), store.history, **KEY)
    questions = [{"messages": f"question {number}"} for number in range(4)]
    chain.batch(questions, {**SESSION, "max_concurrency": 4})
    await chain.abatch(questions, SESSION)
    kept = said(store)
    assert len(kept) == 16
    assert kept[1::2] == [("ai", f"re {question}") for _, question in kept[::2]]


@every_way
async def test_a_graph_that_runs_elsewhere(store: Memstore, way: Any) -> None:
    """What comes back over the wire are copies, and ids have been given to what had none."""

    def remote(prompt: dict[str, Any]) -> dict[str, Any]:
        answers = [AIMessage("", tool_calls=[call(1)]), ToolMessage("2", tool_call_id="call 1"), AIMessage("OK")]
        messages = add_messages(messages_from_dict(messages_to_dict(prompt["messages"])), answers)
        return {"messages": [message.model_dump() for message in messages]}

    chain = RunnableWithHistory(remote, store.history, **KEY)
    for _ in range(3):
        await way(chain, {"messages": "Agreed?"})
    assert said(store) == [("human", "Agreed?"), ("ai", ""), ("tool", "2"), ("ai", "OK")] * 3


TEXTS = st.sampled_from(["", "OK", "Agreed?"])
MAYBE_ID = st.booleans().map(lambda has_one: str(uuid.uuid4()) if has_one else None)
HUMAN = st.builds(HumanMessage, content=TEXTS, id=MAYBE_ID)
OLD = st.lists(HUMAN | st.builds(AIMessage, content=TEXTS, id=MAYBE_ID))
ANSWERS = st.lists(st.builds(AIMessage, content=TEXTS) | st.builds(ToolMessage, content=TEXTS, tool_call_id=TEXTS))
ANYTHING = st.lists(st.builds(AIMessage, content=TEXTS) | st.builds(HumanMessage, content=TEXTS))


def copies(messages: list[BaseMessage]) -> list[BaseMessage]:
    return [message.model_copy(deep=True) for message in messages]


def kept(old: list[BaseMessage], asked: list[BaseMessage], answer: Any) -> list[tuple[str, Any]]:
    """What a conversation holds after a run whose runnable answers with a list of messages."""
    store = Memstore.from_url("memory://", max_messages=None)
    store.history("s").add_messages(old)
    RunnableWithHistory(RunnableLambda(answer), store.history).invoke(copies(asked), SESSION)
    return said(store)


def pairs(*messages: BaseMessage) -> list[tuple[str, Any]]:
    return [(message.type, message.content) for message in messages]


@given(OLD, st.lists(HUMAN, min_size=1, max_size=2), ANSWERS)
@example([AIMessage("OK")], [HumanMessage("Agreed?")], [AIMessage("OK")])
def test_new_messages_alone_are_all_kept(old: Any, asked: Any, new: Any) -> None:
    """However many of them are equal to earlier ones."""
    assert kept(old, asked, lambda _: copies(new)) == pairs(*old, *asked, *new)


@given(OLD, st.lists(HUMAN, max_size=2), ANYTHING, st.booleans())
def test_a_whole_list_is_told_from_its_new_messages(old: Any, asked: Any, new: Any, copied: bool) -> None:
    """Be it the very messages or copies of them, with ids or without, and whatever follows."""

    def answer(messages: list[BaseMessage]) -> list[BaseMessage]:
        return [*(copies(messages) if copied else messages), *copies(new)]

    assert kept(old, asked, answer) == pairs(*old, *asked, *new)


@given(OLD, st.lists(HUMAN, min_size=1, max_size=2), ANYTHING, ANSWERS, st.data())
def test_a_trimmed_state_is_told_from_its_new_messages(
    old: Any, asked: Any, anything: Any, answers: Any, data: st.DataObject
) -> None:
    """Old messages have left it, and perhaps a summary stands before the rest; the ids are those of a graph."""
    local = data.draw(st.booleans(), "the graph runs in this process")  # else a question is known but by what it says
    new = anything if local else answers
    gone = data.draw(st.sets(st.sampled_from(range(len(old)))) if old else st.just(set()), "what has left")
    summary = data.draw(st.lists(st.just(SystemMessage("In short: .")), max_size=1))

    def answer(messages: list[BaseMessage]) -> Any:
        state = add_messages([], messages if local else copies(messages))
        state = add_messages(state, [RemoveMessage(id=state[index].id) for index in gone])
        return [*summary, *add_messages(state, copies(new))]

    assert kept(old, asked, answer) == pairs(*old, *asked, *new)


@given(OLD, HUMAN, ANSWERS, st.data())
def test_a_state_without_the_question(old: Any, asked: Any, new: Any, data: st.DataObject) -> None:
    """What is left of the old messages is known by its ids, or because it is the very messages."""
    copied = all(message.id for message in old) and data.draw(st.booleans())

    def answer(messages: list[BaseMessage]) -> Any:
        return [*(copies(messages[:-1]) if copied else messages[:-1]), *copies(new)]

    assert kept(old, [asked], answer) == pairs(*old, asked, *new)
