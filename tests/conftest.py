"""The settings of all tests; their fixtures are in `support.fixtures`."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("langchain_memstore.testing", "support")

pytest_plugins = ["support.fixtures"]

os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"

settings.register_profile("memstore", deadline=None, print_blob=True)  # slow machines are no failures
settings.load_profile("memstore")
