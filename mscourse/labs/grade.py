"""Check a folder of notebooks that learners have handed in, and make a table of it.

::

    DIR/ada-01-primer.ipynb ───────┐
    DIR/grace/lab two.ipynb ───────┼─ find ─> each alone: which lab? ─ check, within a time ─> Row
    DIR/lab01/bob-01-primer.ipynb ─┘

Each notebook gives one row, whatever is wrong with it. What is no notebook gives none, and is named
by :func:`mscourse.labs.handins.left_out`.

The code of a notebook runs on this machine, with the rights of whoever grades. It is limited in
time, and the processes it starts are ended; it is not locked in, and what was said in
:mod:`mscourse.labs.check` of code that deceives holds here.
"""

from __future__ import annotations

import csv
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mscourse.errors import LabError
from mscourse.labs.check import check_lab
from mscourse.labs.course import Course, Lab
from mscourse.labs.handins import Learners, handed_in, named_lab
from mscourse.labs.notebook import read_notebook
from mscourse.labs.sandbox import CELL_TIMEOUT_S, TOTAL_TIMEOUT_S
from mscourse.labs.shown import printable
from mscourse.labs.verdict import LabReport

#: Larger ones are not read. A lab with all its outputs takes less than 1 MB.
_MOST_BYTES = 50_000_000

_COLUMNS = ("learner", "lab", "done", "asked", "open", "remarks", "file")

#: A spreadsheet takes a field that starts like this for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Row:
    """What became of one notebook.

    Attributes
    ----------
    learner : str
        From the file's name, or its folder's: see :mod:`mscourse.labs.handins`.
    lab : str
        The lab's name; empty if it is not known.
    done, asked : int or None
        How many exercises; None without a verdict.
    open : tuple of int
        The numbers of those that are not done.
    remarks : tuple of str
        What else is to be known, one line each.
    file : str
        Relative to the folder that was graded.
    """

    learner: str
    lab: str
    done: int | None
    asked: int | None
    open: tuple[int, ...]
    remarks: tuple[str, ...]
    file: str

    def fields(self) -> tuple[str, ...]:
        """The row as texts, in the order of the table's columns."""
        texts = (
            self.learner,
            self.lab,
            "" if self.done is None else str(self.done),
            "" if self.asked is None else str(self.asked),
            " ".join(map(str, self.open)),
            "; ".join(self.remarks),
            self.file,
        )
        return tuple(map(printable, texts))


def grade(
    course: Course,
    folder: Path,
    *,
    n_jobs: int = 1,
    cell_timeout_s: float = CELL_TIMEOUT_S,
    total_timeout_s: float = TOTAL_TIMEOUT_S,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Check all notebooks of a folder.

    Parameters
    ----------
    course : Course
    folder : path
    n_jobs : int
        How many notebooks run at the same time. Most start a cluster of two engines.
    cell_timeout_s, total_timeout_s : float
        How long a cell, and a whole notebook, may take.
    on_row : callable, optional
        Is given each row once it is there.

    Returns
    -------
    list of Row
        As `in_order` gives them.
    """
    paths = handed_in(folder)
    learners = Learners(folder, paths, [lab.name for lab in course.labs()])
    is_interrupted = threading.Event()

    def row_of(path: Path) -> Row:
        row = _row(course, folder, path, learners, cell_timeout_s, total_timeout_s)
        # Ctrl-C ends what runs, too. That is no fault of the notebook, and no row.
        if on_row is not None and not is_interrupted.is_set():
            on_row(row)
        return row

    with ThreadPoolExecutor(n_jobs) as executor:
        try:
            rows = list(executor.map(row_of, paths))
        except BaseException:
            is_interrupted.set()
            executor.shutdown(wait=False, cancel_futures=True)  # or all others would run yet
            raise
    return in_order(rows)


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Sort rows by learner, lab and file, and remark where a learner handed in a lab again."""
    counts = Counter((row.learner, row.lab) for row in rows if row.lab)

    def remarked(row: Row) -> Row:
        n = counts[row.learner, row.lab]
        times = "twice" if n == 2 else f"{n} times"
        return replace(row, remarks=(*row.remarks, f"handed in {times}")) if n > 1 else row

    return sorted(map(remarked, rows), key=lambda row: (row.learner, row.lab, row.file))


def _row(
    course: Course,
    folder: Path,
    path: Path,
    learners: Learners,
    cell_timeout_s: float,
    total_timeout_s: float,
) -> Row:
    """Check one notebook. Whatever happens is a remark: the others must be checked, too."""
    file = str(path.relative_to(folder))
    lab: Lab | None = None
    remarks: list[str] = []
    try:
        lab = _lab_of(course, path, remarks)
        report = check_lab(
            lab, path, cell_timeout_s=cell_timeout_s, total_timeout_s=total_timeout_s
        )
    except Exception as error:  # noqa: BLE001 (of any kind: the notebook may be made for it)
        said = str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
        said = said.replace(f"{folder}{os.sep}", "")
        remarks.append(said.partition("\n")[0][:300])
        lab = lab or named_lab(course, path)
        name = "" if lab is None else lab.name
        learner = learners.learner_of(path, name)
        return Row(learner, name, None, None, (), tuple(remarks), file)
    return Row(
        learner=learners.learner_of(path, lab.name),
        lab=lab.name,
        done=report.n_done,
        asked=len(report.verdicts),
        open=tuple(each.exercise.number for each in report.verdicts if each.status != "done"),
        remarks=(*remarks, *_remarks(report)),
        file=file,
    )


def _lab_of(course: Course, path: Path, remarks: list[str]) -> Lab:
    """Which lab a notebook is, by its metadata; where these are gone, by its name."""
    if path.is_symlink() or not path.is_file():
        raise LabError("This is no file of its own, and was not read.")
    if path.stat().st_size > _MOST_BYTES:
        size_mb = path.stat().st_size / 1e6
        raise LabError(f"The file has {size_mb:,.0f} MB, and was not read: clear its outputs.")
    labs = course.labs()
    written: Any = read_notebook(path).metadata.get("mscourse")
    name = written.get("lab") if isinstance(written, dict) else None
    if name is None:
        if named := named_lab(course, path):
            remarks.append("the lab is known by the file's name only")
            return named
        raise LabError("The notebook does not say which lab it is, and neither does its name.")
    for lab in labs:
        if lab.name == name:
            return lab
    raise LabError(
        f"It says that it is the lab {name!r:.60}, and there is none of that name. "
        f"The labs are {', '.join(lab.name for lab in labs)}."
    )


def _remarks(report: LabReport) -> list[str]:
    if report.untouched and all(each.status == "not done yet" for each in report.verdicts):
        return ["no answer at all"]
    unusual = [
        f"exercise {each.exercise.number} {each.status} {each.exception[:60]}".rstrip()
        for each in report.verdicts
        if each.status in ("raised", "timed out", "stopped", "missing")
    ]
    return unusual + [text.partition("\n")[0] for text in report.failures]


def as_text(rows: list[Row]) -> str:
    """The table for reading. A file is named only where another row is of the same lab."""
    counts = Counter((row.learner, row.lab) for row in rows)
    named = [row if counts[row.learner, row.lab] > 1 else replace(row, file="") for row in rows]
    n_shown = len(_COLUMNS) if any(row.file for row in named) else len(_COLUMNS) - 1
    shown = [_COLUMNS[:n_shown], *(row.fields()[:n_shown] for row in named)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return "\n".join(
        "  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip()
        for line in shown
    )


def write_csv(rows: list[Row], path: Path) -> None:
    """Write the table for a spreadsheet.

    Raises
    ------
    LabError
        The file cannot be written.
    """
    try:
        # Excel takes a file for UTF-8 only if it starts with the mark that this encoding writes.
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            writer.writerows(map(_harmless, (row.fields() for row in rows)))
    except OSError as error:
        raise LabError(f"The table cannot be written to {path}: {error}") from None


def _harmless(fields: tuple[str, ...]) -> list[str]:
    """Keep a learner's file name from being a formula in the instructor's spreadsheet."""
    return [f"'{field}" if field.startswith(_FORMULA) else field for field in fields]
