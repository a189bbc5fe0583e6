"""Find the configuration of clusters, read it, and check it: all that is wrong is said at once.

::

    FILE and what it includes ── inifile ──► sections ── sections, table ──► values
        ── resolve ──► Config, or a ClusterConfigError with every error

Nothing here goes to the network: that a key, an image or a host exists is seen when it is used.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mscourse.cluster.inifile import Section, decode, read_ini
from mscourse.cluster.remarks import Place, Remarks
from mscourse.cluster.resolve import resolve
from mscourse.cluster.schema import SectionKind
from mscourse.cluster.sections import Checked, check_section, holds_secret, identify
from mscourse.cluster.settings import Config
from mscourse.cluster.table import GLOBAL
from mscourse.errors import ClusterConfigError

#: The environment variable that names the configuration.
VARIABLE = "MSCOURSE_CLUSTER_CONFIG"

_DEFAULT_PATH = "~/.mscourse/cluster.ini"

# A configuration has a few thousand bytes. A larger file is something else, taken by mistake.
_MOST_BYTES = 2**20


def find_config(given: str | os.PathLike[str] | None = None) -> Path:
    """Tell which file is the configuration, whether it is there or not.

    It is the one that is `given`, else that of the variable ``MSCOURSE_CLUSTER_CONFIG``, else
    ``~/.mscourse/cluster.ini``.
    """
    name = os.fspath(given) if given is not None else os.environ.get(VARIABLE) or _DEFAULT_PATH
    return Path(os.path.expanduser(name))  # noqa: PTH111 (Path's raises without a home)


def read_config(path: str | os.PathLike[str] | None = None) -> Config:
    """Read and check a configuration.

    Parameters
    ----------
    path : path-like or None
        The file; None looks for it as `find_config` does.

    Returns
    -------
    Config
        With its warnings.

    Raises
    ------
    ClusterConfigError
        With a line ``FILE:LINE: what is wrong`` for each error.
    """
    remarks = Remarks()
    main = find_config(path)
    files = _Files(main, remarks)
    files.read(main, Place(main))
    checked = files.checked()
    config = resolve(main, checked, remarks)
    if config is None:
        raise ClusterConfigError("\n".join(str(each) for each in remarks.errors))
    return config


class _Files:
    """The sections of a file and of those that it includes."""

    def __init__(self, main: Path, remarks: Remarks) -> None:
        self._main = main
        self._remarks = remarks
        self._sections: dict[tuple[str, str], tuple[Section, SectionKind]] = {}

    def read(self, path: Path, asked_at: Place) -> None:
        """Add a file; `asked_at` is what an error is about if there is none."""
        content = self._content(path, asked_at)
        if content is None:
            return
        includes = []
        sections = read_ini(decode(content, path, self._remarks), path, self._remarks)
        for section in sections:
            if (found := identify(section, self._remarks)) is None:
                continue
            kind, name = found
            key = kind.name, name
            if kind is GLOBAL and path != self._main:
                self._remarks.error(section.place, f"[global] belongs in {self._main} only.")
            elif key in self._sections:
                first = self._sections[key][0].place
                self._remarks.error(
                    section.place, f"The section [{section.title}] is already at {first}."
                )
            else:
                self._sections[key] = section, kind
                includes += [section] if kind is GLOBAL else []
        self._warn_of_readers(path, sections)
        for section in includes:
            # Read once more with the others, where what is wrong is noted only once.
            included = check_section(section, GLOBAL, "", self._remarks)
            for other in included.get("INCLUDE"):
                self.read(other, included.values["INCLUDE"].place)

    def checked(self) -> dict[tuple[str, str], Checked]:
        """Check every section against the table."""
        return {
            key: check_section(section, kind, key[1], self._remarks)
            for key, (section, kind) in self._sections.items()
        }

    def _content(self, path: Path, asked_at: Place) -> bytes | None:
        try:
            # A pipe would wait for ever, and a device never end.
            if not stat.S_ISREG(path.stat().st_mode):
                self._remarks.error(asked_at, f"{path} is not a file.")
                return None
            with path.open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            text = f"There is no file {path}."
            if path == self._main:
                text = (
                    "There is no such file. Write one with `mscourse cluster config`, or name "
                    f"another one with --config or {VARIABLE}."
                )
            self._remarks.error(asked_at, text)
            return None
        except OSError as error:
            self._remarks.error(asked_at, f"{path} cannot be read: {error.strerror}.")
            return None
        if len(content) > _MOST_BYTES:
            self._remarks.error(asked_at, f"{path} is too large for a configuration.")
            return None
        return content

    def _warn_of_readers(self, path: Path, sections: list[Section]) -> None:
        secrets = [e for section in sections for e in section.entries.values() if holds_secret(e)]
        if secrets and stat.S_IMODE(path.stat().st_mode) & 0o077:
            self._remarks.warn(
                secrets[0].place,
                f"The file holds secrets, and others can read it: chmod 600 {path}",
            )
