"""The in-process backend: expiry by the clock, the bound on sessions, threads, and sharing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage

from langchain_memstore import ChatMessageHistory, LocalChatMessageHistory, Memstore
from langchain_memstore.backends.local import LocalBackend
from support.clock import Clock


class Local:
    """A backend with its clock, and histories on it."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.backend = LocalBackend(clock=self.clock, **options)
        self.store = Memstore(self.backend, ttl=10)

    def history(self, session_id: str = "s", **options: Any) -> ChatMessageHistory:
        return self.store.history(session_id, **options)

    def ids(self) -> list[str]:
        return sorted(info.session_id for info in self.store.sessions())


@pytest.fixture
def local() -> Local:
    return Local()


def test_expired_sessions_are_let_go_without_being_touched(local: Local) -> None:
    for number in range(100):
        local.history(f"s{number}").add_user_message("hello")
    local.clock.now += 9.999
    local.history("other").touch()
    assert repr(local.backend) == "LocalBackend(sessions=100)"
    local.clock.now += 0.001
    local.history("other").touch()
    assert repr(local.backend) == "LocalBackend(sessions=0)"


def test_an_expired_session_starts_anew(local: Local) -> None:
    history = local.history()
    history.add_user_message("old")
    history.set_summary("old")
    local.clock.now += 10
    assert (history.messages, history.summary, history.turns, history.touch()) == ([], None, 0, False)
    history.add_ai_message("new")
    snapshot = history.snapshot()
    assert (snapshot.messages, snapshot.total, snapshot.turns, snapshot.ttl) == ([AIMessage("new")], 1, 0, 10)


@pytest.mark.parametrize("read", ["messages", "summary", "turns", "snapshot"])
def test_reading_starts_the_ttl_anew_unless_told_otherwise(local: Local, read: str) -> None:
    histories = local.history("kept"), local.history("let go", refresh_ttl_on_read=False)
    for history in histories:
        history.add_user_message("hello")
    for _ in range(3):
        local.clock.now += 6
        for history in histories:
            found = getattr(history, read)
            _ = found() if callable(found) else found
    assert local.ids() == ["kept"]


def test_looking_at_the_list_starts_no_ttl(local: Local) -> None:
    local.history().add_user_message("hello")
    local.clock.now += 6
    (info,) = local.store.sessions()
    assert info.ttl == 4
    local.clock.now += 4
    assert local.ids() == []


def test_a_ttl_that_has_hardly_worn_off_is_left_alone(local: Local) -> None:
    history = local.history()
    history.add_user_message("hello")
    local.clock.now += 0.09
    assert [history.snapshot().ttl for _ in range(2)] == [9.91, 9.91]
    local.clock.now += 0.02
    assert [history.snapshot().ttl for _ in range(2)] == [9.89, 10]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add_user_message", "snapshot", "touch", "clear"]),
            st.sampled_from("ab"),
            st.sampled_from([10, 20, 40, None]),
            st.sampled_from([0, 1, 5, 15, 30]),
        ),
        max_size=25,
    )
)
def test_a_session_lives_for_as_long_as_its_last_use_said(steps: list[tuple[str, str, int | None, int]]) -> None:
    local = Local()
    ends: dict[str, float] = {}
    for name, session_id, ttl, passes in steps:
        history = local.history(session_id, ttl=ttl)
        getattr(history, name)(*["hello"] if name == "add_user_message" else [])
        if name == "clear":
            ends.pop(session_id, None)
        elif session_id in ends or name == "add_user_message":
            ends[session_id] = float("inf") if ttl is None else local.clock.now + ttl
        local.clock.now += passes
        ends = {session_id: end for session_id, end in ends.items() if end > local.clock.now}
        assert {info.session_id: info.ttl for info in local.store.sessions()} == {
            session_id: None if end == float("inf") else end - local.clock.now for session_id, end in ends.items()
        }


def test_the_least_recently_used_sessions_go() -> None:
    local = Local(max_sessions=3)
    for session_id in "abc":
        local.history(session_id).add_user_message("hello")
    _ = local.history("a").messages
    assert local.ids() == ["a", "b", "c"]  # looking at the list is no use
    local.history("d").register_turn()
    assert local.ids() == ["a", "c", "d"]
    for number in range(100):
        local.history(str(number)).set_summary("hello")
    assert repr(local.backend) == "LocalBackend(sessions=3)"


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, None, "3"])
def test_a_wrong_bound_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"^max_sessions must be at least 1"):
        LocalBackend(max_sessions=wrong)


def test_threads_append_at_once() -> None:
    history = Memstore(LocalBackend(), max_messages=None).history("s")
    start = threading.Barrier(8)

    def write(writer: int) -> None:
        start.wait()
        for number in range(50):
            history.add_messages([HumanMessage(f"{number}", name=f"{writer}"), AIMessage("yes", name=f"{writer}")])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    snapshot = history.snapshot()
    assert (len(snapshot.messages), snapshot.total, snapshot.turns) == (800, 800, 400)
    asked, answered = snapshot.messages[::2], snapshot.messages[1::2]
    assert [message.name for message in asked] == [message.name for message in answered]  # each batch as one
    for writer in range(8):
        said = [message.content for message in asked if message.name == f"{writer}"]
        assert said == [f"{number}" for number in range(50)]


def test_threads_bound_the_window_and_pop_each_message_once() -> None:
    history = Memstore(LocalBackend(), max_messages=10).history("s")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: history.add_user_message(str(number)), range(200)))
        assert len(history.messages) == 10
        assert history.turns == 200
        popped = [message for batch in pool.map(lambda _: history.pop(2), range(20)) for message in batch]
    assert len({message.content for message in popped}) == len(popped) == 10
    assert history.messages == []


@pytest.mark.parametrize("hand_out", ["messages", "snapshot", "pop"])
def test_what_was_handed_out_can_be_changed(local: Local, hand_out: str) -> None:
    call = {"name": "f", "args": {"x": [1]}, "id": "1", "type": "tool_call"}
    said = AIMessage([{"type": "text", "text": "hello"}], tool_calls=[call], response_metadata={"a": {"b": b"1"}})
    given_in = said.model_copy(deep=True)
    history = local.history()
    history.add_messages([given_in, given_in])
    given_in.content.append("changed")  # type: ignore[union-attr]
    found = {"messages": lambda: history.messages, "snapshot": lambda: history.snapshot().messages, "pop": history.pop}
    handed_out = found[hand_out]()
    _ = handed_out[-1].content_blocks
    handed_out[-1].content[0]["text"] = "changed"  # type: ignore[index]
    handed_out[-1].response_metadata["a"]["b"] = None
    handed_out[-1].tool_calls[0]["args"]["x"].append(2)
    handed_out.clear()
    assert history.messages == [said] * (1 if hand_out == "pop" else 2)


def test_a_name_is_shared_in_the_process_and_no_name_is_private() -> None:
    name, other = token_hex(4), token_hex(4)
    Memstore.from_url(f"memory://{name}").history("s").add_user_message("hello")
    assert Memstore.from_url(f"memory://{name}").history("s").turns == 1
    assert LocalChatMessageHistory("s", name=name).turns == 1
    assert Memstore.from_url(f"memory://{other}").history("s").turns == 0
    assert LocalBackend.shared(name) is LocalBackend.shared(name) is not LocalBackend.shared(other)
    private = [Memstore.from_url("memory://"), Memstore.from_url(), Memstore(LocalBackend())]
    for store in private:
        store.history("s").add_user_message("hello")
    assert [store.history("s").turns for store in private] == [1, 1, 1]


def test_closing_keeps_everything(local: Local) -> None:
    local.history().add_user_message("hello")
    local.store.close()
    assert local.history().turns == 1
    assert local.store.status.backend == "local"
