"""Servers that are full, refuse, or lack what a store needs: one clear sentence, and the session as it was."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage

from langchain_memstore import (
    BackendDenied,
    BackendError,
    BackendFull,
    BackendUnavailable,
    LockTaken,
    Memstore,
    RedisChatMessageHistory,
    codec,
)
from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.redis.backend import RedisBackend
from langchain_memstore.backends.redis.connections import Connections
from langchain_memstore.keys import SessionKeys, SessionPattern
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.listing import Scan
from langchain_memstore.ops.reading import ReadEntries
from langchain_memstore.ops.session import Append
from langchain_memstore.ops.summary import Claim, Claimed, Commit, Release
from langchain_memstore.ops.transfer import Restore, SessionDump
from langchain_memstore.testing import Execute
from langchain_memstore.window import Bounds
from support.contents import everything
from support.servers import PASSWORD, USER, Server, every_server
from support.variants import VariantOf
from support.waiting import wait_until

from .test_server_state import KEYS, TTL, make_session, operations

SECRET = "word-of-Ada"
README = 'the README lists all of them under "A Redis user with few rights"'
CLAIMED = Claimed(0, 2, "", [b"entry"])


def summary_operations() -> dict[str, Op[Any]]:
    """Make one operation of every kind by which a summary is made."""
    return {
        "claim": Claim(KEYS, TTL, 0, "token"),
        "commit": Commit(KEYS, "summary", CLAIMED, TTL, "token"),
        "release": Release(KEYS, "token"),
    }


def all_operations() -> dict[str, Op[Any]]:
    return {**operations(), **summary_operations(), "entries": ReadEntries(KEYS)}


@pytest.fixture
def session(backend: Backend, admin: redis.Redis) -> None:
    """A session that has all its keys, and an entry that waits for a summary."""
    make_session(backend)
    admin.rpush(KEYS.evicted, "entry")


@pytest.fixture
def strict(start_server: Callable[..., Server], variant_of: VariantOf) -> Iterator[Callable[..., Execute]]:
    """Starts a server with options of its own, and executes operations there."""
    backends: list[RedisBackend] = []

    def start(*options: str) -> tuple[Server, Execute]:
        server = start_server(*options)
        backends.append(RedisBackend(Connections.of_url(server.open_url)))
        return server, variant_of(backends[-1])

    yield start
    for backend in backends:
        backend.close()


@every_server
def test_a_server_that_fills_up(start_server: Callable[..., Server]) -> None:
    server = start_server("--maxmemory-policy", "noeviction")
    with server.admin() as admin, Memstore.from_url(server.open_url, max_messages=None) as store:
        store.history("old").add_messages([HumanMessage("x" * 100_000)] * 20)
        admin.config_set("maxmemory", admin.info("memory")["used_memory"] + 3_000_000)
        history, written = store.history("new"), 0
        with contextlib.suppress(BackendFull):
            while written < 1000:
                history.add_messages([HumanMessage(f"{written} " + "x" * 50_000), AIMessage("noted")])
                written += 1
        assert 10 < written < 900
        full = everything(admin)
        for _ in range(3):
            with pytest.raises(BackendFull, match=r"session 'new' .*: out of memory, nothing was written"):
                history.add_messages([HumanMessage("x" * 200_000), AIMessage("noted")])
        assert everything(admin) == full
        snapshot = history.snapshot()
        assert (snapshot.total, snapshot.turns, len(snapshot.messages)) == (2 * written, written, 2 * written)
        assert store.history("old").snapshot().total == 20
        store.history("old").clear()
        wait_until(lambda: admin.info("memory")["used_memory"] < admin.info("memory")["maxmemory"] - 500_000)
        history.add_messages([HumanMessage("and on"), AIMessage("noted")])
        assert [message.text.split()[0] for message in history.messages[::2]] == [*map(str, range(written)), "and"]


@every_server
def test_values_on_a_server_that_is_full(start_server: Callable[..., Server]) -> None:
    server = start_server("--maxmemory-policy", "noeviction")
    with server.admin() as admin, Memstore.from_url(server.open_url) as store:
        kv = store.kv()
        kv.set("here", 1, ttl=100)
        admin.config_set("maxmemory", 1)
        with pytest.raises(BackendFull):
            kv.mset([("a", 1), ("b", 2)])
        assert kv.mget(["a", "b", "here"]) == [None, None, 1]
        assert kv.expire("here", None) and kv.ttl("here") is None  # which takes no memory


@every_server
def test_what_changes_nothing_is_told_by_a_server_that_is_full(start_server: Callable[..., Server]) -> None:
    server = start_server("--maxmemory-policy", "noeviction")
    with server.admin() as admin, Memstore.from_url(server.open_url) as store:
        history, lock, kv = store.history("session"), store.lock("a", wait=0), store.kv()
        history.register_turn()
        kv.set("here", 1)
        with lock:
            admin.config_set("maxmemory", 1)
            assert history.pop() == []
            void = Commit(history.keys, "summary", Claimed(0, 0, "", []), None, "00")
            assert not store._backend.execute(void)
            assert store._backend.execute(Restore(history.keys, SessionDump(()), "elsewhere")).outcome == "exists"
            assert not kv.delete("missing")
            with pytest.raises(LockTaken):
                store.lock("a", wait=0).__enter__()
        admin.config_set("maxmemory", 0)
        with lock:
            assert history.turns == 1


@every_server
@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("name", ["claim", "commit", "release"])
def test_scripts_of_summaries_that_the_server_forgot_are_sent_again(
    execute: Execute, admin: redis.Redis, name: str
) -> None:
    made = summary_operations()
    for before in ("claim", "commit", "release"):
        admin.script_flush()
        result = execute(made[before])
        if before == "claim":
            assert result.entries == [b"entry"]
        if before == name:
            break
    admin.script_flush()
    again = execute(made[name])
    assert again == result


WRONG: dict[str, tuple[Callable[[redis.Redis], Any], set[str]]] = {
    "messages": (lambda admin: admin.set(KEYS.messages, "text"), set()),
    "meta": (lambda admin: admin.rpush(KEYS.meta, "item"), {"claim", "commit", "release"}),
    "turns": (lambda admin: admin.rpush(KEYS.turns, "item"), {"claim"}),
    "summary": (lambda admin: admin.hset(KEYS.summary, "field", "value"), {"claim", "commit"}),
    "evicted": (lambda admin: admin.set(KEYS.evicted, "text"), {"claim", "commit", "read", "stats"}),
    "lease": (lambda admin: admin.rpush(KEYS.lease, "item"), {"claim", "commit", "release"}),
}


@every_server
@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("wrong", WRONG)
def test_a_key_of_another_type_is_named(execute: Execute, admin: redis.Redis, wrong: str) -> None:
    execute(summary_operations()["claim"])
    admin.delete(KEYS.lease, getattr(KEYS, wrong))
    if wrong == "meta":
        execute(operations()["append"])
        admin.delete(KEYS.meta)
    write, refused = WRONG[wrong]
    write(admin)
    for name, op in {**summary_operations(), "read": operations()["read"], "stats": operations()["stats"]}.items():
        before = everything(admin)
        if name in refused:
            with pytest.raises(BackendError) as caught:
                execute(op)
            assert f"the key '{getattr(KEYS, wrong)}' holds what is not of this package" in str(caught.value)
            assert everything(admin) == before


NUMBERED = {"append", "append that evicts", "pop", "register_turn", "set_summary", "claim", "commit", "release"}


@every_server
@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("field", ["total", "summarized", "lost", "covered", "seen", "seen of others"])
def test_a_script_on_damaged_meta_does_all_or_nothing(execute: Execute, admin: redis.Redis, field: str) -> None:
    evicting = Bounds(1, None, codec.RESULTS, codec.TURN_STARTS, max_evicted=1)
    evicts = Append(KEYS, codec.encode([HumanMessage("one"), HumanMessage("two")]), evicting, TTL)
    for name, op in {**operations(), **summary_operations(), "append that evicts": evicts}.items():
        if name not in NUMBERED:
            continue
        writer = op.write_id.partition(".")[0]
        admin.delete(KEYS.lease)
        admin.hset(KEYS.meta, "claim", op.write_id if name == "commit" else "")
        damage = {f"writer:{writer}": "junk"} if field == "seen" else {field: "junk"}
        if field == "seen of others":
            damage = {f"{kind}:{number:x}": "junk" for kind in ("writer", "seen") for number in range(70)}
            admin.hdel(KEYS.meta, f"writer:{writer}")  # a new writer, for which others are forgotten
        restore = {key: admin.dump(key) for key in KEYS.siblings() if admin.exists(key)}
        admin.hset(KEYS.meta, mapping=damage)
        damaged = everything(admin)
        for _ in range(2):
            refusal = None
            try:
                execute(op)
            except BackendError as error:
                refusal = str(error)
            if refusal is not None:
                assert refusal.startswith("Redis, for session 'session'")
                assert everything(admin) == damaged, name
        for key, dumped in restore.items():
            admin.restore(key, 0, dumped, replace=True)


@every_server
async def test_a_listing_names_what_it_cannot_read(server: Server, admin: redis.Redis) -> None:
    async with Memstore.from_url(server.url) as store:
        for session_id in ("one", "two", "three"):
            store.history(session_id).add_user_message("hi")
        foreign = SessionKeys("conversation", "two")
        kept = admin.dump(foreign.meta)
        for write, said in (
            (lambda: admin.set(foreign.meta, "text"), f"the key '{foreign.meta}' holds what is not of this package"),
            (lambda: admin.hset(foreign.meta, "created", "yesterday"), "session 'two': invalid literal"),
            (lambda: admin.hset(foreign.meta, "created", 10**30), "session 'two': "),
            (lambda: admin.hset(foreign.meta, mapping={"created": 1}), "session 'two': "),
        ):
            admin.delete(foreign.meta)
            write()
            with pytest.raises(BackendError, match=re.escape(said)):
                list(store.sessions())
            with pytest.raises(BackendError, match=re.escape(said)):
                _ = [info async for info in store.asessions()]
        admin.restore(foreign.meta, 0, kept, replace=True)
        assert {info.session_id for info in store.sessions()} == {"one", "two", "three"}


def test_every_call_of_a_script_names_its_key() -> None:
    """An error within a script tells its line alone, from which the key is read."""
    scripts = {op.script.name: op.script for op in all_operations().values() if op.script is not None}
    assert len(scripts) >= 8
    for script in scripts.values():
        for line in script.source.decode().splitlines():
            if "redis.call(" in line and not re.search(r"'(TIME|EXISTS|PERSIST|PEXPIREAT)'", line):
                assert len(set(re.findall(r"KEYS\[(\w+)\]", line))) == 1, line


def refusals(execute: Execute, admin: redis.Redis) -> Iterator[str]:
    """Execute everything, and return what those say that are refused, which leave all as it was."""
    for name, op in {**all_operations(), "scan": Scan(SessionPattern("conversation"))}.items():
        before = everything(admin)
        try:
            execute(op)
        except BackendDenied as error:
            yield str(error)
            # A script is not rolled back. This one alone reads, to find its window, after it has written.
            if name != "append" or "lrange" not in str(error).lower():
                assert everything(admin) == before, name


@every_server
@pytest.mark.parametrize("renamed", ["EVALSHA", "EVAL", "RPUSH", "HMGET", "MULTI", "EXEC", "UNLINK"])
def test_a_command_that_the_server_lacks(strict: Callable[..., Any], renamed: str) -> None:
    server, execute = strict("--rename-command", renamed, "")
    with server.admin() as admin:
        said = list(refusals(execute, admin))
    assert said
    for each in said:
        assert f"lacks a command that this package needs, or has it renamed; {README}: " in each
        assert renamed in each
        assert re.search("unknown (redis )?command", each, re.IGNORECASE)
        assert "question" not in each and "user_script" not in each and "args" not in each


@every_server
@pytest.mark.parametrize("taken", ["evalsha", "eval", "rpush", "hmget", "multi", "exec", "lrange", "scan", "unlink"])
def test_a_right_that_the_user_lacks(server: Server, admin: redis.Redis, execute: Execute, taken: str) -> None:
    admin.script_flush()
    admin.execute_command("ACL", "SETUSER", USER, f"-{taken}")
    said = list(refusals(execute, admin))
    assert said
    for each in said:
        assert f"the user may not do what this package needs; {README}: " in each
        assert taken in each.lower()
        assert "user_script" not in each and PASSWORD not in each
    server.reset()
    assert list(refusals(execute, admin)) == []


@every_server
def test_keys_that_the_user_may_not_touch(server: Server, admin: redis.Redis) -> None:
    with Memstore.from_url(server.url, key_prefix="others") as store:
        history = store.history("s")
        for call in (lambda: history.add_user_message(SECRET), history.snapshot, history.clear, history.pop):
            with pytest.raises(BackendDenied, match=r"session 's' \(prefix 'others'\): the user may not") as caught:
                call()
            assert README in str(caught.value) and SECRET not in str(caught.value)
    assert admin.keys() == []


@every_server
@pytest.mark.parametrize("query", ["", "?protocol=2", "?protocol=3"])
def test_a_login_that_is_missing_or_wrong(strict: Callable[..., Any], query: str) -> None:
    server, _ = strict("--requirepass", PASSWORD)
    for login in ("", ":hunter2@", f"nobody:{PASSWORD}@"):
        with Memstore.from_url(f"redis://{login}127.0.0.1:{server.port}{query}") as store:
            with pytest.raises(BackendDenied, match="the login was refused") as caught:
                store.history("s").add_user_message("hi")
            assert PASSWORD not in str(caught.value) and "hunter2" not in str(caught.value)


def test_a_server_in_protected_mode() -> None:
    """A real one lets clients of the same machine in; so this one only says what such a server says."""
    said = b"-DENIED Redis is running in protected mode because protected mode is enabled and no password is set.\r\n"

    def refuse() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(said)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(1000):
                        pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        history = RedisChatMessageHistory("s", f"redis://127.0.0.1:{listener.getsockname()[1]}", fallback=False)
        with pytest.raises(BackendDenied, match="the connection was refused: DENIED Redis is running in protected"):
            history.add_user_message("hi")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


WRITES = ["append", "register_turn", "set_summary", "pop"]


@every_server
def test_a_server_that_cannot_persist(strict: Callable[..., Any]) -> None:
    server, execute = strict("--stop-writes-on-bgsave-error", "yes")
    with server.admin() as admin:
        admin.config_set("save", "3600 1000000")
        for name in WRITES:
            execute(operations()[name])
        before = everything(admin)
        shutil.rmtree(admin.config_get("dir")["dir"])
        admin.bgsave()
        wait_until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err")
        for name in WRITES:
            with pytest.raises(BackendFull, match="cannot persist to disk and takes no writes, nothing was written"):
                execute(operations()[name])
        assert execute(operations()["read"]).total == 2
        assert everything(admin) == before
        admin.config_set("stop-writes-on-bgsave-error", "no")
        assert execute(operations()["append"]).total == 4


@every_server
def test_a_server_without_enough_replicas(strict: Callable[..., Any]) -> None:
    server, execute = strict("--min-replicas-to-write", "1")
    with server.admin() as admin:
        for name in WRITES[:3]:
            with pytest.raises(BackendUnavailable, match="cannot serve now: NOREPLICAS"):
                execute(operations()[name])
        assert admin.keys() == []
        admin.config_set("min-replicas-to-write", 0)
        assert execute(operations()["append"]).total == 2


@every_server
def test_a_server_that_is_busy_with_a_script(strict: Callable[..., Any]) -> None:
    server, execute = strict("--lua-time-limit", "10")
    with server.admin() as admin, server.admin() as other:

        def loop() -> None:
            with pytest.raises(redis.ResponseError, match="killed"):
                other.eval("while true do end", 0)

        def is_busy() -> bool:
            try:
                return not admin.ping()
            except redis.ResponseError:
                return True

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            wait_until(is_busy)
            for name in ("append", "read", "stats", "clear"):
                with pytest.raises(BackendUnavailable, match="cannot serve now: BUSY"):
                    execute(operations()[name])
        finally:
            admin.script_kill()
            thread.join()
        assert execute(operations()["append"]).total == 2
