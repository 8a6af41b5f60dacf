"""What the messages and the summary of one session are in its store: encoded, then compressed where they are long and
that is wanted (see `compression.py`), then sealed where there are keys.

A sealed entry reads `{"type":"human","sealed":"<base64>"}`, a sealed summary `{"type":"summary","sealed":"<base64>"}`.
The type stays in clear, for windows and turns go by it, and is authenticated with the rest. A summary, of which there
is one, is never compressed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from langchain_core.messages import BaseMessage

from langchain_memstore import codec
from langchain_memstore.codec import SEALED, is_sealed
from langchain_memstore.collector import MANY, collector_resting
from langchain_memstore.compression import compress, expanded
from langchain_memstore.errors import DecryptError, MessageDecodeError, MissingPackage
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.reading import Window
from langchain_memstore.recalled import decode_window

if TYPE_CHECKING:
    from langchain_memstore.encryption import Cipher
    from langchain_memstore.ops.moving import SessionState
    from langchain_memstore.options import Policy

_ENTRY, _SUMMARY = b"entry", b"summary"  # what is sealed as one does not open as the other
_SUMMARY_TYPE = b'{"type":"summary"'
_END = b'"}'


class SessionCodec:
    """Encodes what goes into a session, and decodes what comes out.

    Args:
        keys: The session.
        policy: With which keys it is encrypted, what is compressed, and what becomes of entries that are not messages.
    """

    def __init__(self, keys: SessionKeys, policy: Policy) -> None:
        self._keys = keys
        self._policy = policy
        self._key_ring = policy.key_ring

    def encode(self, messages: Sequence[BaseMessage]) -> tuple[bytes, ...]:
        """Encode messages as entries; see `codec.encode`."""
        return self.close(codec.encode(messages))

    def close(self, entries: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Return entries as they are stored: compressed and sealed, where that is wanted."""
        entries = compress(entries, self._policy.compress_above)
        if self._key_ring is None:
            return entries
        return tuple([self._seal(entry, _ENTRY, entry[: entry.index(b",")]) for entry in entries])

    def open(self, entries: Sequence[bytes]) -> Sequence[bytes]:
        """Return entries as they were before they were sealed; they may be compressed.

        Raises:
            DecryptError: One cannot be decrypted.
        """
        if self._key_ring is not None:
            return self._open_entries(entries)
        if any(map(is_sealed, entries)):
            raise DecryptError(self._its("entries are encrypted; pass encryption_keys= to its store"))
        return entries

    def open_state(self, state: SessionState) -> SessionState:
        """Return all of a session as it is without encryption and compression.

        Raises:
            DecryptError: Something cannot be decrypted.
            MissingPackage: Something is compressed, and there is nothing to expand it.
        """
        messages, evicted = map(self._open_all, (state.messages, state.evicted))
        return replace(state, messages=messages, evicted=evicted, summary=self.decode_summary(state.summary))

    def seal_state(self, state: SessionState) -> SessionState:
        """Return all of a session, whose entries are messages, as it is stored."""
        messages, evicted = map(self._close_all, (state.messages, state.evicted))
        return replace(state, messages=messages, evicted=evicted, summary=self.encode_summary(state.summary))

    def decode(self, entries: list[bytes], on_corrupt: Literal["skip", "raise"] | None = None) -> list[BaseMessage]:
        """Decode entries.

        Args:
            entries: What `encode` made.
            on_corrupt: What becomes of entries that are not messages; None: as the policy says.

        Raises:
            DecryptError: An entry cannot be decrypted; such a one is never skipped.
            MissingPackage: An entry is compressed, and there is nothing to expand it; nor is such a one.
            MessageDecodeError: An entry is not a message, where that is to be raised.
        """
        on_corrupt = on_corrupt or self._policy.on_corrupt
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
                return self._open(stored.encode(), _SUMMARY).decode()
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
            entries = self._open_entries(entries)
        try:
            if isinstance(entries, Window):
                with suppress(MessageDecodeError):  # below it is found out which
                    return decode_window(entries)
            return codec.decode_entries(entries, self._keys.session_id, on_corrupt)
        except MissingPackage as error:
            raise MissingPackage(self._its(error)) from error

    def _seal(self, value: bytes, kind: bytes, clear: bytes) -> bytes:
        return clear + SEALED + self._cipher.seal(value, kind + clear) + _END

    def _open_all(self, entries: tuple[bytes, ...]) -> tuple[bytes, ...]:
        try:
            return expanded(self.open(entries))
        except MissingPackage as error:
            raise MissingPackage(self._its(error)) from error

    def _close_all(self, entries: tuple[bytes, ...]) -> tuple[bytes, ...]:
        if self._key_ring is None:
            return compress(entries, self._policy.compress_above)
        return self.encode([*map(codec.decode, entries)])

    def _open_entries(self, entries: Iterable[bytes]) -> list[bytes]:
        opened: list[bytes] = []
        try:
            for entry in entries:
                opened.append(self._open(entry, _ENTRY))
        except DecryptError as error:
            raise DecryptError(self._its(f"entry {len(opened)} {error}")) from None
        return opened

    def _open(self, value: bytes, kind: bytes) -> bytes:
        if is_sealed(value):
            clear, _, sealed = value.partition(SEALED)
            return self._cipher.open(sealed[:-2] if sealed.endswith(_END) else b"", kind + clear)
        if self._policy.accept_plaintext:
            return value
        raise DecryptError(
            "is not encrypted; to read also what was stored before there were keys, pass accept_plaintext=True"
        )

    def _its(self, what: object) -> str:
        return f"session {self._keys.session_id!r} (prefix {self._keys.prefix!r}): its {what}"
