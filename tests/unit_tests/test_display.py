"""What a notebook shows: all of a message as text, none of it as markup."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    messages_from_dict,
)

from langchain_memstore import Memstore, Snapshot
from langchain_memstore.backends.base import Status, SummaryFailure
from langchain_memstore.display import FIRST, LAST, MOST_TEXT, conversation_html, store_html, trouble_html
from langchain_memstore.ops.listing import Stats

from .strategies import MESSAGES, any_text, any_values, messages
from .test_codec import CONVERSATIONS, REASON
from .unsteady import unsteady

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'&</div></details>"


def snapshot(*messages: BaseMessage, summary: str | None = None, **known: Any) -> Snapshot:
    counts: Any = {"turns": 1, "total": len(messages), "evicted": 0, "summarized": 0, "lost": 0, "ttl": 90.0, **known}
    return Snapshot(list(messages), summary, **counts)


class Page(HTMLParser):
    """Reads HTML, and checks that it is well formed and harmless."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.pictures: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        assert {name for name, _ in attrs} <= {"class", "dir", "src", "alt"}
        if tag == "img":
            source = dict(attrs)["src"] or ""
            assert re.match(r"data:image/(png|jpeg|gif|webp);base64,", source)
            self.pictures.append(source)
        else:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


TAGS = {"style", "div", "header", "b", "details", "summary", "pre", "span", "img", "table", "thead", "tbody", "tr"}
TAGS |= {"th", "td"}


any_message = st.sampled_from(MESSAGES).flatmap(lambda cls: messages(cls, any_values, any_text))


@given(st.lists(any_message, max_size=4), any_text | st.none(), any_text)
def test_any_conversation_is_well_formed_and_harmless(said: list[BaseMessage], summary: str | None, title: str) -> None:
    html = conversation_html(title, snapshot(*said, summary=summary))
    Page(html)
    html.encode()


@pytest.mark.provider_data
def test_conversations_with_providers_are_shown() -> None:
    if not CONVERSATIONS.exists():
        pytest.skip(REASON)
    with CONVERSATIONS.open(encoding="utf-8") as lines:
        conversations = [messages_from_dict(json.loads(line)["messages"]) for line in lines]
    for conversation in conversations:
        shown = Page(conversation_html("provider", snapshot(*conversation)))
        for message in conversation:
            if isinstance(message.content, str) and message.content.isalnum() and len(conversation) < LAST:
                assert message.content in shown.text


@pytest.mark.parametrize(
    "message",
    [
        HumanMessage(EVIL),
        HumanMessage([{"type": "text", "text": EVIL}]),
        HumanMessage(f"```{EVIL}\n{EVIL}\n```"),
        HumanMessage("x", name=EVIL),
        HumanMessage([{"type": EVIL, EVIL: EVIL}]),
        HumanMessage([{"type": "image", "mime_type": EVIL}]),
        AIMessage("", tool_calls=[{"name": EVIL, "args": {EVIL: EVIL}, "id": EVIL}]),
        AIMessage("", invalid_tool_calls=[{"name": EVIL, "args": EVIL, "id": EVIL, "error": None}]),
        AIMessage([{"type": "thinking", "thinking": EVIL}]),
        ToolMessage(EVIL, tool_call_id=EVIL, name=EVIL, status="error"),
        ChatMessage(EVIL, role=EVIL),
        SystemMessage(EVIL),
    ],
    ids=lambda message: message.type,
)
def test_markup_in_a_message_stays_text(message: BaseMessage) -> None:
    shown = Page(conversation_html(EVIL, snapshot(message, summary=EVIL)))
    assert shown.text.count("<script>alert('x')</script>") >= 3


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        {"type": "image_url", "image_url": f"data:image/png;base64,{PIXEL}"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
        {"type": "image", "base64": PIXEL, "mime_type": "image/png"},
        {"type": "image", "source_type": "base64", "data": PIXEL, "mime_type": "image/png"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
    ],
    ids=lambda block: f"{block['type']} {sorted(block)}",
)
def test_pictures_are_shown_however_they_are_given(block: dict[str, Any]) -> None:
    assert Page(conversation_html("t", snapshot(HumanMessage([block])))).pictures == [f"data:image/png;base64,{PIXEL}"]


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/tracker.png",
        "data:image/svg+xml;base64,PHN2Zz48L3N2Zz4=",
        "data:text/html;base64,PHN2Zz48L3N2Zz4=",
        "javascript:alert(1)",
        'data:image/png;base64,AAAA" onerror="alert(1)',
        "data:image/png;base64," + "A" * 500_000,
    ],
    ids=lambda url: url[:40],
)
def test_what_is_elsewhere_or_may_hold_markup_is_no_picture(url: str) -> None:
    shown = Page(conversation_html("t", snapshot(HumanMessage([{"type": "image_url", "image_url": {"url": url}}]))))
    assert shown.pictures == []
    assert "image_url" in shown.text


def test_calls_and_results_are_folded_and_usage_is_told() -> None:
    call = {"name": "search", "args": {"q": "memory"}, "id": "call_1"}
    usage = {"input_tokens": 12, "output_tokens": 3, "total_tokens": 15}
    html = conversation_html(
        "t",
        snapshot(
            AIMessage("I look.", tool_calls=[call], usage_metadata=usage),
            ToolMessage("found", tool_call_id="call_1", name="search"),
        ),
    )
    assert html.count("<details>") == 2
    assert "12 tokens in, 3 out" in html and "search · call_1" in html and "result call_1" in html


def test_much_is_shortened_and_says_so() -> None:
    shown = Page(conversation_html("t", snapshot(*(HumanMessage(f"number {n}") for n in range(1000)))))
    assert f"… {1000 - FIRST - LAST} more messages …" in shown.text
    assert shown.text.count("number ") == FIRST + LAST
    assert "number 999" in shown.text and "number 0" in shown.text and "number 500" not in shown.text
    shown = Page(conversation_html("t", snapshot(HumanMessage("x" * (MOST_TEXT + 7)))))
    assert "… (7 more characters)" in shown.text


def test_what_is_known_is_told() -> None:
    known = snapshot(HumanMessage("hi"), turns=7, total=20, evicted=3, summarized=4, lost=5, ttl=None)
    text = Page(conversation_html("user-7", known)).text
    for fact in ("1 messages of 20", "7 turns", "3 waiting", "4 summarised", "5 lost", "does not expire"):
        assert fact in text
    assert "expires in 90 s" in Page(known.__class__(**{**vars(known), "ttl": 90.0})._repr_html_()).text


def test_a_history_shows_itself_and_refreshes_no_ttl() -> None:
    store = Memstore.from_url("memory://", ttl=100)
    history = store.history("user-7/<b>")
    history.add_user_message("Hello, I am Ada.")
    history.touch()
    short = store.history("user-7/<b>", ttl=10_000)
    shown = Page(short._repr_html_())
    assert "Hello, I am Ada." in shown.text and "user-7/<b>" in shown.text
    left = history.snapshot().ttl
    assert left is not None and left <= 100


def test_a_store_shows_its_status_and_some_sessions() -> None:
    store = Memstore.from_url("memory://")
    assert "no sessions" in Page(store._repr_html_()).text
    for number in range(21):
        store.history(f"session-{number:02d}").add_user_message("hi")
    text = Page(store._repr_html_()).text
    assert text.count("session-") == 20 and "and more sessions" in text


def test_a_store_that_is_degraded_says_so() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    status = Status("local", True, 7, at, (SummaryFailure(EVIL, EVIL, at),))
    text = Page(store_html("t", status, [], False)).text
    assert "degraded since 2026-01-02 03:04:05 UTC: 7 operations wait" in text and EVIL in text


def test_a_history_says_that_its_store_is_away() -> None:
    primary, backend = unsteady()
    history = Memstore(backend).history("s")
    history.add_user_message("before")
    primary.mode = "down"
    history.add_user_message("meanwhile")
    text = Page(history._repr_html_()).text
    assert "1 operations wait to be replayed" in text and "before" in text and "meanwhile" in text
    primary.mode = "up"
    backend.close()


def test_a_large_store_is_looked_at_in_part() -> None:
    primary, backend = unsteady()
    store = Memstore(backend)
    for number in range(500):
        store.history(str(number)).register_turn()
    assert "and more sessions" in store._repr_html_()
    assert [len(op.sessions) for op in primary.done if isinstance(op, Stats)] == [20]
    backend.close()


def test_trouble_is_shown_instead_of_a_traceback() -> None:
    primary, _ = unsteady()
    primary.mode = "down"
    store = Memstore(primary)
    for shown in (store, store.history("s")):
        assert "BackendUnavailable: away" in Page(shown._repr_html_()).text
    assert EVIL in Page(trouble_html(EVIL, ValueError(EVIL))).text
