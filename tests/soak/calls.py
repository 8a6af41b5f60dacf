"""Records of calls: what each caller asked for, and what it was told."""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from langchain_memstore import BackendError

ENDING = ".calls"


@dataclass(slots=True)
class Call:
    """One call."""

    id: str
    kind: str
    key: str
    detail: list[Any]
    start: float
    """When it began, in seconds since 1970: all processes and the server have the same clock."""
    end: float = math.inf
    """When it ended; infinity: its process was killed before."""
    result: Any = None
    """What the caller was told; None: nothing, as the call raised, or never ended."""
    raised: str | None = None
    """The class of the `BackendError` that it raised."""

    @property
    def is_known(self) -> bool:
        """Whether the caller was told what became of the call."""
        return self.result is not None


class Recorder:
    """Appends calls to a file. Each record is one write, so that the death of the process tears none.

    Args:
        folder: Where the files of all callers are.
        caller: Who calls; no two recorders have the same name.
        file: The name of the file, where several callers share one.
    """

    def __init__(self, folder: str, caller: str, file: str | None = None) -> None:
        self._caller = caller
        self._numbers = count()
        path = os.path.join(folder, (file or caller) + ENDING)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextmanager
    def call(self, kind: str, key: str, *detail: Any) -> Iterator[Call]:
        """Record a call while it is made; the block sets its result. A `BackendError` ends the block."""
        call = Call(f"{self._caller}#{next(self._numbers)}", kind, key, list(detail), time.time())
        self._write(["begin", call.id, kind, key, call.detail, call.start])
        try:
            yield call
        except BackendError as error:
            call.raised = type(error).__name__
        finally:
            call.end = time.time()
            self._write(["end", call.id, call.end, call.result, call.raised])

    def _write(self, record: list[Any]) -> None:
        os.write(self._file, json.dumps(record).encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)


def read_calls(folder: str) -> dict[str, list[Call]]:
    """Read what all callers recorded, by the kind of the call."""
    calls: dict[str, Call] = {}
    for path in Path(folder).glob(f"*{ENDING}"):
        for line in path.read_bytes().splitlines():
            what, call_id, *rest = json.loads(line)
            if what == "begin":
                calls[call_id] = Call(call_id, *rest)
            else:
                calls[call_id].end, calls[call_id].result, calls[call_id].raised = rest
    kinds: dict[str, list[Call]] = {}
    for call in sorted(calls.values(), key=lambda call: call.start):
        kinds.setdefault(call.kind, []).append(call)
    return kinds


def by_key(calls: Iterable[Call]) -> dict[str, list[Call]]:
    """Group calls by their key."""
    groups: dict[str, list[Call]] = {}
    for call in calls:
        groups.setdefault(call.key, []).append(call)
    return groups


@dataclass
class Report:
    """What an audit found."""

    figures: Counter[str] = field(default_factory=Counter)
    """How much was audited."""
    violations: Counter[str] = field(default_factory=Counter)
    """How often each rule was broken; 0 where it was not."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """Some violations of each rule that was broken."""

    def check(self, rule: str, violations: Sequence[str], count: int | None = None) -> None:
        """Note how a rule was broken.

        Args:
            rule: What must not be.
            violations: Each case in words.
            count: How many violations that makes; None: one each.
        """
        self.violations[rule] += len(violations) if count is None else count
        if violations:
            self.examples[rule] = [*self.examples.get(rule, []), *violations][:5]

    @property
    def is_clean(self) -> bool:
        return not any(self.violations.values())


def current_name(name: str, seconds: float, choices: int = 1, skew: float = 1) -> str:
    """Return one of a few names that all callers use for so many seconds, and nobody thereafter.

    Args:
        name: How they begin.
        seconds: For how long they are in use.
        choices: How many there are at a time.
        skew: With 1 all are used equally; with more, the first ones more often than the last ones.
    """
    return f"{name}-{int(time.time() / seconds)}-{int(choices * random.random() ** skew)}"
