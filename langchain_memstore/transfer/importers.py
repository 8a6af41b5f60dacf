"""Import and export: conversations of other packages into a store, and a store's into JSON Lines and back.

    from langchain_memstore.integrations.importers import CommunityLists, import_conversations

    report = import_conversations(store, CommunityLists(store), dry_run=True)

What to import from is a `Source`; those that there are take what is at hand: a store of the server, a file, histories.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sized
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_memstore.backends.steps import ExecuteOp, Steps, arun_steps, run_steps
from langchain_memstore.errors import BackendError
from langchain_memstore.keys import SessionKeys
from langchain_memstore.memstore import Memstore
from langchain_memstore.ops.transfer import Dump, Restore, Restored, SessionDump
from langchain_memstore.options import Policy
from langchain_memstore.transfer.found import Found, Problem
from langchain_memstore.transfer.jsonlines import to_line
from langchain_memstore.transfer.sources import CommunityLists, Histories, JsonDocuments, JsonDump, JsonLines, Source
from langchain_memstore.window import bounded_start

__all__ = [
    "CommunityLists",
    "Histories",
    "ImportReport",
    "JsonDocuments",
    "JsonDump",
    "JsonLines",
    "Problem",
    "Source",
    "aexport_conversations",
    "aimport_conversations",
    "export_conversations",
    "import_conversations",
]

Progress = Callable[[int, "int | None"], object]
"""Is told how many conversations are done, and of how many; None: that is not known."""


@dataclass
class ImportReport:
    """What an import has done, or, on a dry run, would do."""

    imported: int = 0
    """How many conversations were imported, the replaced ones included."""
    replaced: int = 0
    """How many of them took the place of others."""
    messages: int = 0
    """How many messages the imported conversations hold, those that wait included; the store counted them."""
    waiting: int = 0
    """How many of the messages are older than the windows, and wait to be summarised."""
    unchanged: int = 0
    """How many conversations were left as they are, for they were imported before from the same."""
    existing: list[str] = field(default_factory=list)
    """The sessions that exist, and were left as they are."""
    problems: list[Problem] = field(default_factory=list)
    """What could not be read."""
    left_out: int = 0
    """How many conversations were not imported because something of them could not be read."""

    @property
    def complete(self) -> bool:
        """Whether everything that the source holds is in the store."""
        return not self.existing and not self.problems


def import_conversations(
    store: Memstore,
    source: Source[Any],
    *,
    dry_run: bool = False,
    force: bool = False,
    skip_corrupt: bool = False,
    progress: Progress | None = None,
) -> ImportReport:
    """Import conversations into a store; the source is left as it is.

    Each is written as one, so an import that was interrupted leaves none half done, and may simply be run again: what
    was imported before from the same is left as it is. Nothing is lost: the newest messages that the store's bounds
    allow are the window, and what is older waits, as what leaves a window does, to be summarised. A conversation out of
    `export_conversations` becomes what it was. The remaining TTL is carried over; where the source knows of none, the
    store's applies.

    Args:
        store: Where to.
        source: Where from.
        dry_run: Whether to read and check all, but to write nothing.
        force: Whether to replace sessions that exist.
        skip_corrupt: Whether to import the rest of a conversation of which something cannot be read, and not to leave
            it out.
        progress: Is told how many conversations are done.

    Returns:
        What was done, and what was not.

    Raises:
        ValueError: The source cannot be read at all.
        OSError: Its file cannot be read.
        BackendError: A store refused or could not be reached; what was imported by then is there.
    """
    return run_steps(_importing(store, source, dry_run, force, skip_corrupt, progress))


async def aimport_conversations(
    store: Memstore,
    source: Source[Any],
    *,
    dry_run: bool = False,
    force: bool = False,
    skip_corrupt: bool = False,
    progress: Progress | None = None,
) -> ImportReport:
    """Import conversations into a store; the async variant of `import_conversations`."""
    return await arun_steps(_importing(store, source, dry_run, force, skip_corrupt, progress))


def export_conversations(store: Memstore, match: str = "*") -> Iterator[bytes]:
    """Return the conversations of a store as JSON Lines, one by one; no TTL is refreshed.

    What is encrypted or compressed is written in clear, and an import does with it as its store does.

    Args:
        store: Where from.
        match: Which sessions; see `Memstore.sessions`.

    Raises:
        ValueError: The pattern is not a non-empty text.
        DecryptError: Something cannot be decrypted.
        BackendError: The store refused or could not be reached.
    """
    dumps = (_dump(store, info.session_id) for info in store.sessions(match))
    states = ((dump, store._backend.execute(dump)) for dump in dumps)
    return (_line(dump, state, store._policy) for dump, state in states if state is not None)


def aexport_conversations(store: Memstore, match: str = "*") -> AsyncIterator[bytes]:
    """Return the conversations of a store as JSON Lines; the async variant of `export_conversations`."""
    return _aexport(store, store.asessions(match))


async def _aexport(store: Memstore, sessions: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    async for info in sessions:
        dump = _dump(store, info.session_id)
        state = await store._backend.aexecute(dump)
        if state is not None:
            yield _line(dump, state, store._policy)


def _dump(store: Memstore, session_id: str) -> Dump:
    return Dump(SessionKeys(store._policy.key_prefix, session_id))


def _line(dump: Dump, state: SessionDump, policy: Policy) -> bytes:
    return to_line(dump.keys.session_id, policy.session_codec(dump.keys).unseal_dump(state))


def _importing(
    store: Memstore,
    source: Source[Any],
    dry_run: bool,
    force: bool,
    skip_corrupt: bool,
    progress: Progress | None,
) -> Steps[ImportReport]:
    report = ImportReport()
    places = yield from source.places()
    total = len(places) if isinstance(places, Sized) else None
    for done, place in enumerate(places, 1):
        found = yield from source.read(place)
        report.problems += found.problems
        if found.state is None or (found.problems and not skip_corrupt):
            report.left_out += 1
        elif found.bounded or found.state.messages:  # nothing is left of a list that has expired, or is corrupt
            yield from _restoring(store, found, dry_run, force, report)
        if progress is not None:
            progress(done, total)
    return report


def _restoring(store: Memstore, found: Found, dry_run: bool, force: bool, report: ImportReport) -> Steps[None]:
    policy = store._policy
    state = _state(found, policy)
    keys = SessionKeys(policy.key_prefix, found.session_id)
    sealed, origin = policy.session_codec(keys).seal_dump(state), _origin(found, policy)
    restore = Restore(keys, sealed, origin, force, write=not dry_run)
    try:
        restored: Restored = yield ExecuteOp(store._backend, restore)
    finally:
        restore.finish()
    if restored.outcome == "exists":
        report.existing.append(found.session_id)
        return
    if restored.outcome == "same":
        report.unchanged += 1
        return
    messages, evicted = len(state.messages), len(state.evicted)
    if not dry_run and restored[1:] != (messages, evicted):
        raise BackendError(f"session {found.session_id!r}: {restored[1:]} messages were kept of {messages, evicted}")
    report.imported += 1
    report.replaced += restored.outcome == "replaced"
    report.messages += messages + evicted
    report.waiting += evicted


def _origin(found: Found, policy: Policy) -> str:
    """Return the name of what was found; where messages are encrypted, it tells nothing of them without the key."""
    assert found.state is not None
    digest = found.state.digest()
    return digest if policy.key_ring is None else policy.key_ring.fingerprint(digest)


def _state(found: Found, policy: Policy) -> SessionDump:
    """Return what a session is to be, by the bounds and the TTL of its store."""
    assert found.state is not None
    state = found.state
    if not found.bounded:
        start = bounded_start(state.messages, policy.bounds)
        state = replace(
            state,
            messages=state.messages[start:],
            evicted=state.messages[:start],
            turns=sum(entry.startswith(policy.bounds.turn_starts) for entry in state.messages),
            total=len(state.messages),
        )
    return state if found.knows_ttl else replace(state, ttl_ms=policy.ttl_ms)
