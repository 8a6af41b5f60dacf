"""What a cache does when the store fails it: it says so, once, and its caller gets what was computed."""

from __future__ import annotations

import logging
import threading

from langchain_memstore.errors import BackendError

logger = logging.getLogger(__name__)


class CacheFailures:
    """Logs the first failure of a cache since it last kept something.

    Args:
        what: What is not cached, for the log.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = threading.Lock()
        self._failed = False

    def note(self, error: BackendError) -> None:
        """Note that the store could not be asked, or does not keep something."""
        with self._lock:
            is_first, self._failed = not self._failed, True
        if is_first:
            logger.warning("%s cannot be cached for now: %s", self._what, error)

    def clear(self) -> None:
        """Note that the store has kept something."""
        self._failed = False
