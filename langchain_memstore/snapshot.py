"""What a read tells of a conversation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_core.messages import BaseMessage

from langchain_memstore.shown import Shown

if TYPE_CHECKING:
    from langchain_memstore.display import Page


@dataclass(frozen=True)
class Snapshot(Shown):
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

    def _page(self) -> Page:
        from langchain_memstore import display

        return display.snapshot_page(self)
