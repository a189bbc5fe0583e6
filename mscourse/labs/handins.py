"""The notebooks in a folder of what learners have handed in, and whose each of them is.

::

    DIR/ada-01-primer (1).ipynb ────> ada       what stands before the lab's name,
    DIR/lab01/01-primer-bob.ipynb ──> bob       or behind it;
    DIR/grace/lab two.ipynb ────────> grace     else the folder, if it is one learner's;
    DIR/lab01/mine.ipynb ───────────> mine      else the file's name

Nothing is read here but names.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from mscourse.errors import LabError
from mscourse.labs.course import Course, Lab

#: Folders of a handout, or of the course, that hold nobody's answers.
_NOT_HANDED_IN = ("checks", "solutions")

#: What browsers, JupyterLab and desktops put behind the name of another copy: ``x (1)``,
#: ``x-Copy1``, ``x copy 2``, ``x - Copy (2)``.
_COPY = re.compile(r"(?:\s*\(\d+\)|[\s_-]+copy\s*\d*)+$", re.IGNORECASE)

#: What may stand between a learner's name and the lab's.
_SEPARATORS = "-_. "


def handed_in(folder: Path) -> list[Path]:
    """List the notebooks of a folder and of its subfolders.

    Backups and checkpoints are left out. So are folders named ``checks`` and ``solutions``:
    who hands in the whole handout hands these in, too.

    Raises
    ------
    LabError
        There is no such folder, or no notebook in it.
    """
    if not folder.is_dir():
        raise LabError(f"{folder} is not a folder. Name the one with the handed-in notebooks.")
    found = [
        path
        for path in sorted(folder.rglob("*.ipynb"))
        if not any(
            part.startswith(".") or part in _NOT_HANDED_IN
            for part in path.relative_to(folder).parts
        )
        and ".backup-" not in path.name
    ]
    if not found:
        raise LabError(
            f"There is no notebook (*.ipynb) in {folder}. Put them there as "
            "ada-01-primer.ipynb, or in one folder for each learner. Folders named "
            f"{' and '.join(_NOT_HANDED_IN)} are not looked into."
        )
    return found


def named_lab(course: Course, path: Path) -> Lab | None:
    """The lab whose name is in the name of a file, if any."""
    return next((lab for lab in course.labs() if lab.name in path.stem), None)


class Learners:
    """Tells whose each notebook is.

    Parameters
    ----------
    folder : Path
        The folder with all that was handed in.
    paths : sequence of Path
        The notebooks in it.
    lab_names : sequence of str
        Such as ``"01-primer"``.
    """

    def __init__(self, folder: Path, paths: Sequence[Path], lab_names: Sequence[str]) -> None:
        self._folder = folder
        numbers = "|".join(re.escape(name.partition("-")[0].lstrip("0")) for name in lab_names)
        names = "|".join(map(re.escape, lab_names))
        self._of_a_lab = re.compile(rf"{names}|lab[{_SEPARATORS}]*0*(?:{numbers})", re.IGNORECASE)
        names_in: dict[tuple[str, str], set[str]] = defaultdict(set)
        for path in paths:
            own, lab_name = self._own_folder(path), _first_in(path.stem, lab_names)
            before, behind = _around(path.stem, lab_name)
            if own and (name := before or behind):
                names_in[own, lab_name].add(name)
        #: Folders with the same lab of several people.
        self._shared = {own for (own, _), names in names_in.items() if len(names) > 1}

    def learner_of(self, path: Path, lab_name: str) -> str:
        """The learner's name, by the names of a notebook and of its folders.

        Parameters
        ----------
        path : Path
        lab_name : str
            Empty if it is not known.
        """
        before, behind = _around(path.stem, lab_name)
        own = self._own_folder(path)
        if own in self._shared:
            own = ""
        # In a folder of one's own, what stands behind the lab's name is hardly that of another:
        # grace/01-primer-final.ipynb.
        return before or own or behind or path.stem

    def _own_folder(self, path: Path) -> str:
        """The first of a notebook's folders that is not named after a lab; empty if none is."""
        parts = path.relative_to(self._folder).parts[:-1]
        return next((part for part in parts if not self._of_a_lab.fullmatch(part)), "")


def _around(stem: str, lab_name: str) -> tuple[str, str]:
    """What stands before a lab's name in a file's, and behind it; both empty if it is not there."""
    before, found, behind = _COPY.sub("", stem).partition(lab_name or "\0")
    return (before.strip(_SEPARATORS), behind.strip(_SEPARATORS)) if found else ("", "")


def _first_in(stem: str, lab_names: Sequence[str]) -> str:
    return next((name for name in lab_names if name in stem), "")
