"""Masters that die, are demoted, or hand their slots over, while conversations go on."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from secrets import token_hex

import pytest
import redis
import redis.asyncio
from langchain_core.messages import HumanMessage
from redis.crc import key_slot

from langchain_memstore import BackendError, BackendUnavailable, Memstore, codec
from langchain_memstore.backends.outage.controller import OutageController
from langchain_memstore.backends.outage.fallback import FallbackBackend
from langchain_memstore.backends.outage.journal import Journal
from langchain_memstore.backends.redis.cluster import ClusterBackend
from langchain_memstore.backends.redis.pool_makers import url_pools
from langchain_memstore.backends.redis.topology import Cluster
from langchain_memstore.backends.redis.urls import settings_of
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.session import Append
from langchain_memstore.window import Bounds
from support.proxy import Proxy, RandomCuts
from support.servers import PASSWORD, USER, Server
from support.topologies import SERVICE, ClusterOfServers, WatchedServers
from support.variants import VariantOf, acall
from support.waiting import wait_until

WRITERS = 8


class Load:
    """Writers, each with a session of its own, and what each was told is stored; half are threads, half tasks."""

    def __init__(self, store: Memstore) -> None:
        self._store = store
        name = token_hex(4)  # a replica may yet hold what an earlier test has said
        self.sessions = [SessionKeys("conversation", f"{name}-{writer}") for writer in range(WRITERS)]
        self.written = [0] * WRITERS
        self._stop = threading.Event()

    def __enter__(self) -> Load:
        self._threads = ThreadPoolExecutor(WRITERS // 2 + 1)
        self._running = [self._threads.submit(self._write, writer) for writer in range(WRITERS // 2)]
        self._running.append(self._threads.submit(asyncio.run, self._tasks()))
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._threads.shutdown()
        for running in self._running:
            running.result()

    def _write(self, writer: int) -> None:
        history = self._store.history(self.sessions[writer].session_id)
        while not self._stop.wait(0.01):
            history.add_user_message(str(self.written[writer]))
            self.written[writer] += 1

    async def _tasks(self) -> None:
        await asyncio.gather(*(self._awrite(writer) for writer in range(WRITERS // 2, WRITERS)))

    async def _awrite(self, writer: int) -> None:
        history = self._store.history(self.sessions[writer].session_id)
        while not self._stop.is_set():
            await history.aadd_messages([HumanMessage(str(self.written[writer]))])
            self.written[writer] += 1
            await asyncio.sleep(0.01)

    def audit(self) -> int:
        """Check that nothing is twice or out of order, and count what is lost."""
        lost = 0
        for writer in range(WRITERS):
            history = self._store.history(self.sessions[writer].session_id)
            held = [int(message.text) for message in history.messages]
            assert held == sorted(set(held))
            assert held[-1:] == [self.written[writer] - 1]
            lost += self.written[writer] - len(held)
        return lost


def keys_of(writer: int) -> SessionKeys:
    return SessionKeys("conversation", f"writer-{writer}")


def test_a_master_of_a_cluster_dies(cluster: ClusterOfServers, open_store: Callable[..., Memstore]) -> None:
    store = open_store(cluster.url, max_messages=None)
    with Load(store) as load:
        time.sleep(0.5)
        victim = cluster.master_of(load.sessions[0].messages)
        before = load.written.copy()
        victim.kill()
        time.sleep(1)
        assert all(now > then for now, then in zip(load.written, before, strict=True))  # the fallback
        wait_until(lambda: not store.status.degraded, 20)
        time.sleep(0.3)
    wait_until(lambda: not store.status.degraded, 20)
    lost = load.audit()
    print(f"acknowledged: {sum(load.written)}, lost to asynchronous replication: {lost}")
    assert lost <= 2 * WRITERS
    victim.start()  # as a replica of the one that took over


def test_a_cluster_without_a_fallback_serves_again_by_itself(
    cluster: ClusterOfServers, open_store: Callable[..., Memstore]
) -> None:
    store = open_store(cluster.url, fallback=False)
    keys = keys_of(0)
    store.history(keys.session_id).add_user_message("before")
    victim = cluster.master_of(keys.messages)
    wait_until(lambda: in_step(cluster, victim))
    victim.kill()

    def serves() -> bool:
        try:
            return [message.text for message in store.history(keys.session_id).messages] == ["before"]
        except BackendUnavailable:
            return False

    wait_until(serves, 20)
    victim.start()


def in_step(cluster: ClusterOfServers, master: Server) -> bool:
    """Tell whether the replica has all that its master has."""
    _, offset, replicas = cluster.ask(master, "ROLE")
    return any(int(acknowledged) >= offset for _, _, acknowledged in replicas)


def replica_of(cluster: ClusterOfServers, master: Server) -> Server:
    ((_, port, _),) = cluster.ask(master, "ROLE")[2]
    return next(server for server in cluster.servers if server.port == int(port))


def start_to_migrate(cluster: ClusterOfServers, slot: int, source: Server, target: Server, pause: float = 0) -> None:
    """Hand the keys of a slot over, one by one, as redis-cli does it."""
    cluster.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.ask(source, "CLUSTER", "MYID"))
    cluster.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.ask(target, "CLUSTER", "MYID"))
    while keys := cluster.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 1):
        cluster.ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        time.sleep(pause)


def migrate(cluster: ClusterOfServers, slot: int, source: Server, target: Server, pause: float = 0) -> None:
    """Hand a slot over, keys and all."""
    start_to_migrate(cluster, slot, source, target, pause)
    for server in (target, source, *cluster.masters()):
        cluster.ask(server, "CLUSTER", "SETSLOT", slot, "NODE", cluster.ask(target, "CLUSTER", "MYID"))
    wait_until(lambda: {cluster.port_of(slot, server) for server in cluster.servers} == {target.port}, 20)


@pytest.mark.parametrize("pause", [0, 0.1])
def test_slots_move_to_another_master(
    cluster: ClusterOfServers, open_store: Callable[..., Memstore], pause: float
) -> None:
    store = open_store(cluster.url, max_messages=None)
    with Load(store) as load:
        time.sleep(0.3)
        for writer in range(3):
            for _ in range(2):  # there and back
                key = load.sessions[writer].messages
                source = cluster.master_of(key)
                target = next(server for server in cluster.masters() if server is not source)
                migrate(cluster, key_slot(key.encode()), source, target, pause)
    wait_until(lambda: not store.status.degraded, 20)
    assert load.audit() == 0


def test_a_listing_sees_all_while_keys_are_handed_over(
    cluster: ClusterOfServers, open_store: Callable[..., Memstore]
) -> None:
    store = open_store(cluster.url, fallback=False)
    ids = [f"session-{number}" for number in range(1500)]
    for session_id in ids:
        store.history(session_id).register_turn()
    first, last = (cluster.master_of(f"{{{name}}}") for name in (slot_name(0), slot_name(16_383)))
    moving = [session_id for session_id in ids if cluster.master_of(f"{{{session_id}}}") is last][:10]
    found = []
    for info in store.sessions():
        found.append(info.session_id)
        if len(found) == 800:  # the first master was listed, the last was not
            for session_id in moving:
                start_to_migrate(cluster, key_slot(session_id.encode()), last, first)
    assert sorted(found) == sorted(ids)
    for session_id in moving:
        migrate(cluster, key_slot(session_id.encode()), last, first)
        migrate(cluster, key_slot(session_id.encode()), first, last)


def slot_name(slot: int) -> str:
    """Find a name whose slot is another's neighbour, at the most a few slots away."""
    return min((f"name-{number}" for number in range(3000)), key=lambda name: abs(key_slot(name.encode()) - slot))


def test_a_script_that_deletes_a_key_in_a_slot_that_is_moved_is_done_once(
    cluster: ClusterOfServers, open_store: Callable[..., Memstore]
) -> None:
    options = {"max_messages": 2, "summarize": "manual"}
    store = open_store(cluster.url, **options)
    history = store.history("session")
    for number in range(3):  # so that there are all keys, without which a script is not even begun
        history.add_user_message(str(number))
    history.set_summary("soon gone")
    slot, source = key_slot(b"session"), cluster.master_of("{session}")
    target = next(server for server in cluster.masters() if server is not source)
    cluster.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.ask(source, "CLUSTER", "MYID"))
    cluster.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.ask(target, "CLUSTER", "MYID"))
    history.set_summary(None)
    assert store.status.pending == 1 and not store.status.degraded
    migrate(cluster, slot, source, target)
    wait_until(lambda: not store.status.pending, 20)
    snapshot = history.snapshot()
    assert (snapshot.summary, snapshot.total, snapshot.evicted) == (None, 3, 1)
    migrate(cluster, slot, target, source)


async def test_a_listing_sees_all_while_a_master_is_replaced(
    cluster: ClusterOfServers, open_store: Callable[..., Memstore]
) -> None:
    store = open_store(cluster.url, fallback=False)
    ids = {f"session-{number}" for number in range(1500)}
    for session_id in ids:
        store.history(session_id).register_turn()
    found = []
    for info in store.sessions():
        found.append(info.session_id)
        if len(found) == 600:
            victim = cluster.masters()[0]
            replica = replica_of(cluster, victim)
            cluster.ask(replica, "CLUSTER", "FAILOVER")
            wait_until(lambda: cluster.ask(replica, "ROLE")[0] in (b"master", "master"), 20)  # noqa: B023
    assert sorted(found) == sorted(ids)
    wait_until(cluster.is_well, 20)


def test_500_appends_over_bad_lines_to_a_cluster(cluster: ClusterOfServers, variant_of: VariantOf) -> None:
    bounds = Bounds(None, None, codec.RESULTS, codec.TURN_STARTS)
    with ExitStack() as stack:
        cuts = {server.port: RandomCuts(seed) for seed, server in enumerate(cluster.servers)}
        proxies = {port: stack.enter_context(Proxy(port, cut.plan)).port for port, cut in cuts.items()}

        def through(node: tuple[str, int]) -> tuple[str, int]:
            return node[0], proxies.get(node[1], node[1])

        def connect(node: tuple[str, int]):
            return url_pools(f"redis://{USER}:{PASSWORD}@{node[0]}:{node[1]}", settings_of({}))

        nodes = Cluster([through(("127.0.0.1", server.port)) for server in cluster.servers[:2]], connect, remap=through)
        outage = OutageController(lambda: Journal(10_000))
        backend = FallbackBackend(ClusterBackend(nodes), outage, lambda: ClusterBackend(nodes))
        execute = variant_of(backend)
        for number in range(500):
            entries = codec.encode([HumanMessage(str(number))])
            execute(Append(keys_of(number % WRITERS), entries, bounds, 60_000))
        wait_until(lambda: not backend.status.degraded, 20)
        backend.close()
    assert sum(cut.connections for cut in cuts.values()) >= 20
    for writer in range(WRITERS):
        texts = [codec.decode(entry).text for entry in cluster.held(keys_of(writer).messages)]
        assert texts == [str(number) for number in range(writer, 500, WRITERS)]


def kill(watched: WatchedServers) -> None:
    watched.master.kill()


def switch(watched: WatchedServers) -> None:
    """Have the sentinels promote the replica; the old master lives on, and answers READONLY."""
    with watched.sentinels[0].admin() as admin:
        admin.execute_command("SENTINEL", "FAILOVER", SERVICE)


@pytest.mark.parametrize("failover", [kill, switch])
def test_sentinels_name_another_master(
    watched: WatchedServers, open_store: Callable[..., Memstore], failover: Callable[[WatchedServers], None]
) -> None:
    store = open_store(watched.url, max_messages=None)
    old = watched.master
    with Load(store) as load:
        time.sleep(0.5)
        with old.admin() as admin:
            assert admin.wait(1, 5000) == 1  # the replica has what was said so far
        failover(watched)
        wait_until(lambda: watched.master is not old, 20)
        time.sleep(3 if failover is switch else 0.5)
        wait_until(lambda: not store.status.degraded, 20)
        written = load.written.copy()
        time.sleep(0.5)
        assert all(now > then for now, then in zip(load.written, written, strict=True))
    wait_until(lambda: not store.status.degraded, 20)
    lost = load.audit()
    print(f"acknowledged: {sum(load.written)}, lost to asynchronous replication: {lost}")
    # An old master that lives on is writable until the sentinels, who are asked every second, name the new one.
    assert lost <= (sum(load.written) // 2 if failover is switch else 2 * WRITERS)


async def test_a_demoted_master_is_left_soon(
    watched: WatchedServers, open_store: Callable[..., Memstore], variant: str
) -> None:
    store = open_store(watched.url, fallback=False)
    old = watched.master

    await acall(variant, store.history("session").register_turn)
    switch(watched)
    wait_until(lambda: watched.master is not old, 20)
    start = time.monotonic()
    number = 0
    while True:
        number += 1
        try:
            await acall(variant, store.history(f"session-{number}").register_turn)
        except BackendError:  # the replica is promoted meanwhile
            continue
        with watched.master.admin() as admin:
            if admin.exists(f"conversation:meta:{{session-{number}}}"):
                break
        assert time.monotonic() - start < 5
        await asyncio.sleep(0.02)
    assert time.monotonic() - start < 2.5


def test_a_service_that_the_sentinels_do_not_know_is_an_outage(
    watched: WatchedServers, open_store: Callable[..., Memstore]
) -> None:
    store = open_store(watched.url.replace(SERVICE, "unknown"))
    store.history("session").add_user_message("hello")
    assert store.status.degraded


@pytest.mark.parametrize("lent", [False, True])
async def test_a_master_that_was_demoted_is_away_and_refuses_nothing(
    watched: WatchedServers, variant: str, lent: bool
) -> None:
    """Until the sentinels name the new one; else what waits for it would be dropped as refused for good."""
    manager, async_manager = redis.Sentinel(watched.hosts), redis.asyncio.Sentinel(watched.hosts)
    client, async_client = manager.master_for(SERVICE), async_manager.master_for(SERVICE)
    store = (
        Memstore.from_client(client, async_client, fallback=False)
        if lent
        else Memstore.from_url(watched.url, fallback=False)
    )
    with watched.master.admin() as admin:
        admin.replicaof("127.0.0.1", 1)
        try:
            with pytest.raises(BackendUnavailable, match="now a slave"):
                await acall(variant, store.history("session").register_turn)
        finally:
            admin.replicaof("NO", "ONE")
    await store.aclose()
    for each in (async_client, *async_manager.sentinels):
        await each.aclose()


async def test_a_master_that_hangs_is_given_up_in_time(watched: WatchedServers, variant: str) -> None:
    async with Memstore.from_url(watched.url, fallback=False, socket_timeout=1.0) as store:
        history = store.history("session")
        await acall(variant, history.register_turn)
        with ExitStack() as stack:
            for server in watched.servers:
                server.signal(signal.SIGSTOP)
                stack.callback(server.signal, signal.SIGCONT)
            start = time.monotonic()
            with pytest.raises(BackendUnavailable):
                await acall(variant, history.register_turn)
            assert time.monotonic() - start < 1 + 1
