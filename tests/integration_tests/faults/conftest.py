"""Servers that keep what they have acknowledged, and a look at what they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from langchain_memstore import Memstore, codec
from support.servers import Server

DURABLE = ("--appendonly", "yes", "--appendfsync", "no")  # the kernel has it before the client is told


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


def held(server: Server, session_id: str) -> list[str]:
    """Return what the messages say that the server holds of a session."""
    with server.admin() as admin:
        return [codec.decode(entry).text for entry in admin.lrange(f"conversation:messages:{{{session_id}}}", 0, -1)]


def total(server: Server, session_id: str) -> int:
    """Return how many messages the server was ever told of a session."""
    with server.admin() as admin:
        return int(admin.hget(f"conversation:meta:{{{session_id}}}", "total"))
