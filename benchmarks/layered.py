"""A turn (a read of 50, an append of 2) done at each layer of its own accord: from the bare socket up to the history.

All layers do the same operations: what one takes more than the one below is what the layer costs.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import hiredis
import redis
import redis.asyncio
from langchain_core.messages import BaseMessage

from benchmarks.contenders import TTL
from benchmarks.messages import conversation, pairs
from langchain_memstore import Memstore, codec
from langchain_memstore.codec.session import decode_entries

WINDOW = 50
LAYERS = ("ping", "socket", "backend", "fallback", "history")
"""Each on top of the one before."""
CODEC = "codec"
"""Within the history."""
CONNECTION, CLIENT = "redis-py's connection", "redis-py's client"
"""What the backend does the work of."""
OPERATIONS = ("read", "append")
OF_THEIR_OWN = ("ping", "history", CODEC)
"""Who takes none of the operations that are prepared: each append has a number, and the server keeps what it misses."""

_PING = b"*1\r\n$4\r\nPING\r\n"
_POOL: dict[str, Any] = {"timeout": None, "socket_timeout": 5.0, "health_check_interval": 30}
"""As the store has it."""


@dataclass(frozen=True)
class Step:
    """One operation, as each layer takes it."""

    batch: Sequence[BaseMessage]
    op: Any = None
    commands: Sequence[Sequence[Any]] = ()
    packed: bytes = b""


class Talk:
    """Two equal conversations on a server, one of which nothing is appended to, and the steps of a turn.

    Args:
        url: The server.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.store = Memstore.from_url(url, ttl=TTL)
        self.bare = Memstore.from_url(url, ttl=TTL, fallback=False)
        self.history, self.still = (
            self.store.history(session_id, max_messages=WINDOW) for session_id in ("layers", "layers-still")
        )
        self.entries = list(codec.encode(conversation(WINDOW)))
        self._pairs = pairs()
        self._packer = redis.Connection()

    def fill(self) -> None:
        """Put messages there, and have the server know the script."""
        with Memstore.from_url(self.url, ttl=TTL, fallback=False) as store:
            for history in (self.history, self.still):
                store.history(history.session_id, max_messages=WINDOW).add_messages(conversation(WINDOW))

    def prepare(self, layer: str) -> tuple[Step, Step]:
        """Make the steps of one turn for a layer; an append has an id of its own, else it would be a repetition."""
        batch = next(self._pairs)
        if layer in OF_THEIR_OWN:
            return Step(batch), Step(batch)
        read, append = self.history._read(), self.history._append(codec.encode(batch))
        append.finish()  # no layer sends it again
        reads = [("MULTI",), *read.commands(), ("EXEC",)]
        still = [("MULTI",), *self.still._read().commands(), ("EXEC",)]
        call = [("EVALSHA", append.script.sha, *append.arguments())]
        return Step(batch, read, reads, self._packed(still)), Step(batch, append, call, self._packed(call))

    def length(self) -> int:
        """Return how many bytes answer a read of the conversation that stays as it is."""
        read, _ = self.prepare("socket")
        parser, length, answers = hiredis.Reader(), 0, 0
        with socket.create_connection(address(self.url), 5) as line:
            line.sendall(read.packed)
            while answers < len(read.commands):
                received = line.recv(65_536)
                length += len(received)
                parser.feed(received)
                while parser.gets() is not False:
                    answers += 1
        return length

    def decode(self, step: Step) -> None:
        decode_entries(self.entries, "layers", "skip")

    def encode(self, step: Step) -> None:
        codec.encode(step.batch)

    def _packed(self, commands: Sequence[Sequence[Any]]) -> bytes:
        return b"".join(self._packer.pack_commands(commands))


def address(url: str) -> tuple[str | None, int | None]:
    return urlsplit(url).hostname, urlsplit(url).port


Does = tuple[Callable[[Step], Any], Callable[[Step], Any]]
ADoes = tuple[Callable[[Step], Awaitable[Any]], Callable[[Step], Awaitable[Any]]]
"""How a layer reads, and how it appends."""


def sync_layers(url: str) -> tuple[Talk, dict[str, Does]]:
    """Return conversations, and what each layer does."""
    talk = Talk(url)
    talk.fill()
    length = talk.length()
    line = socket.create_connection(address(url))
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    pool = redis.BlockingConnectionPool.from_url(url, **_POOL)
    client = redis.Redis.from_url(url)

    def round_trip(packed: bytes, length: int) -> None:
        line.sendall(packed)
        while length > 0:
            length -= len(line.recv(65_536))

    def through_connection(step: Step) -> None:
        connection = pool.get_connection()
        connection.send_packed_command(connection.pack_commands(step.commands))
        for _ in step.commands:
            connection.read_response(disable_decoding=True)
        pool.release(connection)

    def through_pipeline(step: Step) -> None:
        pipeline = client.pipeline()
        for command in step.commands[1:-1]:
            pipeline.execute_command(*command)
        pipeline.execute()

    def ping(step: Step) -> None:
        round_trip(_PING, 1)

    def bare(step: Step) -> None:
        talk.bare._backend.execute(step.op)

    def fallback(step: Step) -> None:
        talk.store._backend.execute(step.op)

    return talk, {
        "ping": (ping, ping),
        "socket": (lambda step: round_trip(step.packed, length), lambda step: round_trip(step.packed, 1)),
        CONNECTION: (through_connection, through_connection),
        "backend": (bare, bare),
        "fallback": (fallback, fallback),
        "history": (lambda step: talk.history.messages, lambda step: talk.history.add_messages(step.batch)),
        CODEC: (talk.decode, talk.encode),
        CLIENT: (through_pipeline, lambda step: client.evalsha(*step.commands[0][1:])),
    }


async def async_layers(url: str) -> tuple[Talk, dict[str, ADoes]]:
    """Return conversations, and what each layer does; the async variant of `sync_layers`."""
    talk = Talk(url)
    talk.fill()
    length = talk.length()
    reader, writer = await asyncio.open_connection(*address(url))
    pool = redis.asyncio.BlockingConnectionPool.from_url(url, **_POOL)
    client = redis.asyncio.Redis.from_url(url)

    async def round_trip(packed: bytes, length: int) -> None:
        writer.write(packed)
        while length > 0:
            length -= len(await reader.read(65_536))

    async def through_connection(step: Step) -> None:
        connection = await pool.get_connection()
        await connection.send_packed_command(connection.pack_commands(step.commands))
        for _ in step.commands:
            await connection.read_response(disable_decoding=True)
        await pool.release(connection)

    async def through_pipeline(step: Step) -> None:
        pipeline = client.pipeline()
        for command in step.commands[1:-1]:
            pipeline.execute_command(*command)
        await pipeline.execute()

    async def ping(step: Step) -> None:
        await round_trip(_PING, 1)

    async def bare(step: Step) -> None:
        await talk.bare._backend.aexecute(step.op)

    async def fallback(step: Step) -> None:
        await talk.store._backend.aexecute(step.op)

    async def decode(step: Step) -> None:
        talk.decode(step)

    async def encode(step: Step) -> None:
        talk.encode(step)

    return talk, {
        "ping": (ping, ping),
        "socket": (lambda step: round_trip(step.packed, length), lambda step: round_trip(step.packed, 1)),
        CONNECTION: (through_connection, through_connection),
        "backend": (bare, bare),
        "fallback": (fallback, fallback),
        "history": (lambda step: talk.history.aget_messages(), lambda step: talk.history.aadd_messages(step.batch)),
        CODEC: (decode, encode),
        CLIENT: (through_pipeline, lambda step: client.evalsha(*step.commands[0][1:])),
    }
