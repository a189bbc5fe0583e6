"""What the checks found, kept for as long as neither the notebook nor the solution changes.

A check takes a minute. Its result is kept in ``labs/.checks.json`` under a digest of all that was
run and compared: the answers, the cells that were added, the checks and what they should print.
What a notebook shows, and the text in it, may change. There is nothing to win by editing the file.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from mscourse import __version__
from mscourse.errors import LabError
from mscourse.labs.check import graft
from mscourse.labs.course import Course, Lab
from mscourse.labs.notebook import to_text
from mscourse.labs.verdict import LabReport

FILE_NAME = ".checks.json"


@dataclass(frozen=True)
class Entry:
    """What a check found.

    Attributes
    ----------
    digest : str
        Of what was checked.
    checked_at : str
        The local time, as in ISO 8601, to the second.
    version : str
        The version of mscourse that checked.
    done : tuple of int
        The numbers of the exercises that were done.
    solved : bool
        Whether that is all of them, and the cells around them ran.
    """

    digest: str
    checked_at: str
    version: str
    done: tuple[int, ...]
    solved: bool


def digest_of(lab: Lab) -> str:
    """The digest of all that a check of the learner's notebook runs and compares."""
    text = to_text(graft(lab.solution(), lab.attempt()))
    return hashlib.sha256(text.encode()).hexdigest()


class Record:
    """The file of a course's checks."""

    def __init__(self, course: Course) -> None:
        self.path = course.folder / "labs" / FILE_NAME

    def find(self, lab: Lab) -> Entry | None:
        """Find what a check of this very notebook found; None if it was not checked as it is."""
        entry = self._entries().get(lab.name)
        if entry is None or entry.version != __version__ or entry.digest != digest_of(lab):
            return None
        return entry

    def keep(self, report: LabReport, digest: str) -> Entry:
        """Keep what a check found.

        Parameters
        ----------
        report : LabReport
        digest : str
            Of what was checked, taken before the check: the notebook may have changed since.

        Raises
        ------
        LabError
            The file cannot be written.
        """
        entry = Entry(
            digest=digest,
            checked_at=datetime.now().isoformat(timespec="seconds"),
            version=__version__,
            done=tuple(each.exercise.number for each in report.verdicts if each.status == "done"),
            solved=report.solved,
        )
        entries = {**self._entries(), report.lab.name: entry}
        content = {name: asdict(each) for name, each in sorted(entries.items())}
        temporary = self.path.with_name(f"{FILE_NAME}.tmp")
        try:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            temporary.replace(self.path)
        except OSError as error:
            raise LabError(f"What the check found cannot be kept in {self.path}: {error}") from None
        return entry

    def _entries(self) -> dict[str, Entry]:
        """What the file holds. A file that is missing or damaged holds nothing: check again."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            return {name: _entry(fields) for name, fields in content.items()}
        except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
            return {}


def _entry(fields: dict[str, Any]) -> Entry:
    entry = Entry(**{**fields, "done": tuple(int(number) for number in fields["done"])})
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", entry.checked_at):
        raise ValueError(entry.checked_at)
    return entry
