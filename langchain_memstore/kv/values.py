"""Values to bytes and back: JSON, without loss."""

from __future__ import annotations

from typing import Any

import orjson

from langchain_memstore.errors import MessageEncodeError, ValueDecodeError, ValueEncodeError
from langchain_memstore.tagged import pack, unpack


def encode(value: Any, path: str) -> bytes:
    """Encode a value as JSON; what JSON loses or refuses is marked (see `tagged.py`).

    Args:
        value: The value.
        path: What to call it in an error.

    Raises:
        ValueEncodeError: It cannot be stored and come back equal.
    """
    try:
        return orjson.dumps(pack(value, path))
    except MessageEncodeError as error:
        raise ValueEncodeError(str(error)) from None
    except (TypeError, RecursionError):
        raise ValueEncodeError(f"{path} is nested too deeply to be stored") from None


def decode(data: bytes, path: str) -> Any:
    """Decode a value.

    Args:
        data: What `encode` made, or other JSON.
        path: What to call it in an error.

    Raises:
        ValueDecodeError: It is not such a value.
    """
    try:
        return unpack(orjson.loads(data))
    except Exception as error:  # a key may hold anything, and fail in any way
        raise ValueDecodeError(f"{path} is no JSON of this package; delete it or set it anew") from error
