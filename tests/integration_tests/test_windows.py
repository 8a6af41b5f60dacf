"""Redis keeps the window that the bounds say, as the in-process store does."""

from __future__ import annotations

from itertools import count

from hypothesis import HealthCheck, example, given, settings
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_memstore import Memstore
from support.conversations import Bounds, batches, bounds
from support.servers import Server, every_server

numbers = count()

LONG: list[list[BaseMessage]] = [[HumanMessage("hi"), *[AIMessage("hello")] * length] for length in (120, 60, 0)]
"""Turns longer than what the script looks at in one go."""


@every_server
@settings(
    max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # each example has a session of its own
@given(batches=batches, bounds=bounds)
@example(batches=LONG, bounds=Bounds(max_messages=None, max_turns=2, whole_turns=False))
@example(batches=LONG, bounds=Bounds(max_messages=150, max_turns=None, whole_turns=True))
def test_both_stores_keep_what_the_bounds_say(server: Server, batches: list[list[BaseMessage]], bounds: Bounds) -> None:
    options, session_id = bounds.options(), f"session-{next(numbers)}"
    with Memstore.from_url(server.url, **options) as redis, Memstore.from_url("memory://", **options) as local:
        expected: list[BaseMessage] = []
        for batch in batches:
            expected = bounds.window([*expected, *batch])
            for store in (redis, local):
                history = store.history(session_id)
                history.add_messages(batch)
                assert history.messages == expected


@every_server
def test_an_append_looks_at_no_more_than_it_has_to(server: Server) -> None:
    """Orphaned results are cut at the bound, and a turn is not looked through for each of its messages."""
    with Memstore.from_url(server.url, max_messages=50, ttl=60) as store, server.admin() as admin:
        history = store.history("results")
        for _ in range(20):
            history.add_messages([ToolMessage("found", tool_call_id="a") for _ in range(40)])
        assert admin.llen(history.keys.messages) == 50
        turns = store.history("one turn", max_messages=None, max_turns=3)
        turns.add_messages([HumanMessage("hi"), *[AIMessage("hello")] * 2000])
        admin.config_resetstat()
        for _ in range(5):
            turns.add_messages([AIMessage("hello")])
        assert not {"cmdstat_lrange", "cmdstat_lindex"} & set(admin.info("commandstats"))
        for _ in range(3):
            turns.add_messages([HumanMessage("and now?")])
        assert admin.llen(turns.keys.messages) == 3
