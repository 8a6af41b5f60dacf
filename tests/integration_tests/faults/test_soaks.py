"""Short soaks, as `make soak` runs them for longer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import soak

SECONDS = float(os.environ.get("MEMSTORE_SOAK", "12"))
PATIENCE = 240  # seconds: how long a slow machine may take to begin, to end, and to audit


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("kind", [[], ["--rollback"]], ids=["faulty lines", "rollback"])
def test_callers_are_told_what_is_so(kind: list[str]) -> None:
    paths = [str(Path(soak.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "soak", "--minutes", str(SECONDS / 60), "--seed", "11", *kind],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdout=subprocess.PIPE,
        text=True,
        timeout=SECONDS + PATIENCE,
    )
    assert done.stdout, "the soak itself has failed"
    found = json.loads(done.stdout)
    assert found["examples"] == {}
    assert done.returncode == 0
    assert found["faults"] and all(found["audited"][figure] for figure in ("messages required", "messages held"))
