"""The notebook for any run: on each kind of run, each cell draws a plot or says why there is none."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import nbformat
import pytest
from committed import CHECKOUT
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from nbclient import NotebookClient

pytestmark = pytest.mark.integration  # plots take long

NOTEBOOK = CHECKOUT / "notebooks" / "your_run.ipynb"
RUNS = Path(__file__).parent / "example_runs"  # small runs, one of each kind
PLOTS = {"latency-plot", "parts-plot", "tail-plot", "over-time-plot", "ratio-plot", "compare-plot"}


class Shown(NamedTuple):
    """The text and the figures of a cell."""

    text: str
    figures: list[Figure]


def the_notebook(run: Path, second: Path | None = None) -> Any:
    """Return the notebook with these runs in its first cell."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]  # nbformat has no types
    (first,) = (cell for cell in notebook.cells if cell.id == "run")
    for name, folder in (("RUN", run), ("SECOND", second)):
        value = None if folder is None else str(folder)
        first.source, times = re.subn(
            rf"^{name} = .*$", f"{name} = {value!r}", first.source, flags=re.MULTILINE
        )
        assert times == 1
    return notebook


def executed(run: Path, second: Path | None = None) -> Mapping[str, Shown]:
    """Run the cells in this process, which is faster than in a kernel; return what each cell shows."""
    matplotlib.use("agg")
    names: dict[str, Any] = {}
    with matplotlib.rc_context():
        return dict(_cells(the_notebook(run, second), names))


def _cells(notebook: Any, names: dict[str, Any]) -> Iterator[tuple[str, Shown]]:
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        source = re.sub(r"^%.*$", "", cell.source, flags=re.MULTILINE)
        with contextlib.redirect_stdout(io.StringIO()) as text:
            exec(compile(source, cell.id, "exec"), names)
        figures = [plt.figure(number) for number in plt.get_fignums()]
        for figure in figures:
            figure.draw_without_rendering()
        yield cell.id, Shown(text.getvalue(), figures)
        plt.close("all")


def drawn(shown: Mapping[str, Shown]) -> set[str]:
    """Return the cells that show a figure with data in it."""
    return {
        name for name, cell in shown.items() for figure in cell.figures for ax in figure.axes if ax.has_data()
    }


def test_every_cell_draws_a_plot_of_a_run_of_several_arms() -> None:
    shown = executed(RUNS / "own-model")
    assert drawn(shown) == PLOTS
    assert shown["run"].text.startswith(f"Run: {RUNS / 'own-model'}\n")
    assert shown["compare-plot"].text.startswith("process takes")


def test_of_two_runs_the_second_is_compared_with_the_first(tmp_path: Path) -> None:
    again = Path(shutil.copytree(RUNS / "own-app", tmp_path / "again"))
    shown = executed(RUNS / "own-app", again)
    assert drawn(shown) == PLOTS
    assert shown["compare-plot"].text.startswith("again:a takes")


def test_a_load_has_four_plots_and_two_sentences() -> None:
    shown = executed(RUNS / "load")
    assert drawn(shown) == PLOTS - {"ratio-plot", "compare-plot"}
    assert shown["ratio-plot"].text.startswith("This run has no two arms to compare.")
    assert "it has one server, and no arms to compare" in shown["compare-plot"].text


def test_a_capacity_run_has_five_plots_and_a_sentence() -> None:
    shown = executed(RUNS / "capacity")
    assert drawn(shown) == PLOTS - {"compare-plot"}
    assert shown["latency-plot"].figures[0].axes[0].get_xlabel() == "rate_per_s"
    assert shown["ratio-plot"].figures[0].axes[0].get_xlabel() == "capacity_per_s, arm / reference"
    assert "They have no load in common." in shown["compare-plot"].text


@pytest.mark.timeout(300)
def test_it_runs_in_a_kernel_on_a_sweep() -> None:
    notebook = the_notebook(RUNS / "sweep")
    NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    pictures = {
        cell.id
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    }
    assert pictures == PLOTS


def test_what_is_committed_shows_a_committed_run_without_an_error() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]  # nbformat has no types
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert "error" not in {output.output_type for output in outputs}
    (said,) = re.findall(r"^Run: \.\./(.*)$", outputs[0].text, re.MULTILINE)
    assert (CHECKOUT / said / "run.json").exists()
