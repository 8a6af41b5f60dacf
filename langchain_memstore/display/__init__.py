"""Conversations and stores as a person reads them: as text and as HTML.

Formatting alone, without I/O. A `Page` is what is shown; `text` and `html` write it down:

    print(display.text(display.Page(messages=history.messages)))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_memstore._lazy import lazy_exports

if TYPE_CHECKING:
    from langchain_memstore.display.markup import html
    from langchain_memstore.display.page import Page, Table, history_page, snapshot_page, store_page
    from langchain_memstore.display.plain import message_text, text

__all__ = ["Page", "Table", "history_page", "html", "message_text", "snapshot_page", "store_page", "text"]

_HOMES = {
    "display.markup": ("html",),
    "display.page": ("Page", "Table", "history_page", "snapshot_page", "store_page"),
    "display.plain": ("message_text", "text"),
}

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
