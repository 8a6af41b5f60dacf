"""The tests of sessions of the OpenAI Agents SDK, on a real Redis, and their windows on every server."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from langchain_memstore import Memstore
from support.servers import Server, every_server
from unit_tests import test_openai_agents

for name, value in vars(test_openai_agents).items():
    if name.startswith("test_") and name != "test_windows":
        globals()[name] = value


@every_server
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(test_openai_agents.conversations(), st.integers(1, 9), st.lists(st.integers(1, 5), min_size=30, max_size=30))
def test_windows(server: Server, said: tuple[list[Any], list[int]], most: int, sizes: list[int]) -> None:
    with Memstore.from_url(server.url) as store:
        test_openai_agents.check_windows(store, *said, most, sizes)
