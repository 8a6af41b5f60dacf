"""The nodes of a Redis Cluster: which of them serves a slot, and how each is reached."""

from __future__ import annotations

import threading
import weakref
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from redis.exceptions import ClusterDownError
from typing_extensions import Unpack, override

from langchain_memstore.backends.redis.connections import Connections, Shared, find_shared
from langchain_memstore.backends.redis.limits import TimeLimits
from langchain_memstore.backends.redis.pool_makers import MakePool, common_settings, node_pools, url_pools
from langchain_memstore.backends.redis.sentinel import Address
from langchain_memstore.backends.redis.url_options import read_options
from langchain_memstore.backends.redis.urls import parse_hosts, settings_of, shared_key
from langchain_memstore.options import ConnectionOptions

_borrowed: weakref.WeakKeyDictionary[Any, Cluster] = weakref.WeakKeyDictionary()
_borrowed_lock = threading.Lock()


class Node(NamedTuple):
    """A master, and the slots that it serves."""

    ranges: tuple[tuple[int, int], ...]
    address: Address


class Cluster(Shared):
    """The nodes of a cluster, each with its connections, and what is known of the slots that they serve.

    Nothing connects before it is first used.

    Args:
        seeds: Nodes to ask for the others.
        connect: Makes what makes the pools of a node.
        key: By which the process shares this; None: it is not shared.
        remap: Translates the addresses that nodes are announced by; None: they are right.
    """

    def __init__(
        self,
        seeds: list[Address],
        connect: Callable[[Address], MakePool],
        key: tuple[Any, ...] | None = None,
        remap: Callable[[Address], Address] | None = None,
    ) -> None:
        super().__init__(key)
        self._seeds = seeds
        self._connect = connect
        self._remap = remap
        self.limits = TimeLimits(connect(seeds[0])(False).connection_kwargs)
        self._lock = threading.Lock()
        self._connections: dict[Address, Connections] = {}
        self.failed: dict[Address, float] = {}
        """When nodes that were asked for the slots did not answer, by the monotonic clock."""
        self._slots: list[tuple[int, int, Address]] = []
        self._moved: dict[int, Address] = {}
        self._others: list[Address] = []
        self.masters: list[Node] = []
        """The nodes that serve slots, by the first slot of each."""
        self.is_stale = True
        """Whether the slots are to be asked for before they are relied on."""

    @classmethod
    def of_url(cls, url: str, **options: Unpack[ConnectionOptions]) -> Cluster:
        """Return the process's connections to the cluster of a URL.

        Args:
            url: `redis+cluster://user:password@host:port,host:port`, or `rediss+cluster://` for TLS, with redis-py's
                own query options.
            **options: How to connect to each node.

        Raises:
            ValueError: The URL or an option makes no sense.
        """
        parts, settings = parse_hosts(url, 6379), settings_of(options)
        asked = read_options(parts.query.removeprefix("?"), tls=parts.scheme == "rediss://")
        if parts.path not in ([], ["0"]) or asked.get("db"):
            raise ValueError("a Redis Cluster has database 0 alone; take the path, or db, off the Redis URL")
        url_pools(parts.node_url(parts.hosts[0]), settings)
        key = shared_key(url, settings)
        return find_shared(key, lambda: cls(parts.hosts, lambda node: url_pools(parts.node_url(node), settings), key))

    @classmethod
    def of_client(cls, client: Any) -> Cluster:
        """Return connections like those of a `RedisCluster`, sync or async: with its seeds and its settings."""
        with _borrowed_lock:
            if client not in _borrowed:
                given = client.get_connection_kwargs()
                settings = common_settings(given)
                for name in ("host", "port", "db"):
                    settings.pop(name, None)
                is_tls = bool(given.get("ssl")) or "SSL" in getattr(given.get("connection_class"), "__name__", "")
                settings["max_connections"] = min(given.get("max_connections") or 20, 20)
                seeds = [(node.host, int(node.port)) for node in client.nodes_manager.startup_nodes.values()]
                remap = getattr(client.nodes_manager, "address_remap", None)
                _borrowed[client] = cls(seeds, lambda node: node_pools(node, settings, is_tls), remap=remap)
            return _borrowed[client]

    def node(self, address: Address) -> Connections:
        """Return the connections to a node."""
        with self._lock:
            if address not in self._connections:
                self._connections[address] = Connections(self._connect(address))
            return self._connections[address]

    def owner(self, slot: int) -> Address:
        """Return the address of the node that serves a slot.

        Raises:
            ClusterDownError: None does.
        """
        if (moved := self._moved.get(slot)) is not None:
            return moved
        slots = self._slots
        at = bisect_right(slots, slot, key=lambda served: served[0]) - 1
        if at < 0 or slots[at][1] < slot:
            raise ClusterDownError(f"no node serves slot {slot}")
        return slots[at][2]

    def candidates(self) -> list[Address]:
        """Return the nodes that may be asked for the slots, those last that lately did not answer."""
        nodes = dict.fromkeys([*(node.address for node in self.masters), *self._others, *self._seeds])
        return sorted(nodes, key=lambda node: self.failed.get(node, 0.0))

    def learn(self, reply: list[Any], asked: Address) -> None:
        """Take in what CLUSTER SLOTS says.

        Args:
            reply: The answer.
            asked: The node that was asked; it stands where a node does not know its own address.
        """
        slots: list[tuple[int, int, Address]] = []
        served: dict[Address, list[tuple[int, int]]] = defaultdict(list)
        others: set[Address] = set()
        for first, last, *nodes in reply:
            address, *replicas = [self.address((node[0] or b"").decode(), node[1], asked) for node in nodes]
            slots.append((first, last, address))
            served[address].append((first, last))
            others.update(replicas)
        with self._lock:
            self._slots, self._moved = sorted(slots), {}
            self.masters = sorted(Node(tuple(sorted(ranges)), address) for address, ranges in served.items())
            self._others = sorted(others)
            self.is_stale = False
            for address in self._connections.keys() - served.keys() - others - set(self._seeds):
                self._connections.pop(address).close()

    def move(self, slot: int, address: Address) -> None:
        """Note that a node serves a slot now; where others have gone with it has to be asked."""
        self._moved[slot] = address
        self.is_stale = True

    def address(self, host: str, port: int, asked: Address) -> Address:
        """Return the address at which to reach a node that is announced by another."""
        address = (host if host not in ("", "?") else asked[0], port)
        return self._remap(address) if self._remap else address

    @override
    def end_waits(self, address: Address | None = None) -> None:
        for node, connections in list(self._connections.items()):
            if address in (None, node):
                connections.end_waits()

    @override
    def close(self) -> None:
        for connections in list(self._connections.values()):
            connections.close()

    @override
    async def aclose(self) -> None:
        for connections in list(self._connections.values()):
            await connections.aclose()
