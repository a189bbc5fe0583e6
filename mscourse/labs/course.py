"""The course's folder, its labs, and a fresh copy of each that never costs an attempt."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mscourse.errors import LabError
from mscourse.labs.notebook import (
    Notebook,
    exercises,
    nothing_written,
    read_notebook,
    strip,
    title_of,
    to_text,
    untouched,
    write_notebook,
)

#: What to do where a notebook cannot be read or written.
_MAY_WRITE = (
    "See that you may read the notebook and write to its folder {folder}, or work in a copy of "
    "the course that is your own (--course DIR)."
)


@dataclass(frozen=True)
class Lab:
    """A lab of the course: its files, and what is known of it without running anything.

    Attributes
    ----------
    name : str
        Such as ``"01-primer"``.
    folder : Path
        The course's folder.
    """

    name: str
    folder: Path

    @property
    def source_path(self) -> Path:
        """The source, which is edited by hand."""
        return self.folder / "solutions" / f"{self.name}.md"

    @property
    def solution_path(self) -> Path:
        """The executed solution; in a handout without solutions, the checks taken from it."""
        executed = self.folder / "solutions" / f"{self.name}.ipynb"
        checks = self.folder / "checks" / f"{self.name}.ipynb"
        return checks if checks.exists() and not executed.exists() else executed

    @property
    def path(self) -> Path:
        """The learner's notebook."""
        return self.folder / "labs" / f"{self.name}.ipynb"

    def solution(self) -> Notebook:
        """Read the executed solution."""
        if not self.solution_path.exists():
            raise LabError(
                f"The solution {self.solution_path} is not there. Build it with "
                f"`mscourse lab build {self.name}`, or get it back with git."
            )
        return read_notebook(self.solution_path)

    def attempt(self) -> Notebook:
        """Read the learner's notebook."""
        if self.path.exists():
            return read_notebook(self.path)
        others = sorted(path.name for path in self.path.parent.glob("*.ipynb"))
        raise LabError(
            f"The lab's notebook {self.path} is not there. If you renamed it, give its path "
            f"({', '.join(others) or 'the folder holds no notebook'}); "
            f"for a fresh one, run `mscourse lab reset {self.name}`."
        )

    def title(self) -> str:
        """The lab's main heading."""
        return title_of(self.solution()) or self.name

    def minutes(self) -> int | None:
        """The minutes it takes, as its author estimates."""
        minutes = self.solution().metadata.get("mscourse", {}).get("minutes")
        return None if minutes is None else int(minutes)

    def n_answered(self, attempt: Notebook) -> int:
        """Count the exercises whose stubs the learner has replaced, rightly or wrongly."""
        solution = self.solution()
        return sum(not untouched(exercise, solution, attempt) for exercise in exercises(solution))

    def is_untouched(self, attempt: Notebook) -> bool:
        """Whether the learner has written nothing, neither in stubs nor in cells of their own."""
        return nothing_written(self.solution(), attempt)

    def reset(self) -> Path | None:
        """Bring back the fresh lab. What was there is kept under a backup's name.

        Returns
        -------
        Path or None
            The backup; None when there was nothing to lose.

        Raises
        ------
        LabError
            The notebook cannot be read, or its folder cannot be written to. What was there is
            still there.
        """
        fresh = strip(self.solution())
        try:
            backup = back_up(self.path) if self.differs_from(fresh) else None
            write_notebook(fresh, self.path)
        except OSError as error:
            raise LabError(
                f"{self.path} cannot be brought back: {error}. What is there stays as it is. "
                + _MAY_WRITE.format(folder=self.path.parent)
            ) from None
        return backup

    def differs_from(self, fresh: Notebook) -> bool:
        """Whether the learner's file exists and is anything but this notebook."""
        return self.path.exists() and self.path.read_bytes() != to_text(fresh).encode()


def back_up(path: Path) -> Path:
    """Copy a notebook beside itself, to a name with the time; never onto an older backup.

    Raises
    ------
    LabError
        The notebook cannot be read, or its folder cannot be written to.
    """
    stamp = f"{datetime.now():%Y%m%d-%H%M%S}"
    try:
        content = path.read_bytes()
        for n in range(1, 1000):
            suffix = stamp if n == 1 else f"{stamp}-{n}"
            backup = path.with_name(f"{path.stem}.backup-{suffix}{path.suffix}")
            try:
                with backup.open("xb") as file:
                    file.write(content)
            except FileExistsError:
                continue
            return backup
    except OSError as error:
        raise LabError(
            f"{path} cannot be backed up: {error}. Nothing was changed. "
            + _MAY_WRITE.format(folder=path.parent)
        ) from None
    raise LabError(f"{path} cannot be backed up: a thousand backups bear the time {stamp}.")


@dataclass(frozen=True)
class Course:
    """A folder with the course: ``solutions/`` and ``labs/`` are in it.

    A handout (:mod:`mscourse.labs.handout`) is one too. It may have ``checks/`` instead of
    ``solutions/``: solutions without the answers.
    """

    folder: Path

    @classmethod
    def find(cls, folder: str | Path | None = None) -> Course:
        """Find the course's folder.

        Parameters
        ----------
        folder : path, optional
            The course's folder. By default it is looked for from the current folder upward,
            then where the package lies, as in an editable installation.

        Raises
        ------
        LabError
            It is in none of these places.
        """
        if folder is not None:
            candidates = [Path(folder).expanduser()]
        else:
            here = Path.cwd()
            candidates = [here, *here.parents, Path(__file__).parents[2]]
        for candidate in candidates:
            if cls(candidate).labs():
                return cls(candidate.resolve())
        raise LabError(
            f"The course is not in {candidates[0].resolve()}"
            + ("" if folder else " or a folder above it")
            + ": there is no solutions/NN-name.md, and no checks/NN-name.ipynb as in a handout. "
            "Run the command in the course's folder, or name that with --course DIR."
        )

    def labs(self) -> list[Lab]:
        """All labs, by number."""
        sources = (self.folder / "solutions").glob("[0-9]*.md")
        checks = (self.folder / "checks").glob("[0-9]*.ipynb")
        names = {path.stem for path in (*sources, *checks)}
        return [Lab(name, self.folder) for name in sorted(names)]

    def lab(self, name: str) -> Lab:
        """Find a lab by its number (``01`` or ``1``), its name, or the end of its name.

        Raises
        ------
        LabError
            No lab has this name; the message suggests the nearest.
        """
        labs = self.labs()
        for lab in labs:
            number, _, rest = lab.name.partition("-")
            if name in (lab.name, number, number.lstrip("0"), rest):
                return lab
        names = [lab.name for lab in labs]
        ends = {lab.name.partition("-")[2]: lab.name for lab in labs}
        nearest = difflib.get_close_matches(name, [*names, *ends], n=1)
        suggestion = f"Did you mean {ends.get(nearest[0], nearest[0])}? " if nearest else ""
        raise LabError(f"There is no lab {name!r}. {suggestion}The labs are {', '.join(names)}.")

    def lab_and_path(self, name: str) -> tuple[Lab, Path]:
        """Find a lab and the notebook to look at, by the lab's name or the notebook's path.

        A notebook that was renamed is known by the lab's name in its metadata.
        """
        path = Path(name).expanduser()
        if path.suffix != ".ipynb":
            lab = self.lab(name)
            return lab, lab.path
        if not path.exists() and path.name == name:
            path = self.folder / "labs" / name
        written: Any = read_notebook(path).metadata.get("mscourse", {})
        known = written.get("lab") if isinstance(written, dict) else None
        return self.lab(str(known or path.stem)), path
