"""Hits on shared limiters: never more than the limit pass, none is refused while there is room, none counts twice."""

from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

import redis

from langchain_memstore import Memstore
from soak.calls import Call, Recorder, Report, by_key, current_name

SECONDS = 5  # for which all hit the same limiter

TIGHT = 20, 1
"""Requests, and seconds: more hits come than pass."""
ROOMY = 10_000, 7_200
"""All hits pass, and none leaves the window before the audit."""

MARGIN = 0.005  # seconds: the limiter writes times with four decimals


class Hitting:
    """Hits a limiter that lets everything pass, and one that does not.

    Args:
        recorder: Records the calls.
        store: A store without a fallback: what it returns is what the server said.
    """

    def __init__(self, recorder: Recorder, store: Memstore) -> None:
        self._recorder = recorder
        self._store = store

    def step(self) -> None:
        requests, per = random.choice([TIGHT, ROOMY])
        with self._recorder.call("hit", current_name("limit", SECONDS), requests, per) as call:
            call.result = self._store.rate_limiter(requests, per, call.key).hit()

    async def astep(self) -> None:
        requests, per = random.choice([TIGHT, ROOMY])
        with self._recorder.call("hit", current_name("limit", SECONDS), requests, per) as call:
            call.result = await self._store.rate_limiter(requests, per, call.key).ahit()


def audit_limits(report: Report, calls: Iterable[Call], admin: redis.Redis) -> None:
    """Compare what passed with the limits, and what the server counted with what it acknowledged."""
    excess: list[str] = []
    refused: list[str] = []
    uncounted: list[str] = []
    doubled: list[str] = []
    amount = 0
    for key, hits in by_key(calls).items():
        for requests, per in (TIGHT, ROOMY):
            limited = [hit for hit in hits if hit.detail == [requests, per]]
            passed = [hit for hit in limited if hit.result is True]
            unknown = [hit for hit in limited if not hit.is_known]
            report.figures["hits passed"] += len(passed)
            report.figures["hits refused"] += len(limited) - len(passed) - len(unknown)
            report.figures["hits of unknown outcome"] += len(unknown)
            excess += [f"{key}: {text}" for text in _too_many(passed, requests, per)]
            refused += [f"{key}: {text}" for text in _refused_with_room(limited, requests, per)]
        counted = admin.llen(f"conversation:limit:{{{key}/{requests}/{per}/second}}")
        if counted > len(passed) + len(unknown):
            doubled.append(f"{key} counted {counted} of {len(passed)} hits that passed and {len(unknown)} unknown ones")
            amount += counted - len(passed) - len(unknown)
        if counted < len(passed):
            uncounted.append(f"{key} counted {counted} of {len(passed)} hits that passed")
    report.check("hits passed beyond the limit", excess)
    report.check("hits refused while there was room", refused)
    report.check("hits passed and not counted", uncounted)
    report.check("hits counted twice", doubled, amount)


def _too_many(passed: list[Call], requests: int, per: int) -> Iterable[str]:
    """Find windows in which more calls passed, from beginning to end, than the limit allows."""
    starts = [hit.start for hit in passed]
    for hit in passed:
        until = hit.start + per - MARGIN
        window = passed[bisect_left(starts, hit.start) : bisect_right(starts, until)]
        inside = sum(each.end <= until for each in window)
        if inside > requests:
            yield f"{inside} of {requests} passed within {per} s from {hit.start:.3f}"


def _refused_with_room(hits: list[Call], requests: int, per: int) -> Iterable[str]:
    """Find refused calls at which the window cannot have been full, whenever within the call the server looked."""
    possible = [hit for hit in hits if hit.result is not False]
    starts = sorted(hit.start for hit in possible)
    ends = sorted(hit.end if hit.is_known else math.inf for hit in possible)  # a frozen server does it much later
    for hit in hits:
        if hit.result is False:
            most = bisect_right(starts, hit.end) - bisect_left(ends, hit.start - per - MARGIN)
            if most < requests:
                yield f"refused at {hit.start:.3f} after at most {most} hits of {requests} within {per} s"
