"""Pages as HTML, for notebooks.

Nothing is loaded from anywhere, and nothing runs: there is no script, and a picture is shown only where its bytes are
in the message. All text is escaped unless it is `Html`, which `tag` alone makes. Colours are tints of those around, so
that themes, light or dark, keep theirs.
"""

from __future__ import annotations

import html as standard_html
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

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
from langchain_memstore.display.plain import call_title, file_title, result_title, role

MOST_PICTURES = 2_000_000  # characters of base64 on a page: notebooks keep what they show
LONG_RESULT = 400  # characters of a tool's result, past which it is folded

_ROLES = {"human", "ai", "system", "tool"}
_FENCE = re.compile(r"^ {0,3}(```+|~~~+)[^\n`]*\n(.*?)(?:^ {0,3}\1[`~]* *$\n?|\Z)", re.MULTILINE | re.DOTALL)
_WEB = re.compile(r"https?://[^\s\"'<>\\]{1,2000}", re.IGNORECASE)


class Html(str):
    """Markup: what is not this is text, and escaped."""

    __slots__ = ()


def html(page: Page) -> str:
    """Write a page down as HTML that stands for itself.

    Args:
        page: What to show. Of a long conversation the first and the last messages are shown, of a long text its
            beginning, and pictures, the latest first, as far as two megabytes go.
    """
    return tag("div", _style(), *_page(page), class_="memstore")


def tag(name: str, *inside: str, **attributes: str) -> Html:
    """Make an element.

    Args:
        name: Its name.
        inside: What is in it: markup, and text, which is escaped.
        attributes: Its attributes; `class_` is `class`.
    """
    written = "".join(f' {key.rstrip("_")}="{_escape(value)}"' for key, value in attributes.items())
    body = "".join(child if isinstance(child, Html) else _escape(child) for child in inside)
    return Html(f"<{name}{written}>" if name == "img" else f"<{name}{written}>{body}</{name}>")


def _escape(text: str) -> str:
    return standard_html.escape(printable(text))


@cache
def _style() -> Html:
    """Return the style of what is shown, and of nothing else. It names its class twice, to outdo a notebook's own."""
    source = (files("langchain_memstore") / "display" / "style.css").read_text(encoding="utf-8")
    return Html(f"<style>\n{source}</style>")


def _page(page: Page) -> Iterator[Html]:
    if page.title or page.facts:
        facts = tag("span", " · ".join(map(one_line, page.facts)), class_="ms-facts", dir="auto")
        yield tag("div", tag("strong", one_line(page.title), dir="auto"), " ", facts, class_="ms-head")
    for problem in page.problems:
        yield tag("div", one_line(problem, 1000), class_="ms-problem", dir="auto")
    if page.summary:
        yield tag("details", tag("summary", "Summary"), *_text(page.summary), class_="ms-summary", open="")
    first, left_out, last = page.excerpt()
    written = _messages([*first, *last])
    yield from written[: len(first)]
    if left_out:
        yield tag("div", f"… {left_out} more messages …", class_="ms-gap")
    yield from written[len(first) :]
    if page.table is not None:
        yield tag("div", _table(page.table), class_="ms-table")
    if page.note:
        yield tag("div", page.note, class_="ms-quiet")


def _table(table: Table) -> Html:
    head = tag("tr", *(tag("th", heading) for heading in table.headings))
    body = (tag("tr", *(tag("td", one_line(cell), dir="auto") for cell in row)) for row in table.rows)
    return tag("table", tag("thead", head), tag("tbody", *body))


def _messages(messages: Sequence[BaseMessage]) -> list[Html]:
    """Write messages down, with as many pictures as the page has room for, the latest first."""
    room, written = MOST_PICTURES, list[Html]()
    for message in reversed(messages):
        shown: list[Part] = []
        for part in parts(message):
            if isinstance(part, Picture):
                if len(part.base64) > room:
                    shown.append(File("image", (part.mime_type, size(part.base64), "too large to show here")))
                    continue
                room -= len(part.base64)
            shown.append(part)
        written.append(_message(message, shown))
    return written[::-1]


def _message(message: BaseMessage, shown: Sequence[Part]) -> Html:
    failed = isinstance(message, ToolMessage) and message.status == "error"
    head: list[str] = [role(message)]
    if about := result_title(message):
        head.append(tag("span", about, class_="ms-quiet ms-failed" if failed else "ms-quiet"))
    if used := _usage(message):
        head.append(tag("span", used, class_="ms-quiet"))
    body = (piece for part in shown for piece in _part(part, message))
    kind = message.type if message.type in _ROLES else "other"
    return tag("div", tag("div", *head, class_="ms-role", dir="auto"), *body, class_=f"ms-message ms-{kind}")


def _usage(message: BaseMessage) -> str:
    used = message.usage_metadata if isinstance(message, AIMessage) else None
    return f"{used['input_tokens']:,} tokens in, {used['output_tokens']:,} out" if used else ""


def _part(part: Part, message: BaseMessage) -> Iterator[Html]:
    if isinstance(part, Said):
        text = list(_text(part.text))
        if isinstance(message, ToolMessage) and len(part.text) > LONG_RESULT:
            yield tag("details", tag("summary", one_line(part.text)), *text)
        else:
            yield from text
    elif isinstance(part, Thought):
        yield tag("details", tag("summary", "thought"), *_text(part.text), class_="ms-quiet")
    elif isinstance(part, Call):
        yield _folded(call_title(part), _shortened_json(part.args), part.id, part.error)
    elif isinstance(part, Picture):
        url = f"data:{part.mime_type};base64,{part.base64}"
        yield tag("img", src=url, alt=f"{part.mime_type}, {size(part.base64)}")
    elif isinstance(part, File):
        yield tag("span", file_title(part), *_link(part.url), class_="ms-chip", dir="auto")
    elif isinstance(part, Other):
        yield _folded(one_line(part.kind), _shortened_json(part.value))
    elif isinstance(part, Omitted):
        yield tag("div", f"… {part.count} more parts", class_="ms-quiet")


def _folded(title: str, body: str, call_id: str = "", error: str | None = None) -> Html:
    wrong = [tag("span", f"invalid: {one_line(error)}", class_="ms-quiet ms-failed")] if error else []
    about = [tag("div", one_line(call_id), class_="ms-quiet")] if call_id else []
    summary = tag("summary", tag("code", title), *wrong)
    return tag("details", summary, tag("pre", body, class_="ms-wrap", dir="auto"), *about)


def _link(url: str | None) -> Iterator[str]:
    """Name where something is. It is not loaded: that would tell its host who looks at the conversation."""
    if url:
        shown = one_line(url, 300)
        yield ", "
        if _WEB.fullmatch(url):
            yield tag("a", shown, href=url, rel="noopener noreferrer nofollow", target="_blank")
        else:
            yield shown


def _text(text: str) -> Iterator[Html]:
    """Write a text down, its blocks of code apart from the rest."""
    beginning, left_out = shortened(text.replace("\r\n", "\n"))
    end = 0
    for fence in _FENCE.finditer(beginning):
        yield from _prose(beginning[end : fence.start()])
        yield tag("pre", tag("code", fence[2].removesuffix("\n")), dir="ltr")
        end = fence.end()
    yield from _prose(beginning[end:])
    if left_out:
        yield tag("div", f"… {left_out:,} more characters", class_="ms-quiet")


def _prose(text: str) -> Iterator[Html]:
    if stripped := text.strip("\n"):
        yield tag("div", stripped, class_="ms-text", dir="auto")


def _shortened_json(value: object) -> str:
    beginning, left_out = shortened(as_json(value, 2))
    return f"{beginning}\n… {left_out:,} more characters" if left_out else beginning
