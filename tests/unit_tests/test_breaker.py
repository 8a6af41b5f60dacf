"""When to try again: later and later, up to a second, and not all processes at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_memstore.backends.outage.breaker import FIRST_PAUSE, LONGEST_PAUSE, CircuitBreaker, pause_after
from support.clock import Clock


@given(st.integers(1, 10**9), st.floats(0, 1))
def test_pauses_are_bounded(failures: int, chance: float) -> None:
    assert FIRST_PAUSE / 2 <= pause_after(failures, chance) <= LONGEST_PAUSE
    assert pause_after(failures, chance) <= pause_after(failures + 1, chance)
    assert pause_after(failures, 1) == pause_after(failures, 0) / 2


def test_each_failure_doubles_the_pause_and_a_success_ends_it() -> None:
    clock = Clock()
    clock.now = 100.0
    breaker = CircuitBreaker(clock, chance=lambda: 0)
    assert breaker.remaining() == 0
    for pause in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        breaker.open()
        assert breaker.remaining() == pytest.approx(pause)
        clock.now += pause / 2
        assert breaker.remaining() == pytest.approx(pause / 2)
        clock.now += pause
        assert breaker.remaining() == 0
    breaker.close()
    breaker.open()
    assert breaker.remaining() == pytest.approx(0.1)
