"""Every notebook runs from top to bottom, with no network and no key, and is kept clean."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="the notebooks need the extra `test`")
nbclient = pytest.importorskip("nbclient", reason="the notebooks need the extra `test`")

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
assert NOTEBOOKS, "there are no notebooks"

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)

NOWHERE = "http://127.0.0.1:9"  # the discard port: what goes there fails at once


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `python3` the kernel of the running interpreter, which finds no network and no key."""
    from ipykernel.kernelspec import write_kernel_spec

    write_kernel_spec(tmp_path / "kernels" / "python3")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, NOWHERE)
        monkeypatch.setenv(name.lower(), NOWHERE)
    for name in [name for name in os.environ if name.endswith("_API_KEY")]:
        monkeypatch.delenv(name)


def run(path: Path, folder: Path) -> list[Any]:
    """Run a copy of a notebook in a folder; returns its cells with their outputs."""
    notebook = nbformat.read(shutil.copy(path, folder), as_version=4)
    nbclient.NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook.cells


@pytest.mark.usefixtures("kernel")
@every_notebook
def test_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    outputs = [output for cell in run(path, tmp_path) for output in cell.get("outputs", [])]
    warned = [output.text for output in outputs if output.get("name") == "stderr"]
    assert outputs and not warned
    assert sum(len(str(output)) for output in outputs) < 100_000


@pytest.mark.usefixtures("kernel")
def test_the_plot_is_drawn_and_the_summary_remembers(tmp_path: Path) -> None:
    path = next(path for path in NOTEBOOKS if path.name == "rolling_summaries.ipynb")
    outputs = {cell.id: cell.get("outputs", []) for cell in run(path, tmp_path)}
    assert "image/png" in outputs["plot"][0].data
    printed = outputs["remember"][0].text.splitlines()
    assert printed[0].endswith("nothing")
    assert "reference PT-4711" in printed[1]


@every_notebook
def test_is_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs"), cell.id
        assert cell.get("execution_count") is None, cell.id
        assert not cell.metadata, cell.id
