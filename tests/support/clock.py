"""A clock that stands still until a test turns it on."""

from __future__ import annotations


class Clock:
    """Tells the time, in seconds since 1970."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now
