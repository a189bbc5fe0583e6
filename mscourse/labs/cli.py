# ruff: noqa: T201 (a command prints)
"""The command ``mscourse lab``: list, open, check, reset and build labs.

What a command needs beyond the package itself (JupyterLab, nbval, ...) comes with the extra
``mscourse[labs]``, and is imported only when the command runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mscourse.errors import LabError

if TYPE_CHECKING:
    from mscourse.labs.course import Course, Lab

_NEEDED = ("nbformat", "nbval", "pytest", "nbclient", "jupytext")


def add_lab_commands(subparsers: Any) -> None:
    """Add ``lab`` and its commands to the subparsers of ``mscourse``.

    Each command sets ``run``, a function of the parsed arguments that returns the exit status.
    """
    lab = subparsers.add_parser("lab", help="list, open, check and reset the labs")
    commands = lab.add_subparsers(dest="lab_command", metavar="COMMAND", required=True)
    course = argparse.ArgumentParser(add_help=False)
    course.add_argument(
        "--course", metavar="DIR", help="the course's folder (default: found from here upward)"
    )

    def add(name: str, run: Any, description: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = commands.add_parser(
            name, parents=[course], help=description, description=description
        )
        parser.set_defaults(run=run)
        return parser

    add("list", list_labs, "list the labs, and how far you are")
    open_ = add("open", open_lab, "open a lab in JupyterLab")
    open_.add_argument("name", metavar="NAME", help="such as 01 or 01-primer")
    check = add("check", check_labs, "check your answers, all labs by default")
    check.add_argument("names", metavar="NAME", nargs="*", help="a lab, or a notebook's path")
    check.add_argument(
        "--timeout", type=float, default=60, metavar="S", help="seconds a cell may take (60)"
    )
    reset = add("reset", reset_lab, "bring back the fresh lab, and keep yours as a backup")
    reset.add_argument("name", metavar="NAME", help="such as 01 or 01-primer")
    build = add("build", build_labs, "run the solutions, record them, and derive the labs")
    build.add_argument("names", metavar="NAME", nargs="*", help="a lab (default: all)")


def list_labs(arguments: argparse.Namespace) -> int:
    """Print a line for each lab."""
    from mscourse.labs.notebook import exercises

    for lab in _course(arguments).labs():
        minutes = lab.minutes()
        duration = "" if minutes is None else f"{minutes} min"
        try:
            answered = lab.n_answered(lab.attempt())
            total = len(exercises(lab.solution()))
            state = f"attempted, {answered} of {total}" if answered else "untouched"
        except LabError:
            state = "unreadable" if lab.path.exists() else "missing"
        print(f"{lab.name:<20}  {duration:>7}  {state:<18}  {lab.title()}")
    return 0


def open_lab(arguments: argparse.Namespace) -> int:
    """Become JupyterLab, with the lab in front."""
    lab = _course(arguments).lab(arguments.name)
    lab.attempt()  # complain here rather than in the browser
    _require("jupyterlab")
    sys.stdout.flush()
    command = [sys.executable, "-m", "jupyterlab", str(lab.path)]
    os.execv(sys.executable, command)  # noqa: S606 (a list, no shell)


def check_labs(arguments: argparse.Namespace) -> int:
    """Check labs and print the reports; the status is 0 only if all are solved."""
    course = _course(arguments)
    names = arguments.names or [lab.name for lab in course.labs()]
    return max(_check(course, name, arguments.timeout) for name in names)


def _check(course: Course, name: str, cell_timeout_s: float) -> int:
    """Check one lab. What is wrong with it must not keep the others from being checked."""
    from mscourse.labs.check import check_lab

    try:
        lab, path = course.lab_and_path(name)
        print(f"Checking {lab.name} ...", file=sys.stderr, flush=True)
        report = check_lab(lab, None if path == lab.path else path, cell_timeout_s=cell_timeout_s)
    except LabError as error:
        print(f"mscourse: {error}", file=sys.stderr)
        return 1
    print(report, flush=True)
    return 0 if report.solved else 1


def reset_lab(arguments: argparse.Namespace) -> int:
    """Bring back the fresh lab."""
    lab = _course(arguments).lab(arguments.name)
    backup = lab.reset()
    print(f"{lab.path} is as fresh as it was." + _kept(backup))
    return 0


def build_labs(arguments: argparse.Namespace) -> int:
    """Build labs from their sources."""
    course = _course(arguments)
    labs: Sequence[Lab] = [course.lab(name) for name in arguments.names] or course.labs()
    from mscourse.labs.build import build_lab

    for lab in labs:
        backup = build_lab(lab)
        print(f"{lab.name}: built." + _kept(backup), flush=True)
    return 0


def _kept(backup: Any) -> str:
    return "" if backup is None else f" What was there is kept in {backup.name}."


def _course(arguments: argparse.Namespace) -> Course:
    for module in _NEEDED:
        _require(module)
    from mscourse.labs.course import Course

    return Course.find(arguments.course)


def _require(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise LabError(
            f"The labs need {module}, which is not installed: pip install 'mscourse[labs]'"
        )
