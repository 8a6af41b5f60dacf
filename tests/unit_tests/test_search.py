"""Searching finds messages by what they say, in one conversation or in all, and disturbs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_memstore import Memstore, MessageDecodeError, SearchHit
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.history import ChatMessageHistory
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.session import Append
from langchain_memstore.options import Policy
from support.clock import Clock

R = TypeVar("R")

TRIP = [
    SystemMessage("Be brief."),
    HumanMessage("Trains from Porto to the Straße of Gibraltar?"),
    AIMessage("", tool_calls=[{"name": "find_trains", "args": {"from": "Porto", "to": "Algeciras"}, "id": "a"}]),
    ToolMessage("Two trains: 08:15, 13:40.", tool_call_id="a"),
    AIMessage("There are two; PORTO is where you board."),
]


@pytest.fixture(params=["search", "asearch"])
def search(request: pytest.FixtureRequest) -> Callable[..., list[Any]]:
    """Searches a history or a store to the end, by its sync or its async method."""

    async def collect(found: Any) -> list[Any]:
        return [each async for each in found] if hasattr(found, "__aiter__") else await found

    def find(where: ChatMessageHistory | Memstore, *args: Any, **kwargs: Any) -> list[Any]:
        found = getattr(where, request.param)(*args, **kwargs)
        return list(found) if request.param == "search" else asyncio.run(collect(found))

    return find


@pytest.fixture
def trip(store: Memstore) -> ChatMessageHistory:
    history = store.history("trip")
    history.add_messages(TRIP)
    return history


def at(messages: list[BaseMessage]) -> list[int]:
    """Where in the trip messages are."""
    return [TRIP.index(message) for message in messages]


@pytest.mark.parametrize(
    ("text", "options", "found"),
    [
        ("two", {}, [3, 4]),
        ("two", {"case_sensitive": True}, [4]),
        ("Porto", {}, [1, 2, 4]),
        ("pORTO", {}, [1, 2, 4]),
        ("Porto", {"case_sensitive": True}, [1, 2]),
        ("STRASSE", {}, [1]),
        ("straße", {}, [1]),
        ("STRASSE", {"case_sensitive": True}, []),
        ("Straße", {"case_sensitive": True}, [1]),
        ("Two trains: 08:15, 13:40.", {}, [3]),
        (" ", {"types": "system"}, [0]),
        ("Porto", {"types": "human"}, [1]),
        ("Porto", {"types": ["human", "ai"]}, [1, 2, 4]),
        ("Porto", {"types": {"tool", "system"}}, []),
        ("Porto", {"types": []}, []),
        ("Porto", {"limit": 1}, [1]),
        ("Porto", {"limit": 2}, [1, 2]),
        ("Porto", {"limit": 9}, [1, 2, 4]),
        ("Porto", {"limit": 1, "types": "ai"}, [2]),
        ("Lisboa", {}, []),
    ],
)
def test_what_is_found(
    trip: ChatMessageHistory, text: str, options: dict[str, Any], found: list[int], search: Callable[..., list[Any]]
) -> None:
    assert at(search(trip, text, **options)) == found


@pytest.mark.parametrize(
    "text",
    [
        "find_trains",
        "FIND_trains",
        '"to": "Algeciras"',
        "algeciras",
        'say "bom dia"',
        'dia"\nor boa tarde',
        "C:\\temp",
        "São Bento",
        "SÃO BENTO",
        "1.5",
    ],
)
def test_tool_calls_are_searched(store: Memstore, text: str, search: Callable[..., list[Any]]) -> None:
    arguments = {
        "to": "Algeciras",
        "via": [{"station": "São Bento", "hours": 1.5}],
        "note": 'say "bom dia"\nor boa tarde',
        "file": "C:\\temp",
        "odd": {("a", "pair"): "as key"},
    }
    calls = [{"name": "wait", "args": {}, "id": "a"}, {"name": "find_trains", "args": arguments, "id": "b"}]
    history = store.history("calls")
    history.add_messages([HumanMessage("hi"), AIMessage("", tool_calls=calls), ToolMessage("none", tool_call_id="b")])
    assert [message.type for message in search(history, text)] == ["ai"]


@pytest.mark.parametrize(
    "message",
    [
        HumanMessage([{"type": "text", "text": "a needle"}, {"type": "image_url", "image_url": {"url": "data:hay"}}]),
        ToolMessage(["a needle"], tool_call_id="a"),
        FunctionMessage("a needle", name="find"),
        ChatMessage("a needle", role="critic"),
    ],
    ids=lambda message: message.type,
)
def test_every_kind_of_message_is_searched(
    store: Memstore, message: BaseMessage, search: Callable[..., list[Any]]
) -> None:
    history = store.history("kinds")
    history.add_messages([HumanMessage("straw"), message])
    assert search(history, "needle") == search(history, "needle", types=message.type) == [message]
    assert search(history, "hay") == []


def test_nothing_is_found_where_there_is_nothing(store: Memstore, search: Callable[..., list[Any]]) -> None:
    assert search(store.history("new"), "Porto") == search(store, "Porto") == []


def test_what_waits_for_a_summary_is_found_first(search: Callable[..., list[Any]]) -> None:
    store = Memstore.from_url(max_messages=2, summarize="manual", summarizer=lambda previous, messages: "Porto")
    history = store.history("trip")
    history.add_messages(TRIP)
    assert len(history.messages) == 1 and history.snapshot().evicted == 4
    assert at(search(history, "Porto")) == [1, 2, 4]
    assert at(hit.message for hit in search(store, "Porto", limit=2)) == [1, 2]
    history.compact()
    assert at(search(history, "Porto")) == [4]  # the rest is in the summary, which is no message


BAD_ARGUMENTS = pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"text": ""}, "text"),
        ({"text": None}, "text"),
        ({"text": 5}, "text"),
        ({"text": "x", "limit": 0}, "limit"),
        ({"text": "x", "limit": -1}, "limit"),
        ({"text": "x", "limit": True}, "limit"),
        ({"text": "x", "types": "humam"}, "humam"),
        ({"text": "x", "types": ["ai", "user"]}, "user"),
    ],
)


@BAD_ARGUMENTS
async def test_arguments_of_a_history_are_checked(
    trip: ChatMessageHistory, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        trip.search(**arguments)
    with pytest.raises(ValueError, match=named):
        await trip.asearch(**arguments)


@BAD_ARGUMENTS
def test_arguments_of_a_store_are_checked_when_it_is_called(
    store: Memstore, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        store.search(**arguments)


@BAD_ARGUMENTS
def test_arguments_of_the_async_variant_of_a_store_are_checked_when_it_is_called(
    store: Memstore, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        store.asearch(**arguments)


@pytest.mark.parametrize("method", ["search", "asearch"])
def test_the_pattern_is_checked_when_a_store_is_called(store: Memstore, method: str) -> None:
    with pytest.raises(ValueError, match="match"):
        getattr(store, method)("x", match="")


# All conversations of a store.


def test_all_conversations_are_searched(search: Callable[..., list[Any]]) -> None:
    backend = LocalBackend()
    store, other = Memstore(backend), Memstore(backend, key_prefix="other")
    store.history("ada").add_messages([HumanMessage("To Porto!"), AIMessage("Porto it is.")])
    store.history("bob").add_messages([HumanMessage("To Lisboa!")])
    store.history("user-7/1").add_messages([HumanMessage("Is Porto far?")])
    other.history("ada").add_messages([HumanMessage("Porto")])
    hits = search(store, "porto")
    assert {(hit.session_id, hit.message.text) for hit in hits} == {
        ("ada", "To Porto!"),
        ("ada", "Porto it is."),
        ("user-7/1", "Is Porto far?"),
    }
    assert hits[0] == SearchHit("ada", HumanMessage("To Porto!"))
    assert [hit.session_id for hit in search(store, "porto", match="user-7/*")] == ["user-7/1"]
    assert [hit.message.type for hit in search(store, "porto", types="ai")] == ["ai"]
    assert len(search(store, "porto", limit=2)) == 2
    assert search(store, "PORTO", case_sensitive=True) == []


class Recording:
    """A backend that notes the operations that it executes."""

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend
        self.done: list[str] = []

    def execute(self, op: Op[R]) -> R:
        self.done.append(type(op).__name__)
        return self._backend.execute(op)

    async def aexecute(self, op: Op[R]) -> R:
        return self.execute(op)


@pytest.fixture
def recording() -> Recording:
    backend = LocalBackend()
    store = Memstore(backend)
    for number in range(3):
        store.history(f"session-{number}").add_messages([HumanMessage("hello"), AIMessage("hello yourself")])
    return Recording(backend)


def test_hits_come_as_conversations_are_read(recording: Recording) -> None:
    hits = Memstore(recording).search("hello")
    assert recording.done == []
    for sessions_read in (1, 1, 2, 2, 3, 3):
        next(hits)
        assert recording.done.count("ReadEntries") == sessions_read


async def test_hits_of_the_async_variant_come_as_conversations_are_read(recording: Recording) -> None:
    hits = Memstore(recording).asearch("hello")
    assert recording.done == []
    for sessions_read in (1, 1, 2, 2, 3, 3):
        await anext(hits)
        assert recording.done.count("ReadEntries") == sessions_read


def test_no_more_is_read_than_the_limit_asks_for(recording: Recording, search: Callable[..., list[Any]]) -> None:
    assert len(search(Memstore(recording), "hello", limit=2)) == 2
    assert recording.done.count("ReadEntries") == 1


def test_searching_keeps_no_session_alive(search: Callable[..., list[Any]], clock: Clock) -> None:
    backend = LocalBackend(max_sessions=2, clock=clock)
    store = Memstore(backend, ttl=100)
    for name in ("first", "second"):
        store.history(name).add_message(HumanMessage("hello"))
    clock.now += 90
    assert len(search(store.history("first"), "hello")) == len(search(store, "hello", match="first")) == 1
    assert [info.ttl for info in store.sessions()] == [10, 10]
    store.history("third").add_message(HumanMessage("hello"))  # takes the place of the one that was used least recently
    assert {hit.session_id for hit in search(store, "hello")} == {"second", "third"}
    clock.now += 11
    assert {hit.session_id for hit in search(store, "hello")} == {"third"}


def test_an_entry_that_is_no_message_is_skipped_or_raised_as_in_a_read(
    search: Callable[..., list[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    backend = LocalBackend()
    store = Memstore(backend)
    history = store.history("session")
    backend.execute(Append(history.keys, (b"no message",), Policy().bounds, None))
    history.add_message(HumanMessage("hello"))
    assert len(search(history, "hello")) == len(search(store, "hello")) == 1
    assert len(caplog.records) == 2
    with pytest.raises(MessageDecodeError):
        search(store.history("session", on_corrupt="raise"), "hello")


def test_arguments_that_others_nested_too_deeply_hide_nothing_else(
    trip: ChatMessageHistory, search: Callable[..., list[Any]]
) -> None:
    nested = "[" * 1000 + "]" * 1000
    data = f'{{"content":"Porto","tool_calls":[{{"name":"look","args":{{"x":{nested}}},"id":"1"}}]}}'
    entry = f'{{"type":"ai","data":{data}}}'.encode()
    trip._backend.execute(Append(trip.keys, (entry,), Policy().bounds, None))
    before, (deep,) = search(trip, "trains"), search(trip, "look")
    assert before == TRIP[1:4]
    assert deep.text == "Porto"


def test_what_is_found_can_be_changed(trip: ChatMessageHistory, search: Callable[..., list[Any]]) -> None:
    search(trip, "Be brief")[0].content = "Be long."
    assert trip.messages == TRIP
