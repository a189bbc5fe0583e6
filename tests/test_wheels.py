"""The targets of make for a room without a network: `make wheels`, `make setup WHEELS=wheels`.

Nothing is installed here, which would take minutes: the commands are looked at.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in a folder."""
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What make looks at, in a folder without an environment."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


def pip(shown: str, command: str) -> list[str]:
    """The arguments of the one call of pip, as a shell sees them."""
    lines = shown.replace("\\\n", " ").splitlines()
    (line,) = [line for line in lines if f"-m pip {command}" in line]
    return shlex.split(line)


def test_the_wheels_are_those_that_the_setup_asks_for(clone: Path) -> None:
    (clone / ".venv").mkdir()
    (clone / ".venv" / ".installed").touch()
    wheels = pip(make(clone, "-n", "wheels").stdout, "wheel")
    setup = pip(make(clone, "-n", "-W", "pyproject.toml", "setup").stdout, "install")
    for arguments in (wheels, setup):
        assert arguments[arguments.index("--constraint") + 1] == "constraints.txt"
    assert wheels[wheels.index("--wheel-dir") + 1] == "wheels"
    assert setup[setup.index("--editable") + 1] in wheels

    # An installation from the folder builds the package, and there is no network to fetch with.
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]
    asked = [Requirement(each) for each in wheels[wheels.index(".[test]") + 1 :]]
    assert [*map(Requirement, build["requires"]), Requirement("editables")] == asked


def test_a_setup_from_wheels_asks_for_no_network(clone: Path) -> None:
    offline = pip(make(clone, "-n", "setup", "WHEELS=my wheels").stdout, "install")
    assert "--no-index" in offline
    assert offline[offline.index("--find-links") + 1] == "my wheels"
    assert "--no-index" not in pip(make(clone, "-n", "setup").stdout, "install")


def test_a_folder_without_wheels_is_told_before_anything_is_made(clone: Path) -> None:
    (clone / "wheels").mkdir()
    (clone / "wheels" / "readme.txt").touch()
    done = make(clone, "setup", "WHEELS=wheels")
    assert done.returncode != 0
    assert "There are no wheels in the folder wheels. Fill it with 'make wheels'" in done.stdout
    assert not (clone / ".venv").exists()


def test_cleaning_keeps_the_wheels(clone: Path) -> None:
    (clone / "wheels").mkdir()
    assert make(clone, "clean").returncode == 0
    assert (clone / "wheels").exists()
