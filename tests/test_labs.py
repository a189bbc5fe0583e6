"""The course's labs: they are what their solutions generate, and each exercise is judged."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest

from mscourse.labs.build import read_source
from mscourse.labs.check import graft, run_cells
from mscourse.labs.course import Course, Lab
from mscourse.labs.notebook import (
    Cell,
    Notebook,
    cells_by_label,
    exercises,
    strip,
    strip_source,
    to_text,
)
from mscourse.labs.verdict import Judge

COURSE = Course(Path(__file__).parent.parent)

#: The solutions' cells take a few seconds each; continuous integration runs on a busy machine.
CELL_TIMEOUT_S = 120.0


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


def test_each_exercise_fails_unsolved_and_does_not_need_the_others(lab: Lab) -> None:
    """One run serves for all of it, since each run starts a cluster.

    The exercises with odd numbers are left unsolved. Those with even numbers are tried unsolved,
    as a learner would, and then solved: they must pass without the others. That all of them
    together pass is what the run of `solutions/` is for.
    """
    solution, attempt = lab.solution(), lab.attempt()
    known, written = cells_by_label(solution), cells_by_label(attempt)
    solved = exercises(solution)[1::2]
    for exercise in solved:
        for label in exercise.answers:
            written[label].source = known[label].source
    tried = graft(solution, attempt)
    for exercise in solved:
        first = [cell.id for cell in tried.cells].index(exercise.answers[0])
        unsolved = [_unsolved(known[label]) for label in exercise.answers + exercise.checks]
        tried.cells[first:first] = unsolved

    results = run_cells(tried, CELL_TIMEOUT_S)

    judge = Judge(solution, attempt, results, CELL_TIMEOUT_S)
    verdicts = [judge.verdict(exercise) for exercise in exercises(solution)]
    statuses = [verdict.status for verdict in verdicts]
    said = "\n".join(map(str, verdicts))
    assert statuses[::2] == ["not done yet"] * len(statuses[::2]), said
    assert statuses[1::2] == ["done"] * len(statuses[1::2]), said
    for exercise in exercises(solution)[::2]:
        assert not all(results[label].passed for label in exercise.cells), exercise
    for exercise in solved:
        tries = [results[f"unsolved-{label}"] for label in exercise.answers + exercise.checks]
        assert not all(each.passed for each in tries), exercise
    inside = {label for exercise in exercises(solution) for label in exercise.cells}
    assert not judge.complaints(
        "A cell of the course", [each for each in known if each not in inside]
    )


def _unsolved(cell: Cell) -> Cell:
    unsolved = copy.deepcopy(cell)
    unsolved.id = f"unsolved-{cell.id}"
    unsolved.source = strip_source(cell.source)
    return unsolved
