# ruff: noqa: T201 (a command prints)
"""The commands ``mscourse lab handout`` and ``mscourse lab grade``, for instructors."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mscourse.arguments import positive
from mscourse.errors import LabError
from mscourse.labs.needs import find_course, require_free
from mscourse.labs.options import add_output, add_timeout
from mscourse.labs.sandbox import TOTAL_TIMEOUT_S

if TYPE_CHECKING:
    from mscourse.labs.grade import Row

_RUNS_CODE = (
    "The code in handed-in notebooks runs on this machine, with your rights. Its time is limited;\n"
    "what it may read and change is not. Grade on a machine or under an account that holds\n"
    "nothing of value."
)


def add_room_commands(add: Any) -> None:
    """Add the commands.

    Parameters
    ----------
    add : callable
        Makes the parser of a command from its name, its function and its description.
    """
    handout = add("handout", hand_out, "write a folder for learners, without the answers")
    handout.add_argument("folder", metavar="DIR", type=Path, help="not there yet, or empty")
    handout.add_argument(
        "--with-solutions", action="store_true", help="put the solutions in as well"
    )
    grade = add("grade", grade_folder, "check a folder of handed-in notebooks into a table")
    grade.description = (
        "Check a folder of handed-in notebooks, named like ada-01-primer.ipynb (in subfolders, "
        "too) or in one folder for each learner, and make a table of it. " + _RUNS_CODE
    )
    grade.add_argument("folder", metavar="DIR", type=Path, help="the folder with the notebooks")
    add_output(grade, "grades.csv", "the table, as CSV")
    grade.add_argument(
        "--jobs", type=positive(int), default=1, metavar="N", help="notebooks at the same time (1)"
    )
    add_timeout(grade)
    add_timeout(grade, "--total-timeout", default_s=TOTAL_TIMEOUT_S, what="a notebook")


def hand_out(arguments: argparse.Namespace) -> int:
    """Write the folder, and say what is in it and how it is used."""
    course = find_course(arguments)
    from mscourse.labs.handout import write_handout

    files = write_handout(course, arguments.folder, with_solutions=arguments.with_solutions)
    print(f"{arguments.folder} holds {len(files)} files:")
    for file in files:
        print(f"  {file}")
    if arguments.with_solutions:
        print(
            "Learners check their answers there with `mscourse lab check`. The solutions are in it."
        )
    else:
        print(
            "Learners check their answers there with `mscourse lab check`: checks/ has what the "
            "checks print, and\nno answers. README.md tells them how to work and how to hand in."
        )
    return 0


def grade_folder(arguments: argparse.Namespace) -> int:
    """Check the notebooks, write the table and print it."""
    course = find_course(arguments)
    from mscourse.labs.grade import as_text, grade, in_order, write_csv
    from mscourse.labs.handins import handed_in, left_out
    from mscourse.labs.shown import printable

    require_free(arguments.output, arguments.force)
    n_notebooks = len(handed_in(arguments.folder))
    lab_names = [lab.name for lab in course.labs()]
    passed_over = left_out(arguments.folder, lab_names, arguments.output)
    print(_RUNS_CODE, file=sys.stderr)
    print(f"Checking {n_notebooks} notebooks ...", file=sys.stderr, flush=True)
    finished: list[Row] = []

    def tell(row: Row) -> None:
        finished.append(row)
        share = "no verdict" if row.done is None else f"{row.done} of {row.asked}"
        what = printable(f"{row.learner} {row.lab or row.file}: {share}")
        print(f"[{len(finished)}/{n_notebooks}] {what}", file=sys.stderr, flush=True)

    is_interrupted = False
    try:
        rows = grade(
            course,
            arguments.folder,
            n_jobs=arguments.jobs,
            cell_timeout_s=arguments.timeout,
            total_timeout_s=arguments.total_timeout,
            on_row=tell,
        )
    except KeyboardInterrupt:
        is_interrupted = True
        rows = in_order(finished)
    if rows:
        try:
            write_csv(rows, arguments.output)  # first: it has taken long to get
        finally:
            _print(as_text(rows))
    if passed_over:
        print(passed_over, file=sys.stderr)
    if is_interrupted:
        table = f"They are in {arguments.output}." if rows else "No table was written."
        raise LabError(f"Interrupted: {len(rows)} of {n_notebooks} notebooks were checked. {table}")
    print(f"The table is in {arguments.output}.", file=sys.stderr)
    return 0


def _print(text: str) -> None:
    """Print a text, with a question mark for each character that the terminal does not know."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding))
