"""What a look at a store comes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """What one look has shown."""

    name: str
    """What was looked at."""
    verdict: Literal["fine", "finding", "unchecked"]
    """Whether all is well, something is to be done, or it could not be checked."""
    seen: str
    """What was seen."""
    advice: str = ""
    """What to do; empty: nothing."""
    sessions: tuple[str, ...] = ()
    """The ids of the sessions that this is about."""
