"""How the tasks of an event loop send commands: those of the same moment together."""

from __future__ import annotations

import asyncio
import copy
import functools
import math
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from langchain_memstore.backends.timeout import prolong, timeout
from langchain_memstore.backends.wire import Meanwhile, is_left_open, packed
from langchain_memstore.ops.base import Command

if TYPE_CHECKING:
    from langchain_memstore.backends.loop_pool import LoopPool

MOST_TOGETHER = 32  # how many tasks' commands go out together: with more, tasks and server wait for one another
SLACK = 0.1  # by what part of its time an answer may be given less: to set a timer takes as long as to read two answers
MOST_BYTES = 2**20  # of commands after which no others are added: what takes its time holds few others up


class _Waiting(NamedTuple):
    """What a task sends, and waits for."""

    sent: bytes
    """Commands, packed."""
    replies: int
    """How many answers there are to be."""
    meanwhile: Meanwhile
    answer: asyncio.Future[list[Any]]


class Sender:
    """Sends the commands of tasks over the connections of their event loop.

    What the first task sends in a round of the event loop goes out at once, over a connection of its own: a lone task
    does not wait. What others send in that round goes out when it is over, together over one connection. A task that is
    cancelled lets the others go on. When the connection is lost, those fail that have no answer yet.

    Args:
        pool: Lends the connections.
    """

    def __init__(self, pool: LoopPool) -> None:
        self._pool = pool
        self._waiting: list[_Waiting] = []
        self._is_open = False
        self._carriers: set[asyncio.Task[None]] = set()

    async def exchange(self, commands: list[Command], meanwhile: Meanwhile, alone: bool) -> list[Any]:
        """Send commands, and return their answers: errors of the server among them.

        Args:
            commands: What to send, in this order and with nothing between.
            meanwhile: What to do while the answers are under way.
            alone: Whether to send nothing else over the same connection at the same time.
        """
        if not alone:
            loop = asyncio.get_running_loop()
            if self._is_open:
                waiting = _Waiting(packed(commands), len(commands), meanwhile, loop.create_future())
                self._waiting.append(waiting)
                return await waiting.answer
            self._is_open = True
            loop.call_soon(self._close_round)
        connection = await self._pool.take()
        fit = False
        try:
            async with timeout(self._pool.patience):
                await connection.send_packed_command([packed(commands)])
                meanwhile()
                replies = await _answers(connection, len(commands))
            fit = not is_left_open(replies)
            return replies
        except asyncio.TimeoutError as error:
            raise _timed_out() from error
        finally:
            await self._pool.give(connection, fit)

    def _close_round(self) -> None:
        self._is_open = False
        waiting, self._waiting = deque(self._waiting), []
        while waiting:
            together, size = deque[_Waiting](), 0
            while waiting and len(together) < MOST_TOGETHER and size < MOST_BYTES:
                together.append(waiting.popleft())
                size += len(together[-1].sent)
            task = asyncio.create_task(self._carry(together))
            self._carriers.add(task)
            task.add_done_callback(functools.partial(self._landed, together))

    async def _carry(self, waiting: deque[_Waiting]) -> None:
        """Send what tasks wait for, over one connection, and hand out the answers as they come."""
        connection = await self._pool.take()
        fit = False
        try:
            live = [each for each in waiting if not each.answer.done()]  # some were cancelled meanwhile
            waiting.clear()
            waiting.extend(live)
            loop, patience = asyncio.get_running_loop(), self._pool.patience
            async with timeout(patience) as limit:
                since = loop.time()
                await connection.send_packed_command([b"".join([each.sent for each in live])])
                for meanwhile in {each.meanwhile for each in live}:
                    meanwhile()
                while waiting:
                    now = loop.time()
                    if patience is not None and now - since > SLACK * patience:
                        since = now
                        prolong(limit, now + patience)
                    replies = await _answers(connection, waiting[0].replies)
                    answer = waiting.popleft().answer
                    if not answer.done():
                        answer.set_result(replies)
                    if is_left_open(replies):
                        raise RedisConnectionError("another command left the connection in a transaction")
            fit = True
        finally:
            await self._pool.give(connection, fit)

    def _landed(self, waiting: deque[_Waiting], task: asyncio.Task[None]) -> None:
        """Tell those that have no answer why."""
        self._carriers.discard(task)
        cancelled = RedisConnectionError("the task that sends for others was cancelled")
        error = cancelled if task.cancelled() else task.exception()
        if isinstance(error, asyncio.TimeoutError):
            error = _timed_out()
        for each in waiting:
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
