"""Looking a store over: what might cost conversations, or has; and what to do about it. Nothing is changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from langchain_core.messages import AIMessage, BaseMessage, FunctionMessage, ToolMessage

from langchain_memstore import codec
from langchain_memstore.backends.base import Backend
from langchain_memstore.errors import BackendError, BackendUnavailable, DecryptError, MessageDecodeError
from langchain_memstore.keys import SessionKeys, SessionPattern, glob_literal
from langchain_memstore.memstore import Memstore
from langchain_memstore.ops.keyspace import Ask, ScanKeys
from langchain_memstore.ops.moving import Dump, Expiries, SessionState
from langchain_memstore.options import Policy
from langchain_memstore.session_codec import SessionCodec

OLDEST = (6, 2)
"""The oldest version of Redis that serves."""
FULL = 0.9
"""The part of `maxmemory` from which on a server counts as nearly full."""
APART = 100
"""Milliseconds by which the TTLs of a session's keys may differ; the scripts set them to the same moment."""
LAG = 2
"""How many times `summarize_every` turns may pass without a summary while messages wait."""

Progress = Callable[[int, "int | None"], object]


@dataclass(frozen=True)
class Check:
    """What one look has shown."""

    name: str
    """What was looked at."""
    verdict: Literal["fine", "finding", "unchecked"]
    """Whether all is well, something is to be done, or it could not be checked."""
    seen: str
    """What was seen."""
    advice: str = ""
    """What to do; empty: nothing."""
    sessions: tuple[str, ...] = ()
    """The ids of the sessions that this is about."""


def examine(store: Memstore, match: str = "*", progress: Progress | None = None) -> Iterator[Check]:
    """Look a store and its sessions over; no TTL is refreshed.

    Args:
        store: The store.
        match: Which sessions; see `Memstore.sessions`.
        progress: Is told how many sessions were looked at.

    Raises:
        BackendUnavailable: The store could not be reached.
    """
    yield from _examine_server(store._backend)
    yield from _examine_sessions(store, match, progress)


def _examine_server(backend: Backend) -> Iterator[Check]:
    start = time.perf_counter()
    try:
        pong = backend.execute(Ask(("PING",)))
    except BackendUnavailable:
        raise
    except BackendError as error:
        pong = str(error)  # it answers all the same
    took = (time.perf_counter() - start) * 1000
    if pong is None:
        yield Check("connection", "fine", "the store is inside this process: there is no server to look at")
        return
    yield Check("connection", "fine", f"the server answers, in {took:.1f} ms")
    try:
        info = _fields(backend.execute(Ask(("INFO",))))
    except BackendUnavailable:
        raise
    except BackendError:
        for name in ("version", "persistence", "eviction"):
            yield Check(name, "unchecked", "this user may not ask for INFO", "allow it: ACL SETUSER <user> +info")
        return
    yield _version(info)
    yield _persistence(info, backend)
    yield _eviction(info)


def _fields(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _version(info: dict[str, str]) -> Check:
    if "valkey_version" in info:
        return Check("version", "fine", f"Valkey {info['valkey_version']}")
    version = info.get("redis_version", "?")
    if tuple(int(part) if part.isdigit() else 0 for part in version.split(".")[:2]) < OLDEST:
        return Check("version", "finding", f"Redis {version}", "use Redis 6.2 or later, or Valkey")
    return Check("version", "fine", f"Redis {version}")


def _persistence(info: dict[str, str], backend: Backend) -> Check:
    failed = [name for name in ("rdb_last_bgsave_status", "aof_last_write_status") if info.get(name, "ok") != "ok"]
    if failed:
        return Check(
            "persistence",
            "finding",
            f"the last attempt to write to disk has failed ({', '.join(failed)})",
            "see to the server's disk and its log; Redis may refuse writes until then",
        )
    if info.get("aof_enabled") == "1":
        return Check("persistence", "fine", "an append-only file: a crash loses about the last second")
    try:
        answer = backend.execute(Ask(("CONFIG", "GET", "save")))
    except BackendUnavailable:
        raise
    except BackendError:
        return Check(
            "persistence",
            "unchecked",
            "there is no append-only file, and this user may not ask for the schedule of snapshots",
            "allow it: ACL SETUSER <user> +config|get",
        )
    schedule = (answer[b"save"] if isinstance(answer, dict) else answer[1]).decode()  # RESP3 has maps
    if not schedule:
        return Check(
            "persistence",
            "finding",
            "neither an append-only file nor snapshots: a restart loses every conversation",
            "set `appendonly yes`, in redis.conf and by CONFIG SET",
        )
    return Check(
        "persistence",
        "fine",
        f"snapshots (save {schedule}): a crash loses what was written since the last one",
        "where that is too much, set `appendonly yes`",
    )


def _eviction(info: dict[str, str]) -> Check:
    most, policy = int(info.get("maxmemory", 0)), info.get("maxmemory_policy", "?")
    if not most:
        return Check("eviction", "fine", f"no maxmemory, so nothing is evicted (maxmemory-policy {policy})")
    if policy != "noeviction":
        return Check(
            "eviction",
            "finding",
            f"maxmemory-policy {policy}: a server that is full takes the keys of sessions, one by one",
            "set `maxmemory-policy noeviction`, in redis.conf and by CONFIG SET",
        )
    used = int(info.get("used_memory", 0)) / most
    if used > FULL:
        return Check(
            "eviction",
            "finding",
            f"{used:.0%} of maxmemory is in use, and a server that is full refuses writes",
            "raise maxmemory, or shorten ttl or max_messages",
        )
    return Check("eviction", "fine", f"maxmemory-policy noeviction; {used:.0%} of maxmemory is in use")


_FINDINGS = {
    "orphans": (
        "have keys without the meta key: written by other hands, or evicted in part",
        "append to them to take them over, or clear them; listings do not show them",
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


def _examine_sessions(store: Memstore, match: str, progress: Progress | None) -> Iterator[Check]:
    backend, pattern = store._backend, SessionPattern(store._policy.key_prefix, match)
    found: dict[str, list[str]] = {name: [] for name in _FINDINGS}
    listed = {info.session_id for info in store.sessions(match)}
    unlisted = _with_keys(backend, pattern) - listed
    total = len(listed) + len(unlisted)
    for done, session_id in enumerate(sorted(unlisted) + sorted(listed), 1):
        keys = SessionKeys(pattern.prefix, session_id)
        state = backend.execute(Dump(keys))
        if state is not None:
            faults = [*_faults_of_keys(state, backend.execute(Expiries(keys)), store._policy)]
            for name in [*faults, *_faults_of_messages(state, keys, store._policy)]:
                found[name].append(session_id)
        if progress is not None:
            progress(done, total)
    for name, (what, advice) in _FINDINGS.items():
        if ids := tuple(found[name]):
            yield Check(name, "finding", f"{len(ids)} of {total} sessions {what}", advice, ids)
        else:
            yield Check(name, "fine", f"none of {total} sessions {what}")


def _with_keys(backend: Backend, pattern: SessionPattern) -> set[str]:
    """Find the sessions that have any key."""
    found: set[str] = set()
    head = glob_literal(SessionKeys(pattern.prefix, "-").messages.partition("messages:")[0])
    scan = ScanKeys(f"{head}*:{{*}}")
    while True:
        page = backend.execute(scan)
        found.update(filter(None, (_session_id(key, pattern) for key in page.keys)))
        if page.cursor == 0:
            return found
        scan = ScanKeys(scan.pattern, page.cursor)


def _session_id(key: bytes, pattern: SessionPattern) -> str | None:
    """Return whose key it is; None: nobody's."""
    try:
        text = key.decode()
    except UnicodeDecodeError:  # somebody else's key
        return None
    kind = text[: text.find("{")].rstrip(":").rpartition(":")[2]
    session_id = pattern.session_id(text.replace(f":{kind}:{{", ":meta:{", 1)) if kind else None
    return session_id if session_id and text in SessionKeys(pattern.prefix, session_id).siblings() else None


def _faults_of_keys(state: SessionState, lefts: tuple[int | None, ...], policy: Policy) -> Iterator[str]:
    times = set(lefts)
    expiring = [left for left in times if left is not None]
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


def _faults_of_messages(state: SessionState, keys: SessionKeys, policy: Policy) -> Iterator[str]:
    try:
        state = SessionCodec(keys, policy).open_state(state)
    except DecryptError:
        yield "encryption"
        return
    messages, corrupt = _messages(state)
    if corrupt:
        yield "entries"
    if _has_lone_result(messages):
        yield "results"


def _messages(state: SessionState) -> tuple[list[BaseMessage], int]:
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
