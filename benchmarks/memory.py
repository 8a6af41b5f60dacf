"""What a conversation takes in the server's memory: MEMORY USAGE of all its keys, a message."""

from __future__ import annotations

import asyncio
from itertools import islice

from benchmarks.contenders import Agents, Clients, Community, Contender, FloorA, Ours
from benchmarks.messages import pairs
from benchmarks.rounds import Measured

MESSAGES = 50


def measure(clients: Clients, loop: asyncio.AbstractEventLoop) -> Measured:
    """Weigh a conversation of 50 messages, appended two at a time, in bytes a message."""
    weights: dict[str, list[float]] = {}
    kinds: tuple[type[Contender], ...] = (FloorA, Ours, Community, Agents)
    for kind in kinds:
        clients.redis.flushall()
        contender = kind(clients, "session", MESSAGES)
        for pair in islice(pairs(), MESSAGES // 2):
            loop.run_until_complete(contender.aappend(contender.native(pair)))
        usage = sum(clients.redis.memory_usage(key, samples=0) or 0 for key in clients.redis.scan_iter())
        weights[kind.name] = [usage / MESSAGES]
    return Measured(weights)
