"""The verdict in a notebook, at once: what `check_here` says of what a kernel holds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from nbclient import NotebookClient
from toylab import ANSWERS, toy_course, write_answers

from mscourse.errors import LabError
from mscourse.labs import check_here
from mscourse.labs.check import check_lab, graft
from mscourse.labs.notebook import (
    Notebook,
    cells_by_label,
    label_of,
    new_code_cell,
    write_notebook,
)
from mscourse.labs.sandbox import sandbox

LAST_WORD = (
    "(Seen in this kernel, as it is now. The last word has `mscourse lab check 01`,\n"
    "which runs the saved notebook from its top.)\n"
)


def run(notebook: Notebook, folder: Path) -> dict[str, str]:
    """Run a notebook in a folder as JupyterLab does; what each cell shows, by its id."""
    with sandbox() as box:
        NotebookClient(
            notebook,
            timeout=60,
            allow_errors=True,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
        ).execute(env=box.environment, stderr=subprocess.DEVNULL)
    shown = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            texts = (o.get("text") or f"{o.get('ename')}: {o.get('evalue')}" for o in cell.outputs)
            shown[cell.id] = "".join(texts)
    return shown


def test_the_kernel_is_judged_like_the_saved_notebook(tmp_path: Path) -> None:
    lab = toy_course(tmp_path).lab("01")
    wrong = {
        "add": "total = 7",
        "sort": "sum = print = 0\ndef in_order(numbers):\n    x = 1\n    return x / 0",
        "largest": "largest = max(numbers)",  # right, though the check prints
    }
    attempt = write_answers(lab, **wrong)
    report = check_lab(lab)
    lab.path.unlink()  # as if it had never been saved

    own = {
        "again": "add = 7\ntotal = 6\ncheck_here('toy')",
        "whose": "import builtins\nbuiltins.print(sum, print)",
        "four": "check_here('01', exercise=4)",
        "nine": "check_here('9')",
    }
    attempt.cells += [new_code_cell(label, source) for label, source in own.items()]
    shown = run(attempt, lab.path.parent)

    for verdict in report.verdicts:
        said = shown[f"feedback-{verdict.exercise.number}"]
        assert said == f"{verdict}\n{LAST_WORD}"
    assert [each.status for each in report.verdicts] == ["differs", "raised", "done"]
    assert "line 4 of in_order: return x / 0" in shown["feedback-2"]

    statuses = [line.split("  ")[0] for line in shown["again"].splitlines() if "Exercise" in line]
    assert statuses == ["done", "raised", "done"], "without another run of the answers"
    assert shown["whose"] == "0 0\n", "the learner's variables are as they were"
    assert shown["four"] == (
        "LabError: The lab 01-toy has no exercise 4; its exercises are numbered 1 to 3."
    )
    assert shown["nine"] == "There is no verdict. There is no lab '9'. The labs are 01-toy.\n"


def test_what_is_not_done_and_what_was_not_run(tmp_path: Path) -> None:
    lab = toy_course(tmp_path).lab("01")
    attempt = lab.attempt()
    cells_by_label(attempt)["add"].source = ""
    shown = run(attempt, tmp_path)
    assert "NameError: name 'total' is not defined" in shown["feedback-1"]
    assert "Have you run the cells above, your answer's among them?" in shown["feedback-1"]
    assert "It still raises NotImplementedError." in shown["feedback-2"]
    assert "Hint: There is a built-in function `sorted`." in shown["feedback-2"]


def test_a_function_that_was_renamed_is_asked_for_by_its_name(tmp_path: Path) -> None:
    lab = toy_course(tmp_path).lab("01")
    attempt = write_answers(lab, sort="def ordered(numbers):\n    return sorted(numbers)")
    said = run(attempt, tmp_path)["feedback-2"]
    assert "The check calls `in_order`. Keep the name that the lab gave it." in said
    assert "Have you run the cells above, your answer's among them?" in said


def test_answers_in_added_cells_are_judged_like_the_saved_notebook(tmp_path: Path) -> None:
    """Below stubs that were left: two raise when they are run, and one only defines a function."""
    lab = toy_course(tmp_path).lab("01")
    attempt = lab.attempt()
    wrong = "def in_order(numbers):\n    return numbers"
    for label, source in {**ANSWERS, "sort": wrong}.items():
        place = [label_of(cell) for cell in attempt.cells].index(label)
        attempt.cells.insert(place + 1, new_code_cell(f"below-{label}", source))
    write_notebook(attempt, lab.path)
    report = check_lab(lab)
    assert [each.status for each in report.verdicts] == ["done", "differs", "done"]
    shown = run(attempt, lab.path.parent)
    for verdict in report.verdicts:
        assert shown[f"feedback-{verdict.exercise.number}"] == f"{verdict}\n{LAST_WORD}"


def test_the_check_leaves_out_what_asks_for_a_verdict(tmp_path: Path) -> None:
    """But a cell of that name in which the learner has written runs, like any other."""
    lab = toy_course(tmp_path).lab("01")
    attempt = write_answers(lab, **ANSWERS)
    ids = [cell.id for cell in graft(lab.solution(), attempt).cells]
    assert not [each for each in ids if each.startswith("added")]
    cells_by_label(attempt)["feedback-2"].source = "print(1)"
    added = [cell for cell in graft(lab.solution(), attempt).cells if cell.id.startswith("added")]
    assert [cell.source for cell in added] == ["print(1)"]


def test_outside_of_a_notebook_the_command_is_named() -> None:
    with pytest.raises(LabError, match="In a terminal, run `mscourse lab check 01`"):
        check_here("01")
