"""What is said about a configuration: errors and warnings, each with its place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Letters of a value that a message shows.
_MOST_SHOWN = 60


@dataclass(frozen=True)
class Place:
    """A line of a file, or the file as a whole if the line is None. Lines count from 1."""

    path: Path
    line: int | None = None

    def __str__(self) -> str:
        return str(self.path) if self.line is None else f"{self.path}:{self.line}"


@dataclass(frozen=True)
class Remark:
    """What is to be said about a place: an error or a warning."""

    place: Place
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


class Remarks:
    """Errors and warnings, in the order in which they are found, each only once."""

    def __init__(self) -> None:
        self._errors: dict[Remark, None] = {}
        self._warnings: dict[Remark, None] = {}

    def error(self, place: Place, text: str) -> None:
        """Note an error."""
        self._errors[Remark(place, text)] = None

    def warn(self, place: Place, text: str) -> None:
        """Note a warning."""
        self._warnings[Remark(place, text)] = None

    @property
    def errors(self) -> tuple[Remark, ...]:
        """The errors, file by file, by line."""
        return _in_order(self._errors)

    @property
    def warnings(self) -> tuple[Remark, ...]:
        """The warnings, file by file, by line."""
        return _in_order(self._warnings)


def _in_order(remarks: dict[Remark, None]) -> tuple[Remark, ...]:
    paths = list(dict.fromkeys(each.place.path for each in remarks))
    return tuple(
        sorted(remarks, key=lambda each: (paths.index(each.place.path), each.place.line or 0))
    )


def quoted(text: str) -> str:
    """Quote a value in a message, cut if it is long."""
    return repr(text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "...")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Find the known name that was probably meant."""
    by_fold = {each.casefold(): each for each in known}
    found = difflib.get_close_matches(name.casefold(), by_fold, n=1)
    return by_fold[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Ask for the nearest name, in a sentence to append to a message."""
    found = nearest(name, known)
    return f" Did you mean {found}?" if found else ""
