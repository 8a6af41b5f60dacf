"""Which files of the package a message runs through: `python -m benchmarks.trace`.

A call of a function is a step; where it is in another file than the call before, the reader changes files. An append is
followed from `history.add_messages` until it returns, its reply included.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage

import langchain_memstore
from benchmarks.server import redis_server
from langchain_memstore import Memstore

PACKAGE = Path(langchain_memstore.__file__).parent
TURN = [HumanMessage("Where is it?"), AIMessage("Over there.")]


def trace(call: Callable[[], object]) -> list[str]:
    """Return the files of the functions that a call runs through, each as often as the reader comes to it."""
    files: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            files.append(str(path.relative_to(PACKAGE)))

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return [file for file, _ in groupby(files)]


def traces() -> Iterator[tuple[str, list[str]]]:
    """Trace an append and a read of a session in use, and a first append that begins an outage."""
    with redis_server() as url:
        with Memstore.from_url(url, fallback=False) as store:  # so that the scripts are known
            store.history("other").add_messages(TURN)
        with Memstore.from_url(url) as store:
            history = store.history("session")
            history.add_messages(TURN)
            yield "an append", trace(lambda: history.add_messages(TURN))
            yield "a read", trace(lambda: history.messages)
        store = Memstore.from_url(url)
        history = store.history("session")
        assert store.kv().get("key") is None  # a connection is open
    logging.disable(logging.WARNING)  # that there is an outage, and an append that nobody replays
    try:
        files = trace(lambda: history.add_messages(TURN))
        assert store.status.degraded
        store.close()
    finally:
        logging.disable(logging.NOTSET)
    yield "an append that begins an outage", files


def main() -> None:
    """Print what each goes through."""
    for what, files in traces():
        print(f"{what}: {len(set(files))} files, {len(files) - 1} changes of file")
        print("  " + " > ".join(files))


if __name__ == "__main__":
    main()
