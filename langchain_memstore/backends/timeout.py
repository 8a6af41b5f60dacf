"""`asyncio.timeout`, or what stands for it in older Pythons, where redis-py brings it."""

import sys

if sys.version_info >= (3, 11, 3):
    from asyncio import timeout
else:
    from async_timeout import timeout  # type: ignore[import-not-found,no-redef,unused-ignore]

__all__ = ["timeout"]
