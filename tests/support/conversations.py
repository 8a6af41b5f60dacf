"""Conversations for tests, and what a store should keep of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any

from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

RESULT = ToolMessage("found", tool_call_id="a")

turns = st.lists(st.integers(0, 3), max_size=4)
"""A turn, as how many tools the model calls at a time after each other: [2, 1, 0] is a human message, two parallel
calls with their results, one call with its result, and an answer."""


def converse(turns: Iterable[Iterable[int]]) -> list[BaseMessage]:
    """Make a conversation of such turns, in which every message says which one it is, as its id does."""
    numbers = map(str, count())
    messages: list[BaseMessage] = []
    for steps in turns:
        number = next(numbers)
        messages.append(HumanMessage(f"human {number}", id=number))
        for calls in steps:
            number = next(numbers)
            made = [{"name": "look", "args": {"at": call}, "id": f"{number}.{call}"} for call in range(calls)]
            messages.append(AIMessage(f"ai {number}", id=number, tool_calls=made))
            messages += [
                ToolMessage(f"tool {number}", id=number, tool_call_id=call["id"])
                for call, number in zip(made, numbers, strict=False)
            ]
    return messages


batches = st.lists(
    st.lists(
        st.sampled_from([HumanMessage("hi"), AIMessage("hello"), SystemMessage("be brief"), RESULT, RESULT]),
        min_size=1,
        max_size=6,
    ),
    max_size=8,
)
"""Messages in any order, legal or not, as a store is given them."""


@dataclass
class Bounds:
    """What a store is to keep: the rules of `langchain_memstore.window`, said plainly."""

    max_messages: int | None
    max_turns: int | None
    whole_turns: bool

    def options(self) -> dict[str, Any]:
        """The options of the store."""
        return {
            "max_messages": self.max_messages,
            "max_turns": self.max_turns,
            "window": "turns" if self.whole_turns else "pairs",
        }

    def window(self, messages: list[BaseMessage]) -> list[BaseMessage]:
        """What the store should keep of messages."""
        humans = [at for at, message in enumerate(messages) if isinstance(message, HumanMessage)]
        legal = [at for at, message in enumerate(messages) if not isinstance(message, ToolMessage)]
        start = max(
            humans[-self.max_turns] if self.max_turns and len(humans) >= self.max_turns else 0,
            len(messages) - self.max_messages if self.max_messages else 0,
        )
        if start <= 0:
            return messages
        good = [at for at in humans if at >= start] if self.whole_turns else []
        good = good or [at for at in legal if at >= start]
        return messages[min(good) if good else max(legal, default=start) :]


bounds = st.builds(Bounds, st.none() | st.integers(1, 8), st.none() | st.integers(1, 3), st.booleans())
