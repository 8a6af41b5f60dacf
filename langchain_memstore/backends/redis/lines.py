"""Connections of our own: redis-py's, which say why they fail where the configuration is to blame."""

from __future__ import annotations

import asyncio
import functools
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis.asyncio.connection as aio
import redis.connection as sync
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError
from typing_extensions import override

from langchain_memstore.backends.redis.tls import Tls, TlsFailed, explain, probe

FAILURES = (RedisConnectionError, RedisTimeoutError, InvalidResponse)


class Line:
    """What the connections to one server share: how they use TLS, and whether one of them was ever made.

    Args:
        tls: How they use TLS; None: not at all.
    """

    def __init__(self, tls: Tls | None) -> None:
        self.tls = tls
        self.has_connected = False

    def explained(self, error: Exception, host: str, port: int) -> TlsFailed | None:
        """Return the error to raise for a connection that failed, where the configuration is to blame."""
        told = _told(error)
        if told is None and self._is_unclear(error):
            told = probe(host, port, self.tls)
        return None if told is None else TlsFailed(told)

    async def aexplained(self, error: Exception, host: str, port: int) -> TlsFailed | None:
        """Return the error to raise for a connection that failed; the async variant of `explained`."""
        told = _told(error)
        if told is None and self._is_unclear(error):
            executor = ThreadPoolExecutor(1)  # that of the loop may be busy
            probing = functools.partial(probe, host, port, self.tls)
            try:
                told = await asyncio.get_running_loop().run_in_executor(executor, probing)
            finally:
                executor.shutdown(wait=False)
        return None if told is None else TlsFailed(told)

    def _is_unclear(self, error: Exception) -> bool:
        """Tell whether the server may speak another protocol.

        Where TLS is expected a plain server waits for more of what it takes for a command; the other way round the
        server hangs up.
        """
        return (
            not self.has_connected
            and type(error) in FAILURES
            and not (self.tls is None and isinstance(error, RedisTimeoutError))
            and not isinstance(error.__context__, (ConnectionRefusedError, socket.gaierror))
        )


def _told(error: Exception) -> str | None:
    """Return what an error itself says of the configuration."""
    for each in (error, error.__cause__):
        if isinstance(each, TlsFailed):
            return str(each)
    cause = error.__context__  # redis-py's errors quote it; what they do not quote is an error that the caller handles
    return explain(cause) if str(getattr(cause, "reason", None)) in str(error) else None


class Explained:
    """What a connection does beside what redis-py has it do."""

    host: str
    port: int

    def __init__(self, *, line: Line, **options: Any) -> None:
        super().__init__(**options)
        self.line = line

    def connect(self) -> None:
        """Connect, and log in."""
        try:
            super().connect()  # type: ignore[misc]  # redis-py's
        except FAILURES as error:
            if (told := self.line.explained(error, self.host, self.port)) is None:
                raise
            raise told from error
        self.line.has_connected = True


class PlainConnection(Explained, sync.Connection):
    """A connection for threads."""


class TlsConnection(Explained, sync.SSLConnection):
    """A connection for threads over TLS."""

    @override
    def _connect(self) -> Any:  # which every kind of connection has; without ours redis-py's own TLS would be used
        context = self.line.tls.get()  # type: ignore[union-attr]
        plain = sync.Connection._connect(self)  # type: ignore[no-untyped-call]
        try:
            return context.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise


class AsyncExplained:
    """What a connection does beside what redis-py has it do; the async variant of `Explained`."""

    host: str
    port: int

    def __init__(self, *, line: Line, **options: Any) -> None:
        super().__init__(**options)
        self.line = line

    async def connect(self) -> None:
        """Connect, and log in."""
        try:
            await super().connect()  # type: ignore[misc]  # redis-py's
        except FAILURES as error:
            if (told := await self.line.aexplained(error, self.host, self.port)) is None:
                raise
            raise told from error
        self.line.has_connected = True


class AsyncPlainConnection(AsyncExplained, aio.Connection):
    """A connection for an event loop."""


class AsyncTlsConnection(AsyncExplained, aio.SSLConnection):
    """A connection for an event loop over TLS."""

    def __init__(self, *, line: Line, **options: Any) -> None:
        super().__init__(line=line, **options)
        self.ssl_context: Any = line.tls  # which makes the context in place of redis-py's


OWN_CONNECTIONS = ((PlainConnection, AsyncPlainConnection), (TlsConnection, AsyncTlsConnection))
"""By whether they use TLS, and are for an event loop."""
