"""What is shown of messages, conversations and stores, as text and as HTML."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from html.parser import HTMLParser
from pathlib import Path
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

from langchain_memstore import (
    BackendUnavailable,
    LocalChatMessageHistory,
    Memstore,
    SessionInfo,
    Snapshot,
    Status,
    SummaryFailure,
    display,
)
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.display import Page
from langchain_memstore.display.page import duration
from langchain_memstore.display.parts import MOST, Call, File, Omitted, Other, Part, Picture, Said, Thought, parts
from support.strategies import CHUNKS, MESSAGES, any_text, any_values, canonical, messages

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\nnot much of a picture").decode()
HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>",
    "\"><img src=x onerror='alert(1)'>",
    "' onmouseover='alert(1)",
    "</div></details></style></pre>",
    "<style>*{display:none}</style>",
    "<!--",
    "]]>",
    "&lt;b&gt;&amp;",
    "```\n</code></pre><b>",
    "javascript:alert(1)",
    "https://example.org/\"onclick='x",
    "data:text/html;base64,PHNjcmlwdD4=",
    "data:image/png;base64,AAAA\" onerror='x",
    "\x1b]0;title\x07\x1b[31m",
    "\x00\x7f\x9b",
    "\ud800",
    "\u202egnp.exe",
)
hostile_text = st.lists(st.sampled_from(HOSTILE) | any_text, max_size=3).map("".join)

TAGS = {"div", "style", "span", "strong", "details", "summary", "pre", "code", "img", "a", "table", "thead", "tbody"}
TAGS |= {"tr", "th", "td"}
ATTRIBUTES = {"class", "dir", "open", "src", "alt", "href", "rel", "target"}


class Seen(HTMLParser):
    """Reads markup as strictly as this package has to write it."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.said: list[str] = []
        self.feed(markup)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        self.tags.append(tag)
        for name, value in attrs:
            assert name in ATTRIBUTES
            assert value is not None
            self.attributes.append((name, value))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] != "style":
            self.said.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError("a comment")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError("a declaration")

    def handle_pi(self, data: str) -> None:
        raise AssertionError("a processing instruction")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError("a section")

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]

    @property
    def text(self) -> str:
        return "\n".join(self.said)


def seen(page: Page) -> Seen:
    """The HTML of a page, which is sound whatever is in it."""
    markup = display.html(page)
    markup.encode()
    found = Seen(markup)
    assert found.tags.count("style") == 1
    assert all(
        re.fullmatch(r"data:image/(png|jpe?g|gif|webp|bmp|avif);base64,[\w+/=]+", url) for url in found.values("src")
    )
    assert all(re.match(r"https?://", url, re.IGNORECASE) for url in found.values("href"))
    assert all(re.fullmatch(r"(memstore|(ms-[a-z]+ ?)+)", value) for value in found.values("class"))
    return found


def show(*messages: BaseMessage) -> Seen:
    return seen(Page(messages=messages))


def text_of(*messages: BaseMessage) -> str:
    text = display.text(Page(messages=messages))
    text.encode()
    assert not re.search(r"[^\n\t\x20-\x7e\xa0-\U0010ffff]", text)
    return text


any_message = st.one_of(
    [messages(cls, any_values, hostile_text) for cls in (*MESSAGES, *CHUNKS) if cls.__name__ != "RemoveMessage"]
)


class TestMarkup:
    """The HTML stays what it is, whatever is in it."""

    @given(st.lists(any_message, max_size=3))
    def test_messages_of_any_kind(self, given: list[BaseMessage]) -> None:
        before = [message.model_copy(deep=True) for message in given]
        show(*given)
        text_of(*given)
        assert [canonical(message) for message in given] == [canonical(message) for message in before]

    @given(hostile_text, hostile_text, st.lists(hostile_text, max_size=3), hostile_text)
    def test_names_problems_and_cells(self, title: str, fact: str, problems: list[str], cell: str) -> None:
        table = display.Table((cell, cell), ((cell, cell),))
        page = Page(title, (fact,), tuple(problems), cell, (), table, cell)
        seen(page)
        display.text(page).encode()

    @pytest.mark.parametrize("hostile", HOSTILE)
    @pytest.mark.parametrize(
        "make",
        [
            lambda text: HumanMessage(text),
            lambda text: HumanMessage("hi", name=text),
            lambda text: ChatMessage("hi", role=text),
            lambda text: HumanMessage([{"type": text, text: text}]),
            lambda text: AIMessage("", tool_calls=[{"name": text, "args": {text: text}, "id": text}]),
            lambda text: AIMessage("", invalid_tool_calls=[{"name": text, "args": text, "id": text, "error": text}]),
            lambda text: ToolMessage(text * 30, tool_call_id=text, name=text, artifact={text: [text]}),
            lambda text: HumanMessage([{"type": "image", "url": text}]),
            lambda text: HumanMessage([{"type": "image", "base64": text, "mime_type": "image/png"}]),
            lambda text: HumanMessage([{"type": "image", "base64": PNG, "mime_type": text}]),
            lambda text: HumanMessage(
                [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}{text}"}}]
            ),
            lambda text: HumanMessage([{"type": "file", "file_id": text, "filename": text, "mime_type": text}]),
            lambda text: AIMessage([{"type": "thinking", "thinking": text}]),
        ],
    )
    def test_hostile_text_in_every_place(self, make: Callable[[str], BaseMessage], hostile: str) -> None:
        show(make(hostile))
        text_of(make(hostile))

    @given(st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=200).filter(str.strip))
    def test_says_what_the_message_says(self, text: str) -> None:
        assert text in show(HumanMessage(text)).text
        assert text.strip() in text_of(HumanMessage(text))

    def test_shows_control_characters_and_lone_surrogates_by_name(self) -> None:
        message = HumanMessage("a\x1b[31mb\x00c\ud800d\x9be\r\nf")
        assert r"a\x1b[31mb\x00c\xd800d\x9be" in show(message).text
        assert text_of(message).endswith("human   a\\x1b[31mb\\x00c\\xd800d\\x9be\n        f")

    def test_is_well_without_its_style(self) -> None:
        said = show(HumanMessage("hi"), AIMessage("hello")).said
        assert said == ["human", "hi", "ai", "hello"]


class TestParts:
    """Messages are read in the shapes of all providers."""

    @pytest.mark.parametrize(
        ("block", "expected"),
        [
            ("hi", Said("hi")),
            ({"type": "text", "text": "hi"}, Said("hi")),
            ({"type": "input_text", "text": "hi"}, Said("hi")),
            ({"type": "output_text", "text": "hi"}, Said("hi")),
            ({"type": "text-plain", "text": "hi", "mime_type": "text/plain"}, Said("hi")),
            ({"type": "refusal", "refusal": "no"}, Said("no")),
            ({"type": "reasoning", "reasoning": "hm"}, Thought("hm")),
            ({"type": "thinking", "thinking": "hm", "signature": "x"}, Thought("hm")),
            (
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}, {"text": "so"}]},
                Thought("hm\n\nso"),
            ),
            ({"type": "image", "base64": PNG, "mime_type": "image/png"}, Picture("image/png", PNG)),
            (
                {"type": "image", "data": PNG, "source_type": "base64", "mime_type": "IMAGE/PNG"},
                Picture("image/png", PNG),
            ),
            ({"type": "image", "base64": f"{PNG[:9]}\n{PNG[9:]}", "mime_type": "image/png"}, Picture("image/png", PNG)),
            ({"type": "media", "data": base64.b64decode(PNG), "mime_type": "image/png"}, Picture("image/png", PNG)),
            ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}, Picture("image/png", PNG)),
            ({"type": "image_url", "image_url": f"data:image/gif;base64,{PNG}"}, Picture("image/gif", PNG)),
            ({"type": "input_image", "image_url": f"data:image/webp;base64,{PNG}"}, Picture("image/webp", PNG)),
            (
                {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": PNG}},
                Picture("image/jpeg", PNG),
            ),
            ({"type": "image", "url": "https://a.b/c.png"}, File("image", (), "https://a.b/c.png")),
            ({"type": "image", "source": {"type": "url", "url": "https://a.b/c"}}, File("image", (), "https://a.b/c")),
            ({"type": "image_url", "image_url": {"url": "https://a.b/c"}}, File("image", (), "https://a.b/c")),
            ({"type": "image", "file_id": "file-1"}, File("image", ("file-1",))),
            (
                {"type": "image", "base64": "PHN2Zz4=", "mime_type": "image/svg+xml"},
                File("image", ("image/svg+xml", "6 bytes")),
            ),
            (
                {"type": "image_url", "image_url": {"url": "data:image/svg+xml,<svg/>"}},
                File("image", ("image/svg+xml", "6 bytes")),
            ),
            (
                {"type": "image_url", "image_url": {"url": "data:text/html,<b>"}},
                File("image", ("text/html", "3 bytes")),
            ),
            (
                {"type": "image", "base64": "no-base64?!", "mime_type": "image/png"},
                File("image", ("image/png", "8 bytes")),
            ),
            (
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                File("audio", ("wav", "3 bytes")),
            ),
            ({"type": "audio", "base64": "A" * 4000, "mime_type": "audio/wav"}, File("audio", ("audio/wav", "3 kB"))),
            (
                {"type": "video", "base64": "A" * 4_000_000, "mime_type": "video/mp4"},
                File("video", ("video/mp4", "3.0 MB")),
            ),
            (
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
                File("file", ("a.pdf", "application/pdf", "3 bytes")),
            ),
            (
                {
                    "type": "document",
                    "title": "a",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"},
                },
                File("file", ("a", "application/pdf", "3 bytes")),
            ),
            ({"type": "web_search_call", "id": "1"}, Other("web_search_call", {"type": "web_search_call", "id": "1"})),
            ({"no": "type"}, Other("block", {"no": "type"})),
            ({"type": 7}, Other("block", {"type": 7})),
            ({"type": "text", "text": 7}, Other("text", {"type": "text", "text": 7})),
            ({"type": "reasoning", "summary": 7}, Other("reasoning", {"type": "reasoning", "summary": 7})),
        ],
    )
    def test_a_block(self, block: Any, expected: Part) -> None:
        assert parts(HumanMessage([block])) == [expected]

    @pytest.mark.parametrize(
        "block",
        [
            "",
            {"type": "text", "text": ""},
            {"type": "reasoning", "summary": []},
            {"type": "reasoning", "id": "rs_1", "encrypted_content": "x"},
        ],
    )
    def test_a_block_that_says_nothing(self, block: Any) -> None:
        assert parts(AIMessage([block])) == []

    @pytest.mark.parametrize("kind", ["tool_use", "tool_call", "function_call", "tool_call_chunk"])
    def test_a_call_is_shown_once(self, kind: str) -> None:
        block = {"type": kind, "id": "1", "name": "look", "input": {"at": 1}}
        call: Any = {"name": "look", "args": {"at": 1}, "id": "1"}
        assert parts(AIMessage([block], tool_calls=[call])) == [Call("look", "1", {"at": 1})]
        assert parts(AIMessage([block])) == [Other(kind, block)]

    def test_an_invalid_call_says_why(self) -> None:
        why: Any = {"name": "look", "args": "{", "id": "1", "error": "no JSON"}
        assert parts(AIMessage("", invalid_tool_calls=[why])) == [Call("look", "1", "{", "no JSON")]
        assert "invalid: no JSON" in show(AIMessage("", invalid_tool_calls=[why])).text
        assert "(invalid: no JSON)" in text_of(AIMessage("", invalid_tool_calls=[why]))

    def test_thoughts_beside_the_content_and_artifacts(self) -> None:
        assert parts(AIMessage("so", additional_kwargs={"reasoning_content": "hm"})) == [Thought("hm"), Said("so")]
        assert parts(ToolMessage("1", tool_call_id="1", artifact=[2])) == [Said("1"), Other("artifact", [2])]

    def test_values_that_json_does_not_have(self) -> None:
        deep: Any = "end"
        for _ in range(5000):
            deep = [deep]
        value = {
            "b": b"123",
            ("a", 1): {1},
            "n": 10**5000,
            "deep": deep,
            "when": datetime(2026, 5, 2),
            "nan": float("nan"),
        }
        message = ToolMessage("1", tool_call_id="1", artifact=value)
        said = show(message).text
        assert '"b": "(3 bytes)"' in said
        assert "a whole number of 16610 bits" in said
        assert "2026-05-02" in said and "…" in said
        text_of(message)


class TestBounds:
    """What is shown has an end."""

    def test_a_thousand_messages(self) -> None:
        talk = [HumanMessage(f"question {number:03}") for number in range(1000)]
        found = show(*talk)
        assert re.findall(r"question (\d+)", found.text) == [
            f"{number:03}" for number in (*range(5), *range(950, 1000))
        ]
        assert "… 945 more messages …" in found.text
        assert "… 945 more messages …" in text_of(*talk)
        assert len(display.html(Page(messages=talk))) < 20_000

    def test_as_many_messages_as_are_shown(self) -> None:
        assert "more messages" not in show(*[HumanMessage("hi")] * 55).text
        assert "… 1 more messages …" in show(*[HumanMessage("hi")] * 56).text

    @pytest.mark.parametrize("kind", [HumanMessage, AIMessage, SystemMessage])
    def test_a_huge_message(self, kind: type[BaseMessage]) -> None:
        message = kind(content="word " * 200_000)
        assert "… 996,000 more characters" in show(message).text
        assert "… 996000 more characters" in text_of(message)
        assert len(display.html(Page(messages=[message]))) < 10_000

    def test_a_message_of_many_parts(self) -> None:
        message = HumanMessage([{"type": "text", "text": f"part {number}"} for number in range(1000)])
        assert parts(message)[-1] == Omitted(1000 - MOST)
        assert f"… {1000 - MOST} more parts" in show(message).text
        assert f"… {1000 - MOST} more parts" in text_of(message)

    def test_pictures_that_are_too_much_the_latest_are_shown(self) -> None:
        picture = [{"type": "image", "base64": "A" * 900_000, "mime_type": "image/png"}]
        found = show(*[HumanMessage(picture)] * 4)
        assert found.tags.count("img") == 2
        assert found.text.count("too large to show here") == 2
        assert found.tags.index("img") > found.tags.index("span")

    def test_long_ids_names_and_arguments(self) -> None:
        long = "x" * 100_000
        call: Any = {"name": long, "args": {long: long}, "id": long}
        page = Page(long, (long,), (long,), long, [AIMessage("", tool_calls=[call], name=long)])
        assert len(display.html(page)) < 20_000
        assert len(display.text(page)) < 10_000

    def test_an_address_that_is_too_long_is_no_link(self) -> None:
        found = show(HumanMessage([{"type": "image", "url": f"https://example.org/{'x' * 100_000}"}]))
        assert found.values("href") == [] and len(found.text) < 1000

    def test_calls_thoughts_and_long_results_are_folded(self) -> None:
        call: Any = {"name": "look", "args": {"at": 1}, "id": "1"}
        assert show(AIMessage([{"type": "thinking", "thinking": "hm"}], tool_calls=[call])).tags.count("details") == 2
        assert show(ToolMessage("short", tool_call_id="1")).tags.count("details") == 0
        assert show(ToolMessage("long " * 100, tool_call_id="1")).tags.count("details") == 1

    def test_blocks_of_code(self) -> None:
        found = show(AIMessage("See:\n```python\nprint('<b>')\n\n  x\n```\nand\n~~~\ny\n~~~\nor\n```\nopen"))
        assert found.said == ["ai", "See:", "print('<b>')\n\n  x", "and", "y", "or", "open"]
        assert found.tags.count("pre") == 3


def snapshot(**changes: Any) -> Snapshot:
    whole = Snapshot([HumanMessage("hi")], "All is well.", 3, 9, 2, 5, 1, 3720.0)
    return replace(whole, **changes)


class TestWhatIsKnown:
    """A snapshot, a history, a store."""

    def test_a_snapshot(self) -> None:
        markup, text = Seen(snapshot()._repr_html_()).text, snapshot()._repr_mimebundle_()["text/plain"]
        for shown in markup, text:
            assert "All is well." in shown
            for fact in (
                "1 message in the window",
                "3 turns",
                "9 messages in all",
                "2 waiting to be summarised",
                "5 summarised",
                "1 dropped before they were summarised",
                "expires in 1 h 2 min",
            ):
                assert fact in shown
        assert "does not expire" in snapshot(ttl=None)._repr_html_()

    @pytest.mark.parametrize(
        ("seconds", "said"),
        [
            (0, "less than 1 s"),
            (59.6, "1 min"),
            (61, "1 min 1 s"),
            (86_399, "23 h 59 min"),
            (90_000, "1 d 1 h"),
            (86_400, "1 d"),
        ],
    )
    def test_a_duration(self, seconds: float, said: str) -> None:
        assert duration(seconds) == said

    def test_a_history(self) -> None:
        with Memstore.from_url("memory://", max_messages=7) as store:
            history = store.history("<b>user</b>")
            assert "nothing is stored" in history._repr_html_()
            history.add_messages([HumanMessage("<i>hi</i>"), AIMessage("hello")])
            found = Seen(history._repr_html_())
            assert found.said[0] == "<b>user</b>"
            assert "2 messages in the window, at most 7 · 1 turn · 2 messages in all · expires in 1 d" in found.text
            assert "<i>hi</i>" in found.said
            assert "human   <i>hi</i>\nai      hello" in history._repr_mimebundle_()["text/plain"]

    def test_the_classes_without_a_store_too(self) -> None:
        history = LocalChatMessageHistory("s", name="shown")
        history.add_user_message("hi")
        assert "hi" in Seen(history._repr_html_()).said

    def test_looking_at_a_history_is_no_use_of_it(self) -> None:
        now = 1000.0
        store = Memstore(LocalBackend(clock=lambda: now), ttl=100)
        store.history("s").add_user_message("hi")
        now += 50
        store.history("s")._repr_html_()
        store.history("s")._repr_mimebundle_()
        store._repr_html_()
        assert [info.ttl for info in store.sessions()] == [50]
        store.history("s").snapshot()
        assert [info.ttl for info in store.sessions()] == [100]

    def test_a_store(self) -> None:
        with Memstore.from_url("memory://", key_prefix="<app>") as store:
            assert "0 sessions" in store._repr_html_()
            for number in range(30):
                store.history(f"<s>{number:02}").add_user_message("hi")
            found = Seen(store._repr_html_())
            assert "local · prefix <app> · 30 sessions" in found.text
            assert found.tags.count("tr") == 21
            assert "Shown are the 20 sessions last written to." in found.text
            assert "<s>" in store._repr_mimebundle_()["text/plain"]

    def test_a_store_of_100_000_sessions_is_shown_soon(self) -> None:
        now = 1000.0
        store = Memstore(LocalBackend(clock=lambda: now))
        for number in range(100_000):
            now += 1
            store.history(f"s{number:05}").add_user_message("hi")
        start = time.perf_counter()
        found = Seen(store._repr_html_())
        assert time.perf_counter() - start < 2
        assert re.findall(r"s\d{5}", found.text) == [f"s{number:05}" for number in range(99_999, 99_979, -1)]
        assert "The listing stopped after 1000 sessions." in found.text

    def test_a_store_that_is_not_well(self) -> None:
        at = datetime(2026, 5, 2, 12, tzinfo=timezone.utc)
        failures = tuple(SummaryFailure(f"s{number}", "<b>no answer</b>", at) for number in range(9))
        page = display.store_page(
            Status("local", True, 2, at, summary_failures=failures), "conversation", [], whole=True
        )
        said = seen(page).text
        assert "Redis is out of reach since 2026-05-02 12:00:00 UTC" in said
        assert "2 operations wait to be replayed" in said
        assert said.count("<b>no answer</b>") == 5 and "'s8'" in said
        assert "! Redis is out of reach" in display.text(page)

    def test_a_history_in_an_outage(self) -> None:
        page = display.history_page("s", snapshot(), Status("local", True, 1), 50, 0)
        assert "1 operation waits to be replayed" in seen(page).text

    def test_entries_that_are_not_messages(self, caplog: pytest.LogCaptureFixture) -> None:
        backend = Unwell()
        store = Memstore(backend)
        store.history("s").add_user_message("hi")
        backend.execute(store.history("s")._append((b"{}",)))
        with caplog.at_level(logging.WARNING):
            found = Seen(store.history("s")._repr_html_())
        assert "1 entry of the window cannot be read" in found.text and "hi" in found.said
        strict = Seen(store.history("s", on_corrupt="raise")._repr_html_())
        assert "entry 1" in strict.text and "hi" not in strict.said

    @pytest.mark.parametrize("look", [lambda store: store.history("<s>"), lambda store: store])
    def test_a_store_that_cannot_be_reached(self, look: Callable[[Memstore], Any]) -> None:
        shown = look(Memstore(Unwell(BackendUnavailable("no <b>answer</b> from 127.0.0.1:1"))))
        found = Seen(shown._repr_html_())
        assert "no <b>answer</b> from 127.0.0.1:1" in found.said
        assert repr(shown)[:20] in found.text
        assert "! no <b>answer</b>" in shown._repr_mimebundle_()["text/plain"]

    def test_what_cannot_be_decrypted(self) -> None:
        backend = LocalBackend()
        Memstore(backend, encryption_keys=[b"k" * 32]).history("s").add_user_message("a secret")
        found = Seen(Memstore(backend).history("s")._repr_html_())
        assert "is encrypted; pass encryption_keys=" in found.text

    def test_a_mistake_is_raised(self) -> None:
        with pytest.raises(ZeroDivisionError):
            Memstore(Unwell(ZeroDivisionError())).history("s")._repr_html_()

    def test_works_in_a_running_loop(self) -> None:
        async def cell() -> str:
            store = Memstore.from_url("memory://")
            await store.history("s").aadd_messages([HumanMessage("hi")])
            return store._repr_html_() + store.history("s")._repr_html_()

        assert "hi" in asyncio.run(cell())

    def test_a_store_lists_what_was_written_last_first(self) -> None:
        infos = [
            SessionInfo(str(at), 1, 1, 1, None, 0, False, *[datetime.fromtimestamp(at, timezone.utc)] * 2)
            for at in (2, 3, 1)
        ]
        page = display.store_page(Status("redis"), "conversation", infos, whole=True)
        assert page.table is not None
        assert [row[0] for row in page.table.rows] == ["3", "2", "1"]
        assert page.table.rows[0][6:] == ("never", "1970-01-01 00:00:03")


class Unwell(LocalBackend):
    """A backend that raises an error, if it has one."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self._error = error

    def execute(self, op: Any) -> Any:
        if self._error is not None:
            raise self._error
        return super().execute(op)


def test_a_snapshot_shows_itself_in_a_process_that_imported_nothing_else() -> None:
    snapshot = LocalChatMessageHistory("s", name="unpickled").snapshot()
    code = f"import pickle; print(pickle.loads({pickle.dumps(snapshot)!r})._repr_html_(), end='')"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert Seen(shown).said[0] == "Snapshot"


class TestInIPython:
    """What IPython makes of it."""

    def test_one_look_for_both_forms(self) -> None:
        formatters = pytest.importorskip("IPython.core.formatters", reason="needs IPython")
        history = LocalChatMessageHistory("s", name="shown-in-ipython")
        history.add_user_message("hi")
        looks = []
        look = type(history)._page
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(history), "_page", lambda self: looks.append(self) or look(self))
            data, _ = formatters.DisplayFormatter().format(history)
        assert data["text/plain"].endswith("human   hi")
        assert Seen(data["text/html"]).said[0] == "s"
        assert looks == [history]

    def test_in_a_list_it_is_its_repr(self) -> None:
        formatters = pytest.importorskip("IPython.core.formatters", reason="needs IPython")
        history = LocalChatMessageHistory("s", name="shown-in-ipython")
        data, _ = formatters.DisplayFormatter().format([history])
        assert data["text/plain"] == repr([history])


SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"
RECORDED = Path(os.environ.get("MEMSTORE_PROVIDER_DATA") or SHARED_DATA) / "provider_conversations.jsonl"


@pytest.mark.provider_data
@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded provider messages are not here")
def test_what_providers_really_say() -> None:
    lines = RECORDED.read_text(encoding="utf-8").splitlines()
    assert lines
    for line in lines:
        talk = messages_from_dict(json.loads(line)["messages"])
        found, plain = show(*talk), text_of(*talk)
        for message in talk[:5]:
            for part in parts(message):
                if isinstance(part, Said):
                    words = part.text.split("```")[0].strip().split("\n")[0][:1000]
                    assert words in found.text
                    assert words in plain
            calls = message.tool_calls if isinstance(message, AIMessage) else []
            assert all(f"{call['name']} " in found.text for call in calls[:5])
