"""A rate limiter that all processes on one Redis share: LangChain's `BaseRateLimiter`."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from langchain_core.rate_limiters import BaseRateLimiter
from typing_extensions import override

from langchain_memstore.keys import Namespace, check_name
from langchain_memstore.kv.outages import OutagePolicy
from langchain_memstore.ops.limit import Hit, LimiterState
from langchain_memstore.options import check_count

MOMENT = 0.001  # seconds by which a hit must have left a window before there is room


class RateLimiter(BaseRateLimiter):
    """Lets a number of requests pass in any window of time; stores make it: `Memstore.rate_limiter`.

    Hand it to a chat model as `rate_limiter=`, or ask `hit()` for each request that an endpoint gets. The counting is
    the moving window of the `limits` library (https://limits.readthedocs.io/en/stable/strategies.html#moving-window),
    run by the server on its own clock: however many processes share the limiter, never more than `requests` pass within
    `per` seconds.

    Args:
        outage_policy: Executes the operations; in an outage raises, or falls back to this process.
        prefix: The first part of the key.
        requests: How many may pass in a window.
        per: Seconds (or a timedelta) of the window; whole ones, as `limits` counts.
        key: What is limited. Limiters with the same key, `requests` and `per` are one.

    Raises:
        ValueError: An argument makes no sense.
        ImportError: There is no `limits` library.
    """

    def __init__(
        self, outage_policy: OutagePolicy, prefix: str, requests: int, per: float | timedelta, key: str = "default"
    ) -> None:
        try:
            from limits import RateLimitItemPerSecond
        except ImportError as error:
            raise ImportError("a rate limiter needs limits: pip install 'langchain-memstore[limits]'") from error
        check_count("requests", requests)
        seconds = per.total_seconds() if isinstance(per, timedelta) else per
        if isinstance(seconds, float) and seconds.is_integer():
            seconds = int(seconds)
        if not isinstance(seconds, int) or isinstance(seconds, bool) or seconds < 1:
            raise ValueError(f"per must be a whole number of seconds, at least 1, not {per!r}")
        item = RateLimitItemPerSecond(requests, seconds, namespace=check_name("key", key))
        self._outage_policy = outage_policy
        self._item = item
        self._keys = Namespace(prefix, "limit").keys(item.key_for())

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._item!r}, key={self._item.namespace!r})"

    @override
    def acquire(self, *, blocking: bool = True) -> bool:
        """Let a request pass.

        Args:
            blocking: Whether to wait until there is room.

        Returns:
            Whether it may pass; after waiting, always.

        Raises:
            BackendError: The store refused or could not be reached.
        """
        while True:
            state, _ = self._outage_policy.execute(self._op())
            if state.counted or not blocking:
                return state.counted
            time.sleep(state.ttl_ms / 1000 + MOMENT)

    @override
    async def aacquire(self, *, blocking: bool = True) -> bool:
        """Let a request pass; the async variant of `acquire`."""
        while True:
            state, _ = await self._outage_policy.aexecute(self._op())
            if state.counted or not blocking:
                return state.counted
            await asyncio.sleep(state.ttl_ms / 1000 + MOMENT)

    def hit(self) -> bool:
        """Count a request, and tell whether it may pass; one that may not is not counted."""
        return self.acquire(blocking=False)

    async def ahit(self) -> bool:
        """Count a request, and tell whether it may pass; the async variant of `hit`."""
        return await self.aacquire(blocking=False)

    def remaining(self) -> int:
        """Return how many requests may pass now; looking counts none."""
        return self._room(self._outage_policy.execute(self._op(count=False))[0])

    async def aremaining(self) -> int:
        """Return how many requests may pass now; the async variant of `remaining`."""
        return self._room((await self._outage_policy.aexecute(self._op(count=False)))[0])

    def _op(self, count: bool = True) -> Hit:
        return Hit(self._keys, self._item.amount, self._item.get_expiry(), count)

    def _room(self, state: LimiterState) -> int:
        return max(0, self._item.amount - state.hits)
