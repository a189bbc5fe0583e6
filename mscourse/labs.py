"""Labs: where they are, what they are made of, and a fresh copy of each.

::

    solutions/NN-name.md      the source, edited by hand
          │ build (lab_build)
          ▼
    solutions/NN-name.ipynb   executed, its outputs recorded
          │ strip
          ▼
    labs/NN-name.ipynb        questions only; here the learner writes: the attempt
          │ check (lab_check)
          ▼
    a verdict per exercise

In a source, an exercise is a level-two heading ``## Exercise 2: ...``, a hint in a
``<details>`` block, and the code cells that follow. A cell with a region between
``### BEGIN SOLUTION`` and ``### END SOLUTION`` takes the answer; a cell whose label starts with
``check-`` prints what the answer is judged by. Every code cell has a label of its own, by which
it is found again in an attempt, whatever the learner moved or copied.
"""

import copy
import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4.nbjson import reads as parse_notebook

from mscourse.errors import LabError

#: A notebook, or a cell of one: a dictionary with attribute access.
Notebook = nbformat.NotebookNode
Cell = nbformat.NotebookNode

CHECK_PREFIX = "check-"
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
    try:
        content = json.loads(text)
    except ValueError as error:
        raise LabError(f"{path} is not a notebook, since it is not JSON: {error}.") from None
    version = content.get("nbformat") if isinstance(content, dict) else None
    if isinstance(version, int) and version != nbformat.current_nbformat:
        raise LabError(
            f"{path} is a notebook of format {version}; the course reads format "
            f"{nbformat.current_nbformat}. Open it in JupyterLab as it is installed here, "
            "and save it again."
        )
    try:
        notebook = parse_notebook(text)
        for cell in notebook.cells:
            _ = cell.cell_type + cell.source, cell.metadata.get("label")
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
    return str(nbformat.writes(notebook)).rstrip("\n") + "\n"


def cells_by_label(notebook: Notebook) -> dict[str, Cell]:
    """The labelled cells of a notebook.

    Of several copies, the original counts, which is the one whose id is still its label;
    JupyterLab gives a new id to a cell that is cut and pasted, and keeps the label.
    """
    cells: dict[str, Cell] = {}
    for cell in notebook.cells:
        label = cell.metadata.get("label")
        if isinstance(label, str) and (label not in cells or cell.get("id") == label):
            cells[label] = cell
    return cells


def is_answer(cell: Cell) -> bool:
    """Whether a cell of a solution is one in which the learner writes."""
    return cell.cell_type == "code" and _SOLUTION.search(cell.source) is not None


def is_check(cell: Cell) -> bool:
    """Whether a cell of a solution is one that judges an answer."""
    return cell.cell_type == "code" and str(cell.metadata.get("label")).startswith(CHECK_PREFIX)


def strip(solution: Notebook) -> Notebook:
    """Make the lab of a solution: without answers and outputs."""
    lab = copy.deepcopy(solution)
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


def strip_source(source: str) -> str:
    """Put the stub in the place of each answer in a cell's source."""

    def stub(answer: re.Match[str]) -> str:
        return "\n".join(answer["indent"] + line for line in STUB.splitlines())

    return _SOLUTION.sub(stub, source)


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


def exercises(solution: Notebook) -> list[Exercise]:
    """The exercises of a solution, in order."""
    return [_exercise(heading, cells) for heading, cells in _sections(solution)]


def _sections(solution: Notebook) -> Iterator[tuple[str, list[Cell]]]:
    """Each exercise's text and its code cells. Another section ends the exercise."""
    text, cells = "", []
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


# --- labs and the course's folder ------------------------------------------------------------


@dataclass(frozen=True)
class Lab:
    """A lab of the course: its files, and what is known of it without running anything.

    Attributes
    ----------
    name : str
        Such as ``"01-primer"``.
    folder : Path
        The course's folder.
    """

    name: str
    folder: Path

    @property
    def source_path(self) -> Path:
        """The source, which is edited by hand."""
        return self.folder / "solutions" / f"{self.name}.md"

    @property
    def solution_path(self) -> Path:
        """The executed solution."""
        return self.folder / "solutions" / f"{self.name}.ipynb"

    @property
    def path(self) -> Path:
        """The learner's notebook."""
        return self.folder / "labs" / f"{self.name}.ipynb"

    def solution(self) -> Notebook:
        """Read the executed solution."""
        if not self.solution_path.exists():
            raise LabError(
                f"The solution {self.solution_path} is not there. Build it with "
                f"`mscourse lab build {self.name}`, or get it back with git."
            )
        return read_notebook(self.solution_path)

    def attempt(self) -> Notebook:
        """Read the learner's notebook."""
        if self.path.exists():
            return read_notebook(self.path)
        others = sorted(path.name for path in self.path.parent.glob("*.ipynb"))
        raise LabError(
            f"The lab's notebook {self.path} is not there. If you renamed it, give its path "
            f"({', '.join(others) or 'the folder holds no notebook'}); "
            f"for a fresh one, run `mscourse lab reset {self.name}`."
        )

    def title(self) -> str:
        """The lab's main heading."""
        for cell in self.solution().cells:
            if heading := _LAB_TITLE.search(cell.source):
                return heading[1].strip()
        return self.name

    def minutes(self) -> int | None:
        """The minutes it takes, as its author estimates."""
        minutes = self.solution().metadata.get("mscourse", {}).get("minutes")
        return None if minutes is None else int(minutes)

    def n_answered(self, attempt: Notebook) -> int:
        """Count the exercises in which the learner has written something, right or wrong."""
        solution = self.solution()
        return sum(not untouched(exercise, solution, attempt) for exercise in exercises(solution))

    def reset(self) -> Path | None:
        """Bring back the fresh lab. What was there is kept under a backup's name.

        Returns
        -------
        Path or None
            The backup; None when there was nothing to lose.
        """
        fresh = strip(self.solution())
        backup = back_up(self.path) if self.differs_from(fresh) else None
        write_notebook(fresh, self.path)
        return backup

    def differs_from(self, fresh: Notebook) -> bool:
        """Whether the learner's file exists and is anything but this notebook."""
        return self.path.exists() and self.path.read_bytes() != to_text(fresh).encode()


def untouched(exercise: Exercise, solution: Notebook, attempt: Notebook) -> bool:
    """Whether the cells of an exercise hold what the fresh lab holds, or nothing at all."""
    references, cells = cells_by_label(solution), cells_by_label(attempt)
    sources = (
        (strip_source(references[label].source), cells[label].source)
        for label in exercise.answers
        if label in cells
    )
    return all(source.split() in ([], stub.split()) for stub, source in sources)


def back_up(path: Path) -> Path:
    """Copy a notebook beside itself, to a name with the time; never onto an older backup."""
    stamp = f"{datetime.now():%Y%m%d-%H%M%S}"
    content = path.read_bytes()
    for n in range(1, 1000):
        suffix = stamp if n == 1 else f"{stamp}-{n}"
        backup = path.with_name(f"{path.stem}.backup-{suffix}{path.suffix}")
        try:
            with backup.open("xb") as file:
                file.write(content)
        except FileExistsError:
            continue
        return backup
    raise LabError(f"{path} cannot be backed up: a thousand backups bear the time {stamp}.")


@dataclass(frozen=True)
class Course:
    """A folder with the course: ``solutions/`` and ``labs/`` are in it."""

    folder: Path

    @classmethod
    def find(cls, folder: str | Path | None = None) -> "Course":
        """Find the course's folder.

        Parameters
        ----------
        folder : path, optional
            The course's folder. By default it is looked for from the current folder upward,
            then where the package lies, as in an editable installation.

        Raises
        ------
        LabError
            It is in none of these places.
        """
        if folder is not None:
            candidates = [Path(folder).expanduser()]
        else:
            here = Path.cwd()
            candidates = [here, *here.parents, Path(__file__).parent.parent]
        for candidate in candidates:
            if any((candidate / "solutions").glob("[0-9]*.md")):
                return cls(candidate.resolve())
        raise LabError(
            f"The course is not in {candidates[0].resolve()}"
            + ("" if folder else " or a folder above it")
            + ": there is no solutions/NN-name.md. Run the command in the course's folder, "
            "or name that with --course DIR."
        )

    def labs(self) -> list[Lab]:
        """All labs, by number."""
        sources = sorted((self.folder / "solutions").glob("[0-9]*.md"))
        return [Lab(source.stem, self.folder) for source in sources]

    def lab(self, name: str) -> Lab:
        """Find a lab by its number (``01`` or ``1``), its name, or the end of its name.

        Raises
        ------
        LabError
            No lab has this name; the message suggests the nearest.
        """
        labs = self.labs()
        for lab in labs:
            number, _, rest = lab.name.partition("-")
            if name in (lab.name, number, number.lstrip("0"), rest):
                return lab
        names = [lab.name for lab in labs]
        ends = {lab.name.partition("-")[2]: lab.name for lab in labs}
        nearest = difflib.get_close_matches(name, [*names, *ends], n=1)
        suggestion = f"Did you mean {ends.get(nearest[0], nearest[0])}? " if nearest else ""
        raise LabError(f"There is no lab {name!r}. {suggestion}The labs are {', '.join(names)}.")

    def lab_and_path(self, name: str) -> tuple[Lab, Path]:
        """Find a lab and the notebook to look at, by the lab's name or the notebook's path.

        A notebook that was renamed is known by the lab's name in its metadata.
        """
        path = Path(name).expanduser()
        if path.suffix != ".ipynb":
            lab = self.lab(name)
            return lab, lab.path
        if not path.exists() and path.name == name:
            path = self.folder / "labs" / name
        written: Any = read_notebook(path).metadata.get("mscourse", {})
        known = written.get("lab") if isinstance(written, dict) else None
        return self.lab(str(known or path.stem)), path
