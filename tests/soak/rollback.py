"""The soak of rollbacks: the server is killed, and starts from an older snapshot, while processes keep near caches.

    life 0                                life 1
    ├────────────┬──────────┬───────┬ ─ ─ ┬────────────────────┬──────
    start        SAVE       pause   kill  start from the       pause
                            audit         snapshot             audit

In a pause nothing is under way and nothing waits to be replayed. So what the server holds then is
what the snapshot held from which it started, and every append acknowledged since the kill before it.
An append that was under way at the kill, or acknowledged before, may be there or not.
"""

from __future__ import annotations

import random
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from typing_extensions import override

from langchain_memstore import Memstore
from soak.callers import PAUSED, Caller, Crew, begin_process, journaling_store
from soak.calls import Recorder, Report, read_calls
from soak.conversations import Writer, audit_messages, held_texts, texts_of
from soak.driver import PATIENCE, Soak
from soak.near_cache import Chatting, Comparing, Editing, audit_comparisons, chat_session
from support.servers import Server
from support.waiting import wait_until

PROCESSES = 3
CHATS, ASYNC_CHATS = 2, 1
CALLERS = CHATS + ASYNC_CHATS + 4
CACHES = 10  # that compare in turn, so that some know only how a session was before a rollback
SNAPSHOTS = 4  # to keep, the youngest ones


def call(ready: Any, port: int, folder: str, name: str, incarnation: int) -> None:
    """Chat, edit and compare until SIGTERM; the first call takes over what a dead process of this name left."""
    stop = begin_process()
    url, caller = f"redis://127.0.0.1:{port}/0", f"{name}.{incarnation}"
    store = journaling_store(port, folder, f"journal-{name}", near_cache=True, socket_timeout=5)
    options: dict[str, Any] = {"max_messages": None, "ttl": None, "fallback": False}
    cached = [Memstore.from_url(url, near_cache=True, **options) for _ in range(CACHES)]
    plain = Memstore.from_url(url, **options)

    def chatting(number: int) -> Chatting:
        writer = f"{caller}.{number}"
        return Chatting(Writer(Recorder(folder, writer), store, writer, chat_session), store)

    with redis.Redis(port=port, socket_timeout=5) as admin:
        chats = [chatting(number) for number in range(CHATS + ASYNC_CHATS)]
        callers: list[Caller] = [*chats[:CHATS], Editing(Recorder(folder, f"{caller}.edits"), store)]
        for number, stores in enumerate([cached, cached, [store]]):
            recorder = Recorder(folder, f"{caller}.compares-{number}")
            callers.append(Comparing(recorder, stores, plain, admin))
        Crew(folder, name, store, stop, ready).run(callers, chats[CHATS:])
    for each in (store, *cached, plain):
        each.close()


@dataclass
class Life:
    """A time of the server between two starts."""

    killed: float
    """When the server before it was dead; all that began later is of this life."""
    base: dict[str, list[str]]
    """What the snapshot held from which it started."""


@dataclass
class Look:
    """What a server held while nothing was under way."""

    at: float
    life: Life
    texts: dict[str, list[str]]


class Rollback(Soak):
    """Processes with near caches, and a server that is taken back to what it was."""

    def __init__(self, folder: str, chance: random.Random) -> None:
        super().__init__(folder, chance)
        self.life = Life(0, {})
        self.looks: list[Look] = []
        self.snapshots: list[Path] = []
        self.pauses = 0
        self.incarnations = {f"process-{number}": 0 for number in range(PROCESSES)}

    @override
    def begin(self) -> None:
        self.save_snapshot()
        for name in self.incarnations:
            self.start_calling(name)
        self.wait_for(*self.incarnations)

    def start_calling(self, name: str) -> None:
        self.start(name, call, self.server.port, self.folder, name, self.incarnations[name])

    @override
    def faults(self) -> list[Callable[[], None]]:
        return [
            self.save_snapshot,
            self.save_snapshot,
            self.roll_back,
            self.roll_back,
            self.freeze_server,
            self.forget_scripts,
            self.kill_process,
        ]

    def save_snapshot(self) -> None:
        with self.server.admin() as admin:
            admin.save()
        snapshot = Path(self.folder) / f"snapshot-{time.monotonic_ns()}"
        shutil.copy(self.server.snapshot, snapshot)
        self.snapshots.append(snapshot)
        for old in self.snapshots[:-SNAPSHOTS]:
            old.unlink()
        del self.snapshots[:-SNAPSHOTS]

    def roll_back(self) -> None:
        self.look_in_a_pause()
        snapshot = self.chance.choice(self.snapshots)
        base = self.texts_of_snapshot(snapshot)
        time.sleep(self.seconds() / 3)
        self.server.kill()
        self.life = Life(time.time(), base)
        time.sleep(self.chance.choice([0.0, 0.0, self.seconds() / 2]))
        shutil.copy(snapshot, self.server.snapshot)
        self.server.start()

    def texts_of_snapshot(self, snapshot: Path) -> dict[str, list[str]]:
        server = Server(self.server.command)
        try:
            server.kill()
            shutil.copy(snapshot, server.snapshot)
            server.start()
            with server.admin() as admin:
                return _shared(held_texts(admin))
        finally:
            server.stop()

    def look_in_a_pause(self) -> None:
        """Have all callers pause, and note what the server holds."""
        self.pauses += 1
        folder = Path(self.folder)
        (folder / "pausing").write_text(str(self.pauses))
        (folder / "pausing").rename(folder / PAUSED)
        idle = f"idle-{self.pauses}-*"
        wait_until(lambda: len(list(folder.glob(idle))) == PROCESSES * CALLERS, PATIENCE)
        self.look()
        (folder / PAUSED).unlink()
        for path in folder.glob(idle):
            path.unlink()

    def look(self) -> None:
        with self.server.admin() as admin:
            self.looks.append(Look(time.time(), self.life, _shared(held_texts(admin))))

    def kill_process(self) -> None:
        name = self.chance.choice(list(self.incarnations))
        self.kill(name)
        self.incarnations[name] += 1
        self.start_calling(name)
        self.wait_for(name)

    @override
    def audit(self, report: Report) -> None:
        self.look()
        calls = read_calls(self.folder)
        appends = calls.get("append", [])
        for look in self.looks:
            since = [append for append in appends if append.start >= look.life.killed and append.end <= look.at]
            held = {(session, text) for session, said in look.life.base.items() for text in said}
            raised = [append for append in appends if append.raised]
            audit_messages(report, held | texts_of(since), look.texts, raised)
        report.figures["audits, each in a pause or at the end"] = len(self.looks)
        audit_comparisons(report, calls.get("compare", []))


def _chats(texts: dict[str, list[str]]) -> dict[str, list[str]]:
    return {session: said for session, said in texts.items() if session.startswith("chat-")}


def _shared(texts: dict[str, list[str]]) -> dict[str, list[str]]:
    """Keep each text once, however often it is read, and those of chats alone."""
    return {session: [sys.intern(text) for text in said] for session, said in _chats(texts).items()}
