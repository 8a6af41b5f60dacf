"""What the suites share: the backend under test, its variants, and names that are hard to keep apart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from secrets import token_hex
from typing import Any

import pytest

from langchain_memstore.backends.base import Backend

Execute = Any  # executes an operation on the backend under test, through one of its variants
Run = Callable[[Coroutine[Any, Any, Any]], Any]

MINUTE = 60_000
HOSTILE_IDS = ("a}b", "{a}", "a:{b", "%7D", "%257D", "*", "[a-z]?", "a\\*", " ", "\n", "ключ/🔑", "\x00", "i" * 5_000)


class Variants:
    """What the suites share: the backend under test, its variants, and a key prefix."""

    @pytest.fixture
    def backend(self) -> Any:
        """The backend under test, for one test: a `Backend`."""
        raise NotImplementedError("override the fixture `backend`")

    @pytest.fixture
    def run(self) -> Iterator[Run]:
        """Runs coroutines on the event loop of the test, which ends with it as `asyncio.run` ends its loop."""
        loop = asyncio.new_event_loop()
        yield loop.run_until_complete
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    @pytest.fixture(params=["sync", "async"])
    def execute(self, request: pytest.FixtureRequest, backend: Backend, run: Run) -> Execute:
        """The variant under test."""
        return backend.execute if request.param == "sync" else lambda op: run(backend.aexecute(op))

    @pytest.fixture
    def prefix(self) -> str:
        """The key prefix of the test."""
        return f"conversation-{token_hex(8)}[*]{{%"
