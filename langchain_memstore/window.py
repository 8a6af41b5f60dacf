"""Which part of a conversation a window may show: pure functions, apart from any store.

A window is legal when it is not headed by a tool result, for the call that asked for it has gone then, and model
providers refuse such a prompt. Nor may it be headed by an entry that belongs to the one before it. `lua/append.lua`
applies the same rule inside Redis.
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
        whole_turns: Whether a window that was cut starts with an entry that starts a turn, where there is one.
        max_evicted: The most entries to keep of those that leave the window, until a summary covers them; None: keep
            none.
        joined: How two entries begin, one after the other, of which the second never heads a window.
    """

    max_messages: int | None
    max_turns: int | None
    results: tuple[bytes, ...]
    turn_starts: tuple[bytes, ...]
    whole_turns: bool = False
    max_evicted: int | None = None
    joined: tuple[tuple[bytes, bytes], ...] = ()

    def is_bound(self, entries: Sequence[bytes], index: int) -> bool:
        """Tell whether an entry may not be kept without the one before it."""
        entry, before = entries[index], entries[index - 1] if index else b""
        return entry.startswith(self.results) or any(
            before.startswith(first) and entry.startswith(second) for first, second in self.joined
        )


def legal_start(
    length: int, start: int, is_result: Callable[[int], bool], starts_turn: Callable[[int], bool] | None = None
) -> int:
    """Move the start of a window to where no tool result heads it.

    Results at the head go with their call; where that would leave nothing (one call group larger than the window, or
    still under way), the window starts at the call instead. Where there is no call either, it is cut at the bound.

    Args:
        length: How many messages there are.
        start: The index where the window would start by its bound alone.
        is_result: Tells whether the message at an index is a tool result.
        starts_turn: Tells whether the message at an index starts a turn; the window then starts with such a message,
            where there is one.

    Returns:
        The index of the window's first message; 0 where nothing is to be cut.
    """
    if start <= 0:
        return 0
    if starts_turn is not None:
        for index in range(start, length):
            if starts_turn(index):
                return index
    forward = start
    while forward < length and is_result(forward):
        forward += 1
    if forward < length:
        return forward
    back = start
    while back > 0 and is_result(back):
        back -= 1
    return start if is_result(back) else back


def turns_start(length: int, max_turns: int, starts_turn: Callable[[int], bool]) -> int:
    """Find where the last turns start.

    Args:
        length: How many messages there are.
        max_turns: How many turns to keep.
        starts_turn: Tells whether the message at an index starts a turn.

    Returns:
        The index of the first message of the oldest turn to keep; 0 where there are fewer turns than that.
    """
    remaining = max_turns
    for index in range(length - 1, -1, -1):
        if starts_turn(index):
            remaining -= 1
            if remaining == 0:
                return index
    return 0


def bounded_start(entries: Sequence[bytes], bounds: Bounds, new_turn: bool = True) -> int:
    """Find where the window of a session starts.

    Args:
        entries: The session's entries, oldest first.
        bounds: How much to keep.
        new_turn: Whether one of them has started a turn since the window was last bounded: else its turns are not too
            many, and need not be looked for.

    Returns:
        The index of the first entry to keep.
    """
    length, start = len(entries), 0

    def is_bound(index: int) -> bool:
        return bounds.is_bound(entries, index)

    def starts_turn(index: int) -> bool:
        return entries[index].startswith(bounds.turn_starts)

    if bounds.max_turns is not None and new_turn:
        start = turns_start(length, bounds.max_turns, starts_turn)
    if bounds.max_messages is not None:
        start = max(start, length - bounds.max_messages)
    return legal_start(length, start, is_bound, starts_turn if bounds.whole_turns else None)


def fit_tokens(
    messages: list[T],
    budget: int,
    count: Callable[[Sequence[T]], int],
    is_result: Callable[[T], bool],
    starts_turn: Callable[[T], bool],
    whole_turns: bool,
) -> tuple[list[T], bool]:
    """Find the longest legal window that fits a budget of tokens.

    The message that starts the last turn is kept where it fits, if need be without the middle of that turn.

    Args:
        messages: The messages, oldest first.
        budget: The most tokens that the window may count.
        count: Counts the tokens of a run of messages; a longer run never counts less.
        is_result: Tells whether a message is a tool result.
        starts_turn: Tells whether a message starts a turn.
        whole_turns: Whether the window is to start a turn.

    Returns:
        The window, and whether it fits. Where not even the last message with its tool results fits, that is the
        window: it is never empty.
    """
    if count(messages) <= budget:
        return messages, True
    starts = [i for i, message in enumerate(messages) if not is_result(message)] or [0]
    turns = [i for i, message in enumerate(messages) if starts_turn(message)]

    def longest(candidates: list[int], first: list[T]) -> list[T] | None:
        """Return the longest fitting run that starts at one of the candidates, which ascend, after some first ones."""
        low, high = 0, len(candidates)
        while low < high:
            middle = (low + high) // 2
            if count([*first, *messages[candidates[middle] :]]) <= budget:
                high = middle
            else:
                low = middle + 1
        return [*first, *messages[candidates[low] :]] if low < len(candidates) else None

    last_turn = turns[-1] if turns else len(messages)
    window = longest(turns if whole_turns and turns else [i for i in starts if i <= last_turn], [])
    within = [i for i in starts if i > last_turn]
    if window is None and within:
        window = longest(within, [messages[last_turn]]) or longest(within, [])
    return (messages[starts[-1] :], False) if window is None else (window, True)
