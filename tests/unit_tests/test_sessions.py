"""What the process holds: expiry by appointment, and the bound on sessions."""

from __future__ import annotations

from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.state import Session, Sessions, worn


def keys(name: object) -> SessionKeys:
    return SessionKeys("p", str(name))


def written(ttl: int | None = None, now: int = 0) -> Session:
    session = Session()
    session.commit("b", "", ttl, now)
    return session


def test_the_first_change_makes_the_session() -> None:
    session = Session()
    session.commit("a.1", "", None, 5)
    session.commit("a.2", "", 100, 7)
    assert (session.epoch, session.created, session.updated, session.ttl_ms(8)) == ("a.1", 5, 7, 99)


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
