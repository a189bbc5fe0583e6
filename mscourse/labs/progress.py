# ruff: noqa: T201 (it speaks to whoever waits)
"""Check all labs, tell how far the run is, and end with how far the learner is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from mscourse.errors import LabError
from mscourse.labs.check import OnCell, check_lab
from mscourse.labs.course import Course, Lab
from mscourse.labs.notebook import exercises
from mscourse.labs.record import Record, digest_of
from mscourse.labs.verdict import LabReport


@dataclass(frozen=True)
class Standing:
    """How far a learner is with one lab.

    Attributes
    ----------
    lab : Lab
    n_done, n_asked : int
        Exercises.
    next : str
        What is to be done next; empty if the lab is solved.
    """

    lab: Lab
    n_done: int
    n_asked: int
    next: str

    @property
    def solved(self) -> bool:
        """Whether nothing is left to do."""
        return not self.next


def check_all(course: Course, *, cell_timeout_s: float) -> list[Standing]:
    """Check all labs, and print what was found. Untouched ones come first: they need no run.

    Parameters
    ----------
    course : Course
    cell_timeout_s : float
        How long a cell may take.

    Returns
    -------
    list of Standing
        One for each lab, by number; of one without a verdict, too.
    """
    standings: dict[str, Standing] = {}
    to_run: list[Lab] = []
    for lab in course.labs():
        standing = _untouched(lab)
        if standing is None:
            to_run.append(lab)
        else:
            standings[lab.name] = standing
            print(f"{lab.name}: untouched, {standing.n_asked} exercises", flush=True)
    for position, lab in enumerate(to_run, start=1):
        which = f"{position} of {len(to_run)}"
        standings[lab.name] = _check(lab, course, cell_timeout_s, which)
    return [standings[lab.name] for lab in course.labs()]


def _untouched(lab: Lab) -> Standing | None:
    """The standing of a lab in which nothing was written; None for any other."""
    try:
        asked = exercises(lab.solution())
        if not lab.is_untouched(lab.attempt()):
            return None
    except LabError:
        return None  # the check says why
    return Standing(lab, 0, len(asked), f"{asked[0]} (untouched)")


def _check(lab: Lab, course: Course, cell_timeout_s: float, which: str) -> Standing:
    try:
        report = check_and_keep(lab, course, cell_timeout_s=cell_timeout_s, which=which)
    except LabError as error:
        print(f"mscourse: {error}", file=sys.stderr, flush=True)
        return Standing(lab, 0, _n_asked(lab), "no verdict, see above")
    print(report, flush=True)
    is_open = [verdict.exercise for verdict in report.verdicts if verdict.status != "done"]
    left = str(is_open[0]) if is_open else "a cell of the course failed, see above"
    return Standing(lab, report.n_done, len(report.verdicts), "" if report.solved else left)


def _n_asked(lab: Lab) -> int:
    try:
        return len(exercises(lab.solution()))
    except LabError:
        return 0


def check_and_keep(
    lab: Lab, course: Course, *, cell_timeout_s: float, which: str = ""
) -> LabReport:
    """Check a lab's own notebook, show how far the run is, and keep what was found."""
    digest = digest_of(lab)
    with run_shown(lab, which) as on_cell:
        report = check_lab(lab, cell_timeout_s=cell_timeout_s, on_cell=on_cell)
    try:
        Record(course).keep(report, digest)
    except LabError as error:  # the verdict is there all the same
        print(f"mscourse: {error}", file=sys.stderr, flush=True)
    return report


@contextmanager
def run_shown(lab: Lab, which: str = "", stream: TextIO | None = None) -> Iterator[OnCell]:
    """Show that a lab is being checked, and on a terminal how many of its cells have run."""
    shown = sys.stderr if stream is None else stream
    text = f"Checking {lab.name}" + (f" ({which})" if which else "") + " ..."
    if not shown.isatty():
        print(text, file=shown, flush=True)
        yield lambda n_run, n_cells: None
        return
    began_s = time.monotonic()

    def show(n_run: int, n_cells: int) -> None:
        elapsed_s = time.monotonic() - began_s
        line = f"\r{text} cell {min(n_run + 1, n_cells)} of {n_cells}, {elapsed_s:.0f} s "
        print(line, end="", file=shown, flush=True)

    print(text, end="", file=shown, flush=True)
    try:
        yield show
    finally:
        print("\r\x1b[K", end="", file=shown, flush=True)  # what comes next takes its place


def table(standings: list[Standing]) -> str:
    """How far one is with all labs, and what to do next."""
    n_done, n_asked = sum(each.n_done for each in standings), sum(e.n_asked for e in standings)
    rows = [(each.lab.name, _share(each.n_done, each.n_asked)) for each in standings]
    rows = [("lab", "done"), *rows, ("all", _share(n_done, n_asked))]
    what = ["next", *(each.next or "solved" for each in standings), ""]
    name_width, share_width = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = [
        f"{name:<{name_width}}  {share:>{share_width}}  {left}".rstrip()
        for (name, share), left in zip(rows, what, strict=True)
    ]
    left = next((each for each in standings if not each.solved), None)
    if left is None:
        lines.append('All are solved: `mscourse lab certificate --name "Your Name"` says so.')
    else:
        number = left.lab.name.partition("-")[0]
        lines.append(f"Next: {left.lab.name}, {left.next}. `mscourse lab open {number}`")
    return "\n".join(lines)


def _share(n_done: int, n_asked: int) -> str:
    return f"{n_done} of {n_asked}"
