"""A Redis inside the process, for code that wants a `redis.asyncio.Redis` and no server."""

from __future__ import annotations

import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

from langchain_memstore.keys import check_name

if TYPE_CHECKING:
    from redis.asyncio import Redis

_servers: dict[str, Any] = {}
_servers_lock = threading.Lock()


def local_redis(name: str = "default", **options: Any) -> Redis:
    """Return a client of a Redis inside the process, which does what `redis.asyncio.Redis` does, scripts included.

    Args:
        name: Which Redis; the clients of one name share its data, for as long as the process lives.
        **options: What `redis.asyncio.Redis` takes, such as `decode_responses=True`.

    Raises:
        ValueError: The name is not a non-empty text.
        ImportError: There is no fakeredis.
    """
    check_name("name", name)
    try:
        import_module("lupa")  # which runs the scripts
        from fakeredis import FakeAsyncRedis, FakeServer
    except ImportError as error:
        raise ImportError("local_redis needs fakeredis: pip install 'langchain-memstore[local-redis]'") from error
    with _servers_lock:
        server = _servers.setdefault(name, FakeServer())
    return FakeAsyncRedis(server=server, **options)
