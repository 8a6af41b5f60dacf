"""Requests to a server, as steps that both variants share, and what is found out where one gets lost."""

from __future__ import annotations

from typing import Any, NamedTuple

from langchain_memstore.backends.redis.connections import Connections
from langchain_memstore.backends.redis.limits import ConnectionCut, OperationCut, ScriptsCut
from langchain_memstore.backends.redis.protocol import packed
from langchain_memstore.backends.steps import Steps
from langchain_memstore.ops.base import Command

LOSSES = 3  # of a connection over which an operation was sent, while the server answered before and after


class Request(NamedTuple):
    """A step: commands that are sent over one connection to a server."""

    connections: Connections
    commands: list[Command]
    until: float
    """When to give up, by the monotonic clock."""
    alone: bool = False
    """Whether nothing else is to go over the same connection at the same time."""

    def run(self) -> list[Any]:
        """Send them, and return the answers."""
        return self.connections.thread_pool().request(self.commands, self.until)

    async def arun(self) -> list[Any]:
        """Send them; the async variant of `run`."""
        return await self.connections.arequest(self.commands, self.until, self.alone)


def insist(connections: Connections, commands: list[Command], until: float) -> Steps[list[Any]]:
    """Send commands once more over which connections were closed again and again, and return the answers.

    Raises:
        ScriptsCut: Scripts do not get through to the server, as where a proxy does not let them.
        OperationCut: These commands do not, and others do.
        ConnectionError: The server is out of reach.
    """
    is_script = commands[-1][0] in ("EVALSHA", "EVAL")
    script_losses = operation_losses = 0
    while True:
        yield Request(connections, [("PING",)], until, alone=True)
        if script_losses == LOSSES:
            raise ScriptsCut(
                "answers PING, but the connection is closed when a script is sent: scripts (EVALSHA, EVAL) do not get "
                "through; look at the proxy, or other box, between this process and Redis"
            )
        if operation_losses == LOSSES:
            raise OperationCut(
                f"closes the connection on this operation of {len(packed(commands))} bytes, and serves others: it may "
                "be too large for proto-max-bulk-len or client-query-buffer-limit of the server, or for a proxy"
            )
        try:
            if is_script:
                script_losses += 1
                yield Request(connections, [("EVAL", "return 1", 0)], until, alone=True)
                script_losses = 0
            operation_losses += 1
            replies: list[Any] = yield Request(connections, commands, until, alone=True)
        except ConnectionCut:
            continue
        return replies
