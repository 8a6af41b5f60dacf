"""When summaries are made, in the turn and in the background, and what becomes of those that fail."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_memstore import BackendError, BackendUnavailable, LocalChatMessageHistory, Memstore
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.summary import Claim, Commit, Release
from langchain_memstore.summaries.compactor import KEPT_FAILURES, WORKERS
from support.clock import Clock
from support.variants import acall

PATIENCE = 10  # seconds to wait for what happens at once

Call = Callable[..., Awaitable[Any]]


@pytest.fixture
def call(variant: str) -> Call:
    """Calls the variant under test of a method."""
    return partial(acall, variant)


def turn(number: int) -> list[BaseMessage]:
    """A turn of two messages, whose texts name it."""
    return [HumanMessage(f"q{number}"), AIMessage(f"a{number}")]


class Listing:
    """A summarizer whose summaries list the messages that they cover; it waits while its gate is closed."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.given: list[list[str]] = []

    def __call__(self, previous: str, messages: list[BaseMessage]) -> str:
        self.given.append([message.text for message in messages])
        assert self.open.wait(PATIENCE)
        return " ".join([*previous.split(), *(message.text for message in messages)])

    async def wait_for(self, calls: int) -> None:
        """Wait until there were so many calls."""
        await _until(lambda: len(self.given) >= calls)


async def _until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


@pytest.fixture
def listing() -> Iterator[Listing]:
    listing = Listing()
    yield listing
    listing.open.set()


class Watched:
    """A backend that notes the kinds of its operations, and cannot be reached for some."""

    def __init__(self, clock: Clock) -> None:
        self.inner = LocalBackend(clock=clock)
        self.kinds: list[type[Op[Any]]] = []
        self.fails: tuple[type[Op[Any]], ...] = ()
        self.status = self.inner.status

    def execute(self, op: Op[Any]) -> Any:
        self.kinds.append(type(op))
        if isinstance(op, self.fails):
            raise BackendUnavailable("out of reach")
        return self.inner.execute(op)

    async def aexecute(self, op: Op[Any]) -> Any:
        return self.execute(op)

    def close(self) -> None: ...

    async def aclose(self) -> None: ...


@pytest.fixture
def backend(clock: Clock) -> Watched:
    return Watched(clock)


@pytest.fixture
def store(backend: Watched, listing: Listing) -> Memstore:
    return Memstore(backend, summarizer=listing, summarize_every=1, max_messages=2)


class TestWhen:
    async def test_inline_a_turn_that_makes_a_summary_due_makes_it(
        self, call: Call, backend: Watched, listing: Listing
    ) -> None:
        store = Memstore(backend, summarizer=listing, summarize_every=3, max_messages=2)
        history = store.history("one")
        calls = []
        for number in range(1, 8):
            await call(history.add_messages, turn(number))
            calls.append(len(listing.given))
        assert calls == [0, 0, 1, 1, 1, 2, 2]
        assert listing.given == [["q1", "a1", "q2", "a2"], ["q3", "a3", "q4", "a4", "q5", "a5"]]
        snapshot = await call(history.snapshot)
        assert snapshot.summary == "q1 a1 q2 a2 q3 a3 q4 a4 q5 a5"
        assert (snapshot.summarized, snapshot.evicted, len(snapshot.messages)) == (10, 2, 2)

    async def test_nothing_is_due_while_nothing_waits(self, call: Call, store: Memstore, listing: Listing) -> None:
        history = store.history("one")
        for number in range(5):
            await call(history.add_messages, turn(number))
            await call(history.pop, 2)
        assert listing.given == [] and await call(history.compact) is False

    async def test_manual_only_compact_makes_it(self, call: Call, backend: Watched, listing: Listing) -> None:
        """Messages wait also where another process has the summarizer."""
        history = Memstore(backend, summarize="manual", summarize_every=1, max_messages=2).history("one")
        for number in (1, 2):
            await call(history.add_messages, turn(number))
        store = Memstore(backend, summarizer=listing, summarize="manual", summarize_every=9, max_messages=2)
        assert await call(store.compact_due) == 0  # for nine turns have not passed
        assert await call(store.history("one").compact) is True
        assert await call(store.history("one").compact) is False
        assert (await call(history.snapshot)).summary == "q1 a1"

    async def test_background_a_turn_does_not_wait(self, call: Call, store: Memstore, listing: Listing) -> None:
        history = store.history("one", summarize="background")
        listing.open.clear()
        for number in (1, 2, 3):
            await call(history.add_messages, turn(number))
        await listing.wait_for(1)
        snapshot = await call(history.snapshot)
        assert (snapshot.summary, snapshot.evicted, len(snapshot.messages)) == (None, 4, 2)
        listing.open.set()
        await call(store.close)
        assert (await call(history.snapshot)).summary.startswith("q1 a1")

    @pytest.mark.parametrize("summarize", ["inline", "manual"])
    async def test_without_a_summarizer_there_is_nothing_to_compact(self, call: Call, summarize: Any) -> None:
        store = Memstore.from_url(summarize=summarize)
        with pytest.raises(ValueError, match="session 'one' has no summarizer"):
            await call(store.history("one").compact)
        with pytest.raises(ValueError, match="the store has no summarizer"):
            await call(store.compact_due)

    @pytest.mark.parametrize("limit", [0, -1, True, "1"])
    async def test_a_limit_is_a_count(self, call: Call, store: Memstore, limit: Any) -> None:
        with pytest.raises(ValueError, match="limit must be at least 1"):
            await call(store.compact_due, limit)

    async def test_a_history_without_a_store_makes_summaries(self, call: Call, listing: Listing) -> None:
        history = LocalChatMessageHistory("one", name="alone", summarizer=listing, summarize_every=1, max_messages=2)
        await call(history.add_messages, [*turn(1), *turn(2)])
        assert (await call(history.snapshot)).summary == "q1 a1"
        await call(history.clear)


class TestBackground:
    @pytest.fixture
    def store(self, backend: Watched, listing: Listing) -> Memstore:
        return Memstore(backend, summarizer=listing, summarize="background", summarize_every=1, max_messages=2)

    async def test_one_at_a_time_for_each_session(
        self, call: Call, store: Memstore, backend: Watched, listing: Listing
    ) -> None:
        listing.open.clear()
        one, two = store.history("one"), store.history("two")
        await call(one.add_messages, [*turn(1), *turn(2)])
        await listing.wait_for(1)
        await call(one.add_messages, turn(3))  # one more would be due
        await call(two.add_messages, [*turn(1), *turn(2)])  # other sessions do not wait
        await listing.wait_for(2)
        listing.open.set()
        await call(store.close)
        assert backend.kinds.count(Claim) == 2
        await call(one.add_messages, turn(4))  # the next turn makes the next
        await call(store.close)
        assert listing.given == [["q1", "a1"], ["q1", "a1"], ["q2", "a2", "q3", "a3"]]

    async def test_so_many_at_a_time(self, call: Call, backend: Watched, listing: Listing) -> None:
        """The rest wait, and none is left out."""
        running: list[str] = []
        counts: list[int] = []

        async def summarizer(previous: str, messages: list[BaseMessage]) -> str:
            running.append(previous)
            counts.append(len(running))
            await _until(listing.open.is_set)
            running.pop()
            return "summary"

        listing.open.clear()
        store = Memstore(backend, summarizer=summarizer, summarize="background", summarize_every=1, max_messages=2)
        for session in range(WORKERS + 4):
            await call(store.history(f"{session}").add_messages, [*turn(1), *turn(2)])
        await _until(lambda: len(counts) >= WORKERS)
        await asyncio.sleep(0.02)
        listing.open.set()
        await call(store.close)
        assert max(counts) == WORKERS
        assert [info.summary for info in store.sessions()] == [True] * (WORKERS + 4)

    @pytest.mark.parametrize("where", ["in a thread", "on the event loop"])
    async def test_aclose_waits(self, store: Memstore, listing: Listing, where: str) -> None:
        listing.open.clear()
        if where == "in a thread":
            store.history("one").add_messages([*turn(1), *turn(2)])
        else:
            await store.history("one").aadd_messages([*turn(1), *turn(2)])
        await listing.wait_for(1)
        closing = asyncio.create_task(store.aclose())
        await asyncio.sleep(0.01)
        assert not closing.done()
        listing.open.set()
        await closing
        assert store.history("one").summary == "q1 a1"

    def test_an_event_loop_that_ends_loses_nothing(self, store: Memstore, listing: Listing) -> None:
        """`asyncio.run` cancels what is in the making; the next turn takes over at once, on whichever loop."""
        history = store.history("one")

        async def one_turn(number: int) -> None:
            await history.aadd_messages(turn(number))
            await asyncio.sleep(0.01)
            listing.open.set()

        for number in (1, 2, 3):
            listing.open.clear()
            asyncio.run(one_turn(number))
        snapshot = history.snapshot()
        assert listing.given == [["q1", "a1"], ["q1", "a1", "q2", "a2"]]
        assert (snapshot.summary, snapshot.evicted) == (None, 4)

        async def last_turn() -> None:
            async with store:
                await history.aadd_messages(turn(4))

        asyncio.run(last_turn())
        assert history.summary == "q1 a1 q2 a2 q3 a3"

    def test_an_event_loop_that_is_closed_in_the_midst_loses_nothing(
        self, store: Memstore, listing: Listing, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        history = store.history("one")

        async def never(previous: str, messages: list[BaseMessage]) -> str:
            await asyncio.Event().wait()
            return ""

        async def abandoned() -> None:
            await store.history("one", summarizer=never).aadd_messages([*turn(1), *turn(2)])
            await asyncio.sleep(0)

        loop = asyncio.new_event_loop()
        loop.run_until_complete(abandoned())
        loop.close()
        clock.now += 61
        history.add_messages(turn(3))
        store.close()
        assert history.summary == "q1 a1 q2 a2"
        gc.collect()
        assert (
            "Task was destroyed but it is pending!" in caplog.text
        )  # says asyncio, of whoever closes a loop like that

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_a_fork_makes_summaries_of_its_own(self, store: Memstore, listing: Listing, clock: Clock) -> None:
        """What was in the making when the process forked is the parent's; the child does not wait for it."""
        history = store.history("one")
        listing.open.clear()
        history.add_messages([*turn(1), *turn(2)])
        asyncio.run(listing.wait_for(1))
        child = os.fork()
        if child == 0:
            status = 1
            try:
                store.close()
                listing.open = threading.Event()
                listing.open.set()
                clock.now += 61
                history.add_messages(turn(3))
                store.close()
                status = 0 if history.summary == "q1 a1 q2 a2" else 2
            finally:
                os._exit(status)
        deadline = time.monotonic() + PATIENCE
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(child, 9)
            time.sleep(0.01)
        assert ended == (child, 0)
        listing.open.set()
        store.close()
        assert history.summary == "q1 a1"

    def test_a_process_that_ends_makes_what_it_began(self) -> None:
        """Without being closed; and a turn that comes too late for a new thread is kept all the same."""
        script = """if True:
            import atexit, logging, time
            from langchain_core.messages import HumanMessage
            from langchain_memstore import Memstore

            def summarizer(previous, messages):
                time.sleep(0.1)
                return "summary"

            def last_turn():
                history.add_messages([HumanMessage("3")])
                print(history.summary, history.snapshot().evicted)

            store = Memstore.from_url(summarizer=summarizer, summarize="background", summarize_every=1, max_messages=1)
            history = store.history("one")
            atexit.register(last_turn)
            history.add_messages([HumanMessage("1"), HumanMessage("2")])
        """
        ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
        assert ended.stdout == "summary 1\n"
        assert "session 'one': no summary was made, nothing is lost: RuntimeError: cannot schedule" in ended.stderr


class TestFailures:
    """Every failure is logged and shown; `compact` by hand raises what the backend raises."""

    @pytest.mark.parametrize("kind", [Claim, Commit])
    async def test_a_backend_that_fails(
        self, call: Call, store: Memstore, backend: Watched, kind: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        history = store.history("one")
        backend.fails = (kind,)
        await call(history.add_messages, [*turn(1), *turn(2)])
        assert "session 'one': no summary was made, nothing is lost: BackendUnavailable: out of reach" in caplog.text
        with pytest.raises(BackendError, match="out of reach"):
            await call(history.compact)
        assert (await call(history.snapshot)).evicted == 2
        backend.fails = ()
        assert await call(history.compact) is True  # at once: the claim was released
        assert len(store.status.summary_failures) == 1

    async def test_a_claim_that_cannot_be_released(
        self, call: Call, store: Memstore, backend: Watched, listing: Listing, clock: Clock
    ) -> None:
        """Keeps others out until its time has run out."""
        history = store.history("one")
        backend.fails = (Commit, Release)
        await call(history.add_messages, [*turn(1), *turn(2)])
        backend.fails = ()
        assert await call(history.compact) is False
        clock.now += 60
        assert await call(history.compact) is True

    async def test_the_status_shows_the_last_failures(self, call: Call, backend: Watched) -> None:
        def fail(previous: str, messages: list[BaseMessage]) -> str:
            raise ValueError(messages[-1].text)

        store = Memstore(backend, summarizer=fail, summarize_every=1, max_messages=2)
        assert store.status.summary_failures == ()
        for number in range(KEPT_FAILURES + 5):
            await call(store.history("one").add_messages, turn(number))
        failures = store.status.summary_failures
        assert [failure.cause for failure in failures] == [f"ValueError: a{n}" for n in range(4, KEPT_FAILURES + 4)]
        assert {failure.session_id for failure in failures} == {"one"}
        assert failures[0].at.tzinfo is not None and failures[0].at <= failures[-1].at

    async def test_an_interrupt_passes_and_releases_the_claim(self, call: Call, backend: Watched) -> None:
        class Interrupt(BaseException):
            """As KeyboardInterrupt, which asyncio would take personally."""

        def interrupted(previous: str, messages: list[BaseMessage]) -> str:
            raise Interrupt

        store = Memstore(backend, summarizer=interrupted, summarize_every=1, max_messages=2)
        with pytest.raises(Interrupt):
            await call(store.history("one").add_messages, [*turn(1), *turn(2)])
        assert store.history("one", summarizer=Listing()).compact() is True

    @pytest.mark.parametrize("waiting", ["for the model", "to begin"])
    async def test_a_turn_that_is_cancelled_releases_the_claim(
        self, store: Memstore, listing: Listing, waiting: str
    ) -> None:
        asked = asyncio.Event()

        async def slow(previous: str, messages: list[BaseMessage]) -> str:
            asked.set()
            await asyncio.sleep(PATIENCE)
            return "never"

        history = store.history("one", summarizer=slow)
        adding = asyncio.create_task(history.aadd_messages([*turn(1), *turn(2)]))
        await (asked.wait() if waiting == "for the model" else asyncio.sleep(0))
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
        assert (await history.asnapshot()).evicted == 2
        assert store.status.summary_failures == ()  # a cancelled turn is no failure
        assert store.history("one").compact() is True
        assert listing.given == [["q1", "a1"]]

    async def test_failures_in_the_background_are_shown_too(
        self, call: Call, backend: Watched, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(previous: str, messages: list[BaseMessage]) -> str:
            raise ValueError("no model")

        store = Memstore(backend, summarizer=fail, summarize="background", summarize_every=1, max_messages=2)
        await call(store.history("one").add_messages, [*turn(1), *turn(2)])
        await call(store.close)
        assert [failure.cause for failure in store.status.summary_failures] == ["ValueError: no model"]
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
