"""What is in the server: how sessions lie there, and what happens when something else does."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage, message_to_dict

from langchain_memstore import BackendError, BackendFull, BackendUnavailable, Memstore, codec
from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.redis.backend import RedisBackend
from langchain_memstore.backends.redis.connections import Connections
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.listing import Stats
from langchain_memstore.ops.reading import Read
from langchain_memstore.ops.session import Append, Clear, Pop, RegisterTurn, SetSummary, Touch
from langchain_memstore.ops.transfer import Dump, Restore, SessionDump
from langchain_memstore.testing import Execute
from langchain_memstore.window import Bounds
from support.contents import everything
from support.servers import Server, every_server

KEYS = SessionKeys("conversation", "session")
BOUNDS = Bounds(4, 3, codec.RESULTS, codec.TURN_STARTS)
ENTRIES = codec.encode([HumanMessage("question"), AIMessage("answer")])
TTL = 60_000
HOUR = 3_600_000


def operations(ttl: int | None = TTL) -> dict[str, Op[Any]]:
    """Make one operation of every kind that is on one session."""
    return {
        "append": Append(KEYS, ENTRIES, BOUNDS, ttl),
        "pop": Pop(KEYS, 1, codec.TURN_STARTS, ttl),
        "register_turn": RegisterTurn(KEYS, ttl),
        "set_summary": SetSummary(KEYS, "summary", ttl),
        "remove_summary": SetSummary(KEYS, "", ttl),
        "touch": Touch(KEYS, ttl),
        "read": Read(KEYS, ttl, refresh=True),
        "stats": Stats((KEYS,)),
        "clear": Clear(KEYS),
        "dump": Dump(KEYS),
        "restore": Restore(KEYS, SessionDump(ENTRIES, ENTRIES, "summary", 1, 4, ttl_ms=ttl), "origin", replace=True),
    }


@pytest.fixture
def session(backend: Backend) -> None:
    """A session that has all its keys."""
    make_session(backend)


def make_session(backend: Backend) -> None:
    for name in ("append", "append", "set_summary", "register_turn", "pop"):
        backend.execute(operations()[name])


def expiries(admin: redis.Redis) -> list[int]:
    """Return the TTLs of the keys of the session, as far as there are such keys."""
    with admin.pipeline() as pipeline:
        for key in KEYS.siblings():
            pipeline.pttl(key)
        return [left for left in pipeline.execute() if left != -2]


@every_server
@pytest.mark.parametrize(
    "name", ["append", "pop", "register_turn", "set_summary", "remove_summary", "touch", "read", "restore"]
)
def test_all_keys_of_a_session_expire_together(
    backend: Backend, execute: Execute, admin: redis.Redis, name: str
) -> None:
    for ttl in (HOUR, 2 * HOUR, TTL):
        make_session(backend)
        execute(operations(ttl)[name])
        lefts = expiries(admin)
        assert len(lefts) >= 3
        assert ttl - 5000 < min(lefts) <= max(lefts) <= min(ttl, min(lefts) + 1)
    make_session(backend)
    execute(operations(None)[name])
    assert set(expiries(admin)) == {-1}


@pytest.mark.usefixtures("session")
def test_a_ttl_that_has_hardly_worn_off_is_left_alone(backend: Backend, admin: redis.Redis) -> None:
    admin.config_resetstat()
    for name in ("append", "pop", "register_turn", "read"):
        backend.execute(operations()[name])
    assert admin.info("commandstats")["cmdstat_pexpireat"]["calls"] == 1  # of what was popped
    for key in KEYS.siblings():
        admin.pexpire(key, TTL * 98 // 100)
    backend.execute(operations()["read"])
    assert admin.info("commandstats")["cmdstat_pexpireat"]["calls"] == 1 + 5


@every_server
@pytest.mark.usefixtures("session")
def test_clear_leaves_no_key(execute: Execute, admin: redis.Redis) -> None:
    assert len(admin.keys()) == 5  # that of what was popped is the fifth
    execute(operations()["clear"])
    assert admin.keys() == []


def test_messages_are_plain_json_oldest_first(server: Server, admin: redis.Redis) -> None:
    messages = [
        HumanMessage("Grüße 🔑"),
        AIMessage("", tool_calls=[{"name": "look", "args": {"at": [1, None]}, "id": "call-1"}]),
        ToolMessage("found", tool_call_id="call-1"),
    ]
    with Memstore.from_url(server.url) as store:
        store.history("user/1 {x}").add_messages(messages)
    entries = admin.lrange("conversation:messages:{user/1 %7Bx%7D}", 0, -1)
    assert [json.loads(entry) for entry in entries] == [message_to_dict(message) for message in messages]


@every_server
def test_a_list_that_another_package_wrote_is_continued(server: Server, admin: redis.Redis) -> None:
    messages = [HumanMessage("one"), AIMessage("two"), HumanMessage("three")]
    for message in messages:
        admin.rpush("conversation:messages:{theirs}", json.dumps(message_to_dict(message)))
    with Memstore.from_url(server.url, max_messages=4) as store:
        history = store.history("theirs")
        assert history.messages == messages
        history.add_messages(more := [AIMessage("four"), HumanMessage("five")])
        assert history.snapshot().total == 5
        assert history.messages == [*messages[1:], *more]
        assert history.pop(4) == [*messages[1:], *more]
        history.clear()
    assert admin.keys() == []


@every_server
@pytest.mark.parametrize(
    "name", ["append", "pop", "register_turn", "set_summary", "remove_summary", "touch", "read", "restore"]
)
def test_scripts_that_the_server_forgot_are_sent_again(execute: Execute, admin: redis.Redis, name: str) -> None:
    op = operations()[name]
    first = execute(op)
    admin.script_flush()
    again = execute(op)
    assert again == first or name in ("touch", "read")


def test_scripts_may_be_forgotten_at_any_moment(execute: Execute, server: Server) -> None:
    stop = threading.Event()

    def forget() -> None:
        with server.admin() as admin:
            while not stop.is_set():
                admin.script_flush()

    thread = threading.Thread(target=forget)
    thread.start()
    try:
        totals = [execute(operations()["append"]).total for _ in range(200)]
    finally:
        stop.set()
        thread.join()
    assert totals == list(range(2, 402, 2))


WRONG = {
    "messages": lambda admin: admin.set(KEYS.messages, "text"),
    "meta": lambda admin: admin.rpush(KEYS.meta, "item"),
    "turns": lambda admin: admin.rpush(KEYS.turns, "item"),
    "turns (text)": lambda admin: admin.set(KEYS.turns, "many"),
    "turns (fraction)": lambda admin: admin.set(KEYS.turns, "1.5"),
    "turns (huge)": lambda admin: admin.set(KEYS.turns, "9223372036854775807"),
    "summary": lambda admin: admin.hset(KEYS.summary, "field", "value"),
    "summary (not UTF-8)": lambda admin: admin.set(KEYS.summary, b"\xff"),
}
# The operations that do not look at what is wrong.
UNTOUCHED = {
    "messages": {"register_turn", "set_summary", "remove_summary"},
    "meta": set(),
    "turns": {"set_summary", "remove_summary"},
    "turns (text)": {"set_summary", "remove_summary"},
    "turns (fraction)": {"set_summary", "remove_summary"},
    "turns (huge)": {"set_summary", "remove_summary", "read", "stats", "dump"},
    "summary": {"append", "pop", "register_turn", "stats"},
    "summary (not UTF-8)": {"append", "pop", "register_turn", "set_summary", "remove_summary", "stats"},
}


@every_server
@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(
    "name", ["append", "pop", "register_turn", "set_summary", "remove_summary", "read", "stats", "dump"]
)
def test_what_is_not_ours_is_refused(execute: Execute, admin: redis.Redis, wrong: str, name: str) -> None:
    admin.delete(getattr(KEYS, wrong.split()[0]))
    WRONG[wrong](admin)
    before = everything(admin)
    if name in UNTOUCHED[wrong]:
        execute(operations()[name])
        return
    with pytest.raises(BackendError) as caught:
        execute(operations()[name])
    assert everything(admin) == before
    assert "session" in str(caught.value)
    if len(wrong.split()) == 1:
        key = re.escape(getattr(KEYS, wrong))
        assert re.search(f"the key '{key}' holds what is not of this package; delete or rename", str(caught.value))
    else:
        assert re.search(r"not a number|not of this package", str(caught.value))


@every_server
@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("wrong", WRONG)
def test_a_session_is_replaced_whatever_its_keys_hold(execute: Execute, admin: redis.Redis, wrong: str) -> None:
    admin.delete(getattr(KEYS, wrong.split()[0]))
    WRONG[wrong](admin)
    if wrong == "meta":  # which says whether this was done before
        with pytest.raises(BackendError, match="wrong kind of value"):
            execute(operations()["restore"])
        return
    assert execute(operations()["restore"]) == ("replaced", 2, 2)
    assert execute(operations()["dump"]).entries == ENTRIES + ENTRIES


@every_server
@pytest.mark.usefixtures("session")
def test_a_full_server_changes_nothing(execute: Execute, admin: redis.Redis) -> None:
    before = everything(admin)
    limit = admin.config_get("maxmemory")["maxmemory"]
    admin.config_set("maxmemory", 1)
    try:
        for name in ("append", "register_turn", "set_summary", "restore"):
            with pytest.raises(BackendFull, match="'session'"):
                execute(operations()[name])
        assert everything(admin) == before
        assert execute(operations()["read"]).entries == [*ENTRIES, ENTRIES[0]]
        assert execute(operations()["pop"]) == [ENTRIES[0]]
        assert execute(operations()["clear"]) is True
    finally:
        admin.config_set("maxmemory", limit)


@every_server
def test_a_replica_changes_nothing(server: Server, admin: redis.Redis, start_server: Callable[..., Server]) -> None:
    replica = start_server("--replicaof", "127.0.0.1", str(server.port))
    backend = RedisBackend(Connections.of_url(replica.open_url))
    with pytest.raises(BackendUnavailable, match="cannot serve now"):
        backend.execute(operations()["append"])
    backend.close()
    assert admin.keys() == []
