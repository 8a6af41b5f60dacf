"""What makes a summary: a chat model, a Runnable, or a function."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar, get_args

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import Runnable

T = TypeVar("T")

INSTRUCTIONS = """\
You keep the running summary of a conversation between a person and an assistant. The older messages below are about \
to leave the assistant's view: all it will know of them is your summary.

Write the new summary. Merge what the previous summary says with what the messages add. Keep facts, names, numbers, \
dates, identifiers, decisions, preferences, promises, and what is still open. Keep what tools found out, not how they \
were called. Leave out greetings and small talk. Where the messages correct something, keep the correction only. \
Write in the language of the conversation, in the third person, and answer with the summary alone."""


def summary_prompt(previous: str, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Make the prompt that asks a chat model for a summary.

    Args:
        previous: The summary so far; empty where there is none.
        messages: What the new summary adds, oldest first.
    """
    text = f"Previous summary:\n{previous or '(none)'}\n\nMessages:\n{transcript(messages)}"
    return [SystemMessage(INSTRUCTIONS), HumanMessage(text)]


def transcript(messages: Sequence[BaseMessage]) -> str:
    """Write messages down as a person reads them, tool calls and their results included."""
    return "\n".join(line for message in messages for line in _lines(message))


_ROLES = {"human": "Human", "ai": "Assistant", "system": "System", "function": "Result", "tool": "Result"}


def _lines(message: BaseMessage) -> list[str]:
    role = _ROLES.get(message.type) or str(getattr(message, "role", message.type)).capitalize()
    if isinstance(message, ToolMessage):
        role = f"Result of {message.name or 'tool'} ({message.tool_call_id})"
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    blocks = [] if isinstance(message.content, str) else message.content
    said = [str(message.text), *(_described(block) for block in blocks if isinstance(block, dict))]
    text = " ".join(filter(None, said))
    lines = [f"{role}: {text}"] if text or not calls else []
    for call in calls:
        arguments = json.dumps(call["args"], ensure_ascii=False, default=str)
        lines.append(f"{role} calls {call['name']} ({call['id']}): {arguments}")
    return lines


_TOLD_OTHERWISE = {"text", "tool_use", "tool_call", "function_call", "thinking", "redacted_thinking", "reasoning"}
_MEDIA = {"image", "image_url", "input_image", "audio", "input_audio", "video", "media", "file", "document"}


def _described(block: dict[str, Any]) -> str:
    """Say what a block of content is, unless it is said otherwise or only a thought."""
    kind = block.get("type")
    if kind in _TOLD_OTHERWISE:
        return ""
    return f"[{kind}]" if kind in _MEDIA else json.dumps(block, ensure_ascii=False, default=str)


def summarize(summarizer: Any, previous: str, messages: list[BaseMessage]) -> str:
    """Make a summary; an async function runs on an event loop of its own.

    Returns:
        The summary; empty where there is none in the answer.

    Raises:
        Exception: Whatever the summarizer raises.
    """
    if isinstance(summarizer, Runnable):
        return _text(summarizer.invoke(_input(summarizer, previous, messages)))
    answer = summarizer(previous, messages)
    return _text(_run(answer) if inspect.iscoroutine(answer) else answer)


async def asummarize(summarizer: Any, previous: str, messages: list[BaseMessage]) -> str:
    """Make a summary; the async variant of `summarize`. A function that is not async runs in a thread."""
    if isinstance(summarizer, Runnable):
        return _text(await summarizer.ainvoke(_input(summarizer, previous, messages)))
    if _is_async(summarizer):
        return _text(await summarizer(previous, messages))
    answer = await asyncio.to_thread(summarizer, previous, messages)
    return _text(await answer if inspect.isawaitable(answer) else answer)


def _input(runnable: Runnable[Any, Any], previous: str, messages: list[BaseMessage]) -> Any:
    try:
        takes_a_prompt = list[AnyMessage] in get_args(runnable.InputType)  # as chat models, and whatever wraps them, do
    except TypeError:  # it does not say
        takes_a_prompt = False
    return summary_prompt(previous, messages) if takes_a_prompt else {"previous": previous, "messages": messages}


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _run(answer: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from a function, whether or not this thread runs an event loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(copy_context().run, asyncio.run, answer).result()


def _text(answer: Any) -> str:
    if isinstance(answer, BaseMessage):
        answer = answer.text
    if not isinstance(answer, str):
        raise TypeError(f"the summarizer returned {type(answer).__name__}, not a text")
    return answer.encode(errors="replace").decode().strip()  # without lone surrogates, which no store could keep
