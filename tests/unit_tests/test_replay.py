"""What waits is replayed, whatever the store, the disk or one of the operations does."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from langchain_memstore import BackendDenied, BackendError, BackendUnavailable, Memstore, codec
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.backends.outage import replay
from langchain_memstore.backends.outage.controller import OutageController
from langchain_memstore.backends.outage.fallback import FallbackBackend
from langchain_memstore.backends.outage.file_journal import FileJournal
from langchain_memstore.backends.outage.journal import Journal
from langchain_memstore.backends.outage.threads import MOST
from langchain_memstore.keys import SessionKeys, SessionPattern
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.listing import Scan, Stats
from langchain_memstore.ops.reading import Read
from langchain_memstore.ops.session import Append
from langchain_memstore.window import Bounds
from support.clock import Clock
from support.unsteady import Unsteady, falling_back, quick_breaker, unsteady
from support.waiting import wait_until

ONE, TWO, THREE = (SessionKeys("conversation", session_id) for session_id in ("one", "two", "three"))
BOUNDS = Bounds(None, None, codec.RESULTS, codec.TURN_STARTS)


def append(text: str, keys: SessionKeys = ONE) -> Append:
    return Append(keys, codec.encode([HumanMessage(text)]), BOUNDS, None)


def said(backend: Any, keys: SessionKeys = ONE) -> list[str]:
    return [codec.decode(entry).text for entry in backend.execute(Read(keys, None, refresh=False)).entries]


def refusing(*refused: SessionKeys, error: Callable[[], BackendError] = lambda: BackendDenied("no rights")) -> Any:
    """Make what refuses writes on sessions."""
    return lambda op: error() if op.writes and not set(refused).isdisjoint(op.targets) else None


@pytest.fixture(autouse=True)
def parked_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries what is parked again every fifth of a second."""
    monkeypatch.setattr(replay, "PARKED", 0.2)


class TestRefused:
    """The store refuses an operation that waits."""

    def test_others_are_replayed_and_it_waits(self, caplog: pytest.LogCaptureFixture) -> None:
        primary, backend = unsteady()
        primary.mode, primary.refuse = "down", refusing(ONE)
        for number in range(3):
            backend.execute(append(str(number), ONE))
            backend.execute(append(str(number), TWO))
        primary.mode = "up"
        wait_until(lambda: backend.status.parked == 3)
        status = backend.status
        assert (status.degraded, status.backend, status.pending, status.since, status.cause) == (
            False,
            "redis",
            3,
            None,
            None,
        )
        assert said(primary.backend, TWO) == ["0", "1", "2"] and said(primary.backend) == []
        assert "3 operations that wait are refused, and are tried again every minute" in caplog.text
        backend.execute(append("3", TWO))
        assert said(primary.backend, TWO) == ["0", "1", "2", "3"]
        assert said(backend) == ["0", "1", "2"]
        backend.execute(append("3"))  # behind those that wait
        assert backend.status.parked == 4
        primary.refuse = lambda op: None
        wait_until(lambda: not backend.status.pending)
        assert said(primary.backend) == ["0", "1", "2", "3"]
        assert backend.status.parked == 0
        backend.close()

    def test_a_call_does_not_wait_for_what_is_parked(self) -> None:
        primary, backend = unsteady()
        primary.mode, primary.refuse = "down", refusing(ONE)
        backend.execute(append("0", ONE))
        backend.execute(append("0", TWO))
        primary.mode = "up"
        wait_until(lambda: backend.status.parked == 1)
        start = time.monotonic()
        for _ in range(5):
            assert said(backend) == ["0"]
        assert time.monotonic() - start < 0.5  # for which each would wait
        backend.close()

    def test_while_nothing_else_is_done_it_is_not_parked(self) -> None:
        """Perhaps everything is refused: it is tried again soon."""
        primary, backend = unsteady()
        primary.mode, primary.refuse = "down", refusing(ONE, TWO)
        backend.execute(append("0", ONE))
        backend.execute(append("0", TWO))
        primary.mode = "up"
        wait_until(lambda: not backend._controller._replay.absences)
        time.sleep(0.1)
        assert (backend.status.parked, backend.status.pending, backend.status.degraded) == (0, 2, True)
        backend.execute(append("0", THREE))  # which goes to the store
        assert said(primary.backend, THREE) == ["0"]
        primary.refuse = lambda op: None
        wait_until(lambda: not backend.status.degraded)
        assert said(primary.backend) == said(primary.backend, TWO) == ["0"]

    def test_after_a_day_it_is_dropped(self, caplog: pytest.LogCaptureFixture) -> None:
        primary, clock = Unsteady(LocalBackend()), Clock()
        backend = falling_back(primary, clock=clock)
        primary.mode, primary.refuse = "down", refusing(ONE)
        backend.execute(append("0", ONE))
        backend.execute(append("0", TWO))
        primary.mode = "up"
        wait_until(lambda: backend.status.parked == 1)
        clock.now += 25 * 3600
        wait_until(lambda: not backend.status.pending)
        assert backend.status.rejected == 1
        assert "look at session 'one'" in caplog.text

    def test_what_it_never_will_do_is_kept_in_a_file(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        path, primary = tmp_path / "journal", Unsteady(LocalBackend())
        backend = falling_back(primary, lambda: FileJournal(str(path), 10))
        primary.mode = "down"
        primary.refuse = refusing(ONE, error=lambda: BackendError("another type"))
        refused = append("0", ONE)
        backend.execute(refused)
        backend.execute(append("0", TWO))
        primary.mode = "up"
        wait_until(lambda: not backend.status.degraded)
        assert backend.status.rejected == 1 and backend.status.pending == 0
        assert f"is dropped, and kept in '{path}.rejected': another type" in caplog.text
        backend.close()
        (tmp_path / "journal.rejected").rename(path)  # so that the next process tries it again
        journal = FileJournal(str(path), 10)
        journal.open()
        assert [waiting.op for waiting in journal] == [refused]
        journal.close()

    def test_a_bug_in_one_operation_ends_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        primary, backend = unsteady()

        def fail(op: Op[Any]) -> BackendError | None:
            if op.writes and ONE in op.targets:
                raise KeyError("what was said")
            return None

        primary.mode, primary.refuse = "down", fail
        backend.execute(append("0", ONE))
        backend.execute(append("0", TWO))
        primary.mode = "up"
        wait_until(lambda: backend.status.parked == 1)
        assert said(primary.backend, TWO) == ["0"]
        assert "Append, fails: KeyError" in caplog.text and "what was said" not in caplog.text
        primary.refuse = lambda op: None
        wait_until(lambda: not backend.status.pending)


class TestDisk:
    """The journal is in a file, and the disk does not take everything."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "journal"

    def test_the_replay_goes_on(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        primary = Unsteady(LocalBackend())
        backend = falling_back(primary, lambda: FileJournal(str(path), 100))
        primary.mode = "down"
        for number in range(20):
            backend.execute(append(str(number)))

        def full(file: int, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("os.write", full)
            primary.mode = "up"
            wait_until(lambda: not backend.status.degraded)
        assert said(primary.backend) == [str(number) for number in range(20)]
        assert caplog.text.count("No space left on device; what waits is replayed all the same") == 1
        primary.mode = "down"
        backend.execute(append("20"))
        backend.close()
        journal = FileJournal(str(path), 100)
        journal.open()
        assert [codec.decode(waiting.op.entries[0]).text for waiting in journal] == ["20"]  # type: ignore[attr-defined]
        journal.close()

    def test_what_the_journal_refuses_is_not_shown(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        primary = Unsteady(LocalBackend())
        backend = falling_back(primary, lambda: FileJournal(str(path), 100))
        primary.mode = "down"
        backend.execute(append("kept"))

        def full(file: int, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("os.write", full)
            with pytest.raises(BackendUnavailable, match="No space left"):
                backend.execute(append("refused"))
        assert said(backend) == ["kept"]
        assert backend.status.pending == 1
        primary.mode = "up"
        wait_until(lambda: not backend.status.degraded)
        assert said(primary.backend) == ["kept"]

    def test_nobody_waits_for_a_sync_of_the_replay(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        primary = Unsteady(LocalBackend())
        backend = falling_back(primary, lambda: FileJournal(str(path), 100))
        primary.mode = "down"
        for number in range(40):
            backend.execute(append(str(number)))
        slow, syncs = threading.Event(), threading.Event()

        def sync(file: int) -> None:
            if threading.current_thread().name == "memstore-replay":
                syncs.set()
                slow.wait(10)

        monkeypatch.setattr("os.fsync", sync)
        primary.mode = "up"
        assert syncs.wait(5)
        assert said(backend, TWO) == []  # though the disk takes its time
        assert not slow.is_set()
        slow.set()
        wait_until(lambda: not backend.status.degraded)
        backend.close()

    def test_as_many_processes_as_there_are_have_a_journal(self, path: Path) -> None:
        journals = [FileJournal(str(path), 10) for _ in range(120)]
        for number, journal in enumerate(journals):
            journal.open()
            journal.append(append(str(number)), since=number)
        for journal in journals:
            journal.close()
        again = FileJournal(str(path), 200)
        again.open()
        assert [waiting.since for waiting in again] == list(range(120))
        again.close()


def threads_of_outages() -> int:
    return sum(thread.name == "memstore-replay" for thread in threading.enumerate())


class TestThreads:
    """A few threads try again what cannot be reached, however many stores there are."""

    @pytest.mark.parametrize("op", [append("0"), Read(ONE, None, refresh=False)], ids=["a write", "a read"])
    def test_there_are_four_at_the_most(self, op: Op[Any]) -> None:
        pairs = [unsteady() for _ in range(50)]
        for primary, backend in pairs:
            primary.mode = "down"
            backend.execute(op)
        time.sleep(0.05)
        assert 1 <= threads_of_outages() <= MOST == 4
        for primary, _ in pairs:
            primary.mode = "up"
        wait_until(lambda: not any(backend.status.degraded for _, backend in pairs))
        wait_until(lambda: threads_of_outages() == 0)

    def test_they_end_when_the_stores_are_closed(self, caplog: pytest.LogCaptureFixture) -> None:
        pairs = [unsteady() for _ in range(10)]
        for primary, backend in pairs:
            primary.mode = "down"
            backend.execute(append("0"))
            backend.close()
        wait_until(lambda: threads_of_outages() == 0)
        assert caplog.text.count("1 operations wait for the store and are lost with this process") == 10

    def test_they_end_when_the_stores_are_gone_and_nothing_waits(self) -> None:
        pairs = [unsteady() for _ in range(10)]
        for primary, backend in pairs:
            primary.mode = "down"
            backend.execute(Read(ONE, None, refresh=False))
        del pairs, primary, backend
        gc.collect()
        wait_until(lambda: threads_of_outages() == 0)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
    def test_a_fork_has_threads_of_its_own(self) -> None:
        primary, backend = unsteady()
        primary.mode = "down"
        backend.execute(append("of the parent"))
        if (child := os.fork()) == 0:
            try:
                backend.execute(append("of the child"))
                primary.mode = "up"
                wait_until(lambda: not backend.status.degraded)
                os._exit(0 if said(primary.backend) == ["of the child"] else 2)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        primary.mode = "up"
        wait_until(lambda: not backend.status.degraded)


class Nodes(Unsteady):
    """A store of two nodes, of which a test takes one away: `one` is on the first, the others on the second."""

    away: Hashable = None

    def locate(self, op: Op[Any]) -> tuple[Hashable, ...]:
        keys = [keys for keys in op.targets if isinstance(keys, SessionKeys)]
        if op.scans or isinstance(op, Stats):
            return (("first", 1), ("second", 2))
        return tuple({("first", 1) if each == ONE else ("second", 2) for each in keys})

    def execute(self, op: Op[Any]) -> Any:
        nodes = self.locate(op)
        if "one" in str(op.first_key if nodes == () else ""):
            nodes = (("first", 1),)
        if self.away in nodes:
            error = BackendUnavailable(f"{self.away} is away")
            error.node = self.away  # type: ignore[assignment]
            raise error
        return super().execute(op)


class TestNodes:
    """A node of the store is away."""

    @pytest.fixture
    def nodes(self) -> Nodes:
        return Nodes(LocalBackend())

    @pytest.fixture
    def backend(self, nodes: Nodes) -> Iterator[FallbackBackend]:
        for keys in (ONE, TWO, THREE):
            nodes.backend.execute(append("elsewhere", keys))  # by another process
        controller = OutageController(lambda: Journal(100), make_breaker=quick_breaker, locate=nodes.locate)
        backend = FallbackBackend(nodes, controller, lambda: nodes)
        yield backend
        nodes.away = None
        backend.close()

    def test_the_others_serve_throughout(self, nodes: Nodes, backend: FallbackBackend) -> None:
        nodes.away = ("first", 1)
        assert said(backend) == []
        backend.execute(append("here"))
        status = backend.status
        assert status.degraded and status.cause == "('first', 1) is away" and status.pending == 1
        for keys in (TWO, THREE):
            assert said(backend, keys) == ["elsewhere"]
            backend.execute(append("there", keys))
            assert said(nodes.backend, keys) == ["elsewhere", "there"]
        nodes.away = None
        wait_until(lambda: not backend.status.degraded)
        assert said(backend) == ["elsewhere", "here"]

    def test_what_needs_all_nodes_raises(self, nodes: Nodes, backend: FallbackBackend) -> None:
        nodes.away = ("first", 1)
        said(backend)
        for op in (Scan(SessionPattern("conversation", "*")), Stats((ONE, TWO))):
            with pytest.raises(BackendUnavailable, match=r"'first', 1\) is away"):
                backend.execute(op)  # type: ignore[arg-type]

    def test_each_may_go_away_at_its_time(self, nodes: Nodes, backend: FallbackBackend) -> None:
        nodes.away = ("first", 1)
        backend.execute(append("1"))
        nodes.away = ("second", 2)
        wait_until(lambda: said(nodes.backend) == ["elsewhere", "1"])
        backend.execute(append("2", TWO))
        assert said(backend, TWO) == ["2"] and said(backend) == ["elsewhere", "1"]
        nodes.away = None
        wait_until(lambda: not backend.status.degraded)
        assert said(backend, TWO) == ["elsewhere", "2"]

    @pytest.mark.parametrize("op", [append("here"), Read(ONE, None, refresh=False)], ids=["a write", "a read"])
    def test_an_error_of_one_call_is_bridged_for_this_call_alone(
        self, nodes: Nodes, backend: FallbackBackend, op: Op[Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        backend.execute(append("known"))
        said(backend)
        busy = True

        def be_busy(tried: Op[Any]) -> BackendError | None:
            error = BackendUnavailable("TRYAGAIN")
            error.scope = "operation"
            return error if busy and tried.targets == (ONE,) and tried.in_outage != "refuse" else None

        nodes.refuse = be_busy
        backend.execute(op)
        assert not backend.status.degraded
        assert said(backend, TWO) == ["elsewhere"]
        assert said(backend) == ["elsewhere", "known", *(["here"] if op.writes else [])]
        busy = False
        wait_until(lambda: not backend.status.pending)
        assert said(nodes.backend) == ["elsewhere", "known", *(["here"] if op.writes else [])]
        assert caplog.text == ""


class TestMoments:
    """A TTL that is set in an outage is a moment."""

    def test_what_lives_on_is_there_after_the_outage(self, tmp_path: Path) -> None:
        primary = Unsteady(LocalBackend())
        backend = falling_back(primary, lambda: FileJournal(str(tmp_path / "journal"), 100))
        primary.mode = "down"
        kv = Memstore(backend).kv()
        kv.set("lasting", 1)
        kv.set("long", 2, ttl=3600)
        kv.set("short", 3, ttl=0.2)
        time.sleep(0.3)
        backend.close()  # what waits is left to the next process
        following = falling_back(primary, lambda: FileJournal(str(tmp_path / "journal"), 100))
        kv = Memstore(following).kv()
        assert kv.mget(["lasting", "long", "short"]) == [1, 2, None]
        primary.mode = "up"
        wait_until(lambda: not following.status.degraded)
        assert kv.mget(["lasting", "long", "short"]) == [1, 2, None]
        assert 3599 < (kv.ttl("long") or 0) < 3599.8
