"""The operations that wait for the store to come back, in order."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections import Counter, deque
from collections.abc import Hashable, Iterator
from dataclasses import fields
from typing import Any, ClassVar, NamedTuple

from langchain_memstore.errors import BackendUnavailable
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops import load_operations
from langchain_memstore.ops.base import JOURNALED, Op
from langchain_memstore.window import Bounds


class Journal:
    """The operations that wait, in the order in which they are to be done.

    Args:
        most: The most operations that may wait.
    """

    is_durable: ClassVar[bool] = False
    """Whether the journal outlasts the process."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ops: deque[Op[Any]] = deque()
        self._sent: deque[int | None] = deque()
        """When each may have been sent to the store first, in milliseconds since 1970; None: it never was."""
        self._targets: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return len(self._ops)

    def __iter__(self) -> Iterator[Op[Any]]:
        return iter(self._ops)

    def open(self) -> None:
        """Find what an earlier process has left."""

    def head(self) -> Op[Any] | None:
        """Return the operation that is to be done next; None: none waits."""
        return self._ops[0] if self._ops else None

    def waits(self, targets: tuple[Hashable, ...]) -> bool:
        """Tell whether an operation about one of the targets waits."""
        return any(self._targets[target] > 0 for target in targets)

    def check_room(self) -> None:
        """Check that one more operation may wait.

        Raises:
            BackendUnavailable: Too many wait.
        """
        if len(self._ops) >= self._most:
            raise BackendUnavailable(
                f"{len(self._ops)} operations wait for the store to come back, which is all that max_journal allows; "
                "this one was not done"
            )

    def append(self, op: Op[Any], sent: int | None = None) -> None:
        """Have an operation wait, last of all.

        Args:
            op: The operation.
            sent: When it was sent, in milliseconds since 1970, without that its reply came; None: it was not.

        Raises:
            BackendUnavailable: It cannot be written down.
        """
        self._write(op, sent)
        self._add(op, sent)

    def send(self, now: int) -> int:
        """Note that the first operation is sent, and return when it may have been first, in milliseconds since 1970.

        Raises:
            BackendUnavailable: It cannot be written down.
        """
        if (sent := self._sent[0]) is None:
            self._mark_sent(now)
        return now if sent is None else sent

    def done(self) -> None:
        """Take the first operation off, which was done."""
        op = self._ops.popleft()
        self._sent.popleft()
        op.finish()
        for target in op.targets:
            self._targets[target] -= 1
            if not self._targets[target]:
                del self._targets[target]

    def sync(self) -> None:
        """Make sure that what was appended outlasts the process, where it is to."""

    def close(self) -> None:
        """Let go of what is not needed any more."""

    def kept(self) -> str:
        """Say where the operations are that still wait when the process ends."""
        return "and are lost with this process; a journal in a file, fallback='<path>', would have kept them"

    def _add(self, op: Op[Any], sent: int | None = None) -> None:
        self._ops.append(op)
        self._sent.append(sent)
        self._targets.update(op.targets)
        op.hold()

    def _write(self, op: Op[Any], sent: int | None) -> None:
        """Write an operation down, where that is to be done."""

    def _mark_sent(self, now: int) -> None:
        """Note that the first operation is sent."""
        self._sent[0] = now


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
