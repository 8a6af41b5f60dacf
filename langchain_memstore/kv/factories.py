"""What a store offers beside conversations."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING

from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.options import Policy

if TYPE_CHECKING:
    from langchain_memstore.kv.cache import GenerationCache
    from langchain_memstore.kv.lock import Lock
    from langchain_memstore.kv.outages import OnOutage, OutagePolicy
    from langchain_memstore.kv.rate_limiter import RateLimiter
    from langchain_memstore.kv.store import KeyValueStore
    from langchain_memstore.kv.working_memory import WorkingMemory

_lock = threading.Lock()


class KeyValueFamily:
    """Makes what shares a store's backend and key prefix with its conversations; making it does no I/O."""

    _backend: Backend
    _policy: Policy
    _stand_in: LocalBackend | None = None
    """Keeps the locks and the limits that hold inside the process while the store cannot be reached."""

    def kv(
        self,
        namespace: str = "kv",
        ttl: float | timedelta | None = None,
        *,
        on_outage: OnOutage = "raise",
    ) -> KeyValueStore:
        """Return a key-value store: a `BaseStore` of JSON values, with the verbs of Redis.

        Args:
            namespace: Which values; those of one namespace are apart from those of the next.
            ttl: Seconds (or a timedelta) until a value expires that is set without a TTL of its own; None: never.
            on_outage: While the store cannot be reached, `raise` BackendUnavailable for values that this process does
                not know, or answer `local`: they count as absent.

        Raises:
            ValueError: An argument makes no sense.
        """
        from langchain_memstore.kv.store import KeyValueStore

        return KeyValueStore(self._backend, self._policy, namespace, ttl, on_outage=on_outage)

    def cache(self, ttl: float | timedelta | None = None) -> GenerationCache:
        """Return a cache of what language models answer: a `BaseCache`, for `set_llm_cache` or a model's `cache=`.

        Args:
            ttl: Seconds (or a timedelta) to keep an answer; None: for good.

        Raises:
            ValueError: The TTL makes no sense.
        """
        from langchain_memstore.kv.cache import GenerationCache

        return GenerationCache(self._backend, self._policy, ttl)

    def rate_limiter(
        self, requests: int, per: float | timedelta, key: str = "default", *, on_outage: OnOutage = "raise"
    ) -> RateLimiter:
        """Return a rate limiter that every process on the same Redis shares: a `BaseRateLimiter`.

        Args:
            requests: How many may pass in any window.
            per: Seconds (or a timedelta) of the window; whole ones.
            key: What is limited. Limiters with the same key, `requests` and `per` are one.
            on_outage: While the store cannot be reached, `raise` BackendUnavailable, or count `local`: each process
                by itself, so that all together let more pass.

        Raises:
            ValueError: An argument makes no sense.
            ImportError: There is no `limits` library (the extra `[limits]`).
        """
        from langchain_memstore.kv.rate_limiter import RateLimiter

        return RateLimiter(self._outage_policy(on_outage), self._policy.key_prefix, requests, per, key)

    def lock(
        self,
        name: str,
        ttl: float | timedelta = 30,
        wait: float | timedelta | None = None,
        *,
        on_outage: OnOutage = "raise",
    ) -> Lock:
        """Return a lock that one caller at a time has, of all processes on the same Redis.

        Args:
            name: Which lock; any non-empty text.
            ttl: Seconds (or a timedelta) until the lock is free again when its holder dies.
            wait: Seconds (or a timedelta) to wait for it; None: as long as it takes; 0: not at all.
            on_outage: While the store cannot be reached, `raise` BackendUnavailable, or lock `local`: within each
                process alone, so that one caller of each has it.

        Raises:
            ValueError: An argument makes no sense.
        """
        from langchain_memstore.kv.lock import Lock

        return Lock(self._outage_policy(on_outage), self._policy.key_prefix, name, ttl, wait)

    def working_memory(
        self,
        prefix: str = "memory",
        ttl: float | timedelta | None = 43_200,
        *,
        on_outage: OnOutage = "raise",
    ) -> WorkingMemory:
        """Return a working memory: records of what an agent knows, by conversation and type.

        Args:
            prefix: The first part of every key, in place of the store's: sets one application or tenant apart.
            ttl: Seconds (or a timedelta) until a record expires; None: never.
            on_outage: While the store cannot be reached, `raise` BackendUnavailable for records that this process does
                not know, or answer `local`: they count as absent.

        Raises:
            ValueError: An argument makes no sense.
        """
        from langchain_memstore.kv.working_memory import WorkingMemory

        return WorkingMemory(self._backend, self._policy, prefix, ttl, on_outage=on_outage)

    def _outage_policy(self, on_outage: OnOutage) -> OutagePolicy:
        from langchain_memstore.kv.outages import OutagePolicy, is_local

        if not is_local(on_outage):
            return OutagePolicy(self._backend)
        with _lock:
            self._stand_in = self._stand_in or LocalBackend()
        return OutagePolicy(self._backend, self._stand_in)
