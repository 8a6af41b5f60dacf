"""The audits of the soak: they find what callers were told wrong, and blame nobody for what nobody knows."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
from fakeredis import FakeRedis

from langchain_memstore import BackendUnavailable
from soak.calls import Call, Recorder, Report, read_calls
from soak.conversations import audit_messages, texts_of
from soak.limits import ROOMY, TIGHT, audit_limits
from soak.locks import LONG, SHORT, audit_locks
from soak.near_cache import audit_comparisons
from soak.short_lived import audit_short_lived
from soak.values import audit_counters, audit_latches

numbers = count()


def call(kind: str, key: str, *detail: Any, at: float = 0.0, lasts: float = 0.001, result: Any = True) -> Call:
    return Call(f"id-{next(numbers)}", kind, key, list(detail), at, at + lasts, result)


def append(number: int, result: Any = True) -> Call:
    return call("append", "s", "writer", number, 1, result=result)


def broken(report: Report) -> dict[str, int]:
    return {rule: times for rule, times in report.violations.items() if times}


def test_calls_are_read_as_they_were_recorded(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path), "caller")
    with recorder.call("told", "key", 1) as told:
        told.result = "well"
    with recorder.call("raised", "key"):
        raise BackendUnavailable("away")
    with pytest.raises(ZeroDivisionError), recorder.call("failed", "key"):
        raise ZeroDivisionError
    begun = recorder.call("begun", "key")
    begun.__enter__()  # and its process is killed
    calls = {kind: each for kind, (each,) in read_calls(str(tmp_path)).items()}
    assert calls["told"] == told and told.detail == [1] and told.start <= told.end
    assert [calls[kind].raised for kind in ("raised", "failed")] == ["BackendUnavailable", None]
    assert [each.is_known for each in calls.values()] == [True, False, False, False]
    assert calls["begun"].end == float("inf")
    begun.__exit__(None, None, None)
    recorder.close()


@pytest.mark.parametrize(
    ("held", "rules"),
    [
        (["writer 0", "writer 1"], {}),
        (["writer 0", "writer 1", "writer 2"], {}),
        (["writer 1"], {"messages lost": 1}),
        (["writer 0", "writer 1", "writer 0"], {"messages doubled": 1}),
        (["writer 1", "writer 0"], {"messages out of order": 1}),
    ],
)
def test_messages(held: list[str], rules: dict[str, int]) -> None:
    appends = [append(0), append(1), append(2, result=None)]
    report = Report()
    audit_messages(report, texts_of(appends), {"s": held})
    assert broken(report) == rules


def test_an_append_that_raised_has_no_place_in_the_order() -> None:
    report = Report()
    raised = append(0, result=None)
    audit_messages(report, texts_of([append(1)]), {"s": ["writer 1", "writer 0"]}, [raised])
    assert report.is_clean


@pytest.mark.parametrize(
    ("value", "rules"),
    [(1, {"increments lost": 1}), (2, {}), (3, {}), (5, {"increments doubled": 2})],
)
def test_counters(value: int, rules: dict[str, int]) -> None:
    calls = [call("increment", "c", True, result=result) for result in (1, 2, None)]
    with FakeRedis() as admin:
        admin.set("conversation:kv:{c}", value)
        report = Report()
        audit_counters(report, calls, admin)
    assert broken(report) == rules


def test_two_callers_are_told_one_value_of_a_counter_by_processes_alone() -> None:
    with FakeRedis() as admin:
        admin.set("conversation:kv:{c}", 3)
        report = Report()
        audit_counters(report, [call("increment", "c", sure, result=1) for sure in (True, True, False)], admin)
    assert broken(report) == {"counter values told to several callers": 1}


def test_sets_and_deletes_take_turns() -> None:
    done, deleted = call("set", "k"), call("delete", "k")
    refused, unknown = call("set", "k", result=False), call("delete", "k", result=None)
    with FakeRedis() as admin:
        for calls, value, rules in [
            ([done], done.id, {}),
            ([done, deleted], None, {}),
            ([done], None, {"sets and deletes that do not take turns": 1}),
            ([done, unknown], None, {}),
            ([done, deleted, call("delete", "k")], None, {"sets and deletes that do not take turns": 1}),
            ([done, refused], refused.id, {"values set whose callers were told that they were not": 1}),
        ]:
            admin.flushall()
            if value is not None:
                admin.set("conversation:kv:{k}", f'"{value}"')
            report = Report()
            kinds = {kind: [each for each in calls if each.kind == kind] for kind in ("set", "delete")}
            audit_latches(report, kinds, admin)
            assert broken(report) == rules


def test_a_limiter_lets_no_more_pass_than_the_limit() -> None:
    requests, per = TIGHT
    hits = [call("hit", "l", requests, per, at=number / 100) for number in range(requests)]
    late = call("hit", "l", requests, per, at=per + 0.1)
    early = call("hit", "l", requests, per, at=0.5)
    unsure = call("hit", "l", requests, per, at=0.5, lasts=1)
    with FakeRedis() as admin:
        for extra, times in [(late, 0), (unsure, 0), (early, 1)]:
            report = Report()
            audit_limits(report, sorted([*hits, extra], key=lambda hit: hit.start), admin)
            assert report.violations["hits passed beyond the limit"] == times


def test_a_limiter_refuses_nobody_while_there_is_room() -> None:
    requests, per = TIGHT
    hits = [call("hit", "l", requests, per, at=number / 100) for number in range(requests - 1)]
    refused = call("hit", "l", requests, per, at=0.5, result=False)
    unknown = call("hit", "l", requests, per, at=-2, lasts=0.5, result=None)
    with FakeRedis() as admin:
        for calls, times in [([*hits, refused], 1), ([unknown, *hits, refused], 0)]:
            report = Report()
            audit_limits(report, calls, admin)
            assert report.violations["hits refused while there was room"] == times


@pytest.mark.parametrize(
    ("counted", "rules"),
    [(1, {"hits passed and not counted": 1}), (2, {}), (3, {}), (4, {"hits counted twice": 1})],
)
def test_a_hit_counts_once(counted: int, rules: dict[str, int]) -> None:
    requests, per = ROOMY
    calls = [call("hit", "l", requests, per, result=result) for result in (True, True, None)]
    with FakeRedis() as admin:
        admin.lpush(f"conversation:limit:{{l/{requests}/{per}/second}}", *range(counted))
        report = Report()
        audit_limits(report, calls, admin)
    assert broken(report) == rules


def locks_of(*calls: Call) -> dict[str, int]:
    report = Report()
    kinds: dict[str, list[Call]] = {}
    for each in calls:
        kinds.setdefault(each.kind, []).append(each)
    audit_locks(report, kinds)
    return broken(report)


def test_two_callers_may_not_hold_a_lock_at_a_time() -> None:
    first = call("lock", "l", LONG, at=0, result="held")
    released = call("release", "l", first.id, at=1, result="released")
    assert locks_of(first, released, call("lock", "l", LONG, at=1.0005, result="held")) == {}
    assert locks_of(first, released, call("lock", "l", LONG, at=0.5, result="held")) == {"locks held twice": 1}
    assert locks_of(first, call("lock", "l", LONG, at=LONG + 1, result="held")) == {}  # its holder has died
    assert locks_of(first, call("lock", "l", LONG, at=LONG - 1, result="held")) == {"locks held twice": 1}


def test_an_extended_lock_is_held_for_longer() -> None:
    first = call("lock", "l", SHORT, at=0, result="held")
    extended = call("extend", "l", first.id, SHORT, at=0.2, result="held")
    second = call("lock", "l", SHORT, at=0.4, result="held")
    assert locks_of(first, second) == {}
    assert locks_of(first, extended, second) == {"locks held twice": 1}


def test_a_lock_is_not_lost_before_its_time() -> None:
    first = call("lock", "l", SHORT, at=0, result="held")
    assert locks_of(first, call("release", "l", first.id, at=0.1, result="lost")) == {"locks lost before their time": 1}
    assert locks_of(first, call("release", "l", first.id, at=0.4, result="lost")) == {}


def test_a_lock_is_not_taken_for_nobody() -> None:
    look = call("look", "locks", at=9, result=["l"])
    held = call("lock", "l", LONG, at=1, result="held")
    released = call("release", "l", held.id, at=2, result="released")
    cancelled = call("lock", "l", LONG, at=3, result="cancelled")
    fault = call("server fault", "freeze", at=2.5, lasts=1)
    nobody = {"locks held by nobody": 1}
    assert locks_of(look, held) == {}
    assert locks_of(look, held, call("release", "l", held.id, at=2, result=None)) == {}
    assert locks_of(look, held, released) == nobody
    assert locks_of(look, held, released, cancelled) == nobody
    assert locks_of(look, held, released, cancelled, fault) == {}
    assert locks_of(call("look", "locks", at=3.5, result=["l"]), cancelled) == {}  # not yet


def test_reads_through_a_near_cache_and_short_lived_processes() -> None:
    report = Report()
    results = ["quiet: equal", "busy: equal", "quiet: 1 of 2 messages", None]
    audit_comparisons(report, [call("compare", "s", result=result) for result in results])
    audit_short_lived(report, [call("death", "c", result=result) for result in ("ended", "killed", "hung")])
    assert broken(report) == {
        "reads of quiet sessions through a near cache that differ": 1,
        "short-lived processes that failed": 1,
    }
