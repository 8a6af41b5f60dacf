"""Whatever is done to a session, and whenever a process dies, every message is in exactly one place, in order.

MEMSTORE_EXAMPLES and MEMSTORE_KILLS say how long to look; the defaults are for every day.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_memstore import BackendUnavailable, Memstore
from langchain_memstore.backends.base import Backend
from langchain_memstore.codec.session import decode_entries
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.reading import ReadEntries
from langchain_memstore.ops.session import SessionScript
from langchain_memstore.ops.summary import Claim, Claimed, Commit, Release
from support.servers import Server
from support.worlds import DAY, LEASE, LocalWorld, RedisWorld, forking, listing

EXAMPLES = int(os.environ.get("MEMSTORE_EXAMPLES", "50"))
KILLS = int(os.environ.get("MEMSTORE_KILLS", "15"))


class Holder:
    """A process that makes summaries, and what goes wrong there: it is a summarizer, and the backend that it uses."""

    def __init__(self, backend: Backend, fault: str) -> None:
        self._backend = backend
        self._fault = fault
        self.status = backend.status

    def __call__(self, previous: str, messages: list[BaseMessage]) -> str:
        if self._fault == "the model raises":
            raise ValueError(self._fault)
        answers = {"the answer is empty": "", "the answer is blank": " \n"}
        return answers.get(self._fault, listing(previous, messages))

    def execute(self, op: Op[Any]) -> Any:
        self._before(op)
        result = self._backend.execute(op)
        if self._fault == "replies are lost" and isinstance(op, SessionScript):
            assert self._backend.execute(op) == result
        self._after(op)
        return result

    async def aexecute(self, op: Op[Any]) -> Any:
        self._before(op)
        result = await self._backend.aexecute(op)
        if self._fault == "replies are lost" and isinstance(op, SessionScript):
            assert await self._backend.aexecute(op) == result
        self._after(op)
        return result

    def _before(self, op: Op[Any]) -> None:
        if self._fault == "it dies before it commits" and isinstance(op, (Commit, Release)):
            raise BackendUnavailable(self._fault)

    def _after(self, op: Op[Any]) -> None:
        if self._fault == "it dies when it has committed" and isinstance(op, Commit):
            raise BackendUnavailable(self._fault)

    def close(self) -> None: ...

    async def aclose(self) -> None: ...


COMMITTING = ["none", "replies are lost", "it dies when it has committed"]
FAULTS = [*COMMITTING, "it dies before it commits", "the model raises", "the answer is empty", "the answer is blank"]

faults = st.sampled_from(FAULTS)
kinds = st.sampled_from(["h", "a", "ha", "hcra", "hcrra", "c", "cr", "r"])  # human, ai, call, result
options = st.fixed_dictionaries(
    {
        "max_messages": st.none() | st.integers(1, 6),
        "max_turns": st.none() | st.integers(1, 3),
        "max_evicted": st.integers(1, 8),
        "window": st.sampled_from(["pairs", "turns"]),
        "summarize": st.sampled_from(["inline", "manual"]),
        "summarize_every": st.integers(1, 3),
    }
)
INLINE = {"summarize": "inline", "summarize_every": 1}


class OneSession(RuleBasedStateMachine):
    """Does everything to a session, and keeps account of where each message should be."""

    def __init__(self, world: LocalWorld, backend: Backend, run: Callable[[Any], Any]) -> None:
        super().__init__()
        self.world, self.backend, self.run = world, backend, run
        self.history = Memstore(backend).history("one")
        self.keys = self.history.keys
        self.now = 0
        self.number = 0
        self.claims: list[tuple[Claim, Claimed]] = []
        self.forget()

    def forget(self) -> None:
        """There is no such session, or no longer."""
        self.exists = False
        self.said: list[str] = []
        self.covered: list[str] = []
        self.waiting: list[str] = []
        self.window: list[str] = []
        self.lost: list[str] = []
        self.gone: list[str] = []  # by the hand of the user
        self.heading = ""
        self.summarized = self.turns = self.turns_at_last = 0
        self.holder, self.until = "", 0

    @initialize(asynchronous=st.booleans())
    def choose_variant(self, asynchronous: bool) -> None:
        self.asynchronous = asynchronous

    def do(self, method: Any, *args: Any) -> Any:
        if self.asynchronous:
            return self.run(getattr(method.__self__, f"a{method.__name__}")(*args))
        return method(*args)

    def store(self, fault: str, **options: Any) -> Memstore:
        holder = Holder(self.backend, fault)
        return Memstore(holder, summarizer=holder, **options)

    def may_claim(self, every: int) -> bool:
        lapsed = not self.holder or self.until <= self.now
        return lapsed and bool(self.waiting) and self.turns - self.turns_at_last >= every

    def summarise(self, fault: str, every: int) -> bool:
        """Account for a summary that somebody starts, and tell whether there is a new one."""
        if not self.may_claim(every):
            return False
        self.holder = ""
        if fault in COMMITTING:
            self.cover(self.waiting, self.turns)
            self.waiting = []
        elif fault == "it dies before it commits":
            self.holder, self.until = "the dead", self.now + LEASE
        return fault in COMMITTING

    def cover(self, messages: list[str], turns: int) -> None:
        self.covered += messages
        self.summarized += len(messages)
        self.turns_at_last = turns

    @rule(kinds=st.lists(kinds, min_size=1, max_size=4), options=options, fault=faults)
    def append(self, kinds: list[str], options: dict[str, Any], fault: str) -> None:
        messages = []
        for kind in "".join(kinds):
            self.number += 1
            messages.append(_message(kind, f"{kind}{self.number}"))
        texts = [message.text for message in messages]
        self.do(self.store(fault, **options).history("one").add_messages, messages)
        self.exists = True
        self.said += texts
        self.turns += sum(text.startswith("h") for text in texts)
        window = self.window + texts
        self.window = [message.text for message in self.history.snapshot().messages]
        assert self.window and self.window == window[-len(self.window) :]
        if left := window[: -len(self.window)]:
            self.waiting += left
            lost = max(0, len(self.waiting) - options["max_evicted"])
            self.lost += self.waiting[:lost]
            del self.waiting[:lost]
        if options["summarize"] == "inline":
            self.summarise(fault, options["summarize_every"])

    @rule(turns=st.integers(1, 3), most=st.integers(2, 8), fault=faults)
    def talk(self, turns: int, most: int, fault: str) -> None:
        """As most conversations go."""
        self.append(["ha"] * turns, {"max_messages": 2, "max_evicted": most, **INLINE}, fault)

    @rule(fault=faults, every=st.integers(0, 3))
    def compact(self, fault: str, every: int) -> None:
        """By hand where `every` is 0, else as a worker does it."""
        store = self.store(fault, summarize_every=every or 1)
        try:
            made = self.do(store.compact_due if every else store.history("one").compact)
        except BackendUnavailable:
            made = fault == "it dies when it has committed"
        assert made == self.summarise(fault, every)

    @rule(every=st.integers(0, 2))
    def claim(self, every: int) -> None:
        """What a process does whose commit may come late, or never."""
        claim = Claim(self.keys, LEASE * 1000, every)
        claimed = self.do(self.backend.execute, claim)
        assert (claimed is not None) == self.may_claim(every)
        if claimed is not None:
            self.holder, self.until = claim.write_id, self.now + LEASE
            self.claims.append((claim, claimed))
            assert _texts(claimed.entries) == self.waiting

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), how=st.sampled_from(["commit", "commit twice", "release"]))
    def finish(self, data: st.DataObject, how: str) -> None:
        """A process may come late, and even commit what it has released."""
        claim, claimed = data.draw(st.sampled_from(self.claims), label="which claim")
        valid = self.holder == claim.write_id
        if valid:
            self.holder = ""
        if how == "release":
            self.do(self.backend.execute, Release(self.keys, claim.write_id))
            return
        self.claims.remove((claim, claimed))
        summary = listing(claimed.summary, decode_entries(claimed.entries, "", "raise"))
        commit = Commit(self.keys, summary, claimed, DAY * 1000, claim.write_id)
        for _ in how.split():
            assert self.do(self.backend.execute, commit) == valid
        if valid:
            messages = _texts(claimed.entries)
            self.lost = [text for text in self.lost if text not in messages]
            self.waiting = [text for text in self.waiting if text not in messages]
            self.cover(messages, claimed.turns)

    @rule(count=st.integers(1, 4))
    def pop(self, count: int) -> None:
        popped = [message.text for message in self.do(self.history.pop, count)]
        assert popped == self.window[-count:]
        del self.window[-count:]
        self.gone += popped
        self.turns = max(0, self.turns - sum(text.startswith("h") for text in popped))

    @rule(summary=st.sampled_from([None, "", "by hand"]))
    def by_hand(self, summary: str | None) -> None:
        """Set the summary, or register a turn where it is None."""
        if summary is None:
            self.turns += 1
            self.exists = True
            assert self.do(self.history.register_turn) == self.turns
            return
        self.do(self.history.set_summary, summary)
        self.exists = self.exists or bool(summary)
        self.gone += self.covered
        self.covered, self.heading, self.holder = [], summary, ""

    @rule(seconds=st.sampled_from([25, LEASE + 1]))
    def pass_time(self, seconds: int) -> None:
        self.world.pass_time(seconds)
        self.now += seconds

    @precondition(lambda self: len(self.said) > 8)
    @rule(how=st.sampled_from(["cleared", "expired"]))
    def end(self, how: str) -> None:
        if how == "cleared":
            self.do(self.history.clear)
        else:
            self.world.pass_time(DAY + 1)
        self.forget()

    @invariant()
    def every_message_is_in_one_place(self) -> None:
        snapshot = self.history.snapshot()
        entries = _texts(self.backend.execute(ReadEntries(self.keys)))
        waiting, window = entries[: snapshot.evicted], entries[snapshot.evicted :]
        summary = (snapshot.summary or "").removeprefix(self.heading).split()
        kept = summary + waiting + window
        assert [text for text in self.said if text in kept] == kept
        assert sorted(kept + self.lost + self.gone) == sorted(self.said)
        assert snapshot.lost == len(self.lost)
        assert snapshot.summarized == self.summarized
        assert snapshot.total == len(self.said)
        assert snapshot.turns == self.turns
        assert (summary, waiting, window) == (self.covered, self.waiting, self.window)

    @invariant()
    def nothing_comes_back(self) -> None:
        assert bool(self.world.session_ids()) == self.exists


def _message(kind: str, text: str) -> BaseMessage:
    if kind == "h":
        return HumanMessage(text)
    if kind == "r":
        return ToolMessage(text, tool_call_id="call")
    return AIMessage(text, tool_calls=[{"name": "clock", "args": {}, "id": "call"}] if kind == "c" else [])


def _texts(entries: list[bytes]) -> list[str]:
    return [message.text for message in decode_entries(entries, "", "raise")]


@pytest.fixture(params=["local", "redis"])
def start(request: pytest.FixtureRequest, run: Callable[[Any], Any]) -> Iterator[Callable[[], OneSession]]:
    """Starts the machine with nothing stored."""
    if request.param == "local":

        def on_local() -> OneSession:
            world = LocalWorld()
            return OneSession(world, world.backend(), run)

        yield on_local
        return
    admin: redis.Redis = request.getfixturevalue("admin")
    world = RedisWorld(request.getfixturevalue("server"), admin)
    backend = world.backend()

    def on_redis() -> OneSession:
        admin.flushall()
        return OneSession(world, backend, run)

    yield on_redis
    run(world.aclose())


def test_every_message_is_in_one_place(start: Callable[[], OneSession], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)  # for it says a lot
    run_state_machine_as_test(start, settings=settings(max_examples=EXAMPLES, stateful_step_count=40))


def covering(previous: str, messages: list[BaseMessage]) -> str:
    """A slow summarizer whose summaries say which numbers they cover: `0-7,9-9`."""
    runs = [[int(end) for end in run.split("-")] for run in previous.split(",") if run]
    for number in (int(message.text) for message in messages):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    time.sleep(random.uniform(0, 0.006))
    return ",".join(f"{first}-{last}" for first, last in runs)


def talk(url: str, summarize: Any, asynchronous: bool) -> None:
    """Count, two messages a turn, until killed."""
    store = Memstore.from_url(
        url, summarizer=covering, summarize=summarize, summarize_every=1, max_messages=6, lease_time=0.05
    )
    history = store.history("one")

    async def atalk() -> None:
        for turn in _turns(await history.asnapshot()):
            await history.aadd_messages(turn)
            await asyncio.sleep(0.001)

    if asynchronous:
        asyncio.run(atalk())
    for turn in _turns(history.snapshot()):
        history.add_messages(turn)
        time.sleep(0.001)


def _turns(snapshot: Any) -> Iterator[list[BaseMessage]]:
    return ([HumanMessage(f"{n}"), AIMessage(f"{n + 1}")] for n in itertools.count(snapshot.total, 2))


@forking
def test_kills(server: Server, admin: redis.Redis) -> None:
    """A process that is killed at any moment loses nothing, and the next one goes on where it was."""
    store = Memstore.from_url(server.url, summarizer=covering)
    history = store.history("one")
    between = 0  # how many were killed between claim and commit
    for kill, (summarize, asynchronous) in zip(
        range(KILLS), itertools.cycle(itertools.product(["inline", "background"], [False, True])), strict=False
    ):
        before = history.snapshot()
        process = multiprocessing.get_context("fork").Process(target=talk, args=(server.url, summarize, asynchronous))
        process.start()
        deadline = time.monotonic() + 30
        while history.snapshot().summarized == before.summarized:
            assert process.is_alive() and time.monotonic() < deadline, f"kill {kill}: no summary was made"
        time.sleep(random.uniform(0, 0.02))
        process.kill()
        process.join()

        snapshot = history.snapshot()
        covered, total = f"0-{snapshot.summarized - 1}", snapshot.total
        assert (snapshot.summary, snapshot.lost) == (covered, 0), f"kill {kill}"
        entries = _texts(store._backend.execute(ReadEntries(history.keys)))
        assert entries == [f"{number}" for number in range(snapshot.summarized, total)], f"kill {kill}"
        assert total % 2 == 0 and len(snapshot.messages) == 6
        between += admin.hexists(history.keys.meta, "claim")
    assert between > 0
    store.close()
