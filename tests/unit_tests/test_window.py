"""The pure rules of windows, against the plainest way to say them.

Conversations are written as letters: h a human message, a an AI message, r a result.
"""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from langchain_memstore.window import Bounds, bounded_start, fit_tokens, legal_start, turns_start

conversations = st.text("har", max_size=12)
bounds = st.one_of(st.none(), st.integers(1, 8))


def is_result(kind: str) -> bool:
    return kind == "r"


def entries(conversation: str) -> list[bytes]:
    return [{"h": b"human %d", "a": b"ai %d", "r": b"tool %d"}[kind] % i for i, kind in enumerate(conversation)]


def kept(conversation: str, max_messages: int | None = None, max_turns: int | None = None) -> str:
    start = bounded_start(entries(conversation), Bounds(max_messages, max_turns, (b"tool", b"function"), (b"human",)))
    return conversation[start:]


@given(conversations, st.integers(-2, 12))
def test_a_cut_moves_to_the_next_message_that_is_no_result_or_else_back_to_the_last(said: str, cut: int) -> None:
    assume(cut < max(len(said), 1))
    legal = [i for i, kind in enumerate(said) if kind != "r"]
    if cut <= 0:
        expected = 0
    elif legal and legal[-1] >= cut:
        expected = min(i for i in legal if i >= cut)
    else:
        expected = legal[-1] if legal else cut
    assert legal_start(len(said), cut, lambda i: said[i] == "r") == expected


@given(conversations, st.integers(1, 5))
def test_the_last_turns_start_at_a_human_message(said: str, most: int) -> None:
    humans = [i for i, kind in enumerate(said) if kind == "h"]
    start = turns_start(len(said), most, lambda i: said[i] == "h")
    assert start == (humans[-most] if len(humans) >= most else 0)


@given(conversations, bounds, bounds)
def test_a_window_is_legal_and_within_its_bounds(said: str, max_messages: int | None, max_turns: int | None) -> None:
    window = kept(said, max_messages, max_turns)
    assert said.endswith(window)
    assert bool(window) == bool(said)
    if window != said and set(said) != {"r"}:
        assert not window.startswith("r")
    if max_turns is not None:
        assert window.count("h") <= max_turns
    if max_messages is not None and len(window) > max_messages:  # a single call group that is larger than the bound
        assert set(window[1:]) <= {"r"}


@given(conversations, bounds, bounds)
def test_no_more_is_cut_than_the_rules_ask_for(said: str, max_messages: int | None, max_turns: int | None) -> None:
    """Every longer legal window would break a bound."""
    window = kept(said, max_messages, max_turns)
    for longer in (said[start:] for start in range(len(said) - len(window))):
        turns = longer.count("h") + (not longer.startswith("h"))  # what comes before the first turn counts as one
        assert (
            (longer != said and longer.startswith("r") and set(said) != {"r"})
            or (max_messages is not None and len(longer) > max_messages)
            or (max_turns is not None and turns > max_turns)
        )


JOINED = ((b"ai", b"ai"), (b"ai", b"tool"), (b"human", b"ai"))


@given(conversations, bounds, bounds, st.sets(st.sampled_from(JOINED)))
def test_a_window_is_not_headed_by_what_is_joined_to_the_entry_before(
    said: str, max_messages: int | None, max_turns: int | None, joined: set[tuple[bytes, bytes]]
) -> None:
    """It starts at the first entry within its bounds that may head it, or else at the last one that may before."""
    given = entries(said)
    rules = Bounds(max_messages, max_turns, (b"tool", b"function"), (b"human",), joined=tuple(joined))
    heads = [0] + [
        i
        for i in range(1, len(given))
        if said[i] != "r" and not any(given[i - 1].startswith(a) and given[i].startswith(b) for a, b in joined)
    ]
    start = max(
        len(said) - (max_messages or len(said)),
        turns_start(len(said), max_turns, lambda i: said[i] == "h") if max_turns else 0,
    )
    before = start if max(heads) == 0 and said.startswith("r") else max(heads)
    assert bounded_start(given, rules) == min((i for i in heads if i >= start), default=before)


@given(conversations, bounds, bounds)
def test_a_window_is_cut_once(said: str, max_messages: int | None, max_turns: int | None) -> None:
    window = kept(said, max_messages, max_turns)
    assert kept(window, max_messages, max_turns) == window


def test_examples() -> None:
    assert kept("harra", 3) == "a"
    assert kept("harrr", 2) == "arrr"
    assert kept("haharah", 5, 2) == "harah"
    assert kept("rra", 3) == "rra"
    assert kept("rrr", 1) == "r"
    assert kept("hrrr", 1) == "hrrr"
    assert kept("ahaha", None, 2) == "haha"
    assert kept("ahaha", None, 3) == "ahaha"
    assert kept("haharara", 4, 1) == "rara"[1:]
    assert kept("") == kept("", 1, 1) == ""


def test_counting_takes_logarithmic_time() -> None:
    counted = []

    def count(part: object) -> int:
        counted.append(part)
        return len(part)  # type: ignore[arg-type]

    said = [*"ha" * 5_000]
    assert fit_tokens(said, 7, count, is_result, lambda kind: kind == "h", False) == (said[-7:], True)
    assert len(counted) < 20
