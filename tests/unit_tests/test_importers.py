"""Moving in and out, inside the process: JSON Lines, dumps and LangChain's own histories."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage, message_to_dict

from langchain_memstore import DecryptError, LocalChatMessageHistory, Memstore, codec
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.integrations.importers import (
    Histories,
    ImportReport,
    JsonDump,
    JsonLines,
    Problem,
    aexport_conversations,
    aimport_conversations,
    export_conversations,
    import_conversations,
)
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.transfer import Dump, Restore, SessionDump
from support.clock import Clock
from support.conversations import converse
from support.strategies import MESSAGES, any_text, any_values, canonical, messages

pytestmark = pytest.mark.filterwarnings("ignore:The class `InMemoryChatMessageHistory` was deprecated")

TALK = converse([[1, 0], [2, 1, 0], [0], [0]])
PLAIN = {"session_id": "s", "messages": [message_to_dict(message) for message in TALK]}


@pytest.fixture
def store(clock: Clock) -> Memstore:
    return Memstore(LocalBackend(clock=clock), summarize="manual", max_messages=6)


@pytest.fixture
def other(clock: Clock) -> Memstore:
    return Memstore(LocalBackend(clock=clock), max_messages=4, ttl=60)


def lines(*values: Any) -> JsonLines:
    """A source of lines: bytes as they are, values as JSON."""
    return JsonLines(io.BytesIO(b"\n".join(v if isinstance(v, bytes) else json.dumps(v).encode() for v in values)))


def state(store: Memstore, session_id: str = "s") -> SessionDump:
    found = store._backend.execute(Dump(SessionKeys("conversation", session_id)))
    assert found is not None
    return found


def make_session(store: Memstore, session_id: str = "s") -> None:
    history = store.history(session_id)
    for message in TALK:
        history.add_message(message)
    history.set_summary("Brief. ü")
    history.register_turn()


# Out and in again


def test_a_session_comes_back_as_it_was(store: Memstore, other: Memstore, clock: Clock) -> None:
    make_session(store)
    clock.now += 1000.25
    report = import_conversations(other, JsonLines(io.BytesIO(b"".join(export_conversations(store)))))
    assert report == ImportReport(imported=1, messages=len(TALK), waiting=report.waiting)
    assert report.complete and report.waiting > 0
    assert state(other) == state(store)
    assert state(other).ttl_ms == 86_400_000 - 1_000_250
    history = other.history("s", refresh_ttl_on_read=False)
    assert history.snapshot() == store.history("s", refresh_ttl_on_read=False).snapshot()
    assert history.search("human") == [message for message in TALK if isinstance(message, HumanMessage)]


async def test_the_async_variant_does_the_same(store: Memstore, other: Memstore) -> None:
    make_session(store)
    make_session(store, "t")
    exported: AsyncIterator[bytes] = aexport_conversations(store, "[st]")
    told: list[tuple[int, int | None]] = []
    report = await aimport_conversations(
        other, lines(*[line async for line in exported]), progress=lambda *done: told.append(done)
    )
    assert (report.imported, told) == (2, [(1, None), (2, None)])
    assert [state(other, name) for name in "st"] == [state(store, name) for name in "st"]
    assert [line async for line in aexport_conversations(other)] == list(export_conversations(store))


some_message = st.sampled_from(MESSAGES).flatmap(lambda cls: messages(cls, any_values, any_text))


@given(st.lists(some_message, min_size=1, max_size=5))
@settings(max_examples=100)
def test_every_message_comes_back_equal(said: list[BaseMessage]) -> None:
    store, other = Memstore.from_url("memory://"), Memstore.from_url("memory://")
    store.history("s").add_messages(said)
    assert import_conversations(other, lines(*export_conversations(store))).complete
    assert state(other).entries == state(store).entries
    assert canonical(other.history("s").messages) == canonical(store.history("s").messages)


def test_a_line_is_read_by_others_too(store: Memstore) -> None:
    make_session(store)
    (line,) = export_conversations(store)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    value = json.loads(line)
    said = value.pop("evicted") + value.pop("messages")
    assert said == [message_to_dict(message) for message in TALK]
    assert datetime.fromisoformat(value.pop("created")) == datetime.fromisoformat(value.pop("updated"))
    assert value == {
        "session_id": "s",
        "summary": "Brief. ü",
        "turns": 5,
        "total": len(TALK),
        "summarized": 0,
        "lost": 0,
        "summary_turns": 0,
        "ttl": 86400.0,
    }


@pytest.mark.parametrize(
    "entry",
    [
        json.dumps(message_to_dict(HumanMessage("spaces"))).encode(),
        b'{"type": "human", "data": {"content": "\\ud800", "n": NaN, "big": 123456789012345678901234567890}}',
        b' {"type":"human",\n"data":{"content":"lines"}}',
        b'{"data":{"content":"the other way round"},"type":"human"}',
        b'{"type":"human","data":{"content":"twice","content":"twice"}}',
    ],
)
def test_entries_that_others_wrote_come_back_to_the_byte(store: Memstore, other: Memstore, entry: bytes) -> None:
    store._backend.execute(Restore(SessionKeys("conversation", "s"), SessionDump((entry,), total=1), "x"))
    exported = list(export_conversations(store))
    assert exported[0].count(b"\n") == 1
    assert import_conversations(other, lines(*exported)).complete
    assert state(other).messages == (entry,)


def test_entries_that_are_no_messages_are_exported_and_refused_with_their_place(
    store: Memstore, other: Memstore
) -> None:
    entries = (b"text", b"\xff\x00", b"[1]", b'{"type":"unknown","data":{}}', codec.encode([HumanMessage("fine")])[0])
    store._backend.execute(Restore(SessionKeys("conversation", "s"), SessionDump(entries[2:], entries[:2]), "x"))
    exported = list(export_conversations(store))
    report = import_conversations(other, lines(*exported))
    assert (report.imported, report.left_out) == (0, 1)
    places = ["evicted[0]", "evicted[1]", "messages[0]", "messages[1]"]
    assert [problem.place for problem in report.problems] == [f"input, line 1, {place}" for place in places]
    assert list(other.sessions()) == []
    assert import_conversations(other, lines(*exported), skip_corrupt=True).problems == report.problems
    assert state(other).entries == entries[4:]


# In from elsewhere


def test_a_plain_conversation_keeps_all_and_gets_a_window(other: Memstore) -> None:
    report = import_conversations(other, lines(PLAIN))
    assert (report.imported, report.messages, report.complete) == (1, len(TALK), True)
    found = state(other)
    assert found.entries == codec.encode(TALK)
    assert (found.turns, found.total, found.ttl_ms) == (4, len(TALK), 60_000)
    assert report.waiting == len(found.evicted) == len(TALK) - 4
    assert other.history("s").messages == TALK[-4:]
    whole = Memstore.from_url("memory://", max_messages=None)
    assert import_conversations(whole, lines(PLAIN)).waiting == 0
    assert whole.history("s").messages == TALK


def test_the_window_of_a_plain_conversation_is_legal() -> None:
    calls = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": i} for i in "abc"])
    said = [HumanMessage("q"), calls, *(ToolMessage("found", tool_call_id=i) for i in "abc")]
    store = Memstore.from_url("memory://", max_messages=2)
    import_conversations(store, Histories({"s": _history(said)}))
    assert store.history("s").messages == said[1:]
    assert store.history("s").snapshot().evicted == 1


def test_what_waits_is_summarised_later() -> None:
    store = Memstore.from_url(
        "memory://", max_messages=2, summarizer=lambda previous, messages: f"{len(messages)} more"
    )
    import_conversations(store, lines(PLAIN))
    assert store.compact_due() == 0  # four turns have passed, and five make it due
    assert store.history("s").compact()
    snapshot = store.history("s").snapshot()
    assert (snapshot.summary, snapshot.evicted, snapshot.summarized) == (
        f"{len(TALK) - 2} more",
        0,
        len(TALK) - 2,
    )


def _history(said: list[Any]) -> InMemoryChatMessageHistory:
    history = InMemoryChatMessageHistory()
    history.add_messages(said)
    return history


def test_histories_of_langchain(other: Memstore) -> None:
    said = [HumanMessage("hi", additional_kwargs={"at": b"\x00"}), AIMessage("hello", id="1")]
    kept = {"a": _history(said), "b": _history([]), "c": LocalChatMessageHistory("importers-test", name="importers")}
    kept["c"].add_messages(said)
    told: list[tuple[int, int | None]] = []
    report = import_conversations(other, Histories(kept), progress=lambda *done: told.append(done))
    assert (report.imported, report.messages, report.complete) == (2, 4, True)
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert other.history("a").messages == other.history("c").messages == said
    assert other.history("a").snapshot().ttl == 60


def test_a_message_that_cannot_be_kept_is_named(other: Memstore) -> None:
    kept = {"a": _history([HumanMessage("hi"), HumanMessage("no", additional_kwargs={"x": object()})])}
    report = import_conversations(other, Histories(kept))
    assert report.left_out == 1
    assert report.problems[0].place == "'a', messages[1]"
    assert "messages[1].data.additional_kwargs.x" in report.problems[0].cause


# Encryption

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))


def encrypted(*keys: bytes, **options: Any) -> Memstore:
    return Memstore.from_url("memory://", encryption_keys=list(keys) or None, **options)


def test_what_is_encrypted_moves_to_other_keys_prefixes_and_none() -> None:
    store = encrypted(KEY, max_messages=4, summarize="manual")
    make_session(store)
    exported = list(export_conversations(store))
    said = json.loads(exported[0])
    assert said["evicted"] + said["messages"] == [message_to_dict(message) for message in TALK]
    for other in (encrypted(OTHER_KEY, key_prefix="other"), encrypted()):
        assert import_conversations(other, lines(*exported)).imported == 1
        snapshots = (each.history("s").snapshot() for each in (store, other))
        assert len({str(replace(snapshot, ttl=None)) for snapshot in snapshots}) == 1
        assert import_conversations(other, lines(*exported)).unchanged == 1
        (again,) = export_conversations(other)
        assert json.loads(again) | {"ttl": 0} == said | {"ttl": 0}


def test_an_import_is_encrypted_and_names_nothing_of_what_was_said() -> None:
    store = encrypted(KEY)
    line = json.dumps({**PLAIN, "summary": "secret"}).encode()
    assert import_conversations(store, lines(line)).imported == 1
    kept = state(store)
    assert all(b'"sealed":"' in entry and b"human 0" not in entry for entry in kept.entries)
    assert "secret" not in kept.summary
    assert store.history("s").summary == "secret"
    plain = encrypted()
    import_conversations(plain, lines(line))
    origins = {
        each._backend._state.sessions.find(SessionKeys("conversation", "s")).origin  # type: ignore[attr-defined]
        for each in (store, plain)
    }
    assert len(origins) == 2


@pytest.mark.parametrize("keys", [(), (OTHER_KEY,)])
def test_what_cannot_be_decrypted_is_not_exported(keys: tuple[bytes, ...]) -> None:
    store = encrypted(KEY)
    make_session(store)
    blind = Memstore(store._backend, encryption_keys=list(keys) or None)
    with pytest.raises(DecryptError, match="'s'"):
        list(export_conversations(blind))


# What exists, and repetitions


def test_what_exists_is_left_alone_unless_forced(other: Memstore) -> None:
    other.history("s").add_user_message("mine")
    report = import_conversations(other, lines(PLAIN, {**PLAIN, "session_id": "t"}))
    assert (report.imported, report.existing, report.complete) == (1, ["s"], False)
    assert [message.text for message in other.history("s").messages] == ["mine"]
    report = import_conversations(other, lines(PLAIN), force=True)
    assert (report.imported, report.replaced, report.complete) == (1, 1, True)
    assert other.history("s").messages == TALK[-4:]


class _Interrupted(Exception):
    pass


def test_an_interrupted_import_goes_on_where_it_ended(other: Memstore) -> None:
    conversations = [{**PLAIN, "session_id": str(number)} for number in range(10)]

    def interrupt(done: int, _: int | None) -> None:
        if done == 4:
            raise _Interrupted

    with pytest.raises(_Interrupted):
        import_conversations(other, lines(*conversations), progress=interrupt)
    other.history("2").add_user_message("it is in use already")
    report = import_conversations(other, lines(*conversations))
    assert (report.imported, report.unchanged, report.complete) == (6, 4, True)
    assert other.history("2").messages[-1].text == "it is in use already"
    assert {info.session_id for info in other.sessions()} == {str(number) for number in range(10)}


def test_another_conversation_of_that_name_is_not_the_same(other: Memstore) -> None:
    import_conversations(other, lines(PLAIN))
    longer = {**PLAIN, "messages": [*PLAIN["messages"], message_to_dict(HumanMessage("since then"))]}
    assert import_conversations(other, lines(longer)).existing == ["s"]
    assert import_conversations(other, lines({**PLAIN, "summary": "and this"})).existing == ["s"]
    assert (
        import_conversations(other, lines({**PLAIN, "ttl": 5})).unchanged == 1
    )  # when it was read makes no difference


def test_a_dry_run_tells_all_and_writes_nothing(other: Memstore) -> None:
    other.history("t").add_user_message("mine")
    source = [PLAIN, {**PLAIN, "session_id": "t"}, b"{"]
    for force, replaced in ((False, 0), (True, 1)):
        dry = import_conversations(other, lines(*source), dry_run=True, force=force)
        assert (dry.imported, dry.replaced, dry.left_out) == (1 + replaced, replaced, 1)
        assert [info.session_id for info in other.sessions()] == ["t"]
    dry = import_conversations(other, lines(*source), dry_run=True)
    assert import_conversations(other, lines(*source)) == dry


# What cannot be read


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (b"{", "not a conversation: Expecting"),
        (b"\xff", "not a conversation"),
        (b"[]", "an object"),
        ({"messages": []}, "session_id must be a non-empty text"),
        ({"session_id": "", "messages": []}, "session_id"),
        ({"session_id": 7, "messages": []}, "session_id"),
        ({"session_id": "\ud800", "messages": []}, "session_id must be text that UTF-8 can encode"),
        ({"session_id": "s"}, "messages must be a list"),
        ({"session_id": "s", "messages": {}}, "messages must be a list"),
        ({**PLAIN, "evicted": 3}, "evicted must be a list"),
        ({**PLAIN, "total": -1}, "total must be a whole number"),
        ({**PLAIN, "total": 1, "turns": True}, "turns must be a whole number"),
        ({**PLAIN, "total": 1, "lost": 1.5}, "lost must be a whole number"),
        ({**PLAIN, "summary": ["x"]}, "summary must be"),
        ({**PLAIN, "ttl": -1}, "ttl must be seconds"),
        ({**PLAIN, "ttl": "soon"}, "ttl must be seconds"),
        ({**PLAIN, "created": "yesterday"}, "not a conversation"),
        ({**PLAIN, "created": "2026-01-01T00:00:00"}, "offset"),
        ({**PLAIN, "updated": 17}, "updated must be a time"),
        ({**PLAIN, "messages": ["{"]}, "not a message"),
        ({**PLAIN, "messages": [{"base64": "?"}]}, "not a message"),
        ({**PLAIN, "messages": [None]}, "not a message"),
        ({**PLAIN, "messages": [{"type": "human"}]}, "not a message"),
    ],
)
def test_a_line_that_is_no_conversation_is_reported_with_its_number(other: Memstore, line: Any, cause: str) -> None:
    report = import_conversations(other, lines({**PLAIN, "session_id": "t"}, b"", line))
    assert (report.imported, report.left_out) == (1, 1)
    (problem,) = report.problems
    assert problem.place.startswith("input, line 3")
    assert cause in problem.cause
    assert [info.session_id for info in other.sessions()] == ["t"]


def test_a_file_that_is_not_there(other: Memstore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        import_conversations(other, JsonLines(tmp_path / "nowhere.jsonl"))


def test_a_file_is_read_line_by_line(other: Memstore, tmp_path: Path) -> None:
    def endless() -> Iterator[bytes]:
        yield json.dumps(PLAIN).encode()
        raise _Interrupted

    class File(io.RawIOBase):
        name = "conversations"

        def __iter__(self) -> Iterator[bytes]:
            return endless()

    with pytest.raises(_Interrupted):
        import_conversations(other, JsonLines(File()))  # type: ignore[arg-type]
    assert state(other).total == len(TALK)
    path = tmp_path / "conversations.jsonl"
    path.write_text(f"{json.dumps(PLAIN)}\nnonsense\n")
    assert import_conversations(other, JsonLines(path)).problems[0].place == f"{path}, line 2"


# Dumps of langchain-redis


def document(session_id: str, at: float, message: BaseMessage) -> dict[str, Any]:
    """A document as langchain_redis.RedisChatMessageHistory._build_message_entry makes it (0.2.6)."""
    data = {"content": message.content, "additional_kwargs": message.additional_kwargs, "type": message.type}
    if isinstance(message, ToolMessage):
        data |= {"tool_call_id": message.tool_call_id, "status": message.status}
    return {"type": message.type, "message_id": "01J", "data": data, "session_id": session_id, "timestamp": at}


def dump(*documents: Any) -> JsonDump:
    return JsonDump(io.BytesIO(b"\n".join(d if isinstance(d, bytes) else json.dumps(d).encode() for d in documents)))


def test_a_dump_of_documents_in_any_order(other: Memstore) -> None:
    call = {"index": 0, "id": "1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
    said = [
        HumanMessage("hi"),
        AIMessage("", additional_kwargs={"tool_calls": [call]}),
        ToolMessage("found", tool_call_id="1"),
    ]
    documents = [document(name, 10.5 + at, message) for at, message in enumerate(said) for name in ("a:b", "c")]
    report = import_conversations(other, dump(*documents[::-1][:3], [documents[2]], *documents[:2]))
    assert (report.imported, report.messages, report.problems) == (2, 6, [])
    for name in ("a:b", "c"):
        kept = other.history(name).messages
        assert [(message.type, message.content) for message in kept] == [(m.type, m.content) for m in said]
        assert kept[1].tool_calls == [{"name": "look", "args": {"at": 1}, "id": "1", "type": "tool_call"}]
        assert other.history(name).snapshot().ttl == 60


def test_lines_that_are_no_documents_are_reported(other: Memstore) -> None:
    good = document("a", 1, HumanMessage("hi"))
    bad = [b"(nil)", {"type": "human"}, {**good, "timestamp": "x"}, {**good, "data": 3}, {**good, "session_id": ["a"]}]
    bad += [{**good, "session_id": bad_id} for bad_id in ("\ud800", "", None)]
    report = import_conversations(other, dump(good, *bad), skip_corrupt=True)
    assert (report.imported, report.messages) == (1, 1)
    assert sorted(problem.place for problem in report.problems) == [f"input, line {n}" for n in range(2, 10)]
    assert import_conversations(other, dump(good, bad[2])) == ImportReport(
        left_out=1, problems=[Problem("input, line 2", "not a document of langchain-redis")]
    )
