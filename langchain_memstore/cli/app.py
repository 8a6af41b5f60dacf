"""The command as a whole: its subcommands, and what becomes of errors."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

import typer

from langchain_memstore import MemstoreError, __version__
from langchain_memstore.cli import doctor, inspect, maintain, shell, transfer

USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[2]
"""Click's `ClickException`, which typer has from Click, or, of late, brings itself."""

app = typer.Typer(name="memstore", rich_markup_mode=None, pretty_exceptions_enable=False)
for family in (inspect, doctor, transfer, maintain):
    for command in family.COMMANDS:
        app.command(command.__name__.rstrip("_"))(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback(invoke_without_command=True)
def memstore(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version.", callback=_show_version, is_eager=True),
) -> None:
    """Look at, mend and move the conversations that langchain-memstore keeps.

    Which store is said by --url, or by the environment (or a .env file) as in the application: REDIS_URL, or REDIS_HOST
    and its kin, and MEMSTORE_KEY_PREFIX. Looking refreshes no TTL.

    \b
    Examples:
      export REDIS_URL=redis://localhost:6379/0
      memstore sessions --match 'user-7/*'
      memstore show user-7/trip
      memstore doctor
      memstore export > backup.jsonl
      memstore import --from community --dry-run

    \b
    Exit codes:
      0  all is well
      1  there is something to look at: doctor has findings, nothing was found, something was not imported
      2  the command makes no sense, or the store does not serve
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


def run(argv: Sequence[str] | None) -> None:
    """Run the command, and exit; see `main`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a character is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    try:
        code: Any = app(argv, prog_name="memstore", standalone_mode=False)
        sys.stdout.flush()
    except USAGE_ERROR as error:
        _fail(error.format_message())  # type: ignore[attr-defined]
    except typer.Abort:
        sys.exit(130)
    except BrokenPipeError:
        shell.stop_printing()
        code = 0
    except (MemstoreError, ValueError, OSError) as error:
        _fail(str(error))
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    sys.stderr.write(f"memstore: {masked(' '.join(message.split()))}\n")
    sys.exit(2)


def masked(text: str) -> str:
    """Return a text without the passwords of the URLs in it; what might be part of one goes, too."""
    text = re.sub(r"://.*@", "://***@", text, flags=re.DOTALL)
    return re.sub(r"(password=)[^&\s'\"]*", r"\1***", text, flags=re.IGNORECASE)
