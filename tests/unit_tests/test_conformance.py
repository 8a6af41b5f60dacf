"""The in-process backend passes the suites of all backends, and so does what falls back to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.backends.outage.fallback import FallbackBackend
from langchain_memstore.testing import BackendConformance, ValueConformance
from support.unsteady import Unsteady, falling_back


class TestLocalBackend(BackendConformance):
    @pytest.fixture
    def backend(self) -> LocalBackend:
        return LocalBackend()


class TestLocalValues(ValueConformance):
    @pytest.fixture
    def backend(self) -> LocalBackend:
        return LocalBackend()


class TestValuesThatFallBack(ValueConformance):
    @pytest.fixture
    def backend(self) -> Iterator[FallbackBackend]:
        backend = falling_back(Unsteady(LocalBackend()))
        yield backend
        backend.close()
