"""The agent of the demo: its tools, and a model that is scripted and knows nothing but the prompt it is given."""

from __future__ import annotations

import json
import math
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any, NamedTuple

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from typing_extensions import override

PAUSE = 0.01  # seconds between two words of a streamed answer

CITIES = {"Lisbon": (38.72, -9.14), "Porto": (41.15, -8.61), "Madrid": (40.42, -3.70)}  # degrees north and east
EARTH = 6371  # its radius in kilometres


@tool
def distance(start: str, end: str) -> str:
    """Tell how far it is from one city to another, as the crow flies."""
    (north, east), (other_north, other_east) = (map(math.radians, CITIES[city]) for city in (start, end))
    cosine = math.sin(north) * math.sin(other_north)
    cosine += math.cos(north) * math.cos(other_north) * math.cos(east - other_east)
    return f"{EARTH * math.acos(cosine):.0f} km"


@tool
def weekday(day: str) -> str:
    """Tell on which day of the week a date falls, given as YYYY-MM-DD."""
    return date.fromisoformat(day).strftime("%A")


TOOLS = {each.name: each for each in (distance, weekday)}


class Line(NamedTuple):
    """What the model does when it is asked something."""

    calls: tuple[tuple[str, dict[str, str]], ...]
    """The tools that it calls first, all at once."""
    answer: Callable[[Sequence[BaseMessage]], str]
    """Makes the answer of the prompt."""


def _results(prompt: Sequence[BaseMessage]) -> list[str]:
    return [message.text for message in prompt if isinstance(message, ToolMessage)]


def _sum_up(prompt: Sequence[BaseMessage]) -> str:
    legs = [int(result.removesuffix(" km")) for result in _results(prompt) if result.endswith(" km")]
    return f"Lisbon, Porto, Madrid: {' and '.join(map(str, legs))} km, which makes {sum(legs)} km in all."


def _name(prompt: Sequence[BaseMessage]) -> str:
    known = [name for message in prompt for name in re.findall(r"(?:I am|user is) ([A-Z]\w+)", message.text)]
    return f"You are {known[-1]}." if known else "I cannot tell: nothing that I am shown says it."


SCRIPT = {
    "Hello, I am Ada. On 2 May 2026 I leave Lisbon by train.": Line(
        (), lambda prompt: "Good to meet you, Ada. Where are you going?"
    ),
    "To Porto. How far is that, and on which day of the week do I leave?": Line(
        (("distance", {"start": "Lisbon", "end": "Porto"}), ("weekday", {"day": "2026-05-02"})),
        lambda prompt: "It is {} as the crow flies, and you leave on a {}.".format(*_results(prompt)[-2:]),
    ),
    "And from there to Madrid?": Line(
        (("distance", {"start": "Porto", "end": "Madrid"}),),
        lambda prompt: f"Another {_results(prompt)[-1]}.",
    ),
    "Sum the journey up, please.": Line((), _sum_up),
    "What is my name?": Line((), _name),
}


class ScriptedModel(BaseChatModel):
    """A chat model that knows a few questions, and answers in the shape of OpenAI's chat completions."""

    @property
    @override
    def _llm_type(self) -> str:
        return "scripted"

    @override
    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        text, calls = _reply(messages)
        usage = _usage(messages, text, calls)
        message = AIMessage(
            text,
            tool_calls=calls,
            usage_metadata=usage,
            response_metadata={
                "token_usage": {
                    "prompt_tokens": usage["input_tokens"],
                    "completion_tokens": usage["output_tokens"],
                    "total_tokens": usage["total_tokens"],
                },
                "id": f"chatcmpl-{secrets.token_hex(12)}",
                "finish_reason": _finish(calls),
                "logprobs": None,
                **_IDENTITY,
            },
            additional_kwargs={"refusal": None},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    @override
    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        text, calls = _reply(messages)
        for word in re.findall(r"\s*\S+", text):
            time.sleep(PAUSE)
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))
        yield ChatGenerationChunk(
            message=AIMessageChunk(
                content="",
                tool_call_chunks=[
                    tool_call_chunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=index)
                    for index, call in enumerate(calls)
                ],
                usage_metadata=_usage(messages, text, calls),
                response_metadata={"finish_reason": _finish(calls), **_IDENTITY},
                chunk_position="last",
            )
        )


_IDENTITY = {"model_provider": "scripted", "model_name": "scripted-1", "system_fingerprint": "fp_0123456789"}


def _reply(prompt: Sequence[BaseMessage]) -> tuple[str, list[ToolCall]]:
    line = SCRIPT[[message.text for message in prompt if isinstance(message, HumanMessage)][-1]]
    if isinstance(prompt[-1], ToolMessage) or not line.calls:
        return line.answer(prompt), []
    return "", [ToolCall(name=name, args=args, id=f"call_{secrets.token_hex(12)}") for name, args in line.calls]


def _usage(prompt: Sequence[BaseMessage], text: str, calls: list[ToolCall]) -> UsageMetadata:
    given, said = count_tokens_approximately(prompt), count_tokens_approximately([AIMessage(text, tool_calls=calls)])
    return UsageMetadata(input_tokens=given, output_tokens=said, total_tokens=given + said)


def _finish(calls: list[ToolCall]) -> str:
    return "tool_calls" if calls else "stop"


def run_agent(prompt: list[BaseMessage]) -> list[BaseMessage]:
    """Ask the model, and call the tools that it asks for, until it answers.

    Args:
        prompt: The conversation so far and the new message.

    Returns:
        What is new: the calls, their results and the answer.
    """
    said: list[BaseMessage] = []
    while True:
        answer = ScriptedModel().invoke(prompt + said)
        said.append(answer)
        if not answer.tool_calls:
            return said
        said += [TOOLS[call["name"]].invoke(call) for call in answer.tool_calls]
