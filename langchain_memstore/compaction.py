"""The flow of a rolling summary: claim, summarise, commit; within the turn, in the background, or when asked to."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import Context, copy_context
from datetime import datetime, timezone
from typing import TypeVar

from langchain_core.messages import BaseMessage
from langchain_core.runnables.config import var_child_runnable_config

from langchain_memstore import codec
from langchain_memstore.backends.base import Backend, SummaryFailure
from langchain_memstore.errors import BackendError, SummaryError
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.session import Appended
from langchain_memstore.ops.summary import Claim, Claimed, Commit, Release
from langchain_memstore.options import Policy
from langchain_memstore.summary import asummarize, summarize

T = TypeVar("T")

logger = logging.getLogger(__name__)

WORKERS = 8  # how many summaries the process, and each event loop, makes at a time in the background
KEPT_FAILURES = 20

_workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="memstore-summary")
_slots: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = weakref.WeakKeyDictionary()


def _after_fork() -> None:
    global _workers
    _workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="memstore-summary")  # threads do not survive a fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Compactor:
    """Makes the summaries of the sessions of one store.

    Where a summary fails, nothing is lost and nothing is raised: the failure is logged and kept in `failures`, and the
    next turn tries again.

    Args:
        backend: Where the sessions are kept.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._busy: set[SessionKeys] = set()
        self._warned: set[SessionKeys] = set()
        self._futures: set[Future[bool]] = set()
        self._tasks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, set[asyncio.Task[bool]]] = (
            weakref.WeakKeyDictionary()
        )
        self._failures: deque[SummaryFailure] = deque(maxlen=KEPT_FAILURES)

    @property
    def failures(self) -> tuple[SummaryFailure, ...]:
        """The last summaries that failed, oldest first."""
        return tuple(self._failures)

    def after_append(self, keys: SessionKeys, policy: Policy, appended: Appended) -> None:
        """Make a summary after an append, where it is due."""
        if not self._is_due(keys, policy, appended):
            return
        if policy.summarize == "inline":
            _apart().run(self._compact_quietly, keys, policy)
        elif self._enter(keys):
            future = _workers.submit(_apart().run, self._compact_quietly, keys, policy)
            self._futures.add(future)
            future.add_done_callback(lambda done: self._leave(keys, done, self._futures))

    async def aafter_append(self, keys: SessionKeys, policy: Policy, appended: Appended) -> None:
        """Make a summary after an append, where it is due; the async face of `after_append`."""
        if not self._is_due(keys, policy, appended):
            return
        loop = asyncio.get_running_loop()
        if policy.summarize == "inline":
            await _apart().run(loop.create_task, self._acompact_quietly(keys, policy))
        elif self._enter(keys):
            tasks = self._tasks.setdefault(loop, set())
            task = _apart().run(loop.create_task, self._acompact_in_slot(keys, policy))
            tasks.add(task)
            task.add_done_callback(lambda done: self._leave(keys, done, tasks))

    def compact(self, keys: SessionKeys, policy: Policy, every: int = 0) -> bool:
        """Make a summary now; tells whether there is a new one.

        Args:
            keys: The session.
            policy: What makes the summary.
            every: How many turns must have passed since the last summary; 0: it is enough that something waits.

        Raises:
            BackendError: The store refused or could not be reached.
        """
        claim = Claim(keys, policy.lease_ms, every)
        claimed = self._backend.execute(claim)
        if claimed is None:
            return False
        done = False
        try:
            summary = summarize(policy.summarizer, claimed.summary, _messages(claimed, keys))
            done = self._committed(keys, self._backend.execute(_commit(claim, claimed, policy, summary)))
        except BackendError:
            raise
        except Exception as error:
            self._note(keys, error)
        finally:
            if not done:
                self._backend.execute(Release(keys, claim.batch))
        return done

    async def acompact(self, keys: SessionKeys, policy: Policy, every: int = 0) -> bool:
        """Make a summary now; the async face of `compact`."""
        claim = Claim(keys, policy.lease_ms, every)
        claimed = await self._backend.aexecute(claim)
        if claimed is None:
            return False
        done = False
        try:
            summary = await asummarize(policy.summarizer, claimed.summary, _messages(claimed, keys))
            done = self._committed(keys, await self._backend.aexecute(_commit(claim, claimed, policy, summary)))
        except BackendError:
            raise
        except Exception as error:
            self._note(keys, error)
        finally:
            if not done:
                await self._backend.aexecute(Release(keys, claim.batch))
        return done

    def close(self) -> None:
        """Wait for the summaries that are being made in threads."""
        wait(list(self._futures))

    async def aclose(self) -> None:
        """Wait for the summaries that are being made, by the running event loop's tasks and in threads."""
        tasks = self._tasks.get(asyncio.get_running_loop(), set())
        await asyncio.gather(*tasks, *map(asyncio.wrap_future, self._futures), return_exceptions=True)

    def _compact_quietly(self, keys: SessionKeys, policy: Policy) -> bool:
        try:
            return self.compact(keys, policy, policy.summarize_every)
        except BackendError as error:
            self._note(keys, error)
            return False

    async def _acompact_quietly(self, keys: SessionKeys, policy: Policy) -> bool:
        try:
            return await self.acompact(keys, policy, policy.summarize_every)
        except BackendError as error:
            self._note(keys, error)
            return False

    async def _acompact_in_slot(self, keys: SessionKeys, policy: Policy) -> bool:
        async with _slots.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(WORKERS)):
            return await self._acompact_quietly(keys, policy)

    def _is_due(self, keys: SessionKeys, policy: Policy, appended: Appended) -> bool:
        if appended.lost and keys not in self._warned:
            self._warned.add(keys)
            logger.warning(
                "session %r: max_evicted=%d is reached; messages are dropped without having been summarised",
                keys.session_id,
                policy.max_evicted,
            )
        return (
            policy.summarizer is not None
            and policy.summarize != "manual"
            and appended.waiting > 0
            and appended.turns_since_summary >= policy.summarize_every
        )

    def _enter(self, keys: SessionKeys) -> bool:
        """Take a session for the background, unless it is taken."""
        with self._lock:
            if keys in self._busy:
                return False
            self._busy.add(keys)
            return True

    def _leave(self, keys: SessionKeys, done: T, among: set[T]) -> None:
        among.discard(done)
        with self._lock:
            self._busy.discard(keys)

    def _committed(self, keys: SessionKeys, committed: bool) -> bool:
        if not committed:
            raise SummaryError("the claim is void: the session was cleared, or its summary claimed or set by others")
        self._warned.discard(keys)
        return True

    def _note(self, keys: SessionKeys, error: Exception) -> None:
        cause = f"{type(error).__name__}: {error}"
        self._failures.append(SummaryFailure(keys.session_id, cause, datetime.now(timezone.utc)))
        logger.warning("session %r: no summary was made, nothing is lost: %s", keys.session_id, cause)


def _messages(claimed: Claimed, keys: SessionKeys) -> list[BaseMessage]:
    return codec.decode_entries(claimed.entries, keys.session_id, "skip")


def _commit(claim: Claim, claimed: Claimed, policy: Policy, summary: str) -> Commit:
    if not summary:
        raise SummaryError("the summarizer returned an empty text")
    return Commit(claim.keys, summary, claimed, policy.ttl_ms, claim.batch)


def _apart() -> Context:
    """Return this context without the run that it is in: a summary is no part of the run's trace, nor of its stream."""
    context = copy_context()
    context.run(var_child_runnable_config.set, None)
    return context
