"""A cache that its store fails does no harm to what was computed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.outputs import Generation

from langchain_memstore import BackendDenied, BackendError, BackendFull, BackendUnavailable, Memstore
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.ops.base import Op, R
from support.waiting import wait_until

ANSWER = [Generation(text="42")]
FAILURES = [BackendFull("out of memory"), BackendDenied("no rights"), BackendUnavailable("away")]


class Failing(LocalBackend):
    """Fails what writes, or what reads."""

    writing: BackendError | None = None
    reading: BackendError | None = None

    def execute(self, op: Op[R]) -> R:
        if (error := self.writing if op.writes else self.reading) is not None:
            raise error
        return super().execute(op)


@pytest.fixture
def backend() -> Failing:
    return Failing()


@pytest.fixture
def store(backend: Failing) -> Memstore:
    return Memstore(backend)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
async def test_results_that_cannot_be_kept(
    store: Memstore, backend: Failing, error: BackendError, caplog: pytest.LogCaptureFixture
) -> None:
    @store.kv().cached(name="double")
    def double(x: int) -> int:
        return 2 * x

    @store.kv().cached(name="adouble")
    async def adouble(x: int) -> int:
        return 2 * x

    backend.writing = error
    assert [double(1), double(1), double(2)] == [2, 2, 4]
    assert [await adouble(1), await adouble(1)] == [2, 2]
    said = f"cannot be cached for now: {error}"
    assert warnings(caplog) == [f"results of double {said}", f"results of adouble {said}"]
    backend.writing = None
    assert [double(1), await adouble(1), double.cache_info().hits] == [2, 2, 0]
    assert [double(1), await adouble(1), double.cache_info().hits] == [2, 2, 1]
    backend.writing = error
    assert double(3) == 6 and len(warnings(caplog)) == 3  # it is a failure of its own


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
async def test_answers_that_cannot_be_kept(
    store: Memstore, backend: Failing, error: BackendError, caplog: pytest.LogCaptureFixture
) -> None:
    cache = store.cache()
    backend.writing = error
    cache.update("p", "m", ANSWER)
    await cache.aupdate("p", "m", ANSWER)
    assert cache.lookup("p", "m") is None
    assert warnings(caplog) == [f"answers of models cannot be cached for now: {error}"]
    backend.writing = None
    cache.update("p", "m", ANSWER)
    backend.writing = error
    await cache.aupdate("q", "m", ANSWER)
    assert (cache.lookup("p", "m"), len(warnings(caplog))) == (ANSWER, 2)


async def test_a_store_that_is_away_has_nothing(
    store: Memstore, backend: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    double, cache = store.kv().cached(name="double")(lambda x: 2 * x), store.cache()

    async def triple(x: int) -> int:
        return 3 * x

    atriple = store.kv().cached(name="triple")(triple)
    backend.reading = backend.writing = BackendUnavailable("away")
    assert [double(1), double(1), await atriple(1), await atriple(1)] == [2, 2, 3, 3]
    assert cache.lookup("p", "m") is None and await cache.alookup("p", "m") is None
    assert len(warnings(caplog)) == 3
    with pytest.raises(BackendUnavailable):
        cache.clear()
    with pytest.raises(BackendUnavailable):
        double.cache_clear()


@pytest.mark.parametrize("error", [BackendDenied("no rights"), BackendError("of another type")])
async def test_a_store_that_refuses_to_be_read_raises_before_the_work(
    store: Memstore, backend: Failing, error: BackendError
) -> None:
    worked: list[Any] = []
    work, cache = store.kv().cached(name="work")(worked.append), store.cache()
    backend.reading = error
    with pytest.raises(type(error)):
        work(1)
    with pytest.raises(type(error)):
        await cache.alookup("p", "m")
    assert worked == []


def test_those_who_wait_get_a_result_that_cannot_be_kept(store: Memstore, backend: Failing) -> None:
    backend.writing = BackendFull("out of memory")
    computed, go_on = [], threading.Event()

    @store.kv().cached(name="slow")
    def slow() -> int:
        computed.append(1)
        go_on.wait(10)
        return 7

    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(slow) for _ in range(4)]
        wait_until(lambda: len(computed) > 0)
        go_on.set()
        assert [each.result(10) for each in calls] == [7] * 4
