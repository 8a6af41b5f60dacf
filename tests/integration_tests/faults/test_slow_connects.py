"""A host that takes no connections, and says nothing: to connect counts toward the time of a call."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from langchain_memstore import BackendUnavailable, Memstore
from support.variants import Call


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port whose queue of connections is full, so that the system lets further ones wait."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            waiting.append(client)
        time.sleep(0.1)
        yield listener.getsockname()[1]
        for client in waiting:
            client.close()


def test_a_connect_takes_no_more_than_a_call_may(full_port: int, call: Call) -> None:
    with Memstore.from_url(f"redis://127.0.0.1:{full_port}/0", socket_timeout=1, fallback=False) as store:
        start = time.monotonic()
        with pytest.raises(BackendUnavailable):
            call(store.history("session"), "add_user_message", "text")
        assert time.monotonic() - start < 1 + 1


def test_an_outage_does_not_pass_for_a_cache_that_was_cleared() -> None:
    with Memstore.from_url("redis://127.0.0.1:1/0") as store, pytest.raises(BackendUnavailable):
        store.cache().clear()
