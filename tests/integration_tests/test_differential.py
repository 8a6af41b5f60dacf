"""Whatever is done to sessions, in whatever order, the in-process backend answers as Redis does."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from langchain_memstore import BackendError, codec
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.backends.redis.backend import RedisBackend
from langchain_memstore.backends.redis.connections import Connections
from langchain_memstore.keys import SessionKeys, SessionPattern
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.listing import Scan, Stats
from langchain_memstore.ops.reading import Read, SessionView
from langchain_memstore.ops.session import Append, Clear, Pop, RegisterTurn, SessionScript, SetSummary, Touch
from langchain_memstore.ops.transfer import Dump, Restore, SessionDump
from langchain_memstore.window import Bounds
from support.servers import Server, every_server

HOUR = 3_600_000
SESSIONS = [SessionKeys("conversation", session_id) for session_id in ("one", "two")]

sessions = st.sampled_from(SESSIONS)
# A TTL is not set anew while less than a hundredth of it has worn off. Both the TTLs and the times that pass are such
# that this is never in question.
ttls = st.sampled_from([None, HOUR, 10 * HOUR])
times = st.sampled_from([HOUR // 4, HOUR // 2, 2 * HOUR, 9 * HOUR])
rests = st.sampled_from([None, -HOUR, 0, HOUR, 10 * HOUR])

AI = b'{"type":"ai"'
bounds = st.builds(
    Bounds,
    st.none() | st.integers(1, 6),
    st.none() | st.integers(1, 3),
    st.just(codec.RESULTS),
    st.just(codec.TURN_STARTS),
    joined=st.sampled_from([(), ((AI, AI),), ((AI, AI), (AI, b'{"type":"human"'), (b'{"type":"human"', AI))]),
)
kinds = st.sampled_from(["human", "ai", "ai", "tool", "tool", "function"])

# Lets time pass for a session, as if its keys had been written earlier.
PASS_TIME = """
local left = redis.call('PTTL', KEYS[1])
if left < 0 then return end
local now = redis.call('TIME')
local expiry = now[1] * 1000 + math.floor(now[2] / 1000) + left - ARGV[1]
for _, key in ipairs(KEYS) do redis.call('PEXPIREAT', key, expiry) end
"""


class BothBackends(RuleBasedStateMachine):
    """Does everything to both backends."""

    def __init__(self, server: Server, admin: redis.Redis) -> None:
        super().__init__()
        admin.flushall()
        self.admin = admin
        self.passed = 0.0
        self.local = LocalBackend(clock=lambda: time.time() + self.passed)
        self.redis = RedisBackend(Connections.of_url(server.url))
        self.done: list[Op[Any]] = []
        self.said = 0

    def teardown(self) -> None:
        self.redis.close()

    def do(self, op: Op[Any]) -> None:
        self.done.append(op)
        assert _answer(self.local, op) == _answer(self.redis, op)

    @rule(keys=sessions, kinds=st.lists(kinds, min_size=1, max_size=6), bounds=bounds, ttl=ttls)
    def append(self, keys: SessionKeys, kinds: list[str], bounds: Bounds, ttl: int | None) -> None:
        self.said += len(kinds)
        entries = tuple(b'{"type":"%b","data":%d}' % (kind.encode(), self.said - i) for i, kind in enumerate(kinds))
        self.do(Append(keys, entries, bounds, ttl))

    @rule(keys=sessions, count=st.integers(1, 8), ttl=ttls)
    def pop(self, keys: SessionKeys, count: int, ttl: int | None) -> None:
        self.do(Pop(keys, count, codec.TURN_STARTS, ttl))

    @rule(keys=sessions, ttl=ttls)
    def register_turn(self, keys: SessionKeys, ttl: int | None) -> None:
        self.do(RegisterTurn(keys, ttl))

    @rule(keys=sessions, summary=st.sampled_from(["", "short", "längere\nZusammenfassung"]), ttl=ttls)
    def set_summary(self, keys: SessionKeys, summary: str, ttl: int | None) -> None:
        self.do(SetSummary(keys, summary, ttl))

    @rule(
        keys=sessions,
        waiting=st.integers(0, 3),
        messages=st.integers(0, 3),
        summary=st.sampled_from(["", "restored"]),
        turns=st.integers(0, 3),
        ttl=ttls,
        origin=st.sampled_from("ab"),
        replace=st.booleans(),
        write=st.booleans(),
    )
    def restore(
        self,
        keys: SessionKeys,
        waiting: int,
        messages: int,
        summary: str,
        turns: int,
        ttl: int | None,
        origin: str,
        replace: bool,
        write: bool,
    ) -> None:
        entries = tuple(b'{"type":"human","data":"restored %d"}' % number for number in range(waiting + messages))
        state = SessionDump(entries[waiting:], entries[:waiting], summary, turns, 9, 1, 1, 1, ttl_ms=ttl)
        self.do(Restore(keys, state, origin, replace, write))

    @rule(keys=sessions, ttl=ttls)
    def touch(self, keys: SessionKeys, ttl: int | None) -> None:
        self.do(Touch(keys, ttl))

    @rule(keys=sessions, ttl=rests, step=st.sampled_from(["append", "pop", "turn", "summary", "touch"]))
    def replay(self, keys: SessionKeys, ttl: int | None, step: str) -> None:
        """Do what has waited, so that some of its TTL is left, or none."""
        self.said += 1
        entries = (b'{"type":"human","data":%d}' % self.said,)
        op: SessionScript[Any] = {
            "append": lambda: Append(keys, entries, Bounds(4, None, (), codec.TURN_STARTS), ttl, waited=True),
            "pop": lambda: Pop(keys, 1, codec.TURN_STARTS, ttl, waited=True),
            "turn": lambda: RegisterTurn(keys, ttl, waited=True),
            "summary": lambda: SetSummary(keys, "late", ttl, waited=True),
            "touch": lambda: Touch(keys, ttl, waited=True),
        }[step]()
        self.do(op)

    @rule(keys=sessions, ttl=ttls, refresh=st.booleans(), window=st.booleans())
    def read(self, keys: SessionKeys, ttl: int | None, refresh: bool, window: bool) -> None:
        self.do(Read(keys, ttl, refresh, window))

    @rule(keys=sessions)
    def clear(self, keys: SessionKeys) -> None:
        self.do(Clear(keys))

    @precondition(lambda self: self.done)
    @rule(data=st.data())
    def do_again(self, data: st.DataObject) -> None:
        ago = data.draw(st.integers(1, min(len(self.done), 200)), label="steps ago")
        self.do(self.done[-ago])

    @rule(keys=sessions, writer=st.integers(0, 9), number=st.integers(0, 150))
    def write_as_another_process(self, keys: SessionKeys, writer: int, number: int) -> None:
        self.do(RegisterTurn(keys, HOUR, f"{writer:016x}.{number}"))

    @rule(keys=sessions, first=st.integers(100, 130))  # who are not so many that one is forgotten
    def write_as_many_processes(self, keys: SessionKeys, first: int) -> None:
        for writer in range(first, first + 20):
            self.do(RegisterTurn(keys, HOUR, f"{writer:016x}.0"))

    @rule(times=st.integers(30, 70))
    def forget_write_ids(self, times: int) -> None:
        for _ in range(times):
            self.do(RegisterTurn(SESSIONS[0], HOUR))

    @rule(milliseconds=times)
    def pass_time(self, milliseconds: int) -> None:
        self.passed += milliseconds / 1000
        for keys in SESSIONS:
            self.admin.eval(PASS_TIME, 5, keys.meta, *set(keys.siblings()) - {keys.meta}, milliseconds)
            self.admin.eval(PASS_TIME, 1, keys.popped, milliseconds)

    @invariant()
    def sessions_are_the_same(self) -> None:
        for op in (
            *(Read(keys, None, refresh=False) for keys in SESSIONS),
            *map(Dump, SESSIONS),
            Stats(tuple(SESSIONS)),
        ):
            assert _answer(self.local, op) == _answer(self.redis, op)
        scan = Scan(SessionPattern("conversation"))
        assert sorted(self.local.execute(scan).names) == sorted(self.redis.execute(scan).names)

    @invariant()
    def siblings_expire_together(self) -> None:
        for keys in SESSIONS:
            with self.admin.pipeline() as pipeline:
                for key in keys.siblings():
                    pipeline.pttl(key)
                lefts = [left for left in pipeline.execute() if left != -2]
            assert not lefts or max(lefts) - min(lefts) <= 1


def _answer(backend: LocalBackend | RedisBackend, op: Op[Any]) -> Any:
    """Return what an operation returns, its error, or what of it does not depend on when it ran."""
    try:
        result = backend.execute(op)
    except BackendError:
        return BackendError
    if isinstance(result, SessionView):
        return result._replace(ttl_ms=_roughly(result.ttl_ms, HOUR))
    if isinstance(result, SessionDump):
        return replace(result, ttl_ms=_roughly(result.ttl_ms, HOUR), created=None, updated=None)
    if isinstance(op, Stats):
        return [(i.session_id, i.messages, i.turns, i.total, i.summary, _roughly(i.ttl, HOUR / 1000)) for i in result]
    return result


def _roughly(left: float | None, hour: float) -> int | None:
    return None if left is None else round(left / hour * 4)


@every_server
def test_both_backends_answer_the_same(server: Server, admin: redis.Redis) -> None:
    run_state_machine_as_test(
        lambda: BothBackends(server, admin), settings=settings(max_examples=60, stateful_step_count=40)
    )
