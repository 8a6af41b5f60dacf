"""What LangChain sees: histories in Redis, through both variants."""

from __future__ import annotations

import logging
from datetime import timedelta
from secrets import token_hex

import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_memstore import LocalChatMessageHistory, Memstore, MessageDecodeError, RedisChatMessageHistory
from langchain_memstore.history import ChatMessageHistory
from langchain_memstore.options import HistoryOptions
from support.servers import Server, every_server
from support.variants import Call
from support.waiting import wait_until

CALL = AIMessage("", tool_calls=[{"name": "look", "args": {"where": "there"}, "id": "call-1"}])
RESULT = ToolMessage("found", tool_call_id="call-1")


@every_server
def test_a_conversation_in_redis(server: Server, call: Call) -> None:
    converse(RedisChatMessageHistory("session", server.url, max_messages=4, ttl=3600), call)


def test_a_conversation_in_the_process(call: Call) -> None:
    converse(LocalChatMessageHistory("session", name=token_hex(8), max_messages=4, ttl=3600), call)


def converse(history: ChatMessageHistory, call: Call) -> None:
    call(history, "add_messages", [])
    assert call(history, "messages") == []
    call(history, "add_user_message", "question")
    call(history, "add_messages", [CALL, RESULT])
    call(history, "add_ai_message", AIMessage("answer", name="model"))
    assert call(history, "messages") == [HumanMessage("question"), CALL, RESULT, AIMessage("answer", name="model")]
    call(history, "add_message", HumanMessage([{"type": "text", "text": "more"}]))
    call(history, "set_summary", "what was")
    assert call(history, "register_turn") == 3
    assert call(history, "turns") == 3
    assert call(history, "summary") == "what was"
    summary, *window = call(history, "messages")
    assert isinstance(summary, SystemMessage) and "what was" in summary.content
    assert window == [CALL, RESULT, AIMessage("answer", name="model"), HumanMessage([{"type": "text", "text": "more"}])]
    assert call(history, "pop", 2) == window[2:]
    snapshot = call(history, "snapshot")
    assert (snapshot.messages, snapshot.summary, snapshot.turns, snapshot.total) == (window[:2], "what was", 2, 5)
    assert 3500 < snapshot.ttl <= 3600
    call(history, "set_summary", None)
    assert call(history, "summary") is None
    assert call(history, "touch") is True
    call(history, "clear")
    assert call(history, "touch") is False
    assert call(history, "messages") == [] and call(history, "turns") == 0


def community(server: Server, admin: redis.Redis) -> list[ChatMessageHistory]:
    """Make histories as users of langchain-community do."""
    return [
        RedisChatMessageHistory("session", server.open_url, "message_store:", 600),
        RedisChatMessageHistory("session", url=server.open_url, key_prefix="message_store:", ttl=600),
        RedisChatMessageHistory(session_id="session", url=server.open_url, key_prefix="message_store:", ttl=None),
    ]


def langchain_redis(server: Server, admin: redis.Redis) -> list[ChatMessageHistory]:
    """Make histories as users of langchain-redis do."""
    return [
        RedisChatMessageHistory("session", redis_url=server.open_url, key_prefix="message_store:", ttl=600),
        RedisChatMessageHistory("session", redis_client=admin, key_prefix="message_store:", ttl=timedelta(minutes=10)),
        RedisChatMessageHistory(session_id="session", redis_client=admin, key_prefix="message_store:"),
    ]


@pytest.mark.parametrize("arguments", [community, langchain_redis])
def test_the_arguments_of_other_packages(server: Server, admin: redis.Redis, call: Call, arguments: Call) -> None:
    histories = arguments(server, admin)
    for number, history in enumerate(histories):
        call(history, "add_user_message", str(number))
    for history in histories:
        assert [message.content for message in call(history, "messages")] == ["0", "1", "2"]
    assert admin.llen("message_store::messages:{session}") == 3
    call(histories[0], "add_user_message", "more")
    assert 590 < call(histories[0], "snapshot").ttl <= 600


def test_a_session_expires_unless_it_is_used(server: Server, call: Call) -> None:
    with Memstore.from_url(server.url, ttl=0.2) as store:
        read, unread, unrefreshed = (
            store.history("a"),
            store.history("b"),
            store.history("c", refresh_ttl_on_read=False),
        )
        for history in (read, unread, unrefreshed):
            call(history, "add_user_message", "hello")

        def others_are_gone() -> bool:
            assert call(read, "messages") == [HumanMessage("hello")]
            return call(unrefreshed, "messages") == []

        wait_until(others_are_gone)
        assert call(unread, "messages") == []


def test_entries_that_are_no_messages(
    server: Server, admin: redis.Redis, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    with Memstore.from_url(server.url) as store:
        history = store.history("session")
        call(history, "add_messages", messages := [HumanMessage("one"), AIMessage("two")])
        admin.linsert(
            "conversation:messages:{session}", "before", admin.lindex("conversation:messages:{session}", 1), "?"
        )
        with caplog.at_level(logging.WARNING):
            assert call(history, "messages") == messages
        (warning,) = caplog.messages
        assert "'session'" in warning and "[1]" in warning
        with pytest.raises(MessageDecodeError, match="entry 1"):
            call(store.history("session", on_corrupt="raise"), "messages")
        assert call(history, "pop", 3) == messages


@every_server
async def test_the_sessions_of_a_store(server: Server) -> None:
    async with Memstore.from_url(server.url, max_messages=2, ttl=600) as store:
        with Memstore.from_url(server.url, key_prefix="conversation-other") as other:
            other.history("elsewhere").add_user_message("hello")
        for session_id in ("user-1/a", "user-1/b", "user-2/[a]"):
            await store.history(session_id).aadd_messages([HumanMessage("1"), AIMessage("2"), HumanMessage("3")])
        store.history("user-1/b").set_summary("short")
        found = sorted(store.sessions(), key=lambda info: info.session_id)
        assert [(i.session_id, i.messages, i.turns, i.total, i.summary) for i in found] == [
            ("user-1/a", 2, 2, 3, False),
            ("user-1/b", 2, 2, 3, True),
            ("user-2/[a]", 2, 2, 3, False),
        ]
        assert all(590 < info.ttl <= 600 and info.created <= info.updated for info in found)
        assert {info.session_id async for info in store.asessions("user-1/*")} == {"user-1/a", "user-1/b"}
        assert [info.session_id async for info in store.asessions("*[[]a]")] == ["user-2/[a]"]
        assert [info async for info in store.asessions("user-3*")] == []


@every_server
@pytest.mark.parametrize("ttl", [600, None])
@pytest.mark.parametrize("act", ["append", "read", "touch", "read of the summary"])
@pytest.mark.parametrize("kind", ["messages", "meta", "turns", "summary", "evicted"])
def test_what_others_have_done_to_one_ttl_is_undone(
    server: Server, admin: redis.Redis, call: Call, kind: str, act: str, ttl: int | None
) -> None:
    """Somebody calls EXPIRE or PERSIST on one key; the next use has all of them expire together."""
    options = HistoryOptions(ttl=ttl, max_messages=2, summarizer=lambda *_: "short", summarize="manual")
    with Memstore.from_url(server.url, **options) as store:
        history = store.history("session")
        call(history, "add_messages", [HumanMessage(str(number)) for number in range(4)])
        call(history, "set_summary", "so far")
        keys = history.keys.siblings()
        assert admin.exists(*keys) == 5
        key = getattr(history.keys, kind)
        for seconds in (597, None, 5000):
            admin.persist(key) if seconds is None else admin.expire(key, seconds)
            if act == "append":
                call(history, "add_messages", [AIMessage("next")])
            elif act == "touch":
                call(history, "touch")
            else:
                call(history, "messages" if act == "read" else "summary")
            ttls = [admin.pttl(each) for each in keys]
            assert max(ttls) - min(ttls) < 1000
            assert ttls[0] == -1 if ttl is None else 590_000 < ttls[0] <= 600_000


def test_keys_agree_with_the_messages_where_reading_refreshes_no_ttl(server: Server, admin: redis.Redis) -> None:
    with Memstore.from_url(server.url, ttl=600, refresh_ttl_on_read=False) as store:
        history = store.history("session")
        history.add_messages([HumanMessage("hi")])
        admin.expire(history.keys.messages, 100)
        assert len(history.messages) == 1
        assert all(99_000 < admin.pttl(key) <= 100_000 for key in history.keys.siblings() if admin.exists(key))
