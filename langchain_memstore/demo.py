"""A conversation with tool calls, and what the store keeps of it: `python -m langchain_memstore.demo`.

The model is scripted, so nothing is downloaded and no key is needed. All else is real: the messages have the shape that
providers give them, the tools are Python, and the model knows nothing but the prompt that it is given.
"""

from __future__ import annotations

import argparse
import asyncio
import glob
import json
import math
import os
import re
import secrets
import shlex
import sys
import textwrap
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
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool

from langchain_memstore import ChatMessageHistory, Memstore, MemstoreError, RunnableWithHistory, Snapshot
from langchain_memstore.window import legal_start

WIDTH = 100  # columns
MAX_MESSAGES = 8
TTL = 600  # seconds
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
    def _llm_type(self) -> str:
        return "scripted"

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


def converse(store: Memstore, session_id: str) -> None:
    """Hold the conversation, and print it and what the store keeps of it.

    Args:
        store: Where the conversation is kept.
        session_id: Which conversation; one that exists goes on.
    """
    agent = RunnableWithHistory(RunnableLambda(run_agent), store.history)
    chat = RunnableWithHistory(ScriptedModel(), store.history)
    history = store.history(session_id)
    config: Any = {"configurable": {"session_id": session_id}}

    before = history.snapshot()
    where = "Redis" if store.status.backend == "redis" else "this process"
    _note(f"Session {session_id!r}, kept in {where}.")
    _note(f"Its window keeps at most {MAX_MESSAGES} messages; unused, it expires after {TTL} seconds.")
    if before.total:
        _note(f"It exists already, and goes on: {before.total} messages were appended to it before.")

    greet, ask, go_on, sum_up, who = SCRIPT

    for title, question in (
        ("Turn 1: agent.invoke", greet),
        ("Turn 2: agent.invoke, two tool calls at once", ask),
        ("Turn 3: agent.invoke, one tool call", go_on),
    ):
        _title(title)
        _speak([HumanMessage(question), *agent.invoke(question, config)])
        before = _show(history, before)

    _title("Turn 4: chat.stream, the model alone on the same conversation")
    _speak([HumanMessage(sum_up)])
    print("  ai      ", end="", flush=True)
    for chunk in chat.stream(sum_up, config):
        print(chunk.text, end="", flush=True)
    print()
    before = _show(history, before)

    _title("Turn 5: await agent.ainvoke; what was said in turn 1 has left the window")
    _speak([HumanMessage(who), *asyncio.run(agent.ainvoke(who, config))])
    before = _show(history, before)

    _title("Turn 6: agent.invoke, after history.set_summary(...)")
    history.set_summary("The user is Ada, who travels from Lisbon to Madrid by way of Porto.")
    _speak([HumanMessage(who), *agent.invoke(who, config)])
    before = _show(history, before)
    history.touch()
    _note(f"history.touch() starts the TTL anew: {_seconds(before.ttl)}, then {_seconds(history.snapshot().ttl)}")

    _title("Another session of the same store: it knows nothing of the first")
    other = f"{session_id}-other"
    _speak([HumanMessage(who), *agent.invoke(who, {"configurable": {"session_id": other}})])

    _title("store.sessions(...)")
    print(f"  {'session':<40} {'window':>6} {'turns':>6} {'total':>6} {'summary':>8} {'TTL':>9}")
    for info in sorted(store.sessions(f"{glob.escape(session_id)}*"), key=lambda info: info.session_id):
        summary = "yes" if info.summary else "no"
        print(
            f"  {info.session_id:<40} {info.messages:>6} {info.turns:>6} {info.total:>6} {summary:>8} "
            f"{_seconds(info.ttl):>9}"
        )

    if store.status.backend == "redis":
        _title("Keys of the session in Redis; they expire together")
        for key, what in zip(history.keys.siblings(), KINDS, strict=False):
            print(f"  {key:<60} {what}")
        print(f"\n  redis-cli LRANGE {shlex.quote(history.keys.messages)} 0 -1")
    else:
        print("\n  The same in Redis: python -m langchain_memstore.demo --url redis://localhost:6379/0")


KINDS = ("list: the window, oldest first", "hash: total, times, batch ids", "string: turn counter", "string: summary")


def _show(history: ChatMessageHistory, before: Snapshot) -> Snapshot:
    """Print what the store keeps after a turn, and what the turn pushed out."""
    now = history.snapshot()
    new = now.total - before.total
    whole = before.messages + now.messages[-new:]
    left = len(whole) - len(now.messages)
    print()
    if now.summary:
        _note(f'summary "{now.summary}"')
    for index, message in enumerate(now.messages):
        label, text = _brief(message)
        print(_cut(f"  | {index}  {label:<6}{text}"))
    gone = f", {left} pushed out" if left else ""
    print(f"  | window {len(now.messages)} of {MAX_MESSAGES}{gone}; turns {now.turns}; ", end="")
    print(f"total {now.total}; TTL {_seconds(now.ttl)}")
    start = len(whole) - MAX_MESSAGES
    if legal_start(len(whole), start, lambda i: isinstance(whole[i], ToolMessage)) > start >= 0:
        _note(f"The last {MAX_MESSAGES} would begin with a tool result whose call has gone, so it went too.")
    return now


def _title(text: str) -> None:
    print(f"\n{f'-- {text} '.ljust(WIDTH, '-')}")


def _note(text: str) -> None:
    print(textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  "))


def _speak(messages: Sequence[BaseMessage]) -> None:
    for message in messages:
        label, text = _brief(message)
        print(textwrap.fill(text, WIDTH, initial_indent=f"  {label:<8}", subsequent_indent=" " * 10))


def _brief(message: BaseMessage) -> tuple[str, str]:
    """Say who speaks, and what, in one line."""
    if isinstance(message, AIMessage) and message.tool_calls:
        calls = [f"{call['name']}({', '.join(map(repr, call['args'].values()))})" for call in message.tool_calls]
        return "ai", f"calls {', '.join(calls)}"
    if isinstance(message, ToolMessage):
        return "tool", f"{message.name} returns {message.text!r}"
    return message.type, " ".join(message.text.split())


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..."


def _seconds(ttl: float | None) -> str:
    return "none" if ttl is None else f"{ttl:.2f} s"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the demo.

    Args:
        argv: The arguments; by default those of the command line.

    Raises:
        SystemExit: With 2, after one line that says why: the URL makes no sense, or Redis does not serve.
    """
    parser = argparse.ArgumentParser(
        prog="python -m langchain_memstore.demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="A conversation with tool calls, and what the store keeps of it after each turn: the window,\n"
        "the turns, the total and the TTL. The model is scripted: no network, no API key.",
        epilog="examples:\n"
        "  python -m langchain_memstore.demo\n"
        "  python -m langchain_memstore.demo --url redis://localhost:6379/0\n"
        "  python -m langchain_memstore.demo --url redis://localhost:6379/0 --session mine   (again: it goes on)\n"
        '  make demo ARGS="--url redis://localhost:6379/0"',
    )
    parser.add_argument(
        "--url",
        default="memory://",
        help="where to keep the conversation: memory:// (the default; gone with the process), redis://, rediss:// or "
        "unix://",
    )
    parser.add_argument(
        "--session",
        metavar="ID",
        default=f"demo-{secrets.token_hex(3)}",
        help="which conversation; one that exists in Redis goes on (default: a new one)",
    )
    args = parser.parse_args(argv)
    try:
        with Memstore.from_url(args.url, max_messages=MAX_MESSAGES, ttl=TTL, fallback=False) as store:
            converse(store, args.session)
    except (ValueError, MemstoreError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except BrokenPipeError:  # whoever reads the output, `head` for one, has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
