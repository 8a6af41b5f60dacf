"""The flow of a rolling summary: claim, summarise, commit; within the turn, in the background, or when asked to."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import Context
from datetime import datetime, timezone

from langchain_memstore.backends.base import Backend
from langchain_memstore.errors import BackendError, DecryptError, MissingPackage, SummaryError
from langchain_memstore.keys import SessionKeys
from langchain_memstore.models import SummaryFailure
from langchain_memstore.ops.session import Appended
from langchain_memstore.ops.summary import Claim, Claimed, Commit, Release
from langchain_memstore.ops.write_ids import aexecute_write, execute_write
from langchain_memstore.options import Policy
from langchain_memstore.summaries.summarizer import asummarize, summarize

logger = logging.getLogger(__name__)

WORKERS = 8  # how many summaries the process, and each event loop, makes at a time in the background
KEPT_FAILURES = 20

Work = Future[bool] | asyncio.Task[bool]
"""A summary in the making: in a thread, or in a task of an event loop."""

_workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="memstore-summary")
_slots: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}
_compactors: weakref.WeakSet[Compactor] = weakref.WeakSet()


def _after_fork() -> None:
    """Start afresh: neither the threads nor the event loops of the parent go on in a fork."""
    global _workers
    _workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="memstore-summary")
    for compactor in _compactors:
        compactor.forget_work()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Compactor:
    """Makes the summaries of the sessions of one store.

    Where a summary fails, nothing is lost and nothing is raised: the failure is logged and kept in `failures`, and the
    next turn tries again. What is made after an append runs in a context of its own: it is no part of the trace, nor of
    the stream, of the run that appends.

    Args:
        backend: Where the sessions are kept.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._warned: set[SessionKeys] = set()
        self._failures: deque[SummaryFailure] = deque(maxlen=KEPT_FAILURES)
        self.forget_work()
        _compactors.add(self)

    def forget_work(self) -> None:
        """Know of no summary in the making."""
        self._lock = threading.RLock()  # an eager task runs within it
        self._work: dict[SessionKeys, Work] = {}

    @property
    def failures(self) -> tuple[SummaryFailure, ...]:
        """The last summaries that failed, oldest first."""
        return tuple(self._failures)

    def after_append(self, keys: SessionKeys, policy: Policy, appended: Appended) -> None:
        """Make a summary after an append, where it is due."""
        if not self._is_due(keys, policy, appended):
            return
        if policy.summarize == "inline":
            Context().run(self._compact_quietly, keys, policy)
        else:
            self._start(keys, lambda: _workers.submit(Context().run, self._compact_quietly, keys, policy))

    async def aafter_append(self, keys: SessionKeys, policy: Policy, appended: Appended) -> None:
        """Make a summary after an append, where it is due; the async variant of `after_append`."""
        if not self._is_due(keys, policy, appended):
            return
        loop = asyncio.get_running_loop()
        if policy.summarize == "inline":
            await Context().run(loop.create_task, self._acompact_quietly(keys, policy))
        else:
            self._start(keys, lambda: Context().run(loop.create_task, self._acompact_in_slot(keys, policy)))

    def compact(self, keys: SessionKeys, policy: Policy, every: int = 0) -> bool:
        """Make a summary now; tells whether there is a new one.

        Args:
            keys: The session.
            policy: What makes the summary.
            every: How many turns must have passed since the last summary; 0: it is enough that something waits.

        Raises:
            DecryptError: What the summary is made of cannot be decrypted.
            BackendError: The store refused or could not be reached.
        """
        claim, codec = Claim(keys, policy.lease_ms, every), policy.session_codec(keys)
        claimed = self._backend.execute(claim)
        if claimed is None:
            return False
        done = False
        try:
            previous, messages = codec.decode_summary(claimed.summary), codec.decode(claimed.entries, "skip")
            summary = codec.encode_summary(summarize(policy.summarizer, previous, messages))
            done = self._committed(keys, execute_write(self._backend.execute, _commit(claim, claimed, policy, summary)))
        except (BackendError, DecryptError, MissingPackage):
            raise
        except Exception as error:
            self._record_failure(keys, error)
        finally:
            if not done:
                self._backend.execute(Release(keys, claim.write_id))
        return done

    async def acompact(self, keys: SessionKeys, policy: Policy, every: int = 0) -> bool:
        """Make a summary now; the async variant of `compact`."""
        claim, codec = Claim(keys, policy.lease_ms, every), policy.session_codec(keys)
        claimed = await self._backend.aexecute(claim)
        if claimed is None:
            return False
        done = False
        try:
            previous, messages = codec.decode_summary(claimed.summary), codec.decode(claimed.entries, "skip")
            summary = codec.encode_summary(await asummarize(policy.summarizer, previous, messages))
            done = self._committed(
                keys, await aexecute_write(self._backend.aexecute, _commit(claim, claimed, policy, summary))
            )
        except (BackendError, DecryptError, MissingPackage):
            raise
        except Exception as error:
            self._record_failure(keys, error)
        finally:
            if not done:
                await self._backend.aexecute(Release(keys, claim.write_id))
        return done

    def close(self) -> None:
        """Wait for the summaries that are being made in threads."""
        wait([work for work in self._under_way() if isinstance(work, Future)])

    async def aclose(self) -> None:
        """Wait for the summaries that are being made, by the running event loop's tasks and in threads."""
        loop, work = asyncio.get_running_loop(), self._under_way()
        tasks = [each for each in work if not isinstance(each, Future) and each.get_loop() is loop]
        futures = [asyncio.wrap_future(each) for each in work if isinstance(each, Future)]
        await asyncio.gather(*tasks, *futures, return_exceptions=True)

    def _compact_quietly(self, keys: SessionKeys, policy: Policy) -> bool:
        try:
            return self.compact(keys, policy, policy.summarize_every)
        except Exception as error:
            self._record_failure(keys, error)
            return False

    async def _acompact_quietly(self, keys: SessionKeys, policy: Policy) -> bool:
        try:
            return await self.acompact(keys, policy, policy.summarize_every)
        except Exception as error:
            self._record_failure(keys, error)
            return False

    async def _acompact_in_slot(self, keys: SessionKeys, policy: Policy) -> bool:
        async with _slot():
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
            and appended.evicted > 0
            and appended.turns_since_summary >= policy.summarize_every
            and not self._backend.status.degraded  # what waits to be summarised is in the store
        )

    def _start(self, keys: SessionKeys, start: Callable[[], Work]) -> None:
        """Start a summary in the background, unless one of the session is in the making."""
        with self._lock:
            under_way = self._work.get(keys)
            if under_way is not None and not _is_cut_off(under_way):
                return
            try:
                work = self._work[keys] = start()
            except RuntimeError as error:  # the interpreter is shutting down
                self._record_failure(keys, error)
                return
        work.add_done_callback(lambda _: self._end(keys, work))

    def _end(self, keys: SessionKeys, work: Work) -> None:
        with self._lock:
            if self._work.get(keys) is work:
                del self._work[keys]

    def _under_way(self) -> list[Work]:
        with self._lock:
            return list(self._work.values())

    def _committed(self, keys: SessionKeys, committed: bool) -> bool:
        if not committed:
            raise SummaryError("the claim is void: the session was cleared, or its summary claimed or set by others")
        self._warned.discard(keys)
        return True

    def _record_failure(self, keys: SessionKeys, error: Exception) -> None:
        cause = f"{type(error).__name__}: {error}"
        self._failures.append(SummaryFailure(keys.session_id, cause, datetime.now(timezone.utc)))
        logger.warning("session %r: no summary was made, nothing is lost: %s", keys.session_id, cause)


def _commit(claim: Claim, claimed: Claimed, policy: Policy, summary: str) -> Commit:
    if not summary:
        raise SummaryError("the summarizer returned an empty text")
    return Commit(claim.keys, summary, claimed, policy.ttl_ms, claim.write_id)


def _is_cut_off(work: Work) -> bool:
    """Tell whether a summary will never be made, as its event loop was closed in the midst."""
    return not isinstance(work, Future) and work.get_loop().is_closed()


def _slot() -> asyncio.Semaphore:
    """Return what bounds the summaries that the running event loop makes at a time."""
    loop = asyncio.get_running_loop()
    if loop not in _slots:
        for other in list(_slots):
            if other.is_closed():
                _slots.pop(other, None)
        _slots[loop] = asyncio.Semaphore(WORKERS)
    return _slots[loop]
