"""A journal in a file, which outlasts the process."""

from __future__ import annotations

import logging
import os
import shutil
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from langchain_memstore.backends.outage.journal import Journal, read_op, write_op
from langchain_memstore.errors import BackendError, BackendUnavailable, DecryptError
from langchain_memstore.ops.base import Op

if TYPE_CHECKING:
    from langchain_memstore.codec.encryption import Cipher

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

MAGIC = b"langchain-memstore journal 2\n"
_MAGICS = b"langchain-memstore journal 1\n", MAGIC  # in the first form nothing says what was sent
_HEAD = struct.Struct(">II")  # length and CRC-32 of what follows
_DONE = b"-"  # of the operations before it, the first that is not done yet is done
_PLAIN, _SEALED = b"+", b"="  # an operation follows, or what it was encrypted to
_SENT = struct.Struct(">cQI")  # a `!`, when the first operations that waited were sent, how many of them
_KIND = b"journal"
_UNSYNCED = 16  # how many operations may be done before the file says so for sure; the store knows them that long
_MOST_FILES = 100


class FileJournal(Journal):
    """A journal that is in a file too, so that it outlasts the process: the next one replays it.

    The file is appended to only, and synced with every write; it is emptied when nothing waits. A process locks the
    file it uses: where another process has it, `<path>.1` is taken, and so on. What processes have left in any of
    these, the next one takes over. Records that a crash has cut off are dropped, for nobody was told that they were
    written.

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
        if fcntl is None:
            raise ValueError("fallback cannot be a path on this system, which has no file locks (fcntl)")
        self._path = self._name = path
        self._file = -1
        self._unsynced = 0
        self._left: tuple[Op[Any], ...] = ()

    @override
    def open(self) -> None:
        """Lock a file, and find what earlier processes have left.

        Raises:
            BackendError: The file cannot be used.
            DecryptError: The keys at hand do not open it.
        """
        try:
            for path in self._names():
                if (file := _locked(path)) is None:
                    continue
                self._file, self._name = file, path
                break
            else:
                raise BackendError(f"{_MOST_FILES} processes use the journal {self._path!r}")
            for op, sent in self._read(self._file, self._name):
                self._add(op, sent)
            self._take_over()
            self._left = ()
        except OSError as error:
            self.close()
            raise BackendError(f"the journal {self._path!r} cannot be used: {error}") from error
        except BaseException:
            self.close()
            raise

    @override
    def done(self) -> None:
        """Take the first operation off, and note that it was done."""
        super().done()
        with self._writing():
            if self._ops:
                _append(self._file, _DONE)
            else:
                _clear(self._file)
        self._unsynced += 1
        if self._unsynced >= _UNSYNCED or not self._ops:
            self.sync()

    @override
    def sync(self) -> None:
        """Make sure that the file is on disk.

        Raises:
            BackendUnavailable: It cannot be written.
        """
        self._unsynced = 0
        with self._writing():
            os.fsync(self._file)

    @override
    def close(self) -> None:
        """Close the file, which unlocks it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self._left = tuple(self._ops)  # which stay under way, as long as this process may replay them
            self._ops.clear()
            self._sent.clear()
            self._targets.clear()

    @override
    def kept(self) -> str:
        """Say where the operations are that still wait when the process ends."""
        return f"and are kept in {self._path!r}, for the next process to replay"

    @override
    def _write(self, op: Op[Any], sent: int | None) -> None:
        with self._writing():
            written = write_op(op)
            sealed = _PLAIN + written if self._cipher is None else _SEALED + self._cipher.seal(written, _KIND)
            _append(self._file, sealed)
            if sent is not None:
                _append(self._file, _SENT.pack(b"!", sent, 0))

    @override
    def _mark_sent(self, now: int) -> None:
        """Note that the next operations are sent, some at once: only then the file says so for sure."""
        count = min(len(self._ops), _UNSYNCED)
        with self._writing():
            _append(self._file, _SENT.pack(b"!", now, count))
        self.sync()
        for index in range(count):
            if self._sent[index] is None:
                self._sent[index] = now

    def _read(self, file: int, path: str) -> Iterator[tuple[Op[Any], int | None]]:
        """Read the operations that a file holds and that are not done, and when each was sent."""
        ops: deque[tuple[Op[Any], int | None]] = deque()
        form, records = _records(file, path)
        for record in records:
            if record == _DONE:
                if ops:
                    ops.popleft()
            elif record[:1] == b"!":
                _, sent, count = _SENT.unpack(record)
                for index in range(count) if count else (len(ops) - 1,):
                    if 0 <= index < len(ops) and ops[index][1] is None:
                        ops[index] = ops[index][0], sent
            else:
                ops.append((self._op(record, path), None))
        if ops and form != MAGIC:
            ops[0] = ops[0][0], int(os.fstat(file).st_mtime * 1000)
        return iter(ops)

    def _op(self, record: bytes, path: str) -> Op[Any]:
        form, written = record[:1], record[1:]
        try:
            if form == _SEALED:
                if self._cipher is None:
                    raise DecryptError("is encrypted; pass the encryption_keys that it was written with")
                written = self._cipher.unseal(written, _KIND)
            return read_op(written)
        except DecryptError as error:
            raise DecryptError(f"what the journal {path!r} holds {error}") from None
        except ValueError as error:
            raise BackendError(f"the journal {path!r} holds what this version does not know: {error}") from None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BackendUnavailable(f"the journal {self._name!r} cannot be written: {error}") from error

    def _names(self) -> Iterator[str]:
        yield self._path
        for number in range(1, _MOST_FILES):
            yield f"{self._path}.{number}"

    def _take_over(self) -> None:
        """Take over what processes that are no more have left in files of other names."""
        for path in self._names():
            if path == self._name or not os.path.exists(path) or (file := _locked(path)) is None:
                continue
            try:
                for op, sent in self._read(file, path):
                    self._write(op, sent)
                    self._add(op, sent)
                os.fsync(self._file)
                _clear(file)
            finally:
                os.close(file)


def _locked(path: str) -> int | None:
    """Open a file and lock it; None where another process has it."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    os.fchmod(file, 0o600)
    return file


def _clear(file: int) -> None:
    os.ftruncate(file, 0)
    os.write(file, MAGIC)


def _append(file: int, record: bytes) -> None:
    """Write a record whole or not at all."""
    size = os.fstat(file).st_size
    data = _HEAD.pack(len(record), zlib.crc32(record)) + record
    try:
        written = os.write(file, data)
        if written < len(data):
            os.write(file, data[written:])  # which tells why the disk did not take it
    except OSError:
        os.ftruncate(file, size)
        raise


def _records(file: int, path: str) -> tuple[bytes, list[bytes]]:
    """Read the form and the records of a file; leave it as it was but for what is torn."""
    with open(os.dup(file), "rb") as reader:
        data = reader.read()
    if not data:
        os.write(file, MAGIC)
        return MAGIC, []
    if not data.startswith(_MAGICS):
        raise BackendError(f"{path!r} is not a journal of this package; name another file")
    records: list[bytes] = []
    at = len(MAGIC)
    while at < len(data):
        end = at + _HEAD.size
        length, checksum = _HEAD.unpack(data[at:end]) if end <= len(data) else (len(data), 0)
        record = data[end : end + length]
        if len(record) < length or zlib.crc32(record) != checksum:
            _drop_tail(file, path, at, torn=end + length >= len(data))
            break
        at = end + length
        records.append(record)
    return data[: len(MAGIC)], records


def _drop_tail(file: int, path: str, at: int, *, torn: bool) -> None:
    if torn:
        logger.warning("the journal %r ends in a record that was never written whole; it is dropped", path)
    else:
        shutil.copyfile(path, f"{path}.damaged")
        logger.error("the journal %r is damaged at byte %d; what it held is in %r", path, at, f"{path}.damaged")
    os.ftruncate(file, at)
