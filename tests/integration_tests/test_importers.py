"""Moving in from what other packages left in Redis, on real servers; the target logs in as the user with few rights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage, message_to_dict

from langchain_memstore import BackendError, BackendFull, BackendUnavailable, Memstore
from langchain_memstore.doctor import examine
from langchain_memstore.integrations.importers import (
    CommunityLists,
    JsonDocuments,
    JsonLines,
    aexport_conversations,
    aimport_conversations,
    export_conversations,
    import_conversations,
)
from support.conversations import converse
from support.proxy import Proxy
from support.servers import PASSWORD, USER, Server, every_server
from support.topologies import ClusterOfServers

TALK = converse([[1, 0], [2, 1, 0], [0], [0]])


@pytest.fixture
def store(server: Server) -> Iterator[Memstore]:
    with Memstore.from_url(server.url, max_messages=4) as store:
        yield store


@pytest.fixture
def source(server: Server) -> Iterator[Memstore]:
    """The server of the source, for a user who may read it."""
    with Memstore.from_url(server.open_url) as store:
        yield store


Old = Callable[..., Any]


@pytest.fixture
def old(server: Server, recwarn: pytest.WarningsRecorder) -> Old:
    """Makes histories of langchain-community."""
    from langchain_community.chat_message_histories import RedisChatMessageHistory

    return lambda session_id, **options: RedisChatMessageHistory(session_id, url=server.open_url, **options)


# langchain-community


@every_server
async def test_lists_of_langchain_community(
    variant: str, old: Old, store: Memstore, source: Memstore, admin: redis.Redis
) -> None:
    for session_id, ttl in (("user:1/{x}", 5000), ("ключ", None), ("*", 7000)):
        old(session_id, ttl=ttl).add_messages(TALK)
    old("elsewhere", key_prefix="other:").add_messages(TALK)
    admin.set("message_store:text", "no list")
    before = {key: admin.dump(key) for key in admin.scan_iter("*")}
    told: list[tuple[int, int | None]] = []
    lists = CommunityLists(source)
    if variant == "sync":
        report = import_conversations(store, lists, progress=lambda *done: told.append(done))
    else:
        report = await aimport_conversations(store, lists, progress=lambda *done: told.append(done))
    assert (report.imported, report.messages, report.complete) == (3, 3 * len(TALK), True)
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert {info.session_id for info in store.sessions()} == {"user:1/{x}", "ключ", "*"}
    for session_id, ttl in (("user:1/{x}", 5000), ("ключ", None), ("*", 7000)):
        history = store.history(session_id, refresh_ttl_on_read=False, max_messages=None)
        assert history.messages == old(session_id).messages[-4:]
        assert history.search(" ") == TALK
        snapshot = history.snapshot()
        assert (snapshot.turns, snapshot.total, snapshot.evicted) == (4, len(TALK), len(TALK) - 4)
        if ttl is None:
            assert snapshot.ttl is None
        else:
            assert snapshot.ttl is not None and ttl - 60 < snapshot.ttl <= ttl
            lefts = {admin.pttl(key) for key in history.keys.siblings() if admin.exists(key)}
            assert max(lefts) - min(lefts) < 50
    assert {key: admin.dump(key) for key in before} == before  # the source is left as it is
    assert import_conversations(store, lists).unchanged == 3


def test_any_prefix_and_another_server(
    old: Old, start_server: Callable[..., Server], store: Memstore, source: Memstore
) -> None:
    old("one", key_prefix="my[app]*").add_messages(TALK)
    old("two", key_prefix="myapp").add_messages(TALK)
    target = start_server()
    with Memstore.from_url(target.open_url) as other:
        assert import_conversations(other, CommunityLists(source, "my[app]*")).imported == 1
        assert other.history("one").messages == TALK
    assert list(store.sessions()) == []


def test_entries_that_are_corrupt_are_named_by_their_index(
    old: Old, store: Memstore, source: Memstore, admin: redis.Redis
) -> None:
    old("s").add_messages(TALK)
    admin.lset("message_store:s", 0, "text")  # the newest
    admin.lset("message_store:s", -1, b"\xff")  # the oldest
    admin.lpush("message_store:", "x")
    report = import_conversations(store, CommunityLists(source))
    assert (report.imported, report.left_out) == (0, 2)
    last = len(TALK) - 1
    places = {"message_store:", f"message_store:s, index {last}", "message_store:s, index 0"}
    assert {problem.place for problem in report.problems} == places
    assert list(store.sessions()) == []
    report = import_conversations(store, CommunityLists(source), skip_corrupt=True)
    assert (report.imported, report.messages, len(report.problems)) == (1, len(TALK) - 2, 3)
    assert store.history("s").search(" ") == TALK[1:-1]


def test_a_source_that_may_not_be_read(old: Old, store: Memstore) -> None:
    old("s").add_messages(TALK)
    with pytest.raises(BackendError, match="permission"):
        import_conversations(store, CommunityLists(store))  # whose user has no right to these keys


def test_many_conversations_are_each_imported_once(
    old: Old, store: Memstore, source: Memstore, admin: redis.Redis
) -> None:
    entry = json.dumps({"type": "human", "data": {"content": "hi"}})
    with admin.pipeline() as pipeline:
        for number in range(1500):
            pipeline.lpush(f"message_store:{number}", entry)
        pipeline.execute()
    report = import_conversations(store, CommunityLists(source))
    assert (report.imported, report.messages) == (1500, 1500)
    assert sum(1 for _ in store.sessions()) == 1500


def test_a_long_conversation_is_kept_whole(store: Memstore, source: Memstore, admin: redis.Redis) -> None:
    entries = [json.dumps({"type": "ai", "data": {"content": str(number)}}) for number in range(20_000)]
    admin.rpush("message_store:long", *entries[::-1])
    report = import_conversations(store, CommunityLists(source))
    assert (report.messages, report.waiting) == (20_000, 19_996)
    found = store.history("long").search("1", case_sensitive=True)
    assert [message.text for message in found] == [str(n) for n in range(20_000) if "1" in str(n)]


async def test_a_cluster_is_a_source_and_a_target(variant: str, cluster: ClusterOfServers) -> None:
    open_url = cluster.url.replace(f"{USER}:{PASSWORD}@", "")
    entries = [json.dumps(message_to_dict(message)) for message in TALK]
    for number in range(30):
        key = f"message_store:{number}"
        cluster.ask(cluster.master_of(key), "LPUSH", key, *entries)
    async with Memstore.from_url(cluster.url, max_messages=4) as store, Memstore.from_url(open_url) as source:
        lists = CommunityLists(source)
        if variant == "sync":
            report = import_conversations(store, lists)
            exported = sorted(export_conversations(store))
        else:
            report = await aimport_conversations(store, lists)
            exported = sorted([line async for line in aexport_conversations(store)])
        assert (report.imported, report.messages, report.complete) == (30, 30 * len(TALK), True)
        assert all(store.history(str(number)).search(" ") == TALK for number in range(30))
        assert [json.loads(line)["total"] for line in exported] == [len(TALK)] * 30
        checks = {check.name: check for check in examine(source)}
        assert (checks["version"].verdict, checks["entries"].verdict) == ("fine", "fine")
        assert len(checks["ttl"].sessions) == 30


# Interruptions


def test_a_connection_that_is_lost_imports_nothing_twice(
    old: Old, server: Server, source: Memstore, admin: redis.Redis
) -> None:
    for number in range(5):
        old(str(number)).add_messages(TALK)
    answered: list[bytes] = []

    def plan() -> Callable[[bool, bytes], int]:
        def forwarded(answers: bool, data: bytes) -> int:
            if answers and b"made," in data:  # it was done, and will be asked for again, every other time
                answered.append(data)
                return 0 if len(answered) % 2 else len(data)
            return len(data)

        return forwarded

    with Proxy(server.port, plan) as proxy:
        url = f"redis://{USER}:{PASSWORD}@127.0.0.1:{proxy.port}/0"
        with Memstore.from_url(url, max_connections=1) as store:
            report = import_conversations(store, CommunityLists(source))
    assert len(answered) == 10
    assert (report.imported, report.unchanged, report.existing) == (5, 0, [])
    assert all(admin.hget(f"conversation:meta:{{{n}}}", "total") == str(len(TALK)).encode() for n in range(5))


def test_a_server_that_dies_in_the_midst_is_gone_on_with(
    old: Old, start_server: Callable[..., Server], source: Memstore
) -> None:
    for number in range(6):
        old(str(number)).add_messages(TALK)
    target = start_server("--appendonly", "yes", "--appendfsync", "always")

    def kill(done: int, _: int | None) -> None:
        if done == 3:
            target.kill()

    with Memstore.from_url(target.open_url, max_messages=4) as store:
        with pytest.raises(BackendUnavailable):
            import_conversations(store, CommunityLists(source), progress=kill)
        target.start()
        report = import_conversations(store, CommunityLists(source))
        assert (report.imported, report.unchanged, report.complete) == (3, 3, True)
        assert all(store.history(str(number)).search(" ") == TALK for number in range(6))


def test_a_server_that_is_full_leaves_no_conversation_half_done(
    old: Old, store: Memstore, source: Memstore, admin: redis.Redis
) -> None:
    old("s").add_messages(TALK)
    store.history("s").add_user_message("mine")
    limit = admin.config_get("maxmemory")["maxmemory"]
    admin.config_set("maxmemory", 1)
    try:
        with pytest.raises(BackendFull, match="'s'"):
            import_conversations(store, CommunityLists(source), force=True)
        assert [message.text for message in store.history("s").messages] == ["mine"]
    finally:
        admin.config_set("maxmemory", limit)


# langchain-redis


@pytest.fixture
def json_server(start_server: Callable[..., Server]) -> Server:
    """A server that answers JSON.GET as one with the JSON module: to it, a string that holds JSON is a document.

    No server of these tests has the module. Without a path, JSON.GET returns the document's text, an error for a key of
    another type, and nothing for none: just what GET does for strings.
    """
    return start_server("--rename-command", "GET", "JSON.GET")


def put(client: redis.Redis, key: str, at: float, message: BaseMessage, ttl: int | None = None) -> None:
    """Store a message as langchain_redis.RedisChatMessageHistory._build_message_entry makes it (0.2.6)."""
    data = {"content": message.content, "additional_kwargs": message.additional_kwargs, "type": message.type}
    if isinstance(message, ToolMessage):
        data |= {"tool_call_id": message.tool_call_id, "status": message.status}
    session_id = key.partition(":")[2].rpartition(":")[0]
    document = {"type": message.type, "message_id": "x", "data": data, "session_id": session_id, "timestamp": at}
    client.set(key, json.dumps(document), ex=ttl)


async def test_documents_of_langchain_redis(variant: str, json_server: Server, store: Memstore) -> None:
    said = [HumanMessage("hi"), AIMessage("hello"), HumanMessage("how far?"), ToolMessage("far", tool_call_id="1")]
    with json_server.admin() as admin, Memstore.from_url(json_server.open_url) as source:
        for at, message in enumerate(said):
            put(admin, f"chat:user:7:01J{9 - at}", 1700000000.5 + at, message, ttl=1000 + at)
            put(admin, f"chat:forever:01J{at}", 1700000000.5 + at, message, ttl=1000 if at else None)
        if variant == "sync":
            report = import_conversations(store, JsonDocuments(source))
        else:
            report = await aimport_conversations(store, JsonDocuments(source))
        assert (report.imported, report.messages, report.problems) == (2, 8, [])
        for session_id in ("user:7", "forever"):
            kept = store.history(session_id, refresh_ttl_on_read=False)
            assert [(m.type, m.content) for m in kept.messages] == [(m.type, m.content) for m in said]
        ttl = store.history("user:7", refresh_ttl_on_read=False).snapshot().ttl
        assert ttl is not None and 900 < ttl <= 1003
        assert store.history("forever", refresh_ttl_on_read=False).snapshot().ttl is None
        assert import_conversations(store, JsonDocuments(source)).unchanged == 2


def test_documents_that_are_none_are_named_by_their_key(json_server: Server, store: Memstore) -> None:
    with json_server.admin() as admin, Memstore.from_url(json_server.open_url) as source:
        for number in range(5):
            put(admin, f"chat:s:{number}", number, HumanMessage(str(number)))
        admin.set("chat:s:7", '{"type": "human"}')
        admin.rpush("chat:s:8", "a list")
        admin.set("chat:no-id", "{}")
        put(admin, "chat:app:t:1", 1, HumanMessage("hi"))
        admin.set("chat:app:t:1", admin.execute_command("JSON.GET", "chat:app:t:1").replace(b"app:t", b"t"))
        report = import_conversations(store, JsonDocuments(source), skip_corrupt=True)
        places = {"chat:s:*, chat:s:7", "chat:s:*, chat:s:8", "chat:*", "chat:app:t:*, chat:app:t:1"}
        assert {problem.place for problem in report.problems} == places
        assert (report.imported, report.messages) == (1, 5)


@every_server
def test_a_server_without_the_json_module_says_so(source: Memstore, store: Memstore, admin: redis.Redis) -> None:
    admin.set("chat:s:1", "{}")
    with pytest.raises(ValueError, match=r"no JSON module.*from a dump"):
        import_conversations(store, JsonDocuments(source))


def test_the_documents_are_those_of_the_installed_langchain_redis() -> None:
    module = pytest.importorskip("langchain_redis.chat_message_history")
    history = object.__new__(module.RedisChatMessageHistory)
    history.session_id, history.key_prefix = "user:7", "chat:"
    document, key = history._build_message_entry(ToolMessage("far", tool_call_id="1"))
    assert key.rpartition(":")[0] == "chat:user:7"
    assert set(document) == {"type", "message_id", "data", "session_id", "timestamp"}
    assert document["data"] == {
        "content": "far",
        "additional_kwargs": {},
        "type": "tool",
        "tool_call_id": "1",
        "status": "success",
    }


# Out


@every_server
async def test_an_export_is_the_same_in_redis_and_in_the_process(store: Memstore, admin: redis.Redis) -> None:
    history = store.history("s", max_messages=4, summarize="manual")
    history.add_messages(TALK)
    history.set_summary("short")
    store.history("t").add_user_message("hi")
    admin.config_resetstat()
    exported = sorted(export_conversations(store))
    assert "cmdstat_pexpireat" not in admin.info("commandstats")
    assert [json.loads(line)["total"] for line in exported] == [len(TALK), 1]
    local = Memstore.from_url("memory://")
    assert import_conversations(local, JsonLines(BytesIO(b"".join(exported)))).imported == 2
    again = sorted([line async for line in aexport_conversations(local)])
    assert [_but_ttl(line) for line in again] == [_but_ttl(line) for line in exported]


def _but_ttl(line: bytes) -> dict[str, Any]:
    value = json.loads(line)
    assert 86_000 < value.pop("ttl") <= 86_400
    return value
