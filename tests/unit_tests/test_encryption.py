"""Encryption at rest: what is stored opens with its key, in its place, unchanged, as what it is, and not otherwise."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory

from langchain_memstore import (
    DecryptError,
    LocalChatMessageHistory,
    Memstore,
    MemstoreError,
    MessageDecodeError,
    RedisChatMessageHistory,
    RunnableWithHistory,
    codec,
)
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.codec.encryption import KeyRing
from langchain_memstore.codec.session import SessionCodec
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.session import Append, Pop, SetSummary
from langchain_memstore.options import Policy
from support.conversations import batches, converse
from support.strategies import MESSAGES, any_values, canonical, messages

OLD, NEW = bytes(range(32)), b"\xff" * 32
SECRET = "word-of-Ada"
TALK = converse([[2, 1], [0]])

names = st.text(min_size=1, max_size=8)


def coder(prefix: str = "p", session_id: str = "s", **options: Any) -> SessionCodec:
    """The codec of a session, with a key unless the options say otherwise."""
    return Policy(**{"encryption_keys": [OLD], **options}).session_codec(SessionKeys(prefix, session_id))


def texts(messages: list[BaseMessage]) -> list[str]:
    return [message.text for message in messages]


@pytest.fixture
def store(backend: LocalBackend) -> Memstore:
    return Memstore(backend, encryption_keys=[OLD])


# Values


@given(st.lists(st.one_of(*[messages(cls, any_values) for cls in MESSAGES]), max_size=3), names, names)
def test_messages_come_back_equal(talk: list[BaseMessage], prefix: str, session_id: str) -> None:
    codec_here = coder(prefix, session_id)
    entries = codec_here.encode(talk)
    assert [canonical(message) for message in codec_here.decode(list(entries))] == [canonical(each) for each in talk]
    for entry, plain in zip(entries, codec.encode(talk), strict=True):
        value = json.loads(entry)
        assert list(value) == ["type", "sealed"]
        assert entry.split(b",")[0] == plain.split(b",")[0]
        assert plain[:40] not in base64.b64decode(value["sealed"])


@given(st.text())
def test_summaries_come_back_equal(summary: str) -> None:
    stored = coder().encode_summary(summary)
    assert coder().decode_summary(stored) == summary
    assert bool(stored) is bool(summary)


def test_the_same_is_never_sealed_the_same() -> None:
    sealed = {entry for _ in range(100) for entry in coder().encode([HumanMessage(SECRET)])}
    assert len(sealed) == 100


@given(st.data(), names, names)
def test_no_byte_can_be_changed(data: st.DataObject, prefix: str, session_id: str) -> None:
    here = coder(prefix, session_id)
    (entry,) = here.encode([HumanMessage(SECRET)])
    at = data.draw(st.integers(0, len(entry) - 1))
    change = data.draw(st.sampled_from(["flip", "drop", "insert", "cut"]))
    if change == "flip":
        changed = entry[:at] + bytes([entry[at] ^ data.draw(st.integers(1, 255))]) + entry[at + 1 :]
    elif change == "drop":
        changed = entry[:at] + entry[at + 1 :]
    elif change == "insert":
        changed = entry[:at] + data.draw(st.binary(min_size=1, max_size=4)) + entry[at:]
    else:
        changed = entry[:at]
    with contextlib.suppress(DecryptError):
        assert here.decode([changed]) == [HumanMessage(SECRET)]
        # Not refused: base64 has bits at its end that mean nothing, and what is inserted may be what follows anyway.
        assert base64.b64decode(json.loads(changed)["sealed"]) == base64.b64decode(json.loads(entry)["sealed"])


@pytest.mark.parametrize("part", range(4), ids=["key's name", "nonce", "text", "tag"])
def test_every_part_is_authenticated(part: int) -> None:
    (entry,) = coder().encode([HumanMessage(SECRET)])
    value = json.loads(entry)
    data = bytearray(base64.b64decode(value["sealed"]))
    start, end = [(0, 6), (6, 18), (18, len(data) - 16), (len(data) - 16, len(data))][part]
    for at in range(start, end):
        data[at] ^= 1
        changed = json.dumps({**value, "sealed": base64.b64encode(data).decode()}, separators=(",", ":")).encode()
        with pytest.raises(DecryptError, match="not among encryption_keys" if part == 0 else "was changed"):
            coder().decode([changed])
        data[at] ^= 1


def test_the_type_is_authenticated() -> None:
    (entry,) = coder().encode([HumanMessage(SECRET)])
    for kind in ("ai", "system", "tool", "summary", "", "human\\u0000"):
        with pytest.raises(DecryptError, match="was changed"):
            coder().decode([entry.replace(b"human", kind.encode())])


@given(st.lists(st.tuples(names, names), min_size=2, max_size=2, unique=True))
def test_nothing_opens_elsewhere(places: list[tuple[str, str]]) -> None:
    here, there = (coder(*place) for place in places)
    with pytest.raises(DecryptError, match="entry 0 was changed since it was encrypted, or moved"):
        there.decode(list(here.encode([HumanMessage(SECRET)])))
    with pytest.raises(DecryptError, match="summary was changed since it was encrypted, or moved"):
        there.decode_summary(here.encode_summary(SECRET))


@pytest.mark.parametrize("places", [(("a", "bc"), ("ab", "c")), (("a:messages", "b"), ("a", "b")), (("a",), ("", "a"))])
def test_names_of_a_place_do_not_run_into_each_other(places: list[tuple[str, ...]]) -> None:
    here, there = (KeyRing([OLD]).cipher(*place) for place in places)
    with pytest.raises(DecryptError):
        there.unseal(here.seal(b"value", b"kind"), b"kind")


def test_a_summary_is_no_entry_and_an_entry_no_summary() -> None:
    (entry,) = coder().encode([HumanMessage(SECRET)])
    with pytest.raises(DecryptError, match="summary was changed"):
        coder().decode_summary(entry.decode())
    summary = coder().encode_summary(codec.encode([HumanMessage("Obey.")])[0].decode())
    for kind in ("summary", "human"):
        with pytest.raises(DecryptError, match="entry 0 was changed"):
            coder().decode([summary.replace("summary", kind).encode()])


# Keys


@pytest.mark.parametrize(
    "write",
    [
        bytes,
        base64.urlsafe_b64encode,
        base64.b64encode,
        lambda key: base64.urlsafe_b64encode(key).decode(),
        lambda key: base64.urlsafe_b64encode(key).decode().rstrip("="),
        lambda key: base64.urlsafe_b64encode(key) + b"\n",
    ],
)
def test_a_key_is_bytes_or_base64(write: Callable[[bytes], Any]) -> None:
    for key in (OLD, NEW, os.urandom(32), b"A" * 32):
        entries = coder(encryption_keys=[key]).encode(TALK)
        assert coder(encryption_keys=(write(key),)).decode(list(entries)) == TALK
    Policy(encryption_keys=[Fernet.generate_key(), Fernet.generate_key().decode()])


FERNET_KEY = base64.urlsafe_b64encode(OLD)  # the same in every process: it is part of the names of tests
MALFORMED = ["hunter2", b"hunter2", "", b"", b"hunter2" * 5, "hunter2" * 8, "\ud800hunter2", "é" * 43, 5, None]
MALFORMED += [bytearray(32), FERNET_KEY.decode()[1:], "hunter2=" + FERNET_KEY.decode()]
MALFORMED += [base64.b64encode(b"hunter2" * 4), base64.b64encode(b"hunter2" * 5)]


@pytest.mark.parametrize("key", MALFORMED, ids=repr)
@pytest.mark.parametrize(
    "make",
    [
        Policy,
        lambda **options: Memstore.from_url("memory://", **options),
        lambda **options: Memstore.from_url("redis://localhost:1", **options),
        lambda **options: Memstore(LocalBackend(), **options),
        lambda **options: Memstore.from_url("memory://").history("s", **options),
        lambda **options: LocalChatMessageHistory("s", **options),
        lambda **options: RedisChatMessageHistory("s", "redis://localhost:1", **options),
    ],
    ids=["policy", "local store", "Redis store", "store", "history", "local history", "Redis history"],
)
def test_a_malformed_key_is_refused_by_its_place_and_not_shown(make: Any, key: Any) -> None:
    with pytest.raises(ValueError, match=r"^encryption_keys\[1\] must be 32 bytes") as caught:
        make(encryption_keys=[OLD, key])
    shown = str(caught.value) + repr(caught.value.__context__) + repr(caught.value.__cause__)
    assert "hunter2" not in shown and "aHVudGVy" not in shown


@pytest.mark.parametrize("keys", [[], (), "hunter2", FERNET_KEY, {OLD}, 5])
def test_what_is_no_list_of_keys_is_refused(keys: Any) -> None:
    with pytest.raises(ValueError, match=r"^encryption_keys must (hold at least one key|be a list)") as caught:
        Policy(encryption_keys=keys)
    assert "hunter2" not in str(caught.value)


def test_the_environment_gives_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    new, old = Fernet.generate_key().decode(), base64.b64encode(OLD).decode()
    monkeypatch.setenv("MEMSTORE_ENCRYPTION_KEYS", f"{new}, {old}")
    entries = coder().encode([HumanMessage(SECRET)])
    history = Memstore.from_env(key_prefix="p").history("s")
    history._backend.execute(Append(history.keys, entries, history._bounds, None))
    history.add_user_message("more")
    assert texts(history.messages) == [SECRET, "more"]
    for wrong in ("hunter2", f"{new},hunter2", ",", f"{new},"):
        monkeypatch.setenv("MEMSTORE_ENCRYPTION_KEYS", wrong)
        with pytest.raises(ValueError, match=r"encryption_keys\[\d\] must be") as caught:
            Memstore.from_env()
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_keys_are_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = Fernet.generate_key()
    store = Memstore.from_url("memory://", encryption_keys=[key], summarizer=lambda *_: 1 / 0, max_messages=1)
    history = store.history("s")
    history.add_messages([HumanMessage(str(number)) for number in range(12)])
    wrong = store.history("s", encryption_keys=[NEW, Fernet.generate_key()])
    with pytest.raises(DecryptError) as caught:
        _ = wrong.messages
    shown = repr(store) + repr(history) + repr(history._policy) + repr(store.status) + caplog.text
    shown += repr(vars(history._policy)) + "".join(traceback.format_exception(caught.value))
    raw = base64.urlsafe_b64decode(key)
    for secret in (key.decode(), repr(raw)[2:-1], raw.hex(), repr(NEW)[2:-1]):
        assert secret not in shown
    assert "KeyRing(keys=1)" in shown


def test_without_the_package_the_extra_is_named() -> None:
    code = """
import sys
sys.modules["cryptography"] = None
from langchain_memstore import Memstore
Memstore.from_url("memory://").history("s").add_user_message("hi")
try:
    Memstore.from_url("memory://", encryption_keys=[bytes(32)])
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "langchain-memstore[encryption]" in done.stdout


def test_a_store_without_keys_does_not_load_the_package() -> None:
    code = """
import sys
from langchain_memstore import Memstore
history = Memstore.from_url("memory://").history("s")
history.add_user_message("hi"), history.messages, history.set_summary("hi"), history.summary
print([name for name in sys.modules if "cryptography" in name or name == "langchain_memstore.encryption"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# Histories


def test_keys_rotate(backend: LocalBackend) -> None:
    def history(*keys: bytes) -> Any:
        return Memstore(backend, encryption_keys=keys).history("s")

    history(OLD).add_user_message("one")
    history(OLD).set_summary("so far")
    history(NEW, OLD).add_user_message("two")
    assert texts(history(NEW, OLD).messages[1:]) == ["one", "two"]
    assert history(OLD, NEW).summary == "so far"
    for short, index in (((OLD,), 1), ((NEW,), 0)):
        with pytest.raises(DecryptError, match=rf"its entry {index} was encrypted with a key that is not among"):
            history(*short).snapshot()
    history(NEW, OLD).set_summary("anew")
    assert history(NEW).summary == "anew"


READS: dict[str, Callable[[Any, Memstore], Any]] = {
    "messages": lambda history, store: history.messages,
    "snapshot": lambda history, store: history.snapshot(),
    "summary": lambda history, store: history.summary,
    "pop": lambda history, store: history.pop(2),
    "search": lambda history, store: history.search("nothing of it"),
    "store.search": lambda history, store: list(store.search("nothing of it")),
    "compact": lambda history, store: history.compact(),
    "compact_due": lambda history, store: store.compact_due(),
    "str": lambda history, store: str(history),
    "run": lambda history, store: store.get_session_history("s").messages,
}
OPTIONS: dict[str, dict[str, Any]] = {"wrong key": {"encryption_keys": [NEW]}, "no key": {}}


async def _areads(name: str, history: Any, store: Memstore) -> Any:
    if name == "messages":
        return await history.aget_messages()
    if name == "summary":
        return await history.aget_summary()
    if name == "store.search":
        return [hit async for hit in store.asearch("nothing of it")]
    if name == "compact_due":
        return await store.acompact_due()
    if name == "run":
        return await store.get_session_history("s").aget_messages()
    return await getattr(history, f"a{name}")(*{"pop": (2,), "search": ("nothing of it",)}.get(name, ()))


@pytest.mark.parametrize("on_corrupt", ["skip", "raise"])
@pytest.mark.parametrize(
    ("name", "variant"),
    [(name, variant) for name in READS for variant in ("sync", "async") if (name, variant) != ("str", "async")],
)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
async def test_what_cannot_be_opened_raises_and_changes_nothing(
    backend: LocalBackend, options: dict[str, Any], name: str, on_corrupt: Any, variant: str
) -> None:
    summaries = {"summarizer": lambda previous, messages: "new", "summarize": "manual", "summarize_every": 1}
    good = Memstore(backend, encryption_keys=[OLD], max_messages=2, **summaries).history("s")
    good.set_summary("so far")
    good.add_messages([HumanMessage(f"text {number}") for number in range(5)])
    before = good.snapshot()
    store = Memstore(backend, on_corrupt=on_corrupt, **summaries, **options)
    expected = "encrypted with a key that is not among encryption_keys" if options else "is encrypted; pass"
    with pytest.raises(DecryptError, match=rf"session 's'.* its (entry \d|summary) .*{expected}") as caught:
        await _areads(name, store.history("s"), store) if variant == "async" else READS[name](store.history("s"), store)
    assert not isinstance(caught.value, MessageDecodeError) and isinstance(caught.value, MemstoreError)
    after = good.snapshot()
    assert replace(after, ttl=None, total=0) == replace(before, ttl=None, total=0)
    assert good.compact()
    assert good.summary == "new"


def test_what_was_stored_before_there_were_keys(backend: LocalBackend) -> None:
    Memstore(backend).history("s").add_messages(TALK)
    store = Memstore(backend, encryption_keys=[OLD])
    with pytest.raises(DecryptError, match=r"entry 0 is not encrypted; .* accept_plaintext=True"):
        _ = store.history("s").messages
    store.history("t").add_messages(TALK)
    Memstore(backend).history("t").set_summary('In clear, {"type":"summary","sealed":"')
    with pytest.raises(DecryptError, match=r"summary is not encrypted; .* accept_plaintext=True"):
        _ = store.history("t").messages
    store = Memstore(backend, encryption_keys=[OLD], accept_plaintext=True)
    store.history("s").add_user_message("more")
    assert store.history("s").messages == [*TALK, HumanMessage("more")]
    assert store.history("t").summary == 'In clear, {"type":"summary","sealed":"'
    store.history("s").set_summary(SECRET)
    assert Memstore(backend, encryption_keys=[OLD]).history("s").summary == SECRET
    wrong = Memstore(backend, encryption_keys=[NEW], accept_plaintext=True)
    with pytest.raises(DecryptError, match="not among"):
        _ = wrong.history("s").messages


def test_entries_that_are_nothing_at_all(store: Memstore, backend: LocalBackend) -> None:
    history = store.history("s")
    history.add_messages(TALK)
    backend.execute(Append(history.keys, (b"junk",), history._bounds, None))
    with pytest.raises(DecryptError, match=f"entry {len(TALK)} is not encrypted"):
        _ = history.messages
    assert store.history("s", accept_plaintext=True).messages == TALK  # skipped with a warning, as without keys


@pytest.mark.parametrize("text", ['{"type":"summary","sealed":"', '{"type":"x","sealed":"AAAA"}'])
def test_a_summary_in_clear_never_looks_encrypted(backend: LocalBackend, text: str) -> None:
    store = Memstore(backend, summarizer=lambda *_: text, max_messages=1, summarize="manual")
    history = store.history("s")
    with pytest.raises(ValueError, match="summary must not be what"):
        history.set_summary(text)
    history.add_messages([HumanMessage("one"), HumanMessage("two")])
    assert not history.compact()
    assert "summary must not be" in store.status.summary_failures[0].cause
    assert (history.snapshot().summary, history.snapshot().evicted) == (None, 1)
    assert texts(history.messages) == ["two"]
    kept = store.history("s", encryption_keys=[OLD], accept_plaintext=True)
    kept.set_summary(text)
    assert kept.summary == text


@given(batches, st.none() | st.integers(1, 5), st.none() | st.integers(1, 3), st.sampled_from(["pairs", "turns"]))
def test_windows_are_as_without_keys(given: Any, max_messages: Any, max_turns: Any, window: Any) -> None:
    options = {"max_messages": max_messages, "max_turns": max_turns, "window": window}
    summaries = {"summarizer": lambda previous, talk: " ".join([previous, *texts(talk)]), "summarize_every": 2}
    sealed, plain = (
        Memstore(LocalBackend(), **options, **summaries, **keys).history("s")
        for keys in ({"encryption_keys": [OLD]}, {})
    )
    for batch in given:
        for history in (sealed, plain):
            history.add_messages(batch)
        assert replace(sealed.snapshot(), ttl=None) == replace(plain.snapshot(), ttl=None)
    assert sealed.pop(2) == plain.pop(2)
    assert replace(sealed.snapshot(), ttl=None) == replace(plain.snapshot(), ttl=None)


def test_nothing_in_the_store_is_in_clear(store: Memstore, backend: LocalBackend) -> None:
    given: list[Any] = []

    def summarizer(previous: str, messages: list[BaseMessage]) -> str:
        given.append((previous, texts(messages)))
        return f"{SECRET}, summarised"

    history = store.history("s", summarizer=summarizer, max_messages=2, summarize_every=1)
    call = {"name": SECRET, "args": {SECRET: SECRET}, "id": SECRET}
    for _ in range(2):
        history.add_messages([HumanMessage(SECRET, name=SECRET, id=SECRET), AIMessage(SECRET, tool_calls=[call])])
        history.add_messages([ToolMessage(SECRET, tool_call_id=SECRET, artifact=SECRET)])
    history.pop()
    ((_, held),) = backend._state.sessions.items()
    assert SECRET not in repr(held) and "summarised" not in repr(held)
    assert held.popped and held.summary and held.messages
    assert given[1] == (f"{SECRET}, summarised", [SECRET, SECRET])
    assert history.search(SECRET.upper()) and list(store.search(SECRET))


@pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated")
@pytest.mark.parametrize("wrap", [RunnableWithHistory, RunnableWithMessageHistory])
async def test_runnables(store: Memstore, wrap: Any) -> None:
    factory = store.history if wrap is RunnableWithHistory else store.get_session_history
    chat = wrap(FakeListChatModel(responses=["Hello, Ada.", "You are Ada."]), factory)
    config = {"configurable": {"session_id": "s"}}
    chat.invoke("I am Ada.", config)
    await chat.ainvoke("Who am I?", config)
    assert texts(store.history("s").messages) == ["I am Ada.", "Hello, Ada.", "Who am I?", "You are Ada."]


@pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated")
@pytest.mark.parametrize("wrap", [RunnableWithHistory, RunnableWithMessageHistory])
def test_a_runnable_with_the_wrong_key_raises_before_the_model_is_asked(
    backend: LocalBackend, store: Memstore, wrap: Any
) -> None:
    store.history("s").add_messages(TALK)
    other = Memstore(backend, encryption_keys=[NEW])
    asked: list[Any] = []
    chat = wrap(
        RunnableLambda(asked.append), other.history if wrap is RunnableWithHistory else other.get_session_history
    )
    with pytest.raises(DecryptError):
        chat.invoke("Who am I?", {"configurable": {"session_id": "s"}})
    assert asked == []
    assert store.history("s").messages == TALK


def test_a_background_summary_with_the_wrong_key_is_noted(store: Memstore, backend: LocalBackend) -> None:
    store.history("s", summarize="manual", max_messages=2).add_messages(TALK)
    other = Memstore(backend, encryption_keys=[NEW], summarizer=lambda *_: "new", summarize_every=1)
    other.history("s").add_user_message("more")  # the append is done all the same
    (failure,) = other.status.summary_failures
    assert "DecryptError" in failure.cause and "not among encryption_keys" in failure.cause
    assert store.history("s", encryption_keys=[OLD, NEW]).snapshot().evicted == len(TALK) - 2


def test_operations_carry_nothing_in_clear(store: Memstore) -> None:
    done: list[Any] = []

    class Listening(LocalBackend):
        def execute(self, op: Any) -> Any:
            done.append(op)
            return super().execute(op)

    history = Memstore(Listening(), encryption_keys=[OLD]).history("s")
    history.add_user_message(SECRET)
    history.set_summary(SECRET)
    history.pop()
    assert [type(op) for op in done] == [Append, SetSummary, Pop]
    assert SECRET not in repr(done)
