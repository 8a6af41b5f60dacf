"""Run a soak, print what it found, and exit with 1 where that is a violation."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile

from soak.driver import Soak
from soak.faulty_lines import FaultyLines
from soak.rollback import Rollback


def main() -> None:
    parser = argparse.ArgumentParser(prog="make soak", description="Many processes, random faults, and an audit.")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long to call, at most 30 (default: 2)")
    parser.add_argument("--seed", type=int, default=None, help="of the faults (default: at random)")
    parser.add_argument("--rollback", action="store_true", help="take the server back to older snapshots instead")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.randrange(10**6)
    kind: type[Soak] = Rollback if args.rollback else FaultyLines
    with tempfile.TemporaryDirectory(prefix="memstore-soak-") as folder:
        soak = kind(folder, random.Random(seed))
        try:
            report = soak.run(min(args.minutes, 30.0))
        finally:
            soak.stop()
    found = {"audited": report.figures, "violations": report.violations, "examples": report.examples}
    print(json.dumps({"minutes": args.minutes, "seed": seed, "faults": soak.injected, **found}, indent=2))
    if not report.is_clean:
        sys.exit(1)


if __name__ == "__main__":
    main()
