"""The notebooks of labs: reading and writing them, their cells, their exercises.

In a source, an exercise is a level-two heading ``## Exercise 2: ...``, a hint in a
``<details>`` block, and the code cells that follow. A cell with a region between
``### BEGIN SOLUTION`` and ``### END SOLUTION`` takes the answer; a cell whose label starts with
``check-`` prints what the answer is judged by. Every code cell has a label of its own, by which it
is found again in an attempt, whatever the learner moved or copied. The lab that is made of it has
one more cell in each exercise, whose label starts with ``feedback-``: it asks for a verdict.
"""

import copy
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from mscourse.errors import LabError


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Make an optional module look absent, unless it has been imported already."""
    absent: dict[str, Any] = {} if module in sys.modules else {module: None}
    sys.modules.update(absent)
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


# jsonschema, which nbformat imports, would compile a grammar of addresses with it, which takes
# 3 s; no notebook is validated with that.
with _hidden("rfc3987_syntax"):
    import nbformat
    import nbformat.v4

#: A notebook, or a cell of one: a dictionary with attribute access.
Notebook: TypeAlias = Any
Cell: TypeAlias = Any

CHECK_PREFIX = "check-"

#: In a lab only: cells that ask for a verdict at once. See :mod:`mscourse.labs.here`.
FEEDBACK_PREFIX = "feedback-"
_FEEDBACK = """\
from mscourse.labs import check_here

check_here({lab!r}, exercise={number})"""

#: In a check only: the ids of cells that are not the course's start like this.
ADDED_PREFIX = "added-"

STUB = "# Your answer goes here, instead of the next line.\nraise NotImplementedError"

_SOLUTION = re.compile(
    r"^(?P<indent>[ \t]*)### BEGIN SOLUTION[ \t]*\n.*?### END SOLUTION[ \t]*$",
    re.DOTALL | re.MULTILINE,
)
_LAB_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_EXERCISE = re.compile(r"^## Exercise (?P<number>\d+): (?P<title>.+)$", re.MULTILINE)
_HINT = re.compile(r"<details>\s*<summary>[^<]*</summary>\s*(?P<hint>.*?)\s*</details>", re.DOTALL)


# --- notebooks and their cells ---------------------------------------------------------------


def read_notebook(path: Path) -> Notebook:
    """Read a notebook of format 4.

    Raises
    ------
    LabError
        There is no such file, or it is not a notebook this course can read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise LabError(f"There is no notebook {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"{path} cannot be read: {error}.") from error
    if not text:
        raise LabError(f"{path} is empty: the upload may have failed. Get it once more.")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LabError(f"{path} is not a notebook, since it is not JSON: {error}.") from None
    version = content.get("nbformat") if isinstance(content, dict) else None
    if isinstance(version, int) and version != nbformat.current_nbformat:
        raise LabError(
            f"{path} is a notebook of format {version}; the course reads format "
            f"{nbformat.current_nbformat}. Open it in JupyterLab as it is installed here, "
            "and save it again."
        )
    try:
        notebook: Notebook = nbformat.v4.reads(text)  # type: ignore[no-untyped-call]
        for cell in notebook.cells:
            # JSON can hold half of a character, which no file of text can.
            _ = (cell.cell_type + cell.source).encode(), cell.metadata.get("label")
    except (AttributeError, KeyError, TypeError, ValueError):
        raise LabError(f"{path} is JSON, but not a notebook: its cells cannot be read.") from None
    return notebook


def write_notebook(notebook: Notebook, path: Path) -> None:
    """Write a notebook in one go: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(to_text(notebook), encoding="utf-8")
    temporary.replace(path)


def to_text(notebook: Notebook) -> str:
    """The text of a notebook's file; the same notebook gives the same bytes."""
    text: str = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    return text.rstrip("\n") + "\n"


def new_code_cell(label: str, source: str) -> Cell:
    """Make a code cell without output."""
    cell: Cell = nbformat.v4.new_code_cell(source, id=label)  # type: ignore[no-untyped-call]
    return cell


def label_of(cell: Cell) -> str | None:
    """The label of a cell; None for one that the learner added."""
    label = cell.metadata.get("label")
    return label if isinstance(label, str) else None


def cells_by_label(notebook: Notebook) -> dict[str, Cell]:
    """The labelled cells of a notebook.

    Of several copies, the original counts, which is the one whose id is still its label;
    JupyterLab gives a new id to a cell that is cut and pasted, and keeps the label.
    """
    cells: dict[str, Cell] = {}
    for cell in notebook.cells:
        label = label_of(cell)
        if label is not None and (label not in cells or cell.get("id") == label):
            cells[label] = cell
    return cells


def is_answer(cell: Cell) -> bool:
    """Whether a cell of a solution is one in which the learner writes."""
    return cell.cell_type == "code" and _SOLUTION.search(cell.source) is not None


def is_check(cell: Cell) -> bool:
    """Whether a cell of a solution is one that judges an answer."""
    return cell.cell_type == "code" and (label_of(cell) or "").startswith(CHECK_PREFIX)


def is_feedback(cell: Cell) -> bool:
    """Whether a cell of a lab is one that asks for a verdict, as it was generated."""
    is_generated = (label_of(cell) or "").startswith(FEEDBACK_PREFIX)
    return is_generated and "check_here(" in cell.source


def strip(solution: Notebook) -> Notebook:
    """Make the lab of a solution: without answers and outputs, but with feedback."""
    lab = copy.deepcopy(solution)
    _add_feedback(lab)
    for cell in lab.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs, cell.execution_count = [], None
        cell.metadata["deletable"] = False
        if is_answer(cell):
            cell.source = strip_source(cell.source)
        else:
            cell.metadata["editable"] = False
    return lab


def _add_feedback(lab: Notebook) -> None:
    """Put a cell that asks for a verdict after the last cell of each exercise."""
    name = lab.metadata.get("mscourse", {}).get("lab", "")
    for exercise in exercises(lab):
        label = f"{FEEDBACK_PREFIX}{exercise.number}"
        cell = new_code_cell(label, _FEEDBACK.format(lab=name, number=exercise.number))
        cell.metadata["label"] = label
        last = [label_of(each) for each in lab.cells].index(exercise.cells[-1])
        lab.cells.insert(last + 1, cell)


def strip_source(source: str) -> str:
    """Put the stub in the place of each answer in a cell's source."""

    def stub(answer: re.Match[str]) -> str:
        return "\n".join(answer["indent"] + line for line in STUB.splitlines())

    return _SOLUTION.sub(stub, source)


def without_answers(solution: Notebook) -> Notebook:
    """Take the answers out of a solution, and all outputs but those of the checks.

    What is left is enough to judge an attempt: where the answers go, and what the checks print.
    """
    checks = copy.deepcopy(solution)
    for cell in checks.cells:
        if is_answer(cell):
            cell.source = _SOLUTION.sub(_emptied, cell.source)
        if cell.cell_type == "code" and not is_check(cell):
            cell.outputs = []
    return checks


def _emptied(answer: re.Match[str]) -> str:
    return "\n".join(f"{answer['indent']}### {edge} SOLUTION" for edge in ("BEGIN", "END"))


# --- exercises -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exercise:
    """One exercise of a lab, as its solution defines it.

    Attributes
    ----------
    number : int
    title : str
    hint : str
        Markdown.
    cells, answers, checks : tuple of str
        The labels of all its code cells in order, of those that take the answer, and of those
        that judge it.
    """

    number: int
    title: str
    hint: str
    cells: tuple[str, ...]
    answers: tuple[str, ...]
    checks: tuple[str, ...]

    def __str__(self) -> str:
        return f"Exercise {self.number}: {self.title}"


def title_of(solution: Notebook) -> str:
    """The main heading of a lab; empty if it has none."""
    headings = (_LAB_TITLE.search(cell.source) for cell in solution.cells)
    return next((heading[1].strip() for heading in headings if heading), "")


def exercises(solution: Notebook) -> list[Exercise]:
    """The exercises of a solution, in order."""
    return [_exercise(heading, cells) for heading, cells in _sections(solution)]


def _sections(solution: Notebook) -> Iterator[tuple[str, list[Cell]]]:
    """Each exercise's text and its code cells. Another section ends the exercise."""
    text = ""
    cells: list[Cell] = []
    for cell in solution.cells:
        if cell.cell_type == "markdown" and _SECTION.search(cell.source):
            if _EXERCISE.search(text):
                yield text, cells
            text, cells = cell.source, []
        elif cell.cell_type == "markdown":
            text += "\n\n" + cell.source
        elif cell.cell_type == "code":
            cells.append(cell)
    if _EXERCISE.search(text):
        yield text, cells


def _exercise(text: str, cells: list[Cell]) -> Exercise:
    heading = _EXERCISE.search(text)
    assert heading is not None
    hint = _HINT.search(text)
    return Exercise(
        number=int(heading["number"]),
        title=heading["title"].strip(),
        hint=hint["hint"] if hint else "",
        cells=tuple(cell.metadata.label for cell in cells),
        answers=tuple(cell.metadata.label for cell in cells if is_answer(cell)),
        checks=tuple(cell.metadata.label for cell in cells if is_check(cell)),
    )


# --- what a learner has written --------------------------------------------------------------


def added_cells(solution: Notebook, attempt: Notebook) -> dict[str | None, list[Cell]]:
    """The learner's own code cells, by the label of the course's cell that each follows."""
    known, written = cells_by_label(solution), cells_by_label(attempt)
    added: dict[str | None, list[Cell]] = defaultdict(list)
    place = None
    for position, cell in enumerate(attempt.cells):
        label = label_of(cell)
        if label is not None and label in known and written[label] is cell:
            place = label
        elif is_feedback(cell):
            continue  # a check within the check
        elif cell.cell_type == "code":
            added[place].append(new_code_cell(f"{ADDED_PREFIX}{position}", cell.source))
    return added


def untouched(exercise: Exercise, solution: Notebook, attempt: Notebook) -> bool:
    """Whether the answers' cells of an exercise hold what the fresh lab holds, or nothing.

    The answer may be in a cell that the learner added: see `nothing_written`.
    """
    references, cells = cells_by_label(solution), cells_by_label(attempt)
    return all(
        is_left(references[label], cells[label]) for label in exercise.answers if label in cells
    )


def is_left(reference: Cell, cell: Cell) -> bool:
    """Whether an answer's cell holds what the fresh lab holds, or nothing at all."""
    return cell.source.split() in ([], strip_source(reference.source).split())


def nothing_written(solution: Notebook, attempt: Notebook) -> bool:
    """Whether there is nothing to run: no answer, and no code in a cell that the learner added.

    JupyterLab adds an empty cell whenever the last one is run; such a cell is no answer.
    """
    added = (cell for cells in added_cells(solution, attempt).values() for cell in cells)
    return not any(cell.source.strip() for cell in added) and all(
        untouched(exercise, solution, attempt) for exercise in exercises(solution)
    )
