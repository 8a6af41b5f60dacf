"""The operations that wait for the store to come back, in order."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

from langchain_memstore.errors import BackendUnavailable
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops import load_operations
from langchain_memstore.ops.base import JOURNALED, Op
from langchain_memstore.window import Bounds


@dataclass(eq=False)
class Waiting:
    """An operation that waits."""

    op: Op[Any]
    number: int
    """What tells it from all others that a journal has ever held: later ones have higher numbers."""
    since: int
    """When it began to wait, in milliseconds since 1970."""
    sent: int | None = None
    """When it may have been sent to the store first, in milliseconds since 1970; None: it never was."""
    refusals: int = 0
    """How often the store has refused it."""
    retry_at: float = 0.0
    """When to try it again, by the monotonic clock."""


class Journal:
    """The operations that wait, in the order in which they are to be done.

    Args:
        most: The most operations that may wait.
    """

    is_durable: ClassVar[bool] = False
    """Whether the journal outlasts the process."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: OrderedDict[int, Waiting] = OrderedDict()
        self._next = 0
        self._targets: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Waiting]:
        return iter(self._waiting.values())

    def open(self) -> None:
        """Find what an earlier process has left."""

    def waits(self, targets: tuple[Hashable, ...]) -> bool:
        """Tell whether an operation about one of the targets waits."""
        return any(self._targets[target] > 0 for target in targets)

    def check_room(self) -> None:
        """Check that one more operation may wait.

        Raises:
            BackendUnavailable: Too many wait.
        """
        if len(self._waiting) >= self._most:
            raise BackendUnavailable(
                f"{len(self._waiting)} operations wait for the store to come back, which is all that max_journal "
                "allows; this one was not done"
            )

    def append(self, op: Op[Any], since: int, sent: int | None = None) -> Waiting:
        """Have an operation wait, last of all.

        Args:
            op: The operation.
            since: When it began to wait, in milliseconds since 1970.
            sent: When it was sent, in milliseconds since 1970, without that its reply came; None: it was not.

        Raises:
            BackendUnavailable: It cannot be written down.
        """
        waiting = Waiting(op, self._next, since, sent)
        self._write(waiting)
        self._add(waiting)
        return waiting

    def mark_sent(self, waiting: Waiting, now: int) -> None:
        """Note that an operation is sent now, where it was not sent before; the time is in milliseconds since 1970.

        Raises:
            BackendUnavailable: It cannot be written down.
        """
        if waiting.sent is None:
            waiting.sent = now

    def remove(self, waiting: Waiting) -> None:
        """Take an operation off that does not wait any more.

        Raises:
            BackendUnavailable: It is off, but that cannot be written down.
        """
        del self._waiting[waiting.number]
        op = waiting.op
        op.finish()
        for target in op.targets:
            self._targets[target] -= 1
            if not self._targets[target]:
                del self._targets[target]

    def reject(self, waiting: Waiting) -> str:
        """Take an operation off that the store will never do, and say where it is kept; empty: nowhere.

        Raises:
            BackendUnavailable: It is off, but that cannot be written down.
        """
        self.remove(waiting)
        return ""

    def needs_sync(self) -> bool:
        """Tell whether enough was noted since the last sync for the next to be due."""
        return False

    def sync(self) -> None:
        """Make sure that what was written outlasts the process, where it is to.

        Raises:
            BackendUnavailable: The disk does not take it.
        """

    def close(self) -> None:
        """Let go of what is not needed any more."""

    def kept(self) -> str:
        """Say where the operations are that still wait when the process ends."""
        return "and are lost with this process; a journal in a file, fallback='<path>', would have kept them"

    def _add(self, waiting: Waiting) -> None:
        waiting.number = self._next
        self._next += 1
        self._waiting[waiting.number] = waiting
        self._targets.update(waiting.op.targets)
        waiting.op.hold()

    def _write(self, waiting: Waiting) -> None:
        """Write an operation down, where that is to be done."""


class Sync(NamedTuple):
    """A step: make sure that what was appended to a journal outlasts the process."""

    journal: Journal

    def run(self) -> None:
        """Sync it."""
        self.journal.sync()

    async def arun(self) -> None:
        """Sync it in a thread, which waits for the disk."""
        await asyncio.to_thread(self.journal.sync)


_PARTS: dict[str, type[Any]] = {"SessionKeys": SessionKeys, "Bounds": Bounds}
"""What operations consist of besides plain values, by their names in a journal."""


def write_op(op: Op[Any]) -> bytes:
    """Write an operation that an outage has journaled as JSON: `{"<its name>": [<its fields>]}`."""
    return json.dumps({op.journal_name: _packed_fields(op)}, separators=(",", ":")).encode()


def read_op(data: bytes) -> Op[Any]:
    """Read what `write_op` wrote; nothing but operations, and what they consist of, is ever built.

    Raises:
        ValueError: It is not an operation.
    """
    try:
        ((name, packed),) = json.loads(data).items()
        if name not in JOURNALED:
            load_operations()
        return JOURNALED[name](*_unpacked(packed))
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"not an operation: {error}") from None


def _packed_fields(value: Any) -> list[Any]:
    return [_packed(getattr(value, field.name)) for field in fields(value) if field.init and not field.kw_only]


def _packed(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"bytes": b64encode(value).decode()}
    if isinstance(value, tuple):
        return [_packed(each) for each in value]
    if type(value).__name__ in _PARTS:
        return {type(value).__name__: _packed_fields(value)}
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return tuple([_unpacked(each) for each in value])
    if isinstance(value, dict):
        ((name, packed),) = value.items()
        return b64decode(packed) if name == "bytes" else _PARTS[name](*_unpacked(packed))
    return value
