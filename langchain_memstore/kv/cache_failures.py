"""What a cache does when the store fails it: it says so, once, and its caller gets what was computed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from langchain_memstore.errors import BackendError, BackendUnavailable

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

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Go on where the store cannot be reached: nothing is found. One that refuses raises."""
        try:
            yield
        except BackendUnavailable as error:
            self._note(error)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Go on where the store does not keep something."""
        try:
            yield
        except BackendError as error:
            self._note(error)
        else:
            self._failed = False

    def _note(self, error: BackendError) -> None:
        with self._lock:
            is_first, self._failed = not self._failed, True
        if is_first:
            logger.warning("%s cannot be cached for now: %s", self._what, error)
