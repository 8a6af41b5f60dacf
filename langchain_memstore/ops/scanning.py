"""How keys are listed: page by page, with a cursor that says where the next page starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Generic, NamedTuple, TypeVar

from langchain_memstore.ops.base import Op

N = TypeVar("N")
"""What a page holds: names, or keys."""

INTERRUPTED = "an outage has interrupted the listing; begin it anew"

_CURSOR, _RUN, _RESTARTS = 64, 64, 16  # bits


class ScanCursor(NamedTuple):
    """Where a page of a listing starts; an operation holds it as one number, 0: at the beginning.

    SCAN goes through a hash table whose order each run of a server draws by lot. A cursor that another run has given
    skips names, so a server that was restarted or replaced since is listed from its beginning again.
    """

    cursor: int = 0
    """The server's own cursor; 0: its beginning."""
    run: int = 0
    """Which run of a server has given it; 0: it is unknown."""
    restarts: int = 0
    """How often something was listed again."""
    place: int = 0
    """Where in a Cluster; its backend knows what it means."""

    @classmethod
    def of(cls, number: int) -> ScanCursor:
        """Unpack a number."""
        number, cursor = divmod(number, 1 << _CURSOR)
        number, run = divmod(number, 1 << _RUN)
        place, restarts = divmod(number, 1 << _RESTARTS)
        return cls(cursor, run, restarts, place)

    def as_int(self) -> int:
        """Pack it as a number."""
        number = self.place << _RESTARTS | self.restarts
        return (number << _RUN | self.run) << _CURSOR | self.cursor

    def after(self, cursor: int, run: int) -> ScanCursor | None:
        """Return where the page after this one starts; None: the server was listed whole.

        Args:
            cursor: The server's own cursor after this page.
            run: Which run of the server has answered.
        """
        if self.cursor and run != self.run:
            return self.again()
        return self._replace(cursor=cursor, run=run) if cursor else None

    def again(self) -> ScanCursor:
        """Return the beginning of the server, to list it once more."""
        return self._replace(cursor=0, run=0, restarts=self.restarts + 1)


@dataclass(frozen=True)
class ScanPage(Generic[N]):
    """One page of a listing."""

    cursor: int
    """Where the next page starts; 0: there is none."""
    names: tuple[N, ...]
    """What was found; SCAN may find the same more than once."""
    by_server: bool = False
    """Whether a server has answered. What the process knows is then no answer to questions about the names."""


class ScanOp(Op[ScanPage[N]]):
    """An operation that lists one page of keys.

    Its `commands` are one SCAN. A backend of Redis sends the server's own part of the cursor, and puts the rest into
    the reply; a Cluster goes through its masters, page by page.
    """

    scans: ClassVar[bool] = True

    partial: bool = False
    """Whether to leave out what is on nodes of a Cluster that cannot be reached, instead of raising."""
    cursor: int
