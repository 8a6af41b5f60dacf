"""What the subcommands share: their options, the store, and how they answer."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Annotated, Any, NoReturn

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from langchain_memstore import Memstore, MemstoreError, MemstoreSettings

Url = Annotated[
    str | None,
    typer.Option(
        help="Where the store is: redis://, rediss://, unix://, redis+cluster:// or redis+sentinel://. Default: as the "
        "environment says."
    ),
]
KeyPrefix = Annotated[
    str | None,
    typer.Option(help="The first part of every key. Default: MEMSTORE_KEY_PREFIX, or 'conversation'."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, for machines.")]
Match = Annotated[str, typer.Option(help="Which sessions: a pattern over their ids, with *, ?, [seq] and [!seq].")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def make_store(url: str | None, key_prefix: str | None = None, **options: Any) -> Memstore:
    """Make the store that a command is about.

    Args:
        url: Where it is; None: as the environment says.
        key_prefix: The first part of every key; None: as the environment says.
        **options: What the store does differently from what the environment says.

    Raises:
        ValueError: Neither the URL nor the environment says which store, or what they say makes no sense.
    """
    settings = MemstoreSettings.load()
    if url is None and settings.memory_provider is None and settings.url() == "memory://":
        raise ValueError("which store? Pass --url redis://localhost:6379/0, or set REDIS_URL in the environment")
    merged: Any = {**settings.options(), **options}
    if key_prefix is not None:
        merged["key_prefix"] = key_prefix
    return Memstore.from_url(url or settings.url(), fallback=False, **merged)


@contextmanager
def opened(url: str | None, key_prefix: str | None = None, **options: Any) -> Iterator[Memstore]:
    """Open the store that a command is about, and close it after; who stops reading the output ends the command."""
    try:
        try:
            with make_store(url, key_prefix, **options) as store:
                yield store
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        stop_printing()
        raise typer.Exit(0) from None


def stop_printing() -> None:
    """Let go of what is still to be printed, for nobody reads it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail_to_find(session_id: str) -> NoReturn:
    """Say that there is no such session, and end the command."""
    say(f"there is no session {session_id!r}")
    raise typer.Exit(1)


def complete_session(context: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of sessions that a shell may complete an argument to."""
    found: list[str] = []
    with suppress(MemstoreError, ValueError):  # a shell that completes is no place for errors
        url, key_prefix = context.params.get("url"), context.params.get("key_prefix")
        with make_store(url, key_prefix, socket_timeout=1.0, socket_connect_timeout=1.0) as store:
            for info in store.sessions():
                if info.session_id.startswith(incomplete):
                    found.append(info.session_id)
                if len(found) == 100:
                    break
    return found


SessionId = Annotated[
    str, typer.Argument(metavar="ID", help="Which session.", show_default=False, autocompletion=complete_session)
]


class _Console(Console):
    @override
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # for `opened`, as rich ends the process with an exit code of its own


def console() -> Console:
    """Return what prints for people: as wide as the terminal, or as it takes where there is none."""
    width = None if sys.stdout.isatty() else 100_000
    return _Console(width=width, highlight=False, markup=False, emoji=False)


def table(*columns: str, numbers: tuple[str, ...] = ()) -> Table:
    """Return an empty table; some of its columns hold numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return made


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    sys.stdout.write(orjson.dumps(value, default=str, option=orjson.OPT_APPEND_NEWLINE).decode())


def say(text: str) -> None:
    """Tell something beside the answer, on standard error."""
    sys.stderr.write(f"memstore: {text}\n")


@contextmanager
def progress(title: str, hidden: bool = False) -> Iterator[Callable[[int, int | None], None]]:
    """Show how far work has come, on a terminal; returns what is to be told how much is done, and of how much."""
    if hidden or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def confirm(question: str, yes: bool) -> None:
    """Ask before something is destroyed.

    Raises:
        ValueError: There is nobody to ask, and no --yes.
        typer.Exit: The answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise ValueError("there is no terminal to ask on; pass --yes")
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)}


def plain(text: str) -> Text:
    """Return text that a terminal shows and does not obey."""
    return Text(text.translate(_CONTROLS))


def one_line(text: str, length: int = 10**6) -> Text:
    """Return text as one line, cut to a length."""
    text = " ".join(text.split())
    return plain(text if len(text) <= length else f"{text[: length - 1]}…")


def duration(seconds: float | None) -> str:
    """Say how long something lasts."""
    if seconds is None:
        return "never"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def moment(time: datetime) -> str:
    """Say when something was, in the time of this place."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
