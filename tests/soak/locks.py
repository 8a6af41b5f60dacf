"""Locks: no two callers hold one at a time, no hold ends early, and none stays taken when nobody has it.

lock(...)                 the server takes it        release begins    release ends
│ start                   │            │ end         │                 │
├─────────────────────────┴────────────┼─────────────┼─────────────────┤
│ may be taken from here on            │ held surely │                 │ free, if the caller was told so
                                       └── or until start + ttl, whichever is first
"""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections.abc import Iterable

import redis

from langchain_memstore import LockLost, LockTaken, Memstore
from langchain_memstore.kv import Lock
from soak.calls import Call, Recorder, Report, by_key, current_name

LONG, LOCKS, LOCK_SECONDS = 60.0, 1, 3
"""A TTL that never runs out before the lock is released, unless nobody has it; how many locks, and for how long."""
SHORT, LEASES, LEASE_SECONDS = 0.3, 2, 2
"""A TTL that does run out."""

MARGIN = 0.01  # seconds: the server counts whole milliseconds
FREE_AFTER = 2.0  # seconds after its last call within which a lock must be free

_KEY = "conversation:lock:{%s}"


class Locking:
    """Takes locks, holds them for a moment, and gives them up; where the line is steady, tasks also cancel acquires.

    Args:
        recorder: Records the calls.
        store: A store without a fallback.
        is_steady: Whether the line to the server only is slow, so that a cancelled acquire gives the lock up for sure.
    """

    def __init__(self, recorder: Recorder, store: Memstore, is_steady: bool) -> None:
        self._recorder = recorder
        self._store = store
        self._is_steady = is_steady

    def step(self) -> None:
        lock, name, ttl = self._choose()
        with self._recorder.call("lock", name, ttl) as taking:
            try:
                lock.__enter__()
                taking.result = "held"
            except LockTaken:
                taking.result = "taken"
        if taking.result != "held":
            return
        time.sleep(_pause(ttl))
        if random.random() < 0.2:
            with self._recorder.call("extend", name, taking.id, ttl) as extending:
                try:
                    lock.extend()
                    extending.result = "held"
                except LockLost:
                    extending.result = "lost"
            time.sleep(_pause(ttl))
        with self._recorder.call("release", name, taking.id) as releasing:
            try:
                lock.__exit__(None, None, None)
                releasing.result = "released"
            except LockLost:
                releasing.result = "lost"

    async def astep(self) -> None:
        lock, name, ttl = self._choose()
        attempt = asyncio.ensure_future(self._take(lock, name, ttl))
        if self._is_steady and random.random() < 0.6:
            await asyncio.sleep(random.uniform(0, 0.02))
            attempt.cancel()
        await asyncio.wait([attempt])
        if attempt.cancelled() or (taking := attempt.result()).result != "held":
            return
        await asyncio.sleep(_pause(ttl))
        if random.random() < 0.2:
            with self._recorder.call("extend", name, taking.id, ttl) as extending:
                try:
                    await lock.aextend()
                    extending.result = "held"
                except LockLost:
                    extending.result = "lost"
            await asyncio.sleep(_pause(ttl))
        with self._recorder.call("release", name, taking.id) as releasing:
            try:
                await lock.__aexit__(None, None, None)
                releasing.result = "released"
            except LockLost:
                releasing.result = "lost"

    async def _take(self, lock: Lock, name: str, ttl: float) -> Call:
        with self._recorder.call("lock", name, ttl) as taking:
            try:
                await lock.__aenter__()
                taking.result = "held"
            except LockTaken:
                taking.result = "taken"
            except asyncio.CancelledError:
                taking.result = "cancelled"
                raise
        return taking

    def _choose(self) -> tuple[Lock, str, float]:
        if random.random() < 0.7:
            name, ttl, wait = current_name("lock", LOCK_SECONDS, LOCKS), LONG, random.choice([0, 0.1])
        else:
            name, ttl, wait = current_name("lease", LEASE_SECONDS, LEASES), SHORT, 0
        return self._store.lock(name, ttl, wait), name, ttl


def _pause(ttl: float) -> float:
    return random.uniform(0, 0.01) if ttl == LONG else random.choice([0.0, 0.0, random.uniform(0, 2 * SHORT)])


class Watch:
    """Records again and again which locks are taken on the server.

    Args:
        recorder: Records them.
        admin: A client that reaches the server directly, and gives up soon.
    """

    def __init__(self, recorder: Recorder, admin: redis.Redis) -> None:
        self._recorder = recorder
        self._admin = admin
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.25):
            with self._recorder.call("look", "locks") as call:
                try:
                    found = self._admin.scan_iter(_KEY % "*", count=1000)
                    call.result = [key.decode().partition("{")[2][:-1] for key in found]
                except redis.RedisError:  # the server is away
                    continue

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._admin.close()


def audit_locks(report: Report, calls: dict[str, list[Call]]) -> None:
    """Check who held each lock when."""
    locks = calls.get("lock", [])
    releases = {call.detail[0]: call for call in calls.get("release", [])}
    extensions: dict[str, list[Call]] = {}
    for extension in calls.get("extend", []):
        extensions.setdefault(extension.detail[0], []).append(extension)
    for result in ("held", "taken", "cancelled", None):
        report.figures[f"locks {result or 'of unknown outcome'}"] += sum(call.result == result for call in locks)
    held_twice: list[str] = []
    lost_early: list[str] = []
    for name, attempts in by_key(locks).items():
        holds: list[tuple[float, float, str]] = []
        for lock in attempts:
            if lock.result != "held":
                continue
            until = lock.start + lock.detail[0] - MARGIN
            release = releases.get(lock.id)
            for call in (*extensions.get(lock.id, []), *([release] if release else [])):
                if call.result == "lost" and call.end < until:
                    lost_early.append(f"{name}: {call.kind} at {call.end:.3f}, {until - call.end:.3f} s early")
                if call.kind == "extend" and call.result == "held":
                    until = max(until, call.start + call.detail[1] - MARGIN)
            holds.append((lock.end, min(until, release.start) if release else until, lock.id))
        held_twice += [f"{name}: {text}" for text in _overlaps(holds)]
    report.check("locks held twice", held_twice)
    report.check("locks lost before their time", lost_early)
    report.check("locks held by nobody", list(_held_by_nobody(calls, releases)))


def _overlaps(holds: list[tuple[float, float, str]]) -> Iterable[str]:
    last_end, last_id = -math.inf, ""
    for start, end, lock_id in sorted(hold for hold in holds if hold[0] < hold[1]):
        if start < last_end:
            yield f"{lock_id} held it from {start:.3f}, and {last_id} until {last_end:.3f}"
        last_end, last_id = max((last_end, last_id), (end, lock_id))


def _held_by_nobody(calls: dict[str, list[Call]], releases: dict[str, Call]) -> Iterable[str]:
    """Find locks that are taken though every call about them has ended, and was told that the lock is free."""
    outages = [(call.start, call.end) for call in calls.get("server fault", [])]
    free: dict[str, float] = {}
    for lock in calls.get("lock", []):
        free[lock.key] = max(free.get(lock.key, 0.0), _free_from(lock, releases, outages))
    reported: set[str] = set()
    for look in calls.get("look", []):
        for name in look.result or []:
            late = look.start - free.get(name, math.inf)
            if late > FREE_AFTER and name not in reported:
                reported.add(name)
                yield f"{name} is taken {late:.1f} s after the last call about it"


def _free_from(lock: Call, releases: dict[str, Call], outages: list[tuple[float, float]]) -> float:
    """Return when a caller surely has no part in a lock any more; infinity: nobody can tell."""
    if lock.result == "taken":
        return lock.end
    if lock.result == "held" and (release := releases.get(lock.id)) is not None and release.is_known:
        return release.end
    if lock.result == "cancelled":
        # What cannot reach the server does not give the lock up; the TTL is for that.
        disturbed = any(start < lock.end and lock.start < end + 1 for start, end in outages)
        return math.inf if disturbed else lock.end
    return math.inf
