"""What notebooks show, in a real browser: Chromium, without a network."""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
import struct
import subprocess
import tempfile
import zlib
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_memstore import SessionInfo, Snapshot, Status, SummaryFailure, display

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 60  # seconds to wait for the browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


def png(width: int, height: int) -> str:
    """A grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\x80" * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + data).decode()


RUNS = "document.title = 'it ran'"
HOSTILE = (
    f'<script>{RUNS}</script><img src="nowhere" onerror="{RUNS}"><svg onload="{RUNS}"></svg>'
    f'</div></pre></details></style><style>* {{ display: none }}</style><iframe srcdoc="<script>top.{RUNS}</script>">'
    f'<a href="javascript:{RUNS}" id=hook autofocus onfocus="{RUNS}">\' " onmouseover=\'{RUNS}\' <!-- ]]> &lt;b&gt;'
)
SVG = base64.b64encode(f'<svg xmlns="http://www.w3.org/2000/svg" onload="{RUNS}"/>'.encode()).decode()
NOW = datetime(2026, 5, 2, tzinfo=timezone.utc)


def call(name: str, **args: Any) -> Any:
    return {"name": name, "args": args, "id": f"call-{name}"}


TALK: list[BaseMessage] = [
    SystemMessage("You plan journeys."),
    HumanMessage(f"{'Donaudampfschifffahrt' * 40} and https://example.org/{'path' * 100}?{'x=1&' * 50}"),
    AIMessage(
        [{"type": "reasoning", "reasoning": f"{HOSTILE} {'hm' * 500}"}],
        tool_calls=[call("distance", to="Porto", note=HOSTILE), call(HOSTILE, word="x" * 400)],
        usage_metadata={"input_tokens": 1204, "output_tokens": 88, "total_tokens": 1292},
    ),
    ToolMessage("274 km", name="distance", tool_call_id="call-distance", artifact={"of": HOSTILE}),
    ToolMessage(f"{HOSTILE} " * 10, name=HOSTILE, tool_call_id=HOSTILE, status="error"),
    AIMessage(f"Like this:\n\n```python\n{HOSTILE}  # {'long ' * 100}\nprint(1)\n```\n\nDone."),
    HumanMessage(
        [
            {"type": "image", "base64": png(2000, 1500), "mime_type": "image/png"},
            {"type": "image", "base64": png(30, 4000), "mime_type": "image/png"},
            {"type": "image", "url": "https://example.org/tracker.png"},
            {"type": "image", "url": f"javascript:{RUNS}"},
            {"type": "image", "base64": SVG, "mime_type": "image/svg+xml"},
            {"type": "file", "file_id": HOSTILE, "filename": f"{'x' * 500}.pdf"},
        ]
    ),
    HumanMessage("مرحبا، كم تبعد بورتو عن لشبونة؟"),
    AIMessage("274 km."),
    HumanMessage(HOSTILE, name=HOSTILE, id=HOSTILE),
]
CONVERSATION = display.history_page(
    HOSTILE, Snapshot(TALK, HOSTILE, 4, 312, 6, 280, 2, 86_000.0), Status("local", True, 3, NOW), 50, 1
)
INFOS = [SessionInfo(f"{number} {HOSTILE}", number, 4, 99, 1e6 * number, 3, True, NOW, NOW) for number in range(30)]
STORE = display.store_page(
    Status("local", True, 3, NOW, (SummaryFailure(HOSTILE, HOSTILE, NOW),)), HOSTILE, INFOS, whole=False
)
LONG = display.snapshot_page(
    Snapshot([HumanMessage(f"Question {at}") for at in range(1000)], None, 1000, 1000, 0, 0, 0, None)
)

MEASURE = """
const root = document.querySelector(".memstore"), all = [...root.querySelectorAll("*")];
const count = what => root.querySelectorAll(what).length;
const within = (box, of) => box.right <= of.right + 1 && box.left >= of.left - 1;
const channels = colour => colour.match(/[\\d.]+/g).map(Number).map(
    (value, at) => colour.startsWith("color(") && at < 3 ? 255 * value : value);
const over = ([red, green, blue, alpha = 1], below, share = 1) =>
    [red, green, blue].map((value, at) => value * alpha * share + below[at] * (1 - alpha * share));
const light = colour => colour.map(value => value / 255)
    .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
const contrast = element => {
    const line = [];
    for (let at = element; at; at = at.parentElement) line.unshift(getComputedStyle(at));
    const ground = line.reduce((below, style) => over(channels(style.backgroundColor), below), [255, 255, 255]);
    const share = line.reduce((product, style) => product * style.opacity, 1);
    const [one, other] = [light(over(channels(line.at(-1).color), ground, share)), light(ground)];
    return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
};
addEventListener("load", () => setTimeout(() => {
    const folded = count("details:not([open])");
    for (const details of root.querySelectorAll("details")) details.open = true;
    const shown = all.filter(element => element.tagName !== "STYLE");
    const says = element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    const measured = {
        title: document.title,
        wider: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        outside: all.filter(element => element.offsetParent && !element.closest("pre, .ms-table"))
            .filter(element => !within(element.getBoundingClientRect(), root.getBoundingClientRect())).length,
        cut: all.filter(element => element.matches(".ms-wrap") && element.scrollWidth > element.clientWidth).length,
        alien: count("script, iframe, svg, object, embed, link, form, input, base, meta, style + style, #hook"),
        handlers: all.flatMap(element => element.getAttributeNames()).filter(name => name.startsWith("on")).length,
        links: [...root.querySelectorAll("[href]")].map(element => element.href),
        loaded: performance.getEntriesByType("resource").map(entry => entry.name.slice(0, 40)),
        hidden: shown.filter(element => getComputedStyle(element).display === "none").length,
        contrast: Math.min(...shown.filter(says).map(contrast)),
        messages: count(".ms-message"), folded, rows: count("tr"), code: count("pre > code"),
        pictures: [...root.querySelectorAll("img")].map(
            image => [image.naturalWidth, image.naturalHeight, image.clientWidth, image.clientHeight]),
        rightToLeft: [...root.querySelectorAll(".ms-text")]
            .filter(element => getComputedStyle(element).direction === "rtl").map(element => element.textContent),
        text: root.textContent,
    };
    document.body.innerHTML = "<pre id=measured></pre>";
    document.getElementById("measured").textContent = JSON.stringify(measured);
}, 300));
"""


@dataclass(frozen=True)
class Theme:
    """What a notebook looks like around its outputs."""

    background: str
    colour: str


THEMES = {
    "light": Theme("#ffffff", "#212121"),
    "dark": Theme("#111111", "#e0e0e0"),
    "grey": Theme("#1f1f1f", "#cccccc"),
}
themes = pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)


def measured(folder: Path, markup: str, theme: Theme = THEMES["light"], width: int = 900) -> dict[str, Any]:
    """Open a page that shows markup, and measure it."""
    page = folder / "page.html"
    style = f"background: {theme.background}; color: {theme.colour}; margin: 12px; font-family: sans-serif"
    page.write_text(
        f'<!doctype html><meta charset="utf-8"><title>quiet</title><body style="{style}">{markup}'
        f"<script>{MEASURE}</script>",
        encoding="utf-8",
    )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        command += ["--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}"]
        command += [f"--window-size={width},800", "--virtual-time-budget=3000", "--dump-dom", page.as_uri()]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE)
    dumped = done.stdout.decode()
    found = re.search(r'<pre id="measured">(.*?)</pre>', dumped, re.DOTALL)
    assert found, f"{dumped[-2000:]}\n{done.stderr.decode(errors='replace')[-2000:]}"
    result: dict[str, Any] = json.loads(html.unescape(found[1]))
    return result


def check(found: dict[str, Any]) -> None:
    """Check what holds of everything that is shown."""
    assert found["title"] == "quiet"  # nothing ran
    assert found["alien"] == found["handlers"] == found["hidden"] == 0
    assert not [address for address in found["loaded"] if not address.startswith("data:image/png")]
    assert found["wider"] == found["outside"] == found["cut"] == 0
    assert found["contrast"] >= 4.5  # https://www.w3.org/TR/WCAG22/#contrast-minimum


@themes
@pytest.mark.parametrize("width", [1400, 480])
def test_a_conversation(tmp_path: Path, theme: Theme, width: int) -> None:
    found = measured(tmp_path, display.html(CONVERSATION), theme, width)
    check(found)
    assert found["messages"] == len(TALK)
    assert found["folded"] == 5  # a thought, two calls, an artifact, a long result
    assert found["code"] == 1
    assert found["links"] == ["https://example.org/tracker.png"]
    assert found["rightToLeft"] == [TALK[7].text]
    assert [picture[:2] for picture in found["pictures"]] == [[2000, 1500], [30, 4000]]
    assert all(width <= 260 and height <= 200 for *_, width, height in found["pictures"])
    assert found["text"].count(HOSTILE) >= 3  # in the summary, in a thought, in a message
    assert "1,204 tokens in, 88 out" in found["text"]


@themes
@pytest.mark.parametrize("width", [1400, 480])
def test_a_store(tmp_path: Path, theme: Theme, width: int) -> None:
    found = measured(tmp_path, display.html(STORE), theme, width)
    check(found)
    assert found["rows"] == 21
    assert "Redis is out of reach" in found["text"]


def test_a_thousand_messages(tmp_path: Path) -> None:
    found = measured(tmp_path, display.html(LONG))
    check(found)
    assert found["messages"] == 55
    assert "… 945 more messages …" in found["text"]


def test_several_in_one_page(tmp_path: Path) -> None:
    found = measured(tmp_path, "".join(map(display.html, (CONVERSATION, STORE, LONG))))
    check(found)
    assert found["messages"] == len(TALK)  # those of the first


def test_these_tests_would_see_it(tmp_path: Path) -> None:
    found = measured(tmp_path, f'<div class="memstore">{HOSTILE}</iframe></div>')
    assert found["title"] == "it ran"
    assert found["alien"] and found["handlers"] and found["hidden"]
    found = measured(tmp_path, f'<div class="memstore"><pre style="color: #777">{"wide " * 500}</pre>later</div>')
    assert found["wider"] > 0 and found["contrast"] < 4.5
