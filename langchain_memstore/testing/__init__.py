"""The suites that every backend, and every wrapper of one, passes. They need pytest.

    from langchain_memstore.testing import BackendConformance

    class TestMyBackend(BackendConformance):
        @pytest.fixture
        def backend(self):
            backend = MyBackend(...)
            yield backend
            backend.close()

`ValueConformance` is the suite of the key-value family, and needs the extra `[limits]`. For errors that show values,
call `pytest.register_assert_rewrite("langchain_memstore.testing")` in `conftest.py`.
"""

from langchain_memstore.testing.sessions import SessionConformance
from langchain_memstore.testing.transfer import TransferConformance
from langchain_memstore.testing.values import ValueConformance
from langchain_memstore.testing.variants import HOSTILE_IDS, Execute, Run

__all__ = ["HOSTILE_IDS", "BackendConformance", "Execute", "Run", "ValueConformance"]


class BackendConformance(SessionConformance, TransferConformance):
    """Every operation on sessions, through both variants; a subclass overrides the fixture `backend`.

    The tests use sessions of their own, with a key prefix that begins with `conversation-` and goes on at random.
    """
