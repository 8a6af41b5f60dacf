"""Finding messages by what they say."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from itertools import islice

from langchain_core.messages import AIMessage, BaseMessage

from langchain_memstore.options import check_count


class Query:
    """What to look for in messages.

    Args:
        text: What a message's text, or its tool calls, must hold.
        case_sensitive: Whether capitals matter.
        types: The types of messages to look at, such as `human` and `ai`; None: all.
        limit: The most messages to find; None: all.

    Raises:
        ValueError: An argument makes no sense.
    """

    def __init__(
        self,
        text: str,
        case_sensitive: bool = False,
        types: Collection[str] | None = None,
        limit: int | None = None,
    ) -> None:
        if not isinstance(text, str) or not text:
            raise ValueError(f"text must be a non-empty string, not {text!r}")
        check_count("limit", limit, optional=True)
        if isinstance(types, str):
            types = (types,)
        self._text = text if case_sensitive else text.casefold()
        self._case_sensitive = case_sensitive
        self._types = types
        self.limit = limit

    def matches(self, message: BaseMessage) -> bool:
        """Tell whether a message is what is looked for."""
        if self._types is not None and message.type not in self._types:
            return False
        text = _searchable(message)
        return self._text in (text if self._case_sensitive else text.casefold())

    def first(self, messages: Iterable[BaseMessage]) -> list[BaseMessage]:
        """Return the first of the messages that match, up to the limit."""
        return list(islice(filter(self.matches, messages), self.limit))


def _searchable(message: BaseMessage) -> str:
    text = str(message.text)
    if isinstance(message, AIMessage) and message.tool_calls:
        for call in message.tool_calls:
            text += f"\n{call['name']} {json.dumps(call['args'], ensure_ascii=False, default=str)}"
    return text
