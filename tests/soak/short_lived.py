"""Processes that append a few messages and end: one parent forks hundreds of them."""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from collections.abc import Iterable
from typing import Any

from langchain_memstore import Memstore
from soak.callers import begin_process, journaling_store
from soak.calls import Call, Recorder, Report
from soak.conversations import Writer
from soak.values import Counting

PAUSE = 0.05  # seconds between two of them, on average
MOST_AT_ONCE = 6
LONGEST_LIFE = 60.0  # seconds

JOURNAL = "journal-short-lived"  # which they share: each locks a file of its own, and takes over what others left
CALLS = "short-lived"


def breed(ready: Any, port: int, folder: str) -> None:
    """Fork processes until SIGTERM."""
    stop = begin_process()
    recorder = Recorder(folder, "parent")
    store = journaling_store(port, folder, JOURNAL)
    writer = Writer(recorder, store, "parent")
    writer.step()
    ready.set()
    children: dict[int, tuple[Call, float]] = {}
    number = 0
    while not stop.wait(random.uniform(0, 2 * PAUSE)) or children:
        _reap(children, recorder)
        if stop.is_set() or len(children) >= MOST_AT_ONCE:
            continue
        if random.random() < 0.2:
            writer.step()  # so that a child inherits connections, and what is known of the sessions
        number += 1
        with recorder.call("birth", f"child-{number}") as birth:
            child = os.fork()
            if child == 0:
                _live(store, port, folder, birth.key)
            birth.result = True
        children[child] = birth, time.monotonic()
        if random.random() < 0.1:
            time.sleep(random.uniform(0, 0.05))
            _end(children, child, recorder, "killed")
    store.close()


def _live(parents: Memstore, port: int, folder: str, name: str) -> None:
    """Append and count a little, and exit; in half of the cases through the store that the parent made."""
    status = 1
    try:
        recorder = Recorder(folder, name, CALLS)
        store = parents if random.random() < 0.5 else journaling_store(port, folder, JOURNAL)
        writer, counting = Writer(recorder, store, name), Counting(recorder, store, is_sure=False)
        for _ in range(random.randint(1, 3)):
            writer.step()
        counting.step()
        if random.random() < 0.7:  # the others leave what waits to the next process
            store.close()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _reap(children: dict[int, tuple[Call, float]], recorder: Recorder) -> None:
    for child, (birth, born) in list(children.items()):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            del children[child]
            with recorder.call("death", birth.key) as death:
                death.result = "ended" if status == 0 else f"failed with {status}"
        elif time.monotonic() - born > LONGEST_LIFE:
            _end(children, child, recorder, "hung")


def _end(children: dict[int, tuple[Call, float]], child: int, recorder: Recorder, why: str) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    birth, _ = children.pop(child)
    with recorder.call("death", birth.key) as death:
        death.result = why


def audit_short_lived(report: Report, deaths: Iterable[Call]) -> None:
    """Check that all ended well that were not killed."""
    ends = [(call.key, call.result) for call in deaths]
    report.figures["short-lived processes"] += len(ends)
    report.figures["short-lived processes killed"] += sum(why == "killed" for _, why in ends)
    report.check(
        "short-lived processes that failed",
        [f"{name} {why}" for name, why in ends if why not in ("ended", "killed")],
    )
