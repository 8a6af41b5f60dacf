"""What a server holds."""

from __future__ import annotations

from typing import Any

import redis

from langchain_memstore import codec
from support.servers import Server


def held(server: Server, session_id: str) -> list[str]:
    """Return what the messages say that the server holds of a session."""
    with server.admin() as admin:
        return [codec.decode(entry).text for entry in admin.lrange(f"conversation:messages:{{{session_id}}}", 0, -1)]


def total(server: Server, session_id: str) -> int:
    """Return how many messages were ever appended to a session on the server."""
    with server.admin() as admin:
        return int(admin.hget(f"conversation:meta:{{{session_id}}}", "total"))


def everything(admin: redis.Redis) -> dict[bytes, Any]:
    """Return all that a server holds, by key."""
    read = {b"list": lambda key: admin.lrange(key, 0, -1), b"hash": admin.hgetall, b"string": admin.get}
    return {key: read.get(admin.type(key), admin.dump)(key) for key in admin.scan_iter()}
