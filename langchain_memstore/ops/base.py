"""What an operation is: a frozen value that carries its Redis meaning and its Python meaning side by side."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Hashable
from functools import cached_property
from importlib.resources import files
from typing import Any, ClassVar, Generic, Literal, TypeVar

from typing_extensions import override

from langchain_memstore.ops.state import LocalState

R = TypeVar("R")
"""What an operation returns."""

Argument = str | bytes | int
Command = tuple[Argument, ...]

InOutage = Literal["serve", "journal", "refuse"]
"""Whether the process serves an operation from what it knows, serves it and journals it for the store, where doing it
twice is doing it once, or refuses it."""

MirrorEffect = Literal["none", "view", "append", "write", "forget"]
"""What a `SessionMirror` records: nothing; of a `Read` the `view` that it returned; of an `Append` the entries; of
another `SessionScript` the `write`, which it reapplies to the view; or to `forget` the session."""


class Script:
    """A Lua script of this package.

    Args:
        name: Its file in `langchain_memstore/lua`, without the ending.
        after: The files on which it follows, with what it shares with others.
    """

    def __init__(self, name: str, after: tuple[str, ...] = ("writes", "common")) -> None:
        self.name = name
        self._after = after

    @cached_property
    def source(self) -> bytes:
        """What the server runs."""
        folder = files("langchain_memstore") / "lua"
        return b"".join((folder / f"{name}.lua").read_bytes() for name in (*self._after, self.name))

    @cached_property
    def sha(self) -> str:
        """The name by which EVALSHA calls the script."""
        return hashlib.sha1(self.source, usedforsecurity=False).hexdigest()


JOURNALED: dict[str, type[Op[Any]]] = {}
"""The classes of operations that a journal may hold, by `journal_name`."""


class Op(ABC, Generic[R]):
    """One operation, atomic and one round trip on every backend.

    Its Redis meaning is either `script` with `arguments`, or `commands`; `decode` reads the reply. Its Python meaning
    is `run`. Both give the same answer. What backends and wrappers have to know of it beyond that, its class says:

        @dataclass(frozen=True)
        class SetTurns(SessionScript[None]):    # which sets writes, in_outage = "journal" and mirror = "write"
            script = Script("set_turns")        # lua/set_turns.lua
            journal_name = "SetTurns"           # what it is called in a journal
    """

    script: ClassVar[Script | None] = None
    """The script to call; None: the operation is a pipeline of `commands`."""
    atomic: ClassVar[bool] = True
    """Whether several commands run as one transaction."""
    scans: ClassVar[bool] = False
    """Whether it is a `ScanOp`."""
    everywhere: ClassVar[bool] = False
    """Whether a Cluster asks every master, and hands `decode` the answers of all, one after the other."""
    writes: ClassVar[bool] = False
    """Whether it may change what is stored."""
    in_outage: ClassVar[InOutage]
    """What becomes of the operation while the store cannot be reached."""
    journal_name: ClassVar[str | None] = None
    """What the class is called in a journal; None: no journal holds such an operation. Never changed, nor reused."""
    mirror: ClassVar[MirrorEffect] = "none"
    """What a `SessionMirror` records of it."""

    @override
    def __init_subclass__(cls) -> None:
        if (name := cls.__dict__.get("journal_name")) is not None and JOURNALED.setdefault(name, cls) is not cls:
            raise TypeError(f"journal_name {name!r} is that of {JOURNALED[name].__name__}")

    @property
    def targets(self) -> tuple[Hashable, ...]:
        """Ordering keys: operations that share one are replayed in order, and later ones wait."""
        return ()

    @property
    def subject(self) -> str | None:
        """What an error is to say that the operation is about; None: about nothing in particular."""
        return None

    def arguments(self) -> Command:
        """Return what follows the script's name in EVALSHA: the number of keys, the keys, the arguments."""
        raise TypeError(f"{type(self).__name__} has no script")

    def commands(self) -> list[Command]:
        """Return the commands of the pipeline."""
        raise TypeError(f"{type(self).__name__} has no commands")

    @property
    def first_key(self) -> Argument:
        """The first of its keys; empty where it has none."""
        command = self.commands()[:1] if self.script is None else [self.arguments()]
        return (*command[0], "")[1] if command else ""

    def decode(self, reply: Any) -> R:
        """Make the result of the script's reply, or of the list of the commands' replies; by default it is that."""
        return reply  # type: ignore[no-any-return]

    @abstractmethod
    def run(self, state: LocalState, now: int) -> R:
        """Do the operation on what the process holds.

        Args:
            state: All of it.
            now: The time, in milliseconds since 1970.
        """

    def follow_up(self, result: R) -> Op[Any] | None:
        """Return what is left to do in a second round trip, which is rare; None: nothing."""
        return None

    def hold(self) -> None:
        """Say that the operation may be sent once more, until `finish` is called once more."""

    def finish(self) -> None:
        """Say that the operation is not sent again: its outcome is known, or of no interest any more."""

    def at_replay(self, waited_ms: int, stand_in: LocalState) -> Op[Any]:
        """Return what to send of an operation that has waited in a journal; by default it is that.

        A TTL is a moment: what is sent sets what is left of it, which is 0 or less where it has run out.

        Args:
            waited_ms: For how many milliseconds it has waited since its caller was answered.
            stand_in: What it was done to meanwhile, and later operations after it, which may have set another expiry.
        """
        return self


class ScanOp(Op[R]):
    """An operation that lists one page of keys; a Cluster goes through its masters, page by page.

    Its page has a cursor, too: where the next page starts.
    """

    scans: ClassVar[bool] = True

    cursor: int
