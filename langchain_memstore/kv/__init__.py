"""Beside the history: a key-value store, caches, a rate limiter, a lock and a working memory on the same backends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_memstore._lazy import lazy_exports

if TYPE_CHECKING:
    from langchain_memstore.kv.cache import GenerationCache
    from langchain_memstore.kv.cached import CachedFunction, CacheInfo
    from langchain_memstore.kv.in_process_redis import local_redis
    from langchain_memstore.kv.lock import Lock
    from langchain_memstore.kv.rate_limiter import RateLimiter
    from langchain_memstore.kv.store import KeyValueStore
    from langchain_memstore.kv.working_memory import WorkingMemory, WorkingMemoryRecord
    from langchain_memstore.models import SlowCommand, StoreInfo

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

_HOMES = {
    "kv.cache": ("GenerationCache",),
    "kv.cached": ("CacheInfo", "CachedFunction"),
    "kv.in_process_redis": ("local_redis",),
    "kv.lock": ("Lock",),
    "kv.rate_limiter": ("RateLimiter",),
    "kv.store": ("KeyValueStore",),
    "kv.working_memory": ("WorkingMemory", "WorkingMemoryRecord"),
    "models": ("SlowCommand", "StoreInfo"),
}

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
