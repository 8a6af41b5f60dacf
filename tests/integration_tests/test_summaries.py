"""Whatever happens between a claim and its commit, no message is lost, on both backends and through both variants."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_memstore import BackendError, ChatMessageHistory, Memstore
from langchain_memstore.backends.base import Backend
from langchain_memstore.codec.session import decode_entries
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.reading import ReadEntries
from langchain_memstore.ops.session import Append, SessionScript
from langchain_memstore.ops.summary import Claim, Commit, Release
from support.servers import Server
from support.variants import acall
from support.worlds import DAY, LEASE, PASS_TIME, LocalWorld, RedisWorld, forking, listing

Call = Callable[..., Awaitable[Any]]


@pytest.fixture(params=["local", "redis"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[LocalWorld]:
    if request.param == "local":
        world = LocalWorld()
    else:
        world = RedisWorld(request.getfixturevalue("server"), request.getfixturevalue("admin"))
    yield world
    await world.aclose()


@pytest.fixture
def call(variant: str) -> Call:
    """Calls the variant under test of a method; the sync one in a thread."""

    async def of_sync(method: Any, *args: Any) -> Any:
        return await asyncio.to_thread(method, *args)

    return of_sync if variant == "sync" else partial(acall, variant)


def turn(number: int) -> list[BaseMessage]:
    """A turn of two messages, whose texts name it."""
    return [HumanMessage(f"q{number}"), AIMessage(f"a{number}")]


def turns(first: int, last: int) -> list[BaseMessage]:
    return [message for number in range(first, last + 1) for message in turn(number)]


def meanwhile(happening: Callable[[], object]) -> Callable[[str, list[BaseMessage]], str]:
    """A summarizer while whose first summary is in the making something happens."""
    happenings = [happening]

    def summarizer(previous: str, messages: list[BaseMessage]) -> str:
        if happenings:
            happenings.pop()()
        return listing(previous, messages)

    return summarizer


def where(history: ChatMessageHistory, lost: int = 0, popped: int = 0) -> tuple[str, str, str]:
    """Tell which messages the summary covers, which wait, and which the window has; and see that the counts agree."""
    snapshot = history.snapshot()
    entries = decode_entries(history._backend.execute(ReadEntries(history.keys)), "", "raise")
    texts = [message.text for message in entries]
    assert texts[snapshot.evicted :] == [message.text for message in snapshot.messages]
    assert snapshot.lost == lost
    assert snapshot.total == len(texts) + snapshot.summarized + lost + popped
    return snapshot.summary or "", " ".join(texts[: snapshot.evicted]), " ".join(texts[snapshot.evicted :])


def failures(store: Memstore) -> list[str]:
    return [f"{failure.session_id}: {failure.cause}" for failure in store.status.summary_failures]


class TestClaims:
    async def test_stores_that_are_due_at_once_make_one_summary(self, world: LocalWorld, call: Call) -> None:
        given = []

        def slow(previous: str, messages: list[BaseMessage]) -> str:
            given.append(messages)
            time.sleep(0.03)
            return listing(previous, messages)

        stores = [world.store(summarizer=slow) for _ in range(4)]
        world.store(summarize="manual").history("one").add_messages(turns(1, 2))
        made = await asyncio.gather(*(call(store.history("one").compact) for store in stores))
        assert sorted(made) == [False, False, False, True]
        assert len(given) == 1 and not any(map(failures, stores))
        assert where(stores[0].history("one")) == ("q1 a1", "", "q2 a2")

    async def test_turns_at_once_are_summarised_once(self, world: LocalWorld, call: Call) -> None:
        histories = [world.store(summarizer=listing).history("one") for _ in range(4)]

        async def talk(speaker: int) -> None:
            for number in range(5):
                await call(histories[speaker].add_messages, turn(speaker * 5 + number))

        await asyncio.gather(*map(talk, range(4)))
        told = " ".join(where(histories[0])).split()
        assert len(told) == 40 and set(told) == {message.text for message in turns(0, 19)}
        questions = [text for text in told if text.startswith("q")]
        assert told == [text for question in questions for text in (question, f"a{question[1:]}")]

    async def test_a_holder_that_dies_keeps_others_out_for_its_lease(self, world: LocalWorld, call: Call) -> None:
        store = world.store(summarizer=listing)
        history = store.history("one")
        world.store(summarize="manual").history("one").add_messages(turns(1, 2))
        assert await call(world.backend().execute, Claim(history.keys, LEASE * 1000, 1)) is not None
        await call(history.add_messages, turn(3))
        assert await call(history.compact) is False
        assert where(history) == ("", "q1 a1 q2 a2", "q3 a3")
        world.pass_time(LEASE + 1)
        await call(history.add_messages, turn(4))
        assert where(history) == ("q1 a1 q2 a2 q3 a3", "", "q4 a4")
        assert failures(store) == []

    async def test_a_claim_is_given_back_by_its_holder_alone(self, world: LocalWorld, call: Call) -> None:
        history, backend = world.store(summarizer=listing).history("one"), world.backend()
        world.store(summarize="manual").history("one").add_messages(turns(1, 2))
        claim = Claim(history.keys, LEASE * 1000, 1)
        claimed = await call(backend.execute, claim)
        await call(backend.execute, Release(history.keys, "somebody else"))
        assert await call(history.compact) is False
        await call(backend.execute, Release(history.keys, claim.write_id))
        assert await call(backend.execute, Commit(history.keys, "late", claimed, DAY * 1000, claim.write_id)) is False
        assert await call(history.compact) is True
        assert where(history) == ("q1 a1", "", "q2 a2")


def _fail(error: Exception) -> Any:
    def summarizer(previous: str, messages: list[BaseMessage]) -> str:
        raise error

    return summarizer


FAILING = {
    "ValueError: no model": _fail(ValueError("no model")),
    "TimeoutError: 30 s": _fail(TimeoutError("30 s")),
    "SummaryError: the summarizer returned an empty text": lambda previous, messages: "",
    "SummaryError: the summarizer returned an empty text ": lambda previous, messages: " \n\t ",
    "TypeError: the summarizer returned NoneType, not a text": lambda previous, messages: None,
}


@pytest.mark.parametrize("cause", FAILING)
async def test_a_model_that_fails_changes_nothing(
    world: LocalWorld, call: Call, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = world.store(summarizer=FAILING[cause])
    store.history("one").set_summary("before")
    for number in (1, 2):
        await call(store.history("one").add_messages, turn(number))
    assert where(store.history("one")) == ("before", "q1 a1", "q2 a2")
    assert failures(store) == [f"one: {cause.strip()}"]
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, f"session 'one': no summary was made, nothing is lost: {cause.strip()}")
    ]
    await call(store.history("one", summarizer=listing).add_messages, turn(3))  # the next turn, at once
    assert where(store.history("one")) == ("before q1 a1 q2 a2", "", "q3 a3")


class TestMeanwhile:
    """What happens while the model is at work."""

    async def test_a_clear_wins(self, world: LocalWorld, call: Call) -> None:
        store = world.store(summarizer=meanwhile(world.store().history("one").clear))
        await call(store.history("one").add_messages, turns(1, 2))
        assert world.session_ids() == []
        assert len(failures(store)) == 1 and "the claim is void" in failures(store)[0]

    async def test_what_follows_a_clear_is_a_conversation_of_its_own(self, world: LocalWorld, call: Call) -> None:
        other = world.store(summarize="manual").history("one")

        def start_anew() -> None:
            other.clear()
            other.add_messages(turns(3, 4))

        store = world.store(summarizer=meanwhile(start_anew))
        await call(store.history("one").add_messages, turns(1, 2))
        assert where(store.history("one")) == ("", "q3 a3", "q4 a4")
        await call(store.history("one").add_messages, turn(5))
        assert where(store.history("one")) == ("q3 a3 q4 a4", "", "q5 a5")

    async def test_an_expired_session_stays_away(self, world: LocalWorld, call: Call) -> None:
        store = world.store(summarizer=meanwhile(lambda: world.pass_time(DAY + 1)))
        await call(store.history("one").add_messages, turns(1, 2))
        assert world.session_ids() == []

    async def test_appends_are_kept_and_not_covered(self, world: LocalWorld, call: Call) -> None:
        other = world.store(summarizer=listing).history("one")
        store = world.store(summarizer=meanwhile(lambda: [other.add_messages(turn(number)) for number in (3, 4)]))
        await call(store.history("one").add_messages, turns(1, 2))
        assert where(store.history("one")) == ("q1 a1", "q2 a2 q3 a3", "q4 a4")
        assert failures(store) == []

    async def test_a_pop_takes_from_the_window_alone(self, world: LocalWorld, call: Call) -> None:
        store = world.store(summarizer=meanwhile(lambda: world.store().history("one").pop(9)))
        await call(store.history("one").add_messages, turns(1, 2))
        assert where(store.history("one"), popped=2) == ("q1 a1", "", "")

    async def test_a_second_holder_after_the_lease_wins(self, world: LocalWorld, call: Call) -> None:
        second = world.store(summarizer=listing).history("one")

        def take_over() -> None:
            world.pass_time(LEASE + 1)
            assert second.compact()
            second.add_messages(turn(3))

        store = world.store(summarizer=meanwhile(take_over))
        await call(store.history("one").add_messages, turns(1, 2))
        assert where(second) == ("q1 a1 q2 a2", "", "q3 a3")
        assert len(failures(store)) == 1

    async def test_a_lapsed_lease_without_a_second_holder_still_counts(self, world: LocalWorld, call: Call) -> None:
        store = world.store(summarizer=meanwhile(lambda: world.pass_time(LEASE + 1)))
        await call(store.history("one").add_messages, turns(1, 2))
        assert where(store.history("one")) == ("q1 a1", "", "q2 a2")
        assert failures(store) == []

    @pytest.mark.parametrize("by_hand", ["by hand", ""])
    async def test_a_summary_by_hand_wins(self, world: LocalWorld, call: Call, by_hand: str) -> None:
        store = world.store(summarizer=meanwhile(lambda: world.store().history("one").set_summary(by_hand)))
        await call(store.history("one").add_messages, turns(1, 2))
        assert where(store.history("one")) == (by_hand, "q1 a1", "q2 a2")
        await call(store.history("one").add_messages, turn(3))
        assert where(store.history("one")) == (f"{by_hand} q1 a1 q2 a2".strip(), "", "q3 a3")

    @pytest.mark.parametrize(
        ("more", "lost", "waiting"),
        [(1, 0, "q3 a3"), (2, 0, "q3 a3 q4 a4"), (4, 4, "q5 a5 q6 a6")],
    )
    async def test_what_is_dropped_meanwhile_is_covered_all_the_same(
        self, world: LocalWorld, call: Call, more: int, lost: int, waiting: str
    ) -> None:
        """The claim covers four messages; for each turn two of those that wait are dropped, theirs first."""
        other = world.store(summarize="manual", max_evicted=4).history("one")
        store = world.store(summarizer=meanwhile(lambda: [other.add_messages(turn(3 + n)) for n in range(1, more + 1)]))
        await call(other.add_messages, turns(1, 3))
        assert await call(store.history("one").compact) is True
        assert where(store.history("one"), lost=lost) == ("q1 a1 q2 a2", waiting, f"q{3 + more} a{3 + more}")


async def test_a_full_waiting_list_drops_the_oldest_and_says_so_once(
    world: LocalWorld, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    store = world.store(summarizer=listing, summarize="manual", max_evicted=4)
    history = store.history("one")
    for number in range(1, 7):
        await call(history.add_messages, turn(number))
    assert where(history, lost=6) == ("", "q4 a4 q5 a5", "q6 a6")
    said = "session 'one': max_evicted=4 is reached; messages are dropped without having been summarised"
    assert [record.getMessage() for record in caplog.records] == [said]
    assert await call(history.compact) is True
    assert where(history, lost=6) == ("q4 a4 q5 a5", "", "q6 a6")
    await call(history.add_messages, turns(7, 9))
    assert where(history, lost=8) == ("q4 a4 q5 a5", "q7 a7 q8 a8", "q9 a9")
    assert [record.getMessage() for record in caplog.records] == [said, said]  # once more after a summary


async def test_a_claim_is_void_once_another_is_made(world: LocalWorld, call: Call) -> None:
    """Even before the second holder has committed: it has seen what the first one covers."""
    store, backend = world.store(summarize="manual"), world.backend()
    keys = store.history("one").keys
    store.history("one").add_messages(turns(1, 2))
    claims = [Claim(keys, LEASE * 1000, 1), Claim(keys, LEASE * 1000, 1)]
    first = await call(backend.execute, claims[0])
    world.pass_time(LEASE + 1)
    second = await call(backend.execute, claims[1])
    assert first == second
    assert await call(backend.execute, Commit(keys, "late", first, DAY * 1000, claims[0].write_id)) is False
    await call(backend.execute, Release(keys, claims[0].write_id))
    assert await call(backend.execute, Commit(keys, "q1 a1", second, DAY * 1000, claims[1].write_id)) is True
    assert where(store.history("one")) == ("q1 a1", "", "q2 a2")


class Twice:
    """A backend that runs each script twice, as one does whose first reply was lost."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.status = backend.status

    def execute(self, op: Op[Any]) -> Any:
        first = self._backend.execute(op)
        assert not isinstance(op, SessionScript) or self._backend.execute(op) == first
        return first

    async def aexecute(self, op: Op[Any]) -> Any:
        first = await self._backend.aexecute(op)
        assert not isinstance(op, SessionScript) or await self._backend.aexecute(op) == first
        return first

    def close(self) -> None: ...

    async def aclose(self) -> None: ...


class Noting:
    """A backend that notes the kinds of its operations."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.status = backend.status
        self.kinds: list[type[Op[Any]]] = []

    def execute(self, op: Op[Any]) -> Any:
        self.kinds.append(type(op))
        return self._backend.execute(op)

    async def aexecute(self, op: Op[Any]) -> Any:
        self.kinds.append(type(op))
        return await self._backend.aexecute(op)

    def close(self) -> None: ...

    async def aclose(self) -> None: ...


async def test_only_a_turn_that_is_due_takes_more_than_its_append(world: LocalWorld, call: Call) -> None:
    backend = Noting(world.backend())
    history = Memstore(backend, summarizer=listing, summarize_every=3, max_messages=6).history("one")
    for number in range(1, 9):  # from the third turn on one would be due, from the fourth on something waits
        await call(history.add_messages, turn(number))
    summary = [Claim, Commit]
    assert backend.kinds == [*[Append] * 4, *summary, *[Append] * 3, *summary, Append]


class TestLostReplies:
    async def test_what_is_done_twice_counts_once(self, world: LocalWorld, call: Call) -> None:
        store = Memstore(Twice(world.backend()), summarizer=listing, summarize_every=1, max_messages=2)
        history = store.history("one")
        for number in (1, 2, 3):
            await call(history.add_messages, turn(number))
        await call(store.history("one", summarizer=FAILING["ValueError: no model"]).add_messages, turn(4))
        assert where(history) == ("q1 a1 q2 a2", "q3 a3", "q4 a4")
        assert await call(history.compact) is True
        assert where(history) == ("q1 a1 q2 a2 q3 a3", "", "q4 a4")

    async def test_a_commit_that_comes_again_changes_nothing(self, world: LocalWorld, call: Call) -> None:
        """Even after the conversation has gone on, and its summary with it."""
        store, backend = world.store(summarizer=listing), world.backend()
        keys = store.history("one").keys
        world.store(summarize="manual").history("one").add_messages(turns(1, 2))
        claim = Claim(keys, LEASE * 1000, 1)
        commit = Commit(keys, "q1 a1", await call(backend.execute, claim), DAY * 1000, claim.write_id)
        assert await call(backend.execute, commit) is True
        await call(store.history("one").add_messages, turn(3))
        assert await call(backend.execute, commit) is True
        assert where(store.history("one")) == ("q1 a1 q2 a2", "", "q3 a3")


class TestWorkers:
    """What separate processes do in a loop."""

    async def test_only_what_is_due(self, world: LocalWorld, call: Call) -> None:
        talk = world.store(summarize="manual")
        for session in ("a", "b", "c"):
            talk.history(session).add_messages(turns(1, 3))
        talk.history("too few turns").add_messages([*turn(1), AIMessage("and"), AIMessage("so on")])
        talk.history("nothing waits", max_messages=9).add_messages(turns(1, 4))
        store = world.store(summarizer=listing, summarize="manual", summarize_every=3)
        assert [await call(store.compact_due, limit) for limit in (2, 2, None)] == [2, 1, 0]
        assert {info.session_id for info in store.sessions() if info.summary} == {"a", "b", "c"}
        talk.history("a").add_messages(turn(4))
        assert await call(store.compact_due) == 0
        talk.history("a").add_messages(turns(5, 6))
        assert await call(store.compact_due) == 1
        assert where(store.history("a")) == ("q1 a1 q2 a2 q3 a3 q4 a4 q5 a5", "", "q6 a6")

    async def test_workers_share_the_sessions(self, world: LocalWorld, call: Call) -> None:
        for session in range(12):
            world.store(summarize="manual").history(f"{session}").add_messages(turns(1, 2))
        stores = [world.store(summarizer=listing, summarize="manual") for _ in range(3)]
        assert sum(await asyncio.gather(*(call(store.compact_due) for store in stores))) == 12
        assert {where(stores[0].history(f"{session}")) for session in range(12)} == {("q1 a1", "", "q2 a2")}

    async def test_one_that_fails_is_not_counted(self, world: LocalWorld, call: Call) -> None:
        for session in ("a", "b", "c"):
            world.store(summarize="manual").history(session).add_messages([HumanMessage(session), *turn(1)])

        def summarizer(previous: str, messages: list[BaseMessage]) -> str:
            return "" if messages[0].text == "b" else listing(previous, messages)

        store = world.store(summarizer=summarizer, summarize="manual")
        assert await call(store.compact_due) == 2
        assert failures(store) == ["b: SummaryError: the summarizer returned an empty text"]
        assert await call(world.store(summarizer=listing).compact_due) == 1

    @forking
    def test_processes_share_the_sessions(self, server: Server) -> None:
        store = Memstore.from_url(server.url, summarize="manual", max_messages=2)
        histories = [store.history(f"{session}") for session in range(20)]
        for history in histories:
            history.add_messages(turns(1, 2))
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert sum(pool.map(_compact_due, [server.url] * 2, chunksize=1)) == 20
        assert {where(history) for history in histories} == {("q1 a1", "", "q2 a2")}
        store.close()


def _compact_due(url: str) -> int:
    with Memstore.from_url(url, summarizer=listing, summarize_every=1) as store:
        return store.compact_due()


async def test_in_the_background(world: LocalWorld, call: Call) -> None:
    store = world.store(summarizer=listing, summarize="background")
    await call(store.history("one").add_messages, turns(1, 2))
    await call(store.close)
    assert where(world.store().history("one")) == ("q1 a1", "", "q2 a2")


async def test_a_turn_that_is_cancelled_releases_its_claim(world: LocalWorld) -> None:
    asked = asyncio.Event()

    async def never(previous: str, messages: list[BaseMessage]) -> str:
        asked.set()
        await asyncio.Event().wait()
        return ""

    store = world.store(summarizer=never)
    adding = asyncio.create_task(store.history("one").aadd_messages(turns(1, 2)))
    await asked.wait()
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    assert await store.history("one", summarizer=listing).acompact() is True
    assert where(store.history("one")) == ("q1 a1", "", "q2 a2")


class TestKeys:
    """What is left in Redis."""

    @pytest.fixture
    def history(self, server: Server) -> Any:
        with Memstore.from_url(server.url, summarizer=listing, summarize="manual", max_messages=2, ttl=100) as store:
            yield store.history("one")

    @pytest.mark.parametrize("worn", [0, 50])
    def test_siblings_share_one_ttl_after_a_commit(
        self, history: ChatMessageHistory, admin: redis.Redis, worn: int
    ) -> None:
        history.add_messages(turns(1, 2))
        admin.eval(PASS_TIME, 0, worn * 1000)
        assert history.compact()
        with admin.pipeline() as pipeline:
            for key in history.keys.siblings():
                pipeline.pttl(key)
            *left, evicted = pipeline.execute()
        assert max(left) - min(left) <= 1 and min(left) > 98_000
        assert evicted == -2  # nothing waits
        assert admin.exists(history.keys.lease) == 0

    @pytest.mark.parametrize(
        ("kind", "wrong"),
        [
            *((kind, wrong) for kind in ("claim", "commit", "release") for wrong in ("meta", "lease")),
            *((kind, wrong) for kind in ("claim", "commit") for wrong in ("evicted", "summary")),
            ("claim", "turns"),
        ],
    )
    def test_keys_of_other_types_are_refused(
        self, history: ChatMessageHistory, admin: redis.Redis, kind: str, wrong: str
    ) -> None:
        """By each operation that needs them, and nothing is changed."""
        keys = history.keys
        history.set_summary("before")
        history.add_messages(turns(1, 2))
        claim = Claim(keys, 60_000, 0)
        claimed = history._backend.execute(claim)
        assert claimed is not None
        ops: dict[str, Op[Any]] = {
            "claim": claim,
            "commit": Commit(keys, "after", claimed, 100_000, claim.write_id),
            "release": Release(keys, claim.write_id),
        }
        admin.delete(getattr(keys, wrong))
        admin.sadd(getattr(keys, wrong), "foreign")
        before = {key: admin.dump(key) for key in admin.scan_iter()}
        with pytest.raises(BackendError, match="WRONGTYPE"):
            history._backend.execute(ops[kind])
        assert {key: admin.dump(key) for key in admin.scan_iter()} == before

    def test_a_summary_that_redis_refuses_fails_no_turn(self, server: Server, admin: redis.Redis) -> None:
        store = Memstore.from_url(server.url, summarizer=listing, summarize_every=1, max_messages=2)
        history = store.history("one")
        admin.sadd(history.keys.summary, "foreign")
        history.add_messages(turns(1, 2))
        assert len(failures(store)) == 1 and "WRONGTYPE" in failures(store)[0]
        admin.delete(history.keys.summary)
        assert where(history) == ("", "q1 a1", "q2 a2")
        store.close()
