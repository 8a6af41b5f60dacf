"""What each contender costs the server: processor time an operation, and memory a message and a session."""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from benchmarks.contenders import Clients, Contender, Ours
from benchmarks.floors import FloorA
from benchmarks.messages import LARGE, SIZE, conversation, pairs
from benchmarks.peers import Agents, Community, Llama

KINDS: tuple[type[Contender], ...] = (Ours, FloorA, Community, Agents, Llama)
MESSAGES = 50
CALLS = 200
ROUNDS = 5
OUTSIDE = {"multi", "exec", "watch", "unwatch", "type", "time", "evalsha", "eval"}
"""Commands whose time counts where there are transactions or scripts: these hold the time of those inside them."""


@dataclass(frozen=True)
class ServerCost:
    """What a contender costs the server."""

    append: float
    """Microseconds that commands take for an append of 2, by INFO commandstats."""
    append_cpu: float
    """Microseconds of processor time that the server takes in all for it: receiving, parsing, answering."""
    read: float
    """Microseconds that commands take for a read of 50."""
    read_cpu: float
    """Microseconds of processor time in all for it."""
    message: float
    """Bytes a message, by MEMORY USAGE of all keys of a conversation of 50."""
    session: float
    """Bytes by which an idle session of 50 messages makes `used_memory` grow."""

    json = asdict


def measure(clients: Clients, loop: asyncio.AbstractEventLoop, sessions: int) -> dict[str, ServerCost]:
    """Measure each contender.

    Args:
        clients: How to reach the server, which is emptied.
        loop: Where what is async runs.
        sessions: How many sessions to fill for the memory of one.
    """
    taken = _times(clients, loop)
    return {kind.name: ServerCost(*taken[kind.name], *_weights(clients, loop, kind, sessions)) for kind in KINDS}


def sizes(clients: Clients) -> dict[str, float]:
    """Weigh sessions of this package: bytes by MEMORY USAGE of all keys, by number and size of messages."""
    found = {}
    for count in (50, 200, 1_000):
        for size in (SIZE, LARGE):
            clients.redis.flushall()
            contender = Ours(clients, "session", count)
            for pair in islice(pairs(size), count // 2):
                contender.append(pair)
            found[f"{count:,} messages of {size:,} bytes"] = _usage(clients)
    return found


def _times(clients: Clients, loop: asyncio.AbstractEventLoop) -> dict[str, list[float]]:
    clients.redis.flushall()
    found: dict[str, list[list[float]]] = {kind.name: [] for kind in KINDS}
    contenders = [kind(clients, "session", MESSAGES) for kind in KINDS]
    for each in contenders:
        each.fill(conversation(MESSAGES))
    for _ in range(1 + ROUNDS):
        for each in contenders:
            batch = each.native(next(pairs()))
            row = [*_cost(clients, loop, lambda each=each, batch=batch: each.aappend(batch))]
            each.settle(clients.redis)
            row += _cost(clients, loop, each.aread)
            found[each.name].append(row)
    return {name: [statistics.median(column) for column in zip(*rows[1:], strict=True)] for name, rows in found.items()}


def _cost(clients: Clients, loop: asyncio.AbstractEventLoop, call: Any) -> tuple[float, float]:
    """Return the microseconds of one call: in commands, and of processor time."""

    async def calls() -> None:
        for _ in range(CALLS):
            await call()

    clients.redis.config_resetstat()
    before = _processor(clients)
    loop.run_until_complete(calls())
    spent = _processor(clients) - before
    stats = {name.removeprefix("cmdstat_"): each["usec"] for name, each in clients.redis.info("commandstats").items()}
    own = {"info", "config|resetstat"}
    counted = OUTSIDE if stats.keys() & {"exec", "evalsha"} else stats.keys() - own
    return sum(stats.get(name, 0) for name in counted) / CALLS, spent / CALLS * 1e6


def _processor(clients: Clients) -> float:
    info = clients.redis.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def _weights(
    clients: Clients, loop: asyncio.AbstractEventLoop, kind: type[Contender], sessions: int
) -> tuple[float, float]:
    """Return the bytes a message and a session, appended two messages at a time."""

    async def fill(number: int) -> None:
        contender = kind(clients, f"session-{number:06}", MESSAGES)
        for pair in islice(pairs(), MESSAGES // 2):
            await contender.aappend(contender.native(pair))

    async def fill_all(first: int, end: int) -> None:
        for number in range(first, end, 10):
            await asyncio.gather(*[fill(each) for each in range(number, min(number + 10, end))])

    clients.redis.flushall()
    loop.run_until_complete(fill_all(0, 10))  # so that connections and their buffers are there before
    message = _usage(clients) / 10 / MESSAGES
    before = clients.redis.info("memory")["used_memory"]
    loop.run_until_complete(fill_all(10, 10 + sessions))
    return message, (clients.redis.info("memory")["used_memory"] - before) / sessions


def _usage(clients: Clients) -> int:
    return sum(clients.redis.memory_usage(key, samples=0) or 0 for key in clients.redis.scan_iter(count=1_000))
