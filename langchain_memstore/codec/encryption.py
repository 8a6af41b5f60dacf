"""Encryption at rest: the keys of a store, and what they seal for one location.

A sealed value is AES-256-GCM (NIST SP 800-38D) under a key of its own location, which HKDF-Expand (RFC 5869) derives
from a key of the store and the names of the location: what is moved elsewhere does not open there. Random nonces of 96
bits are safe for 2**32 values of one location, which no conversation meets. AES-GCM-SIV would bear repeated nonces, but
takes three to ten times as long, and not every build of `cryptography` has it.
"""

from __future__ import annotations

import binascii
import contextlib
import hmac
import os
from collections.abc import Sequence

from typing_extensions import override

from langchain_memstore.errors import DecryptError, MissingPackage

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
except ImportError as missing:
    raise MissingPackage(
        'encryption_keys needs the cryptography package: pip install "langchain-memstore[encryption]"'
    ) from missing

KEY_BYTES = 32
NAME_BYTES = 6  # at the beginning of a sealed value, which tell its key: just eight characters of base64
NONCE_BYTES = 12
TAG_BYTES = 16


class KeyRing:
    """The keys of a store: the first seals, and all open. Its repr shows none of them.

    Args:
        keys: Each is 32 random bytes, or their base64 text, such as `Fernet.generate_key()` gives.

    Raises:
        ValueError: There is no key, or one that is malformed; the error tells which, and not what it is.
    """

    def __init__(self, keys: Sequence[bytes | str]) -> None:
        if isinstance(keys, (str, bytes)) or not isinstance(keys, Sequence):
            raise ValueError(f"encryption_keys must be a list of keys or None, not {type(keys).__name__}")
        if not keys:
            raise ValueError("encryption_keys must hold at least one key; for no encryption, pass None")
        checked = [_key_of(key, f"encryption_keys[{index}]") for index, key in enumerate(keys)]
        self._keys = {_derive(key, b"name")[:NAME_BYTES]: key for key in checked}

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}(keys={len(self._keys)})"

    @property
    def names(self) -> tuple[bytes, ...]:
        """What tells the keys from others, and nothing of them."""
        return tuple(self._keys)

    def cipher(self, *location: str) -> Cipher:
        """Return what seals and opens the values of one location.

        Args:
            location: The names that make up the location: a session's prefix and id.
        """
        names = [name.encode() for name in location]
        purpose = b"place" + b"".join(len(name).to_bytes(8, "big") + name for name in names)
        return Cipher({name: AESGCM(_derive(key, purpose)) for name, key in self._keys.items()})

    def fingerprint(self, text: str) -> str:
        """Return a name for a text, which tells nothing of it without the key: 128 bits of an HMAC-SHA256."""
        key = next(iter(self._keys.values()))
        return hmac.digest(_derive(key, b"fingerprint"), text.encode(), "sha256").hex()[:32]


class Cipher:
    """Seals and opens the values of one location; `KeyRing.cipher` makes it.

    Args:
        aeads: By the name of each key, AES-GCM with what is derived from it for this location; the first seals.
    """

    def __init__(self, aeads: dict[bytes, AESGCM]) -> None:
        self._aeads = aeads
        self._name, self._aead = next(iter(aeads.items()))

    def seal(self, value: bytes, kind: bytes) -> bytes:
        """Encrypt a value.

        Args:
            value: What to encrypt.
            kind: What it is, with all that is kept of it in clear: it opens as that alone.

        Returns:
            Base64: 6 bytes that tell the key, 12 of the nonce, the encrypted value and 16 bytes of its tag.
        """
        nonce = os.urandom(NONCE_BYTES)
        return binascii.b2a_base64(self._name + nonce + self._aead.encrypt(nonce, value, kind), newline=False)

    def unseal(self, sealed: bytes, kind: bytes) -> bytes:
        """Decrypt a value.

        Args:
            sealed: What `seal` returned.
            kind: What it was sealed as.

        Raises:
            DecryptError: None of the keys sealed it, or it was changed, or sealed elsewhere or as something else.
        """
        try:
            data = binascii.a2b_base64(sealed)
        except binascii.Error:
            data = b""
        if len(data) < NAME_BYTES + NONCE_BYTES + TAG_BYTES or len(sealed) != -(-len(data) // 3) * 4:  # it has junk
            raise DecryptError("was changed since it was encrypted")
        aead = self._aeads.get(data[:NAME_BYTES])
        if aead is None:
            raise DecryptError("was encrypted with a key that is not among encryption_keys; add that key to the list")
        nonce_end = NAME_BYTES + NONCE_BYTES
        try:
            return aead.decrypt(data[NAME_BYTES:nonce_end], data[nonce_end:], kind)
        except InvalidTag:
            raise DecryptError("was changed since it was encrypted, or moved here from elsewhere") from None


def _derive(key: bytes, purpose: bytes) -> bytes:
    return HKDFExpand(SHA256(), KEY_BYTES, b"langchain-memstore " + purpose).derive(key)


def _key_of(key: object, argument: str) -> bytes:
    """Return the bytes of a key; an error shows nothing of it."""
    raw = b""
    if isinstance(key, bytes) and len(key) == KEY_BYTES:
        raw = key
    elif isinstance(key, (bytes, str)):
        text = key.encode(errors="replace") if isinstance(key, str) else key
        text = text.strip().translate(_TO_STANDARD).rstrip(b"=")
        padded = text + b"=" * (-len(text) % 4)
        with contextlib.suppress(binascii.Error):
            raw = binascii.a2b_base64(padded)
        if binascii.b2a_base64(raw, newline=False) != padded:
            raw = b""
    if len(raw) != KEY_BYTES:
        raise ValueError(
            f"{argument} must be 32 bytes, or their url-safe base64 text, such as Fernet.generate_key() gives"
        )
    return raw


_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
