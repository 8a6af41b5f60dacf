"""How a conversation, and a store, look in a notebook: HTML, made of values alone.

Every character that came from a message, an id, a summary or an error is escaped. The HTML has no script and loads
nothing; pictures are shown only where they are in the message itself, in a format that holds no markup. Its colours are
the page's own, lightly shaded, so that it looks right in light and dark themes.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

if TYPE_CHECKING:
    from langchain_memstore.backends.base import Status
    from langchain_memstore.ops.listing import SessionInfo
    from langchain_memstore.snapshot import Snapshot

FIRST, LAST = 5, 50  # how many messages to show of a long conversation, from its beginning and its end
MOST_TEXT = 4_000  # characters to show of one text
MOST_PICTURE = 400_000  # characters of the picture that is shown, as base64

_STYLE = """<style>
.memstore{font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;line-height:1.45;max-width:60em}
.memstore,.memstore *{box-sizing:border-box}
.memstore header,.memstore .meta,.memstore summary,.memstore .more{opacity:.75;font-size:12px}
.memstore header b{font-size:13px}
.memstore .message{border-left:3px solid #8888;margin:6px 0;padding:4px 10px;background:#8881;border-radius:3px}
.memstore .human{border-color:#3b82f6}.memstore .ai{border-color:#10b981}
.memstore .tool,.memstore .function{border-color:#a855f7}.memstore .system{border-color:#f59e0b}
.memstore .role{font-weight:600;font-size:12px}
.memstore .text{white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext}
.memstore pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#8881;border:0;padding:6px 8px;margin:4px 0;
border-radius:3px;font-family:var(--jp-code-font-family,ui-monospace,monospace);font-size:12px;color:inherit}
.memstore img{max-width:240px;max-height:160px;display:block;margin:4px 0;border-radius:3px}
.memstore .chip{display:inline-block;border:1px solid #8886;border-radius:9px;padding:0 8px;margin:2px 4px 2px 0;
font-size:12px;overflow-wrap:anywhere}
.memstore .error{border-color:#ef4444}.memstore summary{cursor:pointer}
.memstore table{border-collapse:collapse;margin:6px 0;font-size:12px}
.memstore th,.memstore td{text-align:left;padding:2px 10px 2px 0;border-bottom:1px solid #8884;overflow-wrap:anywhere}
.memstore td.number,.memstore th.number{text-align:right}
</style>"""


def conversation_html(title: str, snapshot: Snapshot, status: Status | None = None) -> str:
    """Show a conversation: what is known of it, its summary, and its messages, the middle of many left out.

    Args:
        title: What it is.
        snapshot: All there is of it.
        status: How its store does; None: that is not known.
    """
    facts = [
        f"{len(snapshot.messages)} messages of {snapshot.total}",
        f"{snapshot.turns} turns",
        f"{snapshot.evicted} waiting to be summarised" if snapshot.evicted else "",
        f"{snapshot.summarized} summarised" if snapshot.summarized else "",
        f"{snapshot.lost} lost" if snapshot.lost else "",
        "does not expire" if snapshot.ttl is None else f"expires in {_duration(snapshot.ttl)}",
        *_outage(status),
    ]
    parts = [_header(title, facts)]
    if snapshot.summary:
        parts.append(f'<div class="message system"><div class="role">summary</div>{_text(snapshot.summary)}</div>')
    messages = snapshot.messages
    hidden = len(messages) - FIRST - LAST
    if hidden > 0:
        parts += [*map(_message, messages[:FIRST]), f'<div class="more">… {hidden:,} more messages …</div>']
        messages = messages[-LAST:]
    parts += map(_message, messages)
    return _page(parts)


def store_html(title: str, status: Status, sessions: Sequence[SessionInfo], more: bool) -> str:
    """Show a store: how it does, and some of its sessions.

    Args:
        title: What it is.
        status: How it does.
        sessions: What is known of the sessions to show.
        more: Whether there are others.
    """
    parts = [_header(title, [f"kept in {status.backend}", *_outage(status)])]
    for failure in status.summary_failures[-3:]:
        said = _escape(_short(f"no summary of {failure.session_id}: {failure.cause}"))
        parts.append(f'<div class="message error">{said}</div>')
    rows = [
        f'<tr><td dir="auto">{_escape(_short(info.session_id, 120))}</td><td class="number">{info.messages}</td>'
        f'<td class="number">{info.turns}</td><td class="number">{info.evicted}</td>'
        f"<td>{'yes' if info.summary else ''}</td><td>{'never' if info.ttl is None else _duration(info.ttl)}</td>"
        f"<td>{info.updated:%Y-%m-%d %H:%M}</td></tr>"
        for info in sessions
    ]
    if rows:
        head = "".join(
            f'<th class="number">{name}</th>' if name in _NUMBERS else f"<th>{name}</th>" for name in _COLUMNS
        )
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>")
    parts.append(f'<div class="more">{"… and more sessions" if more else "" if rows else "no sessions"}</div>')
    return _page(parts)


def _outage(status: Status | None) -> list[str]:
    if status is None or not status.degraded:
        return []
    since = f" since {status.since:%Y-%m-%d %H:%M:%S} UTC" if status.since else ""
    return [f"degraded{since}: {status.pending} operations wait to be replayed"]


_COLUMNS = ("session", "messages", "turns", "waiting", "summary", "expires in", "last written (UTC)")
_NUMBERS = ("messages", "turns", "waiting")


def trouble_html(title: str, error: Exception) -> str:
    """Show that something could not be read.

    Args:
        title: What it is.
        error: What went wrong.
    """
    said = f"{type(error).__name__}: {error}"
    return _page([_header(title, []), f'<div class="message error">{_text(said)}</div>'])


def _page(parts: list[str]) -> str:
    return f'{_STYLE}<div class="memstore">{"".join(parts)}</div>'


def _header(title: str, facts: list[str]) -> str:
    known = " · ".join(_escape(fact) for fact in facts if fact)
    return f'<header><b dir="auto">{_escape(_short(title, 200))}</b> {known}</header>'


def _message(message: BaseMessage) -> str:
    kind = message.type if message.type in ("human", "ai", "tool", "function", "system") else "other"
    role = getattr(message, "role", None) or message.type
    failed = isinstance(message, ToolMessage) and message.status == "error"
    said = " · ".join(filter(None, (role, message.name, "error" if failed else "")))
    body = _content(message.content)
    if isinstance(message, ToolMessage):
        body = _fold(f"result {message.tool_call_id}", body)
    if isinstance(message, AIMessage):
        body += "".join(_call(call, "") for call in message.tool_calls)
        body += "".join(_call(call, " (invalid)") for call in message.invalid_tool_calls)
        if usage := message.usage_metadata:
            used = f"{usage.get('input_tokens')} tokens in, {usage.get('output_tokens')} out"
            body += f'<div class="meta">{_escape(used)}</div>'
    css = f"{kind} error" if failed else kind
    return f'<div class="message {css}"><div class="role">{_escape(_short(said, 120))}</div>{body}</div>'


def _content(content: Any) -> str:
    blocks = content if isinstance(content, list) else [content]
    return "".join(_block(block) for block in blocks)


def _block(block: Any) -> str:
    if isinstance(block, str):
        return _text(block) if block else ""
    if not isinstance(block, dict):
        return _fold("content", _code(block))
    kind = str(block.get("type", "content"))
    if isinstance(block.get("text"), str) and kind in ("text", "input_text", "output_text"):
        return _text(block["text"])
    if kind in ("tool_use", "tool_call", "function_call"):  # shown as a call of the message
        return ""
    if kind in ("thinking", "reasoning"):
        return _fold(kind, _text(str(block.get("thinking") or block.get("reasoning") or _json(block))))
    picture = _picture(block)
    if picture is not None:
        return f'<img alt="picture" src="{_escape(picture)}">'
    if kind in _MEDIA:
        what = str(block.get("mime_type") or block.get("media_type") or kind)
        return f'<span class="chip">{_escape(_short(what, 120))}</span>'
    return _fold(kind, _code(block))


_MEDIA = {"image", "image_url", "input_image", "audio", "input_audio", "video", "media", "file", "document"}
_DATA_URL = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_RASTER = {"image/png", "image/jpeg", "image/gif", "image/webp"}  # formats that hold no markup


def _picture(block: dict[str, Any]) -> str | None:
    """Return the data URL of a picture that a block of content holds; None: it holds none that may be shown."""
    url = block.get("image_url") or block.get("url")
    if isinstance(url, dict):
        url = url.get("url")
    source: Any = block.get("source") if isinstance(block.get("source"), dict) else block
    data = source.get("base64") or source.get("data")
    mime = source.get("mime_type") or source.get("media_type")
    if isinstance(data, str) and mime in _RASTER and len(data) <= MOST_PICTURE and _BASE64.fullmatch(data):
        return f"data:{mime};base64,{data}"
    if isinstance(url, str) and len(url) <= MOST_PICTURE and _DATA_URL.fullmatch(url):
        return url
    return None


def _call(call: Any, note: str) -> str:
    return _fold(f"{call.get('name')}{note} · {call.get('id')}", _code(call.get("args")))


_FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)


def _text(text: str) -> str:
    """Show a text, what is fenced in it as code."""
    text = _short(text, MOST_TEXT)
    parts, end = [], 0
    for fence in _FENCE.finditer(text):
        parts += [_paragraph(text[end : fence.start()]), f'<pre dir="ltr">{_escape(fence[1].rstrip())}</pre>']
        end = fence.end()
    return "".join([*parts, _paragraph(text[end:])])


def _paragraph(text: str) -> str:
    return f'<div class="text" dir="auto">{_escape(text.strip())}</div>' if text.strip() else ""


def _code(value: Any) -> str:
    text = value if isinstance(value, str) else _json(value)
    return f'<pre dir="ltr">{_escape(_short(text, MOST_TEXT))}</pre>'


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, default=str, skipkeys=True)


def _fold(title: str, body: str) -> str:
    return f"<details><summary>{_escape(_short(title, 120))}</summary>{body}</details>"


def _short(text: str, most: int = 500) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} more characters)"


_CONTROLS = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if code not in (9, 10)}


def _escape(text: str) -> str:
    """Return text as HTML shows it: no markup, no control characters, nothing that UTF-8 cannot encode."""
    return html.escape(text.translate(_CONTROLS).encode(errors="replace").decode())


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
