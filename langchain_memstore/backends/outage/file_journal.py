"""A journal in a file, which outlasts the process."""

from __future__ import annotations

import itertools
import logging
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from langchain_memstore.backends.outage.journal import Journal, Waiting, read_op, write_op
from langchain_memstore.backends.outage.journal_file import HAS_LOCKS, JournalFile, NotAJournal, numbered
from langchain_memstore.errors import BackendError, BackendUnavailable, DecryptError
from langchain_memstore.ops.base import Op

if TYPE_CHECKING:
    from langchain_memstore.codec.encryption import Cipher

logger = logging.getLogger(__name__)

# Records begin with what they say. Operations are counted from the beginning of the file.
_PLAIN, _SEALED = b"+", b"="  # an operation: since when it waits, and what it is, or what that was encrypted to
_SENT = b"!"  # when operations were sent, and which
_DONE = b"-"  # which operation does not wait any more; in the first form of the file the first one that does
_KIND = b"journal"
_ASIDE = ".unread-"  # in the names of files that could not be read
_UNSYNCED = 16  # how many operations may be done before the file says so for sure; the store knows them that long


class FileJournal(Journal):
    """A journal that is in a file too, so that it outlasts the process: the next one replays it.

    The file is appended to only, and synced with every write; it is emptied when nothing waits. A process locks the
    file it uses: where another process has it, `<path>.1` is taken, and so on. What processes have left in any of
    these, the next one takes over. Records that a crash has cut off are dropped, for nobody was told that they were
    written.

    A file that the keys at hand do not open is set aside, as `<path>.unread-1`, and taken over once they do. What the
    store has refused for good is in `<path>.rejected`.

    Args:
        path: The file; made, readable for its owner alone, when it is first needed. It serves one Redis.
        most: The most operations that may wait.
        cipher: Encrypts the operations; None: they are written as they are.

    Raises:
        ValueError: The system has no file locks.
    """

    is_durable: ClassVar[bool] = True

    def __init__(self, path: str, most: int, cipher: Cipher | None = None) -> None:
        super().__init__(most)
        self._cipher = cipher
        if not HAS_LOCKS:
            raise ValueError("fallback cannot be a path on this system, which has no file locks (fcntl)")
        self._path = path
        self._rejected = f"{path}.rejected"
        self._file: JournalFile | None = None
        self._places: dict[int, int] = {}
        """Which operations of the file those are that wait, by their numbers."""
        self._written = 0
        """How many operations were written to the file."""
        self._unsynced = 0
        self._left: tuple[Waiting, ...] = ()

    @override
    def open(self) -> None:
        """Lock a file, and find what earlier processes have left.

        Raises:
            BackendError: The file cannot be used.
        """
        try:
            unread = numbered(self._path, _ASIDE)
            self._file = self._lock_own()
            while not self._take_in(self._file):
                self._file = self._lock_own()
            for path in (self._path, *numbered(self._path, "."), *unread):
                if path != self._file.path and os.path.exists(path) and (other := JournalFile.lock(path)) is not None:
                    self._take_over(other)
            self._left = ()
        except OSError as error:
            self.close()
            raise BackendError(f"the journal {self._path!r} cannot be used: {error}") from error
        except BaseException:
            self.close()
            raise

    @override
    def mark_sent(self, waiting: Waiting, now: int) -> None:
        """Note that an operation is sent now, and the next ones soon: only after a sync the file says so for sure."""
        if waiting.sent is not None:
            return
        later = itertools.dropwhile(lambda each: each is not waiting, self)
        sent = [each for each in itertools.islice(later, _UNSYNCED) if each.sent is None]
        for each in sent:
            super().mark_sent(each, now)
        with self._writing() as file:
            file.append(_SENT + _packed(now, *(self._places[each.number] for each in sent)))
        self._unsynced = _UNSYNCED

    @override
    def remove(self, waiting: Waiting) -> None:
        super().remove(waiting)
        place = self._places.pop(waiting.number)
        self._unsynced += 1
        with self._writing() as file:
            if self:
                file.append(_DONE + _packed(place))
            else:
                file.clear()
                self._written = 0

    @override
    def reject(self, waiting: Waiting) -> str:
        try:
            with self._writing():
                self._keep_rejected(waiting)
        finally:
            self.remove(waiting)
        return f", and kept in {self._rejected!r}"

    @override
    def needs_sync(self) -> bool:
        return self._unsynced >= _UNSYNCED or (self._unsynced > 0 and not self)

    @override
    def sync(self) -> None:
        self._unsynced = 0
        with self._writing() as file:
            file.sync()

    @override
    def close(self) -> None:
        """Close the file, which unlocks it."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._left = tuple(self)  # which stay under way, as long as this process may replay them
            self._waiting.clear()
            self._targets.clear()
            self._places.clear()
            self._written = 0

    @override
    def kept(self) -> str:
        """Say where the operations are that still wait when the process ends."""
        return f"and are kept in {self._path!r}, for the next process to replay"

    @override
    def _write(self, waiting: Waiting) -> None:
        with self._writing() as file:
            file.append(self._record(waiting))
            self._places[waiting.number] = self._written
            self._written += 1
            if waiting.sent is not None:
                file.append(_SENT + _packed(waiting.sent, self._places[waiting.number]))

    def _record(self, waiting: Waiting) -> bytes:
        written = write_op(waiting.op)
        if self._cipher is None:
            return _PLAIN + _packed(waiting.since) + written
        return _SEALED + _packed(waiting.since) + self._cipher.seal(written, _KIND)

    @contextmanager
    def _writing(self) -> Iterator[JournalFile]:
        if self._file is None:
            raise BackendUnavailable(f"the journal {self._path!r} was closed")
        try:
            yield self._file
        except OSError as error:
            raise BackendUnavailable(f"the journal {self._file.path!r} cannot be written: {error}") from error

    def _lock_own(self) -> JournalFile:
        """Lock the first file that no other process has."""
        names = itertools.chain([self._path], (f"{self._path}.{number}" for number in itertools.count(1)))
        return next(file for file in map(JournalFile.lock, names) if file is not None)

    def _take_in(self, file: JournalFile) -> bool:
        """Have what is in a file wait, which is this journal's from now on.

        Returns:
            Whether it is. Else the file was set aside, or it is of version 0.1, and one of those to take over.
        """
        if (found := self._read(file)) is None:
            return False
        waiting, self._written, is_present_form = found
        if not is_present_form:
            if waiting:
                self._move(file, ".")
            else:
                file.delete()
            file.close()
            return False
        for place, each in waiting.items():
            self._add(each)
            self._places[each.number] = place
        return True

    def _take_over(self, other: JournalFile) -> None:
        """Take over what a process that is no more has left in another file."""
        try:
            if (found := self._read(other)) is not None:
                for each in found[0].values():
                    self.append(each.op, each.since, each.sent)
                self.sync()
                other.clear()
                if self._was_set_aside(other):
                    other.delete()
        except (NotAJournal, BackendUnavailable) as error:
            logger.error("what waits in %r is not taken over: %s", other.path, error)
        finally:
            other.close()

    def _read(self, file: JournalFile) -> tuple[dict[int, Waiting], int, bool] | None:
        """Read what waits in a file, how many operations were written to it, and whether it is of the present form.

        None: it cannot be read, and the file was set aside and closed.
        """
        is_present_form, records = file.read()
        waiting: dict[int, Waiting] = {}
        count = 0
        try:
            for record in records:
                kind, said = record[:1], record[1:]
                if kind == _DONE:
                    waiting.pop(_numbers(said)[0] if said else next(iter(waiting), -1), None)
                elif kind == _SENT:
                    at, *places = _numbers(said)
                    for place in places:
                        if place in waiting:
                            waiting[place].sent = at
                else:
                    since, written = (_numbers(said[:8])[0], said[8:]) if is_present_form else (file.changed, said)
                    waiting[count] = Waiting(self._op(kind, written), 0, since)
                    count += 1
        except (DecryptError, ValueError) as error:
            self._set_aside(file, error)
            return None
        if waiting and not is_present_form:  # where nothing says what was sent
            next(iter(waiting.values())).sent = file.changed
        return waiting, count, is_present_form

    def _op(self, kind: bytes, written: bytes) -> Op[Any]:
        if kind == _SEALED:
            if self._cipher is None:
                raise DecryptError("it is encrypted, and there are no encryption_keys")
            written = self._cipher.unseal(written, _KIND)
        return read_op(written)

    def _set_aside(self, file: JournalFile, error: Exception) -> None:
        if not self._was_set_aside(file):
            self._move(file, _ASIDE)
        file.close()
        logger.error(
            "operations that wait in a journal cannot be read, and are kept in %r until they can, with the "
            "encryption_keys that they were written with, or the version of this package: %s",
            file.path,
            error,
        )

    def _move(self, file: JournalFile, sign: str) -> None:
        """Give a file the first name that is free, with a sign and a number."""
        number = 1
        while True:
            try:
                file.move(f"{self._path}{sign}{number}")
                return
            except FileExistsError:
                number += 1

    def _was_set_aside(self, file: JournalFile) -> bool:
        return file.path.startswith(self._path + _ASIDE)

    def _keep_rejected(self, waiting: Waiting) -> None:
        if (file := JournalFile.lock(self._rejected)) is None:
            raise BackendUnavailable(f"{self._rejected!r} is in use")
        try:
            file.read()
            file.append(self._record(waiting))
            file.sync()
        finally:
            file.close()


def _packed(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}Q", *numbers)


def _numbers(packed: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(packed) // 8}Q", packed)
