"""A file of records that one process at a time has: what a journal is kept in."""

from __future__ import annotations

import glob
import logging
import os
import re
import shutil
import struct
import zlib

from langchain_memstore.errors import BackendError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

MAGIC = b"langchain-memstore journal 2\n"
_MAGICS = b"langchain-memstore journal 1\n", MAGIC
_HEAD = struct.Struct(">II")  # length and CRC-32 of what follows

HAS_LOCKS = fcntl is not None
"""Whether the system has the locks that such a file takes."""


class NotAJournal(BackendError):
    """A file holds something else; it is left alone."""


class JournalFile:
    """A file of records, which this process has locked. It is appended to, and emptied.

    Args:
        path: Where it is.
        file: Its descriptor.
    """

    def __init__(self, path: str, file: int) -> None:
        self.path = path
        self._file = file

    @classmethod
    def lock(cls, path: str) -> JournalFile | None:
        """Open a file, and lock it; None where another process has it.

        It is made where there is none, readable for its owner alone.

        Raises:
            OSError: The file cannot be used.
        """
        while True:
            file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(file), os.stat(path)):
                    os.fchmod(file, 0o600)
                    return cls(path, file)
            except BlockingIOError:
                os.close(file)
                return None
            except FileNotFoundError:
                pass
            os.close(file)  # another process has set it aside meanwhile

    @property
    def changed(self) -> int:
        """When the file was written to last, in milliseconds since 1970."""
        return int(os.fstat(self._file).st_mtime * 1000)

    def read(self) -> tuple[bool, list[bytes]]:
        """Return whether the file is of the present form, and its records; leave it as it was but for what is torn.

        Raises:
            NotAJournal: It holds something else.
            OSError: The file cannot be read.
        """
        with open(os.dup(self._file), "rb") as reader:
            data = reader.read()
        if MAGIC.startswith(data) and data != MAGIC:  # it was never written whole
            os.ftruncate(self._file, 0)
            return True, []
        if not data.startswith(_MAGICS):
            raise NotAJournal(f"{self.path!r} is not a journal of this package; name another file")
        records: list[bytes] = []
        at = len(MAGIC)
        while at < len(data):
            end = at + _HEAD.size
            length, checksum = _HEAD.unpack(data[at:end]) if end <= len(data) else (len(data), 0)
            record = data[end : end + length]
            if len(record) < length or zlib.crc32(record) != checksum:
                self._drop_tail(at, torn=end + length >= len(data))
                break
            at = end + length
            records.append(record)
        return data.startswith(MAGIC), records

    def append(self, record: bytes) -> None:
        """Write a record, whole or not at all.

        Raises:
            OSError: The disk does not take it.
        """
        size = os.fstat(self._file).st_size
        data = (b"" if size else MAGIC) + _HEAD.pack(len(record), zlib.crc32(record)) + record
        try:
            written = os.write(self._file, data)
            if written < len(data):
                os.write(self._file, data[written:])  # which tells why the disk did not take it
        except OSError:
            os.ftruncate(self._file, size)
            raise

    def clear(self) -> None:
        """Drop all records."""
        os.ftruncate(self._file, min(len(MAGIC), os.fstat(self._file).st_size))

    def sync(self) -> None:
        """Make sure that the file is on disk; a file that was closed is what it is."""
        if self._file >= 0:
            os.fsync(self._file)

    def move(self, path: str) -> None:
        """Give the file another name, which no file has.

        Raises:
            FileExistsError: One has.
        """
        os.link(self.path, path)
        os.unlink(self.path)
        self.path = path

    def delete(self) -> None:
        """Delete the file."""
        os.unlink(self.path)

    def close(self) -> None:
        """Close the file, which unlocks it."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def _drop_tail(self, at: int, *, torn: bool) -> None:
        if torn:
            logger.warning("the journal %r ends in a record that was never written whole; it is dropped", self.path)
        else:
            kept = f"{self.path}.damaged"
            shutil.copyfile(self.path, kept)
            logger.error("the journal %r is damaged at byte %d; what it held is in %r", self.path, at, kept)
        os.ftruncate(self._file, at)


def numbered(path: str, sign: str) -> list[str]:
    """Return the files that exist beside one, with a sign and a number behind its name: `journal.1`, `journal.2`."""
    ends = [name.removeprefix(path + sign) for name in glob.glob(f"{glob.escape(path + sign)}*")]
    return [f"{path}{sign}{number}" for number in sorted(int(end) for end in ends if re.fullmatch("[1-9][0-9]*", end))]
