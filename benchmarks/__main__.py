"""Measure how fast langchain-memstore is: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import warnings
from pathlib import Path

STARTED = time.monotonic()
warnings.filterwarnings("ignore", module="langchain_community")  # on its sunset

from benchmarks import page, report, server_cost  # noqa: E402
from benchmarks.chart import draw  # noqa: E402
from benchmarks.contenders import Clients  # noqa: E402
from benchmarks.proxy import slow_line  # noqa: E402
from benchmarks.server import redis_server  # noqa: E402
from benchmarks.setting import setting, setting_text  # noqa: E402
from benchmarks.suite import Suite  # noqa: E402
from benchmarks.targets import targets  # noqa: E402

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute: fewer rounds, without 512 tasks")
    parser.add_argument("--detail", action="store_true", help="print every table, with quartiles")
    parser.add_argument("--windows", action="store_true", help="every operation at 15, 50, 200 and 1,000; 11 minutes")
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="comparisons whose name holds this ('append, sync'); saves nothing"
    )
    parser.add_argument(
        "--save",
        action=argparse.BooleanOptionalAction,
        help="write results.json, speed.png and the tables of README.md; a whole run does, unless told not to",
    )
    arguments = parser.parse_args()
    loop = asyncio.new_event_loop()
    with redis_server() as url, slow_line(url) as line_url:
        clients = Clients(url)
        _tell("server cost")
        costs = server_cost.measure(clients, loop, sessions=10 if arguments.quick else 200)
        sizes = server_cost.sizes(clients)
        known = setting(clients, line_url)
        _tell("filling conversations")
        suite = Suite(clients, line_url, loop)
        suite.plan(arguments.quick, arguments.windows)
        length = (22, 2) if arguments.quick or arguments.only else (600, 6) if arguments.windows else (200, 4)
        found = suite.run(*length, arguments.only)
        loop.run_until_complete(clients.aclose())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    if arguments.only:
        print(setting_text(known), *report.sections(found).values(), sep="\n\n")
        return
    table, met = report.aligned(report.overview(found), 3), targets(found, costs)
    sections = report.sections(found)
    server = report.costs_table(costs), report.sizes_table(sizes)
    print(setting_text(known), table, report.LEGEND, sep="\n\n", end="\n\n")
    if arguments.detail:
        print(*sections.values(), *server, sep="\n\n", end="\n\n")
    print(report.targets_table(met))
    print(f"\n{time.monotonic() - STARTED:.0f} seconds")
    if arguments.save or (arguments.save is None and not arguments.quick):
        saved = {
            **known,
            "measured": report.json_of(found),
            "server": {name: each.json() for name, each in costs.items()},
            "session_bytes": sizes,
            "targets": [target.json() for target in met],
        }
        (HERE / "results.json").write_text(json.dumps(saved, indent=1, ensure_ascii=False) + "\n")
        draw(saved, HERE / "speed.png")
        others = [text for section, text in sections.items() if section not in ("histories", "in the process")]
        page.write("results", "\n\n".join([setting_text(known), table, report.targets_table(met), *others, *server]))


def _tell(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
