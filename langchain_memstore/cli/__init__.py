"""The `memstore` command; it needs the extra `[cli]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        argv: The arguments; by default those of the command line.

    Raises:
        SystemExit: Always: with 0 when all is well, 1 when there is something to look at, 2 when the command makes no
            sense or the store does not serve, 130 when it was interrupted.
    """
    try:
        from langchain_memstore.cli.app import run
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        sys.stderr.write("memstore: the command needs an extra: pip install 'langchain-memstore[cli]'\n")
        sys.exit(2)
    run(argv)
