"""Servers that keep what they have acknowledged, and stores on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from langchain_memstore import Memstore
from support.servers import DURABLE, Server


@pytest.fixture
def durable(start_server: Callable[..., Server]) -> Server:
    """A server of the test's own that loses nothing when it is killed."""
    return start_server(*DURABLE)


@pytest.fixture
def journal(tmp_path: Path) -> str:
    """The path of a journal."""
    return str(tmp_path / "journal")


@pytest.fixture
def open_store() -> Iterator[Callable[..., Memstore]]:
    """Makes stores, and closes them after the test."""
    with ExitStack() as stack:
        yield lambda url, **options: stack.enter_context(Memstore.from_url(url, **options))
