"""The subcommands that look at conversations: `sessions`, `show`, `search` and `stats`."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Annotated

import orjson
import typer
from langchain_core.messages import BaseMessage
from rich.console import Console

from langchain_memstore import codec
from langchain_memstore.cli import shell
from langchain_memstore.cli.shell import Json, KeyPrefix, Match, SessionId, Url
from langchain_memstore.errors import MessageDecodeError
from langchain_memstore.models import SessionInfo
from langchain_memstore.ops.transfer import Dump, SessionDump
from langchain_memstore.transfer.jsonlines import to_line


def sessions(
    url: Url = None,
    key_prefix: KeyPrefix = None,
    match: Match = "*",
    limit: Annotated[int, typer.Option(min=1, help="How many to show, of those last used.")] = 1000,
    as_json: Json = False,
) -> None:
    """List conversations, the last used first.

    WINDOW is how many messages a model is shown, WAITING how many have left the window and wait to be summarised,
    TOTAL how many were ever appended.

    \b
    Examples:
      memstore sessions
      memstore sessions --match 'user-7/*' --limit 20
      memstore sessions --json | jq -r 'select(.ttl == null) | .session_id'
    """
    with shell.opened(url, key_prefix) as store:
        if as_json:
            for info in store.sessions(match):
                shell.print_json(asdict(info))
            return
        found = 0

        def counted() -> Iterator[SessionInfo]:
            nonlocal found
            with shell.progress("Listing") as tell:
                for info in store.sessions(match):
                    found += 1
                    tell(found, None)
                    yield info

        infos = heapq.nlargest(limit, counted(), key=lambda info: info.updated)
        table = shell.table("SESSION", *_NUMBERS, "SUMMARY", "EXPIRES IN", "LAST WRITTEN", numbers=_NUMBERS)
        for info in infos:
            table.add_row(shell.one_line(info.session_id), *_row(info))
        shell.console().print(table)
        if found > len(infos):
            shell.say(f"these are {len(infos)} of {found}; for more, pass --limit or --json")


_NUMBERS = ("WINDOW", "WAITING", "TURNS", "TOTAL")


def _row(info: SessionInfo) -> tuple[str, ...]:
    numbers = map(str, (info.messages, info.evicted, info.turns, info.total))
    return (*numbers, "yes" if info.summary else "no", shell.duration(info.ttl), shell.moment(info.updated))


def show(session_id: SessionId, url: Url = None, key_prefix: KeyPrefix = None, as_json: Json = False) -> None:
    """Print a conversation as a person reads it: summary, what waits to be summarised, window.

    With --json it is the line that `memstore export` writes for it. The exit code is 1 where there is no such session.

    \b
    Examples:
      memstore show user-7/trip
      memstore show user-7/trip --json | jq '.messages[-1]'
    """
    with shell.opened(url, key_prefix) as store:
        keys = store.history(session_id).keys
        dumped = store._backend.execute(Dump(keys))
        if dumped is None:
            shell.fail_to_find(session_id)
        state = store._policy.session_codec(keys).unseal_dump(dumped)
        if as_json:
            print(to_line(session_id, state).decode(), end="")
        else:
            _print(session_id, state)


def _print(session_id: str, state: SessionDump) -> None:
    out = shell.console()
    out.print(shell.plain(session_id), style="bold")
    ttl = None if state.ttl_ms is None else state.ttl_ms / 1000
    out.print(
        f"{len(state.messages)} messages in the window, {len(state.evicted)} waiting to be summarised, "
        f"{state.summarized} covered by the summary; {state.total} in all; {state.turns} turns",
        f"expires in {shell.duration(ttl)}" if ttl is not None else "does not expire",
        sep="; ",
        style="dim",
    )
    times = (("first", state.created), ("last", state.updated))
    written = [
        f"{which} written {shell.moment(datetime.fromtimestamp(at / 1000, timezone.utc))}" for which, at in times if at
    ]
    out.print("; ".join(written), style="dim")
    if state.summary:
        out.print("\nSummary", style="bold magenta")
        out.print(shell.plain(state.summary), soft_wrap=True)
    if state.evicted:
        out.print("\nWaiting to be summarised", style="bold magenta")
        _print_entries(out, state.evicted, 0)
        out.print("\nWindow", style="bold magenta")
    else:
        out.print()
    _print_entries(out, state.messages, len(state.evicted))


_COLOURS = {"human": "green", "ai": "cyan", "tool": "yellow", "function": "yellow"}


def _transcript(message: BaseMessage) -> str:
    from langchain_memstore.summaries.summarizer import transcript  # it takes as long to import as all the rest

    return transcript([message])


def _print_entries(out: Console, entries: tuple[bytes, ...], start: int) -> None:
    for index, entry in enumerate(entries, start):
        try:
            message = codec.decode(entry)
        except MessageDecodeError as error:
            out.print(f"[entry {index} cannot be read: {error}]", style="red")
            continue
        text = shell.plain(_transcript(message))
        text.stylize(f"bold {_COLOURS.get(message.type, '')}", 0, text.plain.find(":") + 1)
        out.print(text, soft_wrap=True)


def search(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What a message's text, or its tool calls, must hold.")],
    url: Url = None,
    key_prefix: KeyPrefix = None,
    match: Match = "*",
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Only messages of this type, such as human or ai; repeatable.")
    ] = None,
    case_sensitive: Annotated[bool, typer.Option("--case-sensitive", help="Mind capitals.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="The most messages to find.")] = None,
    as_json: Json = False,
) -> None:
    """Find messages, in windows and among those that wait to be summarised.

    The exit code is 1 where nothing is found, as grep's is.

    \b
    Examples:
      memstore search 'refund'
      memstore search 'Porto' --type human --match 'user-7/*'
      memstore search 'error' --json | jq -r .session_id | sort | uniq -c
    """
    with shell.opened(url, key_prefix) as store:
        out, hit = shell.console(), None
        for hit in store.search(text, match=match, types=types, case_sensitive=case_sensitive, limit=limit):
            if as_json:
                entry = codec.encode([hit.message])[0]
                shell.print_json({"session_id": hit.session_id, "message": orjson.Fragment(entry)})
                continue
            line = shell.one_line(hit.session_id)
            line.stylize("bold")
            said = shell.one_line(_transcript(hit.message), 300)
            out.print(line, said, sep="  ", soft_wrap=True)
        if hit is None:
            raise typer.Exit(1)


def stats(url: Url = None, key_prefix: KeyPrefix = None, match: Match = "*", as_json: Json = False) -> None:
    """Count sessions and what they hold.

    \b
    Examples:
      memstore stats
      memstore stats --match 'user-7/*' --json
    """
    with shell.opened(url, key_prefix) as store:
        sums = dict.fromkeys(_SUMS, 0)
        largest, windows = 0, list[int]()
        created: datetime | None = None
        updated: datetime | None = None
        with shell.progress("Counting", hidden=as_json) as tell:
            for count, info in enumerate(store.sessions(match), 1):
                tell(count, None)
                windows.append(info.messages)
                sums["messages"] += info.messages
                sums["waiting"] += info.evicted
                sums["turns"] += info.turns
                sums["total"] += info.total
                sums["summaries"] += info.summary
                sums["without_ttl"] += info.ttl is None
                largest = max(largest, info.messages)
                created = min(created or info.created, info.created)
                updated = max(updated or info.updated, info.updated)
        windows.sort()
        median = windows[len(windows) // 2] if windows else 0
        found = {"sessions": len(windows), **sums, "window_median": median, "window_largest": largest}
        if as_json:
            shell.print_json({**found, "oldest": created, "last_written": updated})
            return
        table = shell.table("WHAT", "VALUE", numbers=("VALUE",))
        for name, value in found.items():
            table.add_row(_SAID[name], f"{value:,}")
        for said, time in (("oldest session made", created), ("last written", updated)):
            table.add_row(said, "-" if time is None else shell.moment(time))
        shell.console().print(table)


_SUMS = ("messages", "waiting", "turns", "total", "summaries", "without_ttl")
_SAID = {
    "sessions": "sessions",
    "messages": "messages in windows",
    "waiting": "messages waiting to be summarised",
    "turns": "turns",
    "total": "messages ever appended",
    "summaries": "sessions with a summary",
    "without_ttl": "sessions that do not expire",
    "window_median": "messages in the median window",
    "window_largest": "messages in the largest window",
}

COMMANDS = (sessions, show, search, stats)
