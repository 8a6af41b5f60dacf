"""What reads, listings, searches and health endpoints return: plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import singledispatch
from html import escape
from importlib import import_module
from typing import Any, Literal

from langchain_core.messages import BaseMessage


@singledispatch
def notebook_forms(value: object) -> dict[str, str]:
    """Return what a notebook shows of a value, by MIME type; `display.notebook` registers it for each class."""
    return {"text/plain": repr(value), "text/html": escape(repr(value))}


class Shown:
    """Shows itself as HTML in a notebook, and as text at the prompt of IPython. Looking starts no TTL anew."""

    def _repr_html_(self) -> str:
        return self._repr_mimebundle_()["text/html"]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        # What IPython asks for first: one look for both forms, and text where a terminal shows no HTML.
        import_module("langchain_memstore.display.notebook")  # a snapshot that was unpickled has not imported it
        return notebook_forms(self)


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


@dataclass(frozen=True)
class SessionInfo:
    """What is known of a session without reading its messages."""

    session_id: str
    """Which conversation."""
    messages: int
    """How many messages the window holds."""
    turns: int
    """The turn counter."""
    total: int
    """How many messages were ever appended."""
    ttl: float | None
    """Seconds until the session expires; None: it does not."""
    evicted: int
    """How many messages wait to be summarised."""
    summary: bool
    """Whether the session has a summary."""
    created: datetime
    """When the session was first written to."""
    updated: datetime
    """When the session was last written to."""


@dataclass(frozen=True)
class SearchHit:
    """A message that a search over conversations has found."""

    session_id: str
    """In which conversation."""
    message: BaseMessage
    """The message."""


@dataclass(frozen=True)
class SummaryFailure:
    """A summary that could not be made; nothing was lost."""

    session_id: str
    """Of which conversation."""
    cause: str
    """What went wrong."""
    at: datetime
    """When."""


@dataclass(frozen=True)
class Status:
    """How a backend does: what a health endpoint shows."""

    backend: str
    """What serves operations: `redis` or `local`."""
    degraded: bool = False
    """Whether operations are served by the stand-in for a store that cannot be reached."""
    pending: int = 0
    """How many operations wait to be replayed."""
    since: datetime | None = None
    """Since when the backend is degraded; None: it is not."""
    cause: str | None = None
    """Why the backend is degraded; None: it is not."""
    rejected: int = 0
    """How many operations that waited were dropped in this process, for the store will never do them."""
    parked: int = 0
    """How many of the pending operations the store refuses for now; they are tried again every minute, for a day."""
    summary_failures: tuple[SummaryFailure, ...] = ()
    """The last summaries that could not be made in this process, oldest first."""


@dataclass(frozen=True)
class StoreInfo:
    """How the store does. None: it does not say."""

    backend: Literal["redis", "local"]
    """What keeps the values."""
    keys: int
    """How many keys there are, of whatever kind and prefix; inside the process, sessions and values."""
    used_memory: int
    """Bytes in use; inside the process, of what is kept, without what Python adds."""
    peak_memory: int | None
    """The most bytes that ever were in use."""
    clients: int | None
    """How many connections there are."""
    commands_per_second: int
    """How much is being done."""
    hit_rate: float | None
    """Which part of the values that were asked for there were, from 0 to 1, since the start; None: nothing was."""


@dataclass(frozen=True)
class SlowCommand:
    """A command of the server that took long."""

    number: int
    """Its number; of one server, a later one is greater."""
    at: datetime
    """When it was done."""
    seconds: float
    """How long it took."""
    command: str
    """What it was; Redis leaves out what is long."""
