"""What model providers ask of the order of the messages in a prompt, as strictly as any of them refuses it.

Chat Completions of OpenAI answers 400 to
- "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'",
- "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'",
- "Duplicate value for 'tool_call_id'".

The Messages API of Anthropic answers 400 to the same mistakes (`tool_use` without `tool_result` blocks immediately
after, `tool_result` without a `tool_use` in the previous message), and to
- "messages: first message must use the "user" role".

Its system prompt is no message: langchain-anthropic takes the system messages at the head for it; further down, one is
moved to the head with a warning, or refused, and more are refused. Consecutive messages of one role are no mistake, as
the APIs or their adapters merge them. The adapters send the invalid tool calls of a message as calls, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import dropwhile

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

NOT_THE_USER = "the first message is not the user's"


def openai_objections(messages: Sequence[BaseMessage]) -> list[str]:
    """What OpenAI has against the order of the messages; nothing where it accepts them."""
    objections: list[str] = []
    waiting: list[str] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            if message.tool_call_id in waiting:
                waiting.remove(message.tool_call_id)
            else:
                objections.append(f"result {message.tool_call_id} answers no call right before it")
        else:
            objections += _unanswered(waiting)
            waiting = _calls(message)
    return objections + _unanswered(waiting)


def anthropic_objections(messages: Sequence[BaseMessage]) -> list[str]:
    """What Anthropic has against the order of the messages; nothing where it accepts them."""
    objections = openai_objections(messages)
    spoken = list(dropwhile(_is_system, messages))
    if not spoken or not isinstance(spoken[0], HumanMessage):
        objections.append(NOT_THE_USER)
    objections += [f"system message {message.text!r} is not at the head" for message in spoken if _is_system(message)]
    return objections


def _calls(message: BaseMessage) -> list[str]:
    if not isinstance(message, AIMessage):
        return []
    return [str(call["id"]) for call in (*message.tool_calls, *message.invalid_tool_calls)]


def _unanswered(calls: list[str]) -> list[str]:
    return [f"call {call} has no result right after it" for call in calls]


def _is_system(message: BaseMessage) -> bool:
    return isinstance(message, SystemMessage)
