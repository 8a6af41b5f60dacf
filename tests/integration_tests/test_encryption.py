"""Encryption at rest on servers: nothing lies there in clear, nothing opens elsewhere, and windows stay legal."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_memstore import DecryptError, Memstore, RedisChatMessageHistory, RunnableWithHistory
from langchain_memstore.keys import SessionKeys
from support.contents import everything
from support.conversations import converse
from support.servers import Server, every_server
from support.waiting import wait_until

OLD, NEW = bytes(range(32)), b"\xff" * 32
SECRET, DIGEST = "word-of-Ada", "digest-of-Ada"


@pytest.fixture
def store(server: Server) -> Iterator[Memstore]:
    with Memstore.from_url(server.url, encryption_keys=[OLD]) as store:
        yield store


@contextmanager
def other_store(server: Server, **options: Any) -> Iterator[Memstore]:
    with Memstore.from_url(server.url, **options) as store:
        yield store


@every_server
async def test_nothing_lies_there_in_clear(server: Server, admin: redis.Redis) -> None:
    given: list[Any] = []

    def summarizer(previous: str, messages: list[BaseMessage]) -> str:
        given.append((previous, [message.text for message in messages]))
        return f"{SECRET}, {DIGEST}"

    options = {"summarizer": summarizer, "max_messages": 4, "summarize_every": 1, "encryption_keys": [OLD]}
    call = {"name": SECRET, "args": {SECRET: SECRET}, "id": SECRET}
    talk = [HumanMessage(SECRET, name=SECRET), AIMessage(SECRET, tool_calls=[call])]
    talk += [ToolMessage(SECRET, tool_call_id=SECRET, artifact=SECRET.encode()), AIMessage(SECRET)]
    async with Memstore.from_url(server.url, **options) as store:
        history = store.history("s")
        with server.admin() as watching, watching.monitor() as monitor:
            commands = monitor.listen()
            history.add_messages(talk)
            await history.aadd_messages(talk)
            assert history.pop() == [talk[3]]
            history.set_summary(SECRET)
            history.add_messages(talk)
            await history.aset_summary(f"{SECRET} {SECRET}")
            assert history.messages[0] == SystemMessage(f"Summary of the conversation so far:\n{SECRET} {SECRET}")
            admin.echo("end")
            seen = [next(commands)["command"]]
            while seen[-1] != "ECHO end":
                seen.append(next(commands)["command"])
        assert SECRET not in "".join(seen) and DIGEST not in "".join(seen)
        held = repr(everything(admin))
        assert SECRET not in held and DIGEST not in held
        assert held.count('"sealed"') >= 3
        assert [previous for previous, _ in given] == ["", SECRET]
        assert all(text == SECRET for _, texts in given for text in texts)
        assert [hit.message for hit in store.search(SECRET.upper())] == history.search(SECRET)


@every_server
@pytest.mark.parametrize("options", [{"encryption_keys": [NEW]}, {}], ids=["wrong key", "no key"])
async def test_what_cannot_be_opened_raises_and_changes_nothing(
    server: Server, admin: redis.Redis, store: Memstore, options: dict[str, Any]
) -> None:
    good = store.history("s", max_messages=4, summarizer=lambda *_: "new", summarize="manual")
    good.set_summary("so far")
    good.add_messages(converse([[2], [1]]))
    before, as_stored = good.snapshot(), everything(admin)
    with other_store(server, **options, summarizer=lambda *_: "lost", summarize="manual", summarize_every=1) as other:
        history = other.history("s")
        for read in (history.asnapshot, history.aget_messages, history.aget_summary):
            with pytest.raises(DecryptError, match="session 's'"):
                await read()
        for call in (history.snapshot, lambda: history.search("x"), lambda: list(other.search("x"))):
            with pytest.raises(DecryptError, match="session 's'"):
                call()
        assert everything(admin) == as_stored
        for call in (history.compact, other.compact_due):
            with pytest.raises(DecryptError, match="session 's'"):
                call()
        assert everything(admin).keys() == as_stored.keys()  # the claim was given up
        with pytest.raises(DecryptError, match="session 's'"):
            history.pop(2)
        with pytest.raises(DecryptError, match="session 's'"):
            await history.apop(9)
        await other.aclose()
    after = good.snapshot()
    assert replace(after, total=0, ttl=None) == replace(before, total=0, ttl=None)
    assert good.compact() and good.summary == "new"


@every_server
def test_nothing_opens_in_another_place(server: Server, admin: redis.Redis, store: Memstore) -> None:
    store.history("one").add_messages([HumanMessage("Pay Ada."), HumanMessage("Pay Bob.")])
    store.history("one").set_summary("All is paid.")
    with other_store(server, encryption_keys=[OLD], key_prefix="conversation-2") as second:
        for target in (store.history("two"), second.history("one")):
            target.add_user_message("Hello.")
            target.set_summary("Nothing yet.")
            here, there = SessionKeys("conversation", "one"), target.keys
            for source, place, index in ((here.messages, there.messages, 1), (here.summary, there.messages, 1)):
                value = admin.lindex(source, 0) if source == here.messages else admin.get(source)
                admin.rpush(place, value)
                with pytest.raises(DecryptError, match=f"its entry {index} was changed .* or moved here"):
                    target.snapshot()
                admin.rpop(place)
            kept = admin.get(there.summary)
            for value in (admin.get(here.summary), admin.lindex(there.messages, 0), b"Obey."):
                admin.set(there.summary, value)
                with pytest.raises(DecryptError, match=r"its summary (was changed|is not encrypted)"):
                    target.snapshot()
            admin.set(there.summary, kept)
            assert target.snapshot().summary == "Nothing yet."
    # What lies elsewhere in the same session is the same entry.
    history = store.history("one", max_messages=1, summarize="manual")
    history.add_user_message("Pay nobody.")
    assert admin.llen(history.keys.evicted) == 2
    assert [message.text for message in history.search("pay")] == ["Pay Ada.", "Pay Bob.", "Pay nobody."]


@every_server
def test_keys_rotate_while_a_conversation_goes_on(server: Server) -> None:
    talk = converse([[1], [2], [0], [1]])
    for keys, message in zip([[OLD], [NEW, OLD]] * 6, talk, strict=False):
        history = RedisChatMessageHistory("s", server.url, encryption_keys=[*keys], max_messages=None)
        history.add_message(message)
    with other_store(server, encryption_keys=[NEW, OLD], max_messages=None) as store:
        assert store.history("s").messages == talk[:12]


@every_server
def test_runs(store: Memstore) -> None:
    chat = RunnableWithHistory(FakeListChatModel(responses=["Hello, Ada.", "You are Ada."]), store.history)
    for question in ("I am Ada.", "Who am I?"):
        chat.invoke(question, {"configurable": {"session_id": "s"}})
    texts = [message.text for message in store.history("s").messages]
    assert texts == ["I am Ada.", "Hello, Ada.", "Who am I?", "You are Ada."]


@every_server
def test_an_outage_is_passed_encrypted(start_server: Callable[..., Server], tmp_path: Path) -> None:
    server, journal = start_server("--appendonly", "yes", "--appendfsync", "always"), tmp_path / "journal"
    options: dict[str, Any] = {"encryption_keys": [OLD], "fallback": str(journal)}
    with Memstore.from_url(server.open_url, **options) as store:
        history = store.history("s")
        history.add_user_message(f"{SECRET} 1")
        assert history.messages
        server.kill()
        history.add_ai_message(f"{SECRET} 2")
        history.set_summary(SECRET)
        assert [message.text for message in store.history("s", summary_role=None).messages] == [
            f"{SECRET} 1",
            f"{SECRET} 2",
        ]
        with pytest.raises(DecryptError, match="not among encryption_keys"):
            store.history("s", encryption_keys=[NEW]).snapshot()
        written = journal.read_bytes()
        assert store.status.pending >= 2 and b"Append" not in written
        assert SECRET.encode() not in written and base64.b64encode(SECRET.encode())[:12] not in written
        server.start()
        wait_until(lambda: not store.status.pending, 20)
    with Memstore.from_url(server.open_url, encryption_keys=[OLD], fallback=False) as store:
        snapshot = store.history("s").snapshot()
        assert [message.text for message in snapshot.messages] == [f"{SECRET} 1", f"{SECRET} 2"]
        assert (snapshot.summary, snapshot.total) == (SECRET, 2)


turns = st.lists(st.lists(st.integers(0, 3), max_size=3), max_size=6)


@every_server
def test_windows_are_as_without_keys(server: Server, admin: redis.Redis) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(turns, st.none() | st.integers(1, 7), st.none() | st.integers(1, 3), st.sampled_from(["pairs", "turns"]))
    def run(turns: Any, max_messages: Any, max_turns: Any, window: Any) -> None:
        admin.flushall()
        options = {"max_messages": max_messages, "max_turns": max_turns, "window": window, "summarize": "manual"}
        with (
            other_store(server, **options, encryption_keys=[OLD]) as sealed,
            other_store(server, **options) as plain,
        ):
            one, two = sealed.history("sealed"), plain.history("plain")
            for message in converse(turns):
                one.add_message(message)
                two.add_message(message)
            assert replace(one.snapshot(), ttl=None) == replace(two.snapshot(), ttl=None)
            assert one.search("1") == two.search("1")
            assert one.pop(3) == two.pop(3)
            assert replace(one.snapshot(), ttl=None) == replace(two.snapshot(), ttl=None)

    run()
