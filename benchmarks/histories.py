"""Append, read and turn at several windows, in each variant, as each contender does it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from typing import Any, cast

from benchmarks.contenders import Clients, Contender, Ours
from benchmarks.floors import FloorA, FloorB, OnePipeline
from benchmarks.messages import SIZE, conversation, pairs
from benchmarks.peers import Agents, Community, InMemory, Llama
from benchmarks.rounds import Block, Comparison, atimed, timed

OPERATIONS = ("append", "read", "turn")
VARIANTS = {"sync": 0, "async": 1, "64 tasks": 64, "512 tasks": 512}
"""How many tasks run at once in each variant; 0: none, it is sync."""
WINDOWS = (15, 50, 200, 1_000)
REMOTE: Sequence[type[Contender]] = (FloorA, FloorB, Ours, Community, Agents, Llama)


def compare(clients: Clients, loop: asyncio.AbstractEventLoop, operation: str, variant: str, window: int) -> Comparison:
    """Compare one operation of every contender that has the variant, at one window."""
    tasks, messages = VARIANTS[variant], conversation(window)
    blocks: dict[str, Block] = {}
    for kind in REMOTE:
        if ("async" if tasks else "sync") in kind.variants:
            group = _group(kind, clients, f"{operation}-{variant}-{window}", window, messages, tasks or 1)
            blocks[kind.name] = _ablock(group, operation, loop) if tasks else block(group[0], operation)
    if tasks > 1:
        group = _group(OnePipeline, clients, f"{operation}-{variant}-{window}", window, messages, tasks)
        blocks[OnePipeline.name] = _together(cast("list[OnePipeline]", group), operation, loop)
    return Comparison(blocks, shares=tasks or 1, weight=5.0 if tasks > 64 else 2.5 if tasks > 1 else 1.0)


def compare_in_process(clients: Clients, loop: asyncio.AbstractEventLoop, operation: str, variant: str) -> Comparison:
    """Compare what keeps a conversation inside the process, at 50 messages."""
    window, session_id = 50, f"{operation}-{variant}-in-process"
    store = clients.open("memory://")
    contenders = [Ours(clients, session_id, window, store), InMemory(clients, session_id, window)]
    for each in contenders:
        each.fill(conversation(window))
    make = block if variant == "sync" else lambda each, operation: _ablock([each], operation, loop)
    return Comparison({each.name: make(each, operation) for each in contenders}, weight=0.5)


def block(contender: Contender, operation: str, size: int = SIZE) -> Block:
    """Make the block of one operation, sync."""
    batches = _batches(contender, size)

    def once() -> None:
        if operation != "append":
            contender.read()
        if operation != "read":
            contender.append(next(batches))

    return timed(once, _settling([contender]))


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

    return atimed(loop, once, _settling(group))


def _together(group: Sequence[OnePipeline], operation: str, loop: asyncio.AbstractEventLoop) -> Block:
    batches = _batches(group[0])
    return atimed(loop, lambda: group[0].atogether(group, operation, next(batches)))


def _group(
    kind: type[Contender], clients: Clients, name: str, window: int, messages: list[Any], size: int
) -> list[Contender]:
    """Make contenders that hold a conversation each."""
    group = [kind(clients, f"{name}-{number}", window) for number in range(size)]
    for contender in group:
        contender.fill(messages)
    return group


def _settling(group: Sequence[Contender]) -> Any:
    """Return what brings conversations back to their window, where they are not bounded."""

    def settle() -> None:
        pipeline = group[0].clients.redis.pipeline(transaction=False)
        for contender in group:
            contender.settle(pipeline)
        pipeline.execute()

    return settle


def _batches(contender: Contender, size: int = SIZE) -> Iterator[Any]:
    """Yield what a contender appends, made beforehand; without end."""
    return cycle([contender.native(pair) for pair in islice(pairs(size), 3)])
