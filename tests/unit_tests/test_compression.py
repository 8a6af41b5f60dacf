"""Compression: long messages are stored shorter, are read by every store, and are bounded by the same windows."""

from __future__ import annotations

import asyncio
import io
import json
import random
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage, message_to_dict

from langchain_memstore import (
    DecryptError,
    LocalChatMessageHistory,
    Memstore,
    MemstoreError,
    MessageDecodeError,
    MissingPackage,
    RedisChatMessageHistory,
    RunnableWithHistory,
)
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.backends.outage.journal import read_op, write_op
from langchain_memstore.codec import compression
from langchain_memstore.codec import messages as codec
from langchain_memstore.codec.compression import LARGEST, compress, expand, is_compressed
from langchain_memstore.codec.session import SessionCodec
from langchain_memstore.doctor import examine
from langchain_memstore.integrations.importers import JsonLines, export_conversations, import_conversations
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.session import Append
from langchain_memstore.options import Policy
from support.conversations import batches, bounds, converse
from support.strategies import MESSAGES, any_values, canonical, messages
from support.strategies import text as words

KEY = bytes(range(32))
TALK = [message.model_copy(update={"content": f"{message.text} " * 40}) for message in converse([[2, 1], [0], [1]])]
LONG = "All work and no play makes Jack a dull boy. " * 100
long_words = st.builds(lambda part, times: part * times, words, st.sampled_from([1, 20, 200]))
talks = st.lists(st.one_of(*[messages(cls, any_values, long_words) for cls in MESSAGES]), max_size=3)
thresholds = st.none() | st.integers(1, 600)


def coder(**options: Any) -> SessionCodec:
    return Policy(**options).session_codec(SessionKeys("p", "s"))


def stored(store: Memstore, session_id: str = "s") -> list[bytes]:
    """The entries of a session as they lie in its store."""
    session = store._backend._state.sessions.find(store.history(session_id).keys)  # type: ignore[attr-defined]
    return [*session.evicted, *session.messages]


def append(history: Any, *entries: bytes) -> None:
    """Append entries as they are."""
    history._backend.execute(Append(history.keys, entries, history._bounds, None))


def framed(frame: bytes, clear: bytes = b'{"type":"human",') -> bytes:
    return clear + frame


# Entries


@given(talks, thresholds, st.booleans())
def test_messages_come_back_equal(talk: list[BaseMessage], above: int | None, sealed: bool) -> None:
    options: dict[str, Any] = {"encryption_keys": [KEY]} if sealed else {}
    entries, plain = coder(compress_above=above, **options).encode(talk), codec.encode(talk)
    for here in (coder(**options), coder(compress_above=1, **options)):
        assert [*map(canonical, here.decode(list(entries), "raise"))] == [*map(canonical, talk)]
    for entry, as_json in zip(entries, plain, strict=True):
        assert entry.split(b",")[0] == as_json.split(b",")[0]
        if sealed:
            assert list(json.loads(entry)) == ["type", "sealed"]
        elif entry != as_json:
            assert above is not None and len(as_json) > above and len(entry) < len(as_json)
            assert is_compressed(entry) and expand(entry) == as_json


def test_long_messages_are_stored_shorter() -> None:
    for above, sealed in ((1000, {}), (1000, {"encryption_keys": [KEY]})):
        for message in (HumanMessage(LONG), AIMessage(LONG), ToolMessage(LONG, tool_call_id="c")):
            (plain,), (entry,) = (
                coder(**sealed).encode([message]),
                coder(compress_above=above, **sealed).encode([message]),
            )
            assert len(entry) < len(plain) / 4


def test_the_bound_is_in_bytes_of_json() -> None:
    (plain,) = codec.encode([HumanMessage(LONG)])
    assert not is_compressed(coder(compress_above=len(plain)).encode([HumanMessage(LONG)])[0])
    assert is_compressed(coder(compress_above=len(plain) - 1).encode([HumanMessage(LONG)])[0])


def test_what_compression_makes_no_shorter_stays_json() -> None:
    entries = b'{"a":1,"b":2}', orjson.dumps({"a": 1, "b": "".join(map(chr, range(35, 91)))})
    assert compress(entries, 1) == entries


@given(talks, st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.lists(inner, max_size=4)))
def test_no_json_is_taken_for_compressed(talk: list[BaseMessage], value: Any) -> None:
    for plain in codec.encode(talk):
        assert not is_compressed(plain)
    for text in (json.dumps(value), json.dumps(value, separators=(",", ":"), ensure_ascii=False)):
        assert not is_compressed(text) and not is_compressed(text.encode(errors="surrogatepass"))
    for sealed in coder(encryption_keys=[KEY], compress_above=1).encode(talk):
        assert not is_compressed(sealed)


def test_what_is_compressed_is_not_compressed_again() -> None:
    once = compress(codec.encode([HumanMessage("a" * 15 * 2**20)]), 1)
    assert is_compressed(once[0]) and compress(once, 1) == once


def test_entries_that_others_write_can_be_compressed_as_they_are() -> None:
    value = {**message_to_dict(HumanMessage(LONG)), "more": 2**80}  # with spaces, and what orjson cannot read
    for entry in (json.dumps(value).encode(), json.dumps({"data": value["data"], "type": "human"}).encode()):
        (compressed,) = compress((entry,), 100)
        assert is_compressed(compressed) and expand(compressed) == entry
        assert codec.decode(compressed) == HumanMessage(LONG)


# Frames that are not good


@given(st.data(), st.sampled_from(["flip", "drop", "insert", "cut"]))
@settings(max_examples=300)
def test_no_changed_byte_makes_another_message(data: st.DataObject, change: str) -> None:
    message = HumanMessage(LONG[:100])
    entry = coder(compress_above=1).encode([message])[0]
    at = data.draw(st.integers(0, len(entry) - 1))
    if change == "flip":
        changed = entry[:at] + bytes([entry[at] ^ data.draw(st.integers(1, 255))]) + entry[at + 1 :]
    elif change == "drop":
        changed = entry[:at] + entry[at + 1 :]
    elif change == "insert":
        changed = entry[:at] + data.draw(st.binary(min_size=1, max_size=4)) + entry[at:]
    else:
        changed = entry[:at]
    with suppress(MessageDecodeError):
        assert codec.decode(changed) == message  # a bit of the frame's header means nothing


def without_size(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(content)


def bomb(size: int) -> bytes:
    """A frame that comes to so many bytes, of a few thousand."""
    zeros, packer = bytes(2**20), zstandard.ZstdCompressor(level=1).compressobj(size=size)
    return b"".join([packer.compress(zeros) for _ in range(size // 2**20)]) + packer.flush()


REST = b'"data":{"content":"hi"}}'
BAD = {
    "nothing": b"\x28\xb5\x2f\xfd",
    "no size": without_size(REST),
    "another": zstandard.compress(REST) + zstandard.compress(REST),
    "junk after": zstandard.compress(REST) + b"}",
    "cut": zstandard.compress(REST)[:-1],
    "no JSON": zstandard.compress(b"(" * 100),
    "empty": zstandard.compress(b""),
    "a frame in a frame": zstandard.compress(zstandard.compress(REST)),
    "claims 2 GiB": b"\x28\xb5\x2f\xfd" + bytes([0b10100000]) + struct.pack("<I", 2**31) + b"\x01\x00\x00",
    "claims 2**63": b"\x28\xb5\x2f\xfd" + bytes([0b11100000]) + struct.pack("<Q", 2**63) + b"\x01\x00\x00",
    "a wide window": b"\x28\xb5\x2f\xfd"
    + bytes([0b10000000, (27 - 10) << 3])
    + struct.pack("<I", 10)
    + b"\x01\x00\x00",
    "one too many": zstandard.compress(bytes(LARGEST + 1)),
    "bomb": bomb(2**27),
    "a dictionary": zstandard.ZstdCompressor(dict_data=zstandard.ZstdCompressionDict(REST * 20)).compress(REST),
}


@pytest.mark.parametrize("frame", BAD.values(), ids=BAD)
def test_a_corrupt_frame_is_a_corrupt_entry(frame: bytes, caplog: pytest.LogCaptureFixture) -> None:
    store = Memstore(LocalBackend(), compress_above=100)
    history = store.history("s")
    history.add_messages(TALK)
    append(history, framed(frame))
    history.add_user_message("more")
    assert history.messages == [*TALK, HumanMessage("more")]
    assert f"session 's': skipped entries that are not messages, at index [{len(TALK)}]" in caplog.text
    with pytest.raises(MessageDecodeError, match=f"session 's', entry {len(TALK)}: not a message"):
        _ = store.history("s", on_corrupt="raise").messages
    (entries,) = (check for check in examine(store) if check.name == "entries")
    assert entries.sessions == ("s",)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is counted otherwise")
def test_a_bomb_takes_no_memory() -> None:
    code = """
import resource, sys
import zstandard
from langchain_memstore import MessageDecodeError
from langchain_memstore.codec import messages as codec
frame = sys.stdin.buffer.read()
zstandard.decompress(zstandard.compress(b"{}"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    codec.decode(b'{"type":"human",' + frame)
except MessageDecodeError:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], input=bomb(2**30), capture_output=True, check=True)
    assert int(done.stdout) < 32  # MiB


def test_the_largest_entry_that_is_compressed() -> None:
    room = LARGEST - len(codec.encode([HumanMessage("")])[0])
    here = coder(compress_above=1000)
    for length, compressed in ((room, True), (room + 1, False)):
        (entry,) = here.encode([HumanMessage("a" * length)])
        assert is_compressed(entry) is compressed and (len(entry) < 10_000) is compressed
        assert here.decode([entry], "raise") == [HumanMessage("a" * length)]


# The package that compresses


@pytest.fixture
def no_zstandard(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package were not installed."""
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setattr(compression, "_thread", threading.local())


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
def test_without_the_package_the_extra_is_named_at_once(no_zstandard: None, make: Any) -> None:
    with pytest.raises(
        MissingPackage,
        match=r"^compress_above needs the zstandard package: pip install 'langchain-memstore\[compression\]'",
    ):
        make(compress_above=1000)
    make(compress_above=None)


READS = {
    "messages": lambda history, store: history.messages,
    "snapshot": lambda history, store: history.snapshot(),
    "pop": lambda history, store: history.pop(2),
    "search": lambda history, store: history.search("x"),
    "store.search": lambda history, store: list(store.search("x")),
    "compact": lambda history, store: history.compact(),
    "compact_due": lambda history, store: store.compact_due(),
    "run": lambda history, store: store.get_session_history("s").messages,
    "export": lambda history, store: list(export_conversations(store)),
    "doctor": lambda history, store: list(examine(store)),
}


@pytest.mark.parametrize("options", [{}, {"encryption_keys": [KEY]}], ids=["in clear", "encrypted"])
@pytest.mark.parametrize("name", READS)
def test_without_the_package_what_is_compressed_is_never_skipped(
    name: str, options: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    backend = LocalBackend()
    summaries = {"summarizer": lambda *_: "new", "summarize": "manual", "summarize_every": 1, "max_messages": 4}
    good = Memstore(backend, compress_above=200, **summaries, **options)
    good.history("s").add_messages(TALK)
    before = stored(good)
    request.getfixturevalue("no_zstandard")
    store = Memstore(backend, **summaries, **options)
    with pytest.raises(
        MissingPackage, match=r"^session 's' \(prefix 'conversation'\): its compressed messages need"
    ) as e:
        READS[name](store.history("s"), store)
    assert isinstance(e.value, MemstoreError) and isinstance(e.value, ImportError)
    assert stored(good) == before
    store.history("t").add_messages(TALK)  # what is not compressed is as ever
    assert store.history("t", max_messages=50).messages == TALK[-4:]


async def test_without_the_package_what_apop_took_is_put_back(request: pytest.FixtureRequest) -> None:
    backend = LocalBackend()
    good = Memstore(backend, compress_above=200)
    good.history("s").add_messages(TALK)
    before = stored(good)
    request.getfixturevalue("no_zstandard")
    for call in (Memstore(backend).history("s").apop, Memstore(backend).history("s").aget_messages):
        with pytest.raises(MissingPackage):
            await call()
    assert stored(good) == before


def test_a_store_that_does_not_compress_does_not_load_the_package() -> None:
    code = """
import sys
from langchain_memstore import Memstore
history = Memstore.from_url("memory://").history("s")
history.add_user_message("hi"), history.messages, history.set_summary("hi"), history.summary
print("zstandard" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# Histories


def test_every_store_reads_every_entry(caplog: pytest.LogCaptureFixture) -> None:
    backend = LocalBackend()
    ways: list[dict[str, Any]] = [{}, {"compress_above": 200}, {"encryption_keys": [KEY]}]
    ways.append({"encryption_keys": [KEY], "compress_above": 1})
    for way in (*ways, *reversed(ways)):
        Memstore(backend, **way).history("s").add_messages(TALK[:6])
    entries = stored(Memstore(backend))
    kinds = {(is_compressed(entry), codec.is_sealed(entry)) for entry in entries}
    assert kinds == {(False, False), (True, False), (False, True)}
    for above in (None, 1, 10**6):
        store = Memstore(backend, encryption_keys=[KEY], accept_plaintext=True, compress_above=above)
        assert store.history("s").messages == TALK[:6] * 8
        assert len(store.history("s").search("HUMAN 0")) == 8
    for read in (Memstore(backend), Memstore(backend, compress_above=1)):
        with pytest.raises(DecryptError, match=r"its entry \d+ is encrypted"):
            _ = read.history("s").messages
    with pytest.raises(DecryptError, match="is not encrypted"):
        _ = Memstore(backend, encryption_keys=[KEY]).history("s").messages
    assert caplog.text == ""


@given(batches, bounds, st.booleans())
def test_windows_are_as_without(given: list[list[BaseMessage]], bounds: Any, sealed: bool) -> None:
    summaries = {"summarizer": lambda _, talk: f"{len(talk)} more", "summarize_every": 2}
    keys = {"encryption_keys": [KEY]} if sealed else {}
    small, plain = (
        Memstore(LocalBackend(), **bounds.options(), **summaries, **options).history("s")
        for options in ({"compress_above": 1, **keys}, {})
    )
    for batch in given:
        batch = [message.model_copy(update={"content": message.text * 60}) for message in batch]
        for history in (small, plain):
            history.add_messages(batch)
        assert replace(small.snapshot(), ttl=None) == replace(plain.snapshot(), ttl=None)
    assert small.pop(2) == plain.pop(2)
    assert replace(small.snapshot(), ttl=None) == replace(plain.snapshot(), ttl=None)


def test_a_summary_stays_as_it_is() -> None:
    store = Memstore(LocalBackend(), compress_above=10)
    store.history("s").set_summary(LONG)
    assert store._backend._state.sessions.find(store.history("s").keys).summary == LONG  # type: ignore[attr-defined]
    for text in ('{"type":"summary",(\u00b5/\u00fd', "a,(\u00b5/\u00fd"):
        store.history("s").set_summary(text)
        assert store.history("s").summary == text


def test_the_environment_says_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEMSTORE_COMPRESS_ABOVE", "200")
    with Memstore.from_env() as store:
        store.history("s").add_messages(TALK)
        assert any(map(is_compressed, stored(store)))
        store.history("t", compress_above=None).add_messages(TALK)
        assert not any(map(is_compressed, stored(store, "t")))


def test_runs_and_views() -> None:
    store = Memstore(LocalBackend(), compress_above=200)
    chat = RunnableWithHistory(FakeListChatModel(responses=[LONG]), store.history)
    for _ in range(2):
        chat.invoke(LONG, {"configurable": {"session_id": "s"}})
    assert [is_compressed(entry) for entry in stored(store)] == [True] * 4
    view = store.get_session_history("s")
    assert [message.text for message in view.messages] == [LONG] * 4
    view.add_ai_message(LONG)
    assert is_compressed(stored(store)[-1])


async def test_items_of_the_openai_agents_sdk() -> None:
    from langchain_memstore.integrations.openai_agents import MemstoreSession

    store = Memstore(LocalBackend(), compress_above=200)
    items: list[Any] = [{"role": "user", "content": LONG}]
    for number in range(3):
        call = {"call_id": str(number), "name": "f", "arguments": LONG, "type": "function_call"}
        items += [call, {"call_id": str(number), "output": LONG, "type": "function_call_output"}]
    items.append({"role": "user", "content": "short"})
    for most in range(1, 9):
        small, plain = (
            MemstoreSession(f"{most}-{above}", store, compress_above=above, max_messages=most) for above in (200, None)
        )
        for session in (small, plain):
            await session.add_items(items)
        assert await small.get_items() == await plain.get_items()
        assert await plain.get_items() == await MemstoreSession(f"{most}-200", store, max_messages=most).get_items()
    held = store._backend._state.sessions.find(small.keys).messages  # type: ignore[attr-defined]
    assert [is_compressed(entry) for entry in held] == [True] * 7 + [False]
    assert await small.pop_item() == items[-1] and await small.pop_item() == items[-2]


async def test_without_the_package_items_are_never_skipped(request: pytest.FixtureRequest) -> None:
    from langchain_memstore.integrations.openai_agents import MemstoreSession

    store = Memstore(LocalBackend())
    session = MemstoreSession("s", store, compress_above=200)
    await session.add_items([{"role": "user", "content": "short"}, {"role": "user", "content": LONG}])
    before = store._backend._state.sessions.find(session.keys).messages.copy()  # type: ignore[attr-defined]
    request.getfixturevalue("no_zstandard")
    session = MemstoreSession("s", store)
    for call in (session.get_items, session.pop_item):
        with pytest.raises(MissingPackage, match=r"^session 's': its compressed messages need the zstandard package"):
            await call()
    assert store._backend._state.sessions.find(session.keys).messages == before  # type: ignore[attr-defined]
    assert await session.get_items(0) == []


def test_an_operation_in_a_journal_keeps_every_byte() -> None:
    keys, policy = SessionKeys("p", "s"), Policy(compress_above=1)
    op = Append(keys, policy.session_codec(keys).encode(TALK), policy.bounds, 1000)
    assert any(map(is_compressed, op.entries)) and read_op(write_op(op)) == op


@pytest.mark.parametrize("options", [{}, {"encryption_keys": [KEY]}], ids=["in clear", "encrypted"])
def test_moving_out_and_in(options: dict[str, Any]) -> None:
    source = Memstore(LocalBackend(), compress_above=200, max_messages=4, summarize="manual", **options)
    source.history("s").add_messages(TALK)
    source.history("s").set_summary("so far")
    lines = b"".join(export_conversations(source))
    (line,) = map(json.loads, lines.splitlines())
    assert line["evicted"] + line["messages"] == [message_to_dict(message) for message in TALK]
    for above in (None, 200):
        target = Memstore(LocalBackend(), compress_above=above, **options)
        report = import_conversations(target, JsonLines(io.BytesIO(lines)))
        assert (report.complete, report.messages) == (True, len(TALK))
        assert any(map(is_compressed, stored(target))) is (above is not None and not options)
        assert replace(target.history("s").snapshot(), ttl=None) == replace(source.history("s").snapshot(), ttl=None)
        again = Memstore(target._backend, compress_above=None if above else 200, **options)
        assert import_conversations(again, JsonLines(io.BytesIO(lines))).unchanged == 1  # it is the same conversation


def test_a_corrupt_frame_is_exported_to_the_byte() -> None:
    store, bad = Memstore(LocalBackend(), compress_above=200), framed(BAD["cut"])
    append(store.history("s"), bad)
    store.history("s").add_messages(TALK)
    lines = b"".join(export_conversations(store))
    assert list(json.loads(lines)["messages"][0]) == ["base64"]
    report = import_conversations(store, JsonLines(io.BytesIO(lines)), force=True)
    assert [problem.place for problem in report.problems] and "messages[0]" in report.problems[0].place
    assert "CorruptFrame" in report.problems[0].cause
    import_conversations(store, JsonLines(io.BytesIO(lines)), force=True, skip_corrupt=True)
    assert store.history("s").messages == TALK


def test_many_threads_at_once() -> None:
    store = Memstore(LocalBackend(), compress_above=100, max_messages=None)
    source = random.Random(3)
    texts = ["".join(source.choices("abcdefgh \u20ac", k=source.randrange(200, 60_000))) for _ in range(40)]

    def talk(number: int) -> bool:
        history, start = store.history(f"s{number}"), threading.get_ident()
        for text in texts:
            history.add_user_message(f"{number} {text}")
            assert history.messages[-1].text == f"{number} {text}"
        return threading.get_ident() == start

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(talk, range(16)))
    for number in range(16):
        assert [message.text for message in store.history(f"s{number}").messages] == [f"{number} {x}" for x in texts]


async def test_many_tasks_at_once() -> None:
    store = Memstore(LocalBackend(), compress_above=100, max_messages=None)

    async def talk(number: int) -> None:
        history = store.history(f"s{number % 4}")
        for text in (f"{number} " * 100, f"{number} " * 5000):
            await history.aadd_messages([HumanMessage(text)])
            assert HumanMessage(text) in await history.aget_messages()

    await asyncio.gather(*map(talk, range(64)))
    assert [len(await store.history(f"s{number}").aget_messages()) for number in range(4)] == [32] * 4
