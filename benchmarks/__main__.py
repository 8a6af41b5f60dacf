"""Run the benchmark: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore", module="langchain_community")  # on its sunset

from benchmarks import codecs, end_to_end, growth, histories, memory  # noqa: E402
from benchmarks.contenders import Clients  # noqa: E402
from benchmarks.report import Section, Target, setting, setting_line, targets_table  # noqa: E402
from benchmarks.rounds import Measured  # noqa: E402
from benchmarks.server import redis_server  # noqa: E402

LEGEND = """The first column of numbers is what one operation takes; the others are ratios to it, less is better: the
median of the ratios of all rounds, and their quartiles. README.md says who the contenders are."""


class Run:
    """One run of the benchmark, on one server.

    Args:
        clients: How to reach the server.
        loop: Where what is async runs.
        quick: Whether to take less time, and two of the windows.
    """

    def __init__(self, clients: Clients, loop: asyncio.AbstractEventLoop, quick: bool) -> None:
        self.clients, self.loop = clients, loop
        self.windows = (50, 1_000) if quick else (15, 50, 200, 1_000)
        self.seconds = 0.4 if quick else 3.5
        self.sections: list[Section] = []
        self.targets: list[Target] = []

    def go(self) -> None:
        self._histories()
        self._end_to_end()
        self._growth()
        self._codec()
        self._memory()

    def _histories(self) -> None:
        for operation in histories.OPERATIONS:
            found: dict[tuple[str, int], Measured] = {}
            for face in histories.FACES:
                for window in self.windows:
                    _tell(f"{operation}, {face}, {window} messages")
                    found[face, window] = histories.measure(
                        self.clients, self.loop, operation, face, window, self.seconds
                    )
            rows = [((operation, face, f"{window:,}"), measured) for (face, window), measured in found.items()]
            title = {"append": "Append of 2", "read": "Read", "turn": "A turn: a read, then an append of 2"}[operation]
            self.sections.append(Section(title, ("operation", "face", "messages"), "floor A", rows))
            for (face, window), measured in found.items():
                if operation == "append" and window == 50:
                    self._target(f"append of 2, {face}, to floor A", measured, "memstore", "floor A", 1.25)
                    self._target(f"append of 2, {face}, to multi", measured, "memstore", "multi", 1.1)
                if operation == "read" and window in (50, 1_000):
                    self._target(f"read of {window:,}, {face}, to floor B", measured, "memstore", "floor B", 1.3)

    def _end_to_end(self) -> None:
        rows = []
        for face in ("sync", "async"):
            _tell(f"end to end, {face}")
            measured = end_to_end.measure(self.clients, self.loop, face, 2 * self.seconds)
            rows.append(((face,), measured))
            for old in (end_to_end.OLD, end_to_end.OLD_AS_DOCUMENTED):
                self._target(f"end to end, {face}, to {old}", measured, end_to_end.NEW, old, 0.25)
        title = "End to end: a turn through a wrapper, around a model that answers at once, at 50 messages"
        self.sections.append(Section(title, ("face",), end_to_end.OLD, rows))

    def _growth(self) -> None:
        first, last = growth.name(growth.LENGTHS[0]), growth.name(growth.LENGTHS[-1])
        rows = []
        for operation in ("append", "turn"):
            _tell(f"growth, {operation}")
            measured = growth.ours(self.clients, operation, 2 * self.seconds)
            rows.append((("memstore", operation), measured))
            self._target(f"growth, {operation} {last} to {first} messages", measured, last, first, 1.05)
            rows.append((("community", operation), growth.community(self.clients, operation, self.seconds)))
        title = "Growth: the cost once a conversation has come to so many messages (sync; memstore's window is 50)"
        self.sections.append(Section(title, ("", "operation"), first, rows))

    def _codec(self) -> None:
        _tell("codec")
        encoding, decoding = codecs.encoding(self.seconds), codecs.decoding(self.seconds)
        rows = [(("encode",), encoding), (("decode",), decoding)]
        self.sections.append(Section("The codec alone, a message", ("",), codecs.PLAIN, rows, "ns", 1e9))
        self._target("encode, to plain LangChain", encoding, "memstore", codecs.PLAIN, 0.35)
        self._target("decode, to plain LangChain", decoding, "memstore", codecs.PLAIN, 0.25)

    def _memory(self) -> None:
        rows = [((), memory.measure(self.clients, self.loop))]
        title = "Server memory a message, at 50 messages, all keys of the conversation"
        self.sections.append(Section(title, (), "community", rows, "bytes", 1))

    def _target(self, what: str, measured: Measured, name: str, to: str, most: float) -> None:
        self.targets.append(Target(what, measured.ratio(name, to), most))


def _tell(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two windows, and under a minute")
    parser.add_argument("--json", type=Path, metavar="PATH", help="save what was measured")
    arguments = parser.parse_args()
    start = time.monotonic()
    loop = asyncio.new_event_loop()
    with redis_server() as url:
        clients = Clients(url)
        run = Run(clients, loop, arguments.quick)
        run.go()
        known = setting(clients)
        loop.run_until_complete(clients.aclose())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    print(f"{setting_line(known)}\n\n{LEGEND}\n")
    for section in run.sections:
        print(section.table(), end="\n\n")
    print(targets_table(run.targets))
    print(f"\n{time.monotonic() - start:.0f} seconds")
    if arguments.json:
        saved = {
            **known,
            "sections": [section.json() for section in run.sections],
            "targets": [target.json() for target in run.targets],
        }
        arguments.json.write_text(json.dumps(saved, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
