"""Tenants on one server: whatever they are called, each reaches its own conversations and no other's."""

from __future__ import annotations

from typing import Any

import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage

from langchain_memstore import Memstore
from langchain_memstore.keys import SessionKeys
from support.contents import everything
from support.servers import Server, every_server

PREFIXES = ["a", "a:", "a*", "a?", "a[b]", "a{", "a{b}", "a%7Bb%7D", "ab", "a:meta", "a:meta:", "a:meta:{b}", "*", "%"]
PREFIXES += ["{}", "\\", "a\\", "a\0", "\0", "ä", "a" * 10_000, "conversation", "conversation:messages:{a}"]
KINDS = ("messages", "meta", "turns", "summary", "evicted", "lease")
IDS = ["a", "b", "a:b", "*", "a*", "?", "[a-b]", "{", "}", "{a}", "%", "%7B", "%257B", "a\0b", "\n", "\\", "\\*", "é🔑"]
IDS += ["x" * 10_000, "x" * 9_999, "a:meta:{a}", "meta:{a}", "}:meta:{", "conversation:meta:{a}", "a}:turns:{a"]

pieces = st.text("ab:*?[]{}%\\\0é", min_size=1, max_size=4)
prefixes = st.sampled_from(PREFIXES) | pieces
ids = st.sampled_from(IDS) | pieces
sessions = st.lists(st.tuples(prefixes, ids), min_size=1, max_size=12, unique=True)


def of(contents: dict[bytes, Any], keys: SessionKeys) -> dict[bytes, Any]:
    """What a server holds of a session."""
    own = {getattr(keys, kind).encode() for kind in KINDS}
    return {key: value for key, value in contents.items() if key in own}


@every_server
def test_tenants_reach_their_own_alone(server: Server, admin: redis.Redis) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(sessions)
    def run(sessions: list[tuple[str, str]]) -> None:
        admin.flushall()
        stores = {prefix: Memstore.from_url(server.open_url, key_prefix=prefix) for prefix, _ in sessions}
        own = {prefix: [each for owner, each in sessions if owner == prefix] for prefix in stores}
        for number, (prefix, session_id) in enumerate(sessions):
            history = stores[prefix].history(session_id, max_messages=2, summarize="manual")
            history.add_messages([HumanMessage(f"text {number} {each}") for each in range(3)])
            history.set_summary(f"summary {number}")
        assert admin.dbsize() == 5 * len(sessions)
        for number, (prefix, session_id) in enumerate(sessions):
            history = stores[prefix].history(session_id)
            assert [message.text for message in history.search("text")] == [
                f"text {number} {each}" for each in range(3)
            ]
            assert history.summary == f"summary {number}"
        for prefix, store in stores.items():
            assert sorted(info.session_id for info in store.sessions()) == sorted(own[prefix])
            assert sorted({hit.session_id for hit in store.search("text")}) == sorted(own[prefix])
            for session_id in own[prefix]:
                literal = "".join(f"[{each}]" if each in "*?[" else each for each in session_id)
                assert [info.session_id for info in store.sessions(literal)] == [session_id]
        for prefix, session_id in sessions[::2]:
            keys, before = SessionKeys(prefix, session_id), everything(admin)
            assert len(of(before, keys)) == 5
            stores[prefix].history(session_id).clear()
            after = everything(admin)
            assert of(after, keys) == {}
            assert after == {key: value for key, value in before.items() if key not in of(before, keys)}
        for store in stores.values():
            store.close()

    run()
