"""The operations on one session."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple

from typing_extensions import override

from langchain_memstore.errors import BackendError
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.base import Argument, Command, InOutage, MirrorEffect, Op, R, Script
from langchain_memstore.ops.state import LocalState, Popped, Session
from langchain_memstore.ops.write_ids import Numbered, WriteId, has
from langchain_memstore.window import Bounds, bounded_start

MINUTE = 60_000  # milliseconds for which popped messages are kept for a repeated call, as in lua/pop.lua


class SessionKeysOp(Op[R]):
    """An operation on the keys of one session."""

    keys: SessionKeys

    @property
    @override
    def targets(self) -> tuple[Hashable, ...]:
        return (self.keys,)

    @property
    @override
    def subject(self) -> str:
        return f"session {self.keys.session_id!r} (prefix {self.keys.prefix!r})"


class SessionOp(SessionKeysOp[R]):
    """An operation on one session, whose Python meaning is `apply`."""

    @override
    def run(self, state: LocalState, now: int) -> R:
        session = state.sessions.open(self.keys)
        result = self.apply(session, now)
        state.sessions.keep(self.keys, session)
        return result

    @abstractmethod
    def apply(self, session: Session, now: int) -> R:
        """Do the operation on a session that the process holds; the time is in milliseconds."""

    def reapply(self, session: Session, now: int) -> None:
        """Do to a session what the operation has done to it elsewhere."""
        self.apply(session, now)


@dataclass(frozen=True)
class MayWait:
    """What an operation derives from that may wait in a journal, and sets a TTL.

    Args:
        waited: Whether it has waited: its TTL is then what is left of it (0 or less: nothing), and lets no session
            expire sooner, which others may have prolonged meanwhile.
    """

    waited: bool = field(default=False, kw_only=True, compare=False)


class SessionScript(MayWait, Numbered, SessionOp[R]):
    """An operation on one session that is a script, and is done once for each write id."""

    in_outage: ClassVar[InOutage] = "journal"
    writes: ClassVar[bool] = True
    mirror: ClassVar[MirrorEffect] = "write"
    numbered_by = property(attrgetter("keys.meta"))

    keys: SessionKeys
    ttl: int | None
    write_id: str

    @override
    def arguments(self) -> Command:
        keys, ttl = self.script_keys(), "" if self.ttl is None else self.ttl
        return (len(keys), *keys, self.write_id, f">{ttl}" if self.waited and ttl != "" else ttl, *self.values())

    def script_keys(self) -> tuple[str, ...]:
        """Return the keys that the script takes."""
        return self.keys.script_keys

    def values(self) -> tuple[Argument, ...]:
        """Return the operation's own arguments."""
        return ()

    def new_ttl(self, session: Session, now: int) -> int | None:
        """Return the TTL that the operation gives a session, in milliseconds; None: no expiry."""
        if self.ttl is None or not self.waited or not session.epoch:
            return self.ttl
        ttl_ms = session.ttl_ms(now)
        return None if ttl_ms is None else max(ttl_ms, self.ttl)

    @override
    def at_replay(self, waited_ms: int, stand_in: LocalState) -> Op[Any]:
        ttl = stand_in.sessions.ttl_of(self.keys, self.ttl, waited_ms, stand_in.now())
        return replace(self.renumbered(), ttl=ttl, waited=True)  # type: ignore[call-arg]


class Appended(NamedTuple):
    """What an append left behind."""

    messages: int
    """How many messages the window holds."""
    total: int
    """How many messages were ever appended."""
    turns: int
    """The turn counter."""
    dropped: int
    """How many messages this append pushed out of the window."""
    evicted: int
    """How many messages wait to be summarised."""
    lost: int
    """How many messages this append dropped of those that waited."""
    turns_since_summary: int
    """How many turns have passed since the last summary was claimed."""


@dataclass(frozen=True)
class Append(SessionScript[Appended]):
    """Append entries and bound the window.

    Args:
        keys: The session.
        entries: What to append, oldest first; at least one.
        bounds: How much the session keeps.
        ttl: Milliseconds until the session expires; None: never.
        write_id: The id by which a repetition is known; empty: a new one.
    """

    script: ClassVar[Script] = Script("append")
    journal_name: ClassVar[str] = "Append"
    mirror: ClassVar[MirrorEffect] = "append"

    keys: SessionKeys
    entries: tuple[bytes, ...]
    bounds: Bounds
    ttl: int | None
    write_id: str = ""

    def started_turns(self) -> int:
        """Count the entries that start a turn."""
        starts = self.bounds.turn_starts
        return sum(entry.startswith(starts) for entry in self.entries)

    @override
    def values(self) -> tuple[Argument, ...]:
        bounds = self.bounds
        return (
            self.started_turns(),
            bounds.max_messages or 0,
            bounds.max_turns or 0,
            b"\n".join(bounds.results),
            b"\n".join(bounds.turn_starts),
            int(bounds.whole_turns),
            bounds.max_evicted or 0,
            b"\n".join(prefix for pair in bounds.joined for prefix in pair),
            *self.entries,
        )

    @override
    def decode(self, reply: bytes) -> Appended:
        return Appended(*map(int, reply.split(b",")))

    @override
    def apply(self, session: Session, now: int) -> Appended:
        if done := session.writers.find_result(self.write_id):
            return self.decode(done.encode())
        max_evicted, dropped, lost = self.bounds.max_evicted, 0, 0
        if done is None:
            session.messages += self.entries
            session.total += len(self.entries)
            started = self.started_turns()
            session.turns += started
            dropped = bounded_start(session.messages, self.bounds, started > 0)
            if dropped > 0 and max_evicted is not None:
                session.evicted += session.messages[:dropped]
                lost = max(0, session.evicted_count - max_evicted)
                session.drop_evicted(lost)
                session.lost += lost
            del session.messages[:dropped]
        appended = Appended(
            messages=len(session.messages),
            total=session.total,
            turns=session.turns,
            dropped=dropped,
            evicted=0 if max_evicted is None else session.evicted_count,
            lost=lost,
            turns_since_summary=session.turns - session.covered,
        )
        if done is None:
            session.commit(self.write_id, ",".join(map(str, appended)), self.new_ttl(session, now), now)
        return appended


@dataclass(frozen=True)
class Pop(SessionScript[list[bytes]]):
    """Take the newest entries off, oldest of them first, and the turns that they started.

    Args:
        keys: The session.
        count: How many entries.
        turn_starts: How entries begin that start a turn.
        ttl: Milliseconds until the session expires; None: never.
        write_id: The id by which a repetition is known; empty: a new one.
    """

    script: ClassVar[Script] = Script("pop")
    journal_name: ClassVar[str] = "Pop"

    keys: SessionKeys
    count: int
    turn_starts: tuple[bytes, ...]
    ttl: int | None
    write_id: str = ""

    @override
    def script_keys(self) -> tuple[str, ...]:
        return (*self.keys.script_keys, self.keys.popped)

    @override
    def values(self) -> tuple[Argument, ...]:
        return (self.count, b"\n".join(self.turn_starts))

    @override
    def apply(self, session: Session, now: int) -> list[bytes]:
        if (done := session.writers.find_result(self.write_id)) == "0":
            return []
        writer, number, now_open = WriteId.parse(self.write_id)
        if done is not None:
            for pop in session.popped:
                if (pop.writer, pop.number) == (writer, number) and pop.until > now:
                    return pop.entries.copy()
            raise BackendError("these messages were popped before, over a minute ago")
        taken = session.messages[-self.count :]
        if not taken:
            session.record_unchanged(self.write_id, "0", now)
            return []
        del session.messages[-self.count :]
        started = sum(entry.startswith(self.turn_starts) for entry in taken)
        session.turns = max(0, session.turns - started)
        ttl = self.new_ttl(session, now)
        session.epoch = WriteId.parse(self.write_id).name
        session.popped = [
            pop
            for pop in session.popped
            if pop.until > now and (pop.writer != writer or pop.number > number or has(now_open, pop.number))
        ]
        session.popped.append(Popped(writer, number, taken, now + MINUTE))
        session.commit(self.write_id, "1", ttl, now)
        return taken.copy()


@dataclass(frozen=True)
class RegisterTurn(SessionScript[int]):
    """Count one turn by hand.

    Args:
        keys: The session.
        ttl: Milliseconds until the session expires; None: never.
        write_id: The id by which a repetition is known; empty: a new one.
    """

    script: ClassVar[Script] = Script("register_turn")
    journal_name: ClassVar[str] = "RegisterTurn"

    keys: SessionKeys
    ttl: int | None
    write_id: str = ""

    @override
    def decode(self, reply: bytes) -> int:
        return int(reply)

    @override
    def apply(self, session: Session, now: int) -> int:
        done = session.writers.find_result(self.write_id)
        if done is None:
            session.turns += 1
            done = session.commit(self.write_id, str(session.turns), self.new_ttl(session, now), now)
        return int(done or session.turns)


@dataclass(frozen=True)
class SetSummary(SessionScript[None]):
    """Set the summary; an empty one removes it.

    Args:
        keys: The session.
        summary: The text.
        ttl: Milliseconds until the session expires; None: never.
        write_id: The id by which a repetition is known; empty: a new one.
    """

    script: ClassVar[Script] = Script("set_summary")
    journal_name: ClassVar[str] = "SetSummary"

    keys: SessionKeys
    summary: str
    ttl: int | None
    write_id: str = ""

    @override
    def values(self) -> tuple[Argument, ...]:
        return (self.summary,)

    @override
    def apply(self, session: Session, now: int) -> None:
        if session.writers.find_result(self.write_id) is None:
            session.claim = ""
            if self.summary or session.summary:
                session.summary = self.summary
                session.commit(self.write_id, "", self.new_ttl(session, now), now)
            else:
                session.record_unchanged(self.write_id, "", now)


@dataclass(frozen=True)
class Touch(SessionScript[bool]):
    """Start the TTL anew, and tell whether there is such a session.

    Args:
        keys: The session.
        ttl: Milliseconds until the session expires; None: never.
    """

    script: ClassVar[Script] = Script("touch")
    journal_name: ClassVar[str] = "Touch"

    keys: SessionKeys
    ttl: int | None
    write_id: str = field(default="0", init=False)  # it takes no number: done twice, it is done once

    @override
    def decode(self, reply: int) -> bool:
        return reply > 0

    @override
    def apply(self, session: Session, now: int) -> bool:
        ttl = self.new_ttl(session, now)
        session.expires = None if ttl is None else now + ttl
        return bool(session.epoch)


@dataclass(frozen=True)
class Clear(SessionKeysOp[bool]):
    """Remove every key of a session, and tell whether there was one.

    Args:
        keys: The session.
    """

    writes: ClassVar[bool] = True
    in_outage: ClassVar[InOutage] = "journal"
    journal_name: ClassVar[str] = "Clear"
    mirror: ClassVar[MirrorEffect] = "forget"

    keys: SessionKeys

    @override
    def commands(self) -> list[Command]:
        return [("UNLINK", *self.keys.script_keys, self.keys.lease, self.keys.popped)]

    @override
    def decode(self, reply: list[int]) -> bool:
        return reply[0] > 0

    @override
    def run(self, state: LocalState, now: int) -> bool:
        return state.sessions.drop(self.keys)
