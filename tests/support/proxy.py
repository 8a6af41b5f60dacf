"""A TCP proxy that cuts connections where a test wants them cut."""

from __future__ import annotations

import random
import select
import socket
import threading
from collections.abc import Callable

from typing_extensions import Self

Cut = Callable[[bool, bytes], int]
"""Tells of bytes, and whether they come from the server, how many of them to forward; with fewer than all, the
connection is cut after them. `SWALLOW` forwards none, and leaves the connection open."""

SWALLOW = -1


class Proxy:
    """Forwards connections to a port of 127.0.0.1.

    Args:
        port: The server's port.
        plan: Makes what decides over a new connection.
    """

    def __init__(self, port: int, plan: Callable[[], Cut]) -> None:
        self._target = port
        self._plan = plan
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            if select.select([self._listener], [], [], 0.05)[0]:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._forward, args=[client])
                self._threads.append(thread)
                thread.start()

    def _forward(self, client: socket.socket) -> None:
        cut = self._plan()
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:  # the server is away
            client.close()
            return
        with client, server:
            while not self._closing.is_set():
                for source in select.select([client, server], [], [], 0.05)[0]:
                    try:
                        data = source.recv(65536)
                        allowed = cut(source is server, data) if data else 0
                        if allowed == SWALLOW:
                            continue
                        (client if source is server else server).sendall(data[:allowed])
                    except OSError:  # the other side has hung up
                        return
                    if not data or allowed < len(data):
                        return


class LostReplies:
    """Lets the server's replies to every third script get lost, after the script has run."""

    def __init__(self) -> None:
        self.scripts = 0
        self.lost = 0
        self._lose = False

    def __call__(self, from_server: bool, data: bytes) -> int:
        if not from_server:
            if b"EVAL" in data:
                self.scripts += 1
                self._lose = self.scripts % 3 == 1
        elif self._lose:
            self._lose = False
            self.lost += 1
            return 0
        return len(data)


class RandomCuts:
    """Cuts connections after a random number of bytes; no more than two short ones in a row."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.connections = 0

    def plan(self) -> Cut:
        self.connections += 1
        left = self._random.randrange(1500) if self.connections % 3 else 20_000

        def cut(from_server: bool, data: bytes) -> int:
            nonlocal left
            allowed = min(left, len(data))
            left -= allowed
            return allowed

        return cut


class HeldRequests:
    """Keeps scripts from the server while a test wants that."""

    def __init__(self) -> None:
        self.hold = False
        self.requests: list[bytes] = []

    def __call__(self, from_server: bool, data: bytes) -> int:
        if not from_server and self.hold and b"EVAL" in data:
            self.requests.append(data)
            return SWALLOW
        return len(data)
