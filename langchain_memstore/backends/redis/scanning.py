"""Pages of listings: which run of a server has answered, and how a Cluster's masters are gone through."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, cast

from typing_extensions import override

from langchain_memstore.backends.redis.sentinel import Address
from langchain_memstore.backends.redis.topology import Node
from langchain_memstore.ops.base import Command, InOutage, Op
from langchain_memstore.ops.scanning import ScanCursor, ScanOp
from langchain_memstore.ops.state import LocalState

SLOTS = 16_384

_RUN_ID = re.compile(rb"^run_id:([0-9a-f]{16})", re.MULTILINE)


@dataclass(frozen=True)
class PageOfRun(Op[list[Any]]):
    """Ask a server for a page, and in the same pipeline for its run.

    Args:
        scan: The page.
        at: Where it starts.
    """

    atomic: ClassVar[bool] = False
    in_outage: ClassVar[InOutage] = "refuse"

    scan: ScanOp[Any]
    at: ScanCursor

    @classmethod
    def of(cls, op: Op[Any]) -> PageOfRun:
        """Ask for the page of an operation that scans."""
        scan = cast("ScanOp[Any]", op)
        return cls(scan, ScanCursor.of(scan.cursor))

    @override
    def commands(self) -> list[Command]:
        page: ScanOp[Any] = replace(cast("Any", self.scan), cursor=self.at.cursor)
        return [("INFO", "server"), *page.commands()]

    @override
    def run(self, state: LocalState, now: int) -> list[Any]:
        raise TypeError("only a server has runs")


def run_of(info: Any) -> int:
    """Return which run of a server has answered INFO; 0: it does not tell."""
    found = _RUN_ID.search(info) if isinstance(info, bytes) else None
    return int(found[1], 16) if found else 0


class ClusterPlace(NamedTuple):
    """Where in a Cluster a page starts; a `ScanCursor` holds it as one number."""

    node: int = 0
    """Which master, or the next after it in the order in which `number_of` puts them."""
    passes: int = 1
    """How often the masters are gone through, this time included."""
    moved: bool = False
    """Whether a slot was on its way."""
    since: int = 0
    """What `SlotMoves.seen` was when the listing began."""

    @classmethod
    def of(cls, number: int) -> ClusterPlace:
        """Unpack a number."""
        return cls(number & (2**64 - 1), number >> 64 & (2**16 - 1), bool(number >> 80 & 1), number >> 81)

    def as_int(self) -> int:
        """Pack it as a number."""
        return self.since << 81 | self.moved << 80 | self.passes << 64 | self.node


def number_of(address: Address) -> int:
    """Return a number for a master, by which a listing puts them in an order that outlives the others."""
    return int.from_bytes(hashlib.blake2b(repr(address).encode(), digest_size=8).digest(), "big")


class SlotMoves:
    """How often slots went from one master to another, as the listings of a backend have seen it."""

    def __init__(self) -> None:
        self.seen = 0
        """How often slots were found to have moved."""
        self._owners: dict[int, Address] = {}
        self._masters: list[Node] = []
        self._moves: defaultdict[int, list[int]] = defaultdict(list)
        self._lock = threading.Lock()

    def observe(self, masters: list[Node]) -> None:
        """Take in which master has which slots."""
        with self._lock:
            if masters == self._masters:
                return
            owners = {slot: node.address for node in masters for slot in slots_of(node.ranges)}
            moved = [slot for slot, owner in self._owners.items() if owners.get(slot, owner) != owner]
            self.seen += bool(moved)
            for slot in moved:
                self._moves[slot] = [*self._moves[slot][-15:], self.seen]
            self._owners.update(owners)
            self._masters = masters

    def most(self, since: int) -> int:
        """Return how often the slot has moved that has moved most.

        Args:
            since: What `seen` was then.
        """
        with self._lock:
            return max((sum(at > since for at in moves) for moves in self._moves.values()), default=0)


def slots_of(ranges: tuple[tuple[int, int], ...]) -> list[int]:
    """Return the slots of ranges."""
    return [slot for first, last in ranges for slot in range(first, last + 1)]


class NodeView(NamedTuple):
    """What a node says of itself."""

    is_master: bool
    ranges: frozenset[tuple[int, int]]
    """The slots that it serves."""
    is_moving: bool
    """Whether it hands over a slot, or receives one."""

    @classmethod
    def of(cls, nodes: Any) -> NodeView | None:
        """Read its answer to CLUSTER NODES; None: it is refused."""
        lines = nodes.decode().splitlines() if isinstance(nodes, bytes) else ()
        own = next((fields for line in lines if "myself" in (fields := line.split(" "))[2].split(",")), None)
        if own is None:
            return None
        slots = [slot for slot in own[8:] if not slot.startswith("[")]
        ranges = (slot.partition("-") for slot in slots)
        return cls(
            "master" in own[2].split(","),
            frozenset((int(first), int(last or first)) for first, _, last in ranges),
            len(slots) < len(own) - 8,
        )
