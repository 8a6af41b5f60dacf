"""RunnableWithHistory as a part of something larger: bound, piped, retried, traced, described."""

from __future__ import annotations

import functools
import sys
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import ConfigurableField, RunnableLambda
from langgraph.graph import MessagesState, StateGraph
from pydantic import ValidationError

from langchain_memstore import Memstore, MessageEncodeError, RedisChatMessageHistory, RunnableWithHistory
from support.runs import SESSION, ScriptedModel, every_stream, every_way, said, streaming

PROMPT = ChatPromptTemplate.from_messages(
    [("system", "Speak {language}."), MessagesPlaceholder("past"), ("human", "{question}")]
)
KEYS = {"input_messages_key": "question", "history_messages_key": "past"}


@every_way
async def test_a_prompt_inside(store: Memstore, way: Any) -> None:
    model = ScriptedModel(answers=["Bonjour.", "Ada."])
    chain = RunnableWithHistory(PROMPT | model | StrOutputParser(), store.history, **KEYS)
    await way(chain, {"language": "French", "question": "hi"})
    await way(chain, {"language": "French", "question": "Who?"})
    assert model.seen[1] == ["Speak French.", "hi", "Bonjour.", "Who?"]
    assert said(store) == [("human", "hi"), ("ai", "Bonjour."), ("human", "Who?"), ("ai", "Ada.")]


@every_way
async def test_a_prompt_before_and_a_parser_behind(store: Memstore, way: Any) -> None:
    chain = RunnableWithHistory(ScriptedModel(answers=["one two"]), store.history)
    sequence = ChatPromptTemplate.from_template("Count to {n}.") | chain | StrOutputParser()
    assert "".join(await way(sequence, {"n": 2})) == "one two"
    assert store.history("s").messages[0] == HumanMessage("Count to 2.")
    assert said(store)[1] == ("ai", "one two")


@every_stream
async def test_tokens_come_as_they_are_made(store: Memstore, way: Any) -> None:
    chain = RunnableWithHistory(ScriptedModel(answers=["one two three"]), store.history) | StrOutputParser()
    assert [part for part in await way(chain, "hi") if part] == ["one ", "two ", "three"]


def test_the_first_token_comes_before_the_last_is_made(store: Memstore) -> None:
    made = []

    def model(_: Any) -> Any:
        for token in "OK":
            made.append(token)
            yield token

    parts = RunnableWithHistory(model, store.history).stream("hi", SESSION)
    assert next(parts) == "O" and made == ["O"]
    assert next(parts) == "K" and said(store) == []
    assert list(parts) == [] and said(store) == [("human", "hi"), ("ai", "OK")]


@every_way
async def test_with_config(store: Memstore, way: Any) -> None:
    chain = RunnableWithHistory(lambda _: "OK", store.history).with_config(configurable={"session_id": "mine"})
    await way(chain, "hi", None)
    assert said(store, "mine") == [("human", "hi"), ("ai", "OK")]


@every_way
async def test_a_session_id_at_the_top_of_the_config(store: Memstore, way: Any) -> None:
    await way(RunnableWithHistory(lambda _: "OK", store.history), "hi", {"session_id": "s"})
    assert said(store) == [("human", "hi"), ("ai", "OK")]


@every_way
async def test_bound_arguments_reach_the_runnable(store: Memstore, way: Any) -> None:
    def answer(_: Any, *, stop: list[str]) -> str:
        return stop[0]

    await way(RunnableWithHistory(RunnableLambda(answer), store.history).bind(stop=["END"]), "hi")
    assert said(store) == [("human", "hi"), ("ai", "END")]


async def test_the_config_reaches_the_runnable(store: Memstore) -> None:
    chain = RunnableWithHistory(lambda _, config: config["tags"][0] + config["metadata"]["k"], store.history)
    config = {**SESSION, "tags": ["t"], "metadata": {"k": "v"}}
    assert chain.invoke("hi", config) == await chain.ainvoke("hi", config) == "tv"


def test_a_configurable_runnable(store: Memstore) -> None:
    prompt = PROMPT.partial(language="English").configurable_alternatives(
        ConfigurableField(id="tone"), default_key="plain", rude=ChatPromptTemplate.from_template("Shut up, {question}")
    )
    chain = RunnableWithHistory(prompt | (lambda value: value.to_messages()[-1].content), store.history, **KEYS)
    config = {"configurable": {"session_id": "s", "tone": "rude"}}
    assert chain.invoke({"question": "hi"}, config) == "Shut up, hi"
    assert {spec.id for spec in chain.config_specs} == {"session_id", "tone"}


@pytest.mark.parametrize("method", ["invoke", "ainvoke"])
async def test_retrying(store: Memstore, method: str) -> None:
    errors = [RuntimeError("overloaded")]

    def answer(_: Any) -> str:
        if errors:
            raise errors.pop()
        return "OK"

    chain = RunnableWithHistory(answer, store.history).with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
    assert (chain.invoke("hi", SESSION) if method == "invoke" else await chain.ainvoke("hi", SESSION)) == "OK"
    assert said(store) == [("human", "hi"), ("ai", "OK")]


@every_way
async def test_falling_back(store: Memstore, way: Any) -> None:
    broken = RunnableWithHistory(streaming(RuntimeError("overloaded")), store.history)
    await way(broken.with_fallbacks([RunnableWithHistory(lambda _: "OK", store.history)]), "hi")
    assert said(store) == [("human", "hi"), ("ai", "OK")]


async def test_a_batch_in_which_one_fails(store: Memstore) -> None:
    def answer(messages: list[BaseMessage]) -> str:
        return str(1 / int(messages[-1].content))

    chain = RunnableWithHistory(answer, store.history)
    for outputs in (
        chain.batch(["1", "0"], SESSION, return_exceptions=True),
        await chain.abatch(["1", "0"], SESSION, return_exceptions=True),
    ):
        assert outputs[0] == "1.0" and isinstance(outputs[1], ZeroDivisionError)
    assert said(store) == [("human", "1"), ("ai", "1.0")] * 2


class Recorder(BaseCallbackHandler):
    """Takes down which runs began, under which, and how they ended."""

    run_inline = True

    def __init__(self) -> None:
        self.began: list[tuple[str, str | None]] = []
        self.ended: list[tuple[str, str]] = []
        self._names: dict[Any, str] = {}

    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: Any, parent_run_id: Any, **kwargs: Any) -> None:
        self._names[run_id] = kwargs["name"] or serialized["name"]
        self.began.append((self._names[run_id], self._names.get(parent_run_id)))

    on_chat_model_start = on_chain_start

    def on_chain_end(self, outputs: Any, *, run_id: Any, **kwargs: Any) -> None:
        self.ended.append((self._names[run_id], str(outputs)))

    def on_chain_error(self, error: BaseException, *, run_id: Any, **kwargs: Any) -> None:
        self.ended.append((self._names[run_id], type(error).__name__))


@every_way
async def test_a_run_and_what_it_runs_are_traced(store: Memstore, way: Any) -> None:
    recorder = Recorder()
    chain = RunnableWithHistory(ScriptedModel(answers=["OK", "OK"]), store.history)
    await way(chain, "hi", {**SESSION, "callbacks": [recorder]})
    await way(chain, "hi", {**SESSION, "callbacks": [recorder], "run_name": "turn"})
    model = "ScriptedModel"
    assert recorder.began == [
        ("RunnableWithHistory", None),
        (model, "RunnableWithHistory"),
        ("turn", None),
        (model, "turn"),
    ]
    assert [name for name, _ in recorder.ended] == ["RunnableWithHistory", "turn"]


@every_way
async def test_a_run_that_cannot_be_saved_is_traced_as_failed(store: Memstore, way: Any) -> None:
    recorder = Recorder()
    chain = RunnableWithHistory(lambda _: AIMessage("OK", additional_kwargs={"odd": object()}), store.history)
    with pytest.raises(MessageEncodeError):
        await way(chain, "hi", {**SESSION, "callbacks": [recorder]})
    assert recorder.ended[-1] == ("RunnableWithHistory", "MessageEncodeError")


async def test_astream_events(store: Memstore) -> None:
    chain = RunnableWithHistory(ScriptedModel(answers=["one two"]), store.history)
    events = [event async for event in chain.astream_events("hi", SESSION, version="v2")]
    tokens = [event["data"]["chunk"].content for event in events if event["event"] == "on_chat_model_stream"]
    assert "".join(tokens) == "one two" and len(tokens) > 1
    assert [events[0]["event"], events[-1]["event"]] == ["on_chain_start", "on_chain_end"]
    assert events[0]["name"] == events[-1]["name"] == "RunnableWithHistory"
    assert events[-1]["data"]["output"].content == "one two"
    assert said(store) == [("human", "hi"), ("ai", "one two")]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tasks carry no context there")
@every_way
async def test_within_another_runnable(store: Memstore, way: Any) -> None:
    """It takes the config from its surroundings."""
    chain = RunnableWithHistory(lambda _: "OK", store.history)
    outer = RunnableLambda(lambda text: chain.invoke(text), afunc=lambda text: chain.ainvoke(text))
    await way(outer, "hi")
    assert said(store) == [("human", "hi"), ("ai", "OK")]


def test_config_schema(store: Memstore) -> None:
    chain = RunnableWithHistory(lambda _: "OK", store.history)
    assert [spec.id for spec in chain.config_specs] == ["session_id"]
    assert "session_id" in str(chain.config_schema().model_json_schema())


def test_schema_of_messages(store: Memstore) -> None:
    schema = RunnableWithHistory(ScriptedModel(answers=[]), store.history).get_input_schema()
    assert schema.model_validate("hi").root == "hi"
    assert schema.model_validate(HumanMessage("hi")).root == HumanMessage("hi")
    assert schema.model_validate([{"type": "human", "content": "hi"}]).root == [HumanMessage("hi")]
    assert schema.model_json_schema()["title"] == "RunnableWithHistoryInput"
    with pytest.raises(ValidationError):
        schema.model_validate(5)


def test_schema_of_a_dict(store: Memstore) -> None:
    chain = RunnableWithHistory(PROMPT | ScriptedModel(answers=[]), store.history, **KEYS)
    schema = chain.get_input_schema()
    assert schema.model_fields.keys() == {"language", "question"}
    assert schema.model_validate({"language": "French", "question": "hi"}).question == "hi"
    assert schema.model_validate({"language": "French", "question": [HumanMessage("hi")]})
    with pytest.raises(ValidationError):
        schema.model_validate({"language": "French"})
    assert set(chain.get_input_jsonschema()["properties"]) == {"language", "question"}


def test_schema_of_a_dict_where_the_runnable_tells_nothing(store: Memstore) -> None:
    chain = RunnableWithHistory(lambda _: "OK", store.history, input_messages_key="question")
    assert chain.get_input_schema().model_fields.keys() == {"question"}


def test_schema_of_the_output(store: Memstore) -> None:
    runnable = RunnableLambda(lambda _: "OK").with_types(output_type=str)
    assert RunnableWithHistory(runnable, store.history).get_output_schema().model_validate("OK").root == "OK"
    assert RunnableWithHistory(runnable, store.history).OutputType is str


def test_schemas_of_a_graph(store: Memstore) -> None:
    graph = StateGraph(MessagesState).add_node("agent", lambda _: {}).set_entry_point("agent").compile()
    chain = RunnableWithHistory(graph, store.history, input_messages_key="messages")
    assert chain.get_input_schema().model_validate({"messages": "hi"}).messages == "hi"
    assert "messages" in chain.get_output_jsonschema()["properties"]


def test_graph_and_prompts(store: Memstore) -> None:
    chain = RunnableWithHistory(PROMPT | ScriptedModel(answers=[]), store.history, **KEYS)
    assert {"ChatPromptTemplate", "ScriptedModel"} <= {node.name for node in chain.get_graph().nodes.values()}
    assert "ScriptedModel" in (chain | StrOutputParser()).get_graph().draw_mermaid()
    assert chain.get_prompts() == [PROMPT]


def test_repr_tells_no_secrets() -> None:
    factory = functools.partial(RedisChatMessageHistory, redis_url="redis://:hunter2@localhost:6379/0")
    assert repr(RunnableWithHistory(PROMPT, factory)) == "RunnableWithHistory(runnable=ChatPromptTemplate)"
