"""The tests of agents with a memory, on a real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from langchain_memstore import Memstore
from support.servers import Server
from unit_tests import test_agents, test_agents_disturbed

pytestmark = test_agents.pytestmark

for module in test_agents, test_agents_disturbed:
    for name, value in vars(module).items():
        if name.startswith("test_"):
            assert name not in globals(), f"{name} is there twice, and would be run once"
            globals()[name] = value


@pytest.fixture
async def store(server: Server) -> AsyncIterator[Memstore]:
    async with Memstore.from_url(server.url) as store:
        yield store
        store.close()
