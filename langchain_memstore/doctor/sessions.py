"""What is to be seen of the sessions: keys, expiry, entries, summaries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from langchain_core.messages import AIMessage, BaseMessage, FunctionMessage, ToolMessage

from langchain_memstore import codec
from langchain_memstore.backends.base import Backend
from langchain_memstore.doctor.check import Check
from langchain_memstore.errors import BackendError, DecryptError, MessageDecodeError
from langchain_memstore.keys import SessionKeys, SessionPattern, glob_literal
from langchain_memstore.listing import list_names
from langchain_memstore.memstore import Memstore
from langchain_memstore.ops.listing import Scan
from langchain_memstore.ops.server import ScanKeys
from langchain_memstore.ops.transfer import Dump, Expiries, SessionDump
from langchain_memstore.options import Policy

APART = 100
"""Milliseconds by which the TTLs of a session's keys may differ; the scripts set them to the same moment."""
LAG = 2
"""How many times `summarize_every` turns may pass without a summary while messages wait."""

Progress = Callable[[int, "int | None"], object]

_FINDINGS = {
    "orphans": (
        "have keys without the meta key: written by other hands, or evicted in part",
        "append to them to take them over, or clear them; listings do not show them",
    ),
    "types": (
        "have keys that hold what is not of this package, and cannot be used",
        "look with redis-cli TYPE, and clear them with `memstore clear`, or remove the key",
    ),
    "ttl": (
        "do not expire",
        "where that is not meant: give the store a ttl, and call history.touch() for each",
    ),
    "siblings": (
        "have keys that expire at different times, and will lose some before the others",
        "call history.touch() for each, and leave EXPIRE and PERSIST to the store",
    ),
    "encryption": (
        "cannot be decrypted with the keys at hand, or hold what is not encrypted where it should be",
        "set MEMSTORE_ENCRYPTION_KEYS as the application has it",
    ),
    "entries": (
        "hold entries that are not messages",
        "reads skip them; look with `memstore show`, and repair or clear the session",
    ),
    "results": (
        "hold tool results without their call, which model providers refuse",
        "pop or clear them; append a call and its results in order, with add_messages",
    ),
    "summaries": (
        "wait for a summary that is overdue",
        "run `memstore worker`, look at the failures in store.status, or make the store with a summarizer",
    ),
    "lost": (
        "have lost messages that waited for a summary when max_evicted was reached",
        "run more workers, or raise max_evicted",
    ),
}


def examine_sessions(store: Memstore, match: str, progress: Progress | None) -> Iterator[Check]:
    """Look the sessions over whose ids match."""
    backend, pattern = store._backend, SessionPattern(store._policy.key_prefix, match)
    found: dict[str, list[str]] = {name: [] for name in _FINDINGS}
    session_ids = sorted(_listed(backend, pattern) | _with_keys(backend, pattern))
    total = len(session_ids)
    for done, session_id in enumerate(session_ids, 1):
        for name in _faults(SessionKeys(pattern.prefix, session_id), backend, store._policy):
            found[name].append(session_id)
        if progress is not None:
            progress(done, total)
    for name, (what, advice) in _FINDINGS.items():
        if ids := tuple(found[name]):
            yield Check(name, "finding", f"{len(ids)} of {total} sessions {what}", advice, ids)
        else:
            yield Check(name, "fine", f"none of {total} sessions {what}")


def _listed(backend: Backend, pattern: SessionPattern) -> set[str]:
    """Find the sessions that listings show, whatever their keys hold."""
    return {name for names in list_names(backend, Scan(pattern)) for name in names}


def _with_keys(backend: Backend, pattern: SessionPattern) -> set[str]:
    """Find the sessions that have any key."""
    head = glob_literal(SessionKeys(pattern.prefix, "-").messages.partition("messages:")[0])
    pages = list_names(backend, ScanKeys(f"{head}*:{{*}}"))
    return {session_id for keys in pages for key in keys if (session_id := _session_id(key, pattern))}


def _session_id(key: bytes, pattern: SessionPattern) -> str | None:
    """Return whose key it is; None: nobody's."""
    try:
        text = key.decode()
    except UnicodeDecodeError:  # somebody else's key
        return None
    kind = text[: text.find("{")].rstrip(":").rpartition(":")[2]
    session_id = pattern.name(text.replace(f":{kind}:{{", ":meta:{", 1)) if kind else None
    return session_id if session_id and text in SessionKeys(pattern.prefix, session_id).siblings() else None


def _faults(keys: SessionKeys, backend: Backend, policy: Policy) -> Iterator[str]:
    try:
        state = backend.execute(Dump(keys))
    except BackendError as error:
        if type(error) is not BackendError:  # it is about the server, and not about the session
            raise
        yield "types"
        return
    if state is not None:
        yield from _faults_of_keys(state, backend.execute(Expiries(keys)), policy)
        yield from _faults_of_messages(state, keys, policy)


def _faults_of_keys(state: SessionDump, ttls: tuple[int | None, ...], policy: Policy) -> Iterator[str]:
    times = set(ttls)
    expiring = [ttl_ms for ttl_ms in times if ttl_ms is not None]
    if state.created is None:
        yield "orphans"
    if not expiring:
        yield "ttl"
    elif None in times or max(expiring) - min(expiring) > APART:
        yield "siblings"
    if state.evicted and state.turns - state.covered >= LAG * policy.summarize_every:
        yield "summaries"
    if state.lost:
        yield "lost"


def _faults_of_messages(state: SessionDump, keys: SessionKeys, policy: Policy) -> Iterator[str]:
    try:
        state = policy.session_codec(keys).unseal_dump(state)
    except DecryptError:
        yield "encryption"
        return
    messages, corrupt = _messages(state)
    if corrupt:
        yield "entries"
    if _has_lone_result(messages):
        yield "results"


def _messages(state: SessionDump) -> tuple[list[BaseMessage], int]:
    messages = []
    for entry in state.entries:
        with suppress(MessageDecodeError):
            messages.append(codec.decode(entry))
    return messages, len(state.entries) - len(messages)


def _has_lone_result(messages: list[BaseMessage]) -> bool:
    """Tell whether a result does not follow, but for other results, on the message with its call."""
    calls: set[str | None] = set()
    for message in messages:
        if isinstance(message, AIMessage):
            calls = {call["id"] for call in (*message.tool_calls, *message.invalid_tool_calls)}
            calls |= {"function_call"} if "function_call" in message.additional_kwargs else set()
        elif isinstance(message, ToolMessage):
            if message.tool_call_id not in calls:
                return True
        elif isinstance(message, FunctionMessage):
            if "function_call" not in calls:
                return True
        else:
            calls = set()
    return False
