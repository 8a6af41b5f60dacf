"""The in-process backend passes the suite of all backends."""

from __future__ import annotations

import pytest

from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.testing import BackendConformance


class TestLocalBackend(BackendConformance):
    @pytest.fixture
    def backend(self) -> LocalBackend:
        return LocalBackend()
