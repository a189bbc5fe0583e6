"""What an instructor does: hand labs out, and grade what comes back."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import pytest
from helpers import files_below
from toylab import ANSWERS, toy_course, write_answers

from mscourse.cli import main
from mscourse.errors import CheckerError, LabError
from mscourse.labs import grade as grade_module
from mscourse.labs.check import check_lab
from mscourse.labs.course import Course
from mscourse.labs.grade import Row
from mscourse.labs.notebook import (
    cells_by_label,
    label_of,
    new_code_cell,
    read_notebook,
    strip,
    to_text,
    without_answers,
    write_notebook,
)

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture
def course(tmp_path: Path) -> Course:
    """A course of one lab."""
    return toy_course(tmp_path / "course")


def run(course: Course, *arguments: str | Path) -> int:
    """Run ``mscourse lab ...`` in a course."""
    return main(["lab", *map(str, arguments), "--course", str(course.folder)])


# --- handing out ------------------------------------------------------------------------------


def test_a_handout_has_the_labs_and_no_answers(
    course: Course, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = course.lab("01").path.read_bytes()
    write_answers(course.lab("01"), add="total = 6  # the instructor's own attempt")
    folder = tmp_path / "new" / "handout"
    assert run(course, "handout", folder) == 0
    assert files_below(folder) == {"README.md", "labs/01-toy.ipynb", "checks/01-toy.ipynb"}
    assert (folder / "labs" / "01-toy.ipynb").read_bytes() == fresh
    everything = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.*"))
    for answer in ("sum(numbers)", "max(numbers)", "sorted(numbers)", "own attempt"):
        assert answer not in everything
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "| `01-toy.ipynb` | Lab 1: A toy | 5 |" in readme
    assert "`ada-01-toy.ipynb`" in readme
    shown = capsys.readouterr().out
    assert "checks/01-toy.ipynb" in shown
    assert "no answers" in shown

    assert run(course, "handout", folder) == 1, "it is not empty any more"
    assert "is not empty" in capsys.readouterr().err
    assert run(course, "handout", folder / "README.md") == 1
    assert "cannot be written to" in capsys.readouterr().err


def test_answers_are_checked_in_a_handout(
    course: Course,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "handout"
    folder.mkdir()
    assert run(course, "handout", folder) == 0
    shutil.rmtree(course.folder)
    monkeypatch.chdir(folder / "labs")  # where JupyterLab runs a notebook
    found = Course.find()
    assert found.folder == folder.resolve()
    write_answers(found.lab("01"), **{**ANSWERS, "largest": "largest = 4"})
    capsys.readouterr()
    assert main(["lab", "check"]) == 1
    shown = capsys.readouterr().out
    assert "differs       Exercise 3" in shown
    assert "where the solution prints\n            3" in shown
    assert "01-toy  2 of 3  Exercise 3: Find the largest" in shown
    assert main(["lab", "list"]) == 0
    assert main(["lab", "reset", "01"]) == 0
    assert found.lab("01").n_answered(found.lab("01").attempt()) == 0
    capsys.readouterr()
    assert main(["lab", "build"]) == 1
    assert "a handout has none" in capsys.readouterr().err
    assert main(["lab", "handout", str(tmp_path / "another"), "--with-solutions"]) == 1
    assert "a handout itself" in capsys.readouterr().err
    assert not (tmp_path / "another").exists()


def test_the_solutions_go_with_it_if_asked(course: Course, tmp_path: Path) -> None:
    folder = tmp_path / "handout"
    assert run(course, "handout", folder, "--with-solutions") == 0
    names = {"README.md", "labs/01-toy.ipynb", "solutions/01-toy.ipynb", "solutions/01-toy.md"}
    assert files_below(folder) == names
    for name in ("solutions/01-toy.ipynb", "solutions/01-toy.md"):
        assert (folder / name).read_bytes() == (course.folder / name).read_bytes()
    assert "and `solutions` has" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("lab", Course(REPOSITORY).labs(), ids=lambda lab: lab.name)
def test_the_labs_of_the_course_lose_nothing_but_answers(lab) -> None:
    """The same lab is made of the checks alone; answers are gone, what checks print is there."""
    solution = lab.solution()
    checks = without_answers(solution)
    assert to_text(strip(checks)) == to_text(strip(solution))
    stripped = cells_by_label(checks)
    for label, cell in cells_by_label(solution).items():
        if label.startswith("check-"):
            assert stripped[label] == cell
        elif "### BEGIN SOLUTION" in cell.source:
            _, _, rest = stripped[label].source.partition("### BEGIN SOLUTION")
            assert rest.partition("### END SOLUTION")[0].strip() == ""
            assert not stripped[label].outputs


# --- grading ----------------------------------------------------------------------------------


@pytest.fixture
def inbox(course: Course, tmp_path: Path) -> Path:
    """A folder of what learners have handed in, good and bad."""
    lab, folder = course.lab("01"), tmp_path / "inbox"
    (folder / "grace").mkdir(parents=True)
    (folder / "grace" / ".ipynb_checkpoints").mkdir()
    untouched = lab.attempt()

    def hand_in(name: str, **sources: str) -> Path:
        write_notebook(untouched, lab.path)
        write_answers(lab, **sources)
        return Path(shutil.copyfile(lab.path, folder / name))

    hand_in("ada-01-toy.ipynb", **ANSWERS)
    hand_in("grace/lab one.ipynb", **{**ANSWERS, "sort": "def in_order(x):\n    return 'x'"})
    hand_in("grace/lab one.backup-20260101-000000.ipynb")
    hand_in("grace/.ipynb_checkpoints/lab one-checkpoint.ipynb")
    hand_in("=1+2-01-toy.ipynb")
    kill = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)"
    hand_in("mallory-01-toy.ipynb", add=kill)
    (folder / "bob-01-toy.ipynb").write_text("{", encoding="utf-8")
    other = read_notebook(hand_in("carl-01-toy.ipynb"))
    other.metadata.mscourse.lab = "../../99-other"
    write_notebook(other, folder / "carl-01-toy.ipynb")
    bare = read_notebook(hand_in("dora_01-toy.ipynb", add="total = 6"))
    del bare.metadata["mscourse"]
    write_notebook(bare, folder / "dora_01-toy.ipynb")
    write_notebook(bare, folder / "notes.ipynb")
    os.mkfifo(folder / "eve-01-toy.ipynb")
    (folder / "fred-01-toy.ipynb").symlink_to("/dev/zero")
    (folder / "readme.txt").write_text("", encoding="utf-8")
    return folder


def test_each_notebook_is_one_row_whatever_is_wrong_with_it(
    course: Course, inbox: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.csv"
    assert run(course, "grade", inbox, "-o", table, "--jobs", "2") == 0
    shown = capsys.readouterr()
    with table.open(encoding="utf-8", newline="") as file:
        heading, *rows = csv.reader(file)
    assert heading == ["learner", "lab", "done", "asked", "open", "remarks", "file"]
    found = {row[0]: row[1:6] for row in rows}
    assert len(found) == len(rows) == 10
    assert found["ada"] == ["01-toy", "3", "3", "", ""]
    assert found["grace"] == ["01-toy", "2", "3", "2", ""]
    assert found["dora"][:4] == ["01-toy", "1", "3", "2 3"]
    assert "by the file's name only" in found["dora"][4]
    assert found["'=1+2"] == ["01-toy", "0", "3", "1 2 3", "no answer at all"]
    assert found["mallory"][:2] == ["01-toy", ""]
    assert "did not run to its end" in found["mallory"][4]
    assert found["bob"][:2] == ["01-toy", ""]
    assert found["bob"][4].startswith("bob-01-toy.ipynb is not a notebook, since it is not JSON")
    assert "'../../99-other', and there is none" in found["carl"][4]
    assert "does not say which lab it is" in found["notes"][4]
    assert "no file of its own" in found["eve"][4]
    assert "no file of its own" in found["fred"][4]

    assert shown.err.count("runs on this machine, with your rights") == 1
    assert "[10/10]" in shown.err
    lines = shown.out.splitlines()
    assert len(lines) == 11
    assert lines[0].split() == ["learner", "lab", "done", "asked", "open", "remarks"]

    written = table.read_bytes()
    assert run(course, "grade", inbox, "-o", table) == 1, "it is there already"
    assert "--force" in capsys.readouterr().err
    assert table.read_bytes() == written


def test_an_answer_in_an_added_cell_is_an_answer(course: Course) -> None:
    lab = course.lab("01")
    attempt = lab.attempt()
    place = [label_of(cell) for cell in attempt.cells].index("sort")
    attempt.cells.insert(place + 1, new_code_cell("mine", ANSWERS["sort"]))
    write_notebook(attempt, lab.path)
    (row,) = grade_module.grade(course, lab.path.parent)
    assert (row.done, row.asked, row.open, row.remarks) == (1, 3, (1, 3), ())


@pytest.mark.parametrize(
    ("file", "learner"),
    [
        ("ada-01-toy.ipynb", "ada"),
        ("Ada Lovelace_01-toy.ipynb", "Ada Lovelace"),
        ("01-toy.ipynb", "01-toy"),
        ("-01-toy.ipynb", "-01-toy"),
        ("notes.ipynb", "notes"),
        # One folder for each learner.
        ("grace/01-toy.ipynb", "grace"),
        ("grace/-01-toy.ipynb", "grace"),
        ("grace/lab one.ipynb", "grace"),
        ("grace/labs/01-toy.ipynb", "grace"),
        ("grace/grace-01-toy.ipynb", "grace"),
        # One folder for each lab.
        ("lab01/ada-01-toy.ipynb", "ada"),
        ("01-toy/bob-01-toy.ipynb", "bob"),
        ("week 1/01-toy/carl_01-toy.ipynb", "carl"),
    ],
)
def test_the_learner_is_known_by_the_file_or_the_folder(
    course: Course, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, learner: str
) -> None:
    """With a verdict (an untouched lab is not run) and without."""
    path = tmp_path / "inbox" / file
    path.parent.mkdir(parents=True)
    shutil.copyfile(course.lab("01").path, path)
    (row,) = grade_module.grade(course, tmp_path / "inbox")
    assert (row.learner, row.done) == (learner, 0)

    def fail(*_: object, **__: object) -> None:
        raise LabError("no verdict")

    monkeypatch.setattr(grade_module, "check_lab", fail)
    (row,) = grade_module.grade(course, tmp_path / "inbox")
    assert (row.learner, row.done) == (learner, None)


def test_a_notebook_without_an_end_is_ended(course: Course) -> None:
    """Though it takes no notice of an interrupt. What it runs is gone, as after each test."""
    loop = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
    write_answers(course.lab("01"), add=loop)
    with pytest.raises(CheckerError, match=r"not done after 4 s, and was ended: \d+ of 11 cells"):
        check_lab(course.lab("01"), cell_timeout_s=1, total_timeout_s=4)


def test_an_error_nobody_thought_of_is_a_remark(
    course: Course, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates\x1b[31m")

    monkeypatch.setattr(grade_module, "check_lab", fail)
    (row,) = grade_module.grade(course, course.lab("01").path.parent)
    assert row.done is None
    assert "UnicodeEncodeError" in row.remarks[0]
    assert "\x1b" not in "".join(row.fields())


def test_what_is_large_is_not_read(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grade_module, "_MOST_BYTES", 10)
    (row,) = grade_module.grade(course, course.lab("01").path.parent)
    assert "was not read: clear its outputs" in row.remarks[0]


def test_an_interrupt_shows_what_was_found(
    course: Course,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*_: object, on_row, **__: object) -> None:
        on_row(Row("ada", "01-toy", 3, 3, (), (), "ada-01-toy.ipynb"))
        raise KeyboardInterrupt

    monkeypatch.setattr(grade_module, "grade", interrupted)
    table = tmp_path / "t.csv"
    assert run(course, "grade", course.lab("01").path.parent, "-o", table) == 1
    shown = capsys.readouterr()
    assert "ada      01-toy" in shown.out
    assert "1 of 1 notebooks were checked, and no table was written" in shown.err
    assert not table.exists()


def test_a_folder_without_notebooks_is_refused(
    course: Course, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert run(course, "grade", tmp_path / "empty", "-o", tmp_path / "t.csv") == 1
    assert "There is no notebook" in capsys.readouterr().err
    assert run(course, "grade", tmp_path / "none", "-o", tmp_path / "t.csv") == 1
    assert "is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "option"),
    [
        *(("grade", option) for option in ("--jobs=0", "--jobs=-1", "--total-timeout=0")),
        *(("grade", option) for option in ("--timeout=0", "--timeout=nan")),
        ("check", "--timeout=-1"),
        ("certificate", "--timeout=inf"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(
    course: Course, command: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    what = {"grade": [course.folder], "certificate": ["--name", "Ada"]}.get(command, [])
    with pytest.raises(SystemExit):
        run(course, command, *what, option)
    assert "is not a positive number" in capsys.readouterr().err
