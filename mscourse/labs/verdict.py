"""Say in plain words what became of each exercise, from how the cells ran."""

from __future__ import annotations

import re
from dataclasses import dataclass
from textwrap import indent
from typing import Any, Literal

from mscourse.labs.course import Lab
from mscourse.labs.notebook import (
    ADDED_PREFIX,
    Exercise,
    Notebook,
    cells_by_label,
    is_check,
    is_left,
    strip_source,
    untouched,
)

_MAX_LINES_SHOWN = 12
_ANSI = re.compile(r"\x1b\[[0-9;]*m")

# IPython's tracebacks: a frame in a cell, or in a cell's function that was sent to an engine;
# below it, the source with an arrow at the line, or the line alone for a syntax error.
_FRAME = re.compile(
    r"(?:Cell In\[\d+\], line (?P<line>\d+)|ipykernel_\d+/\d+\.py:(?P<remote_line>\d+))"
    r"(?:, in (?P<function>[\w.<>]+))?"
)
_ARROW = re.compile(r"^-+> *\d+ (.*)$", re.MULTILINE)
_SYNTAX_ERROR = re.compile(r"\n {4}(\S.*)")

_NOT_DEFINED = re.compile(r"name '(\w+)' is not defined")

#: What a syntax error adds to its message: the name of a file that is not one.
_FILE = re.compile(r" \(\d+\.py, line \d+\)$")

Status = Literal["done", "not done yet", "raised", "differs", "timed out", "stopped", "missing"]


@dataclass(frozen=True)
class CellResult:
    """How one cell ran.

    Attributes
    ----------
    source : str
    passed : bool
        It raised nothing, and what it printed is what was recorded, where that counts.
    timed_out, kernel_died : bool
    outputs : list of dict
        As in a notebook.
    complaint : str
        What nbval says of a cell that did not pass.
    """

    source: str
    passed: bool
    timed_out: bool
    kernel_died: bool
    outputs: list[dict[str, Any]]
    complaint: str

    @property
    def error(self) -> dict[str, Any] | None:
        """The exception it ended with."""
        errors = (output for output in self.outputs if output["output_type"] == "error")
        return next(errors, None)


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
        What happened, where the status does not say it all.
    exception : str
        The name of what was raised, if the status says so.
    """

    exercise: Exercise
    status: Status
    message: str = ""
    exception: str = ""

    def __str__(self) -> str:
        hint = "" if self.status == "done" else f"Hint: {self.exercise.hint}"
        details = "".join(f"\n{text}" for text in (self.message, hint) if text)
        return f"{self.status:<12}  {self.exercise}{indent(details, ' ' * 6)}"


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
    untouched : bool
        Whether nothing was written in the notebook, so that nothing was run.
    """

    lab: Lab
    verdicts: tuple[Verdict, ...]
    failures: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    untouched: bool = False

    @property
    def n_done(self) -> int:
        """How many exercises are done."""
        return sum(verdict.status == "done" for verdict in self.verdicts)

    @property
    def solved(self) -> bool:
        """Whether all exercises are done, and the cells around them ran."""
        return self.n_done == len(self.verdicts) and not self.failures

    def __str__(self) -> str:
        heading = f"{self.lab.name}: {self.n_done} of {len(self.verdicts)} exercises done"
        texts = (*self.failures, *map(str, self.verdicts), *self.remarks)
        return "\n".join([heading, *(indent(text, "  ") for text in texts)])


class Judge:
    """Turns the cells' results into words."""

    def __init__(
        self,
        solution: Notebook,
        attempt: Notebook,
        results: dict[str, CellResult],
        cell_timeout_s: float,
    ) -> None:
        self.solution = solution
        self.attempt = attempt
        self.references = cells_by_label(solution)
        self.answers = cells_by_label(attempt)
        self.results = results
        self.added = {
            label
            for label, result in results.items()
            if label.startswith(ADDED_PREFIX) and result.source.strip()
        }
        self.cell_timeout_s = cell_timeout_s

    def verdict(self, exercise: Exercise) -> Verdict:
        """Judge an exercise by the first of its cells that failed."""
        for label in exercise.answers:
            if label not in self.answers:
                return Verdict(exercise, "missing", self._missing())
            if self.answers[label].cell_type != "code":
                return Verdict(exercise, "missing", _NOT_CODE)
        failed = [label for label in exercise.cells if self._failed(label)]
        # If the answer is in a cell that the learner added, the stub may still raise.
        but_stubs = [label for label in failed if not self._is_stub(exercise, label)]
        if self.results and not (but_stubs if self.added else failed):
            return Verdict(exercise, "done")
        if self._has_added(exercise):
            return self._failed_verdict(exercise, but_stubs[0])
        if untouched(exercise, self.solution, self.attempt):
            return Verdict(exercise, "not done yet")
        return self._failed_verdict(exercise, failed[0])

    def _failed_verdict(self, exercise: Exercise, label: str) -> Verdict:
        status, message = self._failure(label)
        error = self.results[label].error
        if status != "raised" or error is None:
            return Verdict(exercise, status, message)
        name = _NOT_DEFINED.match(error["evalue"]) if error["ename"] == "NameError" else None
        if label in exercise.checks and name and self._gives(exercise, name[1]):
            message += f"\nThe check calls `{name[1]}`. Keep the name that the lab gave it."
        return Verdict(exercise, status, message, error["ename"])

    def _gives(self, exercise: Exercise, name: str) -> bool:
        """Whether the fresh lab defines a function or a class of this name for the answer."""
        definition = re.compile(rf"^(?:async )?(?:def|class) {name}\b", re.MULTILINE)
        stubs = (strip_source(self.references[label].source) for label in exercise.answers)
        return any(map(definition.search, stubs))

    def _missing(self) -> str:
        lab = self.solution.metadata.get("mscourse", {}).get("lab", "")
        return _MISSING.format(number=lab.partition("-")[0] or "NAME")

    def _is_stub(self, exercise: Exercise, label: str) -> bool:
        """Whether a cell takes an answer, and holds none."""
        return label in exercise.answers and is_left(self.references[label], self.answers[label])

    def _has_added(self, exercise: Exercise) -> bool:
        """Whether the learner added code among the cells of an exercise: taken for its answer.

        Code below its last check may be there to play with, or be for the next exercise.
        """
        if not self.added:
            return False
        ran = list(self.results)
        first, last = ran.index(exercise.cells[0]), ran.index(exercise.cells[-1])
        return not self.added.isdisjoint(ran[first:last])

    def complaints(self, whose: str, labels: list[str]) -> list[str]:
        """Say what went wrong in cells that belong to no exercise."""
        return [
            f"{whose} failed: {first_line(self.results[label].source)}\n"
            + indent(self._failure(label)[1], " " * 6)
            for label in labels
            if self._failed(label)
        ]

    def _failed(self, label: str) -> bool:
        result = self.results.get(label)
        return result is not None and (not result.passed or result.timed_out)

    def _failure(self, label: str) -> tuple[Status, str]:
        result, reference = self.results[label], self.references.get(label)
        checking = reference is not None and is_check(reference)
        subject = "The check" if checking else "The cell"
        if result.kernel_died:
            return "stopped", "The Python process died; this cell and all later ones could not run."
        if result.timed_out:
            return "timed out", (
                f"{subject} did not end within "
                f"{self.cell_timeout_s:g} s and was interrupted.\nIs there a loop without an end?"
            )
        if result.error is not None:
            return self._exception(result.error, subject)
        if reference is None or not checking:
            return "stopped", f"It could not be run: {result.complaint}"
        printed, recorded = text_of(result.outputs), text_of(reference.outputs)
        return "differs", (
            f"The check prints\n{indent(_shorten(printed), '    ')}\n"
            f"where the solution prints\n{indent(_shorten(recorded), '    ')}"
        )

    def _exception(self, error: dict[str, Any], subject: str) -> tuple[Status, str]:
        name = error["ename"]
        value = _FILE.sub("", strip_ansi(error["evalue"]))
        if "NotImplementedError" in f"{name} {value}":
            return "not done yet", "It still raises NotImplementedError."
        place = location("\n".join(error["traceback"]))
        return "raised", (
            f"{subject} raised {name}: {_shorten(value)}" + (f"\n{place}" if place else "")
        )


_MISSING = (
    "Its cell is not in your notebook. `mscourse lab reset {number}` gives you a fresh lab and "
    "keeps this one as a backup. Copy your answers from the backup into it."
)
_NOT_CODE = "Its cell is not a code cell any more. Select it in JupyterLab and press Y."


def text_of(outputs: list[dict[str, Any]]) -> str:
    """What outputs show as text, but for warnings and progress bars."""
    texts = []
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        text = output.get("text") or output.get("data", {}).get("text/plain", "")
        texts.append(strip_ansi(text).rstrip("\n"))
    return "\n".join(texts)


def location(traceback: str) -> str:
    """The place in the notebook that is nearest to the error, from IPython's traceback."""
    text = strip_ansi(traceback)
    frames = list(_FRAME.finditer(text))
    if not frames:
        return ""
    frame = frames[-1]
    line, function = frame["line"] or frame["remote_line"], frame["function"]
    shown = text[frame.end() :].split("\n\n")[0]
    code = _ARROW.search(shown) or _SYNTAX_ERROR.match(shown)
    place = f"line {line}" + (f" of {function}" if function else "")
    is_source = code is not None and "Could not get source" not in code[1]
    return f"{place}: {_shorten(code[1].strip())}" if code is not None and is_source else place


def first_line(source: str) -> str:
    """The first line of a cell that is not blank."""
    return next(iter(source.strip().splitlines()), "")


def strip_ansi(text: str) -> str:
    """Remove the codes that colour text in a terminal."""
    return _ANSI.sub("", text)


def _shorten(text: str) -> str:
    lines = text.splitlines() or ["(nothing)"]
    if len(lines) > _MAX_LINES_SHOWN:
        lines = [*lines[:_MAX_LINES_SHOWN], f"... ({len(lines) - _MAX_LINES_SHOWN} more lines)"]
    return "\n".join(line if len(line) <= 200 else line[:197] + "..." for line in lines)
