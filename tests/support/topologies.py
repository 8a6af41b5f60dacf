"""Real clusters, and masters that real sentinels watch."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot

from support.servers import PASSWORD, USER, Server, admit, free_port
from support.waiting import wait_until

NODE_TIMEOUT = 1000  # milliseconds after which a node counts as failed
PATIENCE = 30.0  # seconds to wait for a topology to come about


class ClusterOfServers:
    """A Redis Cluster of three masters, with a replica each where that is wanted.

    Args:
        command: What starts a server.
        replicas: Whether each master has a replica.
        options: Settings of all servers, as on the command line.
    """

    def __init__(self, command: tuple[str, ...], *options: str, replicas: bool = True) -> None:
        self._stack = ExitStack()
        self.servers = [self._start(command, options) for _ in range(6 if replicas else 3)]
        try:
            self._form()
        except BaseException:
            self.stop()
            raise

    def _start(self, command: tuple[str, ...], options: tuple[str, ...]) -> Server:
        settings = ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"]
        settings += ["--cluster-node-timeout", str(NODE_TIMEOUT), "--cluster-port", str(free_port())]
        server = Server(command, *settings, *options)
        self._stack.callback(server.stop)
        return server

    def _form(self) -> None:
        first, *others = self.servers
        for server in others:
            bus = server.options[server.options.index("--cluster-port") + 1]
            self.ask(first, "CLUSTER", "MEET", "127.0.0.1", server.port, bus)
        for at, server in enumerate(self.servers[:3]):
            self.ask(server, "CLUSTER", "ADDSLOTSRANGE", at * 5461, 16383 if at == 2 else at * 5461 + 5460)
        wait_until(lambda: all(len(self.nodes(server)) == len(self.servers) for server in self.servers), PATIENCE)
        for master, replica in zip(self.servers[:3], self.servers[3:], strict=False):
            self.ask(replica, "CLUSTER", "REPLICATE", self.ask(master, "CLUSTER", "MYID"))
        wait_until(self.is_well, PATIENCE)
        for server in self.servers:
            with server.admin() as admin:
                admit(admin)

    def ask(self, server: Server, *command: Any) -> Any:
        """Have a server execute a command."""
        with server.admin() as admin:
            return admin.execute_command(*command)

    def nodes(self, server: Server) -> dict[str, Any]:
        """Return the nodes that a server knows, by address."""
        return self.ask(server, "CLUSTER NODES")

    def is_well(self) -> bool:
        """Tell whether all slots are served, and every replica is in step."""
        for server in self.servers:
            try:
                if self.ask(server, "CLUSTER INFO")["cluster_state"] != "ok":
                    return False
                role = self.ask(server, "ROLE")
            except redis.ConnectionError:
                return False
            if role[0] in (b"slave", "slave") and role[3] not in (b"connected", "connected"):
                return False
        return len(self.masters()) == 3

    def masters(self) -> list[Server]:
        """Return the masters."""
        return [server for server in self.servers if self.ask(server, "ROLE")[0] in (b"master", "master")]

    def master_of(self, key: str) -> Server:
        """Return the master that serves a key."""
        port = self.port_of(key_slot(key.encode()), next(server for server in self.servers if server.is_running))
        return next(server for server in self.servers if server.port == port)

    def port_of(self, slot: int, asked: Server) -> int:
        """Return the port of the node that serves a slot, as one of the servers has it."""
        with asked.admin() as admin:
            admin.set_response_callback("CLUSTER SLOTS", lambda reply, **_: reply)
            slots = admin.execute_command("CLUSTER SLOTS")
        return next(port for first, last, (_, port, *_), *_ in slots if first <= slot <= last)

    def reset(self) -> None:
        """Have all servers run, empty."""
        for server in self.servers:
            if not server.is_running:
                server.start()
        wait_until(self.is_well, PATIENCE)
        for server in self.servers:
            with server.admin() as admin:
                admit(admin)
        for server in self.masters():
            self.ask(server, "FLUSHALL")

    @property
    def url(self) -> str:
        """The address, for a user who may do only what a store has to."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:2])
        return f"redis+cluster://{USER}:{PASSWORD}@{hosts}"

    def held(self, key: str) -> list[bytes]:
        """Return what the cluster holds of a list."""
        return self.ask(self.master_of(key), "LRANGE", key, 0, -1)

    def stop(self) -> None:
        """Stop all servers."""
        self._stack.close()


class _SentinelServer(Server):
    """A sentinel; it watches a master from its start."""

    def __init__(self, command: tuple[str, ...], master: Server) -> None:
        self._config = tempfile.TemporaryDirectory(prefix="memstore-sentinel-")
        self._watched = master.port
        super().__init__(command)

    def _settings(self, port: int) -> list[str]:
        config = Path(self._config.name) / "sentinel.conf"
        if not config.exists():
            config.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {self._config.name}\nlogfile sentinel.log\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {self._watched} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} 600\n"
                f"sentinel failover-timeout {SERVICE} 3000\n"
                f"sentinel parallel-syncs {SERVICE} 1\n"
            )
        return [str(config), "--sentinel"]

    def stop(self) -> None:
        super().stop()
        self._config.cleanup()


SERVICE = "conversations"


class WatchedServers:
    """A master and a replica, which three sentinels watch.

    Args:
        command: What starts a server.
        options: Settings of the two, as on the command line.
    """

    def __init__(self, command: tuple[str, ...], *options: str) -> None:
        self._stack = ExitStack()
        try:
            self.servers = [self._start(Server(command, *options)) for _ in range(2)]
            first, second = self.servers
            with second.admin() as admin:
                admin.replicaof("127.0.0.1", first.port)
            for server in self.servers:
                with server.admin() as admin:
                    admit(admin)
            self.sentinels = [self._start(_SentinelServer(command, first)) for _ in range(3)]
            wait_until(self.is_well, PATIENCE)
        except BaseException:
            self.stop()
            raise

    def _start(self, server: Server) -> Server:
        self._stack.callback(server.stop)
        return server

    def is_well(self) -> bool:
        """Tell whether the sentinels know one another and the replica, and this is in step."""
        for sentinel in self.sentinels:
            with sentinel.admin() as admin:
                (state,) = admin.sentinel_masters().values()
            if (state["num-other-sentinels"], state["num-slaves"]) != (2, 1) or state["is_sdown"]:
                return False
        try:
            roles = [server.admin().info("replication") for server in self.servers]
        except redis.ConnectionError:
            return False
        replicas = [role for role in roles if role["role"] == "slave"]
        return len(replicas) == 1 and replicas[0]["master_link_status"] == "up"

    @property
    def master(self) -> Server:
        """The master, as the first sentinel has it."""
        with self.sentinels[0].admin() as admin:
            (state,) = admin.sentinel_masters().values()
        return next(server for server in self.servers if server.port == state["port"])

    @property
    def hosts(self) -> list[tuple[str, int]]:
        """Where the sentinels are."""
        return [("127.0.0.1", sentinel.port) for sentinel in self.sentinels]

    @property
    def url(self) -> str:
        """The address, for a user who may do only what a store has to."""
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"redis+sentinel://{USER}:{PASSWORD}@{hosts}/{SERVICE}/0"

    def reset(self) -> None:
        """Have all servers run, empty."""
        for server in self.servers:
            if not server.is_running:
                server.start()
                with server.admin() as admin:  # the sentinels would take ten seconds for it
                    admin.replicaof("127.0.0.1", self.master.port)
        wait_until(self.is_well, PATIENCE)
        for server in self.servers:
            with server.admin() as admin:
                admit(admin)
        with self.master.admin() as admin:
            admin.flushall()

    def stop(self) -> None:
        """Stop all of them."""
        self._stack.close()
