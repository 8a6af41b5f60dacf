"""Values to bytes and back: JSON, without loss, and sealed where the store has encryption keys.

A sealed value reads `{"__memstore__":["sealed","<base64>"]}`, which stands for no value of another kind. It is bound to
its key in Redis, and to what it is. A counter is never sealed, for the server adds to it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from langchain_memstore.codec.tagged import MARK, pack, unpack
from langchain_memstore.errors import DecryptError, MessageEncodeError, ValueDecodeError, ValueEncodeError

if TYPE_CHECKING:
    from langchain_memstore.codec.encryption import KeyRing

_SEALED, _END = f'{{"{MARK}":["sealed","'.encode(), b'"]}'
VALUE = b"value"
"""What a value of a `KeyValueStore` is."""

_COUNTER = re.compile(rb"0|-?[1-9][0-9]*")


class ValueCodec:
    """Encodes the values of a store, and decodes them.

    Args:
        key_ring: The keys by which they are encrypted; None: they are not.
        accept_plaintext: Whether what is not encrypted is read where there are keys.
    """

    def __init__(self, key_ring: KeyRing | None = None, *, accept_plaintext: bool = False) -> None:
        self._key_ring = key_ring
        self._accept_plaintext = accept_plaintext

    def encode(self, value: Any, key: str, path: str, kind: bytes = VALUE) -> bytes:
        """Encode a value.

        Args:
            value: The value.
            key: Where in Redis it is to be.
            path: What to call it in an error.
            kind: What it is: nothing that is sealed opens as something else.

        Raises:
            ValueEncodeError: It cannot be stored and come back equal.
        """
        try:
            data = orjson.dumps(pack(value, path))
        except MessageEncodeError as error:
            raise ValueEncodeError(str(error)) from None
        except (TypeError, RecursionError):
            raise ValueEncodeError(f"{path} is nested too deeply to be stored") from None
        if self._key_ring is None:
            return data
        return _SEALED + self._key_ring.cipher("value", key).seal(data, kind) + _END

    def decode(self, data: bytes, key: str, path: str, kind: bytes = VALUE) -> Any:
        """Decode a value.

        Args:
            data: What `encode` made, or other JSON.
            key: Where in Redis it is.
            path: What to call it in an error.
            kind: What it is.

        Raises:
            DecryptError: It does not decrypt with the keys at hand.
            ValueDecodeError: It is no value.
        """
        try:
            unsealed = self._unseal(data, key, kind)
        except DecryptError as error:
            raise DecryptError(f"{path} {error}") from None
        try:
            return unpack(orjson.loads(unsealed))
        except Exception as error:  # a key may hold anything, and fail in any way
            raise ValueDecodeError(f"{path} is no JSON of this package; delete it or set it anew") from error

    def _unseal(self, data: bytes, key: str, kind: bytes) -> bytes:
        sealed = data.startswith(_SEALED) and data.endswith(_END)
        if self._key_ring is None:
            if sealed:
                raise DecryptError("is encrypted; pass encryption_keys= to its store")
            return data
        if sealed:
            return self._key_ring.cipher("value", key).unseal(data[len(_SEALED) : -len(_END)], kind)
        if self._accept_plaintext or (kind == VALUE and _COUNTER.fullmatch(data)):
            return data
        raise DecryptError(
            "is not encrypted; to read also what was stored before there were keys, pass accept_plaintext=True"
        )
