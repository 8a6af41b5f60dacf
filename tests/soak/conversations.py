"""Appends to busy sessions: none is lost, none is done twice, and those of one writer stay in order."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable

import redis
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_memstore import Memstore, codec
from soak.calls import Call, Recorder, Report

SESSIONS = "abcdef"  # which all writers share

_KEY = "conversation:messages:{%s}"


def busy_session() -> str:
    return f"session-{random.choice(SESSIONS)}"


class Writer:
    """Appends messages that say who wrote them, and are numbered.

    Args:
        recorder: Records the calls.
        store: The store.
        name: Whose messages they are.
        choose_session: Returns the session to append to.
    """

    def __init__(
        self, recorder: Recorder, store: Memstore, name: str, choose_session: Callable[[], str] = busy_session
    ) -> None:
        self._recorder = recorder
        self._store = store
        self._name = name
        self._choose_session = choose_session
        self._number = 0

    def step(self) -> None:
        session, number, messages = self._next()
        with self._recorder.call("append", session, self._name, number, len(messages)) as call:
            self._store.history(session).add_messages(messages)
            call.result = True

    async def astep(self) -> None:
        session, number, messages = self._next()
        with self._recorder.call("append", session, self._name, number, len(messages)) as call:
            await self._store.history(session).aadd_messages(messages)
            call.result = True

    def _next(self) -> tuple[str, int, list[BaseMessage]]:
        number = self._number
        self._number += 2
        messages = [HumanMessage(_text(self._name, number)), AIMessage(_text(self._name, number + 1))]
        return self._choose_session(), number, messages


def held_texts(admin: redis.Redis) -> dict[str, list[str]]:
    """Read the texts of all messages that a server holds, by session."""
    texts: dict[str, list[str]] = {}
    for key in admin.scan_iter(_KEY % "*", count=1000):
        session = key.decode().partition("{")[2][:-1]
        texts[session] = [str(codec.decode(entry).text) for entry in admin.lrange(key, 0, -1)]
    return texts


def texts_of(calls: Iterable[Call]) -> set[tuple[str, str]]:
    """Return what was acknowledged, as pairs of session and text."""
    return {
        (call.key, _text(call.detail[0], call.detail[1] + number))
        for call in calls
        if call.is_known
        for number in range(call.detail[2])
    }


def audit_messages(
    report: Report, required: set[tuple[str, str]], texts: dict[str, list[str]], raised: Iterable[Call] = ()
) -> None:
    """Compare what the server holds with what it must hold.

    Args:
        report: Where to note what was found.
        required: Pairs of session and text that must be there.
        texts: What is there, by session.
        raised: Appends that raised an error. They may have been done, and at any moment, so their order is not checked.
    """
    found = Counter((session, text) for session, said in texts.items() for text in said)
    report.figures["messages required"] += len(required)
    report.figures["messages held"] += sum(found.values())
    report.check("messages lost", [f"{text} in {session}" for session, text in sorted(required - found.keys())])
    doubled = {where: times for where, times in found.items() if times > 1}
    report.check(
        "messages doubled",
        [f"{text} is {times} times in {session}" for (session, text), times in sorted(doubled.items())],
    )
    unordered = {(call.detail[0], call.detail[1] + number) for call in raised for number in range(call.detail[2])}
    report.check(
        "messages out of order",
        [
            f"{writer} {number} follows {last} in {session}"
            for session, said in texts.items()
            for writer, number, last in _out_of_order(said, unordered)
            if found[session, _text(writer, number)] == 1
        ],
    )


def _out_of_order(said: list[str], unordered: set[tuple[str, int]]) -> Iterable[tuple[str, int, int]]:
    highest: dict[str, int] = {}
    for text in said:
        writer, _, written = text.rpartition(" ")
        number = int(written)
        if (writer, number) in unordered:
            continue
        if number <= (last := highest.get(writer, -1)):
            yield writer, number, last
        highest[writer] = max(number, last)


def _text(writer: str, number: int) -> str:
    return f"{writer} {number}"
