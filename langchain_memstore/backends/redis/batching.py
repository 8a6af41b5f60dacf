"""How the tasks of an event loop send commands: those of the same moment together."""

from __future__ import annotations

import asyncio
import copy
import functools
import math
import time
from collections import deque
from typing import Any, NamedTuple

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from langchain_memstore.backends.redis.limits import ConnectionCut, is_cut
from langchain_memstore.backends.redis.loop_pool import LoopPool, prolong, timeout
from langchain_memstore.backends.redis.protocol import is_left_open, packed
from langchain_memstore.ops.base import Command

MOST_TOGETHER = 32  # how many tasks' commands go out together: with more, tasks and server wait for one another
SLACK = 0.1  # by what part of its time an answer may be given less: to set a timer takes as long as to read two answers
MOST_BYTES = 2**20  # of commands after which no others are added: what takes its time holds few others up


class _Pending(NamedTuple):
    """What a task sends, and waits for."""

    sent: bytes
    """Commands, packed."""
    replies: int
    """How many answers there are to be."""
    until: float
    """When to give up, by the monotonic clock."""
    answer: asyncio.Future[list[Any]]


class PipelineBatcher:
    """Sends the commands of tasks over the connections of their event loop.

    What the first task sends in a round of the event loop goes out at once, over a connection of its own: a lone task
    does not wait. What others send in that round goes out when it is over, together over one connection. A task that is
    cancelled lets the others go on. When the connection is lost, those fail that have no answer yet.

    Args:
        pool: Lends the connections.
    """

    def __init__(self, pool: LoopPool) -> None:
        self._pool = pool
        self._pending: list[_Pending] = []
        self._is_open = False
        self._flushes: set[asyncio.Task[None]] = set()

    async def request(self, commands: list[Command], alone: bool, until: float) -> list[Any]:
        """Send commands, and return their answers: errors of the server among them.

        Args:
            commands: What to send, in this order and with nothing between.
            alone: Whether to send nothing else over the same connection at the same time.
            until: When to give up, by the monotonic clock.
        """
        if not alone:
            loop = asyncio.get_running_loop()
            if self._is_open:
                own = _Pending(packed(commands), len(commands), until, loop.create_future())
                self._pending.append(own)
                return await own.answer
            self._is_open = True
            loop.call_soon(self._close_round)
        connection = await self._pool.acquire(until)
        healthy = False
        try:
            async with timeout(self._allowance(until)):
                await connection.send_packed_command([packed(commands)], check_health=False)
                replies = await _answers(connection, len(commands))
            healthy = not is_left_open(replies)
            return replies
        except (asyncio.TimeoutError, RedisTimeoutError) as error:
            await self._pool.drop_idle()  # what has dropped this connection may have dropped all
            raise _timed_out() from error
        except (RedisConnectionError, OSError) as error:
            if not is_cut(error):
                raise
            await self._pool.drop_idle()
            raise ConnectionCut(str(error)) from error
        finally:
            await self._pool.release(connection, healthy)

    async def aclose(self) -> None:
        """Send no more: the event loop is about to end."""
        flushes = list(self._flushes)
        for flush in flushes:
            flush.cancel()
        await asyncio.gather(*flushes, return_exceptions=True)

    def _allowance(self, until: float) -> float | None:
        """Return how many seconds an answer may take; None: as long as it takes."""
        answer = self._pool.limits.answer
        return None if answer is None else max(0.0, min(answer, until - time.monotonic()))

    def _close_round(self) -> None:
        self._is_open = False
        pending, self._pending = deque(self._pending), []
        while pending:
            together, size = deque[_Pending](), 0
            while pending and len(together) < MOST_TOGETHER and size < MOST_BYTES:
                together.append(pending.popleft())
                size += len(together[-1].sent)
            task = asyncio.create_task(self._flush(together))
            self._flushes.add(task)
            task.add_done_callback(functools.partial(self._finish, together))

    async def _flush(self, pending: deque[_Pending]) -> None:
        """Send what tasks wait for, over one connection, and hand out the answers as they come."""
        connection = await self._pool.acquire(pending[0].until)
        healthy = False
        try:
            live = [each for each in pending if not each.answer.done()]  # some were cancelled meanwhile
            pending.clear()
            pending.extend(live)
            loop, patience = asyncio.get_running_loop(), self._allowance(live[0].until if live else math.inf)
            async with timeout(patience) as limit:
                since = loop.time()
                await connection.send_packed_command([b"".join([each.sent for each in live])], check_health=False)
                while pending:
                    now = loop.time()
                    if patience is not None and now - since > SLACK * patience:
                        since = now
                        prolong(limit, now + patience)
                    replies = await _answers(connection, pending[0].replies)
                    answer = pending.popleft().answer
                    if not answer.done():
                        answer.set_result(replies)
                    if is_left_open(replies):
                        raise RedisConnectionError("another command left the connection in a transaction")
            healthy = True
        except (asyncio.TimeoutError, RedisTimeoutError) as error:
            await self._pool.drop_idle()
            raise _timed_out() from error
        except (RedisConnectionError, OSError) as error:
            if not is_cut(error):
                raise
            await self._pool.drop_idle()
            raise ConnectionCut(str(error)) from error
        finally:
            await self._pool.release(connection, healthy)

    def _finish(self, pending: deque[_Pending], task: asyncio.Task[None]) -> None:
        """Tell those that have no answer why."""
        self._flushes.discard(task)
        cancelled = RedisConnectionError("the task that sends for others was cancelled")
        error = cancelled if task.cancelled() else task.exception()
        for each in pending:
            if error is not None and not each.answer.done():
                each.answer.set_exception(copy.copy(error))


def _timed_out() -> RedisTimeoutError:
    return RedisTimeoutError("Timeout reading from server")


async def _answers(connection: Any, count: int) -> list[Any]:
    """Read answers; errors of the server are among them."""
    replies: list[Any] = []
    for _ in range(count):
        try:
            replies.append(await connection.read_response(disable_decoding=True, timeout=math.inf))
        except ResponseError as error:
            replies.append(error)
    return replies
