"""Check a learner's lab: run it with nbval, and say in plain words what each exercise lacks.

::

    attempt ──┐
              ├─ graft ─> notebook ─ pytest, nbval ─> cells' results ─ judge ─> LabReport
    solution ─┘

Only the answers are the learner's: every other cell of the course is taken from the solution, in
the solution's order, so that a check cell that was edited, moved or deleted checks all the same.
Cells that the learner added run where they stand, and cannot fail the lab.

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
from collections import defaultdict
from pathlib import Path

from mscourse.errors import CheckerError
from mscourse.labs.course import Lab
from mscourse.labs.notebook import (
    Cell,
    Notebook,
    cells_by_label,
    exercises,
    is_answer,
    is_check,
    label_of,
    new_code_cell,
    read_notebook,
    to_text,
    untouched,
)
from mscourse.labs.sandbox import Sandbox, sandbox
from mscourse.labs.verdict import CellResult, Judge, LabReport

#: How long a cell may take. The solutions' cells take less than 10 s each.
CELL_TIMEOUT_S = 60.0

#: pytest's exit statuses when it has run all there was to run: all passed, or some failed.
_PYTEST_RAN = (0, 1)

_RUNNER = Path(__file__).with_name("runner.py")

#: The ids of cells that are not the course's start like this.
_ADDED_PREFIX = "added-"

#: Runs before each check cell: a learner's `sum = 0` must not break a check that sums.
_GUARD = "from builtins import *"


def check_lab(
    lab: Lab, path: Path | None = None, *, cell_timeout_s: float = CELL_TIMEOUT_S
) -> LabReport:
    """Run a learner's notebook and judge each exercise.

    Parameters
    ----------
    lab : Lab
    path : Path, optional
        The learner's notebook; by default the lab's own file.
    cell_timeout_s : float
        How long a cell may take before it is interrupted.

    Raises
    ------
    LabError
        The notebook cannot be read.
    CheckerError
        The checker did not run to its end.
    """
    attempt = lab.attempt() if path is None else read_notebook(path)
    solution = lab.solution()
    asked = exercises(solution)
    if all(untouched(exercise, solution, attempt) for exercise in asked):
        results: dict[str, CellResult] = {}  # there is nothing to run
    else:
        results = run_cells(graft(solution, attempt), cell_timeout_s)
    judge = Judge(solution, attempt, results, cell_timeout_s)
    inside = {label for exercise in asked for label in exercise.cells}
    outside = [label for label in cells_by_label(solution) if label not in inside]
    added = [label for label in results if label.startswith(_ADDED_PREFIX)]
    return LabReport(
        lab,
        tuple(judge.verdict(exercise) for exercise in asked),
        failures=tuple(judge.complaints("A cell of the course", outside)),
        remarks=tuple(judge.complaints("A cell that you added", added)),
    )


def graft(solution: Notebook, attempt: Notebook) -> Notebook:
    """Put the learner's answers, and the cells they added, among the solution's code cells.

    An added cell follows the cell of the course that it follows in the attempt.
    """
    known, written = cells_by_label(solution), cells_by_label(attempt)
    added = _added_cells(known, written, attempt)
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


def _added_cells(
    known: dict[str, Cell], written: dict[str, Cell], attempt: Notebook
) -> dict[str | None, list[Cell]]:
    """The learner's own code cells, by the label of the course's cell that each follows."""
    added: dict[str | None, list[Cell]] = defaultdict(list)
    place = None
    for position, cell in enumerate(attempt.cells):
        label = label_of(cell)
        if label is not None and label in known and written[label] is cell:
            place = label
        elif cell.cell_type == "code":
            added[place].append(new_code_cell(f"{_ADDED_PREFIX}{position}", cell.source))
    return added


def run_cells(notebook: Notebook, cell_timeout_s: float) -> dict[str, CellResult]:
    """Run a grafted notebook with nbval; the results by the cells' labels, in order.

    Raises
    ------
    CheckerError
        Not each cell was run.
    """
    with sandbox() as box:
        notebook_path = box.working_folder / "lab.ipynb"
        notebook_path.write_text(to_text(notebook), encoding="utf-8")
        report_path = box.folder / "report.json"
        status, log = _run_pytest(box, notebook_path, report_path, cell_timeout_s)
        try:
            report = json.loads(report_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            report = {"exit_status": None, "cells": []}
    expected = [cell.id for cell in notebook.cells]
    ran = [cell.pop("id") for cell in report["cells"]]
    if status not in _PYTEST_RAN or report["exit_status"] != status or ran != expected:
        raise CheckerError(
            f"The checker did not run to its end: {len(ran)} of {len(expected)} cells ran, and "
            f"pytest ended with status {status}. There is no verdict on the lab. Try again; if "
            f"it stays so, run `mscourse doctor`. The end of its log:\n{log[-2000:]}"
        )
    cells = (CellResult(**cell) for cell in report["cells"])
    return dict(zip(expected, cells, strict=True))


def _run_pytest(
    box: Sandbox, notebook_path: Path, report_path: Path, cell_timeout_s: float
) -> tuple[int, str]:
    """Run pytest apart from this process, and from the learner's settings of it."""
    environment = {name: value for name, value in box.environment.items() if "PYTEST" not in name}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    finished = subprocess.run(
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
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return finished.returncode, finished.stdout
