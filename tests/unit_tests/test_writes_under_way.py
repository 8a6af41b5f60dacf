"""A write stays under way as long as somebody may send it again, and no longer."""

from __future__ import annotations

import asyncio
import gc
import io
import itertools
import sys
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from langchain_memstore import BackendError, BackendUnavailable, Memstore
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.integrations.openai_agents import MemstoreSession
from langchain_memstore.ops.write_ids import NUMBERING
from langchain_memstore.transfer.importers import export_conversations, import_conversations
from langchain_memstore.transfer.sources import JsonLines
from support.unsteady import unsteady
from support.waiting import wait_until

GREETING = [HumanMessage("Hello."), AIMessage("Hello.")]


async def use(store: Memstore) -> None:
    """Write in every way that a store offers, in both variants."""
    history = store.history("s", max_messages=2, summarizer=lambda *_: "short", summarize_every=1)
    kv, lock, memory, limiter = store.kv(), store.lock("l"), store.working_memory(), store.rate_limiter(100, 60)
    history.add_messages(GREETING * 2)
    await history.aadd_messages(GREETING)
    history.register_turn(), await history.aregister_turn()
    history.pop(), await history.apop()
    history.set_summary("one"), await history.aset_summary("two")
    history.compact(), await history.acompact()
    history.touch(), history.clear()
    kv.set("k", 1, nx=True), await kv.aset("k", 1, nx=True)
    kv.incr("n"), await kv.aincr("n")
    kv.delete("k"), await kv.adelete("k")
    with lock:
        lock.extend()
    async with lock:
        await lock.aextend()
    limiter.hit(), await limiter.ahit(), limiter.remaining(), await limiter.aremaining()
    memory.store("c", {}), memory.delete("c"), await memory.adelete("c")
    session = MemstoreSession("s", store)
    await session.add_items([{"role": "user", "content": "Hello."}])
    await session.pop_item()
    await session.clear_session()


async def test_nothing_is_under_way_when_all_has_ended(store: Memstore) -> None:
    await use(store)
    assert len(NUMBERING) == 0


class Refusing(LocalBackend):
    """Refuses what it is told to."""

    error: BaseException

    def execute(self, op: Any) -> Any:
        raise self.error


@pytest.mark.parametrize("error", [BackendError("no"), BackendUnavailable("away"), KeyboardInterrupt()])
async def test_nothing_is_under_way_when_it_has_failed(error: BaseException) -> None:
    backend = Refusing()
    backend.error = error
    store = Memstore(backend)
    for call in (
        lambda: store.history("s").add_messages(GREETING),
        lambda: store.history("s").pop(),
        lambda: store.kv().incr("n"),
        lambda: store.lock("l").__enter__(),
        lambda: store.rate_limiter(5, 60).hit(),
    ):
        with pytest.raises(type(error)):
            call()
    if not isinstance(error, KeyboardInterrupt):
        with pytest.raises(type(error)):
            await store.history("s").aadd_messages(GREETING)
    assert len(NUMBERING) == 0


async def test_nothing_is_under_way_when_it_was_cancelled(backend: LocalBackend) -> None:
    class Slow(LocalBackend):
        async def aexecute(self, op: Any) -> Any:
            await asyncio.sleep(60)

    store = Memstore(Slow())
    for coroutine in (store.history("s").aadd_messages(GREETING), store.kv().aincr("n")):
        task = asyncio.create_task(coroutine)
        await asyncio.sleep(0)
        assert len(NUMBERING) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(NUMBERING) == 0


def test_what_waits_for_the_store_is_under_way_until_it_was_replayed() -> None:
    primary, backend = unsteady()
    with Memstore(backend) as store:
        primary.mode = "down"
        store.history("s").add_messages(GREETING)
        store.kv(on_outage="local").incr("n")
        assert len(NUMBERING) == store.status.pending == 2
        primary.mode = "up"
        wait_until(lambda: not store.status.degraded)
        assert len(NUMBERING) == 0


def test_nothing_is_under_way_after_an_import(store: Memstore) -> None:
    store.history("s").add_messages(GREETING)
    lines = b"".join(export_conversations(store))
    for force in (False, True):
        import_conversations(store, JsonLines(io.BytesIO(lines)), force=force)
    assert len(NUMBERING) == 0


@pytest.mark.parametrize("act", ["append", "incr"])
def test_nothing_is_under_way_after_an_interrupt_wherever_it_strikes(store: Memstore, act: str) -> None:
    """Lines are counted, and one after the other is interrupted."""
    history, kv = store.history("s"), store.kv()
    for line in itertools.count(1):
        lines = 0

        def interrupt(frame: Any, event: str, _: Any, line: int = line) -> Any:
            nonlocal lines
            if event == "line" and "langchain_memstore" in frame.f_code.co_filename:
                lines += 1
                if lines == line:
                    sys.settrace(None)
                    raise KeyboardInterrupt
            return interrupt

        sys.settrace(interrupt)
        try:
            history.add_messages(GREETING) if act == "append" else kv.incr("n")
        except KeyboardInterrupt:
            pass
        else:
            break
        finally:
            sys.settrace(None)
        if len(NUMBERING):
            gc.collect()  # what the error holds
        assert len(NUMBERING) == 0, line
    assert line > 30
