"""The backend that goes on inside the process while the store cannot be reached."""

from __future__ import annotations

import functools
import threading
import time
import weakref
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_memstore.backends.base import Backend, Status
from langchain_memstore.backends.cluster import ClusterBackend
from langchain_memstore.backends.connections import Connections
from langchain_memstore.backends.file_journal import FileJournal
from langchain_memstore.backends.journal import Journal
from langchain_memstore.backends.last_known import LastKnown
from langchain_memstore.backends.near_cache import NearCacheBackend
from langchain_memstore.backends.nodes import Cluster
from langchain_memstore.backends.outage import Outage
from langchain_memstore.backends.outage_steps import PAUSE, Step, atake, take
from langchain_memstore.backends.redis import RedisBackend
from langchain_memstore.backends.shared import Shared
from langchain_memstore.backends.steps import adrive, drive
from langchain_memstore.errors import BackendClosed, BackendUnavailable
from langchain_memstore.ops.base import Op
from langchain_memstore.options import LayerPolicy

if TYPE_CHECKING:
    from langchain_memstore.encryption import KeyRing

R = TypeVar("R")

MOST_WAIT = 0.5  # seconds that an operation waits, at the most, for what is replayed before it

_outages: weakref.WeakKeyDictionary[Shared, dict[tuple[Any, ...], Outage]] = weakref.WeakKeyDictionary()
_outages_lock = threading.Lock()


def backend_over(connections: Connections | Cluster, policy: LayerPolicy, key_ring: KeyRing | None = None) -> Backend:
    """Make a backend over connections to Redis, without connecting yet.

    Args:
        connections: How to reach it.
        policy: What is between. All backends of one Redis and policy share the journal, and what is known.
        key_ring: The keys by which a journal in a file is encrypted; None: it is not.

    Raises:
        ValueError: The system cannot keep a journal in a file.
    """
    make_backend: Callable[..., Backend] = (
        functools.partial(ClusterBackend, connections)
        if isinstance(connections, Cluster)
        else functools.partial(RedisBackend, connections)
    )
    if policy.fallback is False:
        if policy.near_cache is False:
            return make_backend()
        known = LastKnown(policy.remembered, time.time)
        return NearCacheBackend(make_backend(meanwhile=known.catch_up), known, notes=True)
    with _outages_lock:
        outages = _outages.setdefault(connections.home, {})
        key = policy.path, policy.max_journal, policy.remembered, key_ring and policy.path and key_ring.names
        if key not in outages:
            outages[key] = Outage(functools.partial(_journal, policy, key_ring), remembered=policy.remembered)
        outage = outages[key]
        primary = make_backend(meanwhile=outage.known.catch_up)
        if policy.near_cache is not False:
            primary = NearCacheBackend(primary, outage.known, notes=False)
        return FallbackBackend(primary, outage, make_backend)


def _journal(policy: LayerPolicy, key_ring: KeyRing | None) -> Journal:
    if policy.path is None:
        return Journal(policy.max_journal)
    return FileJournal(policy.path, policy.max_journal, key_ring.cipher("journal") if key_ring else None)


class FallbackBackend:
    """Executes operations in a store, and while that cannot be reached, inside the process.

    In an outage an operation is served from what the process knows, and journalled where it writes. When the store is
    back the journal is replayed in order: each operation has an id, so that those that the store has done already
    change nothing. While that goes on, an operation on a session of which nothing waits goes to the store.

    Args:
        primary: The store.
        outage: What stands in for it; the backends of one store share it.
        make_replayer: Makes one more backend of the store, through which a thread replays.
    """

    def __init__(self, primary: Backend, outage: Outage, make_replayer: Callable[[], Backend]) -> None:
        self._primary = primary
        self._outage = outage
        self._make_replayer = make_replayer
        self._take = functools.partial(take, primary)
        self._atake = functools.partial(atake, primary)
        self._closed = False
        outage.retain(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._primary!r})"

    @property
    def status(self) -> Status:
        """How the backend does."""
        status, since = self._primary.status, self._outage.since
        if since is None:
            return status
        return replace(status, backend="local", degraded=True, pending=self._outage.pending, since=since)

    def execute(self, op: Op[R]) -> R:
        """Execute an operation, in the store where that can be reached."""
        outage = self._outage
        if outage.is_over:
            try:
                result = self._primary.execute(op)
            except BackendUnavailable as error:
                outage.begin(op, error, self._make_replayer)
            else:
                outage.follow(op, result)
                return result
        return drive(self._go_on(op), self._take)

    async def aexecute(self, op: Op[R]) -> R:
        """Execute an operation; the async face of `execute`."""
        outage = self._outage
        if outage.is_over:
            try:
                result = await self._primary.aexecute(op)
            except BackendUnavailable as error:
                outage.begin(op, error, self._make_replayer)
            else:
                outage.follow(op, result)
                return result
        return await adrive(self._go_on(op), self._atake)

    def close(self) -> None:
        """Replay what waits, where the store can be reached, and close the store."""
        if not self._closed:
            self._closed = True
            drive(self._outage.let_go(self), self._take)
            self._primary.close()

    async def aclose(self) -> None:
        """Replay what waits, where the store can be reached, and close the store; the async face of `close`."""
        if not self._closed:
            self._closed = True
            await adrive(self._outage.let_go(self), self._atake)
            await self._primary.aclose()

    def _go_on(self, op: Op[R]) -> Generator[Step, Any, R]:
        """Execute an operation in an outage, or in what may be one."""
        outage, waited = self._outage, 0.0
        while True:
            if self._closed:
                raise BackendClosed("the store was closed; make a new one")
            if outage.admits(op, self._make_replayer):
                try:
                    result: R = yield op
                except BackendUnavailable as error:
                    outage.begin(op, error, self._make_replayer)
                else:
                    outage.follow(op, result)
                    return result
            elif outage.is_replaying and waited < MOST_WAIT:
                yield PAUSE
                waited += PAUSE
            elif (served := outage.serve(op)) is not None:
                if op.in_outage == "journal":
                    yield outage.journal
                return served[0]
