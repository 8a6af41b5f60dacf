"""When, with what and on what it was measured."""

from __future__ import annotations

import os
import platform
import time
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import redis

from benchmarks.contenders import Clients

PACKAGES = (
    "langchain-memstore",
    "redis",
    "hiredis",
    "orjson",
    "pydantic",
    "langchain-core",
    "langchain-community",
    "openai-agents",
    "llama-index-core",
    "llama-index-storage-chat-store-redis",
)


def setting(clients: Clients, line_url: str) -> dict[str, Any]:
    """Say when, with what and on what it is measured.

    Args:
        clients: How to reach the server.
        line_url: How to reach it over the slow line.
    """
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "redis-server": clients.redis.info("server")["redis_version"],
        "packages": {name: version(name) for name in PACKAGES},
        "lines": {"loopback": _line(clients.url), "line": _line(line_url)},
    }


def setting_text(setting: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in setting["packages"].items())
    line = setting["lines"]["line"]
    return (
        f"{setting['date']}: {setting['processor']}, {setting['cores']} cores, {setting['system']}, "
        f"Python {setting['python']}, redis-server {setting['redis-server']}\n{packages}\n"
        f"A ping takes {setting['lines']['loopback']['ping_ms']:.3f} ms on loopback; over the slow line "
        f"{line['ping_ms']:.2f} ms, and bulk comes at {line['mbit_s']:.0f} Mbit/s."
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _line(url: str) -> dict[str, float]:
    """Return how long a ping takes, in milliseconds, and how fast bulk comes, in Mbit/s."""
    bulk = 1_000_000
    with redis.Redis.from_url(url) as client:
        client.set("bulk", b"." * bulk)
        ping = median(_taken(client.ping) for _ in range(100))
        get = median(_taken(lambda: client.get("bulk")) for _ in range(5))
        client.delete("bulk")
    return {"ping_ms": ping * 1e3, "mbit_s": bulk * 8 / (get - ping) / 1e6}


def _taken(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
