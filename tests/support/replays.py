"""What is left of a TTL after an outage: a suite that a store inside the process and servers pass alike."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from langchain_memstore import BackendError, codec
from langchain_memstore.keys import Namespace, SessionKeys
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.kv import Expire, Get, Set, Ttl, Unlink
from langchain_memstore.ops.kv_scripts import HEAD, Delete, Increment, UpdateRecord
from langchain_memstore.ops.reading import Read, SessionView
from langchain_memstore.ops.session import Append, Clear, Pop, RegisterTurn, SetSummary, Touch
from langchain_memstore.ops.stand_in import StandInValues
from langchain_memstore.ops.state import LocalState
from langchain_memstore.testing.variants import MINUTE, Execute, Variants
from langchain_memstore.window import Bounds
from support.clock import Clock


class Outage:
    """Operations that a process does and keeps for a store, as time passes for the process.

    Args:
        execute: Executes an operation in the store.
    """

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self._clock = Clock()
        self.stand_in = LocalState(self._clock, values=StandInValues())
        self._waiting: list[tuple[Op[Any], int]] = []

    def at(self, seconds: int, *ops: Op[Any]) -> None:
        """Do operations, so many seconds after the outage began."""
        self._clock.now = Clock.now + seconds
        for op in ops:
            self.stand_in.execute(op.run)
            op.hold()
            self._waiting.append((op, self.stand_in.now()))

    def restart(self, seconds: int) -> None:
        """Have another process take over, which does all again as of when it was done."""
        self._clock.now = Clock.now + seconds
        self.stand_in = LocalState(self._clock, values=StandInValues())
        for op, at in self._waiting:
            with suppress(BackendError):
                self.stand_in.execute(op.run, at)

    def end(self, seconds: int) -> list[Any]:
        """Replay them, so many seconds after the outage began; return what each has led to."""
        self._clock.now = Clock.now + seconds
        results = []
        for op, at in self._waiting:
            results.append(self._execute(op.at_replay(self.stand_in.now() - at, self.stand_in)))
            op.finish()
            op.finish()
        return results


class ReplayedTtls(Variants):
    """The suite; a subclass overrides the fixture `backend`."""

    @pytest.fixture
    def outage(self, execute: Execute) -> Outage:
        return Outage(execute)

    @pytest.fixture
    def keys(self, prefix: str) -> tuple[str, str]:
        return Namespace(prefix, "kv").keys("a")

    @pytest.fixture
    def session(self, prefix: str) -> SessionKeys:
        return SessionKeys(prefix, "a")

    def test_what_has_expired_stays_so(self, execute: Execute, outage: Outage, keys: tuple[str, str]) -> None:
        execute(Set(((keys[0], b"older"),), None))
        outage.at(0, Set(((keys[0], b"123456"),), MINUTE))
        outage.end(61)
        assert execute(Get(keys[:1])) == [None]

    def test_the_rest_of_a_ttl(self, execute: Execute, outage: Outage, keys: tuple[str, str]) -> None:
        outage.at(0, Set(((keys[0], b"1"),), MINUTE))
        outage.end(20)
        assert near(execute(Ttl(keys[:1])), 40)

    def test_a_ttl_that_was_prolonged(self, execute: Execute, outage: Outage, keys: tuple[str, str]) -> None:
        outage.at(0, Set(((keys[0], b"1"),), MINUTE))
        outage.at(50, Expire(keys[:1], MINUTE))
        outage.at(100, Expire(keys[:1], MINUTE))
        assert outage.end(110) == [True, True, True]
        assert near(execute(Ttl(keys[:1])), 50) and execute(Get(keys[:1])) == [b"1"]

    def test_a_process_takes_over(
        self, execute: Execute, outage: Outage, keys: tuple[str, str], session: SessionKeys
    ) -> None:
        outage.at(0, Set(((keys[0], b"1"),), MINUTE), append(session, "1"))
        outage.at(50, Expire(keys[:1], MINUTE), append(session, "2"))
        outage.restart(80)
        outage.end(100)
        view = execute(read(session))
        assert near(execute(Ttl(keys[:1])), 10) and texts(view) == ["1", "2"] and near(view.ttl_ms, 10)

    def test_a_process_takes_over_too_late(
        self, execute: Execute, outage: Outage, keys: tuple[str, str], session: SessionKeys
    ) -> None:
        outage.at(0, Set(((keys[0], b"1"),), MINUTE), Increment(keys, 1, None), append(session, "1"))
        outage.restart(80)
        outage.end(100)
        assert execute(Get(keys[:1])) == [None] and execute(read(session)) == SessionView([])

    def test_a_ttl_that_was_cut_short(self, execute: Execute, outage: Outage, keys: tuple[str, str]) -> None:
        outage.at(0, Set(((keys[0], b"1"),), 10 * MINUTE))
        outage.at(10, Expire(keys[:1], 1000))
        outage.end(20)
        assert execute(Get(keys[:1])) == [None]

    def test_a_ttl_that_was_taken_off(self, execute: Execute, outage: Outage, keys: tuple[str, str]) -> None:
        outage.at(0, Set(((keys[0], b"1"),), MINUTE))
        outage.at(10, Expire(keys[:1], None))
        outage.end(100)
        assert execute(Ttl(keys[:1])) is None

    def test_values_that_expire_apart(self, execute: Execute, outage: Outage, prefix: str) -> None:
        a, b = (Namespace(prefix, "kv").key(name) for name in "ab")
        outage.at(0, Set(((a, b"1"), (b, b"1")), MINUTE))
        outage.at(50, Expire((a,), MINUTE))
        outage.end(100)
        assert execute(Get((a, b))) == [b"1", None] and near(execute(Ttl((a,))), 10)

    def test_what_follows_on_what_has_expired(self, execute: Execute, outage: Outage, keys: tuple[str, str]) -> None:
        outage.at(0, Set(((keys[0], b"5"),), MINUTE))
        outage.at(70, Set(((keys[0], b"7"),), None))
        outage.at(75, Unlink(keys[:1]), Set(((keys[0], b"8"),), MINUTE))
        outage.end(80)
        assert execute(Get(keys[:1])) == [b"8"] and near(execute(Ttl(keys[:1])), 55)

    def test_counters(self, execute: Execute, outage: Outage, keys: tuple[str, str]) -> None:
        outage.at(0, Set(((keys[0], b"5"),), MINUTE))
        outage.at(50, Increment(keys, 1, None), Increment(keys, 1, 10 * MINUTE))
        outage.end(70)
        assert execute(Get(keys[:1])) == [None]  # neither has it without its expiry

    def test_counters_with_a_ttl(self, execute: Execute, outage: Outage, keys: tuple[str, str]) -> None:
        outage.at(0, Increment(keys, 1, MINUTE))
        outage.at(30, Increment(keys, 1, MINUTE))  # which is the same counter: it ends at 60
        outage.at(65, Increment(keys, 1, MINUTE), Increment(keys, 1, MINUTE))
        assert outage.end(70) == [1, 1, 1, 2]
        assert execute(Get(keys[:1])) == [b"2"] and near(execute(Ttl(keys[:1])), 55)

    def test_a_counter_that_was_there(self, execute: Execute, outage: Outage, keys: tuple[str, str]) -> None:
        execute(Set(((keys[0], b"40"),), 10 * MINUTE))
        outage.at(0, Increment(keys, 1, 1000))
        assert outage.end(30) == [41]
        assert near(execute(Ttl(keys[:1])), 600)

    def test_the_ttl_of_a_counter_of_which_the_process_knows_a_part(
        self, execute: Execute, outage: Outage, keys: tuple[str, str]
    ) -> None:
        execute(Set(((keys[0], b"40"),), None))
        outage.at(0, Expire(keys[:1], MINUTE))
        outage.at(5, Increment(keys, 1, 1000))
        assert outage.end(30) == [True, 41]
        assert near(execute(Ttl(keys[:1])), 30)

    def test_a_counter_is_known_again_when_it_was_sent_twice(
        self, execute: Execute, outage: Outage, keys: tuple[str, str]
    ) -> None:
        op = Increment(keys, 1, MINUTE)
        outage.at(0, op)
        outage.end(70)
        again = op.at_replay(70_000, outage.stand_in)
        assert execute(again) == 1 and execute(Get(keys[:1])) == [None]
        assert execute(Increment(keys, 5, None)) == 5

    def test_records(self, execute: Execute, outage: Outage, keys: tuple[str, str]) -> None:
        key = keys[:1]
        outage.at(0, Set(((key[0], HEAD + b'1"}'),), MINUTE))
        outage.at(50, UpdateRecord(key, b',"a":1}', MINUTE))
        assert outage.end(100) == [True, True]
        assert execute(Get(key)) == [HEAD + b'1","a":1}'] and near(execute(Ttl(key)), 10)
        later = Outage(execute)
        later.at(0, Set(((key[0], HEAD + b'1"}'),), MINUTE), UpdateRecord(key, b',"a":1}', MINUTE))
        later.end(61)
        assert execute(Get(key)) == [None]

    def test_a_record_whose_time_has_run_out_goes(self, execute: Execute, keys: tuple[str, str]) -> None:
        key = keys[:1]
        execute(Set(((key[0], HEAD + b'1"}'),), None))
        assert execute(UpdateRecord(key, b',"a":1}', 0)) and execute(Get(key)) == [None]
        assert not execute(UpdateRecord(key, b',"a":1}', -1))

    def test_deleted_values(self, execute: Execute, outage: Outage, keys: tuple[str, str]) -> None:
        outage.at(0, Set(((keys[0], b"1"),), MINUTE))
        outage.at(5, Delete(keys), Increment(keys, 3, None))
        outage.end(70)
        assert execute(Get(keys[:1])) == [b"3"] and execute(Ttl(keys[:1])) is None

    def test_a_session_that_has_expired(self, execute: Execute, outage: Outage, session: SessionKeys) -> None:
        outage.at(0, append(session, "1"), RegisterTurn(session, MINUTE), SetSummary(session, "s", MINUTE))
        outage.at(1, Touch(session, MINUTE), pop(session), append(session, "2"))
        outage.end(62)
        assert execute(read(session)) == SessionView([])
        assert execute(append(session, "3")).total == 1
        assert texts(execute(read(session))) == ["3"]

    def test_a_session_that_went_on(self, execute: Execute, outage: Outage, session: SessionKeys) -> None:
        outage.at(0, append(session, "1"))
        outage.at(50, append(session, "2"))
        outage.at(100, append(session, "3"))
        outage.end(110)
        view = execute(read(session))
        assert texts(view) == ["1", "2", "3"] and near(view.ttl_ms, 50)

    def test_a_session_that_has_begun_anew(self, execute: Execute, outage: Outage, session: SessionKeys) -> None:
        outage.at(0, append(session, "1"), SetSummary(session, "s", MINUTE))
        outage.at(100, append(session, "2"))
        outage.end(110)
        view = execute(read(session))
        assert (texts(view), view.summary, view.total) == (["2"], "", 1) and near(view.ttl_ms, 50)

    def test_a_session_that_was_cleared(self, execute: Execute, outage: Outage, session: SessionKeys) -> None:
        outage.at(0, append(session, "1"))
        outage.at(5, Clear(session), append(session, "2"))
        outage.end(20)
        view = execute(read(session))
        assert texts(view) == ["2"] and near(view.ttl_ms, 45)

    @pytest.mark.parametrize("end", [30, 300])
    def test_a_session_that_others_keep(self, execute: Execute, outage: Outage, session: SessionKeys, end: int) -> None:
        """What was said in the outage joins what others have said since, and lets it expire no sooner."""
        execute(append(session, "theirs", 10 * MINUTE))
        outage.at(0, append(session, "mine"), SetSummary(session, "s", MINUTE), RegisterTurn(session, MINUTE))
        outage.at(1, Touch(session, MINUTE), append(session, "gone"), pop(session))
        outage.end(end)
        view = execute(read(session))
        assert (texts(view), view.summary, view.turns) == (["theirs", "mine"], "s", 1)
        assert near(view.ttl_ms, 600) and not view.is_apart

    @pytest.mark.parametrize("end", [30, 300])
    def test_a_session_that_never_expires(
        self, execute: Execute, outage: Outage, session: SessionKeys, end: int
    ) -> None:
        execute(append(session, "theirs", None))
        outage.at(0, append(session, "mine"), SetSummary(session, "s", MINUTE))
        outage.end(end)
        view = execute(read(session))
        assert (texts(view), view.summary, view.ttl_ms, view.is_apart) == (["theirs", "mine"], "s", None, False)

    def test_a_session_without_a_ttl(self, execute: Execute, outage: Outage, session: SessionKeys) -> None:
        outage.at(0, append(session, "1", None))
        outage.end(10**8)
        view = execute(read(session))
        assert (texts(view), view.ttl_ms) == (["1"], None)


def append(session: SessionKeys, text: str, ttl: int | None = MINUTE) -> Append:
    return Append(session, codec.encode([HumanMessage(text)]), Bounds(None, None, (), ()), ttl)


def pop(session: SessionKeys) -> Pop:
    return Pop(session, 1, (), MINUTE)


def read(session: SessionKeys) -> Read:
    return Read(session, None, refresh=False)


def texts(view: SessionView) -> list[str]:
    return [codec.decode(entry).text for entry in view.entries]


def near(ttl_ms: int | None, seconds: float) -> bool:
    """Tell whether a TTL is about so many seconds; a hundredth may have worn off, and real time passes too."""
    return ttl_ms is not None and 0.95 * seconds - 5 < ttl_ms / 1000 <= seconds
