"""What the commands for labs need: the course, other packages, a place for what they write."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from mscourse.errors import LabError

if TYPE_CHECKING:
    from mscourse.labs.course import Course

_NEEDED = ("nbformat", "nbval", "pytest", "nbclient", "jupytext")


def find_course(arguments: argparse.Namespace) -> Course:
    """Find the course that a command is about.

    Raises
    ------
    LabError
        What the labs need is not installed, or the course is not found.
    """
    for module in _NEEDED:
        require(module)
    from mscourse.labs.course import Course

    return Course.find(arguments.course)


def require(module: str) -> None:
    """See that a module is installed, without importing it."""
    if importlib.util.find_spec(module) is None:
        raise LabError(
            f"The labs need {module}, which is not installed: pip install 'mscourse[labs]'"
        )


def require_free(path: Path, overwrite: bool) -> None:
    """See that a file can be written here, and that nothing is lost by it.

    Raises
    ------
    LabError
        The file is there, and is not to be overwritten, or its folder is not there, or either
        must not be written to.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise LabError(f"{path} cannot be written: name a file (-o FILE) in a folder that exists.")
    if path.exists() and not overwrite:
        raise LabError(f"{path} is there already. Name another file with -o, or give --force.")
    was_there = path.is_symlink() or path.exists()
    try:
        with path.open("ab"):
            pass  # what is there stays as it is
        if not was_there:
            path.unlink()
    except OSError as error:
        raise LabError(
            f"{path} cannot be written: {error.strerror}. Name a file (-o FILE) that you may write."
        ) from None
