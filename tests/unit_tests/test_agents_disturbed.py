"""HistoryMiddleware when something goes wrong, and when much goes on at once."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from langchain_memstore import BackendFull, BackendUnavailable, Memstore, MessageEncodeError
from support.agent_runs import AgentModel, add, agent, call, calls, say, thread, told
from support.rules import openai_objections
from support.runs import SESSION, every_way, said

PATIENCE = 10  # seconds


pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="tasks carry no config there")


@tool
def fail() -> str:
    """Fail."""
    raise RuntimeError("broken")


BEFORE = [("human", "hi"), ("ai", "hello")]


def begun(store: Memstore) -> Memstore:
    """The store, with a conversation in it."""
    store.history("s").add_messages([HumanMessage("hi"), AIMessage("hello")])
    return store


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([RuntimeError("overloaded")], "overloaded"),
        ([calls(call(1)), RuntimeError("overloaded")], "overloaded"),
        ([calls({"name": "fail", "args": {}, "id": "c"})], "broken"),
    ],
    ids=["model", "model, later", "tool"],
)
@pytest.mark.parametrize("saver", [None, InMemorySaver], ids=["no checkpointer", "checkpointer"])
@every_way
async def test_a_run_that_fails_appends_nothing(
    store: Memstore, way: Any, saver: Any, answers: list[Any], error: str
) -> None:
    graph = agent(begun(store), answers, [add, fail], checkpointer=saver and saver())
    with pytest.raises(RuntimeError, match=error):
        await way(graph, say("Add."), thread())
    assert said(store) == BEFORE


@every_way
async def test_a_run_that_failed_goes_on(store: Memstore, way: Any) -> None:
    answers = [calls(call(1)), RuntimeError("overloaded"), "2"]
    graph = agent(begun(store), answers, checkpointer=InMemorySaver())
    with pytest.raises(RuntimeError, match="overloaded"):
        await way(graph, say("Add."), thread())
    store.history("s").add_user_message("meanwhile")
    await way(graph, None, thread())
    meanwhile, own = ("human", "meanwhile"), [("human", "Add."), ("ai", ""), ("tool", "2"), ("ai", "2")]
    assert [told(prompt) for prompt in graph.model.prompts[1:]] == [[*BEFORE, *own[:3]], [*BEFORE, meanwhile, *own[:3]]]
    assert said(store) == [*BEFORE, meanwhile, *own]


@every_way
async def test_the_turn_after_a_run_that_failed(store: Memstore, way: Any) -> None:
    """The thread still holds what was said; without one, it never happened."""
    for saver, kept in (InMemorySaver(), [("human", "Hello?")]), (None, []):
        graph = agent(store, [RuntimeError("overloaded"), "Yes."], checkpointer=saver)
        with pytest.raises(RuntimeError, match="overloaded"):
            await way(graph, say("Hello?"), thread())
        await way(graph, say("Well?"), thread())
        assert told(graph.model.prompts[1]) == [*kept, ("human", "Well?")]
        assert said(store) == [*kept, ("human", "Well?"), ("ai", "Yes.")]
        store.history("s").clear()


class Flaky:
    """A history that fails to append as often as asked to; its messages may arrive nevertheless."""

    def __init__(self, store: Memstore, times: int, arrives: bool) -> None:
        self.store, self.times, self.arrives = store, times, arrives

    def __call__(self, session_id: str) -> Any:
        self.history = self.store.history(session_id)
        return self

    @property
    def messages(self) -> Any:
        return self.history.messages

    async def aget_messages(self) -> Any:
        return await self.history.aget_messages()

    def add_messages(self, messages: Any) -> None:
        self.times -= 1
        if self.times < 0 or self.arrives:
            self.history.add_messages(messages)
        if self.times >= 0:
            raise BackendUnavailable("lost")

    async def aadd_messages(self, messages: Any) -> None:
        self.add_messages(messages)


OWN = [("human", "Add."), ("ai", ""), ("tool", "2"), ("ai", "2")]
NEXT = [("human", "Well?"), ("ai", "Well.")]


@pytest.mark.parametrize("arrives", [False, True], ids=["refused", "arrived"])
@pytest.mark.parametrize("resumed", [False, True], ids=["next turn", "resumed"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["same process", "another"])
@every_way
async def test_appending_is_tried_again(
    store: Memstore, way: Any, arrives: bool, resumed: bool, elsewhere: bool
) -> None:
    """A failure is told; then all is appended once, whether it had arrived or not."""
    history, saver = Flaky(begun(store), 1, arrives), InMemorySaver()
    graph = agent(store, [calls(call(1)), "2", "Well."], history=history, checkpointer=saver)
    with pytest.raises(BackendUnavailable, match="lost"):
        await way(graph, say("Add."), thread())
    assert said(store) == BEFORE + (OWN if arrives else [])
    if elsewhere:
        graph = agent(store, [], history=history, checkpointer=saver, model=graph.model)
    if resumed:
        for _ in range(2):  # once more does nothing
            await way(graph, None, thread())
            assert said(store) == BEFORE + OWN
    await way(graph, say("Well?"), thread())
    assert told(graph.model.prompts[-1]) == BEFORE + OWN + NEXT[:1]
    assert said(store) == BEFORE + OWN + NEXT


@every_way
async def test_the_store_is_full(store: Memstore, way: Any) -> None:
    class Full:
        messages: list[Any] = []  # noqa: RUF012

        async def aget_messages(self) -> list[Any]:
            return []

        def add_messages(self, messages: Any) -> None:
            raise BackendFull("out of memory")

        async def aadd_messages(self, messages: Any) -> None:
            raise BackendFull("out of memory")

    with pytest.raises(BackendFull):
        await way(agent(store, ["OK"], history=lambda _: Full()), say("hi"))


@every_way
async def test_what_cannot_be_kept_is_an_error(store: Memstore, way: Any) -> None:
    @tool(response_format="content_and_artifact")
    def make() -> tuple[str, object]:
        """Make something."""
        return "made", object()

    with pytest.raises(MessageEncodeError, match=r"messages\[2\].data.artifact"):
        await way(agent(store, [calls(call(1, "make", x=1)), "OK"], [make]), say("hi"))
    assert said(store) == []


@pytest.mark.parametrize("method", ["ainvoke", "astream"])
async def test_a_run_is_cancelled(store: Memstore, method: str) -> None:
    waiting = asyncio.Event()

    @tool
    async def wait() -> str:
        """Wait."""
        waiting.set()
        await asyncio.sleep(PATIENCE)
        return "too late"

    graph = agent(begun(store), [calls(call(1, "wait", x=1))], [wait])

    async def run() -> None:
        if method == "ainvoke":
            await graph.ainvoke(say("Wait."), SESSION)
        else:
            async for _ in graph.astream(say("Wait."), SESSION):
                pass

    task = asyncio.create_task(run())
    await asyncio.wait_for(waiting.wait(), PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said(store) == BEFORE


async def test_a_stream_that_is_not_read_to_its_end(store: Memstore) -> None:
    graph = agent(begun(store), [calls(call(1)), "2"])
    for part in (parts := graph.stream(say("Add."), SESSION)):
        assert "model" in part
        break
    parts.close()
    aparts = agent(store, [calls(call(1)), "2"]).astream(say("Add."), SESSION)
    assert "model" in await anext(aparts)
    await aparts.aclose()
    assert said(store) == BEFORE


@every_way
async def test_the_session_is_cleared_during_a_run(store: Memstore, way: Any) -> None:
    """What was there stays gone, and with a thread it does not come back with the next turn."""

    @tool
    def clear() -> str:
        """Forget everything."""
        store.history("s").clear()
        return "done"

    graph = agent(
        begun(store), ["Yes.", calls(call(1, "clear", x=1)), "OK", "Who?"], [clear], checkpointer=InMemorySaver()
    )
    await way(graph, say("Well?"), thread())
    await way(graph, say("Forget."), thread())
    own = [("human", "Forget."), ("ai", ""), ("tool", "done"), ("ai", "OK")]
    assert told(graph.model.prompts[2]) == [*BEFORE, ("human", "Well?"), ("ai", "Yes."), *own[:3]]
    assert said(store) == own
    store.history("s").clear()
    await way(graph, say("Who am I?"), thread())
    assert told(graph.model.prompts[3]) == [("human", "Who am I?")]
    assert said(store) == [("human", "Who am I?"), ("ai", "Who?")]


QUESTIONS = [f"question {number}" for number in range(8)]


class EchoModel(AgentModel):
    """Calls a tool with what it was asked, and answers with that."""

    def _next(self, messages: Any) -> AIMessage:
        assert openai_objections(messages) == []
        self.prompts.append(messages)
        question = next(message.text for message in reversed(messages) if message.type == "human")
        done = messages[-1].type == "tool"
        return AIMessage(f"re {question}") if done else calls(call(0, "meet", text=question))


@pytest.mark.parametrize("method", ["invoke", "ainvoke"])
async def test_many_runs_on_one_session(store: Memstore, method: str) -> None:
    """Each run sees only itself, and its messages stand together."""
    barrier, met, all_met = threading.Barrier(8, timeout=PATIENCE), [], asyncio.Event()

    @tool
    def meet(text: str) -> str:
        """Meet the others."""
        barrier.wait()
        return text

    async def ameet(text: str) -> str:
        met.append(text)
        if len(met) == 8:
            all_met.set()
        await all_met.wait()
        return text

    meet.coroutine = ameet
    graph = agent(store, [], [meet], model=(model := EchoModel(answers=[])))
    if method == "invoke":
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda question: graph.invoke(say(question), SESSION), QUESTIONS))
    else:
        await asyncio.wait_for(asyncio.gather(*(graph.ainvoke(say(each), SESSION) for each in QUESTIONS)), PATIENCE)
    kept = said(store)
    blocks = [kept[start : start + 4] for start in range(0, len(kept), 4)]
    assert sorted(blocks) == [
        [("human", question), ("ai", ""), ("tool", question), ("ai", f"re {question}")] for question in QUESTIONS
    ]
    assert sorted(map(len, model.prompts)) == [1] * 8 + [3] * 8
