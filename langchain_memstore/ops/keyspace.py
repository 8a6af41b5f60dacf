"""The operations on what lies in Redis beside the sessions, or of them as mere keys; the process holds nothing such."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from langchain_memstore.ops.base import Command, InOutage, Op
from langchain_memstore.ops.held import Held


class KeyPage(NamedTuple):
    """One page of keys."""

    cursor: int
    """Where the next page starts; 0: there is none."""
    keys: tuple[bytes, ...]
    """The keys; SCAN may find one more than once."""


@dataclass(frozen=True)
class ScanKeys(Op[KeyPage]):
    """List a page of keys.

    Args:
        pattern: A Redis pattern.
        cursor: Where the page starts; 0: at the beginning.
        kind: Of which type of Redis; None: of any.
        count: About how many keys the server looks at for one page.
    """

    in_outage: ClassVar[InOutage] = "refuse"

    pattern: str
    cursor: int = 0
    kind: str | None = None
    count: int = 500

    def commands(self) -> list[Command]:
        """Return one SCAN."""
        kind = () if self.kind is None else ("TYPE", self.kind)
        return [("SCAN", self.cursor, "MATCH", self.pattern, "COUNT", self.count, *kind)]

    def decode(self, reply: list[Any]) -> KeyPage:
        """Return the keys."""
        cursor, keys = reply[0]
        return KeyPage(int(cursor), tuple(keys))

    def run(self, held: Held, now: int) -> KeyPage:
        """Find no keys."""
        return KeyPage(0, ())


class Kept(NamedTuple):
    """What a key holds."""

    value: Any
    """The value; None: there is no such key any more."""
    left: int | None
    """Milliseconds until the key expires; None: never."""


@dataclass(frozen=True)
class ReadList(Op[Kept]):
    """Read a list, with its TTL, at one moment.

    Args:
        key: Where it is.
    """

    in_outage: ClassVar[InOutage] = "refuse"

    key: bytes

    def commands(self) -> list[Command]:
        """Return the reads of one transaction."""
        return [("LRANGE", self.key, 0, -1), ("PTTL", self.key)]

    def decode(self, reply: list[Any]) -> Kept:
        """Return the entries as they lie there."""
        return Kept(reply[0] or None, _left(reply[1]))

    def run(self, held: Held, now: int) -> Kept:
        """Find nothing."""
        return Kept(None, None)


@dataclass(frozen=True)
class ReadDocuments(Op[list[Kept]]):
    """Read JSON documents, with their TTLs; it takes a server with the JSON module, as Redis Stack and Redis 8 have it.

    Args:
        documents: Their keys.
    """

    atomic: ClassVar[bool] = False
    in_outage: ClassVar[InOutage] = "refuse"

    documents: tuple[bytes, ...]

    def commands(self) -> list[Command]:
        """Return two reads for each document."""
        return [command for key in self.documents for command in (("JSON.GET", key), ("PTTL", key))]

    def decode(self, reply: list[Any]) -> list[Kept]:
        """Return the JSON texts."""
        return [Kept(text, _left(left)) for text, left in zip(reply[::2], reply[1::2], strict=True)]

    def run(self, held: Held, now: int) -> list[Kept]:
        """Find nothing."""
        return [Kept(None, None) for _ in self.documents]


@dataclass(frozen=True)
class Ask(Op[Any]):
    """Ask the server about itself, or one of the nodes of a cluster; None where there is no server.

    Args:
        command: What to ask, and nothing that changes anything: `("INFO",)`.
    """

    in_outage: ClassVar[InOutage] = "refuse"

    command: Command

    def commands(self) -> list[Command]:
        """Return the command."""
        return [self.command]

    def decode(self, reply: list[Any]) -> Any:
        """Return the answer."""
        return reply[0]

    def run(self, held: Held, now: int) -> Any:
        """Answer nothing."""
        return None


def _left(milliseconds: int) -> int | None:
    return milliseconds if milliseconds >= 0 else None
