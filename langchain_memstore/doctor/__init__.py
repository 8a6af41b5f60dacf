"""Looking a store over: what might cost conversations, or has; and what to do about it. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator

from langchain_memstore.doctor.check import Check
from langchain_memstore.doctor.server import examine_server
from langchain_memstore.doctor.sessions import Progress, examine_sessions
from langchain_memstore.memstore import Memstore

__all__ = ["Check", "examine"]


def examine(store: Memstore, match: str = "*", progress: Progress | None = None) -> Iterator[Check]:
    """Look a store and its sessions over; no TTL is refreshed.

    Args:
        store: The store.
        match: Which sessions; see `Memstore.sessions`.
        progress: Is told how many sessions were looked at.

    Raises:
        BackendUnavailable: The store could not be reached.
    """
    yield from examine_server(store._backend)
    yield from examine_sessions(store, match, progress)
