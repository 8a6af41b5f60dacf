"""What goes on while the store cannot be reached, and what the store is told when it is back."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from langchain_core.messages import AIMessage, HumanMessage

from langchain_memstore import (
    BackendClosed,
    BackendDenied,
    BackendError,
    BackendFull,
    BackendUnavailable,
    Memstore,
    codec,
)
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.backends.outage.breaker import CircuitBreaker
from langchain_memstore.backends.outage.controller import OutageController, State
from langchain_memstore.backends.outage.fallback import FallbackBackend
from langchain_memstore.backends.outage.journal import Journal
from langchain_memstore.keys import Namespace, SessionKeys
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.kv import Get, Set
from langchain_memstore.ops.kv_scripts import Increment
from langchain_memstore.ops.listing import Stats
from langchain_memstore.ops.reading import Read, SessionView
from langchain_memstore.ops.session import Append, Clear, Pop, RegisterTurn, SetSummary, Touch
from langchain_memstore.ops.summary import Claim, Commit, Release
from langchain_memstore.ops.transfer import Dump, Expiries, Restore, SessionDump
from langchain_memstore.testing import BackendConformance
from langchain_memstore.window import Bounds
from support.clock import Clock
from support.unsteady import RecordingBreaker, Unsteady, falling_back, made, quick_breaker, unsteady
from support.waiting import wait_until

SESSIONS = [SessionKeys("conversation", session_id) for session_id in ("one", "two", "three")]
KEYS = SESSIONS[0]
HOUR = 3_600_000
READ = Read(KEYS, None, refresh=False)

bounds = st.none() | st.integers(1, 5)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Ends every outage with its test."""
    yield
    for backend, primary in made:
        if isinstance(primary, Unsteady):
            primary.mode, primary.refusal = "up", None
        if (left := backend()) is not None:
            left.close()
    made.clear()


def append(
    text: str,
    keys: SessionKeys = KEYS,
    *,
    most: int | None = None,
    evicted: int | None = None,
    ttl: int | None = HOUR,
) -> Append:
    bounds = Bounds(most, None, codec.RESULTS, codec.TURN_STARTS, max_evicted=evicted)
    return Append(keys, codec.encode([HumanMessage(text)]), bounds, ttl)


def texts(entries: list[bytes]) -> list[str]:
    return [codec.decode(entry).text for entry in entries]


def wait_for_replay(backend: FallbackBackend) -> None:
    """Wait until the outage is over."""
    wait_until(lambda: not backend.status.degraded)


class TestWithTheStore(BackendConformance):
    """As long as the store can be reached, it answers."""

    @pytest.fixture
    def backend(self) -> FallbackBackend:
        return falling_back(LocalBackend())


class TestWithoutTheStore(BackendConformance):
    """A store that was never there changes no answer on sessions that are made meanwhile."""

    @pytest.fixture
    def backend(self) -> Iterator[FallbackBackend]:
        primary, backend = unsteady()
        primary.mode = "down"
        yield backend
        backend.close()

    # Sessions move only out of the store, and into it.
    test_a_session_is_restored_as_it_was = None
    test_what_exists_is_replaced_only_when_asked_for = None
    test_a_restored_session_expires = None


def test_sessions_do_not_move_in_an_outage() -> None:
    primary, backend = unsteady()
    backend.execute(append("before"))
    primary.mode = "down"
    backend.execute(append("during"))
    for op in (Dump(KEYS), Expiries(KEYS), Restore(KEYS, SessionDump(()), "x", replace=True)):
        with pytest.raises(BackendUnavailable):
            backend.execute(op)
    primary.mode = "up"
    wait_for_replay(backend)
    assert len(backend.execute(Dump(KEYS)).messages) == 2


def test_what_is_known_of_a_session_is_forgotten_when_it_is_replaced() -> None:
    primary, backend = unsteady()
    backend.execute(append("before"))
    backend.execute(READ)
    backend.execute(Restore(KEYS, SessionDump((), total=7), "x", replace=True))
    primary.mode = "down"
    assert backend.execute(append("during")).messages == 1
    primary.mode = "up"
    wait_for_replay(backend)
    assert backend.execute(READ).total == 8


@pytest.mark.parametrize("mode", ["down", "losing replies"])
def test_an_outage_is_bridged(mode: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    primary, backend = unsteady()
    backend.execute(append("before"))
    primary.mode = mode
    assert backend.execute(append("during")).total == 2
    backend.execute(append("during, too"))
    assert texts(backend.execute(READ).entries) == ["before", "during", "during, too"]
    status = backend.status
    assert (status.backend, status.degraded, status.pending) == ("local", True, 2)
    assert status.since is not None
    primary.mode = "up"
    wait_for_replay(backend)
    assert texts(primary.backend.execute(READ).entries) == ["before", "during", "during, too"]
    assert (backend.status.backend, backend.status.pending, backend.status.since) == ("redis", 0, None)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "2 operations were replayed" in caplog.text


@pytest.mark.parametrize("mode", ["down", "losing replies"])
def test_what_may_have_been_done_over_a_day_ago_is_not_sent_again(mode: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The store knows it no more, so it could be done twice; what was never sent is replayed however late."""
    primary, clock = Unsteady(LocalBackend()), Clock()
    backend = falling_back(primary, clock=clock)
    backend.execute(READ)
    primary.mode = mode
    backend.execute(append("sent", ttl=None))
    backend.execute(append("not sent", ttl=None))
    done = texts(primary.backend.execute(READ).entries)
    primary.mode = "down"
    clock.now += 25 * 3600
    primary.mode = "up"
    wait_for_replay(backend)
    assert texts(primary.backend.execute(READ).entries) == [*done, "not sent"]
    (error,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "Append, is dropped: it may have been done over a day ago; look at session 'one'" in error


def test_what_was_tried_while_nobody_could_hear_it_was_not_sent() -> None:
    primary, clock = Unsteady(LocalBackend()), Clock()
    backend = falling_back(primary, clock=clock)
    primary.mode = "down"
    backend.execute(READ)
    for number in range(3):
        backend.execute(append(str(number), ttl=None))
    time.sleep(0.1)  # in which the store is tried again and again
    clock.now += 72 * 3600
    primary.mode = "up"
    wait_for_replay(backend)
    assert texts(primary.backend.execute(READ).entries) == ["0", "1", "2"]


def test_what_the_store_cannot_do_twice_is_replayed_within_a_day() -> None:
    primary, clock = Unsteady(LocalBackend()), Clock()
    backend = falling_back(primary, clock=clock)
    primary.mode = "losing replies"
    backend.execute(append("sent"))
    primary.mode = "down"
    clock.now += 23 * 3600
    primary.mode = "up"
    wait_for_replay(backend)
    assert texts(primary.backend.execute(READ).entries) == ["sent"]


def test_what_cannot_be_applied_here_waits_for_the_store_all_the_same() -> None:
    """Two processes have left writes that exclude each other; the next one serves what it can, and replays both."""
    store, journal = LocalBackend(), Journal(10)
    key = Namespace("conversation", "kv").keys("x")
    journal.append(Set(((key[0], b'"text"'),), None), since=int(time.time() * 1000))
    journal.append(Increment(key, 1, None), since=int(time.time() * 1000))
    backend = falling_back(store, lambda: journal)
    backend.execute(append("on"))
    wait_for_replay(backend)
    assert store.execute(Get((key[0],))) == [b'"text"']
    assert texts(store.execute(READ).entries) == ["on"]


@pytest.mark.parametrize("ended_by", ["a replay", "the probe"])
def test_the_next_outage_begins_with_the_first_pause_again(ended_by: str) -> None:
    primary, breaker = Unsteady(LocalBackend()), RecordingBreaker()
    backend = falling_back(primary, make_breaker=lambda: breaker)
    for _ in range(3):
        breaker.pauses.clear()
        primary.mode = "down"
        backend.execute(append("during") if ended_by == "a replay" else READ)
        wait_until(lambda: len(breaker.pauses) >= 6)
        primary.mode = "up"
        wait_for_replay(backend)
        assert breaker.pauses[:6] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    backend.close()


def test_an_outage_of_reads_alone_ends_by_itself() -> None:
    primary, backend = unsteady()
    backend.execute(append("before"))
    backend.execute(READ)
    primary.mode = "down"
    assert texts(backend.execute(READ).entries) == ["before"]
    assert backend.status.pending == 0
    primary.mode = "up"
    wait_for_replay(backend)


def test_the_context_is_kept_with_all_that_is_known_of_the_session() -> None:
    primary, backend = unsteady()
    for number in range(5):
        backend.execute(append(str(number), most=3, evicted=10))
    backend.execute(SetSummary(KEYS, "so far", HOUR))
    healthy = backend.execute(Read(KEYS, HOUR, refresh=True))
    assert (healthy.evicted, healthy.total, healthy.turns) == (2, 5, 5)
    primary.mode = "down"
    known = backend.execute(READ)
    assert _without_ttl(known) == _without_ttl(healthy)
    assert healthy.ttl_ms is not None and known.ttl_ms is not None
    assert healthy.ttl_ms - 5_000 < known.ttl_ms <= healthy.ttl_ms
    appended = backend.execute(append("5", most=3, evicted=10))
    assert appended[:5] == (3, 6, 6, 1, 3)
    assert backend.execute(READ).evicted == 3
    assert [info.evicted for info in backend.execute(Stats((KEYS,)))] == [3]


def test_what_waits_is_dropped_in_an_outage_as_without_one() -> None:
    ops = [append(str(number), most=2, evicted=3) for number in range(9)]
    plain = LocalBackend()
    primary, backend = unsteady()
    for at, op in enumerate(ops):
        if at == 4:
            backend.execute(READ)
            primary.mode = "down"
        assert backend.execute(op)[:6] == plain.execute(op)[:6]
    assert _without_ttl(backend.execute(READ)) == _without_ttl(plain.execute(READ))


def test_summaries_wait_for_the_end_of_the_outage() -> None:
    primary, backend = unsteady()
    for number in range(5):
        backend.execute(append(str(number), most=2, evicted=10))
    claim = Claim(KEYS, 60_000, 0)
    claimed = backend.execute(claim)
    assert claimed is not None
    primary.mode = "down"
    for op in (claim, Commit(KEYS, "summary", claimed, HOUR, claim.write_id), Release(KEYS, claim.write_id)):
        with pytest.raises(BackendUnavailable):
            backend.execute(op)
    backend.execute(append("5", most=2, evicted=10))
    with pytest.raises(BackendUnavailable, match="Claim needs it"):
        backend.execute(claim)
    primary.mode = "up"
    wait_for_replay(backend)
    assert backend.execute(Commit(KEYS, "summary", claimed, HOUR, claim.write_id)) is True
    primary.mode = "down"
    data = backend.execute(READ)
    assert (data.summary, data.evicted, data.summarized, len(data.entries)) == ("summary", 1, 3, 2)


def test_a_history_makes_no_summary_in_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    primary, backend = unsteady()
    store = Memstore(backend, max_messages=2, summarize_every=1, summarizer=lambda _, messages: f"{len(messages)} more")
    history = store.history("session")
    primary.mode = "down"
    for number in range(5):
        history.add_user_message(str(number))
    assert history.snapshot().evicted == 3
    assert store.status.summary_failures == ()
    with pytest.raises(BackendUnavailable):
        history.compact()
    primary.mode = "up"
    wait_for_replay(backend)
    history.add_ai_message("answer")
    assert history.summary == "4 more"
    store.close()


@pytest.mark.parametrize("later", [BackendFull("out of memory"), BackendDenied("the login was refused")], ids=repr)
def test_what_the_store_refuses_for_now_waits(later: BackendError) -> None:
    primary, backend = unsteady()
    primary.mode = "down"
    backend.execute(append("one"))
    primary.refusal, primary.mode = later, "up"
    wait_until(lambda: backend.execute(READ).entries != [])
    backend.execute(append("two"))
    assert backend.status.degraded
    primary.refusal = None
    wait_for_replay(backend)
    assert texts(primary.backend.execute(READ).entries) == ["one", "two"]


def test_what_the_store_refuses_for_good_is_told_and_dropped(caplog: pytest.LogCaptureFixture) -> None:
    primary, backend = unsteady()
    primary.mode = "down"
    backend.execute(append("one"))
    primary.refusal, primary.mode = BackendError("a key of another type"), "up"
    wait_for_replay(backend)
    assert "Append, is dropped: a key of another type" in caplog.text
    with pytest.raises(BackendError, match="another type"):
        backend.execute(append("two"))
    assert not backend.status.degraded


@pytest.mark.parametrize(
    "error", [BackendFull("full"), BackendDenied("denied"), BackendError("another type")], ids=repr
)
def test_a_refusal_is_no_outage(error: BackendError) -> None:
    primary, backend = unsteady()
    primary.refusal = error
    with pytest.raises(type(error)):
        backend.execute(append("one"))
    assert not backend.status.degraded


def test_no_more_waits_than_the_journal_takes() -> None:
    primary = Unsteady(LocalBackend())
    backend = falling_back(primary, lambda: Journal(3))
    primary.mode = "down"
    for number in range(3):
        backend.execute(append(str(number)))
    with pytest.raises(BackendUnavailable, match="max_journal"):
        backend.execute(append("one too many"))
    assert texts(backend.execute(READ).entries) == ["0", "1", "2"]
    primary.mode = "up"
    wait_for_replay(backend)
    backend.execute(append("3"))
    assert texts(primary.backend.execute(READ).entries) == ["0", "1", "2", "3"]


def test_the_store_may_go_away_while_the_journal_is_replayed() -> None:
    primary, backend = unsteady()
    primary.mode = "down"
    for number in range(50):
        backend.execute(append(str(number)))

    def fail_at_30(op: Op[Any]) -> Any:
        if sum(isinstance(each, Append) for each in primary.done) == 30:
            primary.mode = "down"
        return execute(op)

    execute, primary.execute = primary.execute, fail_at_30  # type: ignore[method-assign]
    primary.mode = "up"
    wait_until(lambda: primary.mode == "down")
    primary.execute = execute  # type: ignore[method-assign]
    wait_until(lambda: backend.status.pending == 20)
    assert len(backend.execute(READ).entries) == 50
    primary.mode = "up"
    wait_for_replay(backend)
    assert texts(primary.backend.execute(READ).entries) == [str(number) for number in range(50)]


def test_sessions_of_which_nothing_waits_go_to_the_store_meanwhile() -> None:
    primary, backend = unsteady()
    other = SESSIONS[1]
    primary.backend.execute(append("elsewhere", other))  # by another process
    primary.mode = "down"
    for number in range(20):
        backend.execute(append(str(number)))
    assert backend.execute(Read(other, None, False)).entries == []
    gate = threading.Event()

    def hold(op: Op[Any]) -> Any:
        if threading.current_thread().name == "memstore-replay" and len(primary.done) >= 10:
            gate.wait(5)
        return execute(op)

    execute, primary.execute = primary.execute, hold  # type: ignore[method-assign]
    primary.mode = "up"
    wait_until(lambda: len(primary.done) >= 9)
    assert texts(backend.execute(Read(other, None, False)).entries) == ["elsewhere"]
    assert len(backend.execute(append("20")) and backend.execute(READ).entries) == 21
    assert backend.status.degraded
    gate.set()
    wait_for_replay(backend)
    assert texts(primary.backend.execute(READ).entries) == [str(number) for number in range(21)]


@pytest.mark.parametrize("settled", [True, False])
def test_what_the_store_did_while_the_outage_began_is_seen_once(settled: bool) -> None:
    primary, backend = unsteady()
    for number in range(40):
        backend.execute(append(str(number)))
    if settled:
        backend.execute(READ)
    late, result = append("late"), None

    def do_and_lose_the_others(op: Op[Any]) -> Any:
        nonlocal result
        result = execute(op)
        primary.mode = "down"
        primary.execute = execute  # type: ignore[method-assign]
        backend.execute(append("of another thread"))  # which finds the store away
        return result

    execute, primary.execute = primary.execute, do_and_lose_the_others  # type: ignore[method-assign]
    backend.execute(late)
    assert backend.status.degraded
    said = texts(backend.execute(READ).entries)
    assert said == [*map(str, range(40)), "of another thread", "late"]
    backend._mirror.record(late, result)  # as a thread does that was slow to record it
    backend._controller.apply_late(late)
    assert texts(backend.execute(READ).entries) == said
    primary.mode = "up"
    wait_for_replay(backend)
    assert texts(primary.backend.execute(READ).entries) == [*map(str, range(40)), "late", "of another thread"]


@pytest.mark.parametrize("is_lost", [True, False])
def test_a_read_that_overtakes_a_reply_shows_the_append_once(is_lost: bool) -> None:
    primary, backend = unsteady()
    backend.execute(append("before"))

    def read_meanwhile(op: Op[Any]) -> Any:
        result = execute(op)
        primary.execute = execute  # type: ignore[method-assign]
        assert len(backend.execute(READ).entries) == 2  # by another thread
        if is_lost:
            primary.mode = "down"
            raise BackendUnavailable("the reply was lost")
        return result

    execute, primary.execute = primary.execute, read_meanwhile  # type: ignore[method-assign]
    backend.execute(append("overtaken"))
    primary.mode = "down"
    assert texts(backend.execute(READ).entries) == ["before", "overtaken"]
    backend.execute(append("after"))
    assert texts(backend.execute(READ).entries) == ["before", "overtaken", "after"]
    primary.mode = "up"
    wait_for_replay(backend)
    assert texts(primary.backend.execute(READ).entries) == ["before", "overtaken", "after"]


def test_both_variants_share_one_journal_that_is_replayed_once() -> None:
    primary, backend = unsteady()

    async def talk() -> None:
        primary.mode = "down"
        for number in range(40):
            await backend.aexecute(append(f"async {number}"))
            backend.execute(append(f"sync {number}", SESSIONS[1]))
        assert backend.status.pending == 80
        primary.mode = "up"
        await backend.aexecute(append("async 40"))

    asyncio.run(talk())
    wait_for_replay(backend)
    write_ids = [(op.keys, op.write_id) for op in primary.done if isinstance(op, Append)]
    assert len(write_ids) == len(set(write_ids)) == 81
    assert texts(primary.backend.execute(READ).entries) == [f"async {number}" for number in range(41)]


def test_closing_replays_what_waits(variant: str) -> None:
    primary = Unsteady(LocalBackend())
    backend = falling_back(primary, make_breaker=CircuitBreaker)  # which tries again too late
    primary.mode = "down"
    for number in range(5):
        backend.execute(append(str(number)))
    primary.mode = "up"
    if variant == "sync":
        backend.close()
    else:
        asyncio.run(backend.aclose())
    assert texts(primary.backend.execute(READ).entries) == list("01234")
    with pytest.raises(BackendClosed):
        backend.execute(READ)


class ClosableStore(Unsteady):
    """A store that takes a moment for each operation, and is closed by the thread that replays."""

    closed = False

    def execute(self, op: Op[Any]) -> Any:
        time.sleep(0.001)
        if self.closed:
            raise BackendClosed("closed by the thread")
        return super().execute(op)

    def close(self) -> None:
        self.closed = True


def test_what_waits_is_replayed_at_exit_while_the_thread_ends() -> None:
    primary = Unsteady(LocalBackend())
    replayers: list[ClosableStore] = []

    def make_replayer() -> ClosableStore:
        replayers.append(ClosableStore(primary))
        return replayers[-1]

    controller = OutageController(
        lambda: Journal(10_000), make_breaker=lambda: CircuitBreaker(Clock(), chance=lambda: 0)
    )
    backend = FallbackBackend(primary, controller, make_replayer)
    primary.mode = "down"
    for number in range(50):
        backend.execute(append(str(number)))
    primary.mode = "up"
    controller.end_with_process(time.monotonic() + 10)
    assert texts(primary.backend.execute(READ).entries) == [*map(str, range(50))]
    wait_until(lambda: replayers[0].closed)


def test_nothing_passes_what_an_earlier_process_left() -> None:
    class SlowJournal(Journal):
        """A journal that another thread looks at while it is opened."""

        def open(self) -> None:
            self.append(append("earlier"), since=int(time.time() * 1000))

        def __len__(self) -> int:
            assert controller.state is not State.HEALTHY or not self._waiting
            return super().__len__()

    primary = Unsteady(LocalBackend())
    controller = OutageController(lambda: SlowJournal(10), make_breaker=quick_breaker)
    backend = FallbackBackend(primary, controller, lambda: primary)
    backend.execute(append("later"))
    wait_for_replay(backend)
    assert texts(primary.backend.execute(READ).entries) == ["earlier", "later"]
    backend.close()


def test_closing_tells_what_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    primary, backend = unsteady()
    primary.mode = "down"
    backend.execute(append("one"))
    backend.close()
    backend.close()
    assert caplog.text.count("1 operations wait for the store and are lost with this process") == 1


def test_a_closed_backend_serves_nothing_while_others_go_on() -> None:
    primary, backend = unsteady()
    other = FallbackBackend(primary, backend._controller, lambda: primary)
    primary.mode = "down"
    other.execute(append("one"))
    other.close()
    for op in (READ, append("two")):
        with pytest.raises(BackendClosed):
            other.execute(op)
    backend.execute(append("two"))
    primary.mode = "up"
    wait_for_replay(backend)
    assert texts(primary.backend.execute(READ).entries) == ["one", "two"]


def test_what_waits_is_replayed_though_nobody_holds_the_backend() -> None:
    primary, backend = unsteady()
    primary.mode = "down"
    backend.execute(append("one"))
    gone = weakref.ref(backend)
    del backend
    gc.collect()
    assert gone() is None
    primary.mode = "up"
    wait_until(lambda: primary.done)
    assert texts(primary.backend.execute(READ).entries) == ["one"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork")
def test_a_fork_leaves_the_journal_to_its_parent() -> None:
    primary, backend = unsteady()
    primary.mode = "down"
    backend.execute(append("of the parent"))

    def child(say: Any) -> None:
        pending = backend.status.pending
        backend.execute(append("of the child"))
        say.send((pending, backend.status.pending))

    hear, say = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=child, args=[say])
    process.start()
    assert hear.recv() == (0, 1)
    process.join(10)
    assert backend.status.pending == 1


def test_many_threads_write_through_outages_and_nothing_is_lost_or_repeated() -> None:
    primary, backend = unsteady()
    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            for mode in ("down", "up", "losing replies", "up"):
                primary.mode = mode  # type: ignore[assignment]
                stop.wait(0.004)
        primary.mode = "up"

    def write(writer: int) -> None:
        for number in range(150):
            backend.execute(append(f"{writer} {number}", SESSIONS[writer % 2]))
            stop.wait(0.0005)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(write, range(6)))
    stop.set()
    disturber.join()
    wait_for_replay(backend)
    for at, keys in enumerate(SESSIONS[:2]):
        said = texts(primary.backend.execute(Read(keys, None, False)).entries)
        for writer in range(at, 6, 2):
            assert [s for s in said if s.startswith(f"{writer} ")] == [f"{writer} {n}" for n in range(150)]
        assert len(said) == 450


async def test_a_task_that_is_cancelled_leaves_the_others_alone() -> None:
    primary, backend = unsteady()
    primary.mode = "down"
    backend.execute(append("0"))
    tasks = [asyncio.create_task(backend.aexecute(append(str(number)))) for number in range(1, 20)]
    tasks[3].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    primary.mode = "up"
    await backend.aclose()
    assert set(texts(primary.backend.execute(READ).entries)) == {str(number) for number in range(20)} - {"4"}


class Bridged(RuleBasedStateMachine):
    """One process does everything to a store that comes and goes, and to one that is always there."""

    def __init__(self) -> None:
        super().__init__()
        self.primary, self.backend = unsteady()
        self.plain = LocalBackend()
        self.said = 0

    def teardown(self) -> None:
        self.primary.mode = "up"
        wait_for_replay(self.backend)
        for keys in SESSIONS:
            op = Read(keys, None, refresh=False)
            assert _without_ttl(self.primary.backend.execute(op)) == _without_ttl(self.plain.execute(op))

    def do(self, op: Op[Any]) -> None:
        assert _without_ttl(self.backend.execute(op)) == _without_ttl(self.plain.execute(op))

    @rule(mode=st.sampled_from(["up", "down", "losing replies"]))
    def turn(self, mode: Any) -> None:
        self.primary.mode = mode

    @rule()
    def recover(self) -> None:
        self.primary.mode = "up"
        wait_for_replay(self.backend)

    @rule(keys=st.sampled_from(SESSIONS), count=st.integers(1, 4), most=bounds, evict=st.booleans())
    def append(self, keys: SessionKeys, count: int, most: int | None, evict: bool) -> None:
        self.said += count
        messages = [(HumanMessage, AIMessage)[n % 2](str(self.said - n)) for n in range(count)]
        kept = Bounds(most, None, codec.RESULTS, codec.TURN_STARTS, max_evicted=4 if evict else None)
        self.do(Append(keys, codec.encode(messages), kept, HOUR))

    @rule(keys=st.sampled_from(SESSIONS), count=st.integers(1, 4))
    def pop(self, keys: SessionKeys, count: int) -> None:
        self.do(Pop(keys, count, codec.TURN_STARTS, HOUR))

    @rule(keys=st.sampled_from(SESSIONS))
    def register_turn(self, keys: SessionKeys) -> None:
        self.do(RegisterTurn(keys, HOUR))

    @rule(keys=st.sampled_from(SESSIONS), summary=st.sampled_from(["", "short"]))
    def set_summary(self, keys: SessionKeys, summary: str) -> None:
        self.do(SetSummary(keys, summary, HOUR))

    @rule(keys=st.sampled_from(SESSIONS), clear=st.booleans())
    def touch_or_clear(self, keys: SessionKeys, clear: bool) -> None:
        self.do(Clear(keys) if clear else Touch(keys, HOUR))

    @invariant()
    def reads_are_the_same(self) -> None:
        for keys in SESSIONS:
            self.do(Read(keys, None, refresh=False))


def _without_ttl(result: Any) -> Any:
    return result._replace(ttl_ms=None, seen="") if isinstance(result, SessionView) else result


def test_one_process_sees_no_difference_and_neither_does_the_store() -> None:
    run_state_machine_as_test(Bridged, settings=settings(max_examples=60, stateful_step_count=30))
