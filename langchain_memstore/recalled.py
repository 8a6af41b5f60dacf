"""Messages that were decoded before: to make a copy takes half the time of decoding, or less.

A conversation that goes on is read again and again, and all but the last messages of its window are those of before. So
of sessions that are read repeatedly a process keeps what their entries became, up to a bound, and hands out copies.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from langchain_core.messages import BaseMessage

from langchain_memstore.codec import build, decode, decode_all, is_plain
from langchain_memstore.compression import is_compressed

MOST_BYTES = 32 * 2**20  # that a process keeps
BESIDE = 600  # bytes that a message takes beside its text
MOST_SEEN = 10_000  # sessions of which it is known that they were read


class _Original(NamedTuple):
    """What a message is made of; it is never handed out."""

    cls: type[BaseMessage]
    data: dict[str, Any]
    """Its fields; those that can be changed are left out."""
    changeable: tuple[tuple[str, Callable[[], Any]], ...]
    """The fields that can be changed, lists and dicts, and how to make each anew."""
    fields: set[str]
    extra: dict[str, Any]


class _Session:
    """The messages of a session."""

    __slots__ = ("originals", "read", "size")

    def __init__(self) -> None:
        self.originals: dict[bytes, _Original] = {}
        self.size = 0
        self.read = 0
        """When it was last read: by how many reads there had been of all."""


class Recalled:
    """Decodes entries, and keeps what became of those of sessions that are read repeatedly.

    A session is kept from its second read on. Where there is no room, it takes the place of those that were read
    longest ago, if that is longer than since its own last read: more sessions than fit do not drive each other out.

    Args:
        most: About how many bytes to keep.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.forget()

    def forget(self) -> None:
        """Forget all, as a fork has to, whose parent may have held the lock."""
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._size = 0
        self._reads = 0
        self._seen: dict[str, int] = {}
        """When a session that is not kept was last read."""

    def decode(self, name: str, entries: Sequence[bytes]) -> list[BaseMessage]:
        """Decode the entries of a session.

        Args:
            name: What stands for the session in this process.
            entries: Its entries.

        Returns:
            New messages.

        Raises:
            MessageDecodeError: An entry is not a message.
        """
        with self._lock:
            session = self._find(name, entries)
        if session is None:
            return decode_all(entries)
        messages: list[BaseMessage] = []
        originals, grown = session.originals, 0
        for entry in entries:
            original = originals.get(entry)
            if original is None:
                message = decode(entry)
                original = _original(message, entry)
                if original is None:
                    messages.append(message)
                    continue
                originals[entry] = original
                grown += _size(entry)
            cls, data, changeable, fields, extra = original
            data = data.copy()
            for field, make in changeable:
                data[field] = make()
            messages.append(build(cls, data, fields.copy(), _copied(extra) if extra else {}))
        if grown:
            with self._lock:
                self._grow(name, session, grown, entries)
        return messages

    def _find(self, name: str, entries: Sequence[bytes]) -> _Session | None:
        """Return what is kept of a session, or is to be kept; None: nothing is."""
        self._reads += 1
        if (session := self._sessions.get(name)) is not None:
            self._sessions.move_to_end(name)
        elif self._admits(name, entries):
            session = self._sessions[name] = _Session()
        else:
            return None
        session.read = self._reads
        return session

    def _admits(self, name: str, entries: Sequence[bytes]) -> bool:
        seen = self._seen.pop(name, None)
        if seen is not None:
            needed = sum(map(_size, entries))
            oldest = next(iter(self._sessions.values()), None)
            if needed <= self._most and (self._size + needed <= self._most or (oldest and oldest.read < seen)):
                return True
        if len(self._seen) >= MOST_SEEN:
            self._seen.clear()
        self._seen[name] = self._reads
        return False

    def _grow(self, name: str, session: _Session, grown: int, entries: Sequence[bytes]) -> None:
        """Count what was added to a session, let go of what has left its window, and of the oldest sessions."""
        if self._sessions.get(name) is not session:  # it was let go of meanwhile
            return
        before = session.size
        session.size += grown
        if len(session.originals) > 2 * len(entries) + 16:
            originals = session.originals
            session.originals = {entry: originals[entry] for entry in entries if entry in originals}
            session.size = sum(map(_size, session.originals))
        self._size += session.size - before
        while self._size > self._most:
            _, oldest = self._sessions.popitem(last=False)
            self._size -= oldest.size


def _size(entry: bytes) -> int:
    return 2 * len(entry) + BESIDE


def _original(message: BaseMessage, entry: bytes) -> _Original | None:
    """Take a message apart; None: it holds what cannot be copied so, or takes much more than its entry."""
    data, extra = message.__dict__, message.__pydantic_extra__ or {}
    if is_compressed(entry) or not is_plain(data.values()) or not is_plain(extra.values()):
        return None
    changeable: list[tuple[str, Callable[[], Any]]] = []
    for name, value in data.items():
        if type(value) in (dict, list):
            changeable.append((name, functools.partial(_copied, value) if value else type(value)))
            data[name] = None
    return _Original(type(message), data, tuple(changeable), message.model_fields_set, extra)


def _copied(value: Any) -> Any:
    if type(value) is dict:
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if type(value) is list else value


RECALLED = Recalled(MOST_BYTES)
"""What the process keeps."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=RECALLED.forget)
