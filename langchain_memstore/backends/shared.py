"""What a process shares: connections, for as long as somebody uses them."""

from __future__ import annotations

import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

S = TypeVar("S", bound="Shared")

_shared: dict[Hashable, Shared] = {}
_lock = threading.Lock()


class Shared(ABC):
    """Something that counts its users; the last of them has to close it.

    Args:
        key: By which the process shares it; None: it is not shared.
    """

    def __init__(self, key: Hashable = None) -> None:
        self._key = key
        self._users: weakref.WeakSet[object] = weakref.WeakSet()

    @property
    def home(self) -> Shared:
        """What stands for the server in this process, the same for all who reach it through the same connections."""
        return self

    def retain(self, user: object) -> None:
        """Count a user, until it lets go or is no more.

        When the last user is no more, without having let go, the connections stay for the next.
        """
        with _lock:
            self._users.add(user)
            if self._key is not None:
                _shared.setdefault(self._key, self)

    def release(self, user: object) -> bool:
        """Let go of the connections; tells whether this was their last user, who has to close them."""
        with _lock:
            self._users.discard(user)
            if self._users:
                return False
            if self._key is not None and _shared.get(self._key) is self:
                del _shared[self._key]
            return True

    @abstractmethod
    def close(self) -> None:
        """Close the connections of threads, and leave those of event loops to their loops."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections of threads and the running event loop's."""


def find_shared(key: Hashable, make: Callable[[], S]) -> S:
    """Return what the process shares by a key, made when it is first asked for."""
    with _lock:
        if key not in _shared:
            _shared[key] = make()
        return cast(S, _shared[key])
