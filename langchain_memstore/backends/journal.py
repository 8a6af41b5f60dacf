"""The operations that wait for the store to come back, in order."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterator
from typing import Any, ClassVar

from langchain_memstore.errors import BackendUnavailable
from langchain_memstore.ops.base import Op


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

    def waits(self, target: Hashable) -> bool:
        """Tell whether an operation about a target waits."""
        return self._targets[target] > 0

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

    def append(self, op: Op[Any]) -> None:
        """Have an operation wait, last of all.

        Raises:
            BackendUnavailable: It cannot be written down.
        """
        self._write(op)
        self._add(op)

    def done(self) -> None:
        """Take the first operation off, which was done."""
        op = self._ops.popleft()
        self._targets[op.target] -= 1
        if not self._targets[op.target]:
            del self._targets[op.target]

    def sync(self) -> None:
        """Make sure that what was appended outlasts the process, where it is to."""

    def close(self) -> None:
        """Let go of what is not needed any more."""

    def kept(self) -> str:
        """Say where the operations are that still wait when the process ends."""
        return "and are lost with this process; a journal in a file, fallback='<path>', would have kept them"

    def _add(self, op: Op[Any]) -> None:
        self._ops.append(op)
        self._targets[op.target] += 1

    def _write(self, op: Op[Any]) -> None:
        """Write an operation down, where that is to be done."""
