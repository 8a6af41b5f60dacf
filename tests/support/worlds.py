"""Where the sessions of a test are kept, inside the process or on a server, and how time passes there."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

import pytest
import redis
from langchain_core.messages import BaseMessage

from langchain_memstore import Memstore
from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.backends.redis.backend import RedisBackend
from langchain_memstore.backends.redis.connections import Connections
from support.servers import Server

DAY, LEASE = 86_400, 60  # seconds: the defaults

PASS_TIME = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left >= 0 then redis.call('PEXPIRE', key, left - ARGV[1]) end
end
"""


class LocalWorld:
    """Where sessions are kept: inside the process."""

    def __init__(self) -> None:
        self._now = time.time()
        self._backend = LocalBackend(clock=lambda: self._now)

    def backend(self) -> Backend:
        """Return a backend as one more process would have it."""
        return self._backend

    def store(self, **options: Any) -> Memstore:
        """Return a store as one more process would have it."""
        return Memstore(self.backend(), **{"summarize_every": 1, "max_messages": 2, **options})

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds

    def session_ids(self) -> list[str]:
        """List what is stored."""
        return [info.session_id for info in self.store().sessions()]

    async def aclose(self) -> None:
        """Let go of the connections."""


class RedisWorld(LocalWorld):
    """Where sessions are kept: on a server."""

    def __init__(self, server: Server, admin: redis.Redis) -> None:
        self._server = server
        self._admin = admin
        self._backends: list[Backend] = []

    def backend(self) -> Backend:
        self._backends.append(RedisBackend(Connections.of_url(self._server.url)))
        return self._backends[-1]

    def pass_time(self, seconds: float) -> None:
        self._admin.eval(PASS_TIME, 0, int(seconds * 1000))

    def session_ids(self) -> list[str]:
        return [key.decode() for key in self._admin.scan_iter()]

    async def aclose(self) -> None:
        for backend in self._backends:
            await backend.aclose()


def listing(previous: str, messages: list[BaseMessage]) -> str:
    """A summarizer whose summaries list the messages that they cover."""
    return " ".join([*previous.split(), *(message.text for message in messages)])


def forking(test: Any) -> Any:
    """Mark a test that forks, so that its processes start at once; none of the threads here works then."""
    test = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")(test)
    forks = "fork" in multiprocessing.get_all_start_methods()
    return pytest.mark.skipif(not forks, reason="there is no fork")(test)
