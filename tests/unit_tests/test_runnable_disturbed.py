"""RunnableWithHistory where something comes between: other runs, the end of the session, errors, cancelling."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableGenerator, RunnableLambda

from langchain_memstore import BackendFull, Memstore, RunnableWithHistory
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.ops.session import Append
from support.runs import SESSION, every_stream, every_way, said, streaming

PATIENCE = 10  # seconds

if_asked = pytest.mark.parametrize(
    ("save_input", "kept"), [(False, []), (True, [("human", "hi")])], ids=["nothing is kept", "the input is kept"]
)


def full() -> Memstore:
    """A store that answers reads, and has no memory left for appends."""

    class Full(LocalBackend):
        def execute(self, op: Any) -> Any:
            if isinstance(op, Append):
                raise BackendFull("out of memory")
            return super().execute(op)

    return Memstore(Full())


def meeting(size: int) -> Callable[[list[BaseMessage]], str]:
    """A runnable that answers when so many runs have begun."""
    barrier = threading.Barrier(size)

    def answer(messages: list[BaseMessage]) -> str:
        barrier.wait(PATIENCE)
        return f"re {messages[-1].content}"

    return answer


def ameeting(size: int) -> RunnableLambda:
    """The same, for tasks."""
    begun: list[BaseMessage] = []
    all_have = asyncio.Event()

    async def answer(messages: list[BaseMessage]) -> str:
        begun.append(messages[-1])
        if len(begun) == size:
            all_have.set()
        await asyncio.wait_for(all_have.wait(), PATIENCE)
        return f"re {messages[-1].content}"

    return RunnableLambda(answer)


QUESTIONS = [f"question {number}" for number in range(8)]


def assert_all_turns(store: Memstore) -> None:
    """Every turn is kept once, and its messages stand together."""
    kept = said(store)
    assert sorted(kept[::2]) == [("human", question) for question in QUESTIONS]
    assert kept[1::2] == [("ai", f"re {question}") for _, question in kept[::2]]


def test_batch_on_one_session(store: Memstore) -> None:
    chain = RunnableWithHistory(meeting(8), store.history)
    outputs = chain.batch(QUESTIONS, {**SESSION, "max_concurrency": 8})
    assert outputs == [f"re {question}" for question in QUESTIONS]
    assert_all_turns(store)


async def test_abatch_on_one_session(store: Memstore) -> None:
    outputs = await RunnableWithHistory(ameeting(8), store.history).abatch(QUESTIONS, SESSION)
    assert outputs == [f"re {question}" for question in QUESTIONS]
    assert_all_turns(store)


@pytest.mark.parametrize("method", ["invoke", "stream"])
def test_threads_on_one_session(store: Memstore, method: str) -> None:
    chain = RunnableWithHistory(meeting(8), store.history)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda question: list(getattr(chain, method)(question, SESSION)), QUESTIONS))
    assert_all_turns(store)


async def test_tasks_on_one_session(store: Memstore) -> None:
    chain = RunnableWithHistory(ameeting(8), store.history)

    async def read(question: str) -> None:
        assert [part async for part in chain.astream(question, SESSION)] == [f"re {question}"]

    await asyncio.gather(*map(read, QUESTIONS[:4]), *(chain.ainvoke(question, SESSION) for question in QUESTIONS[4:]))
    assert_all_turns(store)


@pytest.mark.parametrize("keys", [{}, {"input_messages_key": "messages"}], ids=["list", "dict"])
@pytest.mark.parametrize("end", ["clear", "lapse"])
@every_way
@pytest.mark.usefixtures("passing_time")
async def test_the_session_ends_during_a_run(store: Memstore, way: Any, end: str, keys: Any) -> None:
    """What was there stays gone, and the run's own messages start the new conversation."""

    def answer(prompt: Any) -> Any:
        if end == "clear":
            store.history("s").clear()
        else:
            store.history("s", ttl=0.001).touch()
            time.sleep(0.01)
        assert said(store) == []
        return {**prompt, "messages": [*prompt["messages"], AIMessage("OK")]} if keys else "OK"

    store.history("s").add_messages([HumanMessage("long"), AIMessage("ago")])
    await way(RunnableWithHistory(answer, store.history, **keys), {"messages": "hi"} if keys else "hi")
    assert said(store) == [("human", "hi"), ("ai", "OK")]


@every_way
async def test_the_window_moves_during_a_run(store: Memstore, way: Any) -> None:
    """It moves twice: past the call that heads it, which takes the tool's result along, and then by whole runs."""
    call = {"name": "add", "args": {}, "id": "c1"}

    def history(session_id: str) -> Any:
        return store.history(session_id, max_messages=4)

    def answer(messages: list[BaseMessage]) -> list[BaseMessage]:
        history("s").add_messages([HumanMessage("meanwhile")])
        assert len(history("s").messages) == 3
        return [*messages, AIMessage("OK")]

    history("s").add_messages(
        [AIMessage("", tool_calls=[call]), ToolMessage("3", tool_call_id="c1"), AIMessage("3"), HumanMessage("so")]
    )
    await way(RunnableWithHistory(answer, history), "hi")
    assert said(store) == [("human", "so"), ("human", "meanwhile"), ("human", "hi"), ("ai", "OK")]
    assert store.history("s").snapshot().total == 7


@pytest.mark.parametrize("save_input", [False, True])
@every_way
async def test_saving_fails(way: Any, save_input: bool) -> None:
    store = full()
    with pytest.raises(BackendFull):
        await way(RunnableWithHistory(lambda _: "OK", store.history, save_input_on_error=save_input), "hi")
    assert said(store) == []


@if_asked
@every_way
async def test_the_model_raises(store: Memstore, way: Any, save_input: bool, kept: Any) -> None:
    def fail(_: Any) -> str:
        raise RuntimeError("overloaded")

    with pytest.raises(RuntimeError, match="overloaded"):
        await way(RunnableWithHistory(fail, store.history, save_input_on_error=save_input), "hi")
    assert said(store) == kept


@if_asked
@every_stream
async def test_the_model_raises_in_mid_stream(store: Memstore, way: Any, save_input: bool, kept: Any) -> None:
    chain = RunnableWithHistory(streaming("O", RuntimeError("cut")), store.history, save_input_on_error=save_input)
    with pytest.raises(RuntimeError, match="cut"):
        await way(chain, "hi")
    assert said(store) == kept


@if_asked
@every_way
async def test_an_answer_that_is_none_is_an_error(store: Memstore, way: Any, save_input: bool, kept: Any) -> None:
    with pytest.raises(ValueError, match="output must be"):
        await way(RunnableWithHistory(lambda _: None, store.history, save_input_on_error=save_input), "hi")
    assert said(store) == kept


@every_way
async def test_where_the_input_cannot_be_saved_either_both_errors_are_told(way: Any) -> None:
    def fail(_: Any) -> str:
        raise RuntimeError("overloaded")

    with pytest.raises(BackendFull) as error:
        await way(RunnableWithHistory(fail, full().history, save_input_on_error=True), "hi")
    assert isinstance(error.value.__context__, RuntimeError)


@if_asked
def test_a_stream_closed_early(store: Memstore, save_input: bool, kept: Any) -> None:
    chain = RunnableWithHistory(streaming("O", "K"), store.history, save_input_on_error=save_input)
    parts = chain.stream("hi", SESSION)
    assert next(parts) == "O"
    parts.close()
    assert said(store) == kept


@if_asked
async def test_an_async_stream_closed_early(store: Memstore, save_input: bool, kept: Any) -> None:
    chain = RunnableWithHistory(streaming("O", "K"), store.history, save_input_on_error=save_input)
    parts = chain.astream("hi", SESSION)
    assert await anext(parts) == "O"
    await parts.aclose()
    assert said(store) == kept


@if_asked
def test_a_stream_abandoned(store: Memstore, save_input: bool, kept: Any) -> None:
    chain = RunnableWithHistory(streaming("O", "K"), store.history, save_input_on_error=save_input)
    for part in chain.stream("hi", SESSION):
        assert part == "O"
        break
    gc.collect()
    assert said(store) == kept


@if_asked
async def test_an_async_stream_abandoned(store: Memstore, save_input: bool, kept: Any) -> None:
    ended = asyncio.Event()

    async def model(_: Any) -> AsyncIterator[str]:
        try:
            yield "O"
            yield "K"
        finally:
            ended.set()

    chain = RunnableWithHistory(RunnableGenerator(model), store.history, save_input_on_error=save_input)
    async for part in chain.astream("hi", SESSION):
        assert part == "O"
        break
    gc.collect()  # has the event loop close it
    await asyncio.wait_for(ended.wait(), PATIENCE)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others)
    assert said(store) == kept


def test_closing_a_stream_closes_that_of_the_model() -> None:
    ended = []

    def model(_: Iterator[Any]) -> Iterator[str]:
        try:
            yield "O"
            yield "K"
        finally:
            ended.append(True)

    parts = RunnableWithHistory(RunnableGenerator(model), Memstore.from_url().history).stream("hi", SESSION)
    next(parts)
    parts.close()
    assert ended


async def test_closing_an_async_stream_closes_that_of_the_model() -> None:
    ended = []

    async def model(_: AsyncIterator[Any]) -> AsyncIterator[str]:
        try:
            yield "O"
            yield "K"
        finally:
            ended.append(True)

    parts = RunnableWithHistory(RunnableGenerator(model), Memstore.from_url().history).astream("hi", SESSION)
    await anext(parts)
    await parts.aclose()
    assert ended


async def test_closing_a_stream_whose_input_cannot_be_saved_raises() -> None:
    chain = RunnableWithHistory(streaming("O", "K"), full().history, save_input_on_error=True)
    parts = chain.stream("hi", SESSION)
    next(parts)
    with pytest.raises(BackendFull):
        parts.close()
    aparts = chain.astream("hi", SESSION)
    await anext(aparts)
    with pytest.raises(BackendFull):
        await aparts.aclose()


class Hanging:
    """A model that begins to answer, and never ends."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.runnable = RunnableGenerator(self._stream)

    async def _stream(self, _: Any) -> AsyncIterator[str]:
        yield "O"
        self.begun.set()
        await asyncio.Event().wait()

    async def begins(self) -> None:
        await asyncio.wait_for(self.begun.wait(), PATIENCE)


@if_asked
@pytest.mark.parametrize("method", ["ainvoke", "astream"])
async def test_cancelling(store: Memstore, method: str, save_input: bool, kept: Any) -> None:
    model = Hanging()
    chain = RunnableWithHistory(model.runnable, store.history, save_input_on_error=save_input)

    async def run() -> None:
        async for _ in chain.astream("hi", SESSION):
            pass

    task = asyncio.create_task(run() if method == "astream" else chain.ainvoke("hi", SESSION))
    await model.begins()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said(store) == kept


async def test_cancelling_time_and_again_does_not_keep_the_input_from_being_saved() -> None:
    """As web frameworks do whose client has gone."""
    saving, may_save, saved = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Slow:
        async def aget_messages(self) -> list[BaseMessage]:
            return []

        async def aadd_messages(self, messages: list[BaseMessage]) -> None:
            saving.set()
            await may_save.wait()
            assert messages == [HumanMessage("hi")]
            saved.set()

    model = Hanging()
    chain = RunnableWithHistory(model.runnable, lambda: Slow(), save_input_on_error=True)
    task = asyncio.create_task(chain.ainvoke("hi"))
    await model.begins()
    task.cancel()
    await asyncio.wait_for(saving.wait(), PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    may_save.set()
    await asyncio.wait_for(saved.wait(), PATIENCE)


async def test_a_timeout(store: Memstore) -> None:
    model = Hanging()
    task = asyncio.create_task(
        RunnableWithHistory(model.runnable, store.history, save_input_on_error=True).ainvoke("hi", SESSION)
    )
    await model.begins()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(task, 0.01)
    assert said(store) == [("human", "hi")]
