"""Which part of a conversation a window may show: pure functions, apart from any store.

A window is legal when it is not headed by a tool result, for the call that asked for it has gone then, and model
providers refuse such a prompt. `lua/append.lua` applies the same rule inside Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Bounds:
    """How much of a session its store keeps.

    Args:
        max_messages: The most entries to keep; None: no bound.
        max_turns: The most turns to keep, each from an entry that starts a turn up to the next; None: no bound.
        results: How entries begin that never head a window, as none is kept without the entry before it.
        turn_starts: How entries begin that start a turn.
    """

    max_messages: int | None
    max_turns: int | None
    results: tuple[bytes, ...]
    turn_starts: tuple[bytes, ...]


def legal_start(length: int, start: int, is_result: Callable[[int], bool]) -> int:
    """Move the start of a window to where no tool result heads it.

    Results at the head go with their call; where that would leave nothing (one call group larger than the window, or
    still under way), the window starts at the call instead.

    Args:
        length: How many messages there are.
        start: The index where the window would start by its bound alone.
        is_result: Tells whether the message at an index is a tool result.

    Returns:
        The index of the window's first message; 0 where nothing is to be cut.
    """
    if start <= 0:
        return 0
    forward = start
    while forward < length and is_result(forward):
        forward += 1
    if forward < length:
        return forward
    while start > 0 and is_result(start):
        start -= 1
    return start


def turns_start(length: int, max_turns: int, starts_turn: Callable[[int], bool]) -> int:
    """Find where the last turns start.

    Args:
        length: How many messages there are.
        max_turns: How many turns to keep.
        starts_turn: Tells whether the message at an index starts a turn.

    Returns:
        The index of the first message of the oldest turn to keep; 0 where there are fewer turns than that.
    """
    left = max_turns
    for index in range(length - 1, -1, -1):
        if starts_turn(index):
            left -= 1
            if left == 0:
                return index
    return 0


def bounded_start(entries: Sequence[bytes], bounds: Bounds) -> int:
    """Find where the window of a session starts.

    Args:
        entries: The session's entries, oldest first.
        bounds: How much to keep.

    Returns:
        The index of the first entry to keep.
    """
    length, start = len(entries), 0
    if bounds.max_turns is not None:
        start = turns_start(length, bounds.max_turns, lambda i: entries[i].startswith(bounds.turn_starts))
    if bounds.max_messages is not None:
        start = max(start, length - bounds.max_messages)
    return legal_start(length, start, lambda i: entries[i].startswith(bounds.results))


def fit_tokens(
    messages: Sequence[T], budget: int, count: Callable[[Sequence[T]], int], is_result: Callable[[T], bool]
) -> tuple[int, bool]:
    """Find the longest legal window that fits a budget of tokens.

    Args:
        messages: The messages, oldest first.
        budget: The most tokens that the window may count.
        count: Counts the tokens of a run of messages; a longer run never counts less.
        is_result: Tells whether a message is a tool result.

    Returns:
        The index of the window's first message, and whether the window fits. Where not even the last legal window
        fits, the index is that one's: a prompt is never empty.
    """
    if count(messages) <= budget:
        return 0, True
    starts = [i for i, message in enumerate(messages) if i > 0 and not is_result(message)]
    low, high = 0, len(starts)  # the starts before `low` are known not to fit, those from `high` on to fit
    while low < high:
        middle = (low + high) // 2
        if count(messages[starts[middle] :]) <= budget:
            high = middle
        else:
            low = middle + 1
    if low < len(starts):
        return starts[low], True
    return (starts[-1] if starts else 0), False
