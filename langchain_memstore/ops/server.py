"""The operations that look at the server itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, ClassVar, Literal

from langchain_memstore.ops.base import Command, InOutage, Op
from langchain_memstore.ops.held import Held


@dataclass(frozen=True)
class StoreInfo:
    """How what keeps the values does. None: it does not say."""

    backend: Literal["redis", "local"]
    """What keeps them."""
    keys: int
    """How many keys there are, of whatever kind and prefix; inside the process, sessions and values."""
    used_memory: int
    """Bytes in use; inside the process, of what is kept, without what Python adds."""
    peak_memory: int | None
    """The most bytes that ever were in use."""
    clients: int | None
    """How many connections there are."""
    commands_per_second: int
    """How much is being done."""
    hit_rate: float | None
    """Which part of the values that were asked for there were, from 0 to 1, since the start; None: nothing was."""


@dataclass(frozen=True)
class SlowCommand:
    """A command that took long; inside the process, an operation."""

    number: int
    """Its number; of one server, a later one is greater."""
    at: datetime
    """When it was done."""
    seconds: float
    """How long it took."""
    command: str
    """What it was; Redis leaves out what is long."""


@dataclass(frozen=True)
class Info(Op[StoreInfo]):
    """Tell how the store does."""

    atomic: ClassVar[bool] = False
    everywhere: ClassVar[bool] = True
    in_outage: ClassVar[InOutage] = "serve"

    def commands(self) -> list[Command]:
        """Return INFO and DBSIZE."""
        return [("INFO",), ("DBSIZE",)]

    def decode(self, reply: list[Any]) -> StoreInfo:
        """Read the fields, and add up those of the masters of a Cluster."""
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

    def run(self, held: Held, now: int) -> StoreInfo:
        """Count what the process holds."""
        activity = held.activity
        texts = (
            text
            for _, session in held.sessions.items()
            for text in (*session.messages, *session.evicted, session.summary)
        )
        return StoreInfo(
            backend="local",
            keys=len(held.sessions) + len(held.values),
            used_memory=sum(map(len, texts)) + sum(len(key) + len(value.data) for key, value in held.values.items()),
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

    def commands(self) -> list[Command]:
        """Return one SLOWLOG GET."""
        return [("SLOWLOG", "GET", self.most)]

    def decode(self, reply: list[Any]) -> list[SlowCommand]:
        """Read the entries, whose times are in seconds and microseconds, of all masters of a Cluster together."""
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

    def run(self, held: Held, now: int) -> list[SlowCommand]:
        """Read what was noted."""
        noted = list(held.activity.slow)[: -self.most - 1 : -1]
        return [
            SlowCommand(slow.number, datetime.fromtimestamp(slow.at / 1000, timezone.utc), slow.seconds, slow.name)
            for slow in noted
        ]


def _rate(hits: int, misses: int) -> float | None:
    return hits / (hits + misses) if hits + misses else None
