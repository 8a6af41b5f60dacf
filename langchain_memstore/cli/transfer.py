"""The subcommands that move conversations: `export` and `import`."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from langchain_memstore import Memstore
from langchain_memstore.cli import shell
from langchain_memstore.cli.shell import Json, KeyPrefix, Match, Url
from langchain_memstore.transfer import importers
from langchain_memstore.transfer.importers import ImportReport, Source


def export(
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="Where to; -: to standard output.")] = "-",
    url: Url = None,
    key_prefix: KeyPrefix = None,
    match: Match = "*",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file where it exists.")] = False,
) -> None:
    """Write conversations as JSON Lines, one a line, with all that the store keeps of each.

    `memstore import` makes the same sessions of them: window, messages that wait, summary, turns, counters and TTL. A
    message is the JSON of langchain-core's message_to_dict; what is encrypted or compressed is written in clear. A file
    is there when it is whole, and not before.

    \b
    Examples:
      memstore export backup.jsonl
      memstore export --match 'user-7/*' | gzip > user-7.jsonl.gz
      memstore export | jq -r '[.session_id, .turns] | @tsv'
    """
    if "://" in file:
        raise ValueError("export writes to a file, or to standard output; pass the URL of the store as --url")
    to_file = file != "-"
    with shell.opened(url, key_prefix) as store:
        count = 0
        with (
            _written(Path(file), force) if to_file else contextlib.nullcontext(sys.stdout.buffer) as out,
            shell.progress("Exporting", hidden=not to_file and sys.stdout.isatty()) as tell,
        ):
            for count, line in enumerate(importers.export_conversations(store, match), 1):
                out.write(line)
                tell(count, None)
            out.flush()
        if to_file:
            shell.say(f"exported {_counted(count, 'conversation')} to {file}")


@contextmanager
def _written(file: Path, force: bool) -> Iterator[BinaryIO]:
    """Write a file that takes its name when it is whole."""
    if file.exists() and not force:
        raise ValueError(f"{file} exists; pass --force to overwrite it")
    if not file.parent.is_dir():
        raise ValueError(f"there is no directory {file.parent}")
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as part:
        try:
            yield part.file  # type: ignore[misc]
            part.flush()
            os.fsync(part.fileno())
        except BaseException:
            os.unlink(part.name)
            raise
    os.replace(part.name, file)


class Form(str, Enum):
    """What conversations are imported from."""

    JSONL = "jsonl"
    COMMUNITY = "community"
    LANGCHAIN_REDIS = "langchain-redis"


PREFIXES = {Form.COMMUNITY: "message_store:", Form.LANGCHAIN_REDIS: "chat:"}


def import_(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[SOURCE]",
            help="Where from: a file, - for standard input, or the URL of a server. Default: the store's own server.",
        ),
    ] = None,
    form: Annotated[Form, typer.Option("--from", help="What is imported; see above.")] = Form.JSONL,
    url: Url = None,
    key_prefix: KeyPrefix = None,
    prefix: Annotated[
        str | None,
        typer.Option(help="What the keys of the source begin with. Default: message_store: (community), chat:"),
    ] = None,
    max_messages: Annotated[
        int | None, typer.Option(min=0, help="The most messages in a window; 0: no bound. Default: as the environment")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check all, and write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace sessions that exist.")] = False,
    skip_corrupt: Annotated[
        bool, typer.Option("--skip-corrupt", help="Import the rest of conversations that cannot be read in part.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Import conversations; the source is left as it is.

    \b
    --from jsonl            a file, or -: what `memstore export` wrote, or lines with "session_id" and "messages"
    --from community        a server: the lists of langchain-community's RedisChatMessageHistory
    --from langchain-redis  a server with the JSON module: the documents of langchain-redis's class of that name;
                            or a file with the documents, one a line, where your server cannot read them any more

    Every conversation is written as one, so an interrupted import may simply be run again: what was imported before is
    left as it is. Sessions that exist are left alone and reported, and so is, with its place, what cannot be read; the
    exit code is 1 then. The remaining TTL is carried over.

    Nothing is lost: a conversation that is longer than the window is imported whole. Its oldest messages wait to be
    summarised, as do those that leave the window later; `memstore show` prints them.

    \b
    Examples:
      memstore import backup.jsonl --dry-run
      memstore import --from community                  (old and new on the server of --url or REDIS_URL)
      memstore import --from community redis://old-host:6379/0 --prefix 'chat_history:'
      memstore import --from langchain-redis redis://old-host:6379/0
      memstore import --from langchain-redis dump.jsonl

    \b
    A dump of langchain-redis's documents, made where the JSON module is:
      redis-cli --scan --pattern 'chat:*' |
        while read -r key; do redis-cli --raw JSON.GET "$key"; done > dump.jsonl
    """
    options: dict[str, Any] = {} if max_messages is None else {"max_messages": max_messages or None}
    with shell.opened(url, key_prefix, **options) as store, _source(form, source, prefix, store) as found:
        with shell.progress("Checking" if dry_run else "Importing", hidden=as_json) as tell:
            report = importers.import_conversations(
                store, found, dry_run=dry_run, force=force, skip_corrupt=skip_corrupt, progress=tell
            )
        if as_json:
            shell.print_json({"dry_run": dry_run, "complete": report.complete, **asdict(report)})
        else:
            _tell(report, dry_run)
        if not report.complete:
            raise typer.Exit(1)


@contextmanager
def _source(form: Form, source: str | None, prefix: str | None, store: Memstore) -> Iterator[Source[Any]]:
    is_url = source is not None and "://" in source
    if form is Form.JSONL and (source is None or is_url):
        raise ValueError("import needs a file, or - for standard input; to import from a server, pass --from")
    if form is Form.COMMUNITY and source is not None and not is_url:
        raise ValueError("--from community imports from a server, not from a file: pass its URL")
    if prefix is not None and (form is Form.JSONL or (source is not None and not is_url)):
        raise ValueError("--prefix is for servers; a file has no keys")
    if source is not None and not is_url:
        file: Any = sys.stdin.buffer if source == "-" else source
        yield importers.JsonLines(file) if form is Form.JSONL else importers.JsonDump(file)
        return
    with shell.make_store(source) if source is not None else contextlib.nullcontext(store) as held:
        kind = importers.CommunityLists if form is Form.COMMUNITY else importers.JsonDocuments
        yield kind(held, PREFIXES[form] if prefix is None else prefix)


def _tell(report: ImportReport, dry_run: bool) -> None:
    out = shell.console()
    for problem in report.problems:
        out.print(shell.plain(f"{problem.place}: {problem.cause}"), style="red", soft_wrap=True)
    for session_id in report.existing:
        out.print(shell.plain(f"{session_id}: exists, and was left as it is"), style="yellow", soft_wrap=True)
    done = "would be imported" if dry_run else "imported"
    said = f"{_counted(report.imported, 'conversation')} {done}, {_counted(report.messages, 'message')}"
    if report.waiting:
        said += f", of which {report.waiting:,} are older than the windows and wait to be summarised"
    out.print(said, soft_wrap=True)
    for count, what in (
        (report.replaced, "of them in place of sessions that existed"),
        (report.unchanged, "imported before, and left as they are"),
        (len(report.existing), "left alone, as such sessions exist; --force replaces them"),
        (report.left_out, "left out, as not all of them can be read; --skip-corrupt imports the rest of them"),
    ):
        if count:
            out.print(f"{count:,} {what}", soft_wrap=True)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


COMMANDS = (export, import_)
