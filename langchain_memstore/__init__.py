"""Conversation memory for LLM applications: the last messages, a rolling summary and a turn counter, in Redis or in
the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_memstore._lazy import lazy_exports
from langchain_memstore._version import __version__

if TYPE_CHECKING:
    from langchain_memstore.errors import (
        BackendClosed,
        BackendDenied,
        BackendError,
        BackendFull,
        BackendUnavailable,
        DecryptError,
        LockLost,
        LockTaken,
        MemstoreError,
        MessageDecodeError,
        MessageEncodeError,
        MissingPackage,
        ValueDecodeError,
        ValueEncodeError,
    )
    from langchain_memstore.history import ChatMessageHistory, LocalChatMessageHistory, RedisChatMessageHistory
    from langchain_memstore.memstore import Memstore
    from langchain_memstore.models import SearchHit, SessionInfo, Snapshot, Status, SummaryFailure
    from langchain_memstore.runnable import RunnableWithHistory
    from langchain_memstore.settings import MemstoreSettings

__all__ = [
    "BackendClosed",
    "BackendDenied",
    "BackendError",
    "BackendFull",
    "BackendUnavailable",
    "ChatMessageHistory",
    "DecryptError",
    "LocalChatMessageHistory",
    "LockLost",
    "LockTaken",
    "Memstore",
    "MemstoreError",
    "MemstoreSettings",
    "MessageDecodeError",
    "MessageEncodeError",
    "MissingPackage",
    "RedisChatMessageHistory",
    "RunnableWithHistory",
    "SearchHit",
    "SessionInfo",
    "Snapshot",
    "Status",
    "SummaryFailure",
    "ValueDecodeError",
    "ValueEncodeError",
    "__version__",
]

_HOMES = {
    "errors": (
        *("BackendClosed", "BackendDenied", "BackendError", "BackendFull", "BackendUnavailable", "DecryptError"),
        *("LockLost", "LockTaken", "MemstoreError", "MessageDecodeError", "MessageEncodeError", "MissingPackage"),
        *("ValueDecodeError", "ValueEncodeError"),
    ),
    "history": ("ChatMessageHistory", "LocalChatMessageHistory", "RedisChatMessageHistory"),
    "memstore": ("Memstore",),
    "models": ("SearchHit", "SessionInfo", "Snapshot", "Status", "SummaryFailure"),
    "runnable": ("RunnableWithHistory",),
    "settings": ("MemstoreSettings",),
}

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
