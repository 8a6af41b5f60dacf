"""Reads with a near cache, each between two reads without one: it must return what they do."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import redis

from langchain_memstore import BackendError, Memstore
from langchain_memstore.history import ChatMessageHistory
from soak.calls import Call, Recorder, Report, current_name
from soak.conversations import Writer

SESSIONS, SESSION_SECONDS = 8, 20
EDITED, EDITED_SECONDS, WINDOW = 2, 20, 20


def chat_session() -> str:
    """Return a session that is appended to only, some more often than others, and keeps all messages."""
    return current_name("chat", SESSION_SECONDS, SESSIONS, skew=3)


def edited_session() -> str:
    """Return a session with a bounded window, of which messages are popped, too."""
    return current_name("edited", EDITED_SECONDS, EDITED)


class State(NamedTuple):
    """What a read returns, without what time alone changes."""

    texts: list[str]
    summary: str | None
    turns: int
    total: int

    @classmethod
    def of(cls, history: ChatMessageHistory) -> State:
        snapshot = history.snapshot()
        texts = [str(message.text) for message in snapshot.messages]
        return cls(texts, snapshot.summary, snapshot.turns, snapshot.total)


class Chatting:
    """Reads a session and appends to it, as a chat does.

    Args:
        writer: Appends.
        store: The store that it reads through.
    """

    def __init__(self, writer: Writer, store: Memstore) -> None:
        self._writer = writer
        self._store = store

    def step(self) -> None:
        self._store.history(chat_session()).messages  # noqa: B018
        self._writer.step()

    async def astep(self) -> None:
        await self._store.history(chat_session()).aget_messages()
        await self._writer.astep()


class Editing:
    """Appends, pops, and sets summaries; a session is never again as it was before.

    Args:
        recorder: Records the calls.
        store: The store.
    """

    def __init__(self, recorder: Recorder, store: Memstore) -> None:
        self._recorder = recorder
        self._store = store

    def step(self) -> None:
        session = edited_session()
        history = self._store.history(session, max_messages=WINDOW)
        with self._recorder.call("edit", session) as call:
            match random.choice(["append", "append", "append", "pop", "summary"]):
                case "append":
                    history.add_user_message(call.id)
                case "pop":
                    history.pop(random.randint(1, 3))
                case "summary":
                    history.set_summary(call.id)
            call.result = True


class Comparing:
    """Compares reads through a store with a near cache with reads through one without.

    Args:
        recorder: Records the comparisons.
        stores: The stores with a near cache.
        plain: The store without one, and without a fallback.
        admin: A client of the same server.
    """

    def __init__(self, recorder: Recorder, stores: list[Memstore], plain: Memstore, admin: redis.Redis) -> None:
        self._recorder = recorder
        self._stores = stores
        self._plain = plain
        self._admin = admin

    def step(self) -> None:
        store = random.choice(self._stores)
        choose: Callable[[], str] = random.choice([chat_session, chat_session, edited_session])
        session = choose()
        options: dict[str, Any] = {"max_messages": WINDOW} if choose is edited_session else {}
        cached, plain = store.history(session, **options), self._plain.history(session, **options)
        with self._recorder.call("compare", session) as call:
            try:
                if store.status.degraded:
                    return
                run = self._server_run()
                before, read, after = State.of(plain), State.of(cached), State.of(plain)
                if self._server_run() != run or store.status.degraded:
                    return  # the server was another, or the process stood in for it
            except (BackendError, redis.RedisError):
                return
            if before == after:
                call.result = "quiet: equal" if read == before else f"quiet: {_difference(read, before)}"
            elif choose is chat_session:
                grown = after.texts[: len(read.texts)] == read.texts and len(read.texts) >= len(before.texts)
                call.result = "busy: equal" if grown else f"busy: {_difference(read, after)}"

    def _server_run(self) -> str:
        return str(self._admin.info("server")["run_id"])


def _difference(read: State, expected: State) -> str:
    at = next((n for n, (one, two) in enumerate(zip(read.texts, expected.texts)) if one != two), None)  # noqa: B905
    where = f"message {at} is {read.texts[at]!r} and not {expected.texts[at]!r}" if at is not None else "a prefix"
    return f"{len(read.texts)} of {len(expected.texts)} messages, {where}; {read[1:]} and not {expected[1:]}"


def audit_comparisons(report: Report, comparisons: Iterable[Call]) -> None:
    """Find reads that returned something else."""
    results = [(call.key, *call.result.split(": ", 1)) for call in comparisons if call.result]
    for activity in ("quiet", "busy"):
        report.figures[f"reads of {activity} sessions compared"] += sum(when == activity for _, when, _ in results)
        report.check(
            f"reads of {activity} sessions through a near cache that differ",
            [f"{session}: {what}" for session, when, what in results if when == activity and what != "equal"],
        )
