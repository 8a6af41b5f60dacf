"""`asyncio.timeout`, or what stands for it in older Pythons, where redis-py brings it."""

import sys

if sys.version_info >= (3, 11, 3):
    from asyncio import Timeout, timeout

    def prolong(limit: Timeout, until: float) -> None:
        """Let a time limit end later, by the event loop's clock."""
        limit.reschedule(until)

else:
    from async_timeout import Timeout, timeout  # type: ignore[import-not-found,no-redef,unused-ignore]

    def prolong(limit: Timeout, until: float) -> None:
        """Let a time limit end later, by the event loop's clock."""
        limit.update(until)  # type: ignore[attr-defined,unused-ignore]


__all__ = ["prolong", "timeout"]
