"""What is found in a source of conversations, and what cannot be read there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from langchain_memstore import codec
from langchain_memstore.errors import MessageDecodeError, MessageEncodeError
from langchain_memstore.ops.transfer import SessionDump


@dataclass(frozen=True)
class Problem:
    """Something that cannot be imported."""

    place: str
    """Where it is in its source."""
    cause: str
    """What is wrong with it."""


@dataclass(frozen=True)
class Found:
    """A conversation that a source holds."""

    session_id: str
    """Which conversation."""
    state: SessionDump | None
    """What can be read of it; None: nothing."""
    problems: tuple[Problem, ...]
    """What cannot be read of it."""
    bounded: bool
    """Whether a window was made of it already; else the state holds its messages, and no counters."""
    knows_ttl: bool
    """Whether the source tells when it expires."""


class Reading:
    """Reads one conversation of a source.

    Args:
        place: Where it is.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._problems: list[Problem] = []

    def entries(self, written: Iterable[tuple[str, bytes]], exact: bool = False) -> Iterator[bytes]:
        """Return the entries that are messages, as this package writes them, and note the others.

        Args:
            written: Each with its place within the conversation.
            exact: Whether entries are returned as they were written.
        """
        for place, entry in written:
            try:
                message = codec.decode(entry)
                yield entry if exact else codec.encode([message])[0]
            except (MessageDecodeError, MessageEncodeError) as error:
                self.note(str(error), place)

    def note(self, cause: str, place: str = "") -> None:
        """Note what cannot be read."""
        self._problems.append(Problem(f"{self._place}, {place}" if place else self._place, cause))

    def found(
        self, session_id: str, state: SessionDump | None, *, bounded: bool = False, knows_ttl: bool = True
    ) -> Found:
        """Return the conversation, with what was noted."""
        return Found(session_id, state, tuple(self._problems), bounded, knows_ttl)

    def nothing(self, cause: str) -> Found:
        """Return that there is nothing to be read."""
        self.note(cause)
        return self.found("", None)
