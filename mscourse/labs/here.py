# ruff: noqa: T201 (it speaks to the reader of a notebook)
"""A verdict in the notebook, at once: of what the kernel holds, whether it is saved or not.

::

    kernel's variables ─┐
                        ├─ the course's check cell, run here ─> what it prints ─┐
    solution ───────────┴─> what was recorded ──────────────────────────────────┴─ judge ─> words

No other kernel and no other cluster is started, and the answers are not run again: what they have
left in the kernel is judged. So this is quick, and it is not the last word: an answer that was
changed since, or that needs a variable from a cell that is gone, is found out by the command
``mscourse lab check`` only. The judge and its words are the same.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mscourse.errors import LabError

if TYPE_CHECKING:
    from mscourse.labs.course import Lab
    from mscourse.labs.notebook import Cell, Exercise, Notebook
    from mscourse.labs.verdict import CellResult, Verdict

_WIDGET = "application/vnd.jupyter.widget-view+json"


def check_here(lab: str, exercise: int | None = None) -> None:
    """Judge answers by what is in this notebook's kernel, and print the verdicts.

    The course's own check cells are run in the kernel, and what they print is compared with what
    they print in the solution. Answers are not run again: run their cells first.

    Parameters
    ----------
    lab : str
        Such as ``"01"``, ``"primer"`` or ``"01-primer"``.
    exercise : int, optional
        Its number. By default all exercises of the lab are judged.

    Raises
    ------
    LabError
        This is no notebook, or there is no such exercise.
    """
    try:
        from IPython.core.getipython import get_ipython

        from mscourse.labs.course import Course
        from mscourse.labs.notebook import exercises
    except ImportError as error:
        raise LabError(
            f"The labs need {error.name}, which is not installed: pip install 'mscourse[labs]'"
        ) from None

    shell = get_ipython()
    if shell is None:
        raise LabError(
            "check_here judges what the kernel of a notebook holds, and this is not a notebook. "
            f"In a terminal, run `mscourse lab check {lab}`."
        )
    try:
        found = Course.find().lab(lab)
        solution = found.solution()
    except LabError as error:
        print(f"There is no verdict. {error}")  # no traceback: it is not the learner's fault
        return
    asked = exercises(solution)
    wanted = [each for each in asked if exercise in (None, each.number)]
    if not wanted:
        raise LabError(
            f"The lab {found.name} has no exercise {exercise!r}; "
            f"its exercises are numbered 1 to {len(asked)}."
        )
    for each in wanted:
        print(_judge(shell, solution, each))
    print(_last_word(found))


def _last_word(lab: Lab) -> str:
    number = lab.name.partition("-")[0]
    return (
        "(Seen in this kernel, as it is now. The last word has `mscourse lab check "
        f"{number}`,\nwhich runs the saved notebook from its top.)"
    )


def _judge(shell: Any, solution: Notebook, exercise: Exercise) -> Verdict:
    """Run an exercise's checks, and let the judge of the command say what came of it."""
    from mscourse.labs.notebook import cells_by_label
    from mscourse.labs.verdict import Judge

    cells = cells_by_label(solution)
    results: dict[str, CellResult] = {}
    for label in exercise.checks:
        results[label] = _run(shell, cells[label])
        if not results[label].passed:
            break
    # The notebook may not be saved, so it is not looked at. The judge takes the solution for it:
    # all answers are there, and none is untouched.
    verdict = Judge(solution, solution, results, 0).verdict(exercise)
    error = next((each.error for each in results.values() if each.error), None)
    if error is not None and error["ename"] == "NameError":
        message = f"{verdict.message}\nHave you run the cells above, your answer's among them?"
        return replace(verdict, message=message)
    return verdict


def _run(shell: Any, check: Cell) -> CellResult:
    """Run a check cell in the kernel, out of sight, and compare what it prints."""
    from mscourse.labs.verdict import CellResult, text_of

    outputs, error = _outputs(shell, check.source)
    if error is not None:
        outputs.append(error)
    return CellResult(
        source=check.source,
        passed=error is None and text_of(outputs) == text_of(check.outputs),
        timed_out=False,
        kernel_died=False,
        outputs=outputs,
        complaint="",
    )


def _outputs(shell: Any, source: str) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Run a cell's source; return what it showed, and the exception it ended with."""
    from IPython.utils.capture import capture_output

    errors: list[dict[str, Any]] = []

    def keep(kind: Any, value: Any, traceback: list[str]) -> None:
        name = getattr(kind, "__name__", str(kind))
        errors.append(
            {
                "output_type": "error",
                "ename": name,
                "evalue": str(value),
                "traceback": traceback,
            }
        )

    # A kernel sends a traceback past all that captures output.
    show = shell._showtraceback
    shell._showtraceback = keep
    try:
        with _unshadowed(shell.user_ns), capture_output() as captured:
            result = shell.run_cell(source, store_history=False)
    finally:
        shell._showtraceback = show
    raised = result.error_before_exec or result.error_in_exec
    if isinstance(raised, KeyboardInterrupt):
        raise KeyboardInterrupt
    outputs: list[dict[str, Any]] = []
    if captured.stdout:
        outputs.append({"output_type": "stream", "name": "stdout", "text": captured.stdout})
    outputs += [
        {"output_type": "display_data", "data": shown.data}
        for shown in captured.outputs
        if _WIDGET not in shown.data
    ]
    return outputs, errors[-1] if errors else None


@contextmanager
def _unshadowed(variables: dict[str, Any]) -> Iterator[None]:
    """Take the reader's `sum = 0` away, and give it back: it must not break a check that sums."""
    names = [name for name in vars(builtins) if name in variables and not name.startswith("_")]
    taken = {name: variables.pop(name) for name in names}
    try:
        yield
    finally:
        for name, value in taken.items():
            variables.setdefault(name, value)
