"""The suite of what is done to sessions."""

from __future__ import annotations

import contextlib
import time

import pytest

from langchain_memstore import codec
from langchain_memstore.backends.base import Backend
from langchain_memstore.errors import BackendUnavailable
from langchain_memstore.keys import SessionKeys, SessionPattern
from langchain_memstore.ops import session as ops
from langchain_memstore.ops.listing import Stats
from langchain_memstore.ops.summary import Claim
from langchain_memstore.testing.talk import UNKNOWN, WRITES, Counts, SessionVariants, Talk, about, scan
from langchain_memstore.testing.variants import HOSTILE_IDS, MINUTE, Execute, Run
from langchain_memstore.window import Bounds


class SessionConformance(SessionVariants):
    """Every operation on sessions."""

    def test_append_keeps_the_order_and_counts(self, talk: Talk) -> None:
        """What was appended is there, oldest first; only humans start turns."""
        assert talk.append("sha") == Counts(messages=3, total=3, turns=1, dropped=0)
        assert talk.append("hrfaH") == Counts(messages=8, total=8, turns=3, dropped=0)
        assert talk.read()[:4] == (talk.said, "", 3, 8)

    @pytest.mark.parametrize(
        ("appended", "bounds", "kept"),
        [
            ("hahaha", (3, None), "aha"),
            ("harra", (3, None), "a"),  # results at the head go with their call
            ("harf", (1, None), "arf"),  # a call group larger than the bound is kept whole
            ("haR F", (1, None), "aRF"),  # and while it is under way
            ("harf a", (1, None), "a"),
            ("r", (1, None), "r"),  # a result that was appended alone stays
            ("r ha", (3, None), "rha"),  # where nothing is cut
            ("rr ha", (3, None), "ha"),
            ("rrr", (1, None), "r"),  # there is no call to start at, and no window is empty
            ("rrr rr r", (2, None), "rr"),
            ("rrh rrr", (2, None), "hrrr"),
            ("saharaH arara", (None, 1), "Harara"),
            ("aaa", (None, 1), "aaa"),
            ("haaahaa", (4, 2), "ahaa"),
            ("hararaha", (6, 2), "araha"),
            ("ha" * 60 + "h", (None, 55), "ha" * 54 + "h"),
            ("h" + "a" * 130, (500, 1), "h" + "a" * 130),
        ],
    )
    def test_window(self, talk: Talk, appended: str, bounds: tuple[int | None, int | None], kept: str) -> None:
        """The bounds hold, and no window is headed by a result whose call was cut off."""
        dropped = sum(talk.append(kinds, *bounds).dropped for kinds in appended.split())
        data = talk.read()
        assert data.entries == talk.said[-len(kept) :]
        assert data.total == len(talk.said) == dropped + len(data.entries)

    @pytest.mark.parametrize(
        ("appended", "most", "kept"),
        [
            ("haarrah", 5, "ah"),  # two calls in a row, then their results
            ("haarr", 2, "aarr"),
            ("ha arr", 2, "aarr"),
            ("haarraarr", 6, "aarr"),
            ("haasaa", 1, "saa"),  # what another is joined to may be of any kind
            ("aaah", 2, "h"),
            ("Aaa", 1, "aa"),  # prefixes are taken literally
        ],
    )
    def test_window_of_joined_entries(self, talk: Talk, appended: str, most: int, kept: str) -> None:
        """No window is headed by an entry that is joined to the one before it."""
        ai = b'{"type":"ai"'
        talk.joined = ((ai, ai), (b'{"type":"system"', ai))
        for kinds in appended.split():
            talk.append(kinds, most)
        assert talk.read().entries == talk.said[-len(kept) :]

    def test_entries_are_bytes(self, talk: Talk) -> None:
        """Entries come back as they were, whatever and however long they are."""
        entries = (b"", b"\x00\xff\r\n;=,", b"x" * 1_000_000, *(b"%d" % number for number in range(2_500)))
        op = ops.Append(talk.keys, entries, Bounds(None, None, codec.RESULTS, codec.TURN_STARTS), MINUTE)
        assert talk.execute(op).messages == len(entries)
        assert talk.read().entries == list(entries)

    def test_the_same_append_counts_once(self, talk: Talk) -> None:
        """An append that is sent again changes nothing, and returns what it did at first."""
        op = talk.appending("hahar", max_messages=2)
        first = talk.execute(op)
        for _ in range(8):
            talk.append("a", max_messages=50)
        before = talk.read()
        assert talk.execute(op) == first
        assert first[:4] == Counts(messages=2, total=5, turns=2, dropped=3)
        assert talk.read()[:4] == before[:4]

    def test_a_slow_write_is_done_whatever_came_between(self, talk: Talk) -> None:
        """What changes nothing leaves no gap among the numbers of a writer, for which a slow request could be lost."""
        talk.register_turn()
        slow = ops.RegisterTurn(talk.keys, MINUTE)
        for _ in range(140):
            talk.register_turn()
            assert talk.execute(talk.popping()) == []
            assert talk.set_summary("") is None
            with contextlib.suppress(BackendUnavailable):  # in an outage
                assert talk.execute(Claim(talk.keys, MINUTE, 0)) is None
        assert talk.execute(slow) == 142
        assert talk.execute(slow) == talk.read().turns == 142

    def test_the_same_empty_pop_takes_nothing(self, talk: Talk) -> None:
        """A pop that found nothing takes nothing when it is sent again, whatever was appended since."""
        talk.register_turn()
        pop = talk.popping()
        assert talk.execute(pop) == []
        talk.append("h")
        assert talk.execute(pop) == []
        assert talk.read().entries == talk.said

    def test_turns_by_hand(self, talk: Talk) -> None:
        """A turn is counted once for each operation, together with those that messages start."""
        op = ops.RegisterTurn(talk.keys, MINUTE)
        assert [talk.execute(op), talk.append("h").turns, talk.register_turn(), talk.execute(op)] == [1, 2, 3, 1]
        assert talk.read().turns == 3

    def test_pop(self, talk: Talk) -> None:
        """The newest entries go, and the turns that they started; the session stays."""
        talk.append("haha")
        talk.register_turn()
        assert talk.execute(talk.popping()) == talk.said[3:]
        assert talk.execute(talk.popping(2)) == talk.said[1:3]
        assert talk.read()[:4] == (talk.said[:1], "", 2, 4)
        assert talk.execute(talk.popping(9)) == talk.said[:1]
        assert talk.execute(talk.popping()) == []
        assert talk.read()[:4] == ([], "", 1, 4)
        assert talk.append("h") == Counts(messages=1, total=5, turns=2, dropped=0)

    def test_the_same_pop_takes_once(self, talk: Talk) -> None:
        """A pop that is sent again returns the same entries, whatever came since."""
        talk.append("hahaha")
        pops = [talk.popping(), talk.popping(3), talk.popping()]
        for op in pops:
            talk.execute(op)
        talk.register_turn()
        talk.execute(pops[1]).clear()  # what is handed out is a copy
        talk.read().entries.clear()
        assert [talk.execute(op) for op in pops] == [talk.said[5:], talk.said[2:5], talk.said[1:2]]
        assert talk.read()[:4] == (talk.said[:1], "", 2, 6)
        talk.append("a")
        assert talk.execute(pops[0]) == talk.said[5:6]
        assert talk.read().entries == [talk.said[0], talk.said[6]]

    def test_summary(self, talk: Talk) -> None:
        """A summary is replaced or removed, once for each operation."""
        first = ops.SetSummary(talk.keys, "first\n\x00 ü🔑", MINUTE)
        talk.execute(first)
        assert talk.read()[:4] == ([], "first\n\x00 ü🔑", 0, 0)
        talk.set_summary("second")
        talk.execute(first)
        assert talk.read().summary == "second"
        talk.set_summary("")
        talk.execute(first)
        assert talk.read().summary == ""

    def test_clear(self, talk: Talk) -> None:
        """All of a session goes, and what comes next starts a new one."""
        talk.append("haha", max_messages=3)
        talk.execute(talk.popping())
        talk.set_summary("gone")
        assert [talk.execute(ops.Clear(talk.keys)) for _ in range(2)] == [True, False]
        assert talk.read() == UNKNOWN
        assert talk.append("h") == Counts(messages=1, total=1, turns=1, dropped=0)

    def test_unknown_session(self, talk: Talk) -> None:
        """What finds nothing makes nothing."""
        nothing = [ops.Touch(talk.keys, MINUTE), talk.popping(3), ops.SetSummary(talk.keys, "", MINUTE)]
        assert [talk.execute(op) for op in nothing] == [False, [], None]
        assert talk.read(refresh=True) == UNKNOWN
        assert talk.execute(ops.Clear(talk.keys)) is False

    @pytest.mark.parametrize("write", WRITES)
    def test_a_write_starts_the_ttl_anew(self, talk: Talk, write: str) -> None:
        """Whatever changes a session sets when all of it expires, or that it does not."""
        talk.append("hahaha")
        for talk.ttl in (10 * MINUTE, None, 5 * MINUTE, 90 * MINUTE):
            WRITES[write](talk)
            assert about(talk.read().ttl_ms, talk.ttl)

    def test_a_read_starts_the_ttl_anew(self, talk: Talk) -> None:
        """A read refreshes the TTL where it is asked to, and tells what it was before."""
        talk.append("h")
        for talk.ttl, before in ((10 * MINUTE, MINUTE), (None, 10 * MINUTE), (2 * MINUTE, None)):
            assert about(talk.read(refresh=True).ttl_ms, before)
            assert about(talk.read().ttl_ms, talk.ttl)
        talk.ttl = 3 * MINUTE
        assert about(talk.read().ttl_ms, 2 * MINUTE)

    @pytest.mark.parametrize("write", ["append", "register_turn", "set_summary"])
    def test_a_session_expires_whole(self, talk: Talk, write: str) -> None:
        """When the TTL has passed there is no such session."""
        talk.append("hah", max_messages=2)
        talk.set_summary("soon gone")
        talk.ttl = 30
        WRITES[write](talk)
        deadline = time.monotonic() + 5
        while (data := talk.read()) != UNKNOWN and time.monotonic() < deadline:
            assert (data.summary, data.total >= 3) == ("summary" if write == "set_summary" else "soon gone", True)
            time.sleep(0.002)
        assert (talk.read(), talk.execute(Stats((talk.keys,)))) == (UNKNOWN, [])
        talk.ttl = None
        assert talk.append("h") == Counts(messages=1, total=1, turns=1, dropped=0)
        assert talk.read().ttl_ms is None

    def test_stats(self, talk: Talk) -> None:
        """A listing tells what is known of a session, and refreshes no TTL."""
        talk.append("hahaha", max_messages=4)
        talk.register_turn()
        talk.set_summary("short")
        missing = SessionKeys(talk.keys.prefix, "missing")
        (info,) = talk.execute(Stats((missing, talk.keys)))
        assert (info.session_id, info.messages, info.turns, info.total) == ("session", 4, 4, 6)
        assert info.summary and info.ttl is not None and 50 < info.ttl <= 60
        assert time.time() - 60 < info.created.timestamp() <= info.updated.timestamp() < time.time() + 60
        talk.ttl = None
        talk.append("h")
        assert talk.execute(Stats((talk.keys,)))[0].ttl is None

    def test_sessions_are_apart(self, execute: Execute, prefix: str) -> None:
        """No two ids share anything, whatever characters they have, and a listing has those of its prefix alone."""
        for other in (f"{prefix}x", prefix[:-1], f"{prefix}:meta"):
            Talk(execute, SessionKeys(other, "session")).append("h")
        talks = [Talk(execute, SessionKeys(prefix, session_id)) for session_id in HOSTILE_IDS]
        for count, talk in enumerate(talks, 1):
            talk.append("h" * count)
        assert [talk.read()[:4] for talk in talks] == [(talk.said, "", n, n) for n, talk in enumerate(talks, 1)]
        assert scan(execute, SessionPattern(prefix), count=2) == set(HOSTILE_IDS)

    def test_scan_matches(self, execute: Execute, prefix: str) -> None:
        """A pattern is over the characters of ids."""
        for session_id in ("user-1", "user-2", "user-10", "user-é", "*", "{}", "%7B%7D"):
            Talk(execute, SessionKeys(prefix, session_id)).register_turn()
        matches = {"user-?": {"user-1", "user-2", "user-é"}, "user-[!1]*": {"user-2", "user-é"}, "User-1": set()}
        matches |= {"[*]": {"*"}, "[{]*": {"{}"}, "*}": {"{}"}}
        assert {match: scan(execute, SessionPattern(prefix, match)) for match in matches} == matches

    def test_closing_twice_is_closing_once(self, backend: Backend, run: Run) -> None:
        """A backend is closed through either variant, and more than once."""
        assert backend.status.backend
        backend.close()
        run(backend.aclose())
        backend.close()
