"""Options: what makes no sense is refused when a store or a history is made, by the argument's name."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_memstore import LocalChatMessageHistory, Memstore, RedisChatMessageHistory
from langchain_memstore.options import (
    ConnectionOptions,
    HistoryOptions,
    LayerOptions,
    LayerPolicy,
    Options,
    Policy,
    check_count,
    check_seconds,
    split_options,
)

NOT_COUNTS = [0, -1, True, False, 1.0, 2.5, "5", [1], float("nan"), float("inf")]
NOT_SECONDS = [0, -1, -0.5, True, "60", [1], 10**12, float("nan"), float("inf"), timedelta(0), -timedelta(1)]
NOT_SECONDS += [timedelta.max, 10**400]
NOT_NAMES = ["", None, 5, b"bytes", "\ud800"]

WRONG = [
    *[(name, value) for name in ("max_messages", "max_turns", "max_tokens", "compress_above") for value in NOT_COUNTS],
    *[("ttl", value) for value in NOT_SECONDS],
    *[("key_prefix", value) for value in NOT_NAMES],
    *[("token_counter", value) for value in (5, "len")],
    *[("refresh_ttl_on_read", value) for value in (None, "yes", 2)],
    *[("summary_role", value) for value in ("ai", "", True, ["system"])],
    *[("on_corrupt", value) for value in ("ignore", None, True)],
    *[("accept_plaintext", value) for value in (None, "yes", 2)],
]
WRONG_CONNECTION = [
    *[("max_connections", value) for value in (*NOT_COUNTS, None)],
    *[(name, value) for name in ("socket_timeout", "socket_connect_timeout") for value in NOT_SECONDS],
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=repr)
@pytest.mark.parametrize(
    "make",
    [
        Policy,
        lambda **options: Policy().with_options(**options),
        lambda **options: Memstore.from_url("memory://", **options),
        lambda **options: Memstore.from_url("redis://localhost:1", **options),
        lambda **options: Memstore.from_url("memory://").history("s", **options),
        lambda **options: LocalChatMessageHistory("s", **options),
        lambda **options: RedisChatMessageHistory("s", "redis://localhost:1", **options),
    ],
    ids=["policy", "changed", "local store", "Redis store", "history", "local history", "Redis history"],
)
def test_a_wrong_option_is_refused_by_name(make: Any, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be "):
        make(**{name: value})


@pytest.mark.parametrize(("name", "value"), WRONG_CONNECTION, ids=repr)
@pytest.mark.parametrize(
    "make",
    [
        lambda **options: Memstore.from_url("redis://localhost:1", **options),
        lambda **options: RedisChatMessageHistory("s", "redis://localhost:1", **options),
    ],
    ids=["store", "history"],
)
def test_a_wrong_connection_option_is_refused_by_name(make: Any, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be "):
        make(**{name: value})


def test_an_option_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="max_mesages"):
        Memstore.from_url("memory://", max_mesages=5)  # type: ignore[call-arg]


def test_the_defaults_are_the_contract() -> None:
    policy = Policy()
    assert (policy.key_prefix, policy.max_messages, policy.max_turns, policy.max_tokens) == (
        "conversation",
        50,
        None,
        None,
    )
    assert (policy.ttl, policy.ttl_ms, policy.refresh_ttl_on_read) == (86_400, 86_400_000, True)
    assert (policy.summary_role, policy.on_corrupt, policy.token_counter) == ("system", "skip", None)


@pytest.mark.parametrize(
    ("ttl", "milliseconds"),
    [
        (None, None),
        (1, 1000),
        (0.25, 250),
        (timedelta(days=2, microseconds=500), 172_800_000),
        (0.000_001, 1),
        (timedelta(microseconds=1), 1),
        (10**12 - 1, (10**12 - 1) * 1000),
    ],
    ids=repr,
)
def test_a_ttl_is_seconds_or_a_timedelta(ttl: Any, milliseconds: int | None) -> None:
    assert Policy(ttl=ttl).ttl_ms == milliseconds


@given(st.floats(min_value=0, exclude_min=True, max_value=1e11))
def test_a_ttl_is_never_nothing(ttl: float) -> None:
    milliseconds = Policy(ttl=ttl).ttl_ms
    assert isinstance(milliseconds, int) and milliseconds >= 1
    assert abs(milliseconds - ttl * 1000) <= max(1, ttl * 1e-9)


@pytest.mark.parametrize("value", [1, 2, sys.maxsize, 10**30])
def test_counts(value: int) -> None:
    check_count("count", value)
    with pytest.raises(ValueError, match=r"^count must be at least 1, not None$"):
        check_count("count", None)
    check_count("count", None, optional=True)


def test_seconds_may_be_left_out() -> None:
    check_seconds("seconds", None)
    check_seconds("seconds", 0.001)


def test_changed_options_leave_the_others_and_the_policy_alone() -> None:
    policy = Policy(max_turns=3, key_prefix="p")
    assert policy.with_options(max_turns=None, ttl=None) == Policy(max_turns=None, key_prefix="p", ttl=None)
    assert policy.with_options() == policy == Policy(max_turns=3, key_prefix="p")


def test_options_are_parted() -> None:
    history, connection, fallback = split_options(
        {"ttl": 5, "max_connections": 2, "socket_timeout": None, "key_prefix": "p", "fallback": False}
    )
    assert history == {"ttl": 5, "key_prefix": "p"}
    assert connection == {"max_connections": 2, "socket_timeout": None}
    assert fallback == {"fallback": False}


def test_a_policy_holds_every_option_of_a_history() -> None:
    assert set(HistoryOptions.__annotations__) == set(Policy.__dataclass_fields__)
    parts = HistoryOptions, ConnectionOptions, LayerOptions
    assert set(Options.__annotations__) == {name for part in parts for name in part.__annotations__}


@pytest.mark.parametrize("wrong", [{"fallback": ""}, {"fallback": 1}, {"fallback": None}, {"max_journal": 0}], ids=str)
def test_what_to_do_in_an_outage_is_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LayerPolicy(**wrong)
