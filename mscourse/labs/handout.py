"""A folder for learners: the labs, and the checks without the answers.

::

    solutions/NN-name.ipynb ─┬─ strip ──────────> DIR/labs/NN-name.ipynb     to work in
                             └─ without answers ─> DIR/checks/NN-name.ipynb  what `check` needs

A check runs the learner's answers among the solution's cells, and compares what the checks print.
For that it needs the solution's checks and what they printed, but none of its answers. So learners
get a verdict at once, and the answers stay with the instructor. The folder holds no data and
nobody's attempts.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from mscourse import __version__
from mscourse.errors import LabError
from mscourse.labs.course import Course, Lab
from mscourse.labs.notebook import strip, without_answers, write_notebook

_README = """\
# Labs

{contents}

| lab | title | minutes |
| --- | --- | --- |
{rows}

You need the environment of the course, with `mscourse` {version}. If you do not have it yet, get
Python 3.11 or newer, and the file `{wheel}` from
your instructor. With that file in this folder:

```console
$ python3 -m venv .venv
$ source .venv/bin/activate
$ pip install './{wheel}[labs]'
$ mscourse doctor            # whether this machine is ready
```

In this folder, with that environment active (`source .venv/bin/activate`, once in each terminal):

```console
$ mscourse lab list          # the labs, and how far you are
$ mscourse lab open 01       # open one in JupyterLab
$ mscourse lab check 01      # check your answers; without a number: all labs
$ mscourse lab reset 01      # start afresh; what you wrote is kept as a backup
```

Write in the cells that say so, and add cells wherever you like. The last cell of each exercise
says at once how far you are with it. `mscourse lab check` runs your notebook from top to bottom in
a fresh Python, so save it first.

To hand a lab in, give a copy of its notebook a name with yours in front, such as
`ada-{example}.ipynb`. Leave the end of the name as it is.
"""

_WITH_SOLUTIONS = (
    "The folder `labs` has the notebooks to work in, and `solutions` has their solutions, for\n"
    "when you are done or stuck."
)
_WITHOUT_SOLUTIONS = (
    "The folder `labs` has the notebooks to work in. The folder `checks` has what your answers\n"
    "are judged by: what the checks print when all is right. The solutions are with your\n"
    "instructor."
)


def write_handout(course: Course, folder: Path, *, with_solutions: bool = False) -> list[Path]:
    """Write the folder to hand out.

    Parameters
    ----------
    course : Course
    folder : path
        Not there yet, or empty.
    with_solutions : bool
        Whether the solutions go with it.

    Returns
    -------
    list of Path
        The files, relative to the folder.

    Raises
    ------
    LabError
        The folder is not empty, or cannot be written to, or a solution is not there.
    """
    labs = course.labs()
    solutions = {lab.name: lab.solution() for lab in labs}  # complain before anything is written
    if with_solutions:
        _require_solutions(labs)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise LabError(
                f"{folder} is not empty. A handout goes to a folder of its own: "
                "name one that is not there yet, or empty this one."
            )
        for lab in labs:
            write_notebook(strip(solutions[lab.name]), folder / "labs" / lab.path.name)
            if with_solutions:
                (folder / "solutions").mkdir(exist_ok=True)
                for path in (lab.source_path, lab.solution_path):
                    shutil.copyfile(path, folder / "solutions" / path.name)
            else:
                checks = without_answers(solutions[lab.name])
                write_notebook(checks, folder / "checks" / lab.path.name)
        (folder / "README.md").write_text(_readme(labs, with_solutions), encoding="utf-8")
    except OSError as error:
        raise LabError(f"The handout cannot be written to {folder}: {error}") from None
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def _require_solutions(labs: list[Lab]) -> None:
    for lab in labs:
        if not lab.source_path.exists():
            raise LabError(
                f"The solution {lab.source_path} is not there: this folder is a handout itself, "
                "and has checks without answers. Leave out --with-solutions, or run the command "
                "in the course's own folder."
            )


def _readme(labs: list[Lab], with_solutions: bool) -> str:
    rows = [f"| `{lab.path.name}` | {lab.title()} | {lab.minutes() or ''} |" for lab in labs]
    return _README.format(
        contents=_WITH_SOLUTIONS if with_solutions else _WITHOUT_SOLUTIONS,
        rows="\n".join(rows),
        version=__version__,
        wheel=f"mscourse-{__version__}-py3-none-any.whl",
        example=labs[0].name,
    )
