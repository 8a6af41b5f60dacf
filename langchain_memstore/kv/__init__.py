"""Beside the history: a key-value store, caches, a rate limiter, a lock and a working memory on the same backends."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_memstore.kv.cache import GenerationCache
    from langchain_memstore.kv.cached import CachedFunction, CacheInfo
    from langchain_memstore.kv.in_process_redis import local_redis
    from langchain_memstore.kv.lock import Lock
    from langchain_memstore.kv.rate_limiter import RateLimiter
    from langchain_memstore.kv.store import KeyValueStore
    from langchain_memstore.kv.working_memory import WorkingMemory, WorkingMemoryRecord
    from langchain_memstore.ops.server import SlowCommand, StoreInfo

# Each public name, and the module that is imported when it is first asked for.
_HOMES = {
    "CacheInfo": "kv.cached",
    "CachedFunction": "kv.cached",
    "GenerationCache": "kv.cache",
    "KeyValueStore": "kv.store",
    "Lock": "kv.lock",
    "RateLimiter": "kv.rate_limiter",
    "SlowCommand": "ops.server",
    "StoreInfo": "ops.server",
    "WorkingMemory": "kv.working_memory",
    "WorkingMemoryRecord": "kv.working_memory",
    "local_redis": "kv.in_process_redis",
}

__all__ = [
    "CacheInfo",
    "CachedFunction",
    "GenerationCache",
    "KeyValueStore",
    "Lock",
    "RateLimiter",
    "SlowCommand",
    "StoreInfo",
    "WorkingMemory",
    "WorkingMemoryRecord",
    "local_redis",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"langchain_memstore.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
