"""What was measured, as tables a person reads and as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

from benchmarks.contenders import Clients
from benchmarks.rounds import Measured, Spread

PACKAGES = (
    "langchain-memstore",
    "redis",
    "hiredis",
    "orjson",
    "langchain-core",
    "langchain-community",
    "openai-agents",
)


@dataclass(frozen=True)
class Section:
    """One table: each row compares contenders to a base.

    Args:
        title: What was measured.
        labels: The headings of the columns that name a row.
        base: The contender that is 1.
        rows: The labels of each row, and what was measured.
        unit: What the base is given in.
        scale: How many of the unit make one second, or one byte.
    """

    title: str
    labels: Sequence[str]
    base: str
    rows: Sequence[tuple[Sequence[str], Measured]]
    unit: str = "µs"
    scale: float = 1e6

    def table(self) -> str:
        others = [name for name in dict.fromkeys(name for _, m in self.rows for name in m.rounds) if name != self.base]
        lines = [[*self.labels, f"{self.base}, {self.unit}", *others]]
        for labels, measured in self.rows:
            base = f"{measured.seconds(self.base).median * self.scale:.{0 if self.scale < 1e7 else 1}f}"
            ratios = [str(measured.ratio(name, self.base)) if name in measured.rounds else "" for name in others]
            lines.append([*labels, base, *ratios])
        return f"{self.title}\n\n{_aligned(lines, len(self.labels))}"

    def json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "base": self.base,
            "unit": self.unit,
            "rows": [
                {
                    **dict(zip(self.labels, labels, strict=True)),
                    "contenders": {
                        name: {
                            "median": measured.seconds(name).median * self.scale,
                            "ratio": vars(measured.ratio(name, self.base)),
                            "rounds": len(measured.rounds[name]),
                        }
                        for name in measured.rounds
                    },
                }
                for labels, measured in self.rows
            ],
        }


@dataclass(frozen=True)
class Target:
    """What a ratio has to be."""

    what: str
    ratio: Spread
    most: float

    @property
    def met(self) -> bool:
        return self.ratio.median <= self.most

    def json(self) -> dict[str, Any]:
        return {"what": self.what, "ratio": vars(self.ratio), "most": self.most, "met": self.met}


def targets_table(targets: Sequence[Target]) -> str:
    lines = [["target", "at most", "measured", "met"]]
    lines += [[each.what, f"{each.most:.2f}", str(each.ratio), "yes" if each.met else "NO"] for each in targets]
    return f"Targets\n\n{_aligned(lines, 1)}"


def setting(clients: Clients) -> dict[str, Any]:
    """Say when, with what and on what it was measured."""
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "python": platform.python_version(),
        "redis-server": clients.redis.info("server")["redis_version"],
        "packages": {name: version(name) for name in PACKAGES},
        "cores": os.cpu_count(),
    }


def setting_line(setting: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in setting["packages"].items())
    return (
        f"{setting['date']}, {setting['cores']} cores, Python {setting['python']}, "
        f"redis-server {setting['redis-server']}, {packages}"
    )


def _aligned(lines: Sequence[Sequence[str]], left: int) -> str:
    """Align cells as a Markdown table, the first columns to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width if at < left else "-" * (width - 1) + ":" for at, width in enumerate(widths)]
    rows = [lines[0], rule, *lines[1:]]
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in rows
    )
