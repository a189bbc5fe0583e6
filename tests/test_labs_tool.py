"""The tool that builds and checks labs, on a small course without clusters."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
from toylab import ANSWERS, SOURCE, forbid_writing, toy_course, write_answers

from mscourse.cli import main
from mscourse.errors import CheckerError, LabError
from mscourse.labs import check as check_module
from mscourse.labs import course as course_module
from mscourse.labs.build import build_lab, read_source
from mscourse.labs.check import check_lab, graft
from mscourse.labs.course import Course, Lab, back_up
from mscourse.labs.notebook import (
    Notebook,
    cells_by_label,
    label_of,
    new_code_cell,
    read_notebook,
    to_text,
    write_notebook,
)
from mscourse.labs.verdict import LabReport, location

Write = Callable[..., Notebook]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course with one lab, built; not to be changed."""
    folder = tmp_path_factory.mktemp("course")
    (folder / "solutions").mkdir()
    (folder / "solutions" / "01-toy.md").write_text(SOURCE, encoding="utf-8")
    assert build_lab(Course(folder).lab("01-toy")) is None
    return folder


@pytest.fixture
def lab(built: Path, tmp_path: Path) -> Lab:
    """The lab, in a course of the test's own."""
    shutil.copytree(built, tmp_path / "course")
    return Course(tmp_path / "course").lab("01-toy")


@pytest.fixture
def answer(lab: Lab) -> Write:
    """Write answers, by label, into the lab; those not named are left as they are."""

    return partial(write_answers, lab)


def add_cells(lab: Lab, **sources: str) -> Notebook:
    """Add cells of the learner's own to a lab, each below the cell of the label it is given by."""
    attempt = lab.attempt()
    for label, source in sources.items():
        place = [label_of(cell) for cell in attempt.cells].index(label)
        attempt.cells.insert(place + 1, new_code_cell(f"below-{label}", source))
    write_notebook(attempt, lab.path)
    return attempt


def statuses(report: LabReport) -> list[str]:
    """What became of each exercise."""
    return [verdict.status for verdict in report.verdicts]


def run(*arguments: str | Path) -> int:
    """Run ``mscourse lab ...``."""
    return main(["lab", *map(str, arguments)])


# --- building --------------------------------------------------------------------------------


def test_a_solution_records_what_its_cells_print(built: Path) -> None:
    solution = Course(built).lab("01").solution()
    assert solution.metadata.language_info == {"name": "python"}, "and not its version"
    cells = cells_by_label(solution)
    assert cells["check-add"].outputs[0].text == "The total is 6\n"
    assert cells["check-sort"].outputs[0].data["text/plain"] == "[1, 2, 3]"
    assert [cell.execution_count for cell in cells.values()] == list(range(1, 9))
    assert cells["check-add"].metadata.tags == ["nbval-check-output"]


def test_the_toy_that_other_tests_use_is_what_is_built(built: Path, tmp_path: Path) -> None:
    toy, lab = toy_course(tmp_path).lab("01"), Course(built).lab("01")
    assert toy.path.read_bytes() == lab.path.read_bytes()
    varies = re.compile(rb'"text/plain": \[\s+"\d+"')
    recorded = [varies.sub(b"", each.solution_path.read_bytes()) for each in (toy, lab)]
    assert recorded[0] == recorded[1]


def test_a_lab_protects_its_checks_but_not_its_answers(built: Path) -> None:
    cells = cells_by_label(Course(built).lab("01").attempt())
    assert cells["sort"].source.endswith(
        '"""\n    # Your answer goes here, instead of the next line.\n    raise NotImplementedError'
    )
    assert cells["sort"].metadata == {"label": "sort", "deletable": False}
    assert cells["check-sort"].metadata.editable is False


def test_building_again_gives_the_same_bytes(lab: Lab) -> None:
    before = [lab.solution_path.read_bytes(), lab.path.read_bytes()]
    assert build_lab(lab) is None
    assert [lab.solution_path.read_bytes(), lab.path.read_bytes()] == before


def test_building_keeps_an_attempt(
    lab: Lab, answer: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(add="total = 6")
    attempt = lab.path.read_bytes()
    source = lab.source_path.read_text(encoding="utf-8").replace("A toy", "Another toy")
    lab.source_path.write_text(source, encoding="utf-8")
    assert run("build", "toy", "--course", lab.folder) == 0
    (backup,) = lab.path.parent.glob("01-toy.backup-*.ipynb")
    assert f"01-toy: built. What was there is kept in {backup.name}." in capsys.readouterr().out
    assert backup.read_bytes() == attempt
    assert lab.title() == "Lab 1: Another toy"
    assert lab.n_answered(lab.attempt()) == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (":label: numbers\n", "", "needs a :label: of its own"),
        (":label: add", ":label: sort", "'sort' is taken"),
        ("<details>", "<div>", "exercise 1 has no hint"),
        (":label: check-largest", ":label: largest-number", "exercise 3 has no check"),
        ("### BEGIN SOLUTION\ntotal", "total", "exercise 1 has no answer"),
        ("## Exercise 2", "## Exercise 4", "not numbered"),
    ],
)
def test_an_incomplete_source_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SOURCE
    path = tmp_path / "01-toy.md"
    path.write_text(SOURCE.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(LabError, match=message):
        read_source(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max(numbers)", "max(nothing)", "name 'nothing' is not defined"),
        ("print(largest)", "assert largest", "'check-largest' prints nothing"),
    ],
)
def test_a_solution_that_cannot_serve_is_not_written(
    lab: Lab, old: str, new: str, message: str
) -> None:
    before = lab.solution_path.read_bytes()
    lab.source_path.write_text(SOURCE.replace(old, new), encoding="utf-8")
    with pytest.raises(LabError, match=message):
        build_lab(lab)
    assert lab.solution_path.read_bytes() == before


# --- checking --------------------------------------------------------------------------------


def test_a_solved_lab_is_solved(
    lab: Lab, answer: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(**ANSWERS)
    monkeypatch.setenv("PYTEST_ADDOPTS", "--collect-only --no-such-option")  # the learner's own
    assert run("check", "--course", lab.folder) == 0
    assert "01-toy: 3 of 3 exercises done" in capsys.readouterr().out


def test_an_untouched_lab_is_not_solved_and_not_run(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check_module, "run_cells", None)
    assert run("check", "01", "--course", lab.folder) == 1
    assert capsys.readouterr().out.splitlines() == [
        "01-toy: 0 of 3 exercises done",
        "  not done yet  Exercise 1: Add",
        "        Hint: There is a built-in function `sum`.",
        "  not done yet  Exercise 2: Sort",
        "        Hint: There is a built-in function `sorted`.",
        "  not done yet  Exercise 3: Find the largest",
        "        Hint: There is a built-in function `max`.",
    ]


def test_empty_cells_of_ones_own_are_nothing_to_run(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """JupyterLab adds one whenever the last cell is run."""
    monkeypatch.setattr(check_module, "run_cells", None)
    add_cells(lab, sort="", process=" \n")
    report = check_lab(lab)
    assert statuses(report) == ["not done yet"] * 3
    assert report.untouched
    assert run("list", "--course", lab.folder) == 0
    assert "untouched" in capsys.readouterr().out


def test_answers_count_in_cells_of_ones_own(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """Though no stub was touched, and two of them raise whenever they are run."""
    add_cells(lab, **ANSWERS)
    assert run("list", "--course", lab.folder) == 0
    assert " attempted " in capsys.readouterr().out
    assert run("check", "01", "--course", lab.folder) == 0
    assert "01-toy: 3 of 3 exercises done" in capsys.readouterr().out
    assert run("list", "--course", lab.folder) == 0
    assert " solved " in capsys.readouterr().out


def test_wrong_answers_are_explained_in_cells_of_ones_own(lab: Lab) -> None:
    """But of an exercise that has none, nothing is said: cells below a check are to play with."""
    below = {"add": "total = 7", "check-add": "numbers", "check-sort": "print(undefined)"}
    add_cells(lab, **below)
    report = check_lab(lab)
    assert statuses(report) == ["differs", "not done yet", "not done yet"]
    assert [bool(verdict.message) for verdict in report.verdicts] == [True, False, False]
    assert "The total is 7" in report.verdicts[0].message
    assert "NameError" in report.remarks[0]
    assert not report.untouched


def test_a_stub_that_was_written_in_and_still_raises_is_open(lab: Lab, answer: Write) -> None:
    """Cells of one's own forgive only stubs that were left, and only if the check passes."""
    answer(add="total = 6\nraise NotImplementedError", sort=ANSWERS["sort"])
    add_cells(lab, numbers="largest = 3", process="total = 6")
    report = check_lab(lab)
    assert statuses(report) == ["not done yet", "done", "done"]
    assert "still raises NotImplementedError" in report.verdicts[0].message


def test_wrong_answers_are_explained(
    lab: Lab, answer: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(
        add="total = 7",
        sort="def in_order(numbers):\n    x = 1\n    return x / 0",
        largest="while True:\n    pass",
    )
    assert run("check", lab.path, "--timeout", "3", "--course", lab.folder) == 1
    assert capsys.readouterr().out.splitlines() == [
        "01-toy: 0 of 3 exercises done",
        "  differs       Exercise 1: Add",
        "        The check prints",
        "            The total is 7",
        "        where the solution prints",
        "            The total is 6",
        "        Hint: There is a built-in function `sum`.",
        "  raised        Exercise 2: Sort",
        "        The check raised ZeroDivisionError: division by zero",
        "        line 3 of in_order: return x / 0",
        "        Hint: There is a built-in function `sorted`.",
        "  timed out     Exercise 3: Find the largest",
        "        The cell did not end within 3 s and was interrupted.",
        "        Is there a loop without an end?",
        "        Hint: There is a built-in function `max`.",
    ]


def test_half_done_syntax_error_and_dead_kernel(lab: Lab, answer: Write) -> None:
    answer(
        add="total = 0\nraise NotImplementedError",
        sort="def in_order(numbers)\n    return numbers",
        largest="import os\nos._exit(1)",
    )
    report = check_lab(lab, cell_timeout_s=3)
    assert statuses(report) == ["not done yet", "raised", "stopped"]
    assert "still raises NotImplementedError" in report.verdicts[0].message
    assert report.verdicts[1].message == (
        "The cell raised SyntaxError: expected ':'\nline 1: def in_order(numbers)"
    )
    assert "The Python process died" in report.verdicts[2].message


def test_a_function_that_was_renamed_is_asked_for_by_its_name(lab: Lab, answer: Write) -> None:
    """But of a name that is missing elsewhere, or that the lab did not give, nothing is said."""
    keep = "Keep the name that the lab gave it."
    answer(add="sums = 6", sort="def ordered(numbers):\n    return sorted(numbers)", largest="")
    found = check_lab(lab).verdicts
    assert statuses(check_lab(lab)) == ["raised", "raised", "not done yet"]
    assert found[1].message.endswith(f"\nThe check calls `in_order`. {keep}")
    assert "NameError: name 'total' is not defined" in found[0].message
    assert keep not in found[0].message
    answer(add="total = in_order([6])", sort=ANSWERS["sort"].replace("sorted", "ordered"))
    found = check_lab(lab).verdicts
    assert [each.exception for each in found[:2]] == ["NameError", "NameError"]
    assert keep not in found[0].message + found[1].message


def test_who_lost_a_cell_is_told_how_to_get_it_back(lab: Lab, answer: Write) -> None:
    attempt = answer(**ANSWERS)
    attempt.cells.remove(cells_by_label(attempt)["largest"])
    write_notebook(attempt, lab.path)
    verdict = check_lab(lab).verdicts[2]
    assert verdict.message == (
        "Its cell is not in your notebook. `mscourse lab reset 01` gives you a fresh lab and keeps "
        "this one as a backup. Copy your answers from the backup into it."
    )


def test_checks_cannot_be_edited_or_deleted(lab: Lab, answer: Write) -> None:
    attempt = answer(
        add="total = 7\nprint = lambda *words: __builtins__.print('The total is 6')",
        sort="def in_order(numbers):\n    return 'anything'",
        **{"check-add": "print('The total is 6')"},
    )
    attempt.cells = [
        cell
        for cell in attempt.cells
        if cell.metadata.get("label") not in ("check-sort", "largest", "check-largest")
    ]
    attempt.cells.append(new_code_cell("mine", "largest = 3\nprint(largest)"))
    write_notebook(attempt, lab.path)
    report = check_lab(lab)
    assert statuses(report) == ["differs", "differs", "missing"]
    assert "The total is 7" in report.verdicts[0].message
    assert "'anything'" in report.verdicts[1].message
    assert not report.solved


def test_an_untidy_notebook_can_be_solved(lab: Lab, answer: Write) -> None:
    """Cells moved, pasted under new ids, copied and added; built-in names taken; a warning."""
    warn = "    import warnings\n    warnings.warn('slow', stacklevel=1)\n"
    sort = ANSWERS["sort"].replace("    return", warn + "    return")
    attempt = answer(**{**ANSWERS, "sort": sort})
    for position, cell in enumerate(attempt.cells):
        cell.id = f"pasted-{position}"
    attempt.cells.reverse()
    copied = new_code_cell("copied", "total = len(numbers)")
    copied.metadata["label"] = "add"
    attempt.cells += [copied, new_code_cell("last", "print = len = None\nno such thing")]
    write_notebook(attempt, lab.path)
    report = check_lab(lab)
    assert report.solved, str(report)
    assert "SyntaxError" in report.remarks[0]


def test_a_progress_bar_within_a_check_is_nothing_that_is_printed(lab: Lab, answer: Write) -> None:
    """It is shown where a search in an answer is waited for, and is not recorded."""
    bar = "    from tqdm.auto import tqdm\n"
    right = f"def in_order(numbers):\n{bar}    return sorted(tqdm(numbers))"
    wrong = right.replace("sorted", "list")
    answer(**{**ANSWERS, "sort": right})
    assert check_lab(lab).solved
    answer(**{**ANSWERS, "sort": wrong})
    verdict = check_lab(lab).verdicts[1]
    assert verdict.status == "differs"
    assert verdict.message.startswith("The check prints\n    [2, 3, 1]\nwhere")


def test_cells_of_the_wrong_kind_and_of_the_course_are_named(lab: Lab, answer: Write) -> None:
    attempt = answer(**ANSWERS)
    cell = cells_by_label(attempt)["sort"]
    cell.cell_type = "markdown"
    del cell["outputs"], cell["execution_count"]
    write_notebook(attempt, lab.path)
    solution = lab.solution()
    cells_by_label(solution)["process"].source = "raise OSError('no processes left')"
    write_notebook(solution, lab.solution_path)
    report = check_lab(lab)
    assert statuses(report) == ["done", "missing", "done"]
    assert "press Y" in report.verdicts[1].message
    assert "OSError: no processes left" in report.failures[0]
    assert not report.solved
    assert not replace(report, verdicts=report.verdicts[:1]).solved, "for the course's cell"


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with the lab."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def test_nothing_is_left_running(
    lab: Lab, answer: Write, bystander: subprocess.Popen[bytes]
) -> None:
    pid_file = lab.folder / "pid"
    start = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
        " start_new_session=True)\n"
        f"open({str(pid_file)!r}, 'w').write(str(child.pid))\n"
    )
    answer(add=start + "total = 6")
    assert statuses(check_lab(lab))[0] == "done"
    assert not psutil.pid_exists(int(pid_file.read_text(encoding="utf-8")))
    assert bystander.poll() is None


# --- a checker that did not run --------------------------------------------------------------


@pytest.mark.parametrize(
    "report",
    [None, "", "not JSON", json.dumps({"exit_status": 0, "cells": []})],
    ids=["no report", "empty report", "no JSON", "no cells"],
)
def test_no_verdict_without_a_run(
    lab: Lab, answer: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: str | None
) -> None:
    runner = tmp_path / "runner.py"
    write = "" if report is None else f"import sys; open(sys.argv[1], 'w').write({report!r})"
    runner.write_text(write, encoding="utf-8")
    monkeypatch.setattr(check_module, "_RUNNER", runner)
    answer(**ANSWERS)
    with pytest.raises(CheckerError, match="0 of 11 cells ran, and pytest ended with status 0"):
        check_lab(lab)
    assert run("check", "--course", lab.folder) == 1


def test_a_run_that_was_broken_off_is_no_verdict(
    lab: Lab, answer: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even if all cells are said to have passed."""
    attempt = answer(**ANSWERS)
    passed = {
        **dict.fromkeys(("source", "complaint"), ""),
        **dict.fromkeys(("timed_out", "kernel_died"), False),
        "passed": True,
        "outputs": [],
    }
    cells = [{"id": cell.id, **passed} for cell in graft(lab.solution(), attempt).cells]
    report = {"exit_status": 2, "cells": cells}
    runner = tmp_path / "runner.py"
    runner.write_text(
        f"import sys; open(sys.argv[1], 'w').write({json.dumps(report)!r}); sys.exit(2)",
        encoding="utf-8",
    )
    monkeypatch.setattr(check_module, "_RUNNER", runner)
    with pytest.raises(CheckerError, match="11 of 11 cells ran, and pytest ended with status 2"):
        check_lab(lab)


# --- notebooks, names and folders ------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"01-toy\.ipynb is empty: the upload may have failed\."),
        ('{"cells": [\n<<<<<<< HEAD\n', "not JSON.*line 2"),
        ("[1, 2]", "JSON, but not a notebook"),
        ('{"cells": 3, "nbformat": 4}', "JSON, but not a notebook"),
        ('{"cells": [{}], "metadata": {}, "nbformat": 4}', "JSON, but not a notebook"),
        (
            '{"cells": [{"cell_type": "raw", "metadata": {}, "source": "\\ud800"}], "nbformat": 4}',
            "JSON, but not a notebook",
        ),
        ('{"cells": [], "metadata": {}, "nbformat": 5}', "notebook of format 5"),
    ],
)
def test_what_is_not_a_notebook_is_one_clear_error(
    lab: Lab, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.path.write_text(text, encoding="utf-8")
    with pytest.raises(LabError, match=message):
        check_lab(lab)
    assert run("check", "--course", lab.folder) == 1
    assert str(lab.path) in capsys.readouterr().err
    assert run("list", "--course", lab.folder) == 0
    assert "unreadable" in capsys.readouterr().out


def test_a_newer_minor_format_is_read(lab: Lab) -> None:
    content = json.loads(lab.path.read_text(encoding="utf-8"))
    content["nbformat_minor"] = 99
    content["cells"][0]["something"] = "new"
    lab.path.write_text(json.dumps(content), encoding="utf-8")
    assert statuses(check_lab(lab)) == ["not done yet"] * 3


@pytest.mark.parametrize("name", ["01", "1", "01-toy", "toy", "01-toy.ipynb"])
def test_a_lab_goes_by_several_names(lab: Lab, name: str) -> None:
    found, path = Course(lab.folder).lab_and_path(name)
    assert (found, path) == (lab, lab.path)


def test_a_renamed_lab_is_known_by_its_metadata(lab: Lab, tmp_path: Path) -> None:
    renamed = tmp_path / "mine.ipynb"
    lab.path.rename(renamed)
    assert Course(lab.folder).lab_and_path(str(renamed)) == (lab, renamed)
    (lab.path.parent / "mine.ipynb").write_text("", encoding="utf-8")
    with pytest.raises(LabError, match=r"If you renamed it, give its path \(mine.ipynb\)"):
        lab.attempt()


def test_a_misspelt_name_is_corrected(lab: Lab) -> None:
    course = Course(lab.folder)
    for name in ("01-toi", "toj"):
        with pytest.raises(LabError, match="Did you mean 01-toy"):
            course.lab(name)
    with pytest.raises(LabError, match=r"no lab '7'\. The labs are 01-toy"):
        course.lab("7")
    with pytest.raises(LabError, match="There is no notebook no-such"):
        course.lab_and_path("no-such/01-toy.ipynb")


def test_the_course_is_found(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab.folder / "labs")
    assert Course.find() == Course(lab.folder)
    monkeypatch.chdir(tmp_path)
    assert Course.find() == Course(Path(__file__).parent.parent)  # where the package lies
    assert Course.find(lab.folder) == Course(lab.folder)
    with pytest.raises(LabError, match="--course DIR"):
        Course.find(tmp_path)
    monkeypatch.setattr(course_module, "__file__", str(tmp_path / "a" / "b" / "c" / "d.py"))
    with pytest.raises(LabError, match="or a folder above it"):
        Course.find()


# --- fresh copies and backups ----------------------------------------------------------------


def test_reset_keeps_what_was_written(
    lab: Lab, answer: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = lab.path.read_bytes()
    answer(add="total = 6")
    written = lab.path.read_bytes()
    assert run("reset", "01", "--course", lab.folder) == 0
    assert lab.path.read_bytes() == fresh
    (backup,) = lab.path.parent.glob("*.backup-*.ipynb")
    assert backup.read_bytes() == written
    assert backup.name in capsys.readouterr().out
    assert run("reset", "01", "--course", lab.folder) == 0
    assert len(list(lab.path.parent.iterdir())) == 2, "there was nothing to lose any more"


def test_a_backup_never_overwrites_another(lab: Lab) -> None:
    backups = [back_up(lab.path) for _ in range(3)]
    assert len(set(backups)) == 3


def test_a_damaged_or_missing_lab_can_be_reset(lab: Lab) -> None:
    fresh = lab.path.read_bytes()
    lab.path.write_text("{", encoding="utf-8")
    backup = lab.reset()
    assert backup is not None
    assert backup.read_text(encoding="utf-8") == "{"
    lab.path.unlink()
    assert lab.reset() is None
    assert lab.path.read_bytes() == fresh


@pytest.mark.parametrize("is_attempted", [True, False])
def test_a_folder_that_must_not_be_written_to_is_one_clear_error(
    lab: Lab,
    answer: Write,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_attempted: bool,
) -> None:
    """Whether a backup is to be written there, or the fresh lab only."""
    if is_attempted:
        answer(add="total = 6")
    before = lab.path.read_bytes()
    with monkeypatch.context() as patch:
        forbid_writing(patch, lab.path.parent)
        assert run("reset", "01", "--course", lab.folder) == 1
        said = capsys.readouterr().err
        assert said.count("mscourse: ") == 1
        assert "Permission denied" in said
        assert f"write to its folder {lab.path.parent}, or work in a copy" in said
        with pytest.raises(LabError, match=r"cannot be backed up: .* Nothing was changed"):
            back_up(lab.path)
    assert lab.path.read_bytes() == before
    assert list(lab.path.parent.iterdir()) == [lab.path]


def test_a_notebook_that_cannot_be_read_is_one_clear_error(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder stands for it, which not even root can read."""
    lab.path.unlink()
    lab.path.mkdir()
    assert run("reset", "01", "--course", lab.folder) == 1
    assert "See that you may read the notebook" in capsys.readouterr().err
    with pytest.raises(LabError, match="See that you may read the notebook"):
        back_up(lab.path)


# --- the other commands ----------------------------------------------------------------------


def test_list_tells_how_far_one_is(
    lab: Lab, answer: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    def listed() -> str:
        assert run("list", "--course", lab.folder) == 0
        return " ".join(capsys.readouterr().out.split())

    assert listed() == "01-toy 5 min untouched Lab 1: A toy"
    answer(add="total = 6", sort="")
    assert listed() == "01-toy 5 min attempted, 1 of 3 Lab 1: A toy"
    assert run("check", "01", "--course", lab.folder) == 1
    capsys.readouterr()
    assert listed() == "01-toy 5 min 1 of 3 done Lab 1: A toy"
    lab.path.unlink()
    assert listed() == "01-toy 5 min missing Lab 1: A toy"


def test_open_becomes_jupyterlab(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def become(_: str, command: list[str]) -> None:
        raise SystemExit(str(command))

    monkeypatch.setattr(os, "execv", become)
    command = [sys.executable, "-m", "jupyterlab", str(lab.path)]
    with pytest.raises(SystemExit, match=re.escape(str(command))):
        run("open", "01", "--course", lab.folder)
    lab.path.unlink()
    assert run("open", "01", "--course", lab.folder) == 1
    assert "mscourse lab reset 01-toy" in capsys.readouterr().err


def test_what_is_not_installed_is_named(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run("list", "--course", lab.folder) == 1
    assert re.search(r"need nbformat.*pip install 'mscourse\[labs\]'", capsys.readouterr().err)


# --- where an error was ----------------------------------------------------------------------


def test_the_location_is_the_notebooks_innermost_line() -> None:
    in_a_cell = (
        "ValueError   Traceback (most recent call last)\n"
        "\x1b[36mCell\x1b[39m In[2], line 1\n----> 1 f(0)\n\n"
        "Cell In[1], line 3, in f(x)\n      2     y = x\n----> 3     return g(y)\n\n"
        "File lib/python/module.py:12, in g(x)\n---> 12 raise ValueError\n\nValueError: "
    )
    assert location(in_a_cell) == "line 3 of f: return g(y)"
    on_an_engine = (
        "[0:apply]\nFile /x/ipyparallel/engine/kernel.py:157, in do_apply(self)\n--> 157 exec\n\n"
        "File /tmp/ipykernel_7/12.py:4, in f(x)\n      1 'Could not get source, probably'\n\n"
    )
    assert location(on_an_engine) == "line 4 of f"
    assert location("nothing of the kind") == ""


def test_writing_is_exact(lab: Lab) -> None:
    assert to_text(read_notebook(lab.path)).encode() == lab.path.read_bytes()
