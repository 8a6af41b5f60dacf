"""What a model is to see of a conversation: the summary, then as much of the window as the budget allows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, FunctionMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.utils import count_tokens_approximately

from langchain_memstore.options import COUNT, Policy
from langchain_memstore.window import fit_tokens

logger = logging.getLogger(__name__)

CANCELLED = "This call was cancelled before it had a result."


def build_prompt(window: list[BaseMessage], summary: str, policy: Policy, session_id: str) -> list[BaseMessage]:
    """Put the summary before the window, and keep both within the budget of tokens.

    Args:
        window: The messages of the window, oldest first.
        summary: The rolling summary; empty where there is none.
        policy: The role of the summary's message, the budget, and what becomes of calls without results.
        session_id: Which conversation, for the warning.

    Returns:
        The messages. Where not even the last message with its tool results fits, that is what they end with, and a
        warning is logged: a prompt is never empty.
    """
    if policy.dangling_calls != "keep":
        window = settle_calls(window, answer=policy.dangling_calls == "answer")
    head: list[BaseMessage] = []
    if summary and policy.summary_role is not None:
        role = SystemMessage if policy.summary_role == "system" else HumanMessage
        head.append(role(policy.summary_template.replace("{summary}", summary)))
    if policy.max_tokens is None:
        return head + window
    counter: Any = getattr(policy.token_counter, COUNT, policy.token_counter) or count_tokens_approximately

    def count(run: Sequence[BaseMessage]) -> int:
        return int(counter([*head, *run]))

    kept, fits = fit_tokens(window, policy.max_tokens, count, is_result, starts_turn, policy.window == "turns")
    if not fits:
        logger.warning(
            "session %r: %sthe last messages alone exceed max_tokens=%d; they are returned all the same",
            session_id,
            "the summary and " if head else "",
            policy.max_tokens,
        )
    return head + kept


def is_result(message: BaseMessage) -> bool:
    """Tell whether a message is the result of a call, which no window may start with."""
    return isinstance(message, (ToolMessage, FunctionMessage))


def starts_turn(message: BaseMessage) -> bool:
    """Tell whether a message starts a turn."""
    return isinstance(message, HumanMessage)


def settle_calls(messages: list[BaseMessage], *, answer: bool) -> list[BaseMessage]:
    """Make a conversation acceptable to a model where a run broke off between a call and its result.

    Invalid calls count too: providers are sent them like any other.

    Args:
        messages: The conversation, oldest first.
        answer: Whether a call without a result is answered with a message that says that it was cancelled; else, and
            where the call has no id or no name, the message that made it goes, with the results that it did get.

    Returns:
        The conversation, in which every call has one result, right after it: the last of those that came right after
        it. A result that came later than that goes; one of a call that the conversation does not hold stays.
    """
    groups: list[tuple[BaseMessage, dict[str, BaseMessage]]] = []
    for message in messages:
        if groups and isinstance(message, ToolMessage):
            groups[-1][1][message.tool_call_id] = message
        else:
            groups.append((message, {}))
    settled: list[BaseMessage] = []
    known: set[str] = set()
    for message, results in groups:
        made = (*message.tool_calls, *message.invalid_tool_calls) if isinstance(message, AIMessage) else ()
        calls = {call["id"] or "": call["name"] for call in made}
        known.update(calls)
        missing = {call: name for call, name in calls.items() if call not in results}
        if not missing or (answer and all(missing) and all(missing.values())):
            settled.append(message)
            settled += [result for call, result in results.items() if call in calls or call not in known]
            settled += [
                ToolMessage(CANCELLED, tool_call_id=call, name=name, status="error") for call, name in missing.items()
            ]
    return settled
