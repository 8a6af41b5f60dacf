"""Caches on servers that are full, or refuse to be written to."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from langchain_core.outputs import Generation

from langchain_memstore import BackendDenied, Memstore
from support.servers import PASSWORD, USER, Server, every_server

ANSWER = [Generation(text="42")]
NO_RIGHTS = ("ACL", "SETUSER", USER, "reset", "on", f">{PASSWORD}", "~*", "+@connection", "+info")


@pytest.fixture(params=[True, False], ids=["fallback", "no fallback"])
def fallback(request: pytest.FixtureRequest) -> bool:
    return request.param


async def use_caches(store: Memstore) -> None:
    """Use a cache of each kind, in both variants, and see what was computed."""

    @store.kv().cached(name="double")
    def double(x: int) -> int:
        return 2 * x

    @store.kv().cached(name="triple")
    async def triple(x: int) -> int:
        return 3 * x

    assert [double(1), double(1), await triple(1), await triple(1)] == [2, 2, 3, 3]
    assert (double.cache_info().misses, triple.cache_info().misses) == (2, 2)
    cache = store.cache()
    cache.update("p", "m", ANSWER)
    await cache.aupdate("p", "m", ANSWER)
    assert cache.lookup("p", "m") is None and await cache.alookup("p", "m") is None


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@every_server
async def test_a_full_server(
    start_server: Callable[..., Server], fallback: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server("--maxmemory-policy", "noeviction")
    with server.admin() as admin:
        admin.set("filler", b"x" * 1_500_000)
        admin.config_set("maxmemory", "1mb")
        async with Memstore.from_url(server.open_url, fallback=fallback) as store:
            await use_caches(store)
            assert [text.partition(" cannot be cached for now: ")[0] for text in warnings(caplog)] == [
                "results of double",
                "results of triple",
                "answers of models",
            ]
            assert all("out of memory" in text for text in warnings(caplog))
            admin.config_set("maxmemory", 0)
            cache = store.cache()
            await cache.aupdate("p", "m", ANSWER)
            assert cache.lookup("p", "m") == ANSWER


@every_server
async def test_a_user_who_may_not_set(
    start_server: Callable[..., Server], fallback: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server()
    with server.admin() as admin:
        admin.execute_command(*NO_RIGHTS, "+get")
        async with Memstore.from_url(server.url, fallback=fallback) as store:
            await use_caches(store)
            assert len(warnings(caplog)) == 3


@every_server
async def test_a_user_who_may_not_read(start_server: Callable[..., Server], fallback: bool) -> None:
    server = start_server()
    with server.admin() as admin:
        admin.execute_command(*NO_RIGHTS, "+set")
        async with Memstore.from_url(server.url, fallback=fallback) as store:
            worked: list[int] = []
            with pytest.raises(BackendDenied):
                store.kv().cached(name="work")(worked.append)(1)
            with pytest.raises(BackendDenied):
                await store.cache().alookup("p", "m")
            assert worked == []
