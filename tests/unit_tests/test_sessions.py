"""What the process holds: recent write ids, expiry by appointment, and the bound on sessions."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.kv_scripts import RECENT as VALUES_RECENT
from langchain_memstore.ops.state import RECENT, Session, Sessions, worn


def keys(name: object) -> SessionKeys:
    return SessionKeys("p", str(name))


def written(ttl: int | None = None, now: int = 0) -> Session:
    session = Session()
    session.commit("b", "", ttl, now)
    return session


@given(st.lists(st.text("0123456789,", max_size=40), max_size=120))
def test_recent_write_ids_are_known_and_old_ones_forgotten(results: list[str]) -> None:
    session = Session()
    for number, result in enumerate(results):
        assert session.commit(f"{number:016x}", result, None, 0) == result
        assert session.find_result(f"{number:016x}") == result
    assert len(session.results) <= RECENT
    assert re.fullmatch("([0-9a-f]{16}=[0-9,]*;)*", session.results)
    remembered = [session.find_result(f"{number:016x}") for number in range(len(results))]
    known = [result for result in remembered if result is not None]
    assert known == results[len(results) - len(known) :]
    assert len(known) >= min(len(results), RECENT // (16 + 1 + 40 + 1))
    assert session.find_result(f"{len(results):016x}") is None
    most = 512 // len("0123456789abcdef=;")
    assert len(known) <= most


@given(st.lists(st.integers(0, 10**39).map(str), min_size=60, max_size=200))
def test_no_more_write_ids_are_kept_than_512_bytes_hold(results: list[str]) -> None:
    session = Session()
    for number, result in enumerate(results):
        session.commit(f"{number:016x}", result, None, 0)
        assert len(session.results) <= 512
    kept = [f"{number:016x}={result};" for number, result in enumerate(results)]
    while len("".join(kept)) > 512:
        del kept[0]
    assert session.results == "".join(kept)
    assert session.find_result(f"{0:016x}") is None


@pytest.mark.parametrize(("shared", "recent"), [("common", RECENT), ("values", VALUES_RECENT)])
def test_both_halves_keep_as_many_bytes_of_write_ids(shared: str, recent: int) -> None:
    source = (files("langchain_memstore") / "lua" / f"{shared}.lua").read_text()
    assert re.findall(r"^local RECENT = (\d+)", source, re.MULTILINE) == [str(recent)]


def test_the_first_change_makes_the_session() -> None:
    session = Session()
    session.commit("one", "", None, 5)
    session.commit("two", "", 100, 7)
    assert (session.epoch, session.created, session.updated, session.ttl_ms(8)) == ("one", 5, 7, 99)


def test_a_ttl_is_set_anew_when_a_hundredth_has_worn_off_or_it_is_another() -> None:
    assert [worn(left, 1000) for left in (1000, 995, 990, 989, 1, 0, -5, 1001, None)] == [False] * 3 + [True] * 6
    assert worn(5, None)
    assert not worn(None, None)


def test_what_was_never_written_is_not_held() -> None:
    sessions = Sessions(5)
    sessions.keep(keys("a"), sessions.open(keys("a")))
    assert list(sessions) == []
    assert sessions.find(keys("a")) is None
    assert not sessions.drop(keys("a"))


def test_the_least_recently_used_go() -> None:
    sessions = Sessions(3)
    for name in "abc":
        sessions.keep(keys(name), written())
    sessions.keep(keys("a"), sessions.open(keys("a")))
    sessions.find(keys("b"))  # looking is no use
    sessions.keep(keys("d"), written())
    assert [key.session_id for key in sessions] == ["c", "a", "d"]
    assert len(sessions) == 3


def test_an_expired_session_goes_whatever_its_ttl_was_before() -> None:
    for ttls, goes in [((10,), 10), ((10, 50), 50), ((50, 10), 10), ((None, 10), 10), ((10, None, 30), 30)]:
        sessions = Sessions(5)
        session = written(ttls[0])
        for ttl in ttls:
            session.refresh_ttl(ttl, 0)
            sessions.keep(keys("a"), session)
        sessions.drop_expired(goes - 1)
        assert len(sessions) == 1, ttls
        sessions.drop_expired(goes)
        assert len(sessions) == 0, ttls


def test_a_session_without_a_ttl_stays() -> None:
    sessions = Sessions(5)
    session = written(10)
    sessions.keep(keys("a"), session)
    session.refresh_ttl(None, 5)
    sessions.keep(keys("a"), session)
    sessions.drop_expired(10**15)
    assert len(sessions) == 1


def test_a_session_that_was_made_anew_does_not_expire_with_the_old_one() -> None:
    sessions = Sessions(5)
    sessions.keep(keys("a"), written(10))
    sessions.drop(keys("a"))
    sessions.keep(keys("a"), written(100))
    sessions.drop_expired(50)
    assert len(sessions) == 1


def test_appointments_do_not_pile_up() -> None:
    """Not those of cleared sessions, of evicted ones, nor of ever shorter TTLs."""
    cleared, evicted, shortened = Sessions(10), Sessions(10), Sessions(10)
    session = written(10_000)
    for number in range(3_000):
        cleared.keep(keys("a"), written(1000, number))
        cleared.drop(keys("a"))
        evicted.keep(keys(number), written(1000, number))
        session.refresh_ttl(10_000 - 2 * number, 0)
        shortened.keep(keys("a"), session)
    for sessions in (cleared, evicted, shortened):
        assert len(sessions._appointments) <= 2 * len(sessions) + 64
    assert len(evicted) == 10
    for sessions in (evicted, shortened):
        sessions.drop_expired(10_000)
        assert len(sessions) == len(sessions._appointments) == 0
