"""The notebooks in a folder of what learners have handed in, and whose each of them is.

::

    DIR/ada-01-primer (1).ipynb ────> ada       what stands before the lab's name,
    DIR/lab01/01-primer-bob.ipynb ──> bob       or behind it;
    DIR/grace/lab two.ipynb ────────> grace     else the folder, if it is one learner's;
    DIR/lab01/mine.ipynb ───────────> mine      else the file's name

    DIR/bob.zip ──────────────────> no row, but `left_out` names it

Nothing is read here but names.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from mscourse.errors import LabError
from mscourse.labs.course import Course, Lab
from mscourse.labs.shown import printable

#: Folders of a handout, or of the course, that hold nobody's answers.
_NOT_HANDED_IN = ("checks", "solutions")

#: What desktops and Python leave beside files.
_NOBODYS = ("__MACOSX", "__pycache__", "Thumbs.db", "desktop.ini")

#: What to do with a file of many.
_UNPACK = {".zip": "unzip it"} | dict.fromkeys(
    (".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz"), "unpack it"
)

#: So many names are told; a learner may hand in a whole environment.
_MOST_NAMED = 50

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
        if all(map(_is_looked_at, path.relative_to(folder).parts)) and not _is_backup(path.name)
    ]
    if not found:
        others = _named("Not looked at", _other_files(folder, None))
        raise LabError(
            f"There is no notebook (*.ipynb) in {folder}. Put them there as "
            "ada-01-primer.ipynb, or in one folder for each learner. Folders named "
            f"{' and '.join(_NOT_HANDED_IN)} are not looked into."
            + (f" {others}" if others else "")
        )
    return found


def left_out(folder: Path, lab_names: Sequence[str], output: Path | None = None) -> str:
    """Say what in a folder `handed_in` passes over, in a sentence or two; empty if nothing.

    A learner whose folder holds no notebook is named here and gets no row, as who handed in one
    lab gets none for the others: a row is what became of a notebook.

    Parameters
    ----------
    folder : Path
    lab_names : sequence of str
        Such as ``"01-primer"``. A folder of such a name is nobody's own.
    output : Path, optional
        A file that is not one of the learners', if it is in the folder.
    """
    files = _other_files(folder, output)
    empty = _folders_without_any(folder, lab_names, files)
    texts = (_named("Not looked at", files), _named("Without a notebook", empty))
    return " ".join(text for text in texts if text)


def _is_looked_at(name: str) -> bool:
    return not name.startswith(".") and name not in _NOT_HANDED_IN + _NOBODYS


def _is_backup(name: str) -> bool:
    return ".backup-" in name


def _walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Each folder that is looked at, relative to the first, with its folders and its files."""
    for place, folders, files in os.walk(folder):
        is_handout = not {*_NOT_HANDED_IN}.isdisjoint(folders)
        handed_out = {"README.md"} if is_handout else set()
        folders[:] = filter(_is_looked_at, folders)
        own = [name for name in files if _is_looked_at(name) and name not in handed_out]
        yield Path(place).relative_to(folder), folders, own


def _other_files(folder: Path, output: Path | None) -> list[Path]:
    """Files that are not notebooks, relative to the folder; first those that may hold some."""
    found = [
        here / name
        for here, _, names in _walk(folder)
        for name in names
        if not name.endswith(".ipynb")
    ]
    if output is not None:
        made, here = output.parent.resolve() / output.name, folder.resolve()
        found = [each for each in found if here / each != made]
    return sorted(found, key=lambda path: (path.suffix.lower() not in _UNPACK, path))


def _folders_without_any(
    folder: Path, lab_names: Sequence[str], others: Sequence[Path]
) -> list[Path]:
    """Learners' folders that hold no notebook, nor any of the other files."""
    of_a_lab = _folder_of_a_lab(lab_names)

    def own(parts: Sequence[str]) -> Path:
        ends = (n for n, part in enumerate(parts, start=1) if not of_a_lab.fullmatch(part))
        return Path(*parts[: next(ends, 0)])

    known: set[Path] = set()
    used = {Path(), *(own(path.parts[:-1]) for path in others)}
    for here, folders, names in _walk(folder):
        known |= {own((here / name).parts) for name in folders}
        if any(name.endswith(".ipynb") and not _is_backup(name) for name in names):
            used.add(own(here.parts))
    return sorted(known - used)


def _named(what: str, paths: Sequence[Path]) -> str:
    """Such as ``Not looked at: carl.zip (unzip it), eve/lab.docx.``; empty if there are none."""
    texts = []
    for path in paths[:_MOST_NAMED]:
        advice = _UNPACK.get(path.suffix.lower())
        texts.append(printable(str(path)) + (f" ({advice})" if advice else ""))
    more = f" and {len(paths) - _MOST_NAMED} more" if len(paths) > _MOST_NAMED else ""
    return f"{what}: {', '.join(texts)}{more}." if texts else ""


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
        self._of_a_lab = _folder_of_a_lab(lab_names)
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


def _folder_of_a_lab(lab_names: Sequence[str]) -> re.Pattern[str]:
    """What the name of a folder looks like that is named after a lab."""
    numbers = "|".join(re.escape(name.partition("-")[0].lstrip("0")) for name in lab_names)
    names = "|".join(map(re.escape, lab_names))
    return re.compile(rf"{names}|lab[{_SEPARATORS}]*0*(?:{numbers})", re.IGNORECASE)


def _around(stem: str, lab_name: str) -> tuple[str, str]:
    """What stands before a lab's name in a file's, and behind it; both empty if it is not there."""
    before, found, behind = _COPY.sub("", stem).partition(lab_name or "\0")
    return (before.strip(_SEPARATORS), behind.strip(_SEPARATORS)) if found else ("", "")


def _first_in(stem: str, lab_names: Sequence[str]) -> str:
    return next((name for name in lab_names if name in stem), "")
