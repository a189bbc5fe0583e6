"""What the commands for labs need, and where they find the course."""

from __future__ import annotations

import argparse
import importlib.util
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
