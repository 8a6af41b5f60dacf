"""Histories: everything that LangChain and applications see, sync and async."""

from __future__ import annotations

import asyncio
import logging
from secrets import token_hex
from typing import Any

import pytest
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_memstore import (
    ChatMessageHistory,
    LocalChatMessageHistory,
    MemstoreError,
    MessageDecodeError,
    MessageEncodeError,
    Snapshot,
)
from langchain_memstore.history import RunHistory
from langchain_memstore.memstore import Memstore
from langchain_memstore.ops.session import Append
from langchain_memstore.window import Bounds
from support.variants import Call

HI, HELLO = HumanMessage("hi", id="1"), AIMessage("hello", id="2", response_metadata={"raw": b"bytes"})
GROUP: list[BaseMessage] = [
    AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": i, "type": "tool_call"} for i in "xy"]),
    ToolMessage("1", tool_call_id="x"),
    ToolMessage("2", tool_call_id="y"),
]
EMPTY = Snapshot(messages=[], summary=None, turns=0, total=0, evicted=0, summarized=0, lost=0, ttl=None)


@pytest.fixture
def history(store: Memstore) -> ChatMessageHistory:
    return store.history("s")


def put(history: ChatMessageHistory, *entries: bytes) -> None:
    """Store entries as they are."""
    history._backend.execute(Append(history.keys, entries, Bounds(None, None, (), ()), None))


def texts(messages: list[BaseMessage]) -> list[Any]:
    return [message.content for message in messages]


def test_it_is_what_langchain_takes_for_a_history(history: ChatMessageHistory) -> None:
    assert isinstance(history, BaseChatMessageHistory)
    assert isinstance(LocalChatMessageHistory("s"), BaseChatMessageHistory)


def test_an_unknown_session_is_empty(history: ChatMessageHistory, store: Memstore, call: Call) -> None:
    assert call(history, "messages") == []
    assert call(history, "summary") is None
    assert call(history, "turns") == 0
    assert call(history, "snapshot") == EMPTY
    assert call(history, "pop") == []
    assert call(history, "touch") is False
    assert call(history, "clear") is None
    assert call(history, "set_summary", None) is None
    assert list(store.sessions()) == []


def test_messages_come_back_in_order(history: ChatMessageHistory, call: Call) -> None:
    assert call(history, "add_messages", [HI, HELLO]) is None
    call(history, "add_message", GROUP[0])
    call(history, "add_messages", tuple(GROUP[1:]))
    assert call(history, "messages") == call(history, "messages") == [HI, HELLO, *GROUP]


def test_texts_become_messages(history: ChatMessageHistory, call: Call) -> None:
    call(history, "add_user_message", "one")
    call(history, "add_user_message", HI)
    call(history, "add_ai_message", "two")
    call(history, "add_ai_message", AIMessageChunk("three"))
    assert call(history, "messages") == [HumanMessage("one"), HI, AIMessage("two"), AIMessage("three")]
    assert call(history, "turns") == 2


def test_what_is_stored_is_apart_from_what_was_given(history: ChatMessageHistory, call: Call) -> None:
    message = HI.model_copy()
    call(history, "add_messages", [message])
    message.content = "changed"
    call(history, "messages")[0].content = "changed"
    call(history, "messages").clear()
    assert call(history, "messages") == [HI]


def test_an_empty_batch_does_nothing(history: ChatMessageHistory, store: Memstore, call: Call) -> None:
    call(history, "add_messages", [])
    call(history, "add_messages", ())
    assert list(store.sessions()) == []


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("add_messages", HI),
        ("add_messages", "hi"),
        ("add_messages", None),
        ("add_messages", iter([HI])),
        ("add_messages", [HI, None]),
        ("add_messages", [HI, "hi"]),
        ("add_messages", [HI, HumanMessage("x", x=object())]),
        ("add_message", None),
        ("add_message", [HI]),
        ("add_user_message", None),
        ("add_user_message", 5),
        ("add_ai_message", ["hi"]),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_a_batch_with_anything_wrong_stores_nothing(
    history: ChatMessageHistory, store: Memstore, call: Call, name: str, wrong: Any
) -> None:
    with pytest.raises(MessageEncodeError, match=r"^messages( must be a sequence|\[\d\])"):
        call(history, name, wrong)
    assert list(store.sessions()) == []


def test_the_window_is_bounded_and_legal(store: Memstore, call: Call) -> None:
    history = store.history("s", max_messages=3)
    call(history, "add_messages", [HI, HELLO, *GROUP])
    assert call(history, "messages") == GROUP
    call(history, "add_messages", [HELLO])
    assert call(history, "messages") == [HELLO]  # results go with their call
    call(history, "add_messages", [*GROUP, FunctionMessage("3", name="f")])
    assert texts(call(history, "messages")) == ["", "1", "2", "3"]  # the group is larger than the bound
    assert call(history, "snapshot").total == 10


def test_whole_turns_are_kept(store: Memstore, call: Call) -> None:
    history = store.history("s", max_turns=2, max_messages=None)
    for turn in range(4):
        call(history, "add_messages", [HumanMessage(f"{turn}"), *GROUP, HELLO])
    assert texts(call(history, "messages")) == ["2", "", "1", "2", "hello", "3", "", "1", "2", "hello"]
    assert call(history, "turns") == 4


def test_tokens_bound_what_is_read_and_not_what_is_kept(store: Memstore, call: Call) -> None:
    history = store.history("s", max_tokens=4, token_counter=len)
    call(history, "add_messages", [HI, HELLO, *GROUP])
    assert call(history, "messages") == [HI, *GROUP]
    call(history, "set_summary", "short")
    assert call(history, "messages") == [SystemMessage("Summary of the conversation so far:\nshort"), *GROUP]
    assert call(history, "snapshot").messages == [HI, HELLO, *GROUP]


def test_a_summary_comes_before_the_window(history: ChatMessageHistory, store: Memstore, call: Call) -> None:
    call(history, "add_messages", [HI])
    call(history, "set_summary", "They\nsaid hi. ü🔑")
    head = "Summary of the conversation so far:\nThey\nsaid hi. ü🔑"
    assert call(history, "summary") == call(history, "snapshot").summary == "They\nsaid hi. ü🔑"
    assert call(history, "messages") == [SystemMessage(head), HI]
    assert call(store.history("s", summary_role="human"), "messages") == [HumanMessage(head), HI]
    assert call(store.history("s", summary_role=None), "messages") == [HI]
    assert call(history, "snapshot").messages == call(history, "pop") == [HI]  # no summary among them
    assert call(history, "messages") == [SystemMessage(head)]


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_summary_is_replaced_and_removed(history: ChatMessageHistory, call: Call, nothing: str | None) -> None:
    call(history, "set_summary", "one")
    call(history, "set_summary", "two")
    assert call(history, "summary") == "two"
    call(history, "set_summary", nothing)
    assert call(history, "summary") is None
    assert call(history, "messages") == []


@pytest.mark.parametrize("wrong", [5, b"text", HI, ["text"]], ids=lambda value: type(value).__name__)
def test_a_summary_that_is_no_text_is_refused(history: ChatMessageHistory, call: Call, wrong: Any) -> None:
    with pytest.raises(ValueError, match="summary must be text or None"):
        call(history, "set_summary", wrong)
    assert call(history, "summary") is None


def test_a_summary_that_utf_8_cannot_encode_is_refused(history: ChatMessageHistory, call: Call) -> None:
    with pytest.raises(ValueError, match="summary"):
        call(history, "set_summary", "\ud800")


def test_turns_are_human_messages_and_those_registered(history: ChatMessageHistory, call: Call) -> None:
    call(history, "add_messages", [HI, HELLO, *GROUP, HI])
    assert call(history, "turns") == 2
    assert [call(history, "register_turn"), call(history, "register_turn")] == [3, 4]
    assert call(history, "turns") == call(history, "snapshot").turns == 4


def test_pop_takes_the_newest_with_their_turns(history: ChatMessageHistory, call: Call) -> None:
    call(history, "add_messages", [HI, HELLO, HumanMessage("again")])
    assert call(history, "pop") == [HumanMessage("again")]
    assert call(history, "turns") == 1
    assert call(history, "pop", 5) == [HI, HELLO]
    assert call(history, "pop") == []
    snapshot = call(history, "snapshot")
    assert (snapshot.messages, snapshot.turns, snapshot.total) == ([], 0, 3)


@pytest.mark.parametrize("wrong", [0, -1, True, 1.0, None, "1"])
def test_pop_of_a_wrong_count_takes_nothing(history: ChatMessageHistory, call: Call, wrong: Any) -> None:
    call(history, "add_messages", [HI])
    with pytest.raises(ValueError, match="count must be at least 1"):
        call(history, "pop", wrong)
    assert call(history, "messages") == [HI]


def test_clear_removes_all(history: ChatMessageHistory, store: Memstore, call: Call) -> None:
    call(history, "add_messages", [HI, HELLO])
    call(history, "set_summary", "They said hi.")
    call(history, "clear")
    assert call(history, "snapshot") == EMPTY
    assert list(store.sessions()) == []
    call(history, "add_messages", [HELLO])
    assert call(history, "snapshot").total == 1


def test_a_snapshot_tells_all(store: Memstore, call: Call) -> None:
    history = store.history("s", max_messages=2, ttl=60)
    call(history, "add_messages", [HI, HELLO, HI])
    call(history, "register_turn")
    call(history, "set_summary", "They said hi.")
    snapshot = call(history, "snapshot")
    assert snapshot.ttl is not None and 50 < snapshot.ttl <= 60
    assert snapshot == Snapshot(
        [HELLO, HI], "They said hi.", turns=3, total=3, evicted=0, summarized=0, lost=0, ttl=snapshot.ttl
    )


def test_a_session_without_a_ttl(store: Memstore, call: Call) -> None:
    history = store.history("s", ttl=None)
    call(history, "add_messages", [HI])
    assert call(history, "snapshot").ttl is None
    assert call(store.history("s", ttl=60), "touch") is True
    assert 50 < call(history, "snapshot").ttl <= 60
    assert call(history, "snapshot").ttl is None  # reading set the TTL of the history that read


def test_two_histories_of_a_session_are_one_conversation(store: Memstore, call: Call) -> None:
    call(store.history("s"), "add_messages", [HI])
    call(store.history("s"), "add_messages", [HELLO])
    assert call(store.history("s"), "messages") == [HI, HELLO]
    assert call(store.history("t"), "messages") == []
    assert call(store.history("s", key_prefix="other"), "messages") == []


@pytest.mark.parametrize(
    "session_id", ["{}", "}{", "%7B", "*", "a\0b\n", "ü 🔑", ":", "x" * 10_000], ids=lambda i: i[:5]
)
def test_any_text_is_a_session_id(store: Memstore, call: Call, session_id: str) -> None:
    call(store.history(session_id), "add_messages", [HI])
    call(store.history(session_id + "x"), "add_messages", [HELLO])
    assert call(store.history(session_id), "messages") == [HI]
    assert {info.session_id for info in store.sessions()} == {session_id, session_id + "x"}


@pytest.mark.parametrize("wrong", ["", None, 5, b"s", "\ud800"], ids=repr)
def test_what_is_no_session_id_is_refused(store: Memstore, wrong: Any) -> None:
    for make in (store.history, store.get_session_history, LocalChatMessageHistory):
        with pytest.raises(ValueError, match="session_id must be"):
            make(wrong)


@pytest.mark.parametrize("read", ["messages", "snapshot"])
def test_an_entry_that_is_no_message_is_skipped_with_one_warning(
    history: ChatMessageHistory, call: Call, caplog: pytest.LogCaptureFixture, read: str
) -> None:
    call(history, "add_messages", [HI])
    put(history, b"junk secret", b'{"type":"human"}')
    call(history, "add_messages", [HELLO])
    put(history, b"")
    with caplog.at_level(logging.DEBUG, logger="langchain_memstore"):
        found = call(history, read)
    assert (found if read == "messages" else found.messages) == [HI, HELLO]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "session 's': skipped entries that are not messages, at index [1, 2, 4]"


@pytest.mark.parametrize("read", ["messages", "snapshot"])
def test_an_entry_that_is_no_message_raises_when_told_to(store: Memstore, call: Call, read: str) -> None:
    history = store.history("s", on_corrupt="raise")
    call(history, "add_messages", [HI])
    put(history, b"junk secret")
    with pytest.raises(MessageDecodeError, match=r"session 's', entry 1: not a message") as caught:
        call(history, read)
    assert "secret" not in str(caught.value)
    assert isinstance(caught.value, MemstoreError)
    assert call(history, "turns") == 1  # what needs no messages can be read


def test_a_pop_skips_what_is_no_message(history: ChatMessageHistory, call: Call) -> None:
    call(history, "add_messages", [HI])
    put(history, b"junk")
    assert call(history, "pop", 2) == [HI]
    assert call(history, "messages") == []


def test_what_another_history_stored_is_read(history: ChatMessageHistory, call: Call) -> None:
    put(history, b'{"type": "human", "data": {"content": "hi", "score": NaN}}')
    (message,) = call(history, "messages")
    assert (message.content, repr(message.score)) == ("hi", "nan")


def test_it_shows_itself(history: ChatMessageHistory) -> None:
    history.add_messages([HI, HELLO])
    assert str(history) == "Human: hi\nAI: hello"
    assert repr(history) == "ChatMessageHistory(session_id='s', backend=LocalBackend(sessions=1))"


def test_histories_of_a_name_share_a_store(call: Call) -> None:
    name = token_hex(4)
    call(LocalChatMessageHistory("s", name=name, max_messages=1), "add_messages", [HI, HELLO])
    assert call(LocalChatMessageHistory("s", name=name), "messages") == [HELLO]
    assert call(LocalChatMessageHistory("s", name=f"{name}x"), "messages") == []


def test_a_history_without_a_store_lives_in_the_store_named_default(call: Call) -> None:
    session_id = token_hex(4)
    call(LocalChatMessageHistory(session_id), "add_messages", [HI])
    assert call(Memstore.from_url("memory://default").history(session_id), "messages") == [HI]


async def test_tasks_append_at_once(store: Memstore) -> None:
    history = store.history("s", max_messages=None)
    await asyncio.gather(*[history.aadd_messages([HI, HELLO]) for _ in range(100)])
    assert await history.aget_messages() == [HI, HELLO] * 100
    assert await history.aget_turns() == 100


def test_a_view_of_one_run_keeps_its_first_read(store: Memstore, call: Call) -> None:
    call(store.history("s"), "add_messages", [HI])
    view = store.get_session_history("s")
    assert isinstance(view, RunHistory)
    assert call(view, "messages") == [HI]
    call(view, "add_messages", [HELLO])
    call(view, "messages").clear()
    assert call(view, "messages") == [HI]
    assert call(store.get_session_history("s"), "messages") == call(store.history("s"), "messages") == [HI, HELLO]
    assert call(view, "turns") == 1
