"""Listings that go on while servers are restarted, replaced, or hand their slots over."""

from __future__ import annotations

import json
import logging
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.outputs import Generation
from redis.crc import key_slot

from langchain_memstore import BackendUnavailable, Memstore
from langchain_memstore.backends.base import Backend, BackendWrapper
from langchain_memstore.doctor import examine
from langchain_memstore.integrations import importers
from langchain_memstore.ops.base import Op, R
from langchain_memstore.testing import Run
from support.servers import COMMANDS, DURABLE, USER, Server, every_server
from support.topologies import SERVICE, ClusterOfServers, WatchedServers
from support.waiting import wait_until

SESSIONS, VALUES = 4000, 20_000
IDS = {f"session-{number}" for number in range(SESSIONS)}
KEYS = {f"key-{number}" for number in range(VALUES)}

STARTER = ThreadPoolExecutor(1)
"""Starts servers, which end with the thread that has started them: so it does not end before the tests."""

Disturbance = Callable[[], object]
"""What happens between two pages."""


class Disturbed(BackendWrapper):
    """Has something happen after pages of listings.

    Args:
        backend: Does the operations.
        disturbance: What happens.
        pages: After which pages; None: after each.
    """

    def __init__(self, backend: Backend, disturbance: Disturbance, pages: tuple[int, ...] | None = (1, 3, 6)) -> None:
        super().__init__(backend)
        self._disturbance = disturbance
        self._after = pages
        self.pages = 0
        self.disturbances = 0

    def execute(self, op: Op[R]) -> R:
        result = super().execute(op)
        self._note(op)
        return result

    async def aexecute(self, op: Op[R]) -> R:
        result = await super().aexecute(op)
        self._note(op)
        return result

    def _note(self, op: Op[Any]) -> None:
        if op.scans:
            self.pages += 1
            if self._after is None or self.pages in self._after:
                self.disturbances += 1
                self._disturbance()


@contextmanager
def disturbed(
    url: str, disturbance: Disturbance, pages: tuple[int, ...] | None = (1, 3, 6), **options: Any
) -> Iterator[tuple[Memstore, Disturbed]]:
    """Make a store whose listings are disturbed."""
    with Memstore.from_url(url, **{"fallback": False, **options}) as store:
        backend = Disturbed(store._backend, disturbance, pages)
        yield Memstore(backend), backend


def fill(url: str, sessions: int = SESSIONS, values: int = VALUES) -> None:
    """Store sessions of one message, and values."""
    with Memstore.from_url(url, fallback=False) as store:
        for number in range(sessions):
            store.history(f"session-{number}").add_messages([HumanMessage("hello")])
        fill_values(store, values)


def fill_values(store: Memstore, values: int = VALUES) -> None:
    store.kv().mset([(f"key-{number}", number) for number in range(values)])


async def collect(found: AsyncIterator[Any]) -> list[Any]:
    return [each async for each in found]


def name_of(line: bytes) -> str:
    return json.loads(line)["session_id"]


LISTINGS: dict[str, tuple[set[str], Callable[[Memstore], list[str]], Callable[[Memstore], Any], Callable[[Any], str]]]
LISTINGS = {
    "sessions": (IDS, lambda s: [*s.sessions()], lambda s: s.asessions(), lambda info: info.session_id),
    "search": (IDS, lambda s: [*s.search("hello")], lambda s: s.asearch("hello"), lambda hit: hit.session_id),
    "export": (IDS, lambda s: [*importers.export_conversations(s)], importers.aexport_conversations, name_of),
    "keys": (KEYS, lambda s: s.kv().keys(), lambda s: s.kv().ayield_keys(), str),
}
"""What lists: what there is, the two variants, and the name of what each of them returns."""


def listed(name: str, variant: str, store: Memstore, run: Run) -> list[str]:
    """Return the names that a listing finds."""
    _, sync, variant_async, name_of = LISTINGS[name]
    found = sync(store) if variant == "sync" else run(collect(variant_async(store)))
    return [name_of(each) for each in found]


@pytest.fixture(scope="module")
def filled() -> Iterator[Server]:
    """A server that keeps what it has, with all sessions and values."""
    server = Server(next(iter(COMMANDS.values())), *DURABLE)
    fill(server.open_url)
    yield server
    server.stop()


def restarts(server: Server) -> Disturbance:
    """Return what kills a server, and starts it again."""

    def restart() -> None:
        server.kill()
        server.start()

    return restart


@pytest.mark.parametrize("name", LISTINGS)
def test_a_listing_sees_all_across_restarts(filled: Server, name: str, variant: str, run: Run) -> None:
    with disturbed(filled.open_url, restarts(filled)) as (store, backend):
        assert sorted(listed(name, variant, store, run)) == sorted(LISTINGS[name][0])
    assert backend.disturbances == 3


@every_server
@pytest.mark.parametrize("options", ["", "?protocol=3"])
def test_a_server_that_starts_from_a_snapshot(start_server: Callable[..., Server], options: str) -> None:
    server = start_server()
    fill(server.open_url, values=0)

    def restart() -> None:
        with server.admin() as admin:
            admin.save()
        restarts(server)()

    with disturbed(server.open_url + options, restart) as (store, backend):
        assert sorted(info.session_id for info in store.sessions()) == sorted(IDS)
    assert backend.disturbances == 3


@pytest.mark.parametrize("what", ["delete_pattern", "clear", "cache_clear"])
def test_a_deletion_leaves_nothing_across_restarts(
    start_server: Callable[..., Server], what: str, variant: str, run: Run
) -> None:
    server = start_server(*DURABLE)
    with disturbed(server.open_url, restarts(server)) as (store, backend):
        if what == "delete_pattern":
            fill_values(store)
            count = store.kv().delete_pattern("*") if variant == "sync" else run(store.kv().adelete_pattern("*"))
            assert count == VALUES
        elif what == "clear":
            cache = store.cache()
            for number in range(4000):
                cache.update(str(number), "", [Generation(text="answer")])
            cache.clear() if variant == "sync" else run(cache.aclear())
        else:
            function = store.kv().cached(name="same")(lambda number: number)
            for number in range(4000):
                function(number)
            assert (function.cache_clear() if variant == "sync" else run(function.acache_clear())) == 4000
        assert backend.disturbances == 3
        with server.admin() as admin:
            assert admin.dbsize() == 0


@pytest.mark.parametrize("variant_name", ["sync", "async"])
def test_a_deletion_deletes_again_what_comes_back(
    start_server: Callable[..., Server], variant_name: str, run: Run
) -> None:
    server = start_server()
    with disturbed(server.open_url, restarts(server), (4,)) as (store, _):  # which loses what was deleted so far
        fill_values(store)
        with server.admin() as admin:
            admin.save()
        kv = store.kv()
        assert (kv.delete_pattern("*") if variant_name == "sync" else run(kv.adelete_pattern("*"))) == VALUES
        with server.admin() as admin:
            assert admin.dbsize() == 0


def test_due_summaries_the_doctor_and_imports_see_all_across_restarts(start_server: Callable[..., Server]) -> None:
    server = start_server(*DURABLE)
    summarize = {
        "summarizer": lambda text, summary: "summary",
        "summarize": "manual",
        "summarize_every": 1,
        "max_messages": 1,
    }
    with Memstore.from_url(server.open_url, fallback=False, **summarize) as store:
        for number in range(1500):
            store.history(f"session-{number}").add_messages([HumanMessage("one"), HumanMessage("two")])
    with server.admin() as admin, admin.pipeline() as pipeline:
        for number in range(1500):
            pipeline.rpush(f"message_store:{number}", '{"type": "human", "data": {"content": "hello"}}')
        pipeline.execute()
    with disturbed(server.open_url, restarts(server)) as (store, backend):
        assert any("of 1500 sessions" in str(check) for check in examine(store))
        assert backend.disturbances == 3
    with disturbed(server.open_url, restarts(server)) as (store, backend):
        report = importers.import_conversations(store, importers.CommunityLists(store), dry_run=True)
        assert report.imported + len(report.existing) == 1500
        assert backend.disturbances == 3
    with Memstore.from_url(server.open_url, fallback=False) as plain:
        backend = Disturbed(plain._backend, restarts(server))
        assert Memstore(backend, **summarize).compact_due() == 1500
        assert backend.disturbances == 3


def test_a_server_that_restarts_all_the_time_ends_the_listing(filled: Server, variant: str, run: Run) -> None:
    with (
        disturbed(filled.open_url, restarts(filled), None) as (store, backend),
        pytest.raises(BackendUnavailable, match="begun again 20 times"),
    ):
        listed("sessions", variant, store, run)
    assert backend.disturbances < 50


@pytest.mark.parametrize("name", LISTINGS)
@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.6])
def test_with_a_fallback_a_listing_is_whole_or_raises(
    filled: Server, name: str, seconds: float, variant: str, run: Run
) -> None:
    starting: list[Future[None]] = []

    def start() -> None:
        time.sleep(seconds)
        filled.start()

    def restart() -> None:
        filled.kill()
        starting.append(STARTER.submit(start))
        time.sleep(random.uniform(0, 0.3))

    with disturbed(filled.open_url, restart, (2,), fallback=True) as (store, _):
        try:
            assert sorted(listed(name, variant, store, run)) == sorted(LISTINGS[name][0])
        except BackendUnavailable:
            pass
        finally:
            starting[0].result()
        wait_until(lambda: not store.status.degraded, 20)
        assert sorted(listed(name, variant, store, run)) == sorted(LISTINGS[name][0])


@pytest.mark.parametrize("name", ["sessions", "search", "export"])
def test_with_a_fallback_an_outage_right_after_a_page_raises(filled: Server, name: str, variant: str, run: Run) -> None:
    with disturbed(filled.open_url, filled.kill, (1,), fallback=True) as (store, _):
        try:
            with pytest.raises(BackendUnavailable, match="begin it anew"):
                listed(name, variant, store, run)
        finally:
            filled.start()


@pytest.mark.parametrize("name", ["sessions", "keys"])
@every_server
def test_a_user_without_info_lists_and_is_warned(
    family_server: Server, name: str, variant: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    fill(family_server.open_url)
    with family_server.admin() as admin:
        admin.execute_command("ACL", "SETUSER", USER, "-info")
    with disturbed(family_server.url, lambda: None) as (store, _), caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert sorted(listed(name, variant, store, run)) == sorted(LISTINGS[name][0])
    (record,) = caplog.records
    assert "grant +info" in record.message and "miss" in record.message


def switch(watched: WatchedServers) -> None:
    with watched.sentinels[0].admin() as admin:
        admin.execute_command("SENTINEL", "FAILOVER", SERVICE)


def kill(watched: WatchedServers) -> None:
    watched.master.kill()


@pytest.mark.parametrize(("failover", "name"), [(switch, "keys"), (switch, "export"), (kill, "sessions")])
def test_a_listing_sees_all_across_a_failover(
    watched: WatchedServers, failover: Callable[[WatchedServers], None], name: str, variant: str, run: Run
) -> None:
    fill(watched.url)

    def fail_over() -> None:
        old = watched.master
        with old.admin() as admin:
            assert admin.wait(1, 10_000) == 1
        failover(watched)
        wait_until(lambda: watched.master is not old, 20)

    with disturbed(watched.url, fail_over, (3,)) as (store, backend):
        assert sorted(listed(name, variant, store, run)) == sorted(LISTINGS[name][0])
    assert backend.disturbances == 1


@pytest.fixture(scope="module")
def sturdy() -> Iterator[ClusterOfServers]:
    """A cluster of three masters without replicas that keep what they have, with all sessions."""
    options = (*DURABLE, "--cluster-require-full-coverage", "no")
    cluster = ClusterOfServers(next(iter(COMMANDS.values())), *options, replicas=False)
    fill(open_url(cluster), values=0)
    yield cluster
    cluster.stop()


def open_url(cluster: ClusterOfServers) -> str:
    """Return the address for a user who may do everything, whom no restart forgets."""
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in cluster.servers)
    return f"redis+cluster://{hosts}"


def test_a_listing_of_a_cluster_goes_through_it_once(sturdy: ClusterOfServers, variant: str, run: Run) -> None:
    with disturbed(open_url(sturdy), lambda: None) as (store, backend):
        assert sorted(listed("sessions", variant, store, run)) == sorted(IDS)
    keys = sum(sturdy.ask(server, "DBSIZE") for server in sturdy.servers)
    assert backend.pages <= keys / 500 + 3


def test_a_listing_of_a_cluster_sees_all_across_restarts(sturdy: ClusterOfServers, variant: str, run: Run) -> None:
    def restart() -> None:
        for server in sturdy.servers:
            server.kill()
            server.start()
        wait_until(sturdy.is_well, 20)

    with disturbed(open_url(sturdy), restart, (2, 5, 8, 11)) as (store, backend):
        assert sorted(listed("export", variant, store, run)) == sorted(IDS)
    assert backend.disturbances == 4


def everything_that_asks_all(store: Memstore, variant: str, run: Run) -> Iterator[Callable[[], object]]:
    kv = store.kv()
    for name in LISTINGS:
        yield lambda name=name: listed(name, variant, store, run)
    yield (lambda: kv.delete_pattern("*")) if variant == "sync" else (lambda: run(kv.adelete_pattern("*")))
    yield kv.info if variant == "sync" else (lambda: run(kv.ainfo()))


def test_what_asks_all_masters_names_the_one_that_is_away(sturdy: ClusterOfServers, variant: str, run: Run) -> None:
    for victim in sturdy.servers:
        with Memstore.from_url(open_url(sturdy), fallback=False) as store:
            victim.kill()
            try:
                for ask in everything_that_asks_all(store, variant, run):
                    with pytest.raises(BackendUnavailable, match=f"127.0.0.1:{victim.port}") as caught:
                        ask()
                    assert caught.value.__cause__.node == ("127.0.0.1", victim.port)
            finally:
                victim.start()
                wait_until(sturdy.is_well, 20)


def test_a_master_that_hangs_is_named(sturdy: ClusterOfServers, variant: str, run: Run) -> None:
    victim = sturdy.servers[1]
    with Memstore.from_url(open_url(sturdy), fallback=False, socket_timeout=0.2) as store:
        assert len(list(store.sessions())) == SESSIONS
        victim.signal(signal.SIGSTOP)
        try:
            with pytest.raises(BackendUnavailable, match=f"127.0.0.1:{victim.port}"):
                listed("sessions", variant, store, run)
        finally:
            victim.signal(signal.SIGCONT)
            wait_until(sturdy.is_well, 20)


def move_slot(cluster: ClusterOfServers, slot: int) -> None:
    """Hand a slot to another master, as redis-cli does it."""
    source = next(server for server in cluster.servers if server.port == cluster.port_of(slot, cluster.servers[0]))
    target = cluster.servers[(cluster.servers.index(source) + 1) % 3]
    cluster.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.ask(source, "CLUSTER", "MYID"))
    cluster.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.ask(target, "CLUSTER", "MYID"))
    while keys := cluster.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
        cluster.ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
    for server in (target, source, *cluster.servers):
        cluster.ask(server, "CLUSTER", "SETSLOT", slot, "NODE", cluster.ask(target, "CLUSTER", "MYID"))


def test_a_listing_of_a_cluster_sees_all_while_slots_move_all_the_time(
    sturdy: ClusterOfServers, variant: str, run: Run
) -> None:
    slots = iter(dict.fromkeys(key_slot(session_id.encode()) for session_id in random.sample(sorted(IDS), 2000)))

    def reshard() -> None:
        for _ in range(5):
            move_slot(sturdy, next(slots))

    with disturbed(open_url(sturdy), reshard, None) as (store, backend):
        assert sorted(listed("export", variant, store, run)) == sorted(IDS)
    assert backend.disturbances > 10
