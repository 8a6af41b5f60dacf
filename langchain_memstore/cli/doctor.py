"""The subcommand that looks a store over: `doctor`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from langchain_memstore.cli import shell
from langchain_memstore.cli.shell import Json, KeyPrefix, Match, Url
from langchain_memstore.doctor import Check, examine

SHOWN = 10  # sessions that are named of a finding; --json names all
_MARKS = {"fine": ("ok", "green"), "finding": ("LOOK", "bold red"), "unchecked": ("?", "yellow")}


def doctor(
    url: Url = None,
    key_prefix: KeyPrefix = None,
    match: Match = "*",
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A check whose findings are no findings here; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Look the server and the sessions over, and say what to do; nothing is changed.

    Checks connection, version, persistence, eviction; and of the sessions: orphans (keys without their meta key), types
    (keys that hold something else), ttl (no expiry), siblings (keys of one session that expire at different times),
    encryption (that the keys do not open), entries (that are no messages), results (of tools, without their call),
    summaries (overdue), lost (messages that no summary has covered). What this user may not ask the server is not
    checked, and said to be so. The exit code is 1 where there are findings.

    \b
    Examples:
      memstore doctor
      memstore doctor --ignore ttl                      (sessions without an expiry are meant)
      memstore doctor --json | jq 'select(.verdict == "finding") | .sessions[]?'
    """
    ignored = set(ignore or ())
    with shell.opened(url, key_prefix) as store:
        with shell.progress("Examining", hidden=as_json) as tell:
            checks = list(examine(store, match, tell))
        if unknown := ignored - {check.name for check in checks}:
            raise ValueError(f"--ignore: there is no check {', '.join(sorted(unknown))}")
        for check in checks:
            if as_json:
                shell.print_json({**asdict(check), "ignored": check.name in ignored})
            else:
                _print(check, check.name in ignored)
        if any(check.verdict == "finding" and check.name not in ignored for check in checks):
            raise typer.Exit(1)


def _print(check: Check, ignored: bool) -> None:
    out = shell.console()
    mark, style = ("-", "dim") if ignored else _MARKS[check.verdict]
    out.print(Text.assemble((f"{mark:<5}", style), (f"{check.name:<12}", "bold"), shell.plain(check.seen)))
    if check.advice and not ignored:
        out.print(shell.plain(f"{'':17}-> {check.advice}"))
    for session_id in check.sessions[:SHOWN]:
        out.print(" " * 20, shell.one_line(session_id), sep="", soft_wrap=True)
    if len(check.sessions) > SHOWN:
        out.print(f"{'':20}and {len(check.sessions) - SHOWN} more; --json names all")


COMMANDS = (doctor,)
