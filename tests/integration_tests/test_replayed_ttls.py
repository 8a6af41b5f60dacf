"""What is left of a TTL after an outage, on servers."""

from __future__ import annotations

import pytest

from support.replays import ReplayedTtls
from support.servers import Server, every_server
from support.ways import backend_fixture


@every_server
class TestUrl(ReplayedTtls):
    backend = backend_fixture("url")

    @pytest.fixture
    def place(self, family_server: Server) -> Server:
        return family_server
