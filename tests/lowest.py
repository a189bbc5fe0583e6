"""Run the tests that matter most with the lowest versions that `pyproject.toml` allows.

::

    pyproject.toml ──lower bounds──→ lowest.txt ──pip──→ .venv/lowest ──pytest──→ exit status

What is not named in `pyproject.toml` comes in the newest version that goes with these. The Python
is the lowest one, too; it must be installed. The tests are those of what depends on the packages
below: layout, splits, scheduler, journal, searches, curves, scikit-learn's and joblib's ways in.

    python tests/lowest.py                       # make the environment if need be, run the tests
    python tests/lowest.py tests/test_frames.py  # other tests, or options of pytest
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv" / "lowest"

# What a user installs, and what the tests need. The peers are for the pins only.
EXTRAS = ("notebook", "frames", "cluster", "data", "book", "labs")
TOOLS = ("hypothesis", "polars", "pytest-timeout", "pytest-xdist")

# Without frames: those tests name the types of pandas 3 and of polars' newest.
MODULES = (
    "layout",
    "splits",
    "scheduler",
    "journal",
    "identity",
    "search",
    "curves",
    "sklearn",
    "joblib",
    "package",
    "warned",
)
# Two at once: many wait for processes that start and end. `long` tests take minutes.
OPTIONS = ("-m", "not long", "-q", "--numprocesses", "2", "--dist", "loadfile")


def main(arguments: list[str]) -> int:
    """Make the environment, unless it is as it should be, and run the tests in it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = "".join(f"{pin}\n" for pin in lowest(installed(project)))
    python = FOLDER / "bin" / "python"
    constraints = FOLDER / "lowest.txt"
    if not constraints.exists() or constraints.read_text(encoding="utf-8") != pins:
        make_environment(project["requires-python"], pins)
        constraints.write_text(pins, encoding="utf-8")
    chosen = arguments or [f"tests/test_{module}.py" for module in MODULES]
    return subprocess.run(
        [python, "-m", "pytest", *OPTIONS, *chosen], cwd=ROOT, check=False
    ).returncode


def installed(project: dict[str, Any]) -> list[str]:
    """List what is installed of what the project names."""
    extras = project["optional-dependencies"]
    chosen = [*project["dependencies"], *(line for name in EXTRAS for line in extras[name])]
    return chosen + [line for line in extras["test"] if Requirement(line).name in TOOLS]


def lowest(lines: Iterable[str]) -> list[str]:
    """Pin each requirement to the lowest version that it allows."""
    bounds: dict[str, str] = {}
    for requirement in map(Requirement, lines):
        for specifier in requirement.specifier:
            if specifier.operator in (">=", "=="):
                bounds[requirement.name] = f"{requirement.name}=={specifier.version}"
    return sorted(bounds.values())


def make_environment(requires_python: str, pins: str) -> None:
    """Install the package with the lowest versions, on the lowest Python."""
    name = f"python{requires_python.removeprefix('>=')}"
    interpreter = shutil.which(name)
    if interpreter is None:
        sys.exit(f"The lowest Python is {name}, and there is none on the path: install it.")
    shutil.rmtree(FOLDER, ignore_errors=True)
    subprocess.run([interpreter, "-m", "venv", FOLDER], check=True)
    attempt = FOLDER / "attempt.txt"  # becomes lowest.txt when it is installed
    attempt.write_text(pins, encoding="utf-8")
    pip = [
        FOLDER / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--no-compile",
        "--progress-bar",
        "off",
    ]
    pip += ["--disable-pip-version-check", "--constraint", attempt]
    command = [*pip, "--editable", f".[{','.join(EXTRAS)}]", *TOOLS]
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        sys.exit("The lowest versions do not go together, or one of them is not there: see above.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
