"""Compression: what becomes of long entries before they are sealed, and stored.

A compressed entry is what comes up to its first comma, in clear, as windows and turns go by it, and then a frame of
Zstandard (RFC 8878) that holds the rest: `{"type":"ai",` and the frame. No JSON goes on like that, so no other entry is
ever taken for a compressed one. A frame carries its length and a checksum; one that claims too much is not expanded.

The package is zstandard, which langsmith, and so langchain-core, brings as it is. The backport of Python's own module
takes as long to compress, but three times as long to expand, for it makes a new context each time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress
from types import ModuleType
from typing import TypeGuard

from langchain_memstore.errors import MissingPackage

LARGEST = 16 * 2**20
"""The most bytes of an entry that is compressed, and of what a frame may come to, for 600 bytes can claim that much."""
LEVEL = 1  # 3 takes a fifth to a third longer, and leaves 0.41 where this leaves 0.42
_FRAME = b",(\xb5/\xfd"  # the comma, and the number that every frame begins with


class CorruptFrame(ValueError):
    """What follows the comma is not a whole frame, was changed, or claims too much."""


def load_zstandard(needed_by: str) -> ModuleType:
    """Return the package that compresses.

    Args:
        needed_by: What needs it, for the error.

    Raises:
        MissingPackage: It is not installed.
    """
    try:
        import zstandard
    except ImportError as missing:
        raise MissingPackage(
            f"{needed_by} the zstandard package: pip install 'langchain-memstore[compression]'"
        ) from missing
    return zstandard


class _Contexts:
    """What compresses and expands in one thread: threads cannot share it, and making it takes longer than its work."""

    def __init__(self) -> None:
        zstandard = load_zstandard("compressed messages need")
        self.compress = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress
        self.expand = zstandard.ZstdDecompressor(max_window_size=LARGEST).decompress
        self.size_of = zstandard.frame_content_size
        self.error = zstandard.ZstdError


_thread = threading.local()


def _contexts() -> _Contexts:
    try:
        contexts: _Contexts = _thread.contexts
    except AttributeError:
        contexts = _thread.contexts = _Contexts()
    return contexts


def compress(entries: tuple[bytes, ...], above: int) -> tuple[bytes, ...]:
    """Compress entries where that makes them shorter.

    Args:
        entries: The entries; those that are compressed stay as they are.
        above: The most bytes of an entry that is left alone.

    Raises:
        MissingPackage: zstandard is not installed.
    """
    return tuple([_compressed(entry) if above < len(entry) <= LARGEST else entry for entry in entries])


def _compressed(entry: bytes) -> bytes:
    if is_compressed(entry):
        return entry
    clear = entry.index(b",") + 1
    compressed = entry[:clear] + _contexts().compress(memoryview(entry)[clear:])
    return compressed if len(compressed) < len(entry) else entry


def is_compressed(entry: bytes | str) -> TypeGuard[bytes]:
    """Tell whether an entry has the form of a compressed one."""
    return isinstance(entry, bytes) and entry.startswith(_FRAME, entry.find(b","))


def expand(entry: bytes) -> bytes:
    """Return a compressed entry as it was.

    Raises:
        CorruptFrame: It cannot be expanded.
        MissingPackage: zstandard is not installed.
    """
    contexts, clear = _contexts(), entry.index(b",") + 1
    frame = memoryview(entry)[clear:]
    try:
        size = contexts.size_of(frame)
        if not 0 <= size <= LARGEST:
            raise CorruptFrame("it claims too much, or does not say how much it comes to")
        rest: bytes = contexts.expand(frame, allow_extra_data=False)
    except contexts.error as error:
        raise CorruptFrame(str(error)) from error
    whole = entry[:clear] + rest
    if is_compressed(whole):
        raise CorruptFrame("it holds another frame")
    return whole


def expanded(entries: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return entries as they were before any was compressed; one that cannot be expanded stays as it is.

    Raises:
        MissingPackage: One is compressed, and zstandard is not installed.
    """
    return tuple([_expanded(entry) if is_compressed(entry) else entry for entry in entries])


def _expanded(entry: bytes) -> bytes:
    with suppress(CorruptFrame):
        return expand(entry)
    return entry
