"""A read of 50 and an append of 2, done at each layer of their own accord: from the bare socket up to the history.

All layers do the same operation: what one takes more than the one below is what the layer costs.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import hiredis
import redis
import redis.asyncio
from langchain_core.messages import BaseMessage

from benchmarks.contenders import TTL
from benchmarks.messages import conversation, pairs
from langchain_memstore import Memstore, codec

WINDOW = 50
LAYERS = ("ping", "socket", "redis-py", "backend", "fallback", "history")
"""Each on top of the one before."""
BESIDE = ("codec", "redis-py's client")
"""The codec is within the history; redis-py's client is what the history does without."""
OPERATIONS = ("read", "append")

_PING = b"*1\r\n$4\r\nPING\r\n"
_POOL: dict[str, Any] = {
    "timeout": None,
    "socket_timeout": 5.0,
    "socket_connect_timeout": 5.0,
    "health_check_interval": 30,
}
"""As the store has it."""


@dataclass(frozen=True)
class Prepared:
    """One operation, as each layer takes it."""

    op: Any
    commands: Sequence[Sequence[Any]]
    packed: bytes
    batch: Sequence[BaseMessage]


class Conversation:
    """A conversation on a server, and the operations on it.

    Args:
        url: The server.
        operation: `read` or `append`.
    """

    _numbers = count()

    def __init__(self, url: str, operation: str) -> None:
        self.url, self.operation = url, operation
        self.store = Memstore.from_url(url, ttl=TTL)
        self.bare = Memstore.from_url(url, ttl=TTL, fallback=False)
        session_id = f"layers-{operation}-{next(self._numbers)}"
        self.history = self.store.history(session_id, max_messages=WINDOW)
        self.entries = list(codec.encode(conversation(WINDOW)))
        self._pairs = pairs()
        self._packer = redis.Connection()

    def fill(self) -> None:
        """Put messages there, and have the server know the script."""
        with Memstore.from_url(self.url, ttl=TTL, fallback=False) as store:
            store.history(self.history.session_id, max_messages=WINDOW).add_messages(conversation(WINDOW))

    def prepare(self) -> Prepared:
        batch = next(self._pairs)
        if self.operation == "read":
            op: Any = self.history._read()
            commands = [("MULTI",), *op.commands(), ("EXEC",)]
        else:
            op = self.history._append(codec.encode(batch))  # with an id of its own, else it would be a repetition
            commands = [("EVALSHA", op.script.sha, *op.arguments())]
        return Prepared(op, commands, b"".join(self._packer.pack_commands(commands)), batch)

    def codec(self, prepared: Prepared) -> Any:
        """Do what the codec does for the operation."""
        if self.operation == "read":
            return codec.decode_entries(self.entries, self.history.session_id, "skip")
        return codec.encode(prepared.batch)


def sync_layers(url: str, operation: str) -> tuple[Conversation, dict[str, Callable[[Prepared], Any]]]:
    """Return a conversation, and its operation as each layer does it."""
    talk = Conversation(url, operation)
    talk.fill()
    line = socket.create_connection((urlsplit(url).hostname, urlsplit(url).port))
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    pool = redis.BlockingConnectionPool.from_url(url, **_POOL)
    client = redis.Redis.from_url(url)
    expected = _length(url, talk)

    def exchange(packed: bytes, length: int) -> None:
        line.sendall(packed)
        while length > 0:
            length -= len(line.recv(65_536))

    def through_connection(prepared: Prepared) -> None:
        connection = pool.get_connection()
        connection.send_packed_command(connection.pack_commands(prepared.commands))
        for _ in prepared.commands:
            connection.read_response(disable_decoding=True)
        pool.release(connection)

    def through_client(prepared: Prepared) -> None:
        if operation == "append":
            client.evalsha(*prepared.commands[0][1:])
            return
        pipeline = client.pipeline()
        for command in prepared.commands[1:-1]:
            pipeline.execute_command(*command)
        pipeline.execute()

    return talk, {
        "ping": lambda prepared: exchange(_PING, 1),
        "socket": lambda prepared: exchange(prepared.packed, expected),
        "redis-py": through_connection,
        "backend": lambda prepared: talk.bare._backend.execute(prepared.op),
        "fallback": lambda prepared: talk.store._backend.execute(prepared.op),
        "history": (
            (lambda prepared: talk.history.messages)
            if operation == "read"
            else (lambda prepared: talk.history.add_messages(prepared.batch))
        ),
        "codec": talk.codec,
        "redis-py's client": through_client,
    }


async def async_layers(
    url: str, operation: str
) -> tuple[Conversation, dict[str, Callable[[Prepared], Awaitable[Any]]]]:
    """Return a conversation, and its operation as each layer does it; the async face of `sync_layers`."""
    talk = Conversation(url, operation)
    talk.fill()
    reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
    pool = redis.asyncio.BlockingConnectionPool.from_url(url, **_POOL)
    client = redis.asyncio.Redis.from_url(url)
    expected = _length(url, talk)

    async def exchange(packed: bytes, length: int) -> None:
        writer.write(packed)
        while length > 0:
            length -= len(await reader.read(65_536))

    async def through_connection(prepared: Prepared) -> None:
        connection = await pool.get_connection()
        await connection.send_packed_command(connection.pack_commands(prepared.commands))
        for _ in prepared.commands:
            await connection.read_response(disable_decoding=True)
        await pool.release(connection)

    async def through_client(prepared: Prepared) -> None:
        if operation == "append":
            await client.evalsha(*prepared.commands[0][1:])
            return
        pipeline = client.pipeline()
        for command in prepared.commands[1:-1]:
            pipeline.execute_command(*command)
        await pipeline.execute()

    async def codec_alone(prepared: Prepared) -> None:
        talk.codec(prepared)

    return talk, {
        "ping": lambda prepared: exchange(_PING, 1),
        "socket": lambda prepared: exchange(prepared.packed, expected),
        "redis-py": through_connection,
        "backend": lambda prepared: talk.bare._backend.aexecute(prepared.op),
        "fallback": lambda prepared: talk.store._backend.aexecute(prepared.op),
        "history": (
            (lambda prepared: talk.history.aget_messages())
            if operation == "read"
            else (lambda prepared: talk.history.aadd_messages(prepared.batch))
        ),
        "codec": codec_alone,
        "redis-py's client": through_client,
    }


def _length(url: str, talk: Conversation) -> int:
    """Return how many bytes answer an operation: of a read, all; of an append, whose answer comes at once, one."""
    if talk.operation == "append":
        return 1
    parser, length = hiredis.Reader(), 0
    prepared = talk.prepare()
    with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), 5) as line:
        line.sendall(prepared.packed)
        answers = 0
        while answers < len(prepared.commands):
            received = line.recv(65_536)
            length += len(received)
            parser.feed(received)
            while parser.gets() is not False:
                answers += 1
    return length
