"""What learners do with the course's labs before they have solved them.

They try again, in the same kernel. They get one exercise wrong and go on to the next. And some of
their wrong answers are so common that the checks must know them.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from mscourse.labs.check import graft, run_cells
from mscourse.labs.course import Course, Lab
from mscourse.labs.notebook import Notebook, cells_by_label, exercises, new_code_cell
from mscourse.labs.verdict import CellResult, Judge, Verdict, text_of

COURSE = Course(Path(__file__).parent.parent)

#: The solutions' cells take a few seconds each; continuous integration runs on a busy machine.
CELL_TIMEOUT_S = 120.0


def solved(lab: Lab, **answers: str) -> Notebook:
    """The cells of a lab with the solution's answers, or with others, by label."""
    solution = lab.solution()
    attempt = copy.deepcopy(solution)
    for label, source in answers.items():
        cells_by_label(attempt)[label].source = source
    return graft(solution, attempt)


def verdicts(lab: Lab, results: dict[str, CellResult]) -> list[Verdict]:
    """What became of each exercise."""
    solution = lab.solution()
    judge = Judge(solution, solution, results, CELL_TIMEOUT_S)
    return [judge.verdict(each) for each in exercises(solution)]


def statuses(found: list[Verdict]) -> list[str]:
    """The same in one or two words each."""
    return [each.status for each in found]


@pytest.mark.parametrize(
    "lab",
    [
        pytest.param(lab, marks=[] if "os.kill" in str(lab.solution()) else pytest.mark.long)
        for lab in COURSE.labs()
    ],
    ids=lambda lab: lab.name,
)
def test_an_exercise_can_be_done_again_in_the_same_kernel(lab: Lab) -> None:
    """Its cells are run one after the other, and then once more: what they left must do no harm.

    So a right answer after a wrong one is right, too. It is hard where engines are killed.
    """
    notebook = solved(lab)
    for exercise in exercises(lab.solution()):
        places = [n for n, cell in enumerate(notebook.cells) if cell.id in exercise.cells]
        again = copy.deepcopy(notebook.cells[places[0] : places[-1] + 1])
        for cell in again:
            cell.id = f"again-{cell.id}"
        notebook.cells[places[-1] + 1 : places[-1] + 1] = again
    results = run_cells(notebook, CELL_TIMEOUT_S)
    second = {label: results.get(f"again-{label}", result) for label, result in results.items()}
    found = verdicts(lab, second)
    assert set(statuses(found)) == {"done"}, "\n".join(map(str, found))


def test_who_loses_all_engines_in_one_exercise_finds_others_in_the_next() -> None:
    """Those searches would go on, and go on killing, as soon as there are engines again."""
    lab = COURSE.lab("05")
    wrong = {
        "kill-an-engine": """
disturbed = mscourse.grid_search(SVC(), svc_params, splits, engines=client)
while disturbed.n_done < 20:
    time.sleep(0.01)
for pid in pid_of_engine.values():
    os.kill(pid, signal.SIGKILL)
disturbed.wait(patience_s=1)
""",
        "culprits": """
careful = mscourse.grid_search(Fragile(random_state=0), suspects, one_split, engines=client)
careful.wait(patience_s=1)
""",
    }
    found = verdicts(lab, run_cells(solved(lab, **wrong), CELL_TIMEOUT_S))
    wanted = ["done", "raised", "done", "raised", "done"]
    assert statuses(found) == wanted, "\n".join(map(str, found))
    assert "NoEnginesError" in found[1].message
    assert "NoEnginesError" in found[3].message


# --- common answers, and whether they are right ----------------------------------------------

#: By lab and by label of the answer; what is asked for, and what may be written for it.
ANSWERS = {
    ("01", "one-engine-per-host"): {
        "wrong: the first that is seen": """
def one_engine_per_host(hosts):
    found = {}
    for engine, host in hosts.items():
        found.setdefault(host, engine)
    return found
""",
        "wrong: the last that is seen": """
def one_engine_per_host(hosts):
    return {host: engine for engine, host in hosts.items()}
""",
        "right: the least of each": """
def one_engine_per_host(hosts):
    return {
        host: min(engine for engine, its_host in hosts.items() if its_host == host)
        for host in hosts.values()
    }
""",
    },
    ("01", "watch"): {
        "wrong: waits for nothing": "watch = lambda result: list(range(len(result) + 1))",
        "right: with a set": """
def watch(async_result):
    seen = set()
    while not async_result.ready():
        seen.add(async_result.progress)
        async_result.wait(0.02)
    return sorted(seen | {async_result.progress})
""",
    },
    ("02", "count-apart"): {
        "wrong: one after the other": """
def count_apart(client, path, n_times):
    np.zeros(len(client), dtype=np.int64).tofile(path)
    for position, engine in enumerate(client.ids):
        client[engine].apply_sync(add_ones, path, position, n_times)
    return np.fromfile(path, dtype=np.int64).tolist()
""",
        "right: a map": """
def count_apart(client, path, n_times):
    n = len(client)
    np.zeros(n, dtype=np.int64).tofile(path)
    client[:].map_sync(add_ones, [path] * n, range(n), [n_times] * n)
    return list(np.fromfile(path, dtype=np.int64))
""",
        "right: a function that was sent before": """
def count_apart(client, path, n_times):
    numbers = np.memmap(path, dtype=np.int64, mode="w+", shape=len(client))
    client[:]["add_ones"] = add_ones
    started = [
        client[engine].apply_async(lambda *given: add_ones(*given), path, position, n_times)
        for position, engine in enumerate(client.ids)
    ]
    for each in started:
        each.get()
    return numbers.tolist()
""",
    },
}


@pytest.mark.parametrize("number", sorted({number for number, _ in ANSWERS}))
def test_common_answers_are_told_apart(number: str) -> None:
    """All of a lab in one run, each followed by its exercise's check."""
    lab = COURSE.lab(number)
    notebook, cells = solved(lab), cells_by_label(lab.solution())
    tried = {}
    for (_, label), answers in ((key, each) for key, each in ANSWERS.items() if key[0] == number):
        exercise = next(each for each in exercises(lab.solution()) if label in each.answers)
        (check,) = exercise.checks
        place = [cell.id for cell in notebook.cells].index(check) + 1
        for title, source in answers.items():
            id_ = f"{check}-{len(tried)}"
            judged = copy.deepcopy(cells[check])
            judged.id = id_
            notebook.cells[place:place] = [new_code_cell(f"answer-{id_}", source.strip()), judged]
            tried[id_] = title

    results = run_cells(notebook, CELL_TIMEOUT_S)

    for id_, title in tried.items():
        result = results[id_]
        assert result.error is None, f"{title}: {result.error}"
        assert result.passed is title.startswith("right"), f"{title}:\n{text_of(result.outputs)}"
