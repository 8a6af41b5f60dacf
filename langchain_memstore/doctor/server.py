"""What is to be seen of the server: version, persistence, eviction."""

from __future__ import annotations

import time
from collections.abc import Iterator

from langchain_memstore.backends.base import Backend
from langchain_memstore.doctor.check import Check
from langchain_memstore.errors import BackendError, BackendUnavailable
from langchain_memstore.ops.server import Ask

OLDEST = (6, 2)
"""The oldest version of Redis that serves."""
FULL = 0.9
"""The part of `maxmemory` from which on a server counts as nearly full."""


def examine_server(backend: Backend) -> Iterator[Check]:
    """Look the server over, as far as the user may ask it."""
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
