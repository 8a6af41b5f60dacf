"""What a model is to see of a conversation: the summary, then as much of the window as the budget allows."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from langchain_core.messages import (
    BaseMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.utils import count_tokens_approximately

from langchain_memstore.options import Policy
from langchain_memstore.window import fit_tokens

logger = logging.getLogger(__name__)


def build_prompt(window: list[BaseMessage], summary: str, policy: Policy, session_id: str) -> list[BaseMessage]:
    """Put the summary before the window, and keep both within the budget of tokens.

    Args:
        window: The messages of the window, oldest first.
        summary: The rolling summary; empty where there is none.
        policy: The role of the summary's message, and the budget.
        session_id: Which conversation, for the warning.

    Returns:
        The messages. Where not even the last message with its tool results fits, that is what they end with, and a
        warning is logged: a prompt is never empty.
    """
    head: list[BaseMessage] = []
    if summary and policy.summary_role is not None:
        role = SystemMessage if policy.summary_role == "system" else HumanMessage
        head.append(role(f"Summary of the conversation so far:\n{summary}"))
    if policy.max_tokens is None:
        return head + window
    counter = policy.token_counter or count_tokens_approximately

    def count(run: Sequence[BaseMessage]) -> int:
        return counter([*head, *run])

    start, fits = fit_tokens(window, policy.max_tokens, count, is_result)
    if not fits:
        logger.warning(
            "session %r: the last messages alone exceed max_tokens=%d; they are returned all the same",
            session_id,
            policy.max_tokens,
        )
    return head + window[start:]


def is_result(message: BaseMessage) -> bool:
    """Tell whether a message is the result of a call, which no window may start with."""
    return isinstance(message, (ToolMessage, FunctionMessage))
