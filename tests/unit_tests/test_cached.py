"""Functions whose results are kept."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from langchain_memstore import Memstore, ValueEncodeError
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.kv import CacheInfo, KeyValueStore


def test_computes_once(kv: KeyValueStore) -> None:
    calls: list[Any] = []

    @kv.cached(ttl=300)
    def price(item: str, *, currency: str = "EUR") -> float | None:
        """Ask the price."""
        calls.append((item, currency))
        return None if item == "air" else 1.5

    assert [price("tea"), price("tea", currency="EUR"), price(item="tea"), price("tea", currency="USD")] == [1.5] * 4
    assert [price("air"), price("air")] == [None, None]
    assert calls == [("tea", "EUR"), ("tea", "USD"), ("air", "EUR")]
    assert price.cache_info() == CacheInfo(hits=3, misses=3)
    assert (price.__name__, price.__doc__) == ("price", "Ask the price.")
    assert all(290 < (kv.ttl(key) or 0) <= 300 for key in kv.yield_keys())
    assert price.invalidate("tea") and not price.invalidate(item="tea")
    price("tea")
    assert len(calls) == 4
    assert price.cache_clear() == 3
    assert kv.keys() == []


async def test_computes_once_async(kv: KeyValueStore) -> None:
    calls = []

    @kv.cached(ttl=None)
    async def length(text: str) -> int:
        calls.append(text)
        await asyncio.sleep(0)
        return len(text)

    assert inspect.iscoroutinefunction(length)
    assert [await length("abc"), await length(text="abc")] == [3, 3]
    assert calls == ["abc"]
    assert [kv.ttl(key) for key in kv.yield_keys()] == [None]
    assert await length.ainvalidate("abc") and not await length.ainvalidate("abc")
    assert await length("abc") == 3 and await length.acache_clear() == 1
    assert length.cache_info() == CacheInfo(hits=1, misses=2)


def test_results_are_shared_by_what_runs_the_same_code() -> None:
    backend = LocalBackend()

    def double(x: int) -> int:
        return 2 * x

    first, second = (Memstore(backend).kv().cached()(double) for _ in range(2))
    assert (first(2), second(2)) == (4, 4)
    assert (first.cache_info().misses, second.cache_info().misses) == (1, 0)


EQUAL = [({"a": 1, "b": 2}, {"b": 2, "a": 1}), ({1, 2, 30}, {30, 2, 1}), ({1: 2, 3: 4}, {3: 4, 1: 2})]
UNEQUAL = [1, True, 1.0, "1", b"1", [1], (1,), {1}, frozenset({1}), {"1": 1}, {1: 1}, None, "None", 2**70]


def test_equal_arguments_are_one_call_and_others_are_not(kv: KeyValueStore) -> None:
    @kv.cached()
    def same(x: Any) -> Any:
        return [repr(type(x))]

    for one, other in EQUAL:
        assert same(one) == same(other)
    assert same.cache_info() == CacheInfo(hits=3, misses=3)
    same.cache_clear()
    for value in UNEQUAL:
        same(value)
    assert same.cache_info() == CacheInfo(hits=3, misses=3 + len(UNEQUAL))
    assert [same(value) for value in UNEQUAL] == [[repr(type(value))] for value in UNEQUAL]


def test_the_order_of_sets_and_dicts_does_not_matter_deep_down(kv: KeyValueStore) -> None:
    @kv.cached()
    def same(*xs: Any, **more: Any) -> int:
        return 1

    same([{frozenset({"a", "b"}), frozenset({"c"})}], z={"k": {2: 1, 1: 2}}, a=1)
    same([{frozenset({"c"}), frozenset({"b", "a"})}], a=1, z={"k": {1: 2, 2: 1}})
    assert same.cache_info().hits == 1


def test_arguments_that_cannot_be_told_apart_are_refused(kv: KeyValueStore) -> None:
    @kv.cached()
    def size(thing: object) -> int:
        return 1

    with pytest.raises(ValueEncodeError, match=r"size cannot be told from others: 'thing' is of builtins.object.*key="):
        size(object())
    with pytest.raises(TypeError, match="missing a required argument"):
        size()  # type: ignore[call-arg]


class Account:
    def __init__(self, number: int) -> None:
        self.number = number


def test_methods(kv: KeyValueStore) -> None:
    class Bank:
        def __init__(self, country: str) -> None:
            self.country = country

        @kv.cached()
        def plain(self, x: int) -> str:
            return f"{self.country} {x}"

        @kv.cached(key=lambda self, x: (self.country, x))
        def keyed(self, x: int) -> str:
            return f"{self.country} {x}"

        @staticmethod
        @kv.cached()
        def static(x: int) -> int:
            return x

    with pytest.raises(ValueEncodeError, match=r"'self' is of .*Bank.*pass key="):
        Bank("pt").plain(1)
    assert [Bank("pt").keyed(1), Bank("de").keyed(1), Bank("pt").keyed(1)] == ["pt 1", "de 1", "pt 1"]
    assert Bank.keyed.cache_info() == CacheInfo(hits=1, misses=2)
    assert Bank.keyed.invalidate(Bank("pt"), 1)
    assert (Bank.static(1), Bank.static(1)) == (1, 1)
    with pytest.raises(ValueEncodeError, match=r"'key' is of .*Account"):
        kv.cached(key=lambda account: account, name="f")(lambda account: 1)(Account(1))


def test_lambdas_need_a_name(kv: KeyValueStore) -> None:
    with pytest.raises(ValueError, match="name must be given"):
        kv.cached()(lambda x: x)
    assert kv.cached(name="same")(lambda x: x)(7) == 7
    assert kv.keys()[0].startswith("same/")
    with pytest.raises(ValueError, match="ttl must be"):
        kv.cached(ttl=0)


def test_what_raises_is_not_kept(kv: KeyValueStore) -> None:
    answers = iter([ValueError("no"), 7])

    @kv.cached()
    def ask() -> int:
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    with pytest.raises(ValueError, match="no"):
        ask()
    assert (ask(), ask()) == (7, 7)


def test_a_result_that_cannot_be_kept_is_told(kv: KeyValueStore) -> None:
    with pytest.raises(ValueEncodeError, match=r"the result 'f/.*is of builtins.object"):
        kv.cached(name="f")(lambda: object())()


def test_a_result_that_cannot_be_read_is_computed_anew(kv: KeyValueStore) -> None:
    @kv.cached(name="f")
    def f() -> int:
        return 1

    f()
    value = kv._backend._state.values.find(f"conversation:kv:{{{kv.keys()[0]}}}")  # type: ignore[attr-defined]
    value.data = b"{"
    assert (f(), f()) == (1, 1)
    assert f.cache_info() == CacheInfo(hits=1, misses=2)


async def test_a_result_that_cannot_be_read_is_nobodys(kv: KeyValueStore) -> None:
    @kv.cached(name="f")
    async def f() -> int:
        await asyncio.sleep(0.02)
        return 1

    await f()
    value = kv._backend._state.values.find(f"conversation:kv:{{{kv.keys()[0]}}}")  # type: ignore[attr-defined]
    value.data = b"{"
    first, second = asyncio.create_task(f()), asyncio.create_task(f())
    await asyncio.sleep(0.005)
    first.cancel()
    assert await second == 1


def test_callers_do_not_share_what_they_may_change(kv: KeyValueStore) -> None:
    @kv.cached()
    def items() -> list[int]:
        return [1]

    items().append(2)
    items().append(3)
    assert items() == [1]


def test_threads_that_miss_at_once_compute_once(kv: KeyValueStore) -> None:
    started, calls = threading.Barrier(8), []

    @kv.cached()
    def slow(x: int) -> list[int]:
        calls.append(x)
        time.sleep(0.05)
        return [x]

    def call(_: int) -> list[int]:
        started.wait(5)
        return slow(1)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(call, range(8)))
    assert results == [[1]] * 8 and calls == [1]
    assert len({id(result) for result in results}) == 8
    assert slow.cache_info() == CacheInfo(hits=7, misses=1)


def test_threads_that_miss_at_once_hear_of_the_error(kv: KeyValueStore) -> None:
    started, calls = threading.Barrier(4), []

    @kv.cached()
    def slow() -> None:
        calls.append(1)
        time.sleep(0.1)
        raise ValueError("no")

    def call(_: int) -> str:
        started.wait(5)
        try:
            slow()
        except ValueError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(call, range(4))) == ["no"] * 4
    assert calls == [1]


async def test_tasks_that_miss_at_once_compute_once(kv: KeyValueStore) -> None:
    calls = []

    @kv.cached()
    async def slow(x: int) -> int:
        calls.append(x)
        await asyncio.sleep(0.01)
        return x

    assert await asyncio.gather(*(slow(number % 2) for number in range(20))) == [0, 1] * 10
    assert sorted(calls) == [0, 1]


async def test_a_cancelled_computation_is_taken_over(kv: KeyValueStore) -> None:
    calls = []

    @kv.cached()
    async def slow() -> int:
        calls.append(1)
        await asyncio.sleep(0.02)
        return len(calls)

    tasks = [asyncio.create_task(slow()) for _ in range(4)]
    await asyncio.sleep(0.005)
    tasks[0].cancel()
    tasks[2].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError, int, asyncio.CancelledError, int]
    assert results[1] == results[3] == len(calls) == 2


async def test_tasks_that_miss_at_once_hear_of_the_error(kv: KeyValueStore) -> None:
    @kv.cached()
    async def slow() -> None:
        await asyncio.sleep(0.01)
        raise ValueError("no")

    results = await asyncio.gather(*(slow() for _ in range(3)), return_exceptions=True)
    assert [str(result) for result in results] == ["no"] * 3


def test_one_function_serves_several_event_loops(kv: KeyValueStore) -> None:
    calls = []

    @kv.cached()
    async def slow() -> int:
        calls.append(1)
        await asyncio.sleep(0.01)
        return 7

    assert [asyncio.run(slow()) for _ in range(3)] == [7, 7, 7]
    assert calls == [1]


def test_a_call_that_was_interrupted_holds_nobody_up(kv: KeyValueStore) -> None:
    answers = iter([KeyboardInterrupt(), 7])

    @kv.cached()
    def ask() -> int:
        if isinstance(answer := next(answers), BaseException):
            raise answer
        return answer

    with pytest.raises(KeyboardInterrupt):
        ask()
    assert ask() == 7
