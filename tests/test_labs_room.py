"""What an instructor does: hand labs out, and grade what comes back."""

from __future__ import annotations

import csv
import io
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import files_below, wait_until
from toylab import ANSWERS, PERSIAN_NAME, forbid_writing, toy_course, write_answers

from mscourse import __version__
from mscourse.cli import main
from mscourse.errors import CheckerError, LabError
from mscourse.labs import grade as grade_module
from mscourse.labs.check import check_lab
from mscourse.labs.course import Course
from mscourse.labs.grade import Row
from mscourse.labs.handins import handed_in
from mscourse.labs.needs import require_free
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


def hand_in(course: Course, folder: Path, *files: str) -> None:
    """Hand in the untouched lab, which takes no time to check, under some names."""
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(course.lab("01").path, path)


def table_of(path: Path) -> list[list[str]]:
    """The rows of a table, its heading first."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


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
    # Learners have no repository, since that has the solutions.
    assert f"$ pip install './mscourse-{__version__}-py3-none-any.whl[labs]'" in readme
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
    heading, *rows = table_of(table)
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
        ("01-toy-ada.ipynb", "ada"),
        # What browsers, JupyterLab and desktops make of a name.
        ("ada-01-toy (1).ipynb", "ada"),
        ("ada-01-toy(2).ipynb", "ada"),
        ("ada-01-toy-Copy1.ipynb", "ada"),
        ("01-toy-ada-Copy1 (1).ipynb", "ada"),
        ("ada-01-toy copy 2.ipynb", "ada"),
        ("ada-01-toy - Copy (2).ipynb", "ada"),
        ("01-toy (1).ipynb", "01-toy (1)"),
        # One folder for each learner.
        ("grace/01-toy.ipynb", "grace"),
        ("grace/-01-toy.ipynb", "grace"),
        ("grace/lab one.ipynb", "grace"),
        ("grace/labs/01-toy.ipynb", "grace"),
        ("grace/grace-01-toy.ipynb", "grace"),
        ("grace/01-toy-Copy1.ipynb", "grace"),
        ("grace/01-toy-final.ipynb", "grace"),
        ("group 1/01-toy.ipynb", "group 1"),
        # One folder for each lab.
        ("lab01/ada-01-toy.ipynb", "ada"),
        ("lab01/ada-01-toy (1).ipynb", "ada"),
        ("lab01/01-toy-carl.ipynb", "carl"),
        ("lab01/01-toy.ipynb", "01-toy"),
        ("Lab 1/mine.ipynb", "mine"),
        ("lab01/ada/01-toy.ipynb", "ada"),
        ("01-toy/bob-01-toy.ipynb", "bob"),
        ("week 1/01-toy/carl_01-toy.ipynb", "carl"),
    ],
)
def test_the_learner_is_known_by_the_file_or_the_folder(
    course: Course, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, learner: str
) -> None:
    """With a verdict (an untouched lab is not run) and without."""
    hand_in(course, tmp_path / "inbox", file)
    (row,) = grade_module.grade(course, tmp_path / "inbox")
    assert (row.learner, row.done) == (learner, 0)

    def fail(*_: object, **__: object) -> None:
        raise LabError("no verdict")

    monkeypatch.setattr(grade_module, "check_lab", fail)
    (row,) = grade_module.grade(course, tmp_path / "inbox")
    assert (row.learner, row.done) == (learner, None)


@pytest.mark.parametrize("folder", ["lab01", "week one"])
def test_a_folder_that_several_share_is_nobodys_name(
    course: Course, tmp_path: Path, folder: str
) -> None:
    stems = ["ada-01-toy (1)", "bob-01-toy (1)", "dora-01-toy-Copy1", "01-toy-carl", "01-toy", "x"]
    hand_in(course, tmp_path / "inbox", *(f"{folder}/{stem}.ipynb" for stem in stems))
    rows = grade_module.grade(course, tmp_path / "inbox")
    assert [row.learner for row in rows] == ["01-toy", "ada", "bob", "carl", "dora", "x"]


def test_a_notebook_without_a_word_of_its_lab_is_known_by_its_name(
    course: Course, tmp_path: Path
) -> None:
    bare = course.lab("01").attempt()
    del bare.metadata["mscourse"]
    write_notebook(bare, tmp_path / "inbox" / "ada-01-toy (1).ipynb")
    (row,) = grade_module.grade(course, tmp_path / "inbox")
    assert (row.learner, row.lab) == ("ada", "01-toy")


def test_a_whole_handout_that_is_handed_in_is_its_labs(course: Course, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    assert run(course, "handout", inbox / "bob") == 0
    assert run(course, "handout", inbox / "grace" / "handout", "--with-solutions") == 0
    assert [str(path.relative_to(inbox)) for path in handed_in(inbox)] == [
        "bob/labs/01-toy.ipynb",
        "grace/handout/labs/01-toy.ipynb",
    ]
    # The folder's own name is the instructor's choice.
    assert handed_in(course.folder / "solutions") == [course.lab("01").solution_path]
    shutil.rmtree(inbox / "bob" / "labs")
    with pytest.raises(LabError, match="named checks and solutions are not looked into"):
        handed_in(inbox / "bob")


def test_what_is_not_looked_at_is_named(
    course: Course, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inbox = tmp_path / "inbox"
    hand_in(course, inbox, "ada-01-toy.ipynb", "lab01/bob/01-toy.ipynb", "fred/01-toy.ipynb")
    for folder in ("fred/data", "eve", "leer/deep", "lab01/gina", "hugo", "__MACOSX/x", "venv/bin"):
        (inbox / folder).mkdir(parents=True)
    assert run(course, "handout", inbox / "ivan") == 0
    assert run(course, "handout", inbox / "jane") == 0
    shutil.rmtree(inbox / "jane" / "labs")
    hand_in(course, inbox, "hugo/01-toy.backup-20260101-000000.ipynb")
    others = ["carl.zip", "dora-01-primer.py", "eve/lab.docx", "kim.tar.gz", "l\x1b[31m.txt"]
    hidden = [".DS_Store", "fred/.hidden", "__MACOSX/x/a.txt", "fred/Thumbs.db"]
    for name in (*others, *hidden, *(f"venv/bin/{n:02}" for n in range(50))):
        (inbox / name).write_bytes(b"")
    table = inbox / "grades.csv"
    for options in ([], ["--force"]):  # the table of before is nobody's
        capsys.readouterr()
        assert run(course, "grade", inbox, "-o", table, *options) == 0
        assert [row[0] for row in table_of(table)[1:]] == ["ada", "bob", "fred", "ivan"]
        said = capsys.readouterr().err.splitlines()[-2]
        files, folders = said.split(". Without a notebook: ")
        assert files.startswith(
            "Not looked at: carl.zip (unzip it), kim.tar.gz (unpack it), dora-01-primer.py, "
            "eve/lab.docx, l?[31m.txt, venv/bin/00, venv/bin/01, "
        )
        assert files.endswith("venv/bin/44 and 5 more")
        assert folders == "hugo, jane, lab01/gina, leer."


def test_nothing_is_said_where_all_is_looked_at(
    course: Course, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hand_in(course, tmp_path / "inbox", "ada/01-toy.ipynb")
    assert run(course, "grade", tmp_path / "inbox", "-o", tmp_path / "t.csv") == 0
    err = capsys.readouterr().err
    assert "Not looked at" not in err
    assert "Without a notebook" not in err


def test_what_was_handed_in_again_is_remarked(course: Course, tmp_path: Path) -> None:
    files = ["ada-01-toy.ipynb", "week2/ada-01-toy.ipynb", "bob-01-toy.ipynb"]
    hand_in(course, tmp_path / "inbox", *files, *(f"carl/{n}.ipynb" for n in range(3)))
    (tmp_path / "inbox" / "dora").mkdir()
    for n in range(2):  # of no lab, so that it is not known whether they are of the same
        (tmp_path / "inbox" / "dora" / f"{n}.ipynb").write_text("{", encoding="utf-8")
    rows = grade_module.grade(course, tmp_path / "inbox")
    untouched = "no answer at all"
    assert [(row.learner, *row.remarks) for row in rows if row.learner != "dora"] == [
        *[("ada", untouched, "handed in twice")] * 2,
        ("bob", untouched),
        *[("carl", untouched, "handed in 3 times")] * 3,
    ]
    assert not [row for row in rows if row.learner == "dora" and len(row.remarks) != 1]
    heading, *lines = (line.split() for line in grade_module.as_text(rows).splitlines())
    assert heading[-1] == "file"
    again = [row.file for row in rows if row.learner != "bob"]
    assert [line[-1] for line in lines if line[0] != "bob"] == again
    (bobs,) = (line for line in lines if line[0] == "bob")
    assert bobs[-1] == "all", "there is one of these only"


def test_what_an_answer_raised_is_remarked(course: Course) -> None:
    write_answers(course.lab("01"), add="total = (", sort="def sorts(x):\n    return sorted(x)")
    (row,) = grade_module.grade(course, course.lab("01").path.parent)
    assert row.open == (1, 2, 3)
    assert row.remarks == ("exercise 1 raised SyntaxError", "exercise 2 raised NameError")


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


@pytest.mark.parametrize("n_found", [0, 1])
def test_an_interrupt_keeps_what_was_found(
    course: Course,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    n_found: int,
) -> None:
    def interrupted(*_: object, on_row, **__: object) -> None:
        for _ in range(n_found):
            on_row(Row("ada", "01-toy", 3, 3, (), (), "ada-01-toy.ipynb"))
        raise KeyboardInterrupt

    monkeypatch.setattr(grade_module, "grade", interrupted)
    table = tmp_path / "t.csv"
    assert run(course, "grade", course.lab("01").path.parent, "-o", table) == 1
    shown = capsys.readouterr()
    assert f"Interrupted: {n_found} of 1 notebooks were checked. " in shown.err
    if n_found:
        assert "ada      01-toy" in shown.out
        assert f"They are in {table}." in shown.err
        assert [row[:4] for row in table_of(table)[1:]] == [["ada", "01-toy", "3", "3"]]
    else:
        assert shown.out == ""
        assert "No table was written." in shown.err
        assert not table.exists()


def test_a_notebook_that_was_interrupted_is_no_row(course: Course, tmp_path: Path) -> None:
    """A real Ctrl-C, which the notebook that runs is sent as well."""
    inbox, table, begun = tmp_path / "inbox", tmp_path / "t.csv", tmp_path / "begun"
    hand_in(course, inbox, "ada-01-toy.ipynb")
    write_answers(
        course.lab("01"), add=f"open({str(begun)!r}, 'w').close()\nimport time\ntime.sleep(60)"
    )
    hand_in(course, inbox, "bob-01-toy.ipynb", "carl-01-toy.ipynb")
    command = [sys.executable, "-m", "mscourse", "lab", "grade", inbox, "-o", table]
    with subprocess.Popen(
        [*command, "--course", course.folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert wait_until(begun.exists, 60)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"Interrupted: 1 of 3 notebooks were checked. They are in {table}." in err
    assert "Traceback" not in err
    assert "bob" not in out + err
    assert [row[0] for row in table_of(table)] == ["learner", "ada"]


def test_a_table_is_there_though_the_terminal_does_not_know_a_letter(
    course: Course, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_in(course, tmp_path / "inbox", "Łukasz-01-toy.ipynb")
    terminal, table = io.TextIOWrapper(io.BytesIO(), encoding="latin-1"), tmp_path / "t.csv"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        assert run(course, "grade", tmp_path / "inbox", "-o", table) == 0
    terminal.seek(0)
    assert "\n?ukasz   01-toy" in terminal.read()
    assert table_of(table)[1][0] == "Łukasz"


def test_a_table_that_cannot_be_written_in_the_end_is_shown(
    course: Course, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hand_in(course, tmp_path / "inbox", "ada-01-toy.ipynb")
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no device that is always full")
    assert run(course, "grade", tmp_path / "inbox", "-o", full, "--force") == 1
    shown = capsys.readouterr()
    assert "ada      01-toy" in shown.out
    assert "cannot be written to /dev/full: " in shown.err


def test_a_place_that_must_not_be_written_to_is_told_before_anything_runs(
    course: Course,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = tmp_path / "t.csv"
    hand_in(course, tmp_path / "inbox", "ada-01-toy.ipynb")
    with monkeypatch.context() as patch:
        forbid_writing(patch, tmp_path)
        assert run(course, "grade", tmp_path / "inbox", "-o", table) == 1
    shown = capsys.readouterr()
    assert f"{table} cannot be written: Permission denied." in shown.err
    assert "[1/1]" not in shown.err
    assert not table.exists()

    # To find out leaves no trace, and changes nothing.
    table.write_text("mine", encoding="utf-8")
    require_free(table, True)
    assert table.read_text(encoding="utf-8") == "mine"
    require_free(tmp_path / "other.csv", False)
    assert not (tmp_path / "other.csv").exists()


def test_names_of_files_do_not_steer_the_terminal(
    course: Course, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["ada\x1b[31m-01-toy.ipynb", f"{PERSIAN_NAME}-01-toy.ipynb"]
    hand_in(course, tmp_path / "inbox", *names)
    (tmp_path / "inbox" / "\x1b]0;title\x07.ipynb").write_text("{", encoding="utf-8")
    assert run(course, "grade", tmp_path / "inbox", "-o", tmp_path / "t.csv") == 0
    shown = capsys.readouterr()
    assert "] ada?[31m 01-toy: 0 of 3" in shown.err
    assert f"] {PERSIAN_NAME} 01-toy: 0 of 3" in shown.err
    assert "\x1b" not in shown.out + shown.err
    assert "\x07" not in shown.out + shown.err


def test_excel_is_told_that_a_table_is_utf_8(course: Course, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    grade_module.write_csv([], table)
    assert table.read_bytes().startswith(b"\xef\xbb\xbflearner,lab,")


def test_a_folder_without_notebooks_is_refused(
    course: Course, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert run(course, "grade", tmp_path / "empty", "-o", tmp_path / "t.csv") == 1
    said = capsys.readouterr().err
    assert "There is no notebook" in said
    assert "Not looked at" not in said
    (tmp_path / "empty" / "carl.zip").write_bytes(b"")
    assert run(course, "grade", tmp_path / "empty", "-o", tmp_path / "t.csv") == 1
    said = capsys.readouterr().err
    assert "There is no notebook" in said
    assert "Not looked at: carl.zip (unzip it)." in said
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
