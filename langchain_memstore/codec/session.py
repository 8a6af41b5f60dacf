"""What the messages and the summary of one session are in its store: encoded, then compressed where they are long and
that is wanted (see `compression.py`), then sealed where there are keys.

A sealed entry reads `{"type":"human","sealed":"<base64>"}`, a sealed summary `{"type":"summary","sealed":"<base64>"}`.
The type stays in clear, for windows and turns go by it, and is authenticated with the rest. A summary, of which there
is one, is never compressed.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from langchain_core.messages import BaseMessage

from langchain_memstore.codec import messages as codec
from langchain_memstore.codec.compression import compress, expanded
from langchain_memstore.codec.messages import SEALED, is_sealed
from langchain_memstore.errors import DecryptError, MessageDecodeError, MissingPackage
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.transfer import SessionDump

if TYPE_CHECKING:
    from langchain_memstore.codec.encryption import Cipher, KeyRing

logger = logging.getLogger(__name__)

MANY = 100  # messages, of half a dozen objects each: with fewer, the collector seldom comes between

_ENTRY, _SUMMARY = b"entry", b"summary"  # what is sealed as one does not open as the other
_SUMMARY_TYPE = b'{"type":"summary"'
_END = b'"}'


class SessionCodec:
    """Encodes what goes into a session, and decodes what comes out.

    Args:
        keys: The session.
        key_ring: The keys by which it is encrypted; None: it is not.
        accept_plaintext: Whether what is not encrypted is read where there are keys.
        compress_above: The most bytes of an entry that is not compressed; None: none is.
        on_corrupt: What becomes of entries that are not messages; see `decode_entries`.
    """

    def __init__(
        self,
        keys: SessionKeys,
        key_ring: KeyRing | None = None,
        *,
        accept_plaintext: bool = False,
        compress_above: int | None = None,
        on_corrupt: Literal["skip", "raise"] = "skip",
    ) -> None:
        self._keys = keys
        self._key_ring = key_ring
        self._accept_plaintext = accept_plaintext
        self._compress_above = compress_above
        self._on_corrupt: Literal["skip", "raise"] = on_corrupt
        self._stores_as_encoded = key_ring is None and compress_above is None

    def encode(self, messages: Sequence[BaseMessage]) -> tuple[bytes, ...]:
        """Encode messages as entries; see `messages.encode`."""
        entries = codec.encode(messages)
        return entries if self._stores_as_encoded else self.seal(entries)

    def seal(self, entries: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Return entries as they are stored: compressed and sealed, where that is wanted."""
        if self._compress_above is not None:
            entries = compress(entries, self._compress_above)
        if self._key_ring is None:
            return entries
        return tuple([self._seal(entry, _ENTRY, entry[: entry.index(b",")]) for entry in entries])

    def unseal(self, entries: Sequence[bytes]) -> Sequence[bytes]:
        """Return entries as they were before they were sealed; they may be compressed.

        Raises:
            DecryptError: One cannot be decrypted.
        """
        if self._key_ring is not None:
            return self._unseal_entries(entries)
        if any(map(is_sealed, entries)):
            raise DecryptError(self._its("entries are encrypted; pass encryption_keys= to its store"))
        return entries

    def unseal_dump(self, dump: SessionDump) -> SessionDump:
        """Return all of a session as it is without encryption and compression.

        Raises:
            DecryptError: Something cannot be decrypted.
            MissingPackage: Something is compressed, and there is nothing to expand it.
        """
        messages, evicted = map(self._unseal_all, (dump.messages, dump.evicted))
        return replace(dump, messages=messages, evicted=evicted, summary=self.decode_summary(dump.summary))

    def seal_dump(self, dump: SessionDump) -> SessionDump:
        """Return all of a session, whose entries are messages, as it is stored."""
        messages, evicted = map(self._seal_all, (dump.messages, dump.evicted))
        return replace(dump, messages=messages, evicted=evicted, summary=self.encode_summary(dump.summary))

    def decode(self, entries: list[bytes], on_corrupt: Literal["skip", "raise"] | None = None) -> list[BaseMessage]:
        """Decode entries.

        Args:
            entries: What `encode` made.
            on_corrupt: What becomes of entries that are not messages; None: as the codec was made.

        Raises:
            DecryptError: An entry cannot be decrypted; such a one is never skipped.
            MissingPackage: An entry is compressed, and there is nothing to expand it; nor is such a one.
            MessageDecodeError: An entry is not a message, where that is to be raised.
        """
        on_corrupt = on_corrupt or self._on_corrupt
        if len(entries) < MANY:
            return self._decode(entries, on_corrupt)
        with collector_resting():
            return self._decode(entries, on_corrupt)

    def encode_summary(self, summary: str) -> str:
        """Return a summary as it is stored.

        Raises:
            ValueError: There are no keys, and the text would be taken for an encrypted summary.
        """
        if self._key_ring is None:
            if is_sealed(summary.encode()):
                raise ValueError("summary must not be what an encrypted summary looks like")
            return summary
        return self._seal(summary.encode(), _SUMMARY, _SUMMARY_TYPE).decode() if summary else ""

    def decode_summary(self, stored: str) -> str:
        """Return a stored summary as it was.

        Raises:
            DecryptError: The summary cannot be decrypted.
        """
        if not stored:
            return ""
        if self._key_ring is not None:
            try:
                return self._unseal(stored.encode(), _SUMMARY).decode()
            except DecryptError as error:
                raise DecryptError(self._its(f"summary {error}")) from None
        if is_sealed(stored.encode()):
            raise DecryptError(self._its("summary is encrypted; pass encryption_keys= to its store"))
        return stored

    @cached_property
    def _cipher(self) -> Cipher:
        assert self._key_ring is not None
        return self._key_ring.cipher(self._keys.prefix, self._keys.session_id)

    def _decode(self, entries: list[bytes], on_corrupt: Literal["skip", "raise"]) -> list[BaseMessage]:
        if self._key_ring is not None:
            entries = self._unseal_entries(entries)
        try:
            return decode_entries(entries, self._keys.session_id, on_corrupt)
        except MissingPackage as error:
            raise MissingPackage(self._its(error)) from error

    def _seal(self, value: bytes, kind: bytes, clear: bytes) -> bytes:
        return clear + SEALED + self._cipher.seal(value, kind + clear) + _END

    def _unseal_all(self, entries: tuple[bytes, ...]) -> tuple[bytes, ...]:
        try:
            return expanded(self.unseal(entries))
        except MissingPackage as error:
            raise MissingPackage(self._its(error)) from error

    def _seal_all(self, entries: tuple[bytes, ...]) -> tuple[bytes, ...]:
        if self._key_ring is None:
            return self.seal(entries)
        return self.encode([*map(codec.decode, entries)])

    def _unseal_entries(self, entries: Iterable[bytes]) -> list[bytes]:
        unsealed: list[bytes] = []
        try:
            for entry in entries:
                unsealed.append(self._unseal(entry, _ENTRY))
        except DecryptError as error:
            raise DecryptError(self._its(f"entry {len(unsealed)} {error}")) from None
        return unsealed

    def _unseal(self, value: bytes, kind: bytes) -> bytes:
        if is_sealed(value):
            clear, _, sealed = value.partition(SEALED)
            return self._cipher.unseal(sealed[:-2] if sealed.endswith(_END) else b"", kind + clear)
        if self._accept_plaintext:
            return value
        raise DecryptError(
            "is not encrypted; to read also what was stored before there were keys, pass accept_plaintext=True"
        )

    def _its(self, what: object) -> str:
        return f"session {self._keys.session_id!r} (prefix {self._keys.prefix!r}): its {what}"


def decode_entries(
    entries: Sequence[bytes], session_id: str, on_corrupt: Literal["skip", "raise"]
) -> list[BaseMessage]:
    """Decode the entries of a session.

    Args:
        entries: What `messages.encode` made.
        session_id: Whose they are, for the error and the warning.
        on_corrupt: Whether to `skip` an entry that is not a message, with one logged warning for all, or to `raise`.

    Raises:
        MessageDecodeError: An entry is not a message, where that is to be raised.
        DecryptError: An entry is encrypted; such a one is never skipped.
        MissingPackage: An entry is compressed, and there is nothing to expand it; such a one is never skipped, either.
    """
    try:
        return codec.decode_all(entries)
    except MessageDecodeError:
        pass  # look which
    messages, corrupt = [], []
    for index, entry in enumerate(entries):
        try:
            messages.append(codec.decode(entry))
        except MessageDecodeError as error:
            if is_sealed(entry):
                raise DecryptError(
                    f"session {session_id!r}: its entry {index} is encrypted; pass encryption_keys= to its store"
                ) from error
            if on_corrupt == "raise":
                raise MessageDecodeError(
                    f"session {session_id!r}, entry {index}: {error}; repair or clear the session, or read with "
                    'on_corrupt="skip"'
                ) from error
            corrupt.append(index)
    logger.warning("session %r: skipped entries that are not messages, at index %s", session_id, corrupt)
    return messages


@contextmanager
def collector_resting() -> Iterator[None]:
    """Let the garbage collector rest while many objects are made that are all in use.

    It goes through the young objects whenever there are some 700 more of them
    (https://docs.python.org/3/library/gc.html#gc.set_threshold), and so again and again through the messages of a large
    window, which takes as long as decoding them. It rests in the whole process, for some milliseconds at the most;
    where the program has turned it off, it stays off.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
