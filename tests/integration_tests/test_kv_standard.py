"""LangChain's own standard tests, inside the process and on every server, as a user who may do only what is needed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.caches import BaseCache
from langchain_core.stores import BaseStore
from langchain_tests.integration_tests import (
    AsyncCacheTestSuite,
    BaseStoreAsyncTests,
    BaseStoreSyncTests,
    SyncCacheTestSuite,
)

from langchain_memstore import Memstore
from support.servers import COMMANDS

THREE_VALUES = ({"a": [1, None]}, b"\x00\xff", ("text", 1.5))


@pytest.fixture(params=["local", *COMMANDS])
def server_name(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def url(server_name: str, request: pytest.FixtureRequest) -> str:
    return "memory://" if server_name == "local" else request.getfixturevalue("family_server").url


@pytest.fixture
def memstore(url: str) -> Iterator[Memstore]:
    with Memstore.from_url(url, fallback=False) as store:
        yield store


@pytest.fixture
async def amemstore(url: str) -> AsyncIterator[Memstore]:
    async with Memstore.from_url(url, fallback=False) as store:
        yield store


class TestStore(BaseStoreSyncTests[Any]):
    @pytest.fixture
    def kv_store(self, memstore: Memstore) -> BaseStore[str, Any]:
        return memstore.kv()

    @pytest.fixture
    def three_values(self) -> tuple[Any, Any, Any]:
        return THREE_VALUES


class TestAsyncStore(BaseStoreAsyncTests[Any]):
    @pytest.fixture
    async def kv_store(self, amemstore: Memstore) -> BaseStore[str, Any]:
        return amemstore.kv("scores", ttl=60)

    @pytest.fixture
    def three_values(self) -> tuple[Any, Any, Any]:
        return THREE_VALUES


class TestCache(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self, memstore: Memstore) -> BaseCache:
        return memstore.cache()


class TestAsyncCache(AsyncCacheTestSuite):
    @pytest.fixture
    async def cache(self, amemstore: Memstore) -> BaseCache:
        return amemstore.cache(ttl=60)
