"""How many connections of a pool threads may use at once, and the line of those who wait for one."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue

from langchain_memstore.backends.redis.limits import busy, ended

LOOKS = 0.05  # seconds between two looks of those who wait: an interrupt may have struck whoever was to wake them


class Slot:
    """The right to use one connection, for as long as somebody holds it."""

    __slots__ = ("__weakref__",)


class _Turn:
    """A place in the line, for as long as somebody waits there."""

    __slots__ = ("__weakref__", "wake")

    def __init__(self) -> None:
        self.wake = threading.Lock()
        self.wake.acquire()


class Slots:
    """Counts the slots that somebody holds: one is free again when nobody holds it any more, however that has come.

    Those who wait are served in the order in which they came: else whoever gives a slot back takes it again before
    another has woken up, and some never get one. Nobody holds a lock, which an interrupt could leave locked.

    Args:
        most: The most slots.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.outages = 0
        """How often waits were ended."""
        self._held: dict[int, tuple[object, object]] = {}
        self._freed: SimpleQueue[object] = SimpleQueue()
        """Wakes the first of the line."""
        self._line: deque[weakref.ref[_Turn]] = deque()

    def __len__(self) -> int:
        return len(self._held)

    def acquire(self, until: float) -> Slot:
        """Return a slot; wait for it where none is free.

        Args:
            until: When to give up, by the monotonic clock.

        Raises:
            WaitEnded: None was free in time, or waits were ended.
        """
        if not self._line and (slot := self._take()) is not None:
            return slot
        outages, turn = self.outages, _Turn()
        place = weakref.ref(turn)
        self._line.append(place)
        try:
            while True:
                is_first = self._first() is place
                if is_first and (slot := self._take()) is not None:
                    return slot
                if self.outages != outages:
                    raise ended()
                if (remaining := until - time.monotonic()) <= 0:
                    raise busy(self.most)
                if is_first:
                    with suppress(Empty):
                        self._freed.get(timeout=min(remaining, LOOKS))
                else:
                    turn.wake.acquire(timeout=min(remaining, LOOKS))
        finally:
            with suppress(ValueError):
                self._line.remove(place)
            self._wake_first()

    def end_waits(self) -> None:
        """Have those raise who wait; from any thread."""
        self.outages += 1

    def _take(self) -> Slot | None:
        slot, held = Slot(), self._held
        for number in range(self.most):
            if number not in held:
                # What is called when the slot is gone is no Python, in which an interrupt could strike.
                mine = weakref.ref(slot, partial(held.pop, number)), weakref.ref(slot, self._freed.put)
                if held.setdefault(number, mine) is mine:
                    with suppress(Empty):
                        self._freed.get_nowait()
                    return slot
        return None

    def _first(self) -> weakref.ref[_Turn] | None:
        """Return the first place at which somebody waits still."""
        while True:
            try:
                place = self._line[0]
            except IndexError:
                return None
            if place() is not None:
                return place
            with suppress(ValueError):
                self._line.remove(place)

    def _wake_first(self) -> None:
        if (place := self._first()) is not None and (turn := place()) is not None:
            with suppress(RuntimeError):  # it is awake
                turn.wake.release()
