"""The demo itself: a conversation, and what the store keeps of it after each turn."""

from __future__ import annotations

import argparse
import asyncio
import glob
import os
import secrets
import shlex
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda

from langchain_memstore import ChatMessageHistory, Memstore, MemstoreError, RunnableWithHistory, Snapshot
from langchain_memstore.demo.agent import SCRIPT, ScriptedModel, run_agent
from langchain_memstore.window import legal_start

WIDTH = 100  # columns
MAX_MESSAGES = 8
TTL = 600  # seconds


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


KINDS = ("list: the window, oldest first", "hash: total, times, write ids", "string: turn counter", "string: summary")


def _show(history: ChatMessageHistory, before: Snapshot) -> Snapshot:
    """Print what the store keeps after a turn, and what the turn pushed out."""
    now = history.snapshot()
    new = now.total - before.total
    whole = before.messages + now.messages[-new:]
    pushed_out = len(whole) - len(now.messages)
    print()
    if now.summary:
        _note(f'summary "{now.summary}"')
    for index, message in enumerate(now.messages):
        label, text = _brief(message)
        print(_cut(f"  | {index}  {label:<6}{text}"))
    gone = f", {pushed_out} pushed out" if pushed_out else ""
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
