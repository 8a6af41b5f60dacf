"""The operations that look at the server itself, and at what lies there beside the sessions, as mere keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, ClassVar, NamedTuple

from typing_extensions import override

from langchain_memstore.models import SlowCommand, StoreInfo
from langchain_memstore.ops.base import Command, InOutage, Op
from langchain_memstore.ops.scanning import ScanOp, ScanPage
from langchain_memstore.ops.state import LocalState


@dataclass(frozen=True)
class Info(Op[StoreInfo]):
    """Tell how the store does."""

    atomic: ClassVar[bool] = False
    everywhere: ClassVar[bool] = True
    in_outage: ClassVar[InOutage] = "serve"

    @override
    def commands(self) -> list[Command]:
        return [("INFO",), ("DBSIZE",)]

    @override
    def decode(self, reply: list[Any]) -> StoreInfo:
        infos = [
            {name: value for name, _, value in (line.partition(b":") for line in fields.splitlines())}
            for fields in reply[::2]
        ]

        def total(name: bytes) -> int:
            return sum(int(info[name]) for info in infos)

        return StoreInfo(
            backend="redis",
            keys=sum(reply[1::2]),
            used_memory=total(b"used_memory"),
            peak_memory=total(b"used_memory_peak"),
            clients=total(b"connected_clients"),
            commands_per_second=total(b"instantaneous_ops_per_sec"),
            hit_rate=_rate(total(b"keyspace_hits"), total(b"keyspace_misses")),
        )

    @override
    def run(self, state: LocalState, now: int) -> StoreInfo:
        activity = state.activity
        texts = (
            text
            for _, session in state.sessions.items()
            for text in (*session.messages, *session.evicted, session.summary)
        )
        return StoreInfo(
            backend="local",
            keys=len(state.sessions) + len(state.values),
            used_memory=sum(map(len, texts)) + sum(len(key) + len(value.data) for key, value in state.values.items()),
            peak_memory=None,
            clients=None,
            commands_per_second=activity.per_second(now),
            hit_rate=_rate(activity.hits, activity.misses),
        )


@dataclass(frozen=True)
class SlowLog(Op[list[SlowCommand]]):
    """Tell of the commands that took long, the last of them first.

    Args:
        most: The most commands to tell of.
    """

    atomic: ClassVar[bool] = False
    everywhere: ClassVar[bool] = True
    in_outage: ClassVar[InOutage] = "serve"

    most: int

    @override
    def commands(self) -> list[Command]:
        return [("SLOWLOG", "GET", self.most)]

    @override
    def decode(self, reply: list[Any]) -> list[SlowCommand]:
        # The times are in seconds and microseconds; a Cluster hands over the entries of all masters.
        slow = [
            SlowCommand(
                number=number,
                at=datetime.fromtimestamp(at, timezone.utc),
                seconds=took / 1_000_000,
                command=b" ".join(command).decode(errors="replace"),
            )
            for entries in reply
            for number, at, took, command, *_ in entries
        ]
        return sorted(slow, key=lambda entry: entry.at, reverse=True)[: self.most]

    @override
    def run(self, state: LocalState, now: int) -> list[SlowCommand]:
        return []  # nothing that runs inside the process waits for anything


def _rate(hits: int, misses: int) -> float | None:
    return hits / (hits + misses) if hits + misses else None


@dataclass(frozen=True)
class ScanKeys(ScanOp[bytes]):
    """List a page of keys.

    Args:
        pattern: A Redis pattern.
        cursor: Where the page starts; 0: at the beginning.
        kind: Of which type of Redis; None: of any.
        count: About how many keys the server looks at for one page.
    """

    in_outage: ClassVar[InOutage] = "refuse"

    pattern: str
    cursor: int = 0
    kind: str | None = None
    count: int = 500

    @override
    def commands(self) -> list[Command]:
        kind = () if self.kind is None else ("TYPE", self.kind)
        return [("SCAN", self.cursor, "MATCH", self.pattern, "COUNT", self.count, *kind)]

    @override
    def decode(self, reply: list[Any]) -> ScanPage[bytes]:
        cursor, keys = reply[0]
        return ScanPage(int(cursor), tuple(keys), by_server=True)

    @override
    def run(self, state: LocalState, now: int) -> ScanPage[bytes]:
        return ScanPage(0, ())


class Kept(NamedTuple):
    """What a key holds."""

    value: Any
    """The value; None: there is no such key any more."""
    ttl_ms: int | None
    """Milliseconds until the key expires; None: never."""


@dataclass(frozen=True)
class ReadList(Op[Kept]):
    """Read a list, with its TTL, at one moment.

    Args:
        key: Where it is.
    """

    in_outage: ClassVar[InOutage] = "refuse"

    key: bytes

    @override
    def commands(self) -> list[Command]:
        return [("LRANGE", self.key, 0, -1), ("PTTL", self.key)]

    @override
    def decode(self, reply: list[Any]) -> Kept:
        return Kept(reply[0] or None, _ttl_ms(reply[1]))

    @override
    def run(self, state: LocalState, now: int) -> Kept:
        return Kept(None, None)


@dataclass(frozen=True)
class ReadDocuments(Op[list[Kept]]):
    """Read JSON documents, with their TTLs; it takes a server with the JSON module, as Redis Stack and Redis 8 have it.

    Args:
        documents: Their keys.
    """

    atomic: ClassVar[bool] = False
    in_outage: ClassVar[InOutage] = "refuse"

    documents: tuple[bytes, ...]

    @override
    def commands(self) -> list[Command]:
        return [command for key in self.documents for command in (("JSON.GET", key), ("PTTL", key))]

    @override
    def decode(self, reply: list[Any]) -> list[Kept]:
        return [Kept(text, _ttl_ms(milliseconds)) for text, milliseconds in zip(reply[::2], reply[1::2], strict=True)]

    @override
    def run(self, state: LocalState, now: int) -> list[Kept]:
        return [Kept(None, None) for _ in self.documents]


@dataclass(frozen=True)
class Ask(Op[Any]):
    """Ask the server about itself, or one of the nodes of a cluster; None where there is no server.

    Args:
        command: What to ask, and nothing that changes anything: `("INFO",)`.
    """

    in_outage: ClassVar[InOutage] = "refuse"

    command: Command

    @override
    def commands(self) -> list[Command]:
        return [self.command]

    @override
    def decode(self, reply: list[Any]) -> Any:
        return reply[0]

    @override
    def run(self, state: LocalState, now: int) -> Any:
        return None


def _ttl_ms(milliseconds: int) -> int | None:
    return milliseconds if milliseconds >= 0 else None
