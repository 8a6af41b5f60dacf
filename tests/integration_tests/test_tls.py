"""TLS with a private authority and client certificates, to every kind of Redis."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from langchain_memstore import BackendDenied, BackendError, BackendUnavailable, Memstore
from support.certificates import Authority
from support.servers import COMMANDS, PASSWORD, USER, Server, admit, free_port
from support.topologies import PATIENCE, ClusterOfServers
from support.variants import acall
from support.waiting import wait_until


class Tls:
    """A server that speaks TLS alone beside its plain port, and the files of a client that it trusts."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.authority = Authority(folder, "authority")
        certificate, key = self.authority.issue("server")
        self.port = free_port()
        files = [
            "--tls-cert-file",
            certificate,
            "--tls-key-file",
            key,
            "--tls-ca-cert-file",
            self.authority.certificate,
        ]
        self.server = Server(next(iter(COMMANDS.values())), "--tls-port", str(self.port), *files, *options)
        with self.server.admin() as admin:
            admit(admin)
        self.client_files = self.authority.issue("client")

        self.foreign = Authority(folder / "foreign", "foreign")
        """An authority that neither side trusts."""

    @property
    def client_options(self) -> dict[str, str]:
        """What a client takes that the server trusts."""
        names = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "username", "password")
        return dict(zip(names, (self.authority.certificate, *self.client_files, USER, PASSWORD), strict=True))

    def query(self, authority: str | None = None, client: tuple[str, str] | bool = True) -> str:
        """Return the options that tell a client of certificates."""
        query = f"?ssl_ca_certs={authority or self.authority.certificate}"
        certificate, key = self.client_files if client is True else client or ("", "")
        return query + (f"&ssl_certfile={certificate}&ssl_keyfile={key}" if client else "")

    def url(self, kind: str = "", path: str = "/0", port: int | None = None, **options: Any) -> str:
        return f"rediss{kind}://{USER}:{PASSWORD}@127.0.0.1:{port or self.port}{path}{self.query(**options)}"


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[Tls]:
    made = Tls(tmp_path)
    yield made
    made.server.stop()


async def use(url: str) -> None:
    """Write and read through both variants."""
    async with Memstore.from_url(url, fallback=False) as store:
        await use_both(store)
        assert PASSWORD not in repr(store) + repr(store.status)


async def use_both(store: Memstore) -> None:
    """Write and read through both variants of a store."""
    history = store.history("session")
    history.add_user_message("over TLS")
    assert [message.text for message in await history.aget_messages()] == ["over TLS"]


@pytest.fixture
def tls_cluster(tmp_path: Path) -> Iterator[Tls]:
    tls = Tls(tmp_path, "--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port", str(free_port()))
    try:
        with tls.server.admin() as admin:
            admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_until(lambda: admin.execute_command("CLUSTER INFO")["cluster_state"] == "ok", PATIENCE)
            admin.execute_command("ACL", "SETUSER", USER, "+cluster", "+command")  # redis-py's own client asks for more
        yield tls
    finally:
        tls.server.stop()


@pytest.fixture
def tls_sentinel(tls: Tls, tmp_path: Path) -> Iterator[int]:
    """The port at which a sentinel speaks TLS that watches the server."""
    certificate, key = tls.authority.issue("sentinel")
    tls_port = free_port()

    class Sentinel(Server):
        def _settings(self, port: int) -> list[str]:
            config = tmp_path / "sentinel.conf"
            config.write_text(
                f"port {port}\ntls-port {tls_port}\nbind 127.0.0.1\ndir {tmp_path}\nlogfile sentinel.log\n"
                f"tls-cert-file {certificate}\ntls-key-file {key}\ntls-ca-cert-file {tls.authority.certificate}\n"
                f"tls-replication yes\nsentinel monitor service 127.0.0.1 {tls.port} 1\n"
            )
            return [str(config), "--sentinel"]

    sentinel = Sentinel(next(iter(COMMANDS.values())))
    yield tls_port
    sentinel.stop()


async def test_one_server(tls: Tls) -> None:
    await use(tls.url())


async def test_a_cluster(tls_cluster: Tls) -> None:
    await use(tls_cluster.url("+cluster", ""))


async def test_a_master_that_a_sentinel_names(tls: Tls, tls_sentinel: int) -> None:
    await use(tls.url("+sentinel", "/service/0", tls_sentinel))


WRONG = {
    "another authority": ("cannot be verified.*ssl_ca_certs", lambda tls: tls.url(authority=tls.foreign.certificate)),
    "no authority": ("cannot be verified.*ssl_ca_certs", lambda tls: tls.url().partition("?")[0]),
    "a missing authority": ("ssl_ca_certs names what cannot be read", lambda tls: tls.url(authority="/nowhere")),
    "an authority that is none": ("ssl_ca_certs.* cannot be used", lambda tls: tls.url(authority=__file__)),
    "another host": ("another host.*ssl_check_hostname", lambda tls: tls.url().replace("127.0.0.1", "localhost")),
    "no client certificate": ("ssl_certfile", lambda tls: tls.url(client=False)),
    "a client's certificate of others": ("ssl_certfile", lambda tls: tls.url(client=tls.foreign.issue("stranger"))),
    "a missing client certificate": ("ssl_certfile names what cannot", lambda tls: tls.url(client=("/no", "/where"))),
    "a key of another": (
        "ssl_keyfile.* cannot be used",
        lambda tls: tls.url(client=(tls.client_files[0], tls.foreign.issue("other")[1])),
    ),
    "too old": ("ssl_min_version", lambda tls: tls.url() + "&ssl_min_version=TLSv1_3"),
    "TLS to a plain port": ("does not speak TLS.*redis://", lambda tls: tls.url(port=tls.server.port)),
    "no TLS to a TLS port": ("speaks TLS.*rediss://", lambda tls: tls.server.through(tls.port).url),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("fallback", [True, False])
async def test_a_wrong_configuration_is_told_at_once(
    tls: Tls, tmp_path: Path, variant: str, wrong: str, fallback
) -> None:
    if wrong == "too old":
        tls.server.stop()
        tls = Tls(tmp_path, "--tls-protocols", "TLSv1.2")
    says, url = WRONG[wrong]
    store = Memstore.from_url(url(tls), fallback=fallback, socket_timeout=1, socket_connect_timeout=1)
    start = time.monotonic()
    with pytest.raises(BackendDenied, match=rf"'session'.*: .*{says}") as caught:
        await acall(variant, store.history("session").register_turn)
    assert time.monotonic() - start < 2.5
    assert not store.status.degraded
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))
    await store.aclose()
    tls.server.stop()


@pytest.mark.parametrize("wrong", ["another authority", "TLS to a plain port", "no TLS to a TLS port"])
@pytest.mark.parametrize("lent", ["sync", "async"])
async def test_a_wrong_client_is_told_at_once(tls: Tls, variant: str, lent: str, wrong: str) -> None:
    says, url = WRONG[wrong]
    kind = redis.Redis if lent == "sync" else redis.asyncio.Redis
    retry = (Retry if lent == "sync" else AsyncRetry)(NoBackoff(), 0)
    client = kind.from_url(url(tls), retry=retry, socket_timeout=1, socket_connect_timeout=1)
    store = Memstore.from_client(*([client] if lent == "sync" else [None, client]))
    with pytest.raises(BackendDenied, match=says):
        await acall(variant, store.history("session").register_turn)
    await store.aclose()
    await client.aclose() if lent == "async" else client.close()


async def test_a_wrong_cluster_or_sentinel_is_told_at_once(tls: Tls, variant: str) -> None:
    for kind, path in (("+cluster", ""), ("+sentinel", "/service/0")):
        url = tls.url(kind, path, authority=tls.foreign.certificate)
        async with Memstore.from_url(url) as store:
            with pytest.raises(BackendDenied, match="ssl_ca_certs"):
                await acall(variant, store.history("session").register_turn)


async def test_a_certificate_that_fails_later_is_an_outage(tls: Tls, variant: str) -> None:
    async with Memstore.from_url(tls.url(), fallback=False) as store:
        await acall(variant, store.history("session").register_turn)
        certificate, key = tls.foreign.issue("replaced")
        with tls.server.admin() as admin:
            admin.config_set("tls-cert-file", certificate, "tls-key-file", key)
            admin.client_kill_filter(_type="normal", skipme=True)
        with pytest.raises(BackendUnavailable, match=r"TLS fails that worked before.*cannot be verified"):
            await acall(variant, store.history("session").register_turn)


async def test_a_renewed_client_certificate_is_used(tls: Tls, variant: str) -> None:
    """Without restarting the process, as short-lived certificates have it."""
    trusted = [shutil.copy(name, f"{name}.trusted") for name in tls.client_files]
    for name, stranger in zip(tls.client_files, tls.foreign.issue("client"), strict=True):
        shutil.copy(stranger, name)
    async with Memstore.from_url(tls.url(), fallback=False) as store:
        with pytest.raises(BackendDenied, match="ssl_certfile"):
            await acall(variant, store.history("session").register_turn)
        for name, right in zip(tls.client_files, trusted, strict=True):
            shutil.copy(right, name)
        assert await acall(variant, store.history("session").register_turn) == 1


@pytest.mark.parametrize("lent", ["sync", "async"])
async def test_a_client_over_tls_serves_both_variants(tls: Tls, lent: str) -> None:
    kind = redis.Redis if lent == "sync" else redis.asyncio.Redis
    client = kind(host="127.0.0.1", port=tls.port, ssl=True, **tls.client_options)
    async with Memstore.from_client(*([client] if lent == "sync" else [None, client]), fallback=False) as store:
        await use_both(store)
    await client.aclose() if lent == "async" else client.close()


@pytest.mark.parametrize("lent", ["sync", "async"])
async def test_a_cluster_client_over_tls_serves_both_variants(tls_cluster: Tls, lent: str) -> None:
    kind = redis.RedisCluster if lent == "sync" else redis.asyncio.RedisCluster
    client = kind(host="127.0.0.1", port=tls_cluster.port, ssl=True, **tls_cluster.client_options)
    async with Memstore.from_client(*([client] if lent == "sync" else [None, client]), fallback=False) as store:
        await use_both(store)
    await client.aclose() if lent == "async" else client.close()


@pytest.mark.parametrize("lent", ["sync", "async"])
async def test_a_sentinel_client_over_tls_serves_both_variants(tls: Tls, tls_sentinel: int, lent: str) -> None:
    options = {"ssl": True, **tls.client_options}
    kind = redis.Sentinel if lent == "sync" else redis.asyncio.Sentinel
    sentinel = kind([("127.0.0.1", tls_sentinel)], sentinel_kwargs={**options, "username": None, "password": None})
    client = sentinel.master_for("service", **options)
    async with Memstore.from_client(*([client] if lent == "sync" else [None, client]), fallback=False) as store:
        await use_both(store)
    for each in (client, *sentinel.sentinels):
        await each.aclose() if lent == "async" else each.close()


def test_a_client_that_asks_for_revocations_has_no_twin(variant: str) -> None:
    client = redis.Redis(ssl=True, ssl_validate_ocsp=True)
    store = Memstore.from_client(client, fallback=False)
    with pytest.raises(ValueError, match=r"ssl_validate_ocsp.*async_client"):
        asyncio.run(store.history("session").aregister_turn())


async def test_one_context_serves_all_connections(tls: Tls, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    make = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda *args, **kwargs: made.append(1) or make(*args, **kwargs))
    async with Memstore.from_url(tls.url(), fallback=False) as store:
        await acall(variant, store.history("session").register_turn)
        calls = [store.history(f"session-{number}") for number in range(20)]
        if variant == "sync":
            await asyncio.gather(*(asyncio.to_thread(each.register_turn) for each in calls))
        else:
            await asyncio.gather(*(each.aregister_turn() for each in calls))
    assert len(made) == 1


async def test_a_node_of_a_cluster_says_so(cluster: ClusterOfServers, variant: str) -> None:
    server = cluster.masters()[0]
    clients = redis.Redis(port=server.port), redis.asyncio.Redis(port=server.port)
    for store in (Memstore.from_url(server.url), Memstore.from_client(*clients)):
        elsewhere = next(
            name for number in range(100) if cluster.master_of(f"{{{(name := str(number))}}}") is not server
        )
        with pytest.raises(BackendError, match=r"part of a Redis Cluster.*redis\+cluster://") as caught:
            await acall(variant, store.history(elsewhere).register_turn)
        assert type(caught.value) is BackendError
        await store.aclose()
    clients[0].close()
    await clients[1].aclose()
