"""What an append and a turn cost when a conversation has come to 100, 1,000 and 10,000 messages."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice

from benchmarks.contenders import Clients, Community, Contender, Ours
from benchmarks.messages import conversation, pairs
from benchmarks.rounds import Block, Measured, interleave, timed

LENGTHS = (100, 1_000, 10_000)
WINDOW = 50


def name(length: int) -> str:
    return f"at {length:,}"


def ours(clients: Clients, operation: str, seconds: float) -> Measured:
    """Measure this package, at a window of 50, on conversations that were appended two messages at a time."""
    clients.redis.flushall()
    blocks: dict[str, Block] = {}
    for length in LENGTHS:
        template, contender = Ours(clients, f"template-{length}", WINDOW), Ours(clients, f"live-{length}", WINDOW)
        for pair in islice(pairs(), length // 2):
            template.append(pair)
        keys = list(zip(template.history.keys.siblings(), contender.history.keys.siblings(), strict=True))
        blocks[name(length)] = _renewed(clients, contender, operation, keys)
    return interleave(blocks, seconds)


def community(clients: Clients, operation: str, seconds: float) -> Measured:
    """Measure langchain-community's class, which has no window."""
    clients.redis.flushall()
    blocks: dict[str, Block] = {}
    for length in LENGTHS:
        template, contender = Community(clients, f"template-{length}", 0), Community(clients, f"live-{length}", 0)
        template.fill(conversation(length))
        blocks[name(length)] = _renewed(clients, contender, operation, [(template.history.key, contender.history.key)])
    return interleave(blocks, seconds)


def _renewed(clients: Clients, contender: Contender, operation: str, keys: Sequence[tuple[str, str]]) -> Block:
    """Make a block that starts with a fresh copy of a conversation, so that measuring does not make it grow."""
    batches = cycle(list(islice(pairs(), 3)))

    def once() -> None:
        if operation == "turn":
            contender.read()
        contender.append(next(batches))

    counted = timed(once)

    def block(calls: int) -> float:
        for template, live in keys:
            clients.redis.copy(template, live, replace=True)
        return counted(calls)

    return block
