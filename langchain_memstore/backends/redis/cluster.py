"""The backend of a Redis Cluster: how operations find the node that has their keys."""

from __future__ import annotations

import re
import time
import zlib
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from typing_extensions import override

from langchain_memstore.backends.redis.backend import RETRIES, RemoteBackend, pause
from langchain_memstore.backends.redis.errors import FOR_NOW, LOST, blame, is_for_now
from langchain_memstore.backends.redis.limits import ConnectionCut, OperationCut, ScriptsCut
from langchain_memstore.backends.redis.protocol import commands_of, was_not_queued, with_source
from langchain_memstore.backends.redis.requests import Request, insist
from langchain_memstore.backends.redis.sentinel import ANSWER_WITHIN, Address
from langchain_memstore.backends.redis.topology import Cluster
from langchain_memstore.backends.steps import Pause, Steps, arun_steps, run_steps
from langchain_memstore.ops.base import Command, Op, ScanOp

MOST_REDIRECTIONS = 16  # of one operation, one after the other


@dataclass
class _Unit:
    """Commands that go to one node together: a script, a transaction, or one command of many."""

    slot: int
    commands: list[Command]
    asking: Address | None = None
    """The node that imports the slot, and has what this is about already."""
    replies: list[Any] | None = None


_MOVE = re.compile(rb"-[<>]-")  # a slot on its way, as CLUSTER NODES has it: [93-<-id], [77->-id]


class ClusterCursor(NamedTuple):
    """How far a listing of the masters has come; a cursor holds it as one number."""

    version: int
    """Tells the cluster from what it was before."""
    moved: bool = False
    """Whether a slot was being moved meanwhile."""
    again: bool = False
    """Whether the masters are gone through once more for that."""
    master: int = 0
    """Which of the masters is being listed."""
    cursor: int = 0
    """Its own cursor."""

    @classmethod
    def of(cls, number: int) -> ClusterCursor:
        """Read a cursor."""
        flags = number >> 94
        return cls(number >> 96, bool(flags & 1), bool(flags & 2), number >> 64 & (2**30 - 1), number & (2**64 - 1))

    def as_int(self) -> int:
        """Write a cursor."""
        return self.version << 96 | self.again << 95 | self.moved << 94 | self.master << 64 | self.cursor

    def after(self, cursor: int, masters: int, moving: bool) -> ClusterCursor | None:
        """Return the cursor after a page; None: the listing is over.

        Args:
            cursor: The master's own cursor after it; 0: it was listed whole.
            masters: How many there are.
            moving: Whether a slot of the master is being moved.
        """
        moved, master = self.moved or moving, self.master + (cursor == 0)
        if master < masters:
            return self._replace(moved=moved, master=master, cursor=cursor)
        return ClusterCursor(self.version, again=True) if moved and not self.again else None


class ClusterBackend(RemoteBackend):
    """Keeps sessions in a Redis Cluster.

    The keys of a session are in one slot, and so on one node. Redirections are followed; an operation whose node was
    lost, or that a migrating slot cannot serve yet, is sent again after the slots have been asked for anew.

    Args:
        cluster: The nodes.
    """

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self._cluster = cluster

    @override
    def _call(self, op: Op[Any]) -> list[Any]:
        self._check_open()
        return run_steps(self._find(op))

    @override
    async def _acall(self, op: Op[Any]) -> list[Any]:
        self._check_open()
        return await arun_steps(self._find(op))

    def _find(self, op: Op[Any]) -> Steps[list[Any]]:
        """Send an operation to where its keys are, and return the answers."""
        if op.scans:
            return (yield from self._scan(cast("ScanOp[Any]", op)))
        if op.everywhere:
            return (yield from self._ask_all(op))
        commands = commands_of(op)
        if op.script is not None or op.atomic:
            units = [_Unit(_slot(op), commands)]
        else:
            units = [_Unit(key_slot(_bytes(command[1])), [command]) for command in commands]
        losses, redirections, until = 0, 0, time.monotonic() + self._cluster.limits.call
        while unanswered := [unit for unit in units if unit.replies is None]:
            trouble: Exception | None = None
            redirected = False
            try:
                if self._cluster.is_stale:
                    yield from self._ask_for_slots(until)
                groups: dict[Address, list[_Unit]] = defaultdict(list)
                for unit in unanswered:
                    groups[unit.asking or self._cluster.owner(unit.slot)].append(unit)
            except (*LOST, ClusterDownError) as error:
                trouble, groups = error, {}
            for address, members in groups.items():
                node, sent = self._cluster.node(address), _asked(members)
                try:
                    try:
                        answers = yield Request(node, sent, until, alone=losses > 0)
                    except ConnectionCut:
                        if losses < RETRIES:
                            raise
                        answers = yield from insist(node, sent, until)
                except (OperationCut, ScriptsCut) as error:
                    raise blame(error, address) from error.__cause__
                except LOST as error:
                    trouble = blame(error, address)
                    for unit in members:
                        unit.asking = None
                    continue
                for unit in members:
                    length = len(unit.commands) + (unit.asking is not None)
                    replies, answers = answers[length - len(unit.commands) : length], answers[length:]
                    redirected |= self._take_in(unit, replies, op, address)
                    if unit.replies is None and trouble is None and (refusal := _refusal(replies)) is not None:
                        trouble = blame(refusal, address)
            redirections += redirected
            if redirections > MOST_REDIRECTIONS:
                raise ClusterDownError("the nodes of the cluster redirect to one another")
            if trouble is not None:
                losses += 1
                # a connection may be lost and its node be well
                self._cluster.is_stale |= losses > 1 or isinstance(trouble, RedisTimeoutError)
                yield Pause(pause(trouble, losses, until))
        return [reply for unit in units for reply in unit.replies or ()]

    def _take_in(self, unit: _Unit, replies: list[Any], op: Op[Any], address: Address) -> bool:
        """Take in the answers to a unit; tells whether it was redirected."""
        redirection = next((reply for reply in replies if isinstance(reply, AskError)), None)
        if redirection is not None:
            target = self._cluster.address(redirection.host, redirection.port, address)
            unit.asking = None
            if isinstance(redirection, MovedError):
                self._cluster.move(unit.slot, target)
            else:
                unit.asking = target
        elif isinstance(replies[-1], NoScriptError):
            unit.commands = with_source(op)
        elif was_not_queued(op, replies):
            unit.commands = op.commands()
        elif len(replies) < len(commands_of(op)) and op.atomic and op.script is None:
            unit.replies = [b"OK", replies]
        elif _refusal(replies) is None:
            unit.replies = replies
        return redirection is not None

    def _scan(self, op: ScanOp[Any]) -> Steps[list[Any]]:
        """List a page of one of the masters.

        The cursor tells of which, and of what cluster that was: where slots or masters have changed since, the listing
        begins anew, for only so does it see all that has been there all the while. Where a slot was being moved, it
        goes through the masters once more: a key may have gone from one that was not listed yet to one that was.
        """
        losses, until = 0, time.monotonic() + self._cluster.limits.call
        while True:
            try:
                yield from self._ask_for_slots(until)
                masters = self._cluster.masters
                if not masters:
                    raise ClusterDownError("no node serves a slot")
                version = zlib.crc32(repr(masters).encode()) + 1
                at = ClusterCursor.of(op.cursor)
                if at.version != version:
                    at = ClusterCursor(version)
                page = replace(cast("Any", op), cursor=at.cursor)
                address = masters[at.master].address
                try:
                    listing = [("CLUSTER", "NODES"), *page.commands()]
                    moves, *replies = yield Request(self._cluster.node(address), listing, until)
                except LOST as error:
                    blame(error, address)
                    raise
                if (refusal := _refusal(replies)) is not None:
                    raise blame(refusal, address)
            except (*LOST, *FOR_NOW) as error:
                losses += 1
                yield Pause(pause(error, losses, until))
                continue
            if isinstance(replies[0], ResponseError):
                return list(replies)
            cursor, keys = int(replies[0][0]), replies[0][1]
            following = at.after(cursor, len(masters), isinstance(moves, bytes) and _MOVE.search(moves) is not None)
            return [[0 if following is None else following.as_int(), keys]]

    def _ask_all(self, op: Op[Any]) -> Steps[list[Any]]:
        """Send an operation to every master, and return the answers of all."""
        losses, until = 0, time.monotonic() + self._cluster.limits.call
        while True:
            try:
                yield from self._ask_for_slots(until)
                replies: list[Any] = []
                for master in self._cluster.masters:
                    try:
                        replies += yield Request(self._cluster.node(master.address), op.commands(), until)
                    except LOST as error:
                        blame(error, master.address)
                        raise
                return replies
            except (*LOST, ClusterDownError) as error:
                losses += 1
                yield Pause(pause(error, losses, until))

    def _ask_for_slots(self, until: float) -> Steps[None]:
        """Ask the nodes, until one answers, which of them serve what; one that hangs is given a second, and asked last
        from then on.
        """
        trouble: Exception = ClusterDownError("the cluster has no nodes")
        for address in self._cluster.candidates():
            within = min(until, time.monotonic() + ANSWER_WITHIN)
            try:
                (reply,) = yield Request(self._cluster.node(address), [("CLUSTER", "SLOTS")], within)
            except LOST as error:
                self._cluster.failed[address] = time.monotonic()
                trouble = error
                continue
            self._cluster.failed.pop(address, None)
            if not isinstance(reply, ResponseError):
                self._cluster.learn(reply, address)
                return
            trouble = reply
        raise trouble


def nodes_of(cluster: Cluster, op: Op[Any]) -> tuple[Address, ...]:
    """Return the nodes that have the keys of an operation, as far as that is known; nothing is asked."""
    if op.scans or op.everywhere:
        return tuple([master.address for master in cluster.masters])
    is_one = op.script is not None or op.atomic
    slots = {_slot(op)} if is_one else {key_slot(_bytes(command[1])) for command in op.commands()}
    addresses = set[Address]()
    for slot in slots:
        with suppress(ClusterDownError):
            addresses.add(cluster.owner(slot))
    return tuple(addresses)


def _slot(op: Op[Any]) -> int:
    """Return the slot of an operation whose keys are in one: that of its first; any, where it has no keys."""
    return int(key_slot(_bytes(op.first_key)))


def _bytes(key: str | bytes | int) -> bytes:
    return key if isinstance(key, bytes) else str(key).encode()


def _asked(units: list[_Unit]) -> list[Command]:
    """Return the commands of units; ASKING holds for the command, or the transaction, right after it."""
    commands: list[Command] = []
    for unit in units:
        commands += [("ASKING",), *unit.commands] if unit.asking else unit.commands
    return commands


def _refusal(replies: list[Any]) -> ResponseError | None:
    """Return the answer that says that the node cannot serve now what it will later; None: there is none."""
    return next((reply for reply in replies if isinstance(reply, ResponseError) and is_for_now(reply)), None)
