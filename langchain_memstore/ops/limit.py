"""The operation of a rate limiter: a hit in a moving window."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from typing_extensions import override

from langchain_memstore.ops.base import Argument, InOutage, Script
from langchain_memstore.ops.kv_scripts import VALUES, ValueScript, find_result, record_result
from langchain_memstore.ops.state import LocalState, Value


class LimiterState(NamedTuple):
    """What there is of a moving window."""

    counted: bool
    """Whether the hit was counted."""
    hits: int
    """How many hits the window holds."""
    ttl_ms: int
    """Milliseconds until its oldest hit leaves it."""


class _Counting(Script):
    """The script of this package, after those of the `limits` library that do the counting."""

    @cached_property
    @override
    def source(self) -> bytes:
        from limits.storage import RedisStorage

        acquire, window = RedisStorage.SCRIPT_ACQUIRE_MOVING_WINDOW, RedisStorage.SCRIPT_MOVING_WINDOW
        return b"".join(
            [
                b"local function acquire(KEYS, ARGV)\n%b\nend\n" % _bytes(acquire),
                b"local function moving_window(KEYS, ARGV)\n%b\nend\n" % _bytes(window),
                super().source,
            ]
        )


def _bytes(script: bytes | str) -> bytes:
    return script if isinstance(script, bytes) else script.encode()


@dataclass(frozen=True)
class Hit(ValueScript[LimiterState]):
    """Count a hit, where a moving window has room for it, or only look.

    A limit that the process keeps for itself is another promise, so nothing stands in for the store; see
    `kv/rate_limiter.py`.

    Args:
        keys: Where the times of the hits are; see `ValueScript`.
        most: The most hits in a window.
        per: Seconds of a window.
        count: Whether to count a hit.
        write_id: The id by which a repetition is known; empty: a new one.
    """

    script: ClassVar[Script] = _Counting("hit", VALUES)
    writes: ClassVar[bool] = True
    in_outage: ClassVar[InOutage] = "refuse"

    keys: tuple[str, str]
    most: int
    per: int
    count: bool = True
    write_id: str = ""

    @override
    def values(self) -> tuple[Argument, ...]:
        return (self.most, self.per, int(self.count))

    @override
    def decode(self, reply: list[Any]) -> LimiterState:
        counted, hits, ttl_ms = reply
        return LimiterState(counted == 1, hits, ttl_ms)

    @override
    def run(self, state: LocalState, now: int) -> LimiterState:
        # As the scripts of `limits` do it: a hit leaves its window when more than its seconds have passed.
        if self.count and (done := find_result(state, self)) is not None:
            return LimiterState(True, *map(int, done.split(",")))
        key, length = self.keys[0], self.per * 1000
        value = state.leases.find(key) or Value(data=deque())
        times: deque[int] = value.data
        while times and times[-1] < now - length:
            times.pop()
        counted = self.count and len(times) < self.most
        if counted:
            times.appendleft(now)
            value.expires = now + length + 1
            state.leases.keep(key, value)
            record_result(state, self, f"{len(times)},{times[-1] + length - now}", now)
        return LimiterState(counted, len(times), times[-1] + length - now if times else 0)
