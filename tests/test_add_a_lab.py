"""The section "Add a lab" of CONTRIBUTING.md, followed to the letter."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mscourse.labs.course import Course
from mscourse.labs.notebook import cells_by_label, exercises

ROOT = Path(__file__).resolve().parent.parent


def section() -> str:
    """The text of the section."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    # A heading of the lab's source is none of the document.
    outside = re.sub(r"^````.*?^````$", lambda block: "." * len(block[0]), text, flags=re.M | re.S)
    begin = outside.index("## Add a lab\n")
    return text[begin : outside.index("\n## ", begin)]


def blocks(language: str) -> list[str]:
    """The fenced blocks of the section in a language."""
    return re.findall(rf"^(`{{3,4}}){language}\n(.*?)^\1$", section(), re.M | re.S)


def commands() -> list[tuple[str, str]]:
    """The commands of the section, and what is printed below each."""
    text = "".join(block for _, block in blocks("console"))
    return [
        (command, shown)
        for each in text.split("$ ")[1:]
        for command, _, shown in [each.partition("\n")]
    ]


@pytest.fixture
def course(tmp_path: Path) -> Course:
    """A copy of what the course's labs need, with its environment, but without its labs."""
    folder = tmp_path / "course"
    (folder / "solutions").mkdir(parents=True)
    (folder / "labs").mkdir()
    for name in ("pyproject.toml", "solutions/conftest.py", "labs/README.md"):
        shutil.copyfile(ROOT / name, folder / name)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".venv").symlink_to(sys.prefix)
    return Course(folder)


def test_a_lab_is_added_as_it_is_written_there(course: Course) -> None:
    ((_, source),) = blocks("markdown")
    ((_, row),) = blocks("text")
    (name,) = re.findall(r"Write the source,\*\* `(solutions/.*?\.md)`", section())
    (course.folder / name).write_text(source, encoding="utf-8")
    with (course.folder / "labs" / "README.md").open("a", encoding="utf-8") as readme:
        readme.write(row)

    environment = {key: value for key, value in os.environ.items() if "PYTEST" not in key}
    environment["TMPDIR"] = str(course.folder.parent)
    for command, shown in commands():
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=course.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        if shown:
            assert done.stdout == shown, command
        else:
            assert "passed" in done.stdout, command
    assert len(commands()) == 4

    (lab,) = course.labs()
    assert len(exercises(lab.solution())) == 2
    learners = cells_by_label(lab.attempt())
    assert learners["best"].source.endswith("raise NotImplementedError")
    assert learners["feedback-2"].source.endswith("check_here('07-average', exercise=2)")
