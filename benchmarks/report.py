"""What was measured, as tables that a person reads and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import codecs, end_to_end, growth, histories, layers
from benchmarks.rounds import Measured
from benchmarks.server_cost import ServerCost
from benchmarks.suite import OVERVIEW, Key, history
from benchmarks.targets import Target

OURS = "memstore"
CALLED = {"append": "append 2", "read": "read", "turn": "a turn"}
COLUMNS = ("floor A", "floor B", "one pipeline", "community", "openai-agents", "llama-index", "langchain-core")
LEGEND = """memstore: microseconds; of tasks, which are conversations at once, the time of all divided by their number.
The others: how many times as long as memstore they take, in the median of all rounds. A turn reads and appends 2.

floor A, floor B  raw redis-py: bytes only, and with the cheapest encoding of these messages
one pipeline      floor A by hand: the operations of all tasks in one pipeline
community         RedisChatMessageHistory; end to end, it within RunnableWithMessageHistory, to RunnableWithHistory
openai-agents     RedisSession (async only; plain dicts)
llama-index       RedisChatStore
langchain-core    InMemoryChatMessageHistory: a list of the very objects, without bound, copy, expiry or lock"""

SECTIONS = {
    "histories": ("Operations", ("operation", "variant", "messages"), OURS, 1e6),
    "end to end": ("End to end: a turn at 50 through a wrapper", ("variant",), end_to_end.NEW, 1e6),
    "in the process": ("In the process, at 50 messages", ("operation", "variant"), OURS, 1e6),
    "near cache": ("The near cache: a turn", ("line", "messages", "each"), layers.NEAR, 1e6),
    "fallback": ("The fallback while all is well, at 50 messages", ("operation",), layers.BARE, 1e6),
    "growth": ("Growth (memstore's window is 50)", ("", "operation"), growth.name(growth.LENGTHS[0]), 1e6),
    "codec": ("The codec alone, a message", ("",), codecs.PLAIN, 1e9),
}
"""Of each section: its title, what its rows are told apart by, who is 1, and how many of its unit make a second."""


def overview(found: Mapping[Key, Measured]) -> list[list[str]]:
    """Return the one table: what a reader compares libraries by."""
    rows = []
    for variant, cells in OVERVIEW.items():
        for operation, window in cells:
            if (measured := found.get(history(operation, variant, window))) is not None:
                rows.append([CALLED[operation], variant, f"{window:,}", *_times_as_long(measured, OURS)])
        if (measured := found.get(("end to end", variant))) is not None:
            cells_of = _times_as_long(measured, end_to_end.NEW, {"community": end_to_end.OLD})
            rows.append(["a turn, end to end", variant, "50", *cells_of])
    for operation in histories.OPERATIONS:
        for variant in ("sync", "async"):
            if (measured := found.get(("in the process", operation, variant))) is not None:
                rows.append([f"{CALLED[operation]}, in the process", variant, "50", *_times_as_long(measured, OURS)])
    return [["", "variant", "messages", f"{OURS}, µs", *COLUMNS], *rows]


def _times_as_long(measured: Measured, base: str, names: Mapping[str, str] | None = None) -> list[str]:
    names = {column: column for column in COLUMNS} if names is None else names
    cells = [_time(measured.seconds(base).median * 1e6)]
    for column in COLUMNS:
        name = names.get(column)
        cells.append(_times(measured.ratio(name, base).median) if name in measured.rounds else "")
    return cells


def _times(ratio: float) -> str:
    return f"{ratio:.{3 if ratio < 0.0995 else 2 if ratio < 1.995 else 1 if ratio < 9.95 else 0}f}"


def _time(micros: float) -> str:
    return f"{micros:,.{1 if micros < 10 else 0}f}"


def sections(found: Mapping[Key, Measured]) -> dict[str, str]:
    """Return the table of each section that was measured: a row compares contenders to a base, with quartiles."""
    texts = {}
    for section, (title, labels, base, scale) in SECTIONS.items():
        of_section = {key[1:]: measured for key, measured in found.items() if key[0] == section}
        if not of_section:
            continue
        others = dict.fromkeys(name for each in of_section.values() for name in each.rounds if name != base)
        lines = [[*labels, f"{base}, {'µs' if scale == 1e6 else 'ns'}", *others]]
        for key, measured in of_section.items():
            ratios = [str(measured.ratio(name, base)) if name in measured.rounds else "" for name in others]
            lines.append([*key, _time(measured.seconds(base).median * scale), *ratios])
        texts[section] = f"### {title}\n\n{aligned(lines, len(labels))}"
    return texts


def costs_table(costs: Mapping[str, ServerCost]) -> str:
    """Return what the contenders cost the server."""
    lines = [["", "append 2: commands, µs", "in all, µs", "read 50: commands, µs", "in all, µs", "bytes a message"]]
    lines[0].append("bytes a session of 50")
    for name, each in costs.items():
        times = [f"{micros:.1f}" for micros in (each.append, each.append_cpu, each.read, each.read_cpu)]
        lines.append([name, *times, f"{each.message:.0f}", f"{each.session:,.0f}"])
    return f"### What it costs the server\n\n{aligned(lines, 1)}"


def sizes_table(sizes: Mapping[str, float]) -> str:
    """Return what sessions of this package take of Redis."""
    lines = [["session", "bytes", "a message"]]
    for name, size in sizes.items():
        lines.append([name, f"{size:,.0f}", f"{size / int(name.split()[0].replace(',', '')):,.0f}"])
    return f"### Memory in Redis, all keys of a session\n\n{aligned(lines, 1)}"


def targets_table(targets: Sequence[Target]) -> str:
    lines = [["target", "is to be", "measured", "met"], *[each.row() for each in targets]]
    return f"### Targets\n\n{aligned(lines, 1)}"


def json_of(found: Mapping[Key, Measured]) -> list[dict[str, Any]]:
    """Return all that was measured."""
    listed = []
    for section, (_, labels, base, _) in SECTIONS.items():
        for key, measured in found.items():
            if key[0] == section:
                listed.append({"section": section, **dict(zip(labels, key[1:], strict=True)), **_json(measured, base)})
    return listed


def _json(measured: Measured, base: str) -> dict[str, Any]:
    contenders = {
        name: {
            "microseconds": round(measured.seconds(name).median * 1e6, 3),
            "ratio": [round(each, 4) for each in vars(measured.ratio(name, base)).values()],
            "rounds": len(measured.rounds[name]),
        }
        for name in measured.rounds
    }
    return {"base": base, "contenders": contenders}


def aligned(lines: Sequence[Sequence[str]], left: int) -> str:
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
