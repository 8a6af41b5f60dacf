"""The suite of what moves whole sessions."""

from __future__ import annotations

import time
from dataclasses import replace

from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.transfer import Dump, Expiries, Restore, SessionDump
from langchain_memstore.testing.talk import UNKNOWN, Counts, SessionVariants, Talk, about
from langchain_memstore.testing.variants import MINUTE


class TransferConformance(SessionVariants):
    """Every operation that moves whole sessions."""

    def test_a_session_is_restored_as_it_was(self, talk: Talk, prefix: str) -> None:
        """What is dumped is restored equal, TTL and counters included, and goes on as it would have."""
        assert talk.execute(Dump(talk.keys)) is None
        talk.append("hahaha" * 700)
        talk.set_summary("short ü")
        talk.register_turn()
        before = talk.execute(Dump(talk.keys))
        state = replace(before, evicted=before.messages[:2500], messages=before.messages[2500:], lost=3, covered=2)
        other = Talk(talk.execute, SessionKeys(prefix, "other"))
        assert other.execute(Restore(other.keys, state, "origin")) == ("made", 1700, 2500)
        after = other.execute(Dump(other.keys))
        assert about(after.ttl_ms, state.ttl_ms)
        assert replace(after, ttl_ms=None) == replace(state, ttl_ms=None)
        assert all(about(ttl_ms, MINUTE) for ttl_ms in other.execute(Expiries(other.keys)))
        assert other.append("h") == Counts(messages=1701, total=4201, turns=2102, dropped=0)
        assert other.execute(other.popping()) == other.said

    def test_what_exists_is_replaced_only_when_asked_for(self, talk: Talk) -> None:
        """A session that exists is left alone, and known again where it was restored from the same."""
        state = SessionDump(messages=(b"one", b"two"), total=2)
        made, forced = Restore(talk.keys, state, "origin"), Restore(talk.keys, state, "origin", replace=True)
        assert talk.execute(Restore(talk.keys, state, "origin", write=False)) == ("made", 0, 0)
        assert (talk.read(), talk.execute(Expiries(talk.keys))) == (UNKNOWN, ())
        assert talk.execute(made) == ("made", 2, 0)
        talk.ttl = None
        talk.append("h")
        talk.set_summary("gone")
        assert talk.execute(made) == ("made", 2, 0)  # sent again
        assert talk.execute(Restore(talk.keys, state, "origin")) == ("same", 0, 0)
        assert talk.execute(Restore(talk.keys, state, "other")) == ("exists", 0, 0)
        assert talk.execute(replace(forced, write_id="", write=False)) == ("replaced", 0, 0)
        assert talk.read()[:4] == ([b"one", b"two", *talk.said], "gone", 1, 3)
        assert talk.execute(forced) == ("replaced", 2, 0)
        assert talk.read()[:4] == ([b"one", b"two"], "", 0, 2)
        assert talk.read().ttl_ms is None
        talk.append("h")
        assert talk.execute(forced) == ("replaced", 2, 0)  # sent again
        assert talk.read().total == 3

    def test_a_restored_session_expires(self, talk: Talk) -> None:
        """The TTL that is left goes on."""
        state = SessionDump(messages=(b"one",), evicted=(b"none",), summary="s", turns=1, total=2, ttl_ms=30)
        talk.execute(Restore(talk.keys, state, "origin"))
        deadline = time.monotonic() + 5
        while talk.execute(Dump(talk.keys)) is not None and time.monotonic() < deadline:
            time.sleep(0.002)
        assert (talk.read(), talk.execute(Expiries(talk.keys))) == (UNKNOWN, ())
