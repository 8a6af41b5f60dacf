"""Busy counters, and values that are set where there is none and deleted: each call takes effect once."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable

import redis

from langchain_memstore import Memstore
from langchain_memstore.kv import KeyValueStore
from soak.calls import Call, Recorder, Report, by_key, current_name

COUNTERS, COUNTER_SECONDS = 2, 3
LATCHES, LATCH_SECONDS = 2, 2

_KEY = "conversation:kv:{%s}"


class Counting:
    """Adds 1 to counters that everybody adds to.

    Args:
        recorder: Records the calls.
        store: The store.
        is_sure: Whether the store has no fallback: what it returns is then what the server said.
    """

    def __init__(self, recorder: Recorder, store: Memstore, is_sure: bool) -> None:
        self._recorder = recorder
        self._kv: KeyValueStore = store.kv(on_outage="local")
        self._is_sure = is_sure

    def step(self) -> None:
        with self._recorder.call("increment", _counter(), self._is_sure) as call:
            call.result = self._kv.incr(call.key)

    async def astep(self) -> None:
        with self._recorder.call("increment", _counter(), self._is_sure) as call:
            call.result = await self._kv.aincr(call.key)


def _counter() -> str:
    return current_name("counter", COUNTER_SECONDS, COUNTERS)


def audit_counters(report: Report, calls: Iterable[Call], admin: redis.Redis) -> None:
    """Compare each counter with the increments that were acknowledged, and those of which nobody was told."""
    excess: list[str] = []
    missing: list[str] = []
    twice: list[str] = []
    amounts: Counter[str] = Counter()
    for key, increments in by_key(calls).items():
        value = int(admin.get(_KEY % key) or 0)
        told = sum(call.is_known for call in increments)
        unknown = len(increments) - told
        report.figures["increments acknowledged"] += told
        report.figures["increments of unknown outcome"] += unknown
        state = f"{key} is {value} after {told} acknowledged increments and {unknown} of unknown outcome"
        if value < told:
            missing.append(state)
            amounts["missing"] += told - value
        if value > told + unknown:
            excess.append(state)
            amounts["excess"] += value - told - unknown
        results = Counter(call.result for call in increments if call.is_known and call.detail[0])
        twice += [f"{key}: {times} callers were told {result}" for result, times in results.items() if times > 1]
    report.check("increments lost", missing, amounts["missing"])
    report.check("increments doubled", excess, amounts["excess"])
    report.check("counter values told to several callers", twice)


class Latching:
    """Sets values where there is none, and deletes them again; everybody uses the same few keys.

    Args:
        recorder: Records the calls.
        store: A store without a fallback: what it returns is what the server said.
    """

    def __init__(self, recorder: Recorder, store: Memstore) -> None:
        self._recorder = recorder
        self._kv: KeyValueStore = store.kv()

    def step(self) -> None:
        kv, key = self._kv, current_name("latch", LATCH_SECONDS, LATCHES)
        kind = random.choice(["set", "set", "delete", "delete", "get"])
        with self._recorder.call(kind, key) as call:
            if kind == "set":
                call.result = kv.set(key, call.id, nx=True)
            elif kind == "delete":
                call.result = kv.delete(key)
            else:
                call.result = kv.get(key) or ""


def audit_latches(report: Report, calls: dict[str, list[Call]], admin: redis.Redis) -> None:
    """Check that sets and deletes took turns, and that nobody was told that his value was not set which then was."""
    unbalanced: list[str] = []
    seen: set[str] = {call.result for call in calls.get("get", []) if call.result}
    sets, deletes = by_key(calls.get("set", [])), by_key(calls.get("delete", []))
    for key in sets.keys() | deletes.keys():
        value = admin.get(_KEY % key)
        if value is not None:
            seen.add(json.loads(value))
        done, maybe = _outcomes(sets.get(key, []))
        deleted, maybe_deleted = _outcomes(deletes.get(key, []))
        report.figures["values set or deleted"] += done + deleted
        report.figures["sets and deletes of unknown outcome"] += maybe + maybe_deleted
        if not done - deleted - maybe_deleted <= (value is not None) <= done + maybe - deleted:
            unbalanced.append(
                f"{key} {'exists' if value else 'does not exist'} after {done} sets and {deleted} deletes; "
                f"unknown: {maybe} sets, {maybe_deleted} deletes"
            )
    refused = {call.id: call.key for call in calls.get("set", []) if call.result is False}
    report.check("sets and deletes that do not take turns", unbalanced)
    report.check(
        "values set whose callers were told that they were not",
        [f"{call_id} of {refused[call_id]}" for call_id in sorted(seen & refused.keys())],
    )


def _outcomes(calls: list[Call]) -> tuple[int, int]:
    """Count the calls that took effect, and those that may have."""
    return sum(call.result is True for call in calls), sum(not call.is_known for call in calls)
