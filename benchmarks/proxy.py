"""A line to a server on this machine that is as long and as narrow as one to another machine.

What comes in is stamped, and goes out when as much time has passed as the line takes: each direction carries
100 Mbit/s, one piece after the other, and delivers a piece 1 ms after its last bit was sent. Receiving and sending are
threads of their own, so that the delay takes nothing from the throughput. It runs as a process of its own, not to take
anything from the process that is measured: `python -m benchmarks.proxy PORT`; `slow_line` starts and stops it.
"""

from __future__ import annotations

import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

DELAY = 0.001  # seconds, each way
RATE = 100e6 / 8  # bytes a second, each way
PIECE = 16_384  # bytes
AHEAD = 1_024  # pieces that may be under way

Pieces = queue.Queue[tuple[float, bytes]]


class Direction:
    """One direction of the line, which all connections share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free_at = 0.0

    def carry(self, source: socket.socket, target: socket.socket) -> None:
        """Carry one connection's bytes to their end."""
        pieces: Pieces = queue.Queue(AHEAD)
        threading.Thread(target=_deliver, args=(pieces, target), daemon=True).start()
        with suppress(OSError):
            while piece := source.recv(PIECE):
                pieces.put((self._due(len(piece)), piece))
        pieces.put((0.0, b""))

    def _due(self, size: int) -> float:
        """Return when bytes that come now have arrived at the other end."""
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + size / RATE
            return self._free_at + DELAY


def _deliver(pieces: Pieces, target: socket.socket) -> None:
    with suppress(OSError):
        while (each := pieces.get())[1]:
            due, piece = each
            if (left := due - time.monotonic()) > 0:
                time.sleep(left)
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


def serve(port: int) -> None:
    """Carry connections to a port of this machine, and print the port to connect to; for ever."""
    there, back = Direction(), Direction()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", port))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=there.carry, args=(client, server), daemon=True).start()
            threading.Thread(target=back.carry, args=(server, client), daemon=True).start()


@contextmanager
def slow_line(url: str) -> Iterator[str]:
    """Start a line to a server, yield the URL of its near end, and stop it."""
    command = [sys.executable, "-m", "benchmarks.proxy", str(urlsplit(url).port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        serve(int(sys.argv[1]))
