"""A master of a Cluster is away, or hands a slot over: the others serve throughout."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from redis.crc import key_slot

from langchain_memstore import BackendUnavailable, Memstore
from langchain_memstore.keys import SessionKeys
from support.servers import COMMANDS, Server, admit, grant
from support.topologies import ClusterOfServers
from support.variants import Call
from support.waiting import wait_until


@pytest.fixture(scope="module")
def running_masters() -> Iterator[ClusterOfServers]:
    """Three masters without replicas, which serve their slots though another one is away."""
    cluster = ClusterOfServers(
        next(iter(COMMANDS.values())), "--cluster-require-full-coverage", "no", "--appendonly", "yes", replicas=False
    )
    yield cluster
    cluster.stop()


@pytest.fixture
def masters(running_masters: ClusterOfServers) -> ClusterOfServers:
    running_masters.reset()
    return running_masters


def sessions_by_master(cluster: ClusterOfServers, count: int = 30) -> dict[int, list[str]]:
    """Return session ids by the port of the master that has them."""
    by_master: dict[int, list[str]] = {}
    for number in range(count):
        session_id = f"session-{number}"
        slot = key_slot(SessionKeys("conversation", session_id).messages.encode())
        by_master.setdefault(cluster.port_of(slot, cluster.servers[0]), []).append(session_id)
    return by_master


def texts(store: Memstore, session_id: str) -> list[str]:
    return [message.text for message in store.history(session_id).messages]


@pytest.fixture
def elsewhere(masters: ClusterOfServers) -> Iterator[Memstore]:
    """A store as another process has one; all sessions have a message of its."""
    with Memstore.from_url(masters.url) as store:
        for session_id in (each for ids in sessions_by_master(masters).values() for each in ids):
            store.history(session_id).add_user_message("elsewhere")
        yield store


@contextmanager
def away(server: Server, fault: str) -> Iterator[None]:
    """Take a server away for a while."""
    if fault == "killed":
        server.kill()
    else:
        server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        if fault == "killed":
            server.start()
            with server.admin() as admin:
                admit(admin)  # a server forgets its users
        else:
            server.signal(signal.SIGCONT)


@pytest.mark.parametrize("fault", ["killed", "hung"])
@pytest.mark.parametrize("met_by", ["a write", "a read"])
def test_sessions_of_other_masters_are_served_by_redis(
    masters: ClusterOfServers,
    open_store: Callable[..., Memstore],
    elsewhere: Memstore,
    fault: str,
    met_by: str,
    call: Call,
) -> None:
    store = open_store(masters.url, socket_timeout=0.5, socket_connect_timeout=0.5)
    by_master, victim = sessions_by_master(masters), masters.servers[1]
    lost = by_master.pop(victim.port)
    served = [session_id for ids in by_master.values() for session_id in ids]
    store.history(served[0]).add_user_message("before")
    with away(victim, fault):
        if met_by == "a write":
            call(store.history(lost[0]), "add_user_message", "here")
        else:
            call(store.history(lost[0]), "messages")
        status = store.status
        assert status.degraded and f"127.0.0.1:{victim.port}" in (status.cause or "")
        for session_id in served[1:]:
            assert call(store.history(session_id), "messages")[0].text == "elsewhere"
            call(store.history(session_id), "add_user_message", "there")
            assert texts(elsewhere, session_id) == ["elsewhere", "there"]
        assert call(store.history(lost[1]), "messages") == []
        with pytest.raises(BackendUnavailable, match=f"127.0.0.1:{victim.port}"):
            list(store.sessions())
        with pytest.raises(BackendUnavailable, match=f"127.0.0.1:{victim.port}"):
            store.kv().keys()
    wait_until(lambda: not store.status.degraded, 20)
    assert texts(elsewhere, lost[0]) == ["elsewhere", *(["here"] if met_by == "a write" else [])]
    assert len(list(store.sessions())) == 30


def test_locks_limits_and_values_of_other_masters_are_served(
    masters: ClusterOfServers, open_store: Callable[..., Memstore]
) -> None:
    store = open_store(masters.url)
    victim = masters.servers[1]
    grant(*masters.servers)
    names = [f"name-{number}" for number in range(30)]
    with away(victim, "killed"):
        served = 0
        for name in names:
            with suppress(BackendUnavailable):
                assert store.rate_limiter(5, 60, name).hit()
                with store.lock(name, wait=0):
                    served += store.kv().set(name, 1, nx=True)
        assert served >= 10  # all three of a name are on one of the others
    wait_until(lambda: not store.status.degraded, 20)


def test_a_slot_that_is_moving_takes_nothing_else_with_it(
    masters: ClusterOfServers, open_store: Callable[..., Memstore], elsewhere: Memstore, call: Call
) -> None:
    """Its keys are on two nodes: for as long as that lasts, scripts are answered TRYAGAIN."""
    store = open_store(masters.url, socket_timeout=0.5)
    source, target = masters.servers[:2]
    session_id, *others = sessions_by_master(masters)[source.port]
    history = store.history(session_id)
    history.add_user_message("known")
    history.set_summary("so far")
    assert history.snapshot().summary == "so far"
    keys = SessionKeys("conversation", session_id)
    slot = key_slot(keys.messages.encode())
    ids = {server.port: masters.ask(server, "CLUSTER", "MYID") for server in (source, target)}
    masters.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source.port])
    masters.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target.port])
    masters.ask(
        source,
        "MIGRATE",
        "127.0.0.1",
        target.port,
        "",
        0,
        5000,
        "KEYS",
        SessionKeys("conversation", session_id).summary,
    )
    assert [message.text for message in call(history, "snapshot").messages] == ["elsewhere", "known"]
    call(history, "add_user_message", "meanwhile")
    assert [message.text for message in call(history, "snapshot").messages] == ["elsewhere", "known", "meanwhile"]
    assert not store.status.degraded
    for each in others:
        assert [message.text for message in call(store.history(each), "messages")] == ["elsewhere"]
    while rest := masters.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 1):
        masters.ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *rest)
    for server in masters.servers:
        masters.ask(server, "CLUSTER", "SETSLOT", slot, "NODE", ids[target.port])
    wait_until(lambda: not store.status.pending, 20)
    snapshot = elsewhere.history(session_id).snapshot()
    assert [message.text for message in snapshot.messages] == ["elsewhere", "known", "meanwhile"]
    assert snapshot.summary == "so far"
