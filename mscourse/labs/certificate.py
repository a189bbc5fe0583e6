# ruff: noqa: T201 (it speaks to whoever waits)
"""A page that says who solved which labs, to print or to keep.

It is one file that asks for nothing from elsewhere. It says what the checks found, and is no proof:
the checks can be deceived, and so can a page.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from html import escape
from pathlib import Path

from mscourse import __version__
from mscourse.errors import LabError
from mscourse.labs.course import Course, Lab
from mscourse.labs.needs import require_free
from mscourse.labs.notebook import Exercise, exercises
from mscourse.labs.progress import check_and_keep
from mscourse.labs.record import Entry, Record
from mscourse.labs.shown import JOINERS, is_printable

COURSE_TITLE = "Distributed Model Selection and Assessment"

#: What fits into one line of the page.
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Solved:
    """A lab that is solved.

    Attributes
    ----------
    title : str
    exercises : tuple of Exercise
    checked_on : str
        The day, as YYYY-MM-DD.
    version : str
        The version of mscourse that checked it.
    """

    title: str
    exercises: tuple[Exercise, ...]
    checked_on: str
    version: str


def certify(
    course: Course,
    name: str,
    path: Path,
    *,
    cell_timeout_s: float,
    overwrite: bool = False,
) -> bool:
    """Write the page if all labs are solved; print what is open if they are not.

    A lab that was checked and has not changed since is not run again.

    Returns
    -------
    bool
        Whether the page was written.

    Raises
    ------
    LabError
        The name cannot stand on a page, or the file is there already or cannot be written. That
        is found out before anything runs.
    """
    name = checked_name(name)
    require_free(path, overwrite)
    labs = course.labs()
    found = {lab.name: _recorded(course, lab) for lab in labs}
    if not any(isinstance(each, str) for each in found.values()):
        # Not before: a lab that is surely open makes all checks of the others useless.
        for lab in labs:
            if found[lab.name] is None:
                found[lab.name] = _checked(course, lab, cell_timeout_s)
            else:
                print(f"{lab.name}: unchanged since it was checked", flush=True)
    solved = [_solved(lab, entry) for lab in labs if isinstance(entry := found[lab.name], Entry)]
    if len(solved) < len(labs):
        print("A certificate is for all labs. These are open:")
        for lab in labs:
            left = found[lab.name]
            if not isinstance(left, Entry):
                print(f"  {lab.name:<22}  {left or 'not checked as it is now'}")
        print("`mscourse lab check` says what each of them lacks.")
        return False
    page = certificate(name, solved, date.today().isoformat())
    try:
        with path.open("w" if overwrite else "x", encoding="utf-8") as file:
            file.write(page)
    except OSError as error:
        raise LabError(f"The certificate cannot be written to {path}: {error}") from None
    return True


def checked_name(name: str) -> str:
    """The name as it stands on the page.

    Raises
    ------
    LabError
        It is empty, too long, or has characters that cannot be shown.
    """
    plain = " ".join(name.split())
    is_seen = plain.strip(JOINERS) != ""
    if not is_seen or len(plain) > _LONGEST_NAME or not is_printable(plain):
        raise LabError(
            f"--name is the name for the certificate: 1 to {_LONGEST_NAME} characters that can be "
            f'printed, such as --name "Ada Lovelace". It cannot be {name!r:.100}.'
        )
    return plain


def _recorded(course: Course, lab: Lab) -> Entry | str | None:
    """What is known of a lab without a check: that it is solved, or what is open, or nothing."""
    try:
        if lab.is_untouched(lab.attempt()):
            return f"untouched, {len(exercises(lab.solution()))} exercises"
        entry = Record(course).find(lab)
    except LabError as error:
        return str(error).partition("\n")[0]
    return None if entry is None else _solved_or_left(lab, entry)


def _checked(course: Course, lab: Lab, cell_timeout_s: float) -> Entry | str:
    """Check a lab: that it is solved, or what is open."""
    try:
        check_and_keep(lab, course, cell_timeout_s=cell_timeout_s)
        entry = Record(course).find(lab)
    except LabError as error:
        return str(error).partition("\n")[0]
    if entry is None:
        return "the notebook has changed while it was checked, or the result could not be kept"
    return _solved_or_left(lab, entry)


def _solved_or_left(lab: Lab, entry: Entry) -> Entry | str:
    if entry.solved:
        return entry
    left = [str(e.number) for e in exercises(lab.solution()) if e.number not in entry.done]
    if not left:
        return "a cell of the course failed"
    return f"exercise{'s' * (len(left) > 1)} {', '.join(left)}"


def _solved(lab: Lab, entry: Entry) -> Solved:
    return Solved(
        title=lab.title(),
        exercises=tuple(exercises(lab.solution())),
        checked_on=entry.checked_at.partition("T")[0],
        version=entry.version,
    )


def certificate(name: str, solved: list[Solved], issued_on: str) -> str:
    """The page, as HTML."""
    n_exercises = sum(len(each.exercises) for each in solved)
    labs = "\n".join(map(_section, solved))
    return _PAGE.format(
        name=escape(name),
        course=escape(COURSE_TITLE),
        n_labs=f"{len(solved)} lab{'s' * (len(solved) != 1)}",
        n_exercises=f"{n_exercises} exercise{'s' * (n_exercises != 1)}",
        labs=labs,
        issued_on=escape(issued_on),
        version=escape(__version__),
    )


def _section(solved: Solved) -> str:
    items = "".join(f"<li>{escape(each.title)}</li>" for each in solved.exercises)
    day = escape(solved.checked_on)
    return (
        f"<section>\n<h2>{escape(solved.title)}</h2>\n<ol>{items}</ol>\n"
        f'<p class="checked">Checked on <time datetime="{day}">{day}</time> '
        f"with mscourse {escape(solved.version)}</p>\n</section>"
    )


_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Certificate: {name}, {course}</title>
<style>
@page {{ size: A4; margin: 12mm; }}
* {{ box-sizing: border-box; }}
html {{ color-scheme: light; background: #eef1f4; }}
body {{ margin: 0; color: #1b2733; font: 15px/1.45 Georgia, "DejaVu Serif", serif; }}
main {{ max-width: 50rem; margin: 2rem auto; padding: 2.5rem 3rem; background: #fff;
  border: 1px solid #9fb0c0; outline: 4px double #2f5d8a; outline-offset: -14px; }}
header {{ text-align: center; }}
header p {{ margin: .3rem 0; }}
.kind {{ letter-spacing: .25em; text-transform: uppercase; color: #2f5d8a; }}
h1 {{ margin: .6rem 0; font-size: 2.3rem; font-weight: normal; overflow-wrap: anywhere; }}
.course {{ font-size: 1.25rem; font-style: italic; }}
.labs {{ columns: 2; column-gap: 2.5rem; margin-top: 1.8rem; padding-top: 1.2rem;
  border-top: 1px solid #9fb0c0; }}
section {{ break-inside: avoid; margin-bottom: 1.1rem; }}
h2 {{ margin: 0 0 .2rem; font-size: 1rem; }}
ol {{ margin: 0; padding-left: 1.4rem; }}
.checked {{ margin: .2rem 0 0; font-size: .82rem; color: #4a5a68; }}
footer {{ margin-top: 1rem; padding-top: .8rem; border-top: 1px solid #9fb0c0;
  font-size: .82rem; color: #4a5a68; text-align: center; }}
@media (max-width: 40rem) {{ .labs {{ columns: 1; }} main {{ margin: 0; padding: 2rem; }} }}
@media print {{
  html {{ background: #fff; }}
  body {{ font-size: 10.5pt; }}
  main {{ margin: 0; max-width: none; padding: 9mm 11mm; }}
}}
</style>
</head>
<body>
<main>
<header>
<p class="kind">Certificate</p>
<h1>{name}</h1>
<p>has solved all {n_labs} ({n_exercises}) of the course</p>
<p class="course">{course}</p>
</header>
<div class="labs">
{labs}
</div>
<footer>
Issued on <time datetime="{issued_on}">{issued_on}</time> by mscourse {version}, which ran the
notebooks and compared what their checks print with what the solutions print.
</footer>
</main>
</body>
</html>
"""
