"""What an append and a turn cost when a conversation has come to 100, 1,000 and 10,000 messages."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice

from benchmarks.contenders import Clients, Contender, Ours
from benchmarks.messages import conversation, pairs
from benchmarks.peers import Community
from benchmarks.rounds import Block, Comparison, timed

LENGTHS = (100, 1_000, 10_000)
WINDOW = 50


def name(length: int) -> str:
    return f"at {length:,}"


def ours(clients: Clients) -> dict[str, Comparison]:
    """Compare this package with itself, at a window of 50, on conversations that were appended two at a time."""
    templates = [Ours(clients, f"template-{length}", WINDOW) for length in LENGTHS]
    for template, length in zip(templates, LENGTHS, strict=True):
        for pair in islice(pairs(), length // 2):
            template.append(pair)

    def block(template: Ours, operation: str) -> Block:
        live = Ours(clients, f"{template.session_id}-{operation}", WINDOW)
        keys = list(zip(template.history.keys.siblings(), live.history.keys.siblings(), strict=True))
        return _renewed(clients, live, operation, keys)

    return {
        operation: Comparison({name(n): block(t, operation) for n, t in zip(LENGTHS, templates, strict=True)})
        for operation in ("append", "turn")
    }


def community(clients: Clients) -> dict[str, Comparison]:
    """Compare langchain-community's class with itself; it has no window."""
    templates = [Community(clients, f"template-{length}", 0) for length in LENGTHS]
    for template, length in zip(templates, LENGTHS, strict=True):
        template.fill(conversation(length))

    def block(template: Community, operation: str) -> Block:
        live = Community(clients, f"{template.session_id}-{operation}", 0)
        return _renewed(clients, live, operation, [(template.history.key, live.history.key)])

    return {
        operation: Comparison({name(n): block(t, operation) for n, t in zip(LENGTHS, templates, strict=True)})
        for operation in ("append", "turn")
    }


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
