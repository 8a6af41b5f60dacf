"""The soak of all operations: a durable server that is killed and frozen, lines that fail, processes that die."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from typing import Any

from typing_extensions import override

from langchain_memstore import Memstore
from soak.callers import AsyncCaller, Caller, Crew, begin_process, journaling_store
from soak.calls import Recorder, Report, read_calls
from soak.conversations import Writer, audit_messages, held_texts, texts_of
from soak.driver import Soak
from soak.limits import Hitting, audit_limits
from soak.locks import Locking, Watch, audit_locks
from soak.short_lived import audit_short_lived, breed
from soak.values import Counting, Latching, audit_counters, audit_latches
from support.proxy import SWALLOW, Cut, Proxy
from support.servers import DURABLE

PROCESSES = 3
LOCKERS = 12
ALL_BUT_REFUSED = ("~*-[^def]}", "~*[^-]?}", "~*[^}]")  # keys that do not end in -d}, -e} or -f}
STEADY = "steady"
BREEDER = "breeder"


class Line:
    """What stands between one process and the server, and can be disturbed."""

    def __init__(self) -> None:
        self.state = "good"
        self.forgotten = 0
        """How often the line has forgotten its connections, as a NAT does: they stay open, and carry nothing more."""

    def plan(self) -> Cut:
        left = random.randrange(2_000, 200_000)  # bytes until the connection breaks all the same
        forgotten = self.forgotten

        def cut(from_server: bool, data: bytes) -> int:
            nonlocal left
            if self.forgotten > forgotten:
                return SWALLOW
            if self.state == "cut":
                return 0
            if self.state == "silent" and from_server:
                return SWALLOW
            if self.state == "slow":
                time.sleep(0.02)
            allowed = min(left, len(data))
            left -= allowed
            return allowed

        return cut


class SlowLine(Line):
    """A line that loses nothing, but delays a call now and then, so that later ones overtake it."""

    @override
    def plan(self) -> Cut:
        def cut(from_server: bool, data: bytes) -> int:
            if not from_server and random.random() < 0.03:
                time.sleep(1)
            return len(data)

        return cut


def call(ready: Any, port: int, folder: str, name: str, incarnation: int) -> None:
    """Make calls of all kinds until SIGTERM; the first one takes over what a dead process of this name left."""
    stop = begin_process()
    store = journaling_store(port, folder, f"journal-{name}")
    sure = Memstore.from_url(f"redis://127.0.0.1:{port}/0", socket_timeout=0.5, fallback=False)
    numbers = itertools.count()

    def recorder() -> Recorder:
        return Recorder(folder, f"{name}.{incarnation}.{next(numbers)}")

    def writer() -> Writer:
        own = recorder()
        return Writer(own, store, f"{name}.{incarnation}.{next(numbers)}")

    callers: list[Caller] = [
        writer(),
        Counting(recorder(), store, is_sure=False),
        Counting(recorder(), sure, is_sure=True),
        Latching(recorder(), sure),
        Latching(recorder(), sure),
        Locking(recorder(), sure, is_steady=False),
    ]
    async_callers: list[AsyncCaller] = [
        writer(),
        writer(),
        Counting(recorder(), store, is_sure=False),
        Counting(recorder(), sure, is_sure=True),
        Hitting(recorder(), sure),
        Hitting(recorder(), sure),
        Locking(recorder(), sure, is_steady=False),
        Locking(recorder(), sure, is_steady=False),
    ]
    Crew(folder, name, store, stop, ready).run(callers, async_callers)
    store.close()
    sure.close()


def take_locks(ready: Any, port: int, folder: str, name: str) -> None:
    """Take locks until SIGTERM, over a line that only is slow."""
    stop = begin_process()
    store = Memstore.from_url(f"redis://127.0.0.1:{port}/0", socket_timeout=10, fallback=False)
    lockers = [Locking(Recorder(folder, f"{name}.{number}"), store, is_steady=True) for number in range(LOCKERS)]
    Crew(folder, name, store, stop, ready).run(lockers[:1], lockers[1:])
    store.close()


class FaultyLines(Soak):
    """Processes that make calls of all kinds, each over a line of its own."""

    def __init__(self, folder: str, chance: random.Random) -> None:
        super().__init__(folder, chance, *DURABLE)
        names = [f"process-{number}" for number in range(PROCESSES)]
        self.lines = {name: Line() for name in [*names, BREEDER]} | {STEADY: SlowLine()}
        self.proxies = {name: Proxy(self.server.port, line.plan).__enter__() for name, line in self.lines.items()}
        self.incarnations = dict.fromkeys(names, 0)
        self.watch = Watch(Recorder(folder, "watch"), self.server.admin(socket_timeout=1))

    @override
    def begin(self) -> None:
        for name in self.incarnations:
            self.start_calling(name)
        self.start(STEADY, take_locks, self.proxies[STEADY].port, self.folder, STEADY)
        self.start(BREEDER, breed, self.proxies[BREEDER].port, self.folder)
        self.wait_for(*self.lines)

    def start_calling(self, name: str) -> None:
        port, incarnation = self.proxies[name].port, self.incarnations[name]
        self.start(name, call, port, self.folder, name, incarnation)

    @override
    def faults(self) -> list[Callable[[], None]]:
        return [
            self.restart_server,
            self.freeze_server,
            self.forget_scripts,
            self.disturb_line,
            self.disturb_line,
            self.forget_connections,
            self.refuse_sessions,
            self.kill_process,
        ]

    def restart_server(self) -> None:
        with self.recorder.call("server fault", "restart"):
            self.server.kill()
            time.sleep(self.seconds())
            self.server.start()

    def disturb_line(self) -> None:
        line = self.chance.choice([line for name, line in self.lines.items() if name != STEADY])
        line.state = self.chance.choice(["cut", "silent", "slow"])
        time.sleep(self.seconds())
        line.state = "good"

    def forget_connections(self) -> None:
        self.chance.choice([line for name, line in self.lines.items() if name != STEADY]).forgotten += 1

    def refuse_sessions(self) -> None:
        """Refuse half of the busy sessions, with an outage of one process in the midst of that."""
        with self.server.admin() as admin:
            admin.execute_command("ACL", "SETUSER", "default", "resetkeys", *ALL_BUT_REFUSED)
            self.disturb_line()
            time.sleep(self.seconds())
            admin.execute_command("ACL", "SETUSER", "default", "allkeys")

    def kill_process(self) -> None:
        name = self.chance.choice(list(self.incarnations))
        if self.chance.random() < 0.5:  # in the midst of an outage of its own
            self.lines[name].state = "cut"
            time.sleep(self.seconds())
        self.kill(name)
        self.lines[name].state = "good"
        self.incarnations[name] += 1
        self.start_calling(name)
        self.wait_for(name)

    @override
    def end_connections(self) -> None:
        self.watch.stop()
        self.end_proxies()
        super().end_connections()

    def end_proxies(self) -> None:
        for proxy in self.proxies.values():
            proxy.__exit__()
        self.proxies.clear()

    @override
    def audit(self, report: Report) -> None:
        calls = read_calls(self.folder)
        appends = calls.get("append", [])
        with self.server.admin() as admin:
            raised = [append for append in appends if append.raised]
            audit_messages(report, texts_of(appends), held_texts(admin), raised)
            audit_counters(report, calls.get("increment", []), admin)
            audit_latches(report, calls, admin)
            audit_limits(report, calls.get("hit", []), admin)
        audit_locks(report, calls)
        audit_short_lived(report, calls.get("death", []))

    @override
    def stop(self) -> None:
        self.watch.stop()
        super().stop()
        self.end_proxies()
