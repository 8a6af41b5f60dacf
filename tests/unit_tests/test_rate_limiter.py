"""The rate limiter inside the process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.rate_limiters import BaseRateLimiter

from langchain_memstore import Memstore
from support.clock import Clock


async def test_a_moving_window(store: Memstore, clock: Clock) -> None:
    limiter = store.rate_limiter(3, 10)
    assert isinstance(limiter, BaseRateLimiter)
    assert (limiter.hit(), limiter.remaining()) == (True, 2)
    clock.now += 5
    assert [limiter.hit(), await limiter.ahit(), limiter.hit(), limiter.acquire(blocking=False)] == [
        True,
        True,
        False,
        False,
    ]
    assert (limiter.remaining(), await limiter.aremaining()) == (0, 0)
    clock.now += 5
    assert not await limiter.aacquire(blocking=False)
    clock.now += 0.001
    assert [limiter.remaining(), limiter.hit(), limiter.hit()] == [1, True, False]
    clock.now += 100
    assert limiter.remaining() == 3


def test_limiters_of_one_key_are_one(store: Memstore) -> None:
    limits: list[dict[str, Any]] = [{}, {"key": "other"}, {"key": "default/1"}, {"per": 2}, {"requests": 2}]
    for each in limits:
        assert store.rate_limiter(**{"requests": 1, "per": 1, **each}).hit()
    assert not store.rate_limiter(1, timedelta(seconds=1)).hit()
    assert not store.rate_limiter(1, 1.0, key="other").hit()
    assert Memstore(store._backend, key_prefix="tenant").rate_limiter(1, 1).hit()


def test_waits_until_there_is_room() -> None:
    limiter = Memstore.from_url("memory://").rate_limiter(2, 1)
    started = time.monotonic()
    assert [limiter.acquire() for _ in range(3)] == [True] * 3
    assert 0.99 < time.monotonic() - started < 2


async def test_tasks_wait_until_there_is_room() -> None:
    limiter = Memstore.from_url("memory://").rate_limiter(5, 1)
    started, passed = time.monotonic(), []

    async def ask() -> None:
        assert await limiter.aacquire()
        passed.append(time.monotonic() - started)

    await asyncio.gather(*(ask() for _ in range(10)))
    assert passed[4] < 0.5 < 0.99 < passed[5] and passed[9] < 2


def test_threads_pass_no_more_than_that() -> None:
    limiter = Memstore.from_url("memory://").rate_limiter(100, 3600)
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: limiter.hit(), range(400))) == 100


def test_a_chat_model_takes_it(store: Memstore) -> None:
    limiter = store.rate_limiter(2, 60)
    model = GenericFakeChatModel(messages=iter([AIMessage("one"), AIMessage("two")]), rate_limiter=limiter)
    assert [model.invoke("hi").text, model.invoke("hi").text] == ["one", "two"]
    assert limiter.remaining() == 0


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("requests must be at least 1", {"requests": 0}),
        ("per must be a whole number of seconds, at least 1, not 0.5", {"per": 0.5}),
        ("per must be", {"per": 0}),
        ("per must be", {"per": True}),
        ("key must be", {"key": ""}),
        ("on_outage must be", {"on_outage": None}),
    ],
)
def test_bad_arguments(store: Memstore, message: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        store.rate_limiter(**{"requests": 1, "per": 1, **arguments})
    assert repr(store.rate_limiter(3, 60, "api")) == "RateLimiter(3 per 60 second, key='api')"


def test_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['limits'] = None; sys.modules['fakeredis'] = None\n"
        "from langchain_memstore import Memstore\n"
        "from langchain_memstore.kv import local_redis\n"
        "for make in (lambda: Memstore.from_url('memory://').rate_limiter(1, 1), local_redis):\n"
        "    try: make()\n"
        "    except ImportError as error: print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.splitlines() == [
        "a rate limiter needs limits: pip install 'langchain-memstore[limits]'",
        "local_redis needs fakeredis: pip install 'langchain-memstore[local-redis]'",
    ]
