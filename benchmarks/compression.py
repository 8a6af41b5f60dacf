"""Compression alone: what it takes and what it saves, by kind of text. Run by `python -m benchmarks.compression`.

The texts are Python's own: its documentation for prose, its source for code, and a list of its files for what tools
return. With MEMSTORE_PROVIDER_DATA, a folder that holds `provider_conversations.jsonl`, also the messages of model
providers in it that are of 3 to 6 kB.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import zstandard
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage, messages_from_dict

from benchmarks.rounds import timed
from langchain_memstore import codec
from langchain_memstore.codec.compression import compress, expand
from langchain_memstore.keys import SessionKeys
from langchain_memstore.options import Policy

MESSAGES = 20  # of each kind
ROUNDS = 400
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "compressed": {"compress_above": 1},
    "sealed": {"encryption_keys": [bytes(range(32))]},
    "both": {"compress_above": 1, "encryption_keys": [bytes(range(32))]},
}


def main() -> None:
    """Measure, and print two tables: of the frames, and of the messages as a session encodes and decodes them."""
    levels = [
        ("messages", "bytes", *(f"{what}, level {level}" for level in (1, 3) for what in ("stored", "in")), "out")
    ]
    ways = [("messages", *(f"{verb} {way}" for verb in ("encode", "decode") for way in WAYS), "stored sealed", "both")]
    for kind, messages in kinds().items():
        levels.append((kind, *measure_levels(codec.encode(messages))))
        ways.append((kind, *measure_ways(messages)))
    print(f"Python {platform.python_version()}, zstandard {version('zstandard')}; a message, in µs")
    for table in (levels, ways):
        print(f"\n| {' | '.join(table[0])} |\n| --- |{' ---: |' * (len(table[0]) - 1)}")
        print("\n".join(f"| {' | '.join(row)} |" for row in table[1:]))


def kinds() -> dict[str, list[BaseMessage]]:
    """Make messages of each kind and size."""
    prose, library = "\n".join(topics.values()), Path(os.__file__).parent
    code = "\n".join((library / name).read_text() for name in ("argparse.py", "typing.py", "pydoc.py", "tarfile.py"))
    files = [(path.relative_to(library), path.stat()) for path in sorted(library.rglob("*.py"))[:4000]]
    listed = json.dumps([{"path": str(path), "size": at.st_size, "changed": at.st_mtime} for path, at in files])
    made: dict[str, list[BaseMessage]] = {}
    for size in (1_000, 4_000, 16_000):
        made[f"prose, {size:,}"] = [AIMessage(text) for text in _parts(prose, size)]
        made[f"code, {size:,}"] = [AIMessage(text) for text in _parts(code, size)]
        made[f"JSON, {size:,}"] = [ToolMessage(text, tool_call_id="call_1") for text in _parts(listed, size)]
    if folder := os.environ.get("MEMSTORE_PROVIDER_DATA"):
        with (Path(folder) / "provider_conversations.jsonl").open(encoding="utf-8") as lines:
            recorded = messages_from_dict([value for line in lines for value in json.loads(line)["messages"]])
        entries = dict.fromkeys(codec.encode(recorded))
        made["of providers"] = [codec.decode(entry) for entry in entries if 3_000 <= len(entry) < 6_000]
    return made


def measure_levels(plain: tuple[bytes, ...]) -> list[str]:
    """Measure levels of compression; returns the cells of a row."""
    small = compress(plain, 1)
    packers = [zstandard.ZstdCompressor(level, write_checksum=True) for level in (1, 3)]
    times = _interleaved(
        *(lambda pack=packer.compress: [pack(entry) for entry in plain] for packer in packers),
        lambda: [expand(entry) for entry in small],
        shares=len(plain),
    )
    cells = [f"{sum(map(len, plain)) / len(plain):.0f}"]
    for packer, time in zip(packers, times, strict=False):
        cells += [_share((packer.compress(entry) for entry in plain), plain), time]
    return [*cells, times[-1]]


def measure_ways(messages: list[BaseMessage]) -> list[str]:
    """Measure a session's codec with and without compression and keys; returns the cells of a row."""
    codecs = [Policy(**options).session_codec(SessionKeys("p", "s")) for options in WAYS.values()]
    stored = [list(each.encode(messages)) for each in codecs]
    times = _interleaved(
        *(lambda encode=each.encode: encode(messages) for each in codecs),
        *(
            lambda decode=each.decode, entries=entries: decode(entries)
            for each, entries in zip(codecs, stored, strict=True)
        ),
        shares=len(messages),
    )
    return [*times, *(_share(entries, stored[0]) for entries in stored[2:])]


def _interleaved(*actions: Any, shares: int) -> list[str]:
    """Time actions in turns; returns the median of each, a message."""
    blocks = [timed(action) for action in actions]
    rounds = [[block(1) for block in blocks] for _ in range(ROUNDS)]
    return [f"{statistics.median(times) / shares * 1e6:.1f}" for times in zip(*rounds, strict=True)]


def _parts(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in islice(range(0, len(text) - size, size), MESSAGES)]


def _share(entries: Iterable[bytes], plain: Iterable[bytes]) -> str:
    return f"{sum(map(len, entries)) / sum(map(len, plain)):.2f}"


if __name__ == "__main__":
    main()
