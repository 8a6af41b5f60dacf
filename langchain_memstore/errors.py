"""The errors of langchain-memstore.

    MemstoreError
    ├── MessageEncodeError (also a ValueError)    a message cannot be stored without loss
    ├── MessageDecodeError (also a ValueError)    a stored entry is not a message
    ├── ValueEncodeError (also a ValueError)      a value cannot be stored without loss
    ├── ValueDecodeError (also a ValueError)      a key holds what is not a value of this package
    ├── LockTaken (also a TimeoutError)           another has had the lock for as long as one would wait
    ├── LockLost                                  a lock's time ran out before it was given up
    ├── DecryptError                              what is stored does not decrypt with the keys at hand
    ├── MissingPackage (also an ImportError)      an option, or what is stored, needs a package that is not installed
    ├── SummaryError                              no summary was made; logged, never raised at a caller
    └── BackendError                              the store answered with an error
        ├── BackendUnavailable                    the store could not be reached, or cannot serve now
        ├── BackendFull                           the store takes no writes: out of memory, or its disk fails
        ├── BackendDenied                         the store refuses the login, a command, or TLS as it is configured
        └── BackendClosed                         the store was closed before the call

Arguments that no store could accept (an empty session id, a bound of zero, an unknown URL scheme) raise ValueError.
"""

from __future__ import annotations

from typing import Literal


class MemstoreError(Exception):
    """The root of every error that langchain-memstore raises of its own."""


class MessageEncodeError(MemstoreError, ValueError):
    """A message holds a value that cannot be stored and come back equal; nothing was written."""


class MessageDecodeError(MemstoreError, ValueError):
    """A stored entry cannot be read back as a message."""


class ValueEncodeError(MemstoreError, ValueError):
    """A value cannot be stored and come back equal; nothing was written."""


class ValueDecodeError(MemstoreError, ValueError):
    """What a key holds cannot be read back as a value."""


class LockTaken(MemstoreError, TimeoutError):
    """Another has had the lock for as long as the caller would wait."""


class LockLost(MemstoreError):
    """The time of a lock ran out before it was given up: another may have had it meanwhile."""


class DecryptError(MemstoreError):
    """What is stored does not decrypt: its key is missing, it was changed or moved, or it is not encrypted at all."""


class MissingPackage(MemstoreError, ImportError):
    """An option, or what is stored, needs a package that is not installed; the error names the extra that brings it."""


class SummaryError(MemstoreError):
    """No summary was made: its text is empty, or its claim void. It is logged, and never raised at a caller."""


class BackendError(MemstoreError):
    """The store refused an operation; the session is as it was."""

    scope: Literal["operation", "node"] = "operation"
    """Whether the error concerns the operation alone, or all operations on the node of the store."""
    node: tuple[str, int] | None = None
    """The host and port of the node of a Cluster that the error concerns; None: the store has one node, or all do."""


class BackendUnavailable(BackendError):
    """The store could not be reached, or cannot serve requests for now."""

    scope: Literal["operation", "node"] = "node"


class BackendFull(BackendError):
    """The store takes no more writes: it is out of memory, or cannot persist them; the session is as it was."""

    scope: Literal["operation", "node"] = "node"


class BackendDenied(BackendError):
    """The store refuses the login, does not have, or does not let the user call, a command that is needed, or cannot be
    reached with TLS as it is configured.
    """


class BackendClosed(BackendError):
    """The store was closed before the call."""
