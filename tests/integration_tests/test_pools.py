"""The pools of connections lose nothing, whatever strikes whoever uses them."""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from langchain_memstore import Memstore
from langchain_memstore.backends.redis.pool import ThreadPool
from support.servers import Server

SIZE = 2
PING = [("PING",)]


class Struck(BaseException):
    """As KeyboardInterrupt, or the timeout of a greenlet: it may strike between any two lines."""


def striking(at: int) -> tuple[Callable[..., Any], list[str]]:
    """Return a trace function that strikes at a line of the package's pools, and where it has struck."""
    lines = itertools.count()
    struck: list[str] = []

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.endswith(("redis/pool.py", "redis/checkout.py", "redis/limits.py")):
            return None
        if event == "line" and not struck and next(lines) == at:
            struck.append(f"{frame.f_code.co_name}:{frame.f_lineno}")
            raise Struck
        return trace

    return trace, struck


@pytest.mark.parametrize("state", ["none idle", "idle", "idle for long"])
def test_an_interrupt_at_any_line_loses_no_connection(
    server: Server, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if state == "idle for long":
        monkeypatch.setattr("langchain_memstore.backends.redis.pool.IDLE", 0.0)
    with Memstore.from_url(server.url, max_connections=SIZE, fallback=False) as store:
        pool: ThreadPool = store._backend._connections.thread_pool()  # type: ignore[attr-defined]
        for at in itertools.count():
            if state == "none idle":
                pool.drop_idle()
            trace, struck = striking(at)
            sys.settrace(trace)
            try:
                pool.request(PING, time.monotonic() + 5)
            except Struck:
                pass
            finally:
                sys.settrace(None)
            if not struck:
                break
            gc.collect()
            assert len(pool._slots) == 0, struck
            assert pool.request(PING, time.monotonic() + 5) == [b"PONG"], struck
        assert at > 15


async def test_a_cancellation_at_any_moment_loses_no_connection(server: Server) -> None:
    async with Memstore.from_url(server.url, max_connections=SIZE, fallback=False) as store:
        connections = store._backend._connections  # type: ignore[attr-defined]
        pool = (await connections.loop_connections())._pool
        for moments in range(60):
            if moments % 2:
                await pool.drop_idle()
            tasks = [
                asyncio.create_task(connections.arequest(PING, time.monotonic() + 5, alone=True)) for _ in range(5)
            ]
            for _ in range(moments):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert pool._free == SIZE and not pool._waiters, moments
            assert await connections.arequest(PING, time.monotonic() + 5) == [b"PONG"]
