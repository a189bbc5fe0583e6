# ruff: noqa: T201 (a command prints)
"""The command ``mscourse lab``: list, open, check, reset and build labs.

What a command needs beyond the package itself (JupyterLab, nbval, ...) comes with the extra
``mscourse[labs]``, and is imported only when the command runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mscourse.errors import LabError
from mscourse.labs.needs import find_course, require
from mscourse.labs.options import add_output, add_timeout
from mscourse.labs.roomcli import add_room_commands

if TYPE_CHECKING:
    from mscourse.labs.course import Course, Lab


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
    add_timeout(check)
    reset = add("reset", reset_lab, "bring back the fresh lab, and keep yours as a backup")
    reset.add_argument("name", metavar="NAME", help="such as 01 or 01-primer")
    certificate = add(
        "certificate", certify_labs, "write a page that says that all labs are solved"
    )
    certificate.add_argument("--name", required=True, help='yours, such as "Ada Lovelace"')
    add_output(certificate, "certificate.html", "where to write it")
    add_timeout(certificate)
    build = add("build", build_labs, "run the solutions, record them, and derive the labs")
    build.add_argument("names", metavar="NAME", nargs="*", help="a lab (default: all)")
    add_room_commands(add)


def list_labs(arguments: argparse.Namespace) -> int:
    """Print a line for each lab."""
    course = find_course(arguments)
    from mscourse.labs.notebook import exercises
    from mscourse.labs.record import Record

    record = Record(course)
    for lab in course.labs():
        minutes = lab.minutes()
        duration = "" if minutes is None else f"{minutes} min"
        try:
            attempt = lab.attempt()
            answered = lab.n_answered(attempt)
            total = len(exercises(lab.solution()))
            checked = record.find(lab)
            if checked is not None:
                state = "solved" if checked.solved else f"{len(checked.done)} of {total} done"
            elif answered:
                state = f"attempted, {answered} of {total}"
            else:
                # What cells of their own answer, only a check can tell.
                state = "untouched" if lab.is_untouched(attempt) else "attempted"
        except LabError:
            state = "unreadable" if lab.path.exists() else "missing"
        print(f"{lab.name:<20}  {duration:>7}  {state:<18}  {lab.title()}")
    return 0


def open_lab(arguments: argparse.Namespace) -> int:
    """Become JupyterLab, with the lab in front."""
    lab = find_course(arguments).lab(arguments.name)
    lab.attempt()  # complain here rather than in the browser
    require("jupyterlab")
    sys.stdout.flush()
    command = [sys.executable, "-m", "jupyterlab", str(lab.path)]
    os.execv(sys.executable, command)  # noqa: S606 (a list, no shell)


def check_labs(arguments: argparse.Namespace) -> int:
    """Check labs and print the reports; the status is 0 only if all are solved."""
    course = find_course(arguments)
    if arguments.names:
        return max(_check(course, name, arguments.timeout) for name in arguments.names)
    from mscourse.labs.progress import check_all, table

    standings = check_all(course, cell_timeout_s=arguments.timeout)
    print(f"\n{table(standings)}")
    return 0 if all(each.solved for each in standings) else 1


def _check(course: Course, name: str, cell_timeout_s: float) -> int:
    """Check one lab. What is wrong with it must not keep the others from being checked."""
    from mscourse.labs.check import check_lab
    from mscourse.labs.progress import check_and_keep, run_shown

    try:
        lab, path = course.lab_and_path(name)
        if path == lab.path:
            report = check_and_keep(lab, course, cell_timeout_s=cell_timeout_s)
        else:
            with run_shown(lab) as on_cell:
                report = check_lab(lab, path, cell_timeout_s=cell_timeout_s, on_cell=on_cell)
    except LabError as error:
        print(f"mscourse: {error}", file=sys.stderr)
        return 1
    print(report, flush=True)
    return 0 if report.solved else 1


def reset_lab(arguments: argparse.Namespace) -> int:
    """Bring back the fresh lab."""
    lab = find_course(arguments).lab(arguments.name)
    backup = lab.reset()
    print(f"{lab.path} is as fresh as it was." + _kept(backup))
    return 0


def certify_labs(arguments: argparse.Namespace) -> int:
    """Write the certificate if all labs are solved; the status is 1 if they are not."""
    course = find_course(arguments)
    from mscourse.labs.certificate import certify

    written = certify(
        course,
        arguments.name,
        arguments.output,
        cell_timeout_s=arguments.timeout,
        overwrite=arguments.force,
    )
    if written:
        print(
            f"The certificate is in {arguments.output}. Open it in a browser, and print it there."
        )
    return 0 if written else 1


def build_labs(arguments: argparse.Namespace) -> int:
    """Build labs from their sources."""
    course = find_course(arguments)
    labs: Sequence[Lab] = [course.lab(name) for name in arguments.names] or course.labs()
    from mscourse.labs.build import build_lab

    for lab in labs:
        backup = build_lab(lab)
        print(f"{lab.name}: built." + _kept(backup), flush=True)
    return 0


def _kept(backup: Any) -> str:
    return "" if backup is None else f" What was there is kept in {backup.name}."
