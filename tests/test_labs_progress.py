"""All labs checked at once, what is kept of it, and the certificate."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from toylab import ANSWERS, PERSIAN_NAME, SOURCE, forbid_writing, toy_course, write_answers

from mscourse.cli import main
from mscourse.labs import check as check_module
from mscourse.labs import record as record_module
from mscourse.labs.build import read_source
from mscourse.labs.certificate import COURSE_TITLE
from mscourse.labs.course import Course, Lab
from mscourse.labs.notebook import cells_by_label, new_code_cell, strip, write_notebook
from mscourse.labs.progress import run_shown
from mscourse.labs.record import Record, digest_of


@pytest.fixture
def course(tmp_path: Path) -> Course:
    """A course of three labs that differ in their names only."""
    course = toy_course(tmp_path / "course")
    first = course.lab("01")
    for name in ("02-same", "03-again"):
        lab = Lab(name, course.folder)
        text = SOURCE.replace("Lab 1: A toy", f"Lab {name[1]}: <The same>")
        lab.source_path.write_text(text, encoding="utf-8")
        solution = read_source(lab.source_path)
        for label, cell in cells_by_label(first.solution()).items():
            cells_by_label(solution)[label].update(outputs=cell.outputs)
        write_notebook(solution, lab.solution_path)
        write_notebook(strip(solution), lab.path)
    return course


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pretend to run notebooks: cells with the word "wrong", and stubs, fail. Those that ran."""
    ran: list[str] = []

    def run_cells(notebook, cell_timeout_s, *, total_timeout_s=None, on_cell=None):
        sources = {cell.id: cell.source for cell in notebook.cells}
        for n, label in enumerate(sources):
            on_cell(n, len(sources))
            ran.append(label)
        fails = ("wrong", "NotImplementedError")
        return {
            label: check_module.CellResult(
                source, not any(word in source for word in fails), False, False, [], "no"
            )
            for label, source in sources.items()
        }

    monkeypatch.setattr(check_module, "run_cells", run_cells)
    return ran


def run(course: Course, *arguments: str | Path) -> int:
    """Run ``mscourse lab ...`` in a course."""
    return main(["lab", *map(str, arguments), "--course", str(course.folder)])


def solve_all(course: Course) -> None:
    """Solve all labs."""
    for lab in course.labs():
        write_answers(lab, **ANSWERS)


# --- all labs ---------------------------------------------------------------------------------


def test_all_labs_end_in_a_table(
    course: Course, runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_answers(course.lab("01"), add="total = 6", sort="wrong")
    course.lab("03").path.write_text("{", encoding="utf-8")
    assert run(course, "check") == 1
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0] == "02-same: untouched, 3 exercises", "at once"
    assert lines[1] == "01-toy: 1 of 3 exercises done"
    assert lines[-6:] == [
        "lab         done  next",
        "01-toy    1 of 3  Exercise 2: Sort",
        "02-same   0 of 3  Exercise 1: Add (untouched)",
        "03-again  0 of 3  no verdict, see above",
        "all       1 of 9",
        "Next: 01-toy, Exercise 2: Sort. `mscourse lab open 01`",
    ]
    assert shown.err.splitlines()[0] == "Checking 01-toy (1 of 2) ..."
    assert "03-again.ipynb is not a notebook" in shown.err
    assert runs.count("add") == 1, "the untouched lab was not run"

    course.lab("03").reset()
    solve_all(course)
    assert run(course, "check") == 0
    last = capsys.readouterr().out.splitlines()[-2:]
    assert last[0] == "all       9 of 9"
    assert last[1].startswith("All are solved: `mscourse lab certificate")


def test_a_cell_of_the_course_that_fails_is_what_is_next(
    course: Course, runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    solve_all(course)
    solution = course.lab("02").solution()
    cells_by_label(solution)["process"].source = "wrong"
    write_notebook(solution, course.lab("02").solution_path)
    assert run(course, "check") == 1
    assert "02-same   3 of 3  a cell of the course failed, see above" in capsys.readouterr().out


class Terminal(StringIO):
    """A stream that says that somebody looks at it."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_how_far_the_run_is(course: Course) -> None:
    stream = Terminal()
    with run_shown(course.lab("01"), "1 of 3", stream) as on_cell:
        on_cell(0, 11)
        on_cell(11, 11)
    shown = [re.sub(r"\d+ s", "0 s", each).strip() for each in stream.getvalue().split("\r")]
    text = "Checking 01-toy (1 of 3) ..."
    assert shown == [
        text,
        f"{text} cell 1 of 11, 0 s",
        f"{text} cell 11 of 11, 0 s",
        "\x1b[K",
    ]


def test_the_cells_are_counted_while_they_run(course: Course) -> None:
    """The real run, once."""
    write_answers(course.lab("01"), **ANSWERS)
    counts: list[tuple[int, int]] = []
    report = check_module.check_lab(course.lab("01"), on_cell=lambda *count: counts.append(count))
    assert report.solved
    assert counts[0] == (0, 11)
    assert counts == sorted(set(counts))
    assert all(n_cells == 11 for _, n_cells in counts)


def test_a_lab_answered_in_added_cells_is_not_untouched(
    course: Course, runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither for the table, nor for the certificate, which comes first: it runs what it needs."""
    for lab in course.labs()[:2]:
        write_answers(lab, **ANSWERS)
    lab = course.lab("03")
    attempt = lab.attempt()
    attempt.cells.insert(0, new_code_cell("mine", "\n".join(ANSWERS.values())))
    write_notebook(attempt, lab.path)
    path = tmp_path / "certificate.html"
    assert run(course, "certificate", "--name", "Ada", "-o", path) == 0
    assert path.exists()
    assert runs.count("add") == 3
    capsys.readouterr()
    assert run(course, "check") == 0
    shown = capsys.readouterr().out
    assert "untouched" not in shown
    assert "03-again  3 of 3  solved" in shown


# --- what is kept -----------------------------------------------------------------------------


def test_a_result_counts_as_long_as_nothing_has_changed(
    course: Course, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, record = course.lab("01"), Record(course)
    attempt = write_answers(lab, add="total = 6", sort="wrong")
    assert record.find(lab) is None
    run(course, "check", "01")
    entry = record.find(lab)
    assert entry is not None
    assert (entry.done, entry.solved) == ((1,), False)

    # What it shows is not what was run.
    attempt.cells[0].source += "\nA note."
    cells_by_label(attempt)["add"].execution_count = 7
    write_notebook(attempt, lab.path)
    assert record.find(lab) == entry
    attempt.cells.append(new_code_cell("mine", "numbers = []"))
    write_notebook(attempt, lab.path)
    assert record.find(lab) is None
    attempt.cells.pop()
    write_notebook(attempt, lab.path)
    assert record.find(lab) == entry

    with monkeypatch.context() as patch:
        patch.setattr(record_module, "__version__", "99")
        assert record.find(lab) is None
    solution = lab.solution()
    cells_by_label(solution)["check-sort"].source += "\n"
    write_notebook(solution, lab.solution_path)
    assert record.find(lab) is None, "the solution counts, too"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"01-toy": 3}', '{"01-toy": {"done": 1}}', "[" * 100_000],
)
def test_a_damaged_record_is_no_record(course: Course, runs: list[str], text: str) -> None:
    record = Record(course)
    record.path.write_text(text, encoding="utf-8")
    assert record.find(course.lab("01")) is None
    write_answers(course.lab("01"), **ANSWERS)
    assert run(course, "check", "01") == 0
    assert record.find(course.lab("01")) is not None


def test_a_verdict_stands_though_it_cannot_be_kept(
    course: Course, runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_answers(course.lab("01"), **ANSWERS)
    Record(course).path.with_name(".checks.json.tmp").mkdir()
    assert run(course, "check", "01") == 0
    assert "cannot be kept in" in capsys.readouterr().err


def test_a_notebook_of_a_learners_own_name_is_not_kept(course: Course, runs: list[str]) -> None:
    path = course.folder / "mine.ipynb"
    write_answers(course.lab("01"), **ANSWERS)
    course.lab("01").path.rename(path)
    assert run(course, "check", path) == 0
    assert not Record(course).path.exists()


# --- the certificate --------------------------------------------------------------------------


class Page(HTMLParser):
    """What is on a page: its text, its tags, and what it asks for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.asks: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.asks += [f"{name}={value}" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_a_certificate_says_what_was_solved_and_asks_for_nothing(
    course: Course, runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    solve_all(course)
    path = tmp_path / "certificate.html"
    assert run(course, "certificate", "--name", "  Ada <b>&  Söhne</b> ", "-o", path) == 0
    assert f"The certificate is in {path}." in capsys.readouterr().out
    n_run = len(runs)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert "Ada <b>& Söhne</b> has solved all 3 labs (9 exercises)" in page.text
    assert COURSE_TITLE in page.text
    assert "Lab 1: A toy" in page.text
    assert "Lab 2: <The same>" in page.text
    assert "Find the largest" in page.text
    entry = Record(course).find(course.lab("01"))
    assert entry is not None
    assert f"Checked on {entry.checked_at[:10]} with mscourse {entry.version}" in page.text
    assert "b" not in page.tags
    assert "script" not in page.tags
    assert not page.asks
    assert "url(" not in text
    assert "@import" not in text
    assert "://" not in text

    assert run(course, "certificate", "--name", "Ada", "-o", path) == 1, "it is there already"
    assert "--force" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == text
    assert run(course, "certificate", "--name", "Ada", "-o", path, "--force") == 0
    assert len(runs) == n_run, "nothing had changed, so nothing was run"
    assert "01-toy: unchanged since it was checked" in capsys.readouterr().out
    assert path.read_text(encoding="utf-8") != text

    # One lab changes: it alone is checked again, and is found wanting.
    write_answers(course.lab("02"), sort="wrong")
    assert run(course, "certificate", "--name", "Ada", "-o", path, "--force") == 1
    assert runs[n_run:].count("add") == 1
    assert "02-same                 exercises 2" not in (shown := capsys.readouterr().out)
    assert "02-same                 exercise 2" in shown


def test_no_certificate_for_less_than_all(
    course: Course, runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_answers(course.lab("01"), **ANSWERS)
    course.lab("03").path.write_text("", encoding="utf-8")
    path = tmp_path / "certificate.html"
    assert run(course, "certificate", "--name", "Ada", "-o", path) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "A certificate is for all labs. These are open:"
    assert lines[1] == "  01-toy                  not checked as it is now"
    assert lines[2] == "  02-same                 untouched, 3 exercises"
    assert "03-again.ipynb is empty: the upload may have failed." in lines[3]
    assert lines[-1] == "`mscourse lab check` says what each of them lacks."
    assert not path.exists()
    assert not runs, "it would have been of no use"


def test_a_name_with_joiners_stands_on_the_page_as_it_is_spelt(
    course: Course, runs: list[str], tmp_path: Path
) -> None:
    solve_all(course)
    path = tmp_path / "certificate.html"
    assert run(course, "certificate", "--name", PERSIAN_NAME, "-o", path) == 0
    assert f"{PERSIAN_NAME} has solved all 3 labs" in Page(path.read_text(encoding="utf-8")).text


@pytest.mark.parametrize("name", ["", " ", "\u200c", "A" * 81, "Ada\x1b[31m", "Ada\u202e"])
def test_a_name_that_cannot_be_printed_is_refused(
    course: Course, runs: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    solve_all(course)
    assert run(course, "certificate", "--name", name) == 1
    assert "1 to 80 characters" in capsys.readouterr().err
    assert not runs


def test_a_place_that_cannot_be_written_is_told_before_anything_runs(
    course: Course,
    runs: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    solve_all(course)
    for path in (tmp_path, tmp_path / "no" / "such.html"):
        assert run(course, "certificate", "--name", "Ada", "-o", path) == 1
        assert "in a folder that exists" in capsys.readouterr().err
    path = tmp_path / "certificate.html"
    with monkeypatch.context() as patch:
        forbid_writing(patch, tmp_path)
        assert run(course, "certificate", "--name", "Ada", "-o", path) == 1
    assert "cannot be written: Permission denied. Name a file" in capsys.readouterr().err
    assert not path.exists()
    assert not runs


def test_the_digest_is_of_all_that_runs(course: Course) -> None:
    digests = {digest_of(lab) for lab in course.labs()}
    write_answers(course.lab("01"), add="total = 1")
    assert len({*digests, digest_of(course.lab("01"))}) == 4
