"""TLS with a private authority and client certificates, to every kind of Redis."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from langchain_memstore import BackendError, Memstore
from support.certificates import Authority
from support.servers import COMMANDS, PASSWORD, USER, Server, admit, free_port
from support.topologies import PATIENCE
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

    def query(self, authority: str | None = None, client: bool = True) -> str:
        """Return the options that tell a client of certificates."""
        query = f"?ssl_ca_certs={authority or self.authority.certificate}"
        return query + (f"&ssl_certfile={self.client_files[0]}&ssl_keyfile={self.client_files[1]}" if client else "")

    def url(self, kind: str = "", path: str = "/0", port: int | None = None, **options: bool) -> str:
        return f"rediss{kind}://{USER}:{PASSWORD}@127.0.0.1:{port or self.port}{path}{self.query(**options)}"


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[Tls]:
    made = Tls(tmp_path)
    yield made
    made.server.stop()


async def use(url: str) -> None:
    """Write and read through both variants."""
    async with Memstore.from_url(url, fallback=False) as store:
        history = store.history("session")
        history.add_user_message("over TLS")
        assert [message.text for message in await history.aget_messages()] == ["over TLS"]
        assert PASSWORD not in repr(store) + repr(store.status)


async def test_one_server(tls: Tls) -> None:
    await use(tls.url())


async def test_a_cluster(tmp_path: Path) -> None:
    tls = Tls(tmp_path, "--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port", str(free_port()))
    try:
        with tls.server.admin() as admin:
            admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_until(lambda: admin.execute_command("CLUSTER INFO")["cluster_state"] == "ok", PATIENCE)
        await use(tls.url("+cluster", ""))
    finally:
        tls.server.stop()


async def test_a_master_that_a_sentinel_names(tls: Tls, tmp_path: Path) -> None:
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
    try:
        await use(tls.url("+sentinel", "/service/0", tls_port))
    finally:
        sentinel.stop()


@pytest.mark.parametrize("wrong", ["authority", "no client certificate", "plain port"])
def test_what_is_wrong_is_told_without_the_password(tls: Tls, tmp_path: Path, wrong: str) -> None:
    url = {
        "authority": tls.url(authority=Authority(tmp_path, "another").certificate),
        "no client certificate": tls.url(client=False),
        "plain port": tls.url(port=tls.server.port),
    }[wrong]
    history = Memstore.from_url(url, fallback=False, socket_timeout=1).history("session")
    with pytest.raises(BackendError, match="'session'") as caught:
        history.add_user_message("hello")
    told = "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in told
