"""What the tests of runnables share: the ways to run one, a model that answers by script, what a store has kept."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig, RunnableGenerator
from pydantic import Field

from langchain_memstore import Memstore

SESSION: RunnableConfig = {"configurable": {"session_id": "s"}}


async def invoke(runnable: Runnable, input: Any, config: RunnableConfig | None = SESSION, **kwargs: Any) -> Any:
    return runnable.invoke(input, config, **kwargs)


async def ainvoke(runnable: Runnable, input: Any, config: RunnableConfig | None = SESSION, **kwargs: Any) -> Any:
    return await runnable.ainvoke(input, config, **kwargs)


async def stream(runnable: Runnable, input: Any, config: RunnableConfig | None = SESSION, **kwargs: Any) -> list:
    return list(runnable.stream(input, config, **kwargs))


async def astream(runnable: Runnable, input: Any, config: RunnableConfig | None = SESSION, **kwargs: Any) -> list:
    return [part async for part in runnable.astream(input, config, **kwargs)]


def _ways(*ways: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("way", ways, ids=[way.__name__ for way in ways])


every_way = _ways(invoke, ainvoke, stream, astream)
every_stream = _ways(stream, astream)
"""Make a test run its runnable each way, always to the end."""


def said(store: Memstore, session_id: str = "s") -> list[tuple[str, Any]]:
    """What a store has kept of a conversation, as pairs of who and what."""
    return [(message.type, message.content) for message in store.history(session_id).messages]


def streaming(*parts: Any) -> Runnable:
    """A runnable that streams its output in parts; one that is an error is raised."""

    def sync(_: Iterator[Any]) -> Iterator[Any]:
        for part in parts:
            if isinstance(part, Exception):
                raise part
            yield part

    async def asynchronous(_: Any) -> Any:
        for part in sync(_):
            yield part

    return RunnableGenerator(sync, asynchronous)


class ScriptedModel(BaseChatModel):
    """A chat model that gives its answers in turn; it streams them word by word, and tool calls in two parts each."""

    answers: list[Any]
    seen: list[list[str]] = Field(default_factory=list)
    """The contents of the messages of each prompt."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> ScriptedModel:
        return self

    def _next(self, messages: list[BaseMessage]) -> AIMessage:
        self.seen.append([message.content for message in messages])
        answer = self.answers.pop(0)
        return AIMessage(answer) if isinstance(answer, str) else answer

    def _generate(self, messages: list[BaseMessage], *_: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._next(messages))])

    def _stream(self, messages: list[BaseMessage], *_: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        answer = self._next(messages)
        for word in re.findall(r"\S+\s*", answer.content) or [""]:
            yield ChatGenerationChunk(message=AIMessageChunk(word))
        for index, call in enumerate(answer.tool_calls):
            args = json.dumps(call["args"])
            for name, part, call_id in (call["name"], args[:3], call["id"]), (None, args[3:], None):
                chunk = {"name": name, "args": part, "id": call_id, "index": index}
                yield ChatGenerationChunk(message=AIMessageChunk("", tool_call_chunks=[chunk]))
