"""The values of a process that stands in for a store: it knows some of them only."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import ClassVar, cast

from typing_extensions import override

from langchain_memstore.errors import BackendUnavailable
from langchain_memstore.ops.state import MOST_VALUES, LocalState, Value, Values


class UnknownValue(BackendUnavailable):
    """The store cannot be reached, and the process that stands in for it does not know a value."""


class StandInValues(Values):
    """What is known of the values of a store: those that were set in an outage, and which were deleted or have expired.

    All others are unknown, which is not the same as absent. Those are unknown again, too, that go because there are too
    many.

    Args:
        most: The most values, and the most keys without one, to know.
    """

    is_complete: ClassVar[bool] = False

    def __init__(self, most: int = MOST_VALUES) -> None:
        super().__init__(most)
        self._absent: OrderedDict[str, bool] = OrderedDict()
        """Keys without a value, and whether the store is known to have none either."""

    @override
    def knows(self, key: str) -> bool:
        value = self._things.get(key)
        return self._absent.get(key, False) if value is None else not value.is_partial

    @override
    def keep(self, key: str, thing: Value) -> None:
        self._absent.pop(key, None)
        super().keep(key, thing)

    @override
    def drop(self, key: str) -> bool:
        self._note_absent(key, True)
        return super().drop(key)

    @override
    def forget(self, keys: Iterable[Hashable]) -> None:
        forgotten = tuple(keys)
        super().forget(forgotten)
        for key in forgotten:
            self._absent.pop(cast("str", key), None)

    @override
    def ttl_of(self, key: str, ttl: int | None, waited_ms: int, now: int) -> int | None:
        value = self._things.get(key)
        if key in self._absent or (value is not None and value.born > now - waited_ms):
            return 0  # it was deleted, or has expired
        return super().ttl_of(key, ttl, waited_ms, now)

    @override
    def _expire(self, key: str) -> None:
        self._note_absent(key, not self._things[key].is_partial)
        super()._expire(key)

    def _note_absent(self, key: str, is_known: bool) -> None:
        self._absent[key] = is_known
        self._absent.move_to_end(key)
        if self._most is not None and len(self._absent) > self._most:
            self._absent.popitem(last=False)


def find_known(state: LocalState, key: str) -> Value | None:
    """Return a value; None where there is none.

    Raises:
        UnknownValue: The process does not know whether there is one.
    """
    if not state.values.knows(key):
        raise UnknownValue(
            f"key {key!r}: the store cannot be reached, and this process does not know the value; with "
            'on_outage="local" it counts as absent'
        )
    return state.values.find(key)
