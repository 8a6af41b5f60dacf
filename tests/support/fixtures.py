"""The fixtures that all tests share: clock, store and variants. Those of servers are in `integration_tests`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial

import pytest

from langchain_memstore import Memstore
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.kv import KeyValueStore
from langchain_memstore.ops.write_ids import NUMBERING
from langchain_memstore.testing import Run
from support.clock import Clock
from support.variants import Call, VariantOf, call_async, call_sync


@pytest.fixture(autouse=True)
def _new_writer() -> None:
    """Has each test write as a writer of its own: no write of an earlier one is under way."""
    NUMBERING.restart()


@pytest.fixture
def clock() -> Clock:
    """The clock of `backend`, which stands still until the test turns it on."""
    return Clock()


@pytest.fixture
def passing_time(clock: Clock) -> None:
    """Lets the clock of `backend` tell the real time."""
    clock.runs = True


@pytest.fixture
def backend(clock: Clock) -> LocalBackend:
    """The in-process backend of `store`."""
    return LocalBackend(clock=clock)


@pytest.fixture
def store(backend: LocalBackend) -> Memstore:
    """A store in the process; modules whose stores have options override it."""
    return Memstore(backend)


@pytest.fixture
def kv(store: Memstore) -> KeyValueStore:
    """The values of `store`."""
    return store.kv()


@pytest.fixture(params=["sync", "async"])
def variant(request: pytest.FixtureRequest) -> str:
    """The variant under test: "sync" or "async"."""
    return request.param


@pytest.fixture
def run() -> Iterator[Run]:
    """Runs coroutines on the event loop of the test, which ends with it as `asyncio.run` ends its loop."""
    loop = asyncio.new_event_loop()
    yield loop.run_until_complete
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture
def variant_of(variant: str, run: Run) -> VariantOf:
    """Returns the variant under test of a backend."""
    return lambda backend: backend.execute if variant == "sync" else lambda op: run(backend.aexecute(op))


@pytest.fixture
def call(variant: str, run: Run) -> Call:
    """Calls the variant under test of a history's methods, by the names of the sync ones; properties too."""
    return call_sync if variant == "sync" else partial(call_async, run)
