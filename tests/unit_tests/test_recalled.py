"""Messages that were decoded before come back as new ones, equal to those that decoding makes."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_memstore import Memstore, MessageDecodeError, codec
from langchain_memstore.recalled import RECALLED, Recalled

from .strategies import MESSAGES, any_values, canonical, messages


def spoil(value: object) -> None:
    """Change whatever can be changed."""
    if isinstance(value, dict):
        for each in value.values():
            spoil(each)
        value["spoiled"] = True
    elif isinstance(value, list):
        for each in value:
            spoil(each)
        value.append("spoiled")


@given(st.lists(st.one_of([messages(cls, any_values) for cls in MESSAGES]), max_size=6))
def test_copies_are_as_if_decoded(said: list[BaseMessage]) -> None:
    recalled = Recalled(10**6)
    entries = codec.encode(said) * 2
    for _ in range(4):
        decoded, expected = recalled.decode("session", entries), [codec.decode(entry) for entry in entries]
        assert canonical(decoded) == canonical(expected)
        for one, other in zip(decoded, expected, strict=True):
            assert type(one) is type(other)
            assert one.model_fields_set == other.model_fields_set
            assert repr(one) == repr(other)
        for message in decoded:
            for value in message.__dict__.values():
                spoil(value)
            spoil(message.__pydantic_extra__)
            message.content = "spoiled"


def talk(session: int, count: int = 20, size: int = 100) -> tuple[bytes, ...]:
    return codec.encode([HumanMessage(f"{session}/{number} {'x' * size}") for number in range(count)])


def kept(recalled: Recalled) -> dict[str, int]:
    return {name: len(session.originals) for name, session in recalled._sessions.items()}


def test_what_was_decoded_is_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    recalled, entries = Recalled(10**6), codec.encode([HumanMessage("hello"), AIMessage("hi", id="1")])
    first = [recalled.decode("session", entries) for _ in range(2)]
    monkeypatch.setattr("langchain_memstore.recalled.decode", None)
    assert [recalled.decode("session", entries) for _ in range(2)] == first
    assert recalled.decode("session", entries)[0] is not first[1][0]


def test_a_session_is_kept_from_its_second_read_on() -> None:
    recalled = Recalled(10**6)
    for number in range(5):
        recalled.decode(str(number), talk(number))
    assert kept(recalled) == {}
    recalled.decode("3", talk(3))
    assert kept(recalled) == {"3": 20}


def test_what_has_left_the_window_is_let_go() -> None:
    recalled = Recalled(10**6)
    entries = talk(0, 500)
    for start in range(0, 450, 2):
        assert len(recalled.decode("session", entries[start : start + 50])) == 50
    assert kept(recalled)["session"] <= 2 * 50 + 16
    assert recalled._size == sum(2 * len(entry) + 600 for entry in recalled._sessions["session"].originals)


def test_memory_is_bounded_and_more_sessions_than_fit_do_not_drive_each_other_out() -> None:
    recalled = Recalled(100_000)  # room for about four
    for _ in range(5):
        for number in range(20):
            recalled.decode(str(number), talk(number))
    held = kept(recalled)
    assert 2 <= len(held) <= 5 and recalled._size <= 100_000
    for number in range(20):
        recalled.decode(str(number), talk(number))
    assert kept(recalled).keys() == held.keys()
    for _ in range(3):  # who is read more often than others is kept
        recalled.decode("new", talk(99))
    assert "new" in kept(recalled)


def test_a_session_that_is_larger_than_the_bound_is_not_kept() -> None:
    recalled = Recalled(10_000)
    for _ in range(4):
        assert len(recalled.decode("session", talk(0, 50, 1000))) == 50
        assert recalled._size <= 10_000


def test_threads_read_what_there_is() -> None:
    recalled = Recalled(60_000)

    def read(number: int) -> None:
        for turn in range(200):
            session = (number + turn) % 7
            entries = talk(session, 30)[turn % 10 :]
            assert recalled.decode(str(session), entries) == [codec.decode(entry) for entry in entries]

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(read, range(6)))
    assert recalled._size == sum(session.size for session in recalled._sessions.values()) <= 60_000


def test_corrupt_entries_are_named_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    recalled = Recalled(10**6)
    for _ in range(3):
        with pytest.raises(MessageDecodeError):
            recalled.decode("session", [*talk(0, 1), b"{", b'{"type":"ai"}'])


@pytest.mark.parametrize("options", [{}, {"encryption_keys": [b"k" * 32]}])
def test_what_is_encrypted_is_not_kept_in_clear(options: dict[str, Any]) -> None:
    RECALLED.forget()
    history = Memstore.from_url("memory://", **options).history("recalled or not")
    history.add_user_message("hello")
    for _ in range(3):
        assert history.messages == [HumanMessage("hello")]
    assert len(RECALLED._sessions) == (0 if options else 1)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_does_not_wait_for_a_lock_of_its_parent() -> None:
    with RECALLED._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if RECALLED.decode("session", talk(0, 1)) else 1)
    assert os.waitpid(child, 0)[1] == 0
