"""Build labs: run each source, record what it prints, and derive the learner's notebook.

Building twice gives the same bytes: ids come from labels, counts from positions, and neither
times nor versions are recorded. The output of a cell tagged ``varies`` (a process id, a number of
megabytes, a picture) is recorded once and kept for as long as the cell's source stays the same.
"""

import copy
import subprocess
from pathlib import Path
from typing import Any

import jupytext
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from mscourse.errors import LabError
from mscourse.labs.course import Lab, back_up
from mscourse.labs.notebook import (
    CHECK_PREFIX,
    Cell,
    Exercise,
    Notebook,
    cells_by_label,
    exercises,
    read_notebook,
    strip,
    write_notebook,
)
from mscourse.labs.sandbox import sandbox
from mscourse.labs.verdict import strip_ansi

#: A solution's cell that takes longer than this is not fit for a lab.
_CELL_TIMEOUT_S = 120

_KERNEL = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}


def read_source(path: Path) -> Notebook:
    """Read a lab's source, and see that it is complete.

    Raises
    ------
    LabError
        A code cell has no label of its own, or an exercise lacks its hint, its answer or its
        check.
    """
    notebook: Notebook = jupytext.read(path, fmt="md:myst")
    settings = dict(notebook.metadata.get("mscourse", {}))
    notebook.metadata.clear()
    notebook.metadata.update(
        kernelspec=_KERNEL,
        language_info={"name": "python"},
        mscourse={"lab": path.stem, **settings},
    )
    notebook.nbformat_minor = 5
    labels: set[str] = set()
    for position, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            _label(cell, labels, path)
        else:
            cell.id = f"text-{position}"
    _require(exercises(notebook), path)
    return notebook


def _label(cell: Cell, labels: set[str], path: Path) -> None:
    label = cell.metadata.get("label")
    if label is None or label in labels:
        raise LabError(
            f"{path}: the code cell that starts with {cell.source[:60]!r} needs a :label: "
            f"of its own{f', and {label!r} is taken' if label else ''}."
        )
    labels.add(label)
    cell.id = label
    if label.startswith(CHECK_PREFIX):
        tags = [*cell.metadata.get("tags", []), "nbval-check-output"]
        cell.metadata["tags"] = tags


def _require(found: list[Exercise], path: Path) -> None:
    if [exercise.number for exercise in found] != list(range(1, len(found) + 1)) or not found:
        raise LabError(f"{path}: the exercises are not numbered 1, 2, 3, ...: {found}.")
    for exercise in found:
        parts = {"hint": exercise.hint, "answer": exercise.answers, "check": exercise.checks}
        lacking = [part for part, present in parts.items() if not present]
        if lacking:
            raise LabError(f"{path}: exercise {exercise.number} has no {' and no '.join(lacking)}.")


def build_lab(lab: Lab) -> Path | None:
    """Execute a lab's source, record the solution, and write the learner's notebook.

    Returns
    -------
    Path or None
        The backup of the learner's notebook, had it been changed since it was generated.

    Raises
    ------
    LabError
        The source is not complete, or one of its cells raises; nothing has been written then.
    """
    if not lab.source_path.exists():
        raise LabError(
            f"{lab.source_path} is not there: labs are built from their sources, and a handout "
            "has none. Build them in the course's own folder."
        )
    before = read_notebook(lab.solution_path) if lab.solution_path.exists() else None
    solution = read_source(lab.source_path)
    execute(solution, lab)
    _record(solution, before)
    _require_outputs(solution, lab)
    fresh = strip(solution)
    generated = [fresh] if before is None else [fresh, strip(before)]
    backup = back_up(lab.path) if all(map(lab.differs_from, generated)) else None
    write_notebook(solution, lab.solution_path)
    write_notebook(fresh, lab.path)
    return backup


def execute(notebook: Notebook, lab: Lab) -> None:
    """Run a notebook in a kernel and a folder of its own, and fill in its outputs."""
    metadata = copy.deepcopy(notebook.metadata)
    with sandbox() as box:
        client = NotebookClient(
            notebook,
            timeout=_CELL_TIMEOUT_S,
            coalesce_streams=True,
            record_timing=False,
            kernel_name="python3",
            resources={"metadata": {"path": str(box.working_folder)}},
        )
        try:
            client.execute(env=box.environment, stderr=subprocess.DEVNULL)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            raise LabError(
                f"{lab.source_path} does not run to its end:\n{strip_ansi(str(error))}"
            ) from error
    notebook.metadata = metadata  # without what the kernel says of its version


def _record(solution: Notebook, before: Notebook | None) -> None:
    """Keep of the outputs what is the same each time; keep former ones that vary."""
    former = cells_by_label(before) if before is not None else {}
    code_cells = (cell for cell in solution.cells if cell.cell_type == "code")
    for count, cell in enumerate(code_cells, start=1):
        old = former.get(cell.metadata.label)
        if "varies" in cell.metadata.get("tags", []) and old and old.source == cell.source:
            cell.outputs = old.outputs
        cell.outputs = [output for output in cell.outputs if not _is_passing(output)]
        cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count


def _is_passing(output: dict[str, Any]) -> bool:
    """Whether an output is a progress bar or a log, which is of no use later."""
    is_widget = "application/vnd.jupyter.widget-view+json" in output.get("data", {})
    return is_widget or output.get("name") == "stderr"


def _require_outputs(solution: Notebook, lab: Lab) -> None:
    cells = cells_by_label(solution)
    for exercise in exercises(solution):
        for label in exercise.checks:
            if not cells[label].outputs:
                raise LabError(
                    f"{lab.source_path}: the cell {label!r} prints nothing, so it checks nothing."
                )
