"""How servers are reached, and what becomes of the connections."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from urllib.parse import quote

import pytest
import redis
import redis.asyncio
from redis.credentials import CredentialProvider

from langchain_memstore import BackendClosed, BackendError, BackendUnavailable, Memstore, RedisChatMessageHistory
from langchain_memstore.backends.redis.backend import RedisBackend
from langchain_memstore.backends.redis.connections import Connections
from langchain_memstore.backends.redis.pool_makers import url_pools
from langchain_memstore.backends.redis.urls import settings_of
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.reading import Read
from langchain_memstore.ops.session import RegisterTurn
from langchain_memstore.testing import HOSTILE_IDS
from support.servers import PASSWORD, USER, Server
from support.variants import VariantOf, acall
from support.waiting import wait_until

KEYS = SessionKeys("conversation", "session")
READ = Read(KEYS, None, refresh=False)


def write(store: Memstore) -> int:
    return store.history("session").register_turn()


async def awrite(store: Memstore) -> int:
    return await store.history("session").aregister_turn()


def test_making_a_store_or_a_history_does_no_io(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    write(Memstore.from_url(server.open_url))  # all modules are loaded

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("I/O")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    Memstore.from_url(server.url).history("session")
    Memstore.from_client(redis.Redis(), redis.asyncio.Redis()).history("session")
    RedisChatMessageHistory("session", "rediss://nowhere.invalid?ssl_ca_certs=nothing")
    with pytest.raises(AssertionError, match="I/O"):
        write(Memstore.from_url(server.url))


def test_a_dead_port_is_told_at_once(variant_of: VariantOf) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    backend = RedisBackend(Connections.of_url(f"redis://127.0.0.1:{port}"))
    start = time.monotonic()
    with pytest.raises(BackendUnavailable, match="cannot be reached"):
        variant_of(backend)(READ)
    assert time.monotonic() - start < 1
    backend.close()


def test_a_server_that_never_answers_is_given_up(variant_of: VariantOf) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # which accepts nothing
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        backend = RedisBackend(Connections.of_url(url, socket_timeout=0.1))
        start = time.monotonic()
        with pytest.raises(BackendUnavailable, match="cannot be reached"):
            variant_of(backend)(READ)
        assert 0.1 <= time.monotonic() - start < 2
        backend.close()


def test_a_refused_password_is_told_at_once_and_to_nobody(
    server: Server, variant_of: VariantOf, admin: redis.Redis
) -> None:
    secret = "not/the p@ssword"
    url = server.url.replace(PASSWORD, quote(secret, safe=""))
    backend = RedisBackend(Connections.of_url(url))
    with pytest.raises(BackendError, match="the login was refused") as caught:
        variant_of(backend)(READ)
    assert not isinstance(caught.value, BackendUnavailable)
    assert admin.info("stats")["total_connections_received"] == 1 + 1  # the admin's
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(backend)
    assert secret not in told and quote(secret, safe="") not in told
    backend.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hunter2/x@host:port",
        "redis://:hunter2@[::1",
        "http://user:hunter2@host",
        "redis://:hunter2@host?no_such_option=1",
        "redis://:hunter2@host?socket_timeout=long",
    ],
)
def test_a_url_that_makes_no_sense_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"^the Redis URL") as caught:
        RedisChatMessageHistory("session", url)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("url", ["server.url", "cluster.url", "watched.url"])
async def test_a_provider_gives_the_login_of_each_connection(
    request: pytest.FixtureRequest, variant: str, url: str
) -> None:
    class Provider(CredentialProvider):
        asked = 0

        def get_credentials(self) -> tuple[str, str]:
            self.asked += 1
            return USER, PASSWORD

    fixture, provider = request.getfixturevalue(url.partition(".")[0]), Provider()
    async with Memstore.from_url(fixture.url.replace(f"{USER}:{PASSWORD}@", ""), credential_provider=provider) as store:
        assert await acall(variant, store.history("session").register_turn) == 1
        assert provider.asked


async def test_keepalive_finds_dead_connections(server: Server, variant: str) -> None:
    for query, expected in (("", [1, 60, 10, 3]), ("?socket_keepalive=no", [0])):
        connection = url_pools(server.url + query, settings_of({}))(variant == "async").make_connection()
        if variant == "sync":
            connection.connect()
            line = connection._sock
        else:
            await connection.connect()
            line = connection._writer.get_extra_info("socket")
        options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
        names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
        options += [(socket.IPPROTO_TCP, getattr(socket, name)) for name in names if hasattr(socket, name)]
        found = [line.getsockopt(*option) for option in options]
        assert found[: len(expected)] == expected[: len(found)]
        if variant == "sync":
            connection.disconnect()
        else:
            await connection.disconnect()


async def test_a_unix_socket(server: Server) -> None:
    async with Memstore.from_url(f"unix://{USER}:{PASSWORD}@{server.socket}?db=0") as store:
        assert [write(store), await awrite(store)] == [1, 2]
    with server.admin(unix_socket_path=server.socket) as client:
        history = RedisChatMessageHistory("session", redis_client=client)
        assert [history.turns, await history.aregister_turn()] == [2, 3]


def test_a_server_that_was_away_is_found_again(start_server: Callable[..., Server], variant_of: VariantOf) -> None:
    server = start_server()
    backend = RedisBackend(Connections.of_url(server.open_url))
    execute = variant_of(backend)
    assert execute(RegisterTurn(KEYS, None)) == 1
    server.kill()
    with pytest.raises(BackendUnavailable):
        execute(READ)
    server.start()
    assert execute(RegisterTurn(KEYS, None)) == 1
    backend.close()


def never(*_: object) -> float:
    raise AssertionError("an operation was sent again")


async def test_connections_that_the_server_has_closed_meanwhile_are_made_anew(
    server: Server, admin: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langchain_memstore.backends.redis.backend.pause", never)
    async with Memstore.from_url(server.url, fallback=False) as store:
        for turn in range(1, 4):
            threads = [asyncio.to_thread(write, store) for _ in range(8)]
            assert {*await asyncio.gather(*threads, *(awrite(store) for _ in range(8)))} <= {*range(16 * turn + 1)}
            admin.client_kill_filter(_type="normal", skipme=True)
            await asyncio.sleep(0.05)
        assert await awrite(store) == 16 * 3 + 1


@pytest.mark.skipif(not hasattr(redis.asyncio.Connection, "mark_for_reconnect"), reason="redis-py 8 marks connections")
async def test_a_connection_that_is_marked_is_made_anew(server: Server, admin: redis.Redis, variant: str) -> None:
    """As redis-py does it when a server says that it moves."""
    async with Memstore.from_url(server.url, fallback=False) as store:
        connections = store._backend._connections
        for number in range(1, 4):
            if variant == "sync":
                assert write(store) == number
                connections.thread_pool()._idle[0][0].mark_for_reconnect()
                connections.thread_pool().request([("PING",)], time.monotonic() + 5)
            else:
                assert await awrite(store) == number
                pool = (await connections.loop_connections())._pool
                taken = await pool.acquire(time.monotonic() + 5)
                taken.mark_for_reconnect()
                await pool.release(taken, healthy=True)
    assert admin.info("stats")["total_connections_received"] >= 3 + 1  # the admin's


async def test_stores_of_one_url_share_connections_that_the_last_closes(server: Server, admin: redis.Redis) -> None:
    one, other = Memstore.from_url(server.url), Memstore.from_url(server.url)
    apart = Memstore.from_url(server.url, max_connections=1)
    for store in (one, other):
        write(store)
        await awrite(store)
    assert len(admin.client_list()) == 2 + 1  # the admin's
    write(apart)
    connected = [each["id"] for each in admin.client_list()]
    assert len(connected) == 3 + 1
    one.close()
    await one.aclose()
    assert [write(other), await awrite(other)] == [6, 7]
    assert [each["id"] for each in admin.client_list()] == connected
    await other.aclose()
    wait_until(lambda: len(admin.client_list()) == 1 + 1)
    apart.close()
    wait_until(lambda: len(admin.client_list()) == 1)
    for store in (one, other, apart):
        with pytest.raises(BackendClosed):
            write(store)
        with pytest.raises(BackendClosed):
            await awrite(store)
    with Memstore.from_url(server.url) as again:
        assert write(again) == 8


@pytest.mark.parametrize("steps", range(5))
def test_a_store_that_is_closed_in_a_loop_that_ends_leaves_nothing(
    server: Server, admin: redis.Redis, steps: int
) -> None:
    async def write_and_close() -> None:
        with Memstore.from_url(server.url) as store:
            await asyncio.gather(*(awrite(store) for _ in range(3)))
        for _ in range(steps):
            await asyncio.sleep(0)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(write_and_close())
        gc.collect()
    assert [str(each.message) for each in caught] == []
    wait_until(lambda: len(admin.client_list()) == 1)


async def test_a_store_for_each_request_does_not_pile_connections_up(server: Server, admin: redis.Redis) -> None:
    for number in range(20):
        with Memstore.from_url(server.url) as store:
            assert await awrite(store) == number + 1
        assert len(admin.client_list()) <= 3


async def test_borrowed_clients_stay_open(server: Server) -> None:
    with redis.Redis.from_url(server.open_url) as client:
        async with redis.asyncio.Redis.from_url(server.open_url) as async_client:
            store = Memstore.from_client(client, async_client)
            assert [write(store), await awrite(store)] == [1, 2]
            await store.aclose()
            store.close()
            assert client.connection_pool._available_connections[0]._sock is not None
            assert [client.incr("number"), await async_client.incr("number")] == [1, 2]
            with pytest.raises(BackendClosed):
                write(store)


async def test_a_borrowed_client_gets_a_twin_that_is_closed(server: Server, admin: redis.Redis) -> None:
    with redis.Redis.from_url(server.open_url) as client:
        store = Memstore.from_client(client)
        assert [write(store), await awrite(store)] == [1, 2]
        assert len(admin.client_list()) == 2 + 1
        await store.aclose()
        wait_until(lambda: len(admin.client_list()) == 1 + 1)


def test_a_borrowed_async_client_serves_the_loop_that_used_it_first(server: Server, admin: redis.Redis) -> None:
    async def first() -> int:
        turns = await awrite(store)
        await client.aclose()
        return turns

    client = redis.asyncio.Redis.from_url(server.open_url)
    store = Memstore.from_client(async_client=client)
    assert [asyncio.run(first()), asyncio.run(awrite(store)), write(store)] == [1, 2, 3]
    store.close()
    wait_until(lambda: len(admin.client_list()) == 1)


async def test_two_thousand_sessions_are_listed_once_each(server: Server, admin: redis.Redis) -> None:
    ids = {f"user-{number}/chat" for number in range(2000)} | set(HOSTILE_IDS)
    admin.rpush("conversation:messages:{foreign}", "without meta")
    for key in (
        b"conversation:meta:{\xff}",
        b"conversation:meta:{}",
        b"conversation:meta:{a{b}",
        b"conversation:meta:x",
    ):
        admin.hset(key, "not", "ours")
    async with Memstore.from_url(server.url, ttl=3600) as store:
        for session_id in ids:
            store.history(session_id).register_turn()
        infos = list(store.sessions())
        assert sorted(info.session_id for info in infos) == sorted(ids)
        assert {(info.turns, info.messages, info.total, info.summary) for info in infos} == {(1, 0, 0, False)}
        assert all(3500 < info.ttl <= 3600 for info in infos)
        assert sorted([info.session_id async for info in store.asessions()]) == sorted(ids)
        assert len(list(store.sessions("user-1*/chat"))) == 1111
        assert [info.session_id async for info in store.asessions("[*]")] == ["*"]


def test_a_listing_goes_on_while_sessions_come_and_go(server: Server) -> None:
    stop = threading.Event()

    def churn() -> None:
        with Memstore.from_url(server.url) as store:
            while not stop.is_set():
                for number in range(50):
                    store.history(f"passing-{number}").register_turn()
                for number in range(50):
                    store.history(f"passing-{number}").clear()

    with Memstore.from_url(server.url) as store:
        for number in range(1000):
            store.history(f"staying-{number}").register_turn()
        thread = threading.Thread(target=churn)
        thread.start()
        try:
            listings = [[info.session_id for info in store.sessions()] for _ in range(5)]
        finally:
            stop.set()
            thread.join()
    for listing in listings:
        assert len(listing) == len(set(listing))
        assert {session_id for session_id in listing if session_id.startswith("staying")} == {
            f"staying-{number}" for number in range(1000)
        }
