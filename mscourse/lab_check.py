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
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import Any, Literal

from mscourse.errors import CheckerError, LabError
from mscourse.lab_sandbox import Sandbox, sandbox
from mscourse.labs import (
    Cell,
    Exercise,
    Lab,
    Notebook,
    cells_by_label,
    exercises,
    is_answer,
    is_check,
    read_notebook,
    to_text,
    untouched,
)

#: How long a cell may take. The solutions' cells take less than 10 s each.
CELL_TIMEOUT_S = 60.0

#: pytest's exit statuses when it has run all there was to run: all passed, or some failed.
_PYTEST_RAN = (0, 1)

#: Runs before each check cell: a learner's `sum = 0` must not break a check that sums.
_GUARD = "from builtins import *"

_MAX_LINES_SHOWN = 12
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_FRAME = re.compile(r"^(?:Cell|File) .*", re.MULTILINE)
_ARROW = re.compile(r"^-+> *(\d+) (.*)$", re.MULTILINE)

Status = Literal["done", "not done yet", "raised", "differs", "timed out", "stopped", "missing"]


# --- what is reported ------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """What became of one exercise.

    Attributes
    ----------
    exercise : Exercise
    status : str
        ``"done"``, ``"not done yet"``, ``"raised"``, ``"differs"`` (the check printed something
        else), ``"timed out"``, ``"stopped"`` (the kernel died) or ``"missing"`` (the answer's
        cell is not there).
    message : str
        What happened, for all but the exercises that are done.
    """

    exercise: Exercise
    status: Status
    message: str = ""

    def __str__(self) -> str:
        if self.status == "done":
            return f"{self.exercise}: done"
        hint = f"\nHint: {self.exercise.hint}" if self.exercise.hint else ""
        return f"{self.exercise}: {self.message}{hint}"


@dataclass(frozen=True)
class LabReport:
    """The verdicts on a lab, and remarks on cells that belong to no exercise.

    Attributes
    ----------
    lab : Lab
    verdicts : tuple of Verdict
    failures : tuple of str
        Cells of the course outside the exercises that did not run, such as one that starts a
        cluster. The lab is not solved then.
    remarks : tuple of str
        Cells the learner added that did not run. They do not count.
    """

    lab: Lab
    verdicts: tuple[Verdict, ...]
    failures: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def n_done(self) -> int:
        """How many exercises are done."""
        return sum(verdict.status == "done" for verdict in self.verdicts)

    @property
    def solved(self) -> bool:
        """Whether all exercises are done, and the cells around them ran."""
        return self.n_done == len(self.verdicts) and not self.failures

    def __str__(self) -> str:
        paragraphs = [f"{self.lab.name}: {self.n_done} of {len(self.verdicts)} exercises done"]
        for text in (*self.failures, *map(str, self.verdicts), *self.remarks):
            first, *rest = text.splitlines()
            paragraphs.append("\n".join(["  " + first, *("      " + line for line in rest)]))
        return "\n".join(line.rstrip() for line in "\n".join(paragraphs).splitlines())


# --- check -----------------------------------------------------------------------------------


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
    questions = exercises(solution)
    if all(untouched(exercise, solution, attempt) for exercise in questions):
        results: dict[str, CellResult] = {}  # nothing to run
    else:
        notebook = graft(solution, attempt)
        results = {result.label: result for result in run_cells(notebook, cell_timeout_s)}
    judge = _Judge(solution, attempt, results, cell_timeout_s)
    inside = {label for exercise in questions for label in exercise.cells}
    outside = [label for label in cells_by_label(solution) if label not in inside]
    added = [label for label in results if label.startswith(_ADDED)]
    return LabReport(
        lab,
        tuple(judge.verdict(exercise) for exercise in questions),
        tuple(judge.remarks(outside, "The course's cell")),
        tuple(judge.remarks(added, "Your own cell")),
    )


_ADDED = "added-"


def graft(solution: Notebook, attempt: Notebook) -> Notebook:
    """Put the learner's answers, and the cells they added, into the solution's code cells.

    An added cell follows the cell of the course that it follows in the attempt.
    """
    answers = cells_by_label(attempt)
    originals = {id(cell) for cell in answers.values()}
    known = cells_by_label(solution)
    added: dict[str | None, list[Cell]] = defaultdict(list)
    place: str | None = None
    for cell in attempt.cells:
        label = cell.metadata.get("label")
        if label in known and id(cell) in originals:
            place = label
        elif cell.cell_type == "code":
            added[place].append(_code_cell(f"{_ADDED}{len(added)}-{len(added[place])}", cell.source))

    cells = added[None]
    for label, reference in known.items():
        if is_check(reference):
            cells += [_code_cell(f"guard-{label}", _GUARD), copy.deepcopy(reference)]
        elif is_answer(reference):
            answer = answers.get(label)
            if answer is not None and answer.cell_type == "code":
                cells.append(_code_cell(label, answer.source))
        else:
            cells.append(_code_cell(label, reference.source))
        cells += added[label]
    notebook = copy.deepcopy(solution)
    notebook.cells = cells
    return notebook
