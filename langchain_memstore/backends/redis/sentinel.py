"""Which master sentinels name.

Sentinels that promote a replica leave the old master writable for some seconds, and what it acknowledges then is lost.
So they are asked every second, all at once, while connections are used. No call waits for that, unless it needs a new
connection and no master is known, or the one that is known failed.

    call:   uses its connection .............. finds the connection's master replaced: connects to the new one
    beside: asks --- first good answer: the master ------ asks again, a second after the first
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from contextlib import suppress
from typing import Any

from redis.sentinel import MasterNotFoundError
from typing_extensions import override

from langchain_memstore.backends.redis.tls import TlsFailed

Address = tuple[str, int]
"""A host and a port."""

ASK_EVERY = 1.0  # seconds
ANSWER_WITHIN = 1.0  # seconds that a call waits for an answer, where it has to
FORGET_AFTER = 5.0  # seconds after which a sentinel is believed that knows of fewer failovers than another did


class _Answers:
    """What the sentinels of a service have said.

    Args:
        manager: Has the clients of the sentinels, and judges their answers: redis-py's `Sentinel` of either variant.
        service: What the sentinels call it.
    """

    def __init__(self, manager: Any, service: str) -> None:
        self._manager = manager
        self._service = service
        self.address: Address | None = None
        """The master, as far as it is known."""
        self._is_doubted = False
        self._failovers = 0
        self._confirmed = -FORGET_AFTER
        self._failures: dict[Any, Exception] = {}
        self._start()

    def _start(self) -> None:
        self._due = 0.0
        self._busy: set[Any] = set()

    def doubt(self) -> None:
        """Note that the master may be another: the sentinels are asked before the next connection is made."""
        self._is_doubted = True

    def is_stale(self, connection: Any) -> bool:
        """Tell whether a connection is to another master than the one that is known."""
        return self.address not in (None, (connection.host, connection.port))

    def _begin(self) -> list[Any]:
        """Return the sentinels to ask: those that were not asked before, or have answered."""
        self._due = time.monotonic() + ASK_EVERY
        idle = [sentinel for sentinel in self._manager.sentinels if sentinel not in self._busy]
        self._busy.update(idle)
        return idle

    def _take_in(self, sentinel: Any, masters: dict[str, Any]) -> bool:
        """Take in what a sentinel says; tells whether it names the master.

        After a failover some sentinels may yet name the old master: those that know of more failovers are believed.
        """
        state = masters.get(self._service)
        if not state or not self._manager.check_master_state(state, self._service):
            self._failures[sentinel] = MasterNotFoundError("does not know it" if not state else "says it is down")
            return False
        failovers, now = state.get("config-epoch", 0), time.monotonic()
        if failovers < self._failovers and now - self._confirmed < FORGET_AFTER:
            return False
        host = getattr(self._manager, "_force_master_ip", None) or state["ip"]  # redis-py has no public name for it
        self.address, self._failovers, self._confirmed = (host, state["port"]), failovers, now
        self._failures.clear()
        return True

    def _known(self) -> Address:
        """Return the master, whether or not it is doubted: nobody says otherwise."""
        self._is_doubted = False
        if self.address is not None:
            return self.address
        failures = dict(self._failures)
        for error in failures.values():
            if isinstance(error, TlsFailed):
                raise TlsFailed(f"a sentinel: {error}") from error
        told = [f"{_place(sentinel)}: {failures.get(sentinel, 'no answer')}" for sentinel in self._manager.sentinels]
        raise MasterNotFoundError(f"no sentinel names the master of {self._service!r}: {'; '.join(told)}")


def _place(sentinel: Any) -> str:
    return "{host}:{port}".format_map(sentinel.connection_pool.connection_kwargs)


_watches: weakref.WeakSet[Watch] = weakref.WeakSet()


class Watch(_Answers):
    """Asks the sentinels of a service beside the calls of threads, each in a thread of its own."""

    def __init__(self, manager: Any, service: str) -> None:
        super().__init__(manager, service)
        _watches.add(self)

    @override
    def _start(self) -> None:
        super()._start()
        self._lock = threading.Lock()
        self._answered = threading.Event()

    def look(self) -> None:
        """Have the sentinels asked, where it is time."""
        if time.monotonic() >= self._due:
            self._ask()

    def find(self) -> Address:
        """Return the master; where none is known, or it is doubted, wait for an answer.

        Raises:
            ConnectionError: Nobody names it.
        """
        if self.address is None or self._is_doubted:
            self._answered.clear()
            self._ask()
            self._answered.wait(ANSWER_WITHIN)
        return self._known()

    def _ask(self) -> None:
        with self._lock:
            idle = self._begin()
        for sentinel in idle:
            thread = threading.Thread(target=self._ask_one, args=[sentinel], name="memstore-sentinel", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the system, or an interpreter that ends, starts no more threads
                self._failures[sentinel] = error
                with self._lock:
                    self._busy.discard(sentinel)

    def _ask_one(self, sentinel: Any) -> None:
        is_good = False
        try:
            is_good = self._take_in(sentinel, sentinel.sentinel_masters())
        except Exception as error:  # a client that is closed meanwhile fails in any way
            self._failures[sentinel] = error
        finally:
            with self._lock:
                self._busy.discard(sentinel)
                if is_good or not self._busy:
                    self._answered.set()


class AsyncWatch(_Answers):
    """Asks the sentinels of a service beside the calls of tasks, each in a task of its own."""

    @override
    def _start(self) -> None:
        super()._start()
        self._answered = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def look(self) -> None:
        """Have the sentinels asked, where it is time."""
        if time.monotonic() >= self._due:
            self._ask()

    async def find(self) -> Address:
        """Return the master; the async variant of `Watch.find`."""
        if self.address is None or self._is_doubted:
            self._answered.clear()
            self._ask()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._answered.wait(), ANSWER_WITHIN)
        return self._known()

    async def stop(self) -> None:
        """Ask no more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ask(self) -> None:
        for sentinel in self._begin():
            task = asyncio.create_task(self._ask_one(sentinel))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask_one(self, sentinel: Any) -> None:
        is_good = False
        try:
            masters = await asyncio.wait_for(sentinel.sentinel_masters(), ANSWER_WITHIN)
            is_good = self._take_in(sentinel, masters)
        except Exception as error:  # a client that is closed meanwhile fails in any way
            self._failures[sentinel] = error
        finally:
            self._busy.discard(sentinel)
            if is_good or not self._busy:
                self._answered.set()


def _after_fork() -> None:
    for watch in list(_watches):
        watch._start()


if hasattr(os, "register_at_fork"):  # the threads that ask are the parent's
    os.register_at_fork(after_in_child=_after_fork)
