"""Check a learner's lab: run it with nbval, and say in plain words what each exercise lacks.

::

    attempt ──┐
              ├─ graft ─> notebook ─ pytest, nbval ─> cells' results ─ judge ─> LabReport
    solution ─┘

Only the answers are the learner's: every other cell of the course is taken from the solution, in
the solution's order, so that a check cell that was edited, moved or deleted checks all the same.
Cells that the learner added run where they stand, and cannot fail the lab. They may hold answers:
a stub that was left above them does no harm, if the checks print what they should.

What this does not stop: the checks run in the same Python process as the answers, so that code
written for the purpose (a replaced ``builtins.print``, a patched library, a recorded output that
is printed as it stands) can deceive it. The solutions lie next door; there is nothing to win.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from mscourse.errors import CheckerError
from mscourse.labs.course import Lab
from mscourse.labs.notebook import (
    ADDED_PREFIX,
    Notebook,
    added_cells,
    cells_by_label,
    exercises,
    is_answer,
    is_check,
    new_code_cell,
    nothing_written,
    read_notebook,
    to_text,
)
from mscourse.labs.sandbox import CELL_TIMEOUT_S, Sandbox, sandbox
from mscourse.labs.verdict import CellResult, Judge, LabReport

#: Is told how many cells have run, and how many there are.
OnCell: TypeAlias = Callable[[int, int], None]

#: How often it is looked how far the run is.
_LOOK_PERIOD_S = 0.2

#: pytest's exit statuses when it has run all there was to run: all passed, or some failed.
_PYTEST_RAN = (0, 1)

_RUNNER = Path(__file__).with_name("runner.py")
_LOG = "pytest.log"

#: Runs before each check cell: a learner's `sum = 0` must not break a check that sums.
_GUARD = "from builtins import *"


def check_lab(
    lab: Lab,
    path: Path | None = None,
    *,
    cell_timeout_s: float = CELL_TIMEOUT_S,
    total_timeout_s: float | None = None,
    on_cell: OnCell | None = None,
) -> LabReport:
    """Run a learner's notebook and judge each exercise.

    Parameters
    ----------
    lab : Lab
    path : Path, optional
        The learner's notebook; by default the lab's own file.
    cell_timeout_s : float
        How long a cell may take before it is interrupted.
    total_timeout_s : float, optional
        How long the whole notebook may take before its run is ended, whatever it is at. No
        limit by default.
    on_cell : callable, optional
        Called with the number of cells that have run, and that of all cells, as they change.

    Raises
    ------
    LabError
        The notebook cannot be read.
    CheckerError
        The checker did not run to its end, or not within the time.
    """
    attempt = lab.attempt() if path is None else read_notebook(path)
    solution = lab.solution()
    asked = exercises(solution)
    is_untouched = nothing_written(solution, attempt)
    if is_untouched:
        results: dict[str, CellResult] = {}  # there is nothing to run
    else:
        results = run_cells(
            graft(solution, attempt),
            cell_timeout_s,
            total_timeout_s=total_timeout_s,
            on_cell=on_cell,
        )
    judge = Judge(solution, attempt, results, cell_timeout_s)
    inside = {label for exercise in asked for label in exercise.cells}
    outside = [label for label in cells_by_label(solution) if label not in inside]
    added = [label for label in results if label.startswith(ADDED_PREFIX)]
    return LabReport(
        lab,
        tuple(judge.verdict(exercise) for exercise in asked),
        failures=tuple(judge.complaints("A cell of the course", outside)),
        remarks=tuple(judge.complaints("A cell that you added", added)),
        untouched=is_untouched,
    )


def graft(solution: Notebook, attempt: Notebook) -> Notebook:
    """Put the learner's answers, and the cells they added, among the solution's code cells.

    An added cell follows the cell of the course that it follows in the attempt.
    """
    known, written = cells_by_label(solution), cells_by_label(attempt)
    added = added_cells(solution, attempt)
    cells = added[None]
    for label, reference in known.items():
        if is_check(reference):
            cells += [new_code_cell(f"guard-{label}", _GUARD), copy.deepcopy(reference)]
        elif not is_answer(reference):
            cells.append(new_code_cell(label, reference.source))
        elif label in written and written[label].cell_type == "code":
            cells.append(new_code_cell(label, written[label].source))
        cells += added[label]
    notebook = copy.deepcopy(solution)
    notebook.cells = cells
    return notebook


def run_cells(
    notebook: Notebook,
    cell_timeout_s: float,
    *,
    total_timeout_s: float | None = None,
    on_cell: OnCell | None = None,
) -> dict[str, CellResult]:
    """Run a grafted notebook with nbval; the results by the cells' labels, in order.

    Raises
    ------
    CheckerError
        Not each cell was run.
    """
    n_cells = len(notebook.cells)
    deadline_s = None if total_timeout_s is None else time.monotonic() + total_timeout_s
    tell = on_cell or (lambda n_run, n_cells: None)
    with sandbox() as box:
        notebook_path = box.working_folder / "lab.ipynb"
        notebook_path.write_text(to_text(notebook), encoding="utf-8")
        report_path = box.folder / "report.json"
        process = _start_pytest(box, notebook_path, report_path, cell_timeout_s)
        try:
            n_run = -1
            while (status := _status(process)) is None:
                if n_run != (n_run := _n_run(report_path)):
                    tell(n_run, n_cells)
                if deadline_s is not None and time.monotonic() > deadline_s:
                    raise CheckerError(
                        f"The notebook was not done after {total_timeout_s:g} s, and was ended: "
                        f"{n_run} of {n_cells} cells have run. There is no verdict on the lab."
                    )
        finally:
            process.kill()  # the sandbox sees to what it has started
            process.wait()
        log = (box.folder / _LOG).read_text(encoding="utf-8", errors="replace")
        try:
            report = json.loads(report_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            report = {"exit_status": None, "cells": []}
    expected = [cell.id for cell in notebook.cells]
    ran = [cell.pop("id") for cell in report["cells"]]
    if status not in _PYTEST_RAN or report["exit_status"] != status or ran != expected:
        raise CheckerError(
            f"The checker did not run to its end: {len(ran)} of {n_cells} cells ran, and "
            f"pytest ended with status {status}. There is no verdict on the lab. Try again; if "
            f"it stays so, run `mscourse doctor`. The end of its log:\n{log[-2000:]}"
        )
    cells = (CellResult(**cell) for cell in report["cells"])
    return dict(zip(expected, cells, strict=True))


def _start_pytest(
    box: Sandbox, notebook_path: Path, report_path: Path, cell_timeout_s: float
) -> subprocess.Popen[bytes]:
    """Start pytest apart from this process, and from the learner's settings of it."""
    environment = {name: value for name, value in box.environment.items() if "PYTEST" not in name}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    with (box.folder / _LOG).open("wb") as log:
        return subprocess.Popen(
            [
                *(sys.executable, "-P", str(_RUNNER), str(report_path)),
                *("--quiet", "--color=no", "--tb=short", "-p", "no:cacheprovider"),
                *("-c", os.devnull, "--rootdir", str(box.folder), "--noconftest"),
                *("-p", "nbval.plugin", "--nbval-lax", "--nbval-current-env"),
                *(f"--nbval-cell-timeout={cell_timeout_s}", str(notebook_path)),
            ],
            env=environment,
            cwd=box.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _status(process: subprocess.Popen[bytes]) -> int | None:
    """Wait a moment for a process; return its exit status, or None while it runs."""
    try:
        return process.wait(_LOOK_PERIOD_S)
    except subprocess.TimeoutExpired:
        return None


def _n_run(report_path: Path) -> int:
    """How many cells have run so far."""
    try:
        return int(report_path.with_name(f"{report_path.name}.count").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0  # not yet written, or not quite
