"""The store: where it is, what it lists, and that it does nothing before it is asked."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, ClassVar

import pytest
import redis
import redis.asyncio
from langchain_core.messages import AIMessage, HumanMessage

from langchain_memstore import Memstore, SessionInfo, Status
from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.ops.listing import Scan
from langchain_memstore.ops.scanning import ScanPage

Listing = Callable[..., list[SessionInfo]]


@pytest.fixture
def listing(variant: str) -> Listing:
    """Lists the sessions of a store through one of the two variants."""

    async def of_async(store: Memstore, *args: str) -> list[SessionInfo]:
        return [info async for info in store.asessions(*args)]

    if variant == "sync":
        return lambda store, *args: list(store.sessions(*args))
    return lambda store, *args: asyncio.run(of_async(store, *args))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every attempt to connect an error."""

    def connect(*_: Any) -> None:
        raise AssertionError("connected")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:1/0",
        "rediss://ann:hunter2@localhost:1?ssl_cert_reqs=none",
        "unix:///no/such/socket?db=2",
    ],
)
@pytest.mark.usefixtures("offline")
def test_making_a_store_and_its_histories_connects_to_nothing(url: str) -> None:
    with Memstore.from_url(url, max_connections=1) as store:
        history = store.history("s")
        assert store.get_session_history("s").session_id == "s"
        assert store.status == Status("redis")
        assert "hunter2" not in repr(store) + repr(history) + repr(store.status)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "memory",
        "memory:/x",
        "localhost:6379",
        "http://localhost",
        "redis+nope://h",
        "valkey//h",
        None,
        5,
        b"memory://",
    ],
    ids=repr,
)
def test_a_url_of_no_known_scheme_is_refused(url: Any) -> None:
    with pytest.raises(ValueError, match=r"URL must .*redis://"):
        Memstore.from_url(url)


def test_clients_are_borrowed() -> None:
    client, async_client = redis.Redis(port=1), redis.asyncio.Redis(port=1)
    for store in (
        Memstore.from_client(client),
        Memstore.from_client(async_client=async_client, key_prefix="p"),
        Memstore.from_client(client, async_client),
    ):
        assert store.status == Status("redis")
        store.close()


@pytest.mark.parametrize(
    "clients",
    [{}, {"redis_client": "redis://h"}, {"async_client": redis.Redis(port=1)}],
    ids=["none", "a URL", "a sync one"],
)
def test_what_is_no_client_is_refused(clients: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="client"):
        Memstore.from_client(**clients)


def test_a_history_may_differ_from_its_store() -> None:
    store = Memstore.from_url("memory://", max_messages=2, key_prefix="p")
    for history in (store.history("a"), store.history("b", max_messages=None)):
        history.add_messages([HumanMessage(str(number)) for number in range(4)])
    assert [(info.session_id, info.messages, info.total) for info in store.sessions()] == [("a", 2, 4), ("b", 4, 4)]
    assert store.history("a").keys.meta == "p:meta:{a}"
    assert store.history("a", key_prefix="q").messages == []


def test_it_shows_itself(store: Memstore) -> None:
    assert repr(store) == "Memstore(backend=LocalBackend(sessions=0), key_prefix='conversation')"
    assert store.status == Status(backend="local", degraded=False, pending=0, since=None)


@pytest.mark.usefixtures("passing_time")
def test_a_listing_tells_what_is_known(store: Memstore, listing: Listing) -> None:
    before = datetime.now(timezone.utc) - timedelta(milliseconds=1)
    history = store.history("s", max_messages=2, ttl=60)
    history.add_messages([HumanMessage("1"), AIMessage("2"), HumanMessage("3")])
    time.sleep(0.002)
    history.set_summary("short")
    (info,) = listing(store)
    assert (info.session_id, info.messages, info.turns, info.total, info.summary) == ("s", 2, 2, 3, True)
    assert info.ttl is not None and 50 < info.ttl <= 60
    assert before <= info.created < info.updated <= datetime.now(timezone.utc)


def test_a_listing_has_the_sessions_that_match(store: Memstore, listing: Listing) -> None:
    for session_id in ("user-1/a", "user-1/b", "user-2/a", "User-1/a", "[x]", "{*}"):
        store.history(session_id).register_turn()
    store.history("user-1/c", key_prefix="other").register_turn()

    def found(*match: str) -> list[str]:
        return sorted(info.session_id for info in listing(store, *match))

    assert len(found()) == 6
    assert found("user-1/*") == ["user-1/a", "user-1/b"]
    assert found("user-?/a") == ["user-1/a", "user-2/a"]
    assert found("[[]x]") == ["[x]"]
    assert found("{[*]}") == ["{*}"]
    assert found("*[!a]") == ["[x]", "user-1/b", "{*}"]
    assert found("nobody") == []


@pytest.mark.parametrize("wrong", ["", None, 5, "\ud800"], ids=repr)
def test_a_pattern_that_is_no_text_is_refused(store: Memstore, listing: Listing, wrong: Any) -> None:
    with pytest.raises(ValueError, match="match must be"):
        listing(store, wrong)


def test_a_long_listing_has_each_session_once(store: Memstore, listing: Listing) -> None:
    for number in range(1_500):
        store.history(f"s{number}").register_turn()
    infos = listing(store)
    assert {info.session_id for info in infos} == {f"s{number}" for number in range(1_500)}
    assert len(infos) == 1_500


def test_sessions_may_come_and_go_while_they_are_listed(store: Memstore) -> None:
    for number in range(10):
        store.history(f"s{number}").register_turn()
    for info in store.sessions():
        store.history(info.session_id).clear()
        store.history(f"{info.session_id}-new").register_turn()
    assert len(list(store.sessions("s?"))) == 0
    assert len(list(store.sessions("*-new"))) == 10


class Paging(LocalBackend):
    """Lists in pages that may be empty, and tells of some sessions twice, as SCAN does."""

    pages: ClassVar = [("a", "b", "a"), (), ("b", "c", "gone"), ("a",)]

    def execute(self, op: Any) -> Any:
        if not isinstance(op, Scan):
            return super().execute(op)
        return ScanPage((op.cursor + 1) % len(self.pages), self.pages[op.cursor])


def test_a_session_that_comes_on_two_pages_is_listed_once(listing: Listing) -> None:
    store = Memstore(Paging())
    for session_id in "abc":
        store.history(session_id).register_turn()
    assert [info.session_id for info in listing(store)] == ["a", "b", "c"]


class Counting:
    """A backend that counts how often it was closed."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    @property
    def status(self) -> Status:
        return Status("redis", degraded=True, pending=3)

    def close(self) -> None:
        self.closed.append("close")

    async def aclose(self) -> None:
        self.closed.append("aclose")


def test_closing_closes_the_backend() -> None:
    backend: Any = Counting()
    store = Memstore(backend)
    assert store.status == Status("redis", degraded=True, pending=3)
    with store as entered:
        assert entered is store
        assert backend.closed == []
    store.close()
    assert backend.closed == ["close", "close"]


async def test_closing_closes_the_backend_in_async_code() -> None:
    backend: Any = Counting()
    with pytest.raises(KeyError):
        async with Memstore(backend) as store:
            raise KeyError
    await store.aclose()
    assert backend.closed == ["aclose", "aclose"]


def test_a_store_takes_any_backend() -> None:
    backend: Backend = LocalBackend(max_sessions=1)
    store = Memstore(backend, ttl=None)
    store.history("a").register_turn()
    store.history("b").register_turn()
    assert [(info.session_id, info.ttl) for info in store.sessions()] == [("b", None)]
