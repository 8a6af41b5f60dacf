"""Conversation memory for LLM applications: the last messages, a rolling summary and a turn counter, in Redis or in
the process.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from langchain_memstore._version import __version__

if TYPE_CHECKING:
    from langchain_memstore.backends.base import Status, SummaryFailure
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
    from langchain_memstore.history import (
        ChatMessageHistory,
        LocalChatMessageHistory,
        RedisChatMessageHistory,
    )
    from langchain_memstore.memstore import Memstore
    from langchain_memstore.ops.listing import SessionInfo
    from langchain_memstore.runnable import RunnableWithHistory
    from langchain_memstore.search import SearchHit
    from langchain_memstore.settings import MemstoreSettings
    from langchain_memstore.snapshot import Snapshot

# Each public name, and the module that is imported when it is first asked for.
_HOMES = {
    "BackendClosed": "errors",
    "BackendDenied": "errors",
    "BackendError": "errors",
    "BackendFull": "errors",
    "BackendUnavailable": "errors",
    "ChatMessageHistory": "history",
    "DecryptError": "errors",
    "LocalChatMessageHistory": "history",
    "LockLost": "errors",
    "LockTaken": "errors",
    "MemstoreError": "errors",
    "Memstore": "memstore",
    "MemstoreSettings": "settings",
    "MessageDecodeError": "errors",
    "MessageEncodeError": "errors",
    "MissingPackage": "errors",
    "RedisChatMessageHistory": "history",
    "RunnableWithHistory": "runnable",
    "SearchHit": "search",
    "SessionInfo": "ops.listing",
    "Snapshot": "snapshot",
    "Status": "backends.base",
    "SummaryFailure": "backends.base",
    "ValueDecodeError": "errors",
    "ValueEncodeError": "errors",
}

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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
