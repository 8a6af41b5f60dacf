"""Compression on servers: what lies there is short and of any bytes, is read by every store, and windows stay legal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, message_to_dict

from langchain_memstore import Memstore, MessageDecodeError, RedisChatMessageHistory
from langchain_memstore.codec.compression import is_compressed
from langchain_memstore.doctor import examine
from langchain_memstore.integrations.openai_agents import MemstoreSession
from support.conversations import Bounds, batches, bounds, converse
from support.servers import Server, every_server
from support.waiting import wait_until

KEY = bytes(range(32))
WAYS: list[dict[str, Any]] = [{}, {"compress_above": 200}, {"encryption_keys": [KEY]}]
WAYS.append({"compress_above": 200, "encryption_keys": [KEY]})
READER: dict[str, Any] = {"encryption_keys": [KEY], "accept_plaintext": True}
ROOT = str(Path(__file__).parent.parent.parent)

numbers = count()


def long(messages: list[BaseMessage]) -> list[BaseMessage]:
    return [message.model_copy(update={"content": f"{message.text} " * 60}) for message in messages]


TALK = long(converse([[1, 0], [2, 1, 0], [0]]))


def kinds(entries: list[bytes]) -> set[str]:
    return {
        "compressed" if is_compressed(entry) else "sealed" if b'"sealed"' in entry else "plain" for entry in entries
    }


@every_server
def test_windows_are_as_without(server: Server, admin: redis.Redis) -> None:
    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(batches, bounds)
    def run(batches: list[list[BaseMessage]], bounds: Bounds) -> None:
        options, number = {**bounds.options(), "summarize": "manual"}, next(numbers)
        with (
            Memstore.from_url(server.url, compress_above=1, **options) as small,
            Memstore.from_url(server.url, **options) as plain,
            Memstore.from_url("memory://", compress_above=1, **options) as local,
        ):
            one, two, three = (store.history(f"{which}-{number}") for which, store in enumerate((small, plain, local)))
            expected: list[BaseMessage] = []
            for batch in map(long, batches):
                expected = bounds.window([*expected, *batch])
                for history in (one, two, three):
                    history.add_messages(batch)
                    assert history.messages == expected
            assert kinds(admin.lrange(one.keys.messages, 0, -1)) <= {"compressed"}
            after = [replace(history.snapshot(), ttl=None) for history in (one, two, three)]
            assert after[0] == after[1] == after[2]
            assert one.pop(3) == two.pop(3) == three.pop(3)
            after = [replace(history.snapshot(), ttl=None) for history in (one, two, three)]
            assert after[0] == after[1] == after[2]

    run()


@every_server
async def test_every_store_reads_every_entry(server: Server, admin: redis.Redis) -> None:
    for way in [*WAYS, *reversed(WAYS)]:
        history = RedisChatMessageHistory("s", server.url, max_messages=None, **way)
        await history.aadd_messages(TALK[:5])
    assert kinds(admin.lrange(history.keys.messages, 0, -1)) == {"plain", "compressed", "sealed"}
    for above in (None, 1, 10**6):
        for near in (False, True):
            options = {"compress_above": above, "near_cache": near, "max_messages": None, **READER}
            async with Memstore.from_url(server.url, **options) as store:
                assert await store.history("s").aget_messages() == TALK[:5] * 8
                assert store.history("s").messages == TALK[:5] * 8
                assert len(list(store.search("human 0"))) == 8
                store.close()


@every_server
@pytest.mark.parametrize("most", range(1, 9))
async def test_windows_of_items_are_as_without(server: Server, admin: redis.Redis, most: int) -> None:
    items: list[Any] = [{"role": "user", "content": "hi " * 100}]
    for number in range(3):
        call = {"call_id": f"{number}", "name": "look", "arguments": "{}" * 100, "type": "function_call"}
        items += [call, {"call_id": f"{number}", "output": "found " * 50, "type": "function_call_output"}]
    items.append({"role": "assistant", "content": "well " * 50})
    async with Memstore.from_url(server.url, max_messages=most) as store:
        small, plain = (MemstoreSession(f"{above}", store, compress_above=above) for above in (100, None))
        for session in (small, plain):
            for item in items:
                await session.add_items([item])
        assert await small.get_items() == await plain.get_items()
        assert kinds(admin.lrange(small.keys.messages, 0, -1)) == {"compressed"}
        store.close()


@every_server
def test_it_is_for_clients_that_decode(server: Server) -> None:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        history = Memstore.from_client(client, compress_above=200).history("s")
        history.add_messages(TALK)
        assert history.messages == TALK and history.pop() == TALK[-1:]


@every_server
def test_what_it_saves(server: Server, admin: redis.Redis) -> None:
    sizes = []
    for above in (None, 1000):
        with Memstore.from_url(server.url, compress_above=above) as store:
            store.history(f"{above}").add_messages([HumanMessage("A long answer, of many words. " * 140)] * 50)
            sizes.append(admin.memory_usage(store.history(f"{above}").keys.messages, samples=0))
    assert sizes[1] < sizes[0] / 10


@every_server
def test_a_corrupt_frame_is_skipped_or_raises(server: Server, admin: redis.Redis) -> None:
    with Memstore.from_url(server.url, compress_above=200) as store:
        history = store.history("s")
        history.add_messages(TALK)
        entry = admin.lindex(history.keys.messages, 2)
        admin.lset(history.keys.messages, 2, entry[:-9] + bytes([entry[-9] ^ 1]) + entry[-8:])
        assert history.messages == TALK[:2] + TALK[3:]
        with pytest.raises(MessageDecodeError, match="session 's', entry 2"):
            _ = store.history("s", on_corrupt="raise").messages
        assert [check.sessions for check in examine(store) if check.name == "entries"] == [("s",)]


@every_server
def test_near_caches_of_two_processes(server: Server) -> None:
    with (
        Memstore.from_url(server.url, near_cache=True, compress_above=200, max_messages=8) as one,
        Memstore.from_url(server.url, near_cache=True, max_messages=8) as two,
        Memstore.from_url(server.url, max_messages=8) as full,
    ):
        for number, message in enumerate(TALK * 3):
            (one, two)[number % 2].history("s").add_message(message)
            if number % 3 == 0:
                expected = full.history("s").messages
                assert one.history("s").messages == two.history("s").messages == expected
        assert one.history("s").pop(2) and two.history("s").messages == full.history("s").messages


@every_server
@pytest.mark.parametrize("keys", [{}, {"encryption_keys": [KEY]}], ids=["in clear", "encrypted"])
def test_an_outage_is_passed(start_server: Callable[..., Server], tmp_path: Path, keys: dict[str, Any]) -> None:
    server, journal = start_server("--appendonly", "yes", "--appendfsync", "always"), tmp_path / "journal"
    options: dict[str, Any] = {"compress_above": 200, "fallback": str(journal), **keys}
    code = f"""
import os
from langchain_core.messages import AIMessage, HumanMessage
from langchain_memstore import Memstore
store = Memstore.from_url({server.open_url!r}, **{options!r})
history = store.history("s")
history.add_messages([HumanMessage("two " * 200), AIMessage("three " * 200)])
assert [message.text[:3] for message in history.messages][-2:] == ["two", "thr"]
assert store.status.degraded
os._exit(9)  # with what waits in the file
"""
    texts = [f"{word} " * 200 for word in ("one", "two", "three", "four")]
    with Memstore.from_url(server.open_url, compress_above=200, **keys) as store:
        store.history("s").add_user_message(texts[0])
    server.kill()
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": ROOT}, timeout=60)
    assert done.returncode == 9 and journal.stat().st_size > 0
    with Memstore.from_url(server.open_url, **options) as store:
        store.history("s").add_ai_message(texts[3])
        assert store.status.degraded
        server.start()
        wait_until(lambda: not store.status.pending, 20)
    with Memstore.from_url(server.open_url, fallback=False, **keys) as store:
        assert [message.text for message in store.history("s").messages] == texts
        with server.admin() as admin:
            assert kinds(admin.lrange(store.history("s").keys.messages, 0, -1)) == {"sealed" if keys else "compressed"}


@every_server
def test_the_command_moves_and_shows_them(server: Server, admin: redis.Redis, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": ROOT, "REDIS_URL": server.url, "COLUMNS": "120"}

    def memstore(*arguments: str, stdin: bytes = b"", **changed: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-W", "error", "-m", "langchain_memstore.cli", *arguments]
        env = {**environment, **changed}
        return subprocess.run(command, input=stdin, env=env, cwd=tmp_path, capture_output=True, timeout=60)

    with Memstore.from_url(server.url, compress_above=200, max_messages=4, summarize="manual") as store:
        history = store.history("s")
        history.add_messages(TALK)
        before = replace(history.snapshot(), ttl=None)
        exported = memstore("export")
        line = json.loads(exported.stdout)
        assert line["evicted"] + line["messages"] == [message_to_dict(message) for message in TALK]
        shown, found = memstore("show", "s").stdout.decode(), memstore("search", "HUMAN 0", "--json").stdout
        assert all(message.text.strip() in shown for message in TALK if isinstance(message, (HumanMessage, AIMessage)))
        assert json.loads(found)["message"] == message_to_dict(TALK[0])
        for above, expected in (("", "plain"), ("200", "compressed")):
            again = memstore("import", "-", "--force", stdin=exported.stdout, MEMSTORE_COMPRESS_ABOVE=above)
            assert again.returncode == 0, again.stderr
            assert kinds(admin.lrange(history.keys.messages, 0, -1)) == {expected}
            assert kinds(admin.lrange(history.keys.evicted, 0, -1)) == {expected}
            assert replace(history.snapshot(), ttl=None) == before
        blocked = tmp_path / "zstandard.py"
        blocked.write_text("raise ImportError('not here')")
        for command in (("show", "s"), ("search", "x"), ("export",), ("doctor",)):
            refused = memstore(*command, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
            assert refused.returncode == 2, refused
            assert b"its compressed messages need the zstandard package: pip install" in refused.stderr
