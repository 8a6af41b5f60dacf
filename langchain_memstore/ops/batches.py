"""What recent calls have done, by their batch ids: `<id>=<result>;` for each, as in `lua/common.lua`."""

from __future__ import annotations

import os

RECENT = 1024  # bytes of recent batch ids and results to keep, as in lua/common.lua


def new_batch() -> str:
    """Make the id by which a store knows an operation that is sent again (64 random bits)."""
    return os.urandom(8).hex()


def recalled(batches: str, batch: str) -> str | None:
    """Return the result of an earlier call with this batch id; None where there was none."""
    _, found, rest = batches.partition(f"{batch}=")
    return rest[: rest.index(";")] if found else None


def noted(batches: str, batch: str, result: str) -> str:
    """Return the batches with one more, less the oldest where they grow too long."""
    batches += f"{batch}={result};"
    if len(batches) > RECENT:
        batches = batches[batches.index(";", len(batches) - RECENT - 1) + 1 :]
    return batches
