"""Python's garbage collector, which rests while a large window is decoded."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

MANY = 100  # messages, of half a dozen objects each: with fewer, the collector seldom comes between


@contextmanager
def collector_resting() -> Iterator[None]:
    """Let the garbage collector rest while many objects are made that are all in use.

    It goes through the young objects whenever there are some 700 more of them
    (https://docs.python.org/3/library/gc.html#gc.set_threshold), and so again and again through the messages of a large
    window, which takes as long as decoding them. It rests in the whole process, for some milliseconds at the most;
    where the program has turned it off, it stays off.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
