"""How what keeps the values does."""

from __future__ import annotations

from langchain_memstore.backends.base import Backend
from langchain_memstore.models import SlowCommand, StoreInfo
from langchain_memstore.ops.server import Info, SlowLog
from langchain_memstore.options import check_count


class Monitoring:
    """Looks at the server, or at what the process keeps."""

    _backend: Backend

    def info(self) -> StoreInfo:
        """Tell how the store does: memory, keys, clients, commands per second, hit rate."""
        return self._backend.execute(Info())

    async def ainfo(self) -> StoreInfo:
        """Tell how the store does; the async variant of `info`."""
        return await self._backend.aexecute(Info())

    def slowlog(self, n: int = 10) -> list[SlowCommand]:
        """Return the last commands of the server that took long (by default 10 ms), latest first.

        A store in the process keeps no slow log, and returns [].

        Args:
            n: The most to return.
        """
        check_count("n", n)
        return self._backend.execute(SlowLog(n))

    async def aslowlog(self, n: int = 10) -> list[SlowCommand]:
        """Return the last commands that took long; the async variant of `slowlog`."""
        check_count("n", n)
        return await self._backend.aexecute(SlowLog(n))
