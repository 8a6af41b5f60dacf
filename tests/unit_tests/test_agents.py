"""HistoryMiddleware in agents that `create_agent` makes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain.agents import AgentState, create_agent
from langchain.agents.middleware import (
    HumanInTheLoopMiddleware,
    SummarizationMiddleware,
    after_agent,
    before_model,
)
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from langchain_memstore import Memstore
from langchain_memstore.integrations.agents import HistoryMiddleware
from support.agent_runs import AgentModel, add, agent, call, calls, say, thread, told
from support.conversations import converse, turns
from support.rules import anthropic_objections
from support.runs import SESSION, every_stream, every_way, said, stream

TWO_CALLS = calls(call(1), call(2))
ADDED = [("human", "Add."), ("ai", ""), ("tool", "2"), ("tool", "4"), ("ai", "2 and 4")]
THANKED = [("human", "Thanks."), ("ai", "You are welcome.")]


pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="tasks carry no config there")


savers = pytest.mark.parametrize("saver", [None, InMemorySaver], ids=["no checkpointer", "checkpointer"])


@savers
@every_way
async def test_the_agent_sees_the_conversation_and_keeps_what_is_new(store: Memstore, way: Any, saver: Any) -> None:
    graph = agent(store, [TWO_CALLS, "2 and 4", "You are welcome."], checkpointer=saver and saver())
    await way(graph, say("Add."), thread())
    assert said(store) == ADDED
    await way(graph, say("Thanks."), thread())
    assert [told(prompt) for prompt in graph.model.prompts] == [ADDED[:1], ADDED[:4], ADDED + THANKED[:1]]
    assert said(store) == ADDED + THANKED
    kept = store.history("s").messages
    assert kept[1].tool_calls == TWO_CALLS.tool_calls
    assert {type(message) for message in kept} == {HumanMessage, AIMessage, ToolMessage}
    assert store.history("s").snapshot().turns == 2


@every_way
async def test_another_agent_goes_on_with_the_conversation(store: Memstore, way: Any) -> None:
    """A history that others wrote, too, and a thread of its own: neither is repeated in the other."""
    store.history("s").add_messages(converse([[1, 0]]))
    before = said(store)
    graph = agent(store, ["a", "b"], checkpointer=InMemorySaver())
    await way(graph, say("1"), thread())
    store.history("s").add_user_message("meanwhile")
    await way(graph, say("2"), thread())
    new = [("human", "1"), ("ai", "a"), ("human", "meanwhile"), ("human", "2"), ("ai", "b")]
    assert said(store) == before + new
    assert told(graph.model.prompts[-1]) == before + new[:-1]
    state = graph.get_state(thread()).values
    assert told(state["messages"]) == [new[0], new[1], new[3], new[4]]
    assert state.keys() == {"messages", "memstore_stored"}


MODES = ["values", "updates", "messages", "custom", "tasks", "checkpoints", "debug"]


@pytest.mark.parametrize("mode", [*MODES, ["values", "updates", "messages"]], ids=str)
@savers
@every_stream
async def test_nothing_of_the_history_is_streamed(store: Memstore, way: Any, mode: Any, saver: Any) -> None:
    """The stream is that of the agent without a memory, but for the step that appends."""
    store = Memstore(store._backend, summarizer=lambda *_: "SECRET", summarize_every=1, max_messages=3)
    store.history("s").add_messages([HumanMessage("SECRET"), AIMessage("SECRET")] * 2)
    assert said(store)[0] == ("system", "Summary of the conversation so far:\nSECRET")
    answers = [calls(call(1), call(2, a=1, b=1)), "2 and 2"]  # in whatever order the tools come to their end
    plain = create_agent(AgentModel(answers=[*answers]), [add], checkpointer=saver and saver())
    graph = agent(store, answers, checkpointer=saver and saver())
    config = thread() if saver else SESSION
    parts = await way(graph, say("Add."), config, stream_mode=mode)
    assert "SECRET" in str(graph.model.prompts[0]) and "SECRET" in str(graph.model.prompts[1])
    assert "SECRET" not in str(parts)
    if mode in ("values", "updates", "messages", "custom"):
        expected = [simplified(part) for part in await way(plain, say("Add."), config, stream_mode=mode)]
        own = [simplified(part) for part in parts]
        if mode == "updates":
            (step,) = own.pop().items()
            assert step == ("HistoryMiddleware.after_agent", {} if saver else None)
        if mode == "values" and saver:
            assert own.pop() == own[-1]
        assert own == expected
        assert (mode == "custom") != bool(expected)


def simplified(part: Any) -> Any:
    """A part of a stream without ids."""
    if isinstance(part, tuple):
        return part[0].type, part[0].content
    if isinstance(part, dict):
        return {key: simplified(value) for key, value in part.items() if key != "memstore_stored"}
    return told(part) if isinstance(part, list) else part


@pytest.mark.parametrize(
    ("system_prompt", "merged"),
    [
        (None, "So far: x"),
        ("Be brief.", "Be brief.\n\nSo far: x"),
        (
            SystemMessage([{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}], name="n"),
            [
                {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": "So far: x"},
            ],
        ),
    ],
    ids=["none", "text", "blocks"],
)
@every_way
async def test_the_summary_is_merged_into_the_system_message(
    store: Memstore, way: Any, system_prompt: Any, merged: Any
) -> None:
    store = Memstore(store._backend, summary_template="So far: {summary}")
    store.history("s").add_messages([HumanMessage("hi"), AIMessage("hello")])
    store.history("s").set_summary("x")
    graph = agent(store, [TWO_CALLS, "2 and 4"], system_prompt=system_prompt)
    await way(graph, say("Add."))
    for prompt in graph.model.prompts:
        assert told(prompt)[:3] == [("system", merged), ("human", "hi"), ("ai", "hello")]
        assert anthropic_objections(prompt) == []
        assert prompt[0].name == getattr(system_prompt, "name", None)
    assert store.history("s").snapshot().total == 7


async def test_a_summary_of_another_role_stays_in_its_place(store: Memstore) -> None:
    for role, shown in ("human", [("human", "So far: x")]), (None, []):
        history = Memstore(store._backend, summary_template="So far: {summary}", summary_role=role).history
        history("s").set_summary("x")
        graph = agent(store, ["OK"], history=history, system_prompt="Be brief.")
        await graph.ainvoke(say("hi"), SESSION)
        assert told(graph.model.prompts[0]) == [("system", "Be brief."), *shown, ("human", "hi")]
        history("s").clear()


@every_way
async def test_system_messages_go_to_the_head_of_the_prompt(store: Memstore, way: Any) -> None:
    """Those of the input are stored with it, and shown again with the history."""
    graph = agent(store, ["Hello.", "Bye."])
    await way(graph, {"messages": [SystemMessage("Be brief."), HumanMessage("hi")]})
    await way(graph, {"messages": [SystemMessage("Be kind."), HumanMessage("bye")]})
    assert said(store)[3] == ("system", "Be kind.")
    spoken = [("human", "hi"), ("ai", "Hello."), ("human", "bye")]
    assert told(graph.model.prompts[1]) == [("system", "Be brief.\n\nBe kind."), *spoken]


@savers
@every_way
async def test_the_window_is_read_once_and_stays_as_it_was(store: Memstore, way: Any, saver: Any) -> None:
    """Whatever is said meanwhile by others, who even push out what the run has seen."""
    reads = []

    class Counting:
        def __init__(self, session_id: str) -> None:
            self._history = store.history(session_id, max_messages=4)

        @property
        def messages(self) -> Any:
            reads.append("read")
            return self._history.messages

        async def aget_messages(self) -> Any:
            reads.append("read")
            return await self._history.aget_messages()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._history, name)

    @tool
    def meanwhile() -> str:
        """Say something."""
        store.history("s", max_messages=4).add_messages([HumanMessage("x"), AIMessage("y"), HumanMessage("z")])
        return "done"

    store.history("s").add_messages([HumanMessage("hi"), AIMessage("hello")])
    looks = [calls(call(n, "meanwhile")) for n in range(3)]
    graph = agent(store, [*looks, "OK"], [meanwhile], history=Counting, checkpointer=saver and saver())
    await way(graph, say("look"), thread())
    assert reads == ["read"]
    assert len(graph.model.prompts) == 4
    own = [("human", "look"), *[("ai", ""), ("tool", "done")] * 3]
    for number, prompt in enumerate(graph.model.prompts):
        assert told(prompt) == [("human", "hi"), ("ai", "hello"), *own[: 1 + 2 * number]]
    assert said(store) == [("ai", ""), ("tool", "done"), ("ai", "OK")]
    assert store.history("s").snapshot().total == 2 + 9 + 8
    del graph
    gc.collect()


def test_a_run_leaves_nothing_in_the_middleware(store: Memstore) -> None:
    middleware = HistoryMiddleware(store.history)
    for answer in "OK", RuntimeError("overloaded"):
        graph = create_agent(AgentModel(answers=[TWO_CALLS, answer]), [add], middleware=[middleware])
        with contextlib.suppress(RuntimeError):
            graph.invoke(say("hi"), SESSION)
    del answer  # the error holds on to the run
    gc.collect()
    assert len(middleware._runs) == 0


class Context(NamedTuple):
    session_id: str | None


@every_way
@pytest.mark.parametrize(
    ("context", "configurable", "expected"),
    [
        ({"session_id": "c"}, {"thread_id": "t", "session_id": "s"}, "c"),
        (Context("c"), {"thread_id": "t", "session_id": "s"}, "c"),
        (Context(None), {"thread_id": "t", "session_id": "s"}, "t"),
        ({"other": 1}, {"session_id": "s"}, "s"),
        (None, {"thread_id": 7}, "7"),
        (None, {"session_id": "s"}, "s"),
    ],
)
async def test_where_the_session_id_is_found(
    store: Memstore, way: Any, context: Any, configurable: Any, expected: str
) -> None:
    await way(agent(store, ["OK"]), say("hi"), {"configurable": configurable}, context=context)
    assert [info.session_id for info in store.sessions()] == [expected]
    assert said(store, expected) == [("human", "hi"), ("ai", "OK")]


@every_way
async def test_without_a_session_id(store: Memstore, way: Any) -> None:
    graph = agent(store, ["OK"])
    with pytest.raises(ValueError, match=r"no session id.*context=.*thread_id"):
        await way(graph, say("hi"), {})
    with pytest.raises(ValueError, match="session_id must be a non-empty string, not 7"):
        await way(graph, say("hi"), {}, context={"session_id": 7})
    assert graph.model.prompts == []
    with pytest.raises(ValueError, match=r"a function such as Memstore.history, not Memstore"):
        HistoryMiddleware(store)  # type: ignore[arg-type]


@savers
@every_way
async def test_a_tool_may_end_the_run(store: Memstore, way: Any, saver: Any) -> None:
    @tool(return_direct=True)
    def shout(text: str) -> str:
        """Shout."""
        return text.upper()

    graph = agent(store, [calls(call(1, "shout", text="ha")), "OK"], [shout], checkpointer=saver and saver())
    await way(graph, say("Shout ha."), thread())
    first = [("human", "Shout ha."), ("ai", ""), ("tool", "HA")]
    assert said(store) == first
    await way(graph, say("Thanks."), thread())
    assert told(graph.model.prompts[1]) == [*first, ("human", "Thanks.")]
    assert said(store) == [*first, ("human", "Thanks."), ("ai", "OK")]


class Sum(BaseModel):
    value: int


@savers
@every_way
async def test_structured_output(store: Memstore, way: Any, saver: Any) -> None:
    """With tools, and with an answer that is not of the schema at first."""
    answers = [
        TWO_CALLS,
        calls(call(3, "Sum", value="x")),
        calls(call(4, "Sum", value=6)),
        calls(call(5, "Sum", value=1)),
    ]
    graph = agent(store, answers, response_format=ToolStrategy(Sum), checkpointer=saver and saver())
    output = await way(graph, say("Add."), thread())
    if isinstance(output, dict):
        assert output["structured_response"] == Sum(value=6)
    kept = store.history("s").messages
    assert [message.type for message in kept] == ["human", "ai", "tool", "tool", "ai", "tool", "ai", "tool"]
    assert kept[-1].content == "Returning structured response: value=6"
    await way(graph, say("Again."), thread())
    assert told(graph.model.prompts[-1]) == [*told(kept), ("human", "Again.")]
    assert len(said(store)) == 11


@every_way
async def test_a_call_with_arguments_that_are_no_json_is_answered_in_the_thread(store: Memstore, way: Any) -> None:
    bad = AIMessage(
        "", invalid_tool_calls=[{"name": "add", "args": "{", "id": "bad", "error": "?", "type": "invalid_tool_call"}]
    )
    graph = agent(store, [bad, "OK"], checkpointer=InMemorySaver())
    await graph.ainvoke(say("Add."), thread())
    await way(graph, say("Well?"), thread())
    assert [message.type for message in store.history("s").messages] == ["human", "ai", "tool", "human", "ai"]
    assert len(graph.model.prompts[1]) == 4


@given(
    st.lists(turns, max_size=5),
    st.sampled_from(["max_messages", "max_turns"]),
    st.integers(1, 8),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=40)
def test_every_prompt_is_legal(said: list[list[int]], bound: str, most: int, kept: bool, summary: bool) -> None:
    """As OpenAI has it, as the model asserts; as Anthropic has it where whole turns are kept."""
    options: Any = {"summarizer": lambda *_: "sum", "summarize_every": 1} if summary else {}
    store = Memstore.from_url("memory://", **{"max_messages": None, bound: most}, **options)
    model = AgentModel(answers=[])
    graph = agent(store, [], model=model, system_prompt="Be brief.", checkpointer=InMemorySaver() if kept else None)
    total = 0
    for steps in said:
        model.answers = [*(calls(*map(call, range(count))) for count in steps if count), "OK"]
        graph.invoke(say("hi"), thread())
        total += 2 + sum(1 + count for count in steps if count)
        assert store.history("s").snapshot().total == total
    assert len(model.prompts) == len(said) + sum(count > 0 for steps in said for count in steps)
    if bound == "max_turns":
        assert [anthropic_objections(prompt) for prompt in model.prompts] == [[]] * len(model.prompts)


# Interrupts


@tool
def ask(question: str) -> str:
    """Ask the person."""
    return str(interrupt(question))


ASKED = [("human", "Book."), ("ai", ""), ("tool", "2"), ("tool", "window"), ("ai", "Booked.")]


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same process", "another"])
@every_way
async def test_a_tool_interrupts(store: Memstore, way: Any, elsewhere: bool) -> None:
    saver = InMemorySaver()
    store.history("s").add_messages([HumanMessage("hi"), AIMessage("hello")])
    answers = [calls(call(1), call(2, "ask", question="Seat?")), "Booked.", "You are welcome."]
    graph = agent(store, answers, [add, ask], checkpointer=saver)
    await way(graph, say("Book."), thread())
    assert store.history("s").snapshot().total == 2
    store.history("s").add_messages([HumanMessage("meanwhile"), AIMessage("yes")])
    before = said(store)
    if elsewhere:
        graph = agent(store, [], [add, ask], checkpointer=saver, model=graph.model)
    await way(graph, Command(resume="window"), thread())
    assert told(graph.model.prompts[1]) == before + ASKED[:4]
    assert said(store) == before + ASKED
    await way(graph, say("Thanks."), thread())
    assert told(graph.model.prompts[2]) == before + ASKED + THANKED[:1]
    assert said(store) == before + ASKED + THANKED


@pytest.mark.parametrize(
    ("decision", "result"),
    [
        ({"type": "approve"}, "2"),
        ({"type": "edit", "edited_action": {"name": "add", "args": {"a": 5, "b": 5}}}, "10"),
        ({"type": "reject", "message": "No."}, "No."),
    ],
    ids=["approve", "edit", "reject"],
)
@every_way
async def test_a_person_decides(store: Memstore, way: Any, decision: Any, result: str) -> None:
    person = HumanInTheLoopMiddleware(interrupt_on={"add": True})
    graph = agent(store, [calls(call(1)), "OK", "Bye."], middleware=[person], checkpointer=InMemorySaver())
    await way(graph, say("Add."), thread())
    assert said(store) == []
    await way(graph, Command(resume={"decisions": [decision]}), thread())
    await way(graph, say("Bye."), thread())
    kept = store.history("s").messages
    assert kept == graph.get_state(thread()).values["messages"]
    assert [message.type for message in kept] == ["human", "ai", "tool", "ai", "human", "ai"]
    assert kept[2].text.endswith(result)
    assert told(graph.model.prompts[2]) == told(kept[:5])


@every_way
async def test_the_graph_is_stopped_before_a_step(store: Memstore, way: Any) -> None:
    graph = agent(store, [TWO_CALLS, "2 and 4"], checkpointer=InMemorySaver(), interrupt_before=["model"])
    store.history("s").add_messages([HumanMessage("hi"), AIMessage("hello")])
    before = said(store)
    for step in (say("Add."), None):
        await way(graph, step, thread())
        assert said(store) == before
    await way(graph, None, thread())
    assert told(graph.model.prompts[1]) == before + ADDED[:4]
    assert said(store) == before + ADDED


# Other middleware, and other graphs


def trimming(messages: Any) -> list[Any]:
    return [RemoveMessage(REMOVE_ALL_MESSAGES), *messages]


@before_model(name="trim")
def keep_the_last(state: AgentState, runtime: Any) -> Any:
    return {"messages": trimming(state["messages"][-3:])}


@before_model(name="ends")
def keep_both_ends(state: AgentState, runtime: Any) -> Any:
    messages = state["messages"]
    return {"messages": trimming([messages[0], *messages[-1:]])} if len(messages) > 3 else None


@after_agent(name="empty")
def keep_nothing(state: AgentState, runtime: Any) -> Any:
    return {"messages": [RemoveMessage(REMOVE_ALL_MESSAGES)]}


@pytest.mark.parametrize("other", [keep_the_last, keep_both_ends, keep_nothing], ids=lambda other: other.name)
@pytest.mark.parametrize("cleared", [False, True])
async def test_what_was_stored_may_be_taken_out_of_the_thread(store: Memstore, other: Any, cleared: bool) -> None:
    """Even when the store no longer has it, it is not appended again."""
    if other is keep_nothing:  # it has to run after the messages are appended
        graph = create_agent(
            AgentModel(answers=[*"abcd"]),
            [],
            middleware=[other, HistoryMiddleware(store.history)],
            checkpointer=InMemorySaver(),
        )
    else:
        graph = agent(store, "abcd", [], middleware=[other], checkpointer=InMemorySaver())
    expected = []
    for number in range(4):
        if cleared:
            store.history("s").clear()
            expected = []
        await graph.ainvoke(say(str(number)), thread())
        expected += [("human", str(number)), ("ai", "abcd"[number])]
        assert said(store) == expected


@every_way
async def test_a_run_that_ends_before_the_model_is_called(store: Memstore, way: Any) -> None:
    @before_model(can_jump_to=["end"])
    def refuse(state: AgentState, runtime: Any) -> Any:
        return {"jump_to": "end", "messages": [AIMessage("Not today.")]}

    await way(agent(store, [], middleware=[refuse]), say("hi"))
    await way(agent(store, [], middleware=[refuse]), say("hi?"))
    assert said(store) == [("human", "hi"), ("ai", "Not today."), ("human", "hi?"), ("ai", "Not today.")]


@every_way
async def test_a_thread_that_began_without_a_memory(store: Memstore, way: Any) -> None:
    """It moves in with its first run: all of it is appended, once."""
    saver, model = InMemorySaver(), AgentModel(answers=[TWO_CALLS, "2 and 4", "You are welcome.", "Bye."])
    await way(create_agent(model, [add], checkpointer=saver), say("Add."), thread())
    graph = agent(store, [], model=model, checkpointer=saver)
    await way(graph, say("Thanks."), thread())
    assert said(store) == ADDED + THANKED
    await way(graph, say("Bye."), thread())
    assert said(store) == [*ADDED, *THANKED, ("human", "Bye."), ("ai", "Bye.")]


async def test_a_message_that_is_taken_out_during_the_run_is_not_appended(store: Memstore) -> None:
    @before_model
    def forget(state: AgentState, runtime: Any) -> Any:
        if len(state["messages"]) == 4:
            return {"messages": [RemoveMessage(message.id) for message in state["messages"][1:]]}
        return None

    graph = agent(store, [TWO_CALLS, "OK"], middleware=[forget])
    await graph.ainvoke(say("Add."), SESSION)
    assert said(store) == [("human", "Add."), ("ai", "OK")]


@every_way
async def test_a_summary_in_the_place_of_the_messages_is_refused(store: Memstore, way: Any) -> None:
    summing = SummarizationMiddleware(AgentModel(answers=["sum"]), trigger=("messages", 3), keep=("messages", 1))
    graph = agent(store, ["a", "b"], [], middleware=[summing], checkpointer=InMemorySaver())
    await way(graph, say("1"), thread())
    with pytest.raises(ValueError, match=r"session 's': a SummarizationMiddleware has put.*summarizer"):
        await way(graph, say("2"), thread())
    assert said(store) == [("human", "1"), ("ai", "a")]


@after_agent(can_jump_to=["model"])
def once_more(state: AgentState, runtime: Any) -> Any:
    if state["messages"][-1].content == "Yes.":
        return {"jump_to": "model", "messages": [HumanMessage("Sure?")]}
    return None


@savers
@every_way
async def test_a_run_that_goes_on_after_its_end(store: Memstore, way: Any, saver: Any) -> None:
    model = AgentModel(answers=["Yes.", "Really."])
    graph = create_agent(
        model, [], middleware=[once_more, HistoryMiddleware(store.history)], checkpointer=saver and saver()
    )
    store.history("s").add_messages([HumanMessage("hi"), AIMessage("hello")])
    await way(graph, say("Well?"), thread())
    kept = [("human", "hi"), ("ai", "hello"), ("human", "Well?"), ("ai", "Yes."), ("human", "Sure?"), ("ai", "Really.")]
    assert said(store) == kept
    assert told(model.prompts[1]) == kept[:5]


@savers
@every_way
async def test_an_agent_is_part_of_another_graph(store: Memstore, way: Any, saver: Any) -> None:
    """It is given the whole conversation of that graph, of which the store has the most part."""
    inner = agent(store, ["a", "b", "c"], [])
    outer = StateGraph(MessagesState).add_node("agent", inner).add_edge(START, "agent")
    graph = outer.compile(checkpointer=saver and saver())
    for number in range(3):
        await way(graph, say(str(number)), thread())
    kept = [each for number in range(3) for each in (("human", str(number)), ("ai", "abc"[number]))]
    assert said(store) == kept
    assert told(inner.model.prompts[2]) == kept[:5]


@every_way
async def test_a_client_that_sends_the_whole_conversation(store: Memstore, way: Any) -> None:
    """What the store knows by its id is neither shown nor appended twice."""
    graph = agent(Memstore(store._backend, max_messages=3), ["a", "b", "c"], [])
    messages: list[Any] = []
    for number in range(3):
        messages.append(HumanMessage(str(number)))
        messages = (await graph.ainvoke({"messages": messages}, SESSION))["messages"]
        assert store.history("s").snapshot().total == len(messages)
    assert told(graph.model.prompts[-1]) == told(messages)[1:5]


async def test_ids_that_do_not_tell_messages_apart(store: Memstore) -> None:
    graph = agent(store, [AIMessage("a", id="2"), AIMessage("b", id="2")], [])
    for text in "1", "2":
        await graph.ainvoke({"messages": [HumanMessage(text, id="1")]}, SESSION)
    assert told(graph.model.prompts[1]) == [("human", "1"), ("ai", "a"), ("human", "2")]
    assert said(store) == [("human", "1"), ("ai", "a"), ("human", "2"), ("ai", "b")]


@pytest.mark.parametrize("options", [{}, {"stream_mode": "custom"}, {"subgraphs": True}], ids=str)
@every_stream
async def test_agents_as_tools_of_an_agent(store: Memstore, way: Any, options: Any) -> None:
    """Each run within a run reads its own history, though it takes place in the stream of the outer one."""
    expert = agent(store, ["four", "five", "FIVE"], [])

    @tool
    async def consult(question: str, session_id: str) -> str:
        """Ask the expert."""
        asked = {"messages": [HumanMessage(question, id=question)]}
        return (await expert.ainvoke(asked, context={"session_id": session_id}))["messages"][-1].content

    asks = [
        calls(call(number, "consult", question=question, session_id=session_id))
        for number, (question, session_id) in enumerate([("2+2", "one"), ("2+3", "one"), ("2+3", "two")])
    ]
    graph = agent(store, [*asks, "4, 5"], [consult])
    if way is stream:
        consult.func = lambda **args: asyncio.run(consult.coroutine(**args))
    await way(graph, say("Well?"), **options)
    assert told(expert.model.prompts[1]) == [("human", "2+2"), ("ai", "four"), ("human", "2+3")]
    assert said(store, "one") == [*told(expert.model.prompts[1]), ("ai", "five")]
    assert said(store, "two") == [("human", "2+3"), ("ai", "FIVE")]
    assert [content for _, content in said(store)] == ["Well?", "", "four", "", "five", "", "FIVE", "4, 5"]
