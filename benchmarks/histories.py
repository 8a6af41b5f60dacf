"""Append, read and turn at several windows, in each face, as each contender does it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from typing import Any

from benchmarks.contenders import CONTENDERS, Clients, Contender
from benchmarks.messages import conversation, pairs
from benchmarks.rounds import Block, Measured, atimed, interleave, timed

OPERATIONS = ("append", "read", "turn")
FACES = {"sync": 0, "async": 1, "64 tasks": 64}
"""How many tasks run at once in each face; 0: none, it is sync."""


def measure(
    clients: Clients, loop: asyncio.AbstractEventLoop, operation: str, face: str, window: int, seconds: float
) -> Measured:
    """Measure one operation of every contender that has it, in one face, at one window."""
    clients.redis.flushall()
    tasks = FACES[face]
    messages = conversation(window)
    blocks: dict[str, Block] = {}
    for kind in CONTENDERS:
        if operation in kind.operations and ("async" if tasks else "sync") in kind.faces:
            group = [kind(clients, f"session-{number}", window) for number in range(tasks or 1)]
            for contender in group:
                contender.fill(messages)
            blocks[kind.name] = _ablock(group, operation, loop) if tasks else _block(group[0], operation)
    return interleave(blocks, seconds, shares=tasks or 1)


def _block(contender: Contender, operation: str) -> Block:
    batches = _batches(contender)

    def once() -> None:
        if operation != "append":
            contender.read()
        if operation != "read":
            contender.append(next(batches))

    return timed(once, contender.settle)


def _ablock(group: Sequence[Contender], operation: str, loop: asyncio.AbstractEventLoop) -> Block:
    """Make the block of several tasks at once, each with a conversation of its own."""
    batches = _batches(group[0])

    async def one(contender: Contender, batch: Any) -> None:
        if operation != "append":
            await contender.aread()
        if operation != "read":
            await contender.aappend(batch)

    async def once() -> None:
        batch = next(batches)
        if len(group) == 1:
            await one(group[0], batch)
        else:
            await asyncio.gather(*[one(contender, batch) for contender in group])

    def settle() -> None:
        for contender in group:
            contender.settle()

    return atimed(loop, once, settle)


def _batches(contender: Contender) -> Iterator[Any]:
    """Yield what a contender appends, made beforehand; without end."""
    return cycle([contender.native(pair) for pair in islice(pairs(), 3)])
