"""The options that several commands for labs have, so that they mean the same in each."""

from __future__ import annotations

import argparse
from pathlib import Path

from mscourse.arguments import positive
from mscourse.labs.sandbox import CELL_TIMEOUT_S


def add_timeout(
    parser: argparse.ArgumentParser,
    option: str = "--timeout",
    *,
    default_s: float = CELL_TIMEOUT_S,
    what: str = "a cell",
) -> None:
    """Add an option for how long something may take, in seconds."""
    parser.add_argument(
        option,
        type=positive(float),
        default=default_s,
        metavar="S",
        help=f"seconds {what} may take ({default_s:g})",
    )


def add_output(parser: argparse.ArgumentParser, file_name: str, what: str) -> None:
    """Add options for the file that is written, and for whether it may be there already."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        default=Path(file_name),
        help=f"{what} ({file_name})",
    )
    parser.add_argument("--force", action="store_true", help="overwrite FILE")
