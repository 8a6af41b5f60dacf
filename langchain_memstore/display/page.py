"""What is shown of a conversation or a store: a plain value, which `text` and `html` write down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from langchain_core.messages import BaseMessage

if TYPE_CHECKING:
    from langchain_memstore.models import SessionInfo, Snapshot, Status

FIRST, LAST = 5, 50  # messages that are shown of a conversation, at its beginning and its end
ROWS = 20  # sessions that are shown of a store
FAILURES = 5  # summaries that could not be made, of which a store tells
LONGEST = 4000  # characters that are shown of one text
LONGEST_NAME = 120  # characters that are shown of an id or a name


@dataclass(frozen=True)
class Table:
    """Rows under headings."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Page:
    """What is shown: each of its parts in this order, where there is something in it."""

    title: str = ""
    """A name."""
    facts: tuple[str, ...] = ()
    """What is known, in a few words each."""
    problems: tuple[str, ...] = ()
    """What is wrong, each in a sentence."""
    summary: str | None = None
    """The summary of a conversation."""
    messages: Sequence[BaseMessage] = ()
    """The messages of a conversation, oldest first."""
    table: Table | None = None
    """The sessions of a store."""
    note: str = ""
    """What the table does not show."""

    def excerpt(self) -> tuple[Sequence[BaseMessage], int, Sequence[BaseMessage]]:
        """Return the first messages, how many are left out, and the last messages."""
        left_out = len(self.messages) - FIRST - LAST
        if left_out <= 0:
            return self.messages, 0, ()
        return self.messages[:FIRST], left_out, self.messages[-LAST:]


def snapshot_page(snapshot: Snapshot) -> Page:
    """Show a snapshot."""
    return Page("Snapshot", _facts(snapshot), (), snapshot.summary, snapshot.messages)


def history_page(session_id: str, snapshot: Snapshot, status: Status, bound: int | None, unread: int) -> Page:
    """Show a conversation.

    Args:
        session_id: Which conversation.
        snapshot: What there is of it.
        status: How its store does.
        bound: The most messages that its window keeps; None: it keeps all.
        unread: How many entries of the window are not messages.
    """
    problems = _outage(status)
    if unread:
        problems.append(f"{_count(unread, 'entry', 'entries')} of the window cannot be read, and left out here.")
    return Page(session_id, _facts(snapshot, bound), tuple(problems), snapshot.summary, snapshot.messages)


def _facts(snapshot: Snapshot, bound: int | None = None) -> tuple[str, ...]:
    if not (snapshot.total or snapshot.messages or snapshot.summary or snapshot.turns):
        return ("nothing is stored",)
    facts = [
        f"{_count(len(snapshot.messages), 'message')} in the window" + (f", at most {bound}" if bound else ""),
        _count(snapshot.turns, "turn"),
        f"{_count(snapshot.total, 'message')} in all",
    ]
    counts = {
        "waiting to be summarised": snapshot.evicted,
        "summarised": snapshot.summarized,
        "dropped before they were summarised": snapshot.lost,
    }
    facts += [f"{count} {what}" for what, count in counts.items() if count]
    facts.append("does not expire" if snapshot.ttl is None else f"expires in {duration(snapshot.ttl)}")
    return tuple(facts)


def store_page(status: Status, key_prefix: str, found: Sequence[SessionInfo], *, whole: bool) -> Page:
    """Show a store.

    Args:
        status: How it does.
        key_prefix: What its keys begin with.
        found: Sessions, in any order.
        whole: Whether these are all.
    """
    latest = sorted(found, key=lambda info: info.updated, reverse=True)[:ROWS]
    rows = tuple(
        (
            info.session_id,
            str(info.messages),
            str(info.evicted),
            str(info.turns),
            str(info.total),
            "yes" if info.summary else "no",
            "never" if info.ttl is None else f"in {duration(info.ttl)}",
            moment(info.updated),
        )
        for info in latest
    )
    headings = ("session", "window", "waiting", "turns", "total", "summary", "expires", "last written (UTC)")
    count = _count(len(found), "session") if whole else f"{len(found)} sessions or more"
    note = ""
    if not whole:
        note = f"The listing stopped after {len(found)} sessions. Shown are the {len(rows)} of these last written to."
    elif len(rows) < len(found):
        note = f"Shown are the {len(rows)} sessions last written to."
    return Page(
        title="Memstore",
        facts=(status.backend, f"prefix {key_prefix}", count),
        problems=(*_outage(status), *_failures(status)),
        table=Table(headings, rows) if rows else None,
        note=note,
    )


def _outage(status: Status) -> list[str]:
    if not status.degraded:
        return []
    since = f" since {moment(status.since)} UTC" if status.since is not None else ""
    waits = f"{_count(status.pending, 'operation')} {'waits' if status.pending == 1 else 'wait'}"
    return [f"Redis is out of reach{since}. This is what the process knows; {waits} to be replayed."]


def _failures(status: Status) -> list[str]:
    return [
        f"No summary was made of session {failure.session_id!r} at {moment(failure.at)} UTC: {failure.cause}"
        for failure in status.summary_failures[-FAILURES:]
    ]


def duration(seconds: float) -> str:
    """Say how long something takes, in its two largest units."""
    whole = max(0, round(seconds))
    units = (("d", whole // 86_400), ("h", whole // 3600 % 24), ("min", whole // 60 % 60), ("s", whole % 60))
    for at, (_, count) in enumerate(units):
        if count:
            return " ".join(f"{count} {unit}" for unit, count in units[at : at + 2] if count)
    return "less than 1 s"


def moment(time: datetime) -> str:
    """Write a time down, in UTC and to the second."""
    return time.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def _count(count: int, one: str, more: str = "") -> str:
    return f"{count} {one if count == 1 else more or f'{one}s'}"


def printable(text: str) -> str:
    """Return a text in which every character can be shown: what would steer a terminal, or has no UTF-8, is named."""
    text = text.replace("\r\n", "\n")
    if not text.isprintable():
        text = "".join(char if char in "\n\t" or not _steers(char) else f"\\x{ord(char):02x}" for char in text)
    return text


def _steers(char: str) -> bool:
    code = ord(char)
    return code < 0x20 or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000


def shortened(text: str, length: int = LONGEST) -> tuple[str, int]:
    """Return the beginning of a text, and how many characters are left out, which are none where it is short."""
    left_out = len(text) - length
    return (text[:length], left_out) if left_out > length // 10 else (text, 0)


def one_line(text: str, length: int = LONGEST_NAME) -> str:
    """Return the beginning of a text as one line."""
    words = " ".join(printable(text[: 2 * length]).split())
    return words if len(words) <= length and len(text) <= 2 * length else f"{words[:length]}…"
