"""What the tests of agents share: a model that takes down its prompts, and agents around it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.tools import tool
from pydantic import Field

from langchain_memstore import Memstore
from langchain_memstore.integrations.agents import HistoryMiddleware
from support.rules import openai_objections
from support.runs import ScriptedModel


class AgentModel(ScriptedModel):
    """A scripted model that refuses what OpenAI would, and raises an answer that is an error."""

    prompts: list[list[BaseMessage]] = Field(default_factory=list)
    """The prompts."""
    look: Callable[[], object] = lambda: None
    """Called before each answer."""

    def bind(self, **kwargs: Any) -> Any:
        return self

    def _next(self, messages: list[BaseMessage]) -> AIMessage:
        assert openai_objections(messages) == []
        self.prompts.append([message.model_copy(deep=True) for message in messages])
        self.look()
        if isinstance(self.answers[0], Exception):
            raise self.answers.pop(0)
        return super()._next(messages)


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def call(number: int, name: str = "add", **args: Any) -> dict[str, Any]:
    args = args or {"a": number, "b": number}
    return {"name": name, "args": args, "id": f"call {number}", "type": "tool_call"}


def calls(*made: dict[str, Any]) -> AIMessage:
    return AIMessage("", tool_calls=list(made))


def agent(store: Memstore, answers: Iterable[Any], tools: Any = (add,), middleware: Any = (), **options: Any) -> Any:
    """An agent with a memory; its model is `agent.model`."""
    model = options.pop("model", None) or AgentModel(answers=list(answers))
    graph = create_agent(
        model, [*tools], middleware=[HistoryMiddleware(options.pop("history", store.history)), *middleware], **options
    )
    object.__setattr__(graph, "model", model)
    return graph


def told(messages: Iterable[BaseMessage]) -> list[tuple[str, Any]]:
    """Messages as pairs of who and what."""
    return [(message.type, message.content) for message in messages]


def say(text: str) -> dict[str, Any]:
    return {"messages": [("user", text)]}


def thread(thread_id: str = "s") -> dict[str, Any]:
    return {"configurable": {"thread_id": thread_id}}
