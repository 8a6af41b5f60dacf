"""A conversation at one moment."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_core.messages import BaseMessage


@dataclass(frozen=True)
class Snapshot:
    """All there is of a session at one moment."""

    messages: list[BaseMessage]
    """The window, oldest first, without the summary."""
    summary: str | None
    """The rolling summary; None: there is none."""
    turns: int
    """The turn counter."""
    total: int
    """How many messages were ever appended."""
    evicted: int
    """How many messages have left the window and wait to be summarised."""
    summarized: int
    """How many messages the summaries have covered so far."""
    lost: int
    """How many messages were dropped while they waited, for `max_evicted` was reached."""
    ttl: float | None
    """Seconds until the session would have expired when it was read; None: it does not expire."""

    def _repr_html_(self) -> str:
        """Show the conversation in a notebook."""
        from langchain_memstore.display import conversation_html

        return conversation_html("snapshot", self)
