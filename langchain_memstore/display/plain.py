"""Pages and messages as plain text."""

from __future__ import annotations

from collections.abc import Iterator

from langchain_core.messages import BaseMessage, ToolMessage

from langchain_memstore.display.page import Page, Table, one_line, printable, shortened
from langchain_memstore.display.parts import (
    Call,
    File,
    Omitted,
    Other,
    Part,
    Picture,
    Said,
    Thought,
    as_json,
    parts,
    size,
)

INDENT = " " * 8


def text(page: Page) -> str:
    """Write a page down as plain text.

    Args:
        page: What to show. Of a long conversation the first and the last messages are shown, of a long text its
            beginning; and what would steer a terminal is named instead.
    """
    return "\n\n".join(filter(None, ("\n".join(section) for section in _sections(page))))


def message_text(message: BaseMessage) -> str:
    """Write a message down as plain text: who speaks, then what, in lines of their own where it is more than one."""
    first, *rest = list(_message_lines(message)) or [""]
    return "\n".join([f"{role(message):<7} {first}".rstrip(), *(f"{INDENT}{line}".rstrip() for line in rest)])


def role(message: BaseMessage) -> str:
    """Say who speaks."""
    spoken = getattr(message, "role", None) if message.type == "chat" else None
    return one_line(spoken if isinstance(spoken, str) and spoken else message.type)


def call_title(call: Call) -> str:
    """Write a call down in one line."""
    args = one_line(as_json(call.args))
    return f"{one_line(call.name) or 'tool'} {args}"


def file_title(file: File) -> str:
    """Name what is not shown."""
    return one_line(", ".join((file.kind, *file.details)), 300)


def result_title(message: BaseMessage) -> str:
    """Say of which tool a message is the result, and whether it failed; empty where it is none."""
    if not isinstance(message, ToolMessage):
        return one_line(message.name or "")
    failed = " failed" if message.status == "error" else ""
    return f"{one_line(message.name or message.tool_call_id)}{failed}"


def _sections(page: Page) -> Iterator[list[str]]:
    known = ": ".join(filter(None, (one_line(page.title), ", ".join(map(one_line, page.facts)))))
    yield [*filter(None, [known]), *(f"! {one_line(problem, 1000)}" for problem in page.problems)]
    if page.summary:
        yield ["Summary", *(f"{INDENT}{line}".rstrip() for line in _text_lines(page.summary))]
    first, left_out, last = page.excerpt()
    gap = [f"{INDENT}… {left_out} more messages …"] if left_out else []
    yield [*map(message_text, first), *gap, *map(message_text, last)]
    table = [] if page.table is None else list(_table_lines(page.table))
    yield [*table, *filter(None, [one_line(page.note)])]


def _table_lines(table: Table) -> Iterator[str]:
    rows = [[one_line(cell, 60) for cell in row] for row in (table.headings, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _message_lines(message: BaseMessage) -> Iterator[str]:
    if title := result_title(message):
        yield f"[{title}]"
    for part in parts(message):
        yield from _part_lines(part)


def _part_lines(part: Part) -> Iterator[str]:
    if isinstance(part, Said):
        yield from _text_lines(part.text)
    elif isinstance(part, Thought):
        yield f"(thinks: {one_line(part.text, 300)})"
    elif isinstance(part, Call):
        yield f"calls {call_title(part)}{f' (invalid: {one_line(part.error)})' if part.error else ''}"
    elif isinstance(part, Picture):
        yield f"[image, {part.mime_type}, {size(part.base64)}]"
    elif isinstance(part, File):
        yield f"[{file_title(part)}{f', {one_line(part.url, 300)}' if part.url else ''}]"
    elif isinstance(part, Other):
        yield f"[{one_line(part.kind)}] {one_line(as_json(part.value), 300)}"
    elif isinstance(part, Omitted):
        yield f"… {part.count} more parts"


def _text_lines(text: str) -> Iterator[str]:
    beginning, left_out = shortened(text)
    yield from printable(beginning).split("\n")
    if left_out:
        yield f"… {left_out} more characters"
