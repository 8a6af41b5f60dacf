"""Every notebook runs from top to bottom, with no network and no key, and is kept clean."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import langchain_memstore

nbformat = pytest.importorskip("nbformat", reason="the notebooks need the extra `test`")
nbclient = pytest.importorskip("nbclient", reason="the notebooks need the extra `test`")

FOLDER = Path(__file__).parents[2] / "notebooks"
NAMES = sorted(path.name for path in FOLDER.glob("*.ipynb"))
assert NAMES, "there are no notebooks"

NOWHERE = "http://127.0.0.1:9"  # the discard port: what goes there fails at once

every_notebook = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], list[Any]]]:
    """Runs a copy of a notebook, once; returns its cells with their outputs.

    The kernel is the running interpreter with the package under test. It finds no network and no key.
    """
    from ipykernel.kernelspec import write_kernel_spec

    folder = tmp_path_factory.mktemp("notebooks")
    write_kernel_spec(folder / "kernels" / "python3")

    @cache
    def cells(name: str) -> list[Any]:
        notebook = nbformat.read(shutil.copy(FOLDER / name, folder), as_version=4)
        nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
        return notebook.cells

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        patch.setenv("PYTHONPATH", str(Path(langchain_memstore.__file__).parents[1]))
        for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            patch.setenv(proxy, NOWHERE)
            patch.setenv(proxy.lower(), NOWHERE)
        for key in [key for key in os.environ if key.endswith("_API_KEY")]:
            patch.delenv(key)
        yield cells


@every_notebook
def test_runs_from_top_to_bottom(name: str, run: Callable[[str], list[Any]]) -> None:
    outputs = [output for cell in run(name) for output in cell.get("outputs", [])]
    assert outputs and not [output.text for output in outputs if output.get("name") == "stderr"]
    assert sum(len(str(output)) for output in outputs) < 100_000


def test_the_summary_remembers_and_the_plot_is_drawn(run: Callable[[str], list[Any]]) -> None:
    outputs = {cell.id: cell.get("outputs", []) for cell in run("rolling_summaries.ipynb")}
    alone, with_summary = outputs["remember"][0].text.splitlines()
    assert alone.endswith("nothing")
    assert "reference PT-4711" in with_summary
    assert "image/png" in outputs["plot"][0].data


@every_notebook
def test_is_kept_without_outputs(name: str) -> None:
    notebook = nbformat.read(FOLDER / name, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs"), cell.id
        assert cell.get("execution_count") is None, cell.id
        assert not cell.metadata, cell.id
