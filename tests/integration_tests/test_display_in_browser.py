"""What a notebook shows, in a real browser: nothing runs, nothing overflows, and it can be read in any theme."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from langchain_memstore import Memstore

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--window-size=480,800", "--dump-dom"]

MEASURE = """
<script>
window.addEventListener('load', () => {
  const root = document.documentElement;
  const contrast = (element) => {
    const parse = (color) => color.match(/[\\d.]+/g).slice(0, 3).map(Number);
    const text = parse(getComputedStyle(element).color), page = parse(getComputedStyle(document.body).backgroundColor);
    return Math.max(...text.map((value, i) => Math.abs(value - page[i])));
  };
  const texts = [...document.querySelectorAll('.text')];
  document.body.dataset.measured = JSON.stringify({
    overflow: root.scrollWidth - root.clientWidth,
    wide: [...document.querySelectorAll('.memstore *')].filter(e => e.scrollWidth > e.clientWidth + 1
      && getComputedStyle(e).display != 'inline').map(e => e.className || e.tagName),
    messages: document.querySelectorAll('.message').length,
    scripts: document.querySelectorAll('.memstore script, .memstore [onerror], .memstore svg, .memstore a').length,
    pictures: [...document.querySelectorAll('.memstore img')].map(i => [i.naturalWidth, i.offsetWidth, i.offsetHeight]),
    directions: texts.map(e => getComputedStyle(e).direction),
    contrast: Math.min(...texts.map(contrast)),
    ran: window.ran === true,
  });
});
</script>
"""
EVIL = "<script>window.ran = true</script><img src=x onerror='window.ran = true'><svg onload='window.ran = true'>"


@pytest.fixture
def measured(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Shows HTML in a browser, and returns what was measured of it."""

    def measure(html: str, style: str = "background:#fff;color:#111") -> dict[str, Any]:
        page = tmp_path / "page.html"
        page.write_text(f"<!doctype html><meta charset=utf-8>{MEASURE}<body style='{style}'>{html}</body>")
        command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        found = re.search(r'data-measured="([^"]*)"', shown)
        assert found is not None, shown[:2000]
        return json.loads(unescape(found[1]))

    return measure


@pytest.mark.parametrize("style", ["background:#fff;color:#111", "background:#111;color:#ddd"], ids=["light", "dark"])
def test_a_conversation_is_read_and_nothing_of_it_runs(measured: Callable[..., dict[str, Any]], style: str) -> None:
    store = Memstore.from_url("memory://", max_messages=None)
    history = store.history(f"user {EVIL}")
    call = {"name": EVIL, "args": {"long": "x" * 500, EVIL: EVIL}, "id": EVIL}
    history.add_messages(
        [
            HumanMessage(EVIL),
            HumanMessage("w" * 3000),
            HumanMessage("مرحبا، كيف حالك؟"),
            HumanMessage([{"type": "image", "base64": PICTURE, "mime_type": "image/png"}]),
            AIMessage(f"```python\n{'y' * 500}\n{EVIL}\n```", tool_calls=[call]),
            ToolMessage(EVIL, tool_call_id=EVIL, name=EVIL),
        ]
    )
    history.set_summary(EVIL)
    seen = measured(history._repr_html_().replace("<details>", "<details open>"), style)
    assert seen["ran"] is False and seen["scripts"] == 0
    assert (seen["overflow"], seen["wide"]) == (0, [])
    assert seen["messages"] == 7
    assert "rtl" in seen["directions"] and "ltr" in seen["directions"]
    assert seen["contrast"] > 150
    ((natural, width, height),) = seen["pictures"]
    assert natural == 600 and 0 < width <= 240 and 0 < height <= 160


def test_a_thousand_messages_and_sessions_are_shown_in_part(measured: Callable[..., dict[str, Any]]) -> None:
    store = Memstore.from_url("memory://", max_messages=None)
    history = store.history("long")
    history.add_messages([HumanMessage(f"message {number}") for number in range(1000)])
    for number in range(1000):
        store.history(f"session/{number}/" + "i" * 300).add_user_message("hi")
    html = history._repr_html_() + store._repr_html_()
    assert len(html) < 60_000
    seen = measured(html)
    assert (seen["overflow"], seen["messages"]) == (0, 55)


def _picture(width: int, height: int) -> str:
    """Make a grey PNG."""
    import base64
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\x88" * width for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return base64.b64encode(png).decode()


PICTURE = _picture(600, 500)
