"""Mutual exclusion across processes, threads and tasks."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import NamedTuple

from typing_extensions import Self, override

from langchain_memstore.backends.base import Backend
from langchain_memstore.errors import BackendError, LockLost, LockTaken
from langchain_memstore.keys import Namespace, check_name
from langchain_memstore.kv.outages import OutagePolicy
from langchain_memstore.ops.lock import Acquire, Extend, GiveUp, Owns
from langchain_memstore.ops.write_ids import aexecute_write, execute_write, new_token
from langchain_memstore.options import check_seconds, milliseconds

logger = logging.getLogger(__name__)

SHORTEST_PAUSE, LONGEST_PAUSE = 0.002, 0.05  # seconds between two attempts to take a lock


class _Hold(NamedTuple):
    """One time that the lock was taken through an object."""

    caller: object
    token: str
    where: Backend


class Lock:
    """A lock that one caller at a time has, of all processes on one Redis; stores make it: `Memstore.lock`.

    Use it as a context manager, sync or async; one object serves many threads and tasks. Only who has the lock can give
    it up. It is not fair, and not reentrant: who has it already and takes it again waits for himself; a task that does
    so with the same object is told. It is a lease: after `ttl` seconds another may have it, whatever its holder still
    does. Long work calls `extend`; leaving the block raises LockLost where the time had run out.

    Args:
        outage_policy: Executes the operations; in an outage raises, or falls back to this process.
        prefix: The first part of its key.
        name: Which lock; any non-empty text.
        ttl: Seconds (or a timedelta) until the lock is free again when its holder dies.
        wait: Seconds (or a timedelta) to wait for it; None: as long as it takes; 0: not at all.

    Raises:
        ValueError: An argument makes no sense.
    """

    def __init__(
        self,
        outage_policy: OutagePolicy,
        prefix: str,
        name: str,
        ttl: float | timedelta = 30,
        wait: float | timedelta | None = None,
    ) -> None:
        self._keys = Namespace(prefix, "lock").keys(check_name("name", name))
        self._outage_policy = outage_policy
        self._name = name
        self._ttl = _time("ttl", ttl)
        if wait != 0:
            check_seconds("wait", wait)
        self._wait = wait.total_seconds() if isinstance(wait, timedelta) else wait
        self._holds: list[_Hold] = []

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r}, ttl={self._ttl / 1000}, wait={self._wait})"

    def __enter__(self) -> Self:
        caller, token, pauses = self._start()
        try:
            taken, where = self._outage_policy.execute(self._acquire(token))
            while taken:
                time.sleep(pauses.next(taken))
                taken, where = self._outage_policy.execute(self._acquire(token))
        except Exception:
            raise
        except BaseException:  # interrupted: the lock may have been taken just now
            with suppress(BackendError):
                self._outage_policy.execute(GiveUp(self._keys, token))
            raise
        self._holds.append(_Hold(caller, token, where))
        return self

    async def __aenter__(self) -> Self:
        caller, token, pauses = self._start()
        try:
            taken, where = await self._outage_policy.aexecute(self._acquire(token))
            while taken:
                await asyncio.sleep(pauses.next(taken))
                taken, where = await self._outage_policy.aexecute(self._acquire(token))
        except Exception:
            raise
        except BaseException:  # cancelled: the lock may have been taken just now, or may yet be
            await asyncio.shield(asyncio.ensure_future(self._abandon(token)))
            raise
        self._holds.append(_Hold(caller, token, where))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        hold = self._end()
        try:
            kept = execute_write(hold.where.execute, GiveUp(self._keys, hold.token))
        except BackendError as failure:
            self._report(failure, error)
        else:
            self._report(None if kept else self._lost(), error)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        hold = self._end()
        try:
            kept = await asyncio.shield(
                asyncio.ensure_future(aexecute_write(hold.where.aexecute, GiveUp(self._keys, hold.token)))
            )
        except BackendError as failure:
            self._report(failure, error)
        else:
            self._report(None if kept else self._lost(), error)

    def extend(self, ttl: float | timedelta | None = None) -> None:
        """Hold the lock for longer.

        Args:
            ttl: Seconds (or a timedelta) from now; None: as many as it was taken for.

        Raises:
            LockLost: The time had run out.
            RuntimeError: The lock is not held through this object.
            BackendError: The store refused or could not be reached.
        """
        hold, op = self._extending(ttl)
        if not execute_write(hold.where.execute, op):
            raise self._lost()

    async def aextend(self, ttl: float | timedelta | None = None) -> None:
        """Hold the lock for longer; the async variant of `extend`."""
        hold, op = self._extending(ttl)
        if not await aexecute_write(hold.where.aexecute, op):
            raise self._lost()

    def owned(self) -> bool:
        """Tell whether the lock is held through this object, and its time has not run out."""
        hold = self._mine()
        return hold is not None and hold.where.execute(Owns(self._keys[:1], hold.token))

    async def aowned(self) -> bool:
        """Tell whether the lock is held through this object; the async variant of `owned`."""
        hold = self._mine()
        return hold is not None and await hold.where.aexecute(Owns(self._keys[:1], hold.token))

    def _start(self) -> tuple[object, str, _Pauses]:
        caller = _caller()
        if not isinstance(caller, int) and any(hold.caller is caller for hold in self._holds):
            raise RuntimeError(f"this task has the lock {self._name!r} already; a lock is not reentrant")
        return caller, new_token(), _Pauses(self._name, self._wait)

    def _acquire(self, token: str) -> Acquire:
        return Acquire(self._keys, token, self._ttl)

    def _end(self) -> _Hold:
        hold = self._current_hold()
        self._holds.remove(hold)
        return hold

    def _current_hold(self) -> _Hold:
        if (hold := self._mine()) is None:
            raise RuntimeError(f"the lock {self._name!r} is not held through this object")
        return hold

    def _mine(self) -> _Hold | None:
        """Return the caller's hold. A block may end in another thread or task than it began in; it is the oldest then,
        and nearly always the only one: there are several only when a lease was lost.
        """
        caller, holds = _caller(), self._holds.copy()
        return next((hold for hold in holds if hold.caller == caller), holds[0] if holds else None)

    def _extending(self, ttl: float | timedelta | None) -> tuple[_Hold, Extend]:
        hold = self._current_hold()
        return hold, Extend(self._keys, hold.token, self._ttl if ttl is None else _time("ttl", ttl))

    async def _abandon(self, token: str) -> None:
        with suppress(BackendError):
            await self._outage_policy.aexecute(GiveUp(self._keys, token))

    def _lost(self) -> LockLost:
        return LockLost(
            f"the time of the lock {self._name!r} ran out, and another may have had it; take it with a longer ttl than "
            f"{self._ttl / 1000} s, or extend() it in time"
        )

    def _report(self, failure: Exception | None, error: BaseException | None) -> None:
        """Raise a failure, or log it where another error is under way already."""
        if failure is not None and error is None:
            raise failure
        if failure is not None:
            logger.warning("%s: while %s was raised", failure, type(error).__name__)


class _Pauses:
    """How long to wait between two attempts.

    Args:
        name: The lock's name.
        wait: For how many seconds to try; None: for as long as it takes.
    """

    def __init__(self, name: str, wait: float | None) -> None:
        self._name = name
        self._wait = wait
        self._until = None if wait is None else time.monotonic() + wait
        self._longest = SHORTEST_PAUSE

    def next(self, taken: int) -> float:
        """Return how many seconds to wait now.

        Args:
            taken: Milliseconds for which another has the lock; -1: there is no end.

        Raises:
            LockTaken: The time to wait has passed.
        """
        pause = random.uniform(0.5, 1) * self._longest
        self._longest = min(LONGEST_PAUSE, self._longest * 2)
        if taken > 0:
            pause = min(pause, taken / 1000)
        if self._until is None:
            return pause
        remaining = self._until - time.monotonic()
        if remaining <= 0:
            raise LockTaken(f"another has the lock {self._name!r}, and has had it for the {self._wait:g} s of wait=")
        return min(pause, remaining)


def _caller() -> object:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return threading.get_ident() if task is None else task


def _time(name: str, ttl: float | timedelta | None) -> int:
    check_seconds(name, ttl)
    if ttl is None:
        raise ValueError(f"{name} must be a positive number of seconds, not None")
    return milliseconds(ttl)
