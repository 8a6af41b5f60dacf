"""Every kind of connection to every server passes the suite of all backends."""

from __future__ import annotations

import pytest

from langchain_memstore.testing import BackendConformance
from support.servers import Server, every_server
from support.ways import ON_A_SERVER, backend_fixture


@every_server
class TestServer(BackendConformance):
    backend = backend_fixture(*ON_A_SERVER)

    @pytest.fixture
    def place(self, server: Server) -> Server:
        return server
