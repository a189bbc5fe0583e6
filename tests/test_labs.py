"""The course's labs: they are what their solutions generate, and each exercise is judged."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest

from mscourse.labs.build import read_source
from mscourse.labs.check import check_lab, run_cells
from mscourse.labs.course import Course, Lab
from mscourse.labs.notebook import (
    Cell,
    Notebook,
    cells_by_label,
    exercises,
    strip,
    strip_source,
    to_text,
    write_notebook,
)

COURSE = Course(Path(__file__).parent.parent)
CELL_TIMEOUT_S = 30.0


@pytest.fixture(params=COURSE.labs(), ids=lambda lab: lab.name)
def lab(request: pytest.FixtureRequest) -> Lab:
    """Each lab of the course in turn."""
    found: Lab = request.param
    return found


def test_there_are_labs() -> None:
    assert COURSE.labs()


def test_a_lab_is_exactly_what_its_solution_generates(lab: Lab) -> None:
    assert lab.path.read_text(encoding="utf-8") == to_text(strip(lab.solution()))


def test_a_solution_is_exactly_its_source(lab: Lab) -> None:
    solution = lab.solution()
    assert _without_outputs(solution) == _without_outputs(read_source(lab.source_path))
    assert to_text(solution) == lab.solution_path.read_text(encoding="utf-8")


def _without_outputs(notebook: Notebook) -> list[tuple[str, str, str, object]]:
    cells = [(cell.id, cell.cell_type, cell.source, cell.metadata) for cell in notebook.cells]
    return [("", "", "", notebook.metadata), *cells]


def test_a_lab_holds_no_answer_and_no_output(lab: Lab) -> None:
    text = lab.path.read_text(encoding="utf-8")
    assert "SOLUTION" not in text
    assert all(not cell.outputs for cell in cells_by_label(lab.attempt()).values())


def test_a_lab_has_four_to_six_exercises_and_says_how_long_it_takes(lab: Lab) -> None:
    assert 4 <= len(exercises(lab.solution())) <= 6
    assert lab.minutes()
    assert lab.title() != lab.name
    readme = (lab.path.parent / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"`{lab.path.name}` \| .* \| {lab.minutes()} \|", readme)


def test_the_checks_show_values(lab: Lab) -> None:
    """A check that prints but True or False tells a learner nothing."""
    cells = cells_by_label(lab.solution())
    for exercise in exercises(lab.solution()):
        printed = "".join(str(cells[label].outputs) for label in exercise.checks)
        assert any(character.isdigit() for character in printed), exercise


def test_each_exercise_left_unsolved_alone_fails(lab: Lab) -> None:
    """Before each exercise is solved, its stub and its checks run: all earlier ones are solved.

    One run of the notebook serves all exercises, since each run starts a cluster.
    """
    solution = lab.solution()
    known = cells_by_label(solution)
    solution.cells = []
    for label, cell in known.items():
        for exercise in exercises(lab.solution()):
            if exercise.cells[0] == label:
                solution.cells += [_unsolved(known[part]) for part in exercise.cells]
        solution.cells.append(cell)
    results = run_cells(solution, CELL_TIMEOUT_S)
    for exercise in exercises(lab.solution()):
        assert not all(results[f"unsolved-{part}"].passed for part in exercise.cells), exercise
    assert all(results[label].passed for label in known)


def _unsolved(cell: Cell) -> Cell:
    unsolved = copy.deepcopy(cell)
    unsolved.id = f"unsolved-{cell.id}"
    unsolved.source = strip_source(cell.source)
    return unsolved


def test_the_unsolved_exercises_are_those_named(lab: Lab, tmp_path: Path) -> None:
    """Every other exercise is left unsolved: the rest must not depend on them."""
    attempt = lab.attempt()
    written, solved = cells_by_label(attempt), cells_by_label(lab.solution())
    for exercise in exercises(lab.solution())[1::2]:
        for label in exercise.answers:
            written[label].source = solved[label].source
    path = tmp_path / lab.path.name
    write_notebook(attempt, path)
    report = check_lab(lab, path, cell_timeout_s=CELL_TIMEOUT_S)
    statuses = [verdict.status for verdict in report.verdicts]
    assert statuses[::2] == ["not done yet"] * len(statuses[::2]), str(report)
    assert statuses[1::2] == ["done"] * len(statuses[1::2]), str(report)
    assert not report.failures
    assert not report.solved
