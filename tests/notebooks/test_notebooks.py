"""Every notebook runs from top to bottom, with no network and no key, and is kept clean."""

from __future__ import annotations

import os
import re
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
    assert sum(len(str(output)) for output in outputs) < 150_000


def printed(cell: Any) -> str:
    """What a cell has printed."""
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")


@pytest.fixture
def cells(request: pytest.FixtureRequest, run: Callable[[str], list[Any]]) -> dict[str, Any]:
    """The cells of a notebook that was run, by their ids."""
    return {cell.id: cell for cell in run(request.param)}


def of(name: str) -> pytest.MarkDecorator:
    """Chooses the notebook."""
    return pytest.mark.parametrize("cells", [name], indirect=True)


@of("rolling_summaries.ipynb")
def test_the_summary_remembers_and_the_plot_is_drawn(cells: dict[str, Any]) -> None:
    alone, with_summary = printed(cells["remember"]).splitlines()
    assert alone.endswith("nothing")
    assert "reference PT-4711" in with_summary
    assert "image/png" in cells["plot"].outputs[0].data


@of("quickstart.ipynb")
def test_the_quick_start_remembers(cells: dict[str, Any]) -> None:
    assert "You are Ada." in printed(cells["chain"]) and "I do not know" in printed(cells["chain"])
    assert printed(cells["snapshot"]).startswith("['ai', 'human', 'ai', 'tool', 'ai']")
    for shown in ("history", "window", "store"):
        assert cells[shown].outputs[-1].data["text/html"].startswith('<div class="memstore">')


@of("redis_and_outages.ipynb")
def test_redis_goes_and_comes_back(cells: dict[str, Any]) -> None:
    assert re.findall(r"\d+ times?", printed(cells["duplicate"])) == ["2 times", "1 time"]
    assert "unused for 2.5 s: 0 keys are left" in printed(cells["ttl"])
    warning, shown = cells["outage"].outputs
    assert warning.text.startswith("WARNING the store is out of reach") and warning.text.count("\n") == 1
    assert "By train." in shown.data["text/html"] and "Redis is out of reach since" in shown.data["text/html"]
    assert printed(cells["status"]).split() == ["local", "True", "1"]
    assert printed(cells["strict"]).split() == ["BackendUnavailable"]
    status, *said = printed(cells["back"]).splitlines()
    assert status.split() == ["redis", "False", "0"]
    assert len(said) == 6 and said[-1].split(maxsplit=1) == ["ai", "Good choice."]


@of("agents.ipynb")
def test_the_agent_remembers(cells: dict[str, Any]) -> None:
    assert "695 km in all." in printed(cells["goes-on"])
    assert "You are Ada." in printed(cells["stream"]) and "Lisbon" not in printed(cells["stream"])
    assert printed(cells["fails"]).startswith("the tool fails")
    assert printed(cells["summary"]).startswith("You are Grace.")


@of("inspecting_memory.ipynb")
def test_what_a_conversation_costs_is_plotted(cells: dict[str, Any]) -> None:
    assert all(
        "image/png" in cells[plot].outputs[0].data for plot in ("window-plot", "tokens-plot", "memory", "latency")
    )
    assert int(printed(cells["memory"]).split()[0]) > 100
    for shown in ("look-store", "look-history"):
        assert cells[shown].outputs[-1].data["text/html"].startswith('<div class="memstore">')


@every_notebook
def test_is_kept_without_outputs(name: str) -> None:
    notebook = nbformat.read(FOLDER / name, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs"), cell.id
        assert cell.get("execution_count") is None, cell.id
        assert not cell.metadata, cell.id
