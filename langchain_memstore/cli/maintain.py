"""The subcommands that keep a store in order, and the demo: `clear`, `worker` and `demo`."""

from __future__ import annotations

import importlib
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from operator import attrgetter
from typing import Annotated, Any

import typer

from langchain_memstore import BackendUnavailable, Memstore
from langchain_memstore.cli import shell
from langchain_memstore.cli.shell import Json, KeyPrefix, SessionId, Url, Yes
from langchain_memstore.ops.transfer import Expiries


def clear(session_id: SessionId, url: Url = None, key_prefix: KeyPrefix = None, yes: Yes = False) -> None:
    """Remove a conversation: messages, summary and turn counter.

    Asks first; where there is no terminal to ask on, it takes --yes. The exit code is 1 where there is no such session,
    or the answer is no.

    \b
    Examples:
      memstore clear user-7/trip
      memstore export --match user-7/trip trip.jsonl && memstore clear user-7/trip --yes
    """
    with shell.opened(url, key_prefix) as store:
        history = store.history(session_id)
        if not store._backend.execute(Expiries(history.keys)):  # of keys of any type
            shell.fail_to_find(session_id)
        shell.confirm(f"Remove session {session_id!r}?", yes)
        history.clear()


def worker(
    summarizer: Annotated[
        str,
        typer.Option(
            metavar="MODULE:NAME",
            help="What makes the summaries: a chat model, a Runnable, or a function of the previous summary and the "
            "messages; by its module, which may lie in the working directory, and its name there.",
        ),
    ],
    url: Url = None,
    key_prefix: KeyPrefix = None,
    interval: Annotated[float, typer.Option(min=0.01, help="Seconds between two looks at the store.")] = 10.0,
    summarize_every: Annotated[
        int, typer.Option(min=1, help="How many turns must have passed since the last summary; as in the application.")
    ] = 5,
    lease_time: Annotated[
        float, typer.Option(help="Seconds for which one summary in the making keeps others from making the same.")
    ] = 60.0,
    once: Annotated[
        bool, typer.Option("--once", help="Look once, and end: for cron. 1 where a summary failed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make the summaries that are due, until it is told to stop.

    For applications whose stores have summarize="manual". Any number of workers may run; no summary is made twice.
    SIGTERM and SIGINT (Ctrl-C) end it at once: a summary in the making is given up and its claim released, so that
    nothing is lost, and the next worker makes it. While the store cannot be reached, it waits. A summary starts the TTL
    anew: set SESSION_TTL as the application has it.

    \b
    Examples:
      memstore worker --summarizer myapp.memory:summarizer
      memstore worker --summarizer myapp.memory:summarizer --interval 60 --summarize-every 10
      memstore worker --summarizer myapp.memory:summarizer --once
    """
    options = {"summarize": "manual", "summarize_every": summarize_every, "lease_time": lease_time}
    with _stopped_by_signals():
        made_of = _load(summarizer)
        with shell.opened(url, key_prefix, summarizer=made_of, **options) as store:
            if store.status.backend == "local":
                raise ValueError("a worker needs a store that others use too, not one inside its own process")
            if _work(store, None if once else interval, as_json):
                raise typer.Exit(1)


def _work(store: Memstore, interval: float | None, as_json: bool) -> bool:
    """Make summaries again and again, or once where there is no interval; tells whether one failed."""
    served = False
    while True:
        try:
            made = store.compact_due()
            served = True
            if made or interval is None:
                _report(made, as_json)
        except BackendUnavailable as error:
            if not served or interval is None:
                raise
            shell.say(f"waits: {error}")
        if interval is None:
            return bool(store.status.summary_failures)
        time.sleep(interval)


def _report(made: int, as_json: bool) -> None:
    now = datetime.now(timezone.utc)
    if as_json:
        shell.print_json({"at": now, "summaries": made})
    else:
        print(f"{shell.moment(now)}  summaries made: {made}")
    sys.stdout.flush()


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """End the work within when the process is told to stop."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        shell.say("stopped")
    finally:
        signal.signal(signal.SIGTERM, before)


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    if not module or not name:
        raise ValueError(f"--summarizer must be MODULE:NAME, such as myapp.memory:summarizer, not {place!r}")
    sys.path.insert(0, "")  # as `python -m` has it
    try:
        return attrgetter(name)(importlib.import_module(module))
    except Exception as error:  # a module may fail in any way
        raise ValueError(f"--summarizer {place} cannot be loaded: {type(error).__name__}: {error}") from error


def demo(
    url: Annotated[
        str, typer.Option(help="Where to keep the conversation: redis:// and its kin, or memory://")
    ] = "memory://",
    session: Annotated[
        str | None, typer.Option(help="Which session; one that exists goes on. Default: a new one.")
    ] = None,
) -> None:
    """Show a conversation with tool calls, and what the store keeps of it after each turn.

    The model is scripted: no network, no API key.

    \b
    Examples:
      memstore demo
      memstore demo --url redis://localhost:6379/0 --session mine
    """
    from langchain_memstore.demo import main

    main(["--url", url, *(() if session is None else ("--session", session))])


COMMANDS = (clear, worker, demo)
