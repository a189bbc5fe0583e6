"""Journals: what is done is on the disk, and is not run again."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import fuzz
import numpy as np
import pytest
import sklearn
from helpers import wait_until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC

import mscourse
from mscourse import journal as module
from mscourse import scheduler
from mscourse.identity import as_shown
from mscourse.identity import described as described_value
from mscourse.journalfile import Content, entries

GRID = {"setting": [1, 2, 3, 4], "other": [0.5, 1.5]}
N_SPLITS = 3


class Marks(ClassifierMixin, BaseEstimator):
    """Leaves a mark in a folder for each fit; fails, waits or draws luck if it is told to."""

    def __init__(self, folder=None, setting=0, other=0.0, fails=False, seconds=0.0):
        self.folder = folder
        self.setting = setting
        self.other = other
        self.fails = fails
        self.seconds = seconds

    def fit(self, X, y):
        time.sleep(self.seconds)
        if self.folder is not None:
            (Path(self.folder) / f"{time.time_ns()}-{os.getpid()}-{id(self)}").touch()
        if self.fails and not (Path(self.folder) / "mended").exists():
            raise ValueError("told to fail")
        self.classes_ = np.unique(y)
        self.score_ = self.setting / 10 + self.other / 100 + len(X) / 1e6
        return self

    def score(self, X, y):
        return self.score_ + len(X) / 1e9


@pytest.fixture(scope="module")
def splits(digits, tmp_path_factory):
    X, y = digits
    folder = tmp_path_factory.mktemp("journal-splits")
    return mscourse.persist_cv_splits(X, y, folder=folder, name="digits", cv=N_SPLITS)


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
def path(tmp_path):
    return tmp_path / "search.journal"


@pytest.fixture
def marks(tmp_path):
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def n_fits(folder):
    return len([mark for mark in folder.iterdir() if mark.name != "mended"])


def scores(search):
    return {
        (tuple(sorted(e.params.items())), e.split, e.n_train): (e.test_scores, e.train_scores)
        for e in search.evaluations()
    }


def n_lines(path):
    """How many evaluations a journal has."""
    return path.read_bytes().count(b'\n{"params"')


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# -- going on --------------------------------------------------------------------------------------


def test_only_what_is_missing_is_run(splits, threads, path, marks):
    estimator = Marks(folder=str(marks))
    launch = partial(mscourse.grid_search, estimator, splits=splits, engines=threads, journal=path)
    first = launch(GRID, n_evaluations=10)
    assert first.wait(20)
    assert n_fits(marks) == 10
    second = launch(GRID)
    assert second.n_done >= 10  # at once
    assert second.wait(20)
    assert n_fits(marks) == second.n_done == second.n_total == 24
    again = launch(GRID)
    assert again.n_done == 24
    assert again.wait(0.5)
    assert n_fits(marks) == 24
    assert "24 were done before" in repr(again)
    undisturbed = mscourse.grid_search(Marks(), GRID, splits, engines=threads)
    undisturbed.wait(20)
    for name, column in undisturbed.results().items():
        if "time" not in name:
            np.testing.assert_array_equal(again.results()[name], column)


def test_all_of_an_evaluation_comes_back(splits, client, path):
    launch = partial(
        mscourse.grid_search, SVC(), {"C": [1, 10]}, splits, engines=client, journal=path
    )
    first, again = launch(), None
    first.wait(30)
    again = launch()
    key = lambda e: (e.candidate, e.split)  # noqa: E731
    assert sorted(again.evaluations(), key=key) == sorted(first.evaluations(), key=key)
    for name, column in first.results().items():
        np.testing.assert_array_equal(again.results()[name], column)


def test_an_extended_grid_goes_on_and_one_that_shrank_too(splits, threads, path, marks):
    estimator = Marks(folder=str(marks))
    launch = partial(mscourse.grid_search, estimator, splits=splits, engines=threads, journal=path)
    launch(GRID).wait(20)
    wider = launch(GRID | {"setting": [4, 5, 1]})
    wider.wait(20)
    assert n_fits(marks) == 24 + 2 * N_SPLITS
    assert wider.n_done == wider.n_total == 6 * N_SPLITS
    narrower = launch({"setting": [5], "other": [1.5]})
    assert narrower.wait(20)
    assert scores(narrower).items() <= scores(wider).items()
    assert n_fits(marks) == 30


def test_a_random_search_goes_on_with_more_draws(splits, threads, path, marks):
    estimator = Marks(folder=str(marks))
    launch = partial(
        mscourse.random_search, estimator, {"other": list(np.linspace(0, 1, 50))}, splits,
        engines=threads, journal=path,
    )  # fmt: skip
    launch(n_iter=5).wait(20)
    more = launch(n_iter=8)
    more.wait(20)
    n_candidates = len({json.dumps(line["params"]) for line in lines_of(path) if "params" in line})
    assert n_fits(marks) == N_SPLITS * n_candidates
    assert more.n_done == 8 * N_SPLITS


def test_a_pipeline_with_shared_steps_goes_on(splits, client, path):
    pipeline = Pipeline([("pca", PCA()), ("svc", SVC())])
    grid = {"pca__n_components": [5, 10], "svc__C": [1, 10, 100]}
    launch = partial(mscourse.grid_search, pipeline, grid, splits, engines=client, journal=path)
    launch(n_evaluations=7).wait(60)
    second = launch()
    assert second.n_done >= 7
    second.wait(60)
    lines = [line for line in lines_of(path) if "params" in line]
    assert len(lines) == second.n_total == 18
    undisturbed = mscourse.grid_search(pipeline, grid, splits, engines=client)
    undisturbed.wait(60)
    assert scores(second) == scores(undisturbed)


def halving_search(splits, engines, path, marks):
    estimator = Marks(folder=str(marks))
    return mscourse.halving_search(
        estimator, GRID, splits, min_resources=40, engines=engines, journal=path
    )


def test_a_halving_search_goes_on(splits, path, marks):
    with ThreadPoolExecutor(1) as one:  # with two, another order may promote one more
        first = halving_search(splits, one, path, marks)
        first.wait(20)
        n = n_fits(marks)
        assert n == first.n_done
        again = halving_search(splits, one, path, marks)
        assert again.wait(20)
    assert n_fits(marks) == n
    assert again.n_done == n
    assert again.best_params == first.best_params == {"setting": 4, "other": 1.5}
    assert [rung.scores for rung in again.rungs()] == [rung.scores for rung in first.rungs()]


@pytest.mark.parametrize("n_lost", [1, 5])
def test_a_halving_search_that_was_cut_off_goes_on(splits, threads, path, marks, n_lost):
    launch = partial(halving_search, splits, threads, path, marks)
    first = launch()
    first.wait(20)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(lines) - n_lost]))
    again = launch()
    assert again.wait(20)
    assert n_fits(marks) <= first.n_done + 2 * n_lost + N_SPLITS
    assert again.best_params == first.best_params


def test_a_halving_search_runs_only_what_is_missing_in_the_middle(splits, threads, path, marks):
    launch = partial(halving_search, splits, threads, path, marks)
    first = launch()
    first.wait(20)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], *lines[3:]]))  # without the first evaluation
    again = launch()
    assert again.wait(20)
    # With several engines, now one and now another goes up besides the best.
    before, after = (
        {(e.candidate, e.split, e.n_train) for e in search.evaluations()}
        for search in (first, again)
    )
    assert n_fits(marks) == first.n_done + 1 + len(after - before)
    assert again.best_params == first.best_params


@pytest.mark.parametrize("lost", [[2], [3, 9, 20], [5, 6, 7], range(4, 30, 5)])
def test_with_one_engine_damage_does_not_change_who_is_promoted(
    splits, path, marks, lost, monkeypatch
):
    # How many travel together depends on how fast the machine is, and so does what is promoted.
    monkeypatch.setattr(scheduler, "batch_target_s", lambda n_engines: 0.0)
    with ThreadPoolExecutor(1) as engine:
        launch = partial(halving_search, splits, engine, path, marks)
        first = launch()
        first.wait(20)
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for number, line in enumerate(lines) if number not in set(lost)]
        path.write_bytes(b"".join(kept))
        again = launch()
        assert again.wait(20)
    assert again.rungs() == first.rungs()
    assert n_fits(marks) == first.n_done + len(lines) - len(kept)


def test_curves_go_on_and_share_a_journal_with_a_search(splits, threads, path, marks):
    estimator = Marks(folder=str(marks))
    kept = {"engines": threads, "journal": path}
    curve = mscourse.learning_curve(estimator, splits, train_sizes=[100, 200, 400], **kept)
    curve.wait(20)
    again = mscourse.learning_curve(estimator, splits, train_sizes=[50, 100, 200, 400], **kept)
    assert again.n_done >= 9  # it runs already
    again.wait(20)
    assert n_fits(marks) == 12
    assert list(again.results()["test_scores"][1]) == list(curve.results()["test_scores"][0])
    values = {"param_name": "setting", "param_range": [1, 2, 3]}
    mscourse.validation_curve(estimator, splits, **values, **kept).wait(20)
    search = mscourse.grid_search(estimator, {"setting": [1, 2, 4]}, splits, **kept)
    assert search.n_done >= 2 * N_SPLITS
    search.wait(20)
    assert n_fits(marks) == 12 + 9 + 3


def test_candidates_that_are_added_are_taken_from_it_too(splits, threads, path, marks):
    estimator = Marks(folder=str(marks))
    launch = partial(mscourse.grid_search, estimator, splits=splits, engines=threads, journal=path)
    launch(GRID).wait(20)
    search = launch({"setting": [1]})
    search.wait(20)
    n_before = n_fits(marks)
    search.add({"setting": [2, 3], "other": [0.5]})  # after its end
    assert search.wait(20)
    assert search.n_done == 3 * N_SPLITS
    search.add({"setting": [7]})
    assert search.wait(20)
    assert n_fits(marks) == n_before + N_SPLITS
    assert search.n_done == search.n_total == 4 * N_SPLITS


def no_space(descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_candidates_whose_launch_failed_are_launched_by_the_next_try(
    splits, threads, path, monkeypatch
):
    search = mscourse.grid_search(Marks(), {"setting": [1]}, splits, engines=threads, journal=path)
    assert search.wait(20)
    with monkeypatch.context() as patch:
        patch.setattr(module, "flush", no_space)
        with pytest.raises(mscourse.JournalError, match="cannot be written to"):
            search.add({"setting": [1, 2]})
    with path.open("r+b") as file:
        module._lock(file, path)  # it is left to others
    assert search.wait(20)  # what was launched is done
    assert search.add({"setting": [1, 2]}) == 0  # it has them
    assert search.wait(20)
    assert search.n_done == search.n_total == 2 * N_SPLITS


def test_the_same_data_persisted_again_are_the_same(digits, threads, path, marks, tmp_path):
    X, y = digits
    for folder in ("one", "two"):
        splits = mscourse.persist_cv_splits(
            X, y, folder=tmp_path / folder, name=folder, cv=N_SPLITS, random_state=3
        )
        estimator = Marks(folder=str(marks))
        mscourse.grid_search(estimator, GRID, splits, engines=threads, journal=path).wait(20)
    assert n_fits(marks) == 24


def test_failures_stay_unless_they_are_to_be_tried_again(splits, threads, path, marks):
    estimator = Marks(folder=str(marks))
    grid = {"fails": [True, False]}
    launch = partial(mscourse.grid_search, estimator, grid, splits, engines=threads, journal=path)
    launch().wait(20)
    again = launch()
    assert again.wait(20)
    assert (again.n_failed, n_fits(marks)) == (3, 6)
    assert "told to fail" in repr(again)
    (marks / "mended").touch()
    retried = launch(retry_failed=True)
    assert retried.n_done >= 3
    assert retried.wait(20)
    assert (retried.n_failed, n_fits(marks)) == (0, 9)
    again = launch()
    assert again.wait(20)
    assert again.n_failed == 0  # what has succeeded stays
    raising = launch(error_score="raise")
    assert raising.wait(20)
    with pytest.raises(mscourse.ParameterError, match="journal="):
        mscourse.grid_search(estimator, grid, splits, engines=threads, retry_failed=True)


def test_a_failure_that_was_kept_is_raised_if_that_is_asked_for(splits, threads, path, marks):
    grid = {"fails": [True]}
    launch = partial(
        mscourse.grid_search, Marks(folder=str(marks)), grid, splits, engines=threads, journal=path
    )
    with pytest.warns(RuntimeWarning, match="3 failed: ValueError: told to fail"):
        launch().wait(20)
    with pytest.raises(mscourse.EvaluationError, match="told to fail"):
        launch(error_score="raise").wait(20)


def test_several_metrics_may_be_ranked_in_another_way_later(splits, client, path):
    grid = {"C": [0.001, 1]}
    launch = partial(
        mscourse.grid_search, SVC(), grid, splits, engines=client, journal=path,
        scoring=["accuracy", "f1_macro"],
    )  # fmt: skip
    first = launch()
    first.wait(30)
    again = launch(rank_by="f1_macro")
    assert again.n_done == again.n_total
    assert next(iter(again.evaluations()[0].test_scores)) == "f1_macro"
    for metric in ("accuracy", "f1_macro"):
        column = f"split1_test_{metric}"
        np.testing.assert_array_equal(again.results()[column], first.results()[column])


# -- what is on the disk when ----------------------------------------------------------------------


def test_an_evaluation_is_on_the_disk_before_it_is_shown(splits, threads, path, monkeypatch):
    flushed_bytes = []
    flush = module.flush

    def noted(descriptor):
        flush(descriptor)
        flushed_bytes.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(module, "flush", noted)
    seen = []
    launched = threading.Event()

    def look(evaluation):
        assert launched.wait(10)  # until there is a search to look at
        with path.open("rb") as file:
            on_disk = file.read(flushed_bytes[-1])
        content = [json.loads(line) for line in on_disk.splitlines()]
        assert any(
            line.get("params") == evaluation.params and line["split"] == evaluation.split
            for line in content
        )
        assert search.n_done <= sum("params" in line for line in content)
        seen.append(evaluation)

    search = mscourse.grid_search(
        Marks(), GRID, splits, engines=threads, journal=path, on_evaluation=look
    )
    launched.set()
    assert search.wait(20)
    assert len(seen) == 24


def test_what_ends_together_is_flushed_together(splits, client, path, monkeypatch):
    flushes = []
    flush = module.flush
    monkeypatch.setattr(module, "flush", lambda fd: (flush(fd), flushes.append(1)))
    grid = {"setting": list(range(700))}
    search = mscourse.grid_search(Marks(), grid, splits, engines=client, journal=path)
    assert search.wait(60)
    assert len(flushes) < search.n_total / 10


CLIENT = """
    import sys
    import mscourse
    from test_journal import GRID, Marks

    folder, path, marks = sys.argv[1:]
    splits = mscourse.open_splits(folder, "digits")
    with mscourse.local_cluster(2) as client:
        search = mscourse.grid_search(
            Marks(folder=marks, seconds=0.05), GRID, splits, engines=client, journal=path
        )
        print("launched", flush=True)
        search.wait()
"""


def test_a_client_that_is_killed_loses_nothing_that_was_finished(splits, threads, path, marks):
    arguments = [splits.folder.parent, path, marks]
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CLIENT), *map(str, arguments)],
        cwd=Path(__file__).parent,
        start_new_session=True,
    )
    try:
        assert wait_until(
            lambda: path.exists() and path.read_bytes().count(b'\n{"params"') >= 8, 60
        )
        refused = partial(mscourse.grid_search, Marks(folder=str(marks), seconds=0.05), GRID)
        with pytest.raises(mscourse.JournalInUseError, match=f"process {process.pid} on"):
            refused(splits, engines=threads, journal=path)
        assert mscourse.read_journal(path).n_total == 24
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert wait_until(lambda: not _running(str(marks)), 60)  # the engines end by themselves
    n_kept = n_lines(path)
    n_before = n_fits(marks)
    search = mscourse.grid_search(
        Marks(folder=str(marks), seconds=0.05), GRID, splits, engines=threads, journal=path
    )
    assert search.n_done >= n_kept >= 8
    assert search.wait(30)
    assert n_fits(marks) == n_before + 24 - n_kept
    lines = [line for line in lines_of(path) if "params" in line]
    assert len({(json.dumps(line["params"]), line["split"]) for line in lines}) == len(lines) == 24


def _running(marks):
    """Whether fits go on: somebody makes marks."""
    before = n_fits(Path(marks))
    time.sleep(0.5)
    return n_fits(Path(marks)) != before


LIMITED = """
    import resource, sys
    from concurrent.futures import ThreadPoolExecutor
    import mscourse
    from test_journal import GRID, Marks

    folder, path, limit = sys.argv[1:]
    splits = mscourse.open_splits(folder, "digits")
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), -1))
    with ThreadPoolExecutor(2) as executor:
        search = mscourse.grid_search(Marks(), GRID, splits, engines=executor, journal=path)
        try:
            search.wait(30)
        except mscourse.JournalError as error:
            print(search.n_done, error)
"""


def test_a_full_disk_is_told_and_what_was_kept_is_whole(splits, threads, path):
    # A limit on the size of files: the disk takes a part of a write and no more.
    command = [sys.executable, "-c", textwrap.dedent(LIMITED), str(splits.folder.parent), str(path)]
    ended = subprocess.run(
        [*command, "6000"], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    n_done, _, message = ended.stdout.partition(" ")
    assert "cannot be written to" in message
    assert "launch again with the same journal" in message
    content = path.read_bytes()
    assert content.endswith(b"\n")
    assert content.count(b'\n{"params"') == int(n_done) > 0
    search = mscourse.grid_search(Marks(), GRID, splits, engines=threads, journal=path)
    assert search.n_done >= int(n_done)
    assert search.wait(20)
    assert "damaged" not in repr(search)


def test_a_journal_that_is_deleted_under_the_search_is_told(splits, threads, path):
    estimator = Marks(seconds=0.05)
    search = mscourse.grid_search(estimator, GRID, splits, engines=threads, journal=path)
    path.unlink()
    with pytest.raises(mscourse.JournalError, match="has been deleted"):
        search.wait(20)
    assert search.n_done < search.n_total


# -- one writer ------------------------------------------------------------------------------------


def test_the_second_of_two_searches_is_refused_until_the_first_is_over(splits, threads, path):
    launch = partial(mscourse.grid_search, engines=threads, splits=splits, journal=path)
    first = launch(Marks(seconds=0.2), GRID)
    with pytest.raises(mscourse.JournalInUseError, match=f"process {os.getpid()} on"):
        launch(Marks(seconds=0.2), GRID)
    first.abort()
    second = launch(Marks(seconds=0.2), {"setting": [1]})
    assert second.wait(20)
    third = launch(Marks(seconds=0.2), {"setting": [2]})
    assert third.wait(20)
    second.abort()  # of what is over: nothing
    with pytest.raises(mscourse.JournalError, match="changed by another search"):
        second.add({"setting": [9]})


FORK = multiprocessing.get_context("fork")


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_forked_workers_do_not_keep_it_from_others(splits, path):
    with ProcessPoolExecutor(2, mp_context=FORK) as executor:
        launch = partial(mscourse.grid_search, engines=executor, splits=splits, journal=path)
        search = launch(Marks(), GRID)
        assert search.wait(20)
        assert search.add({"setting": [5]}) == 1
        assert search.wait(20)
        assert launch(Marks(), {"setting": [5]}).wait(20)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("what", ["leaves it alone", "closes it"])
def test_a_forked_child_neither_keeps_nor_ends_the_lock_of_its_parent(path, what):
    journal = module.open_journal(path, {"data": {}})
    is_ready = FORK.Event()

    def work():
        if what == "closes it":
            journal.close()
        is_ready.set()
        time.sleep(60)

    child = FORK.Process(target=work)
    child.start()
    try:
        assert is_ready.wait(10)
        with pytest.raises(mscourse.JournalInUseError):
            module.open_journal(path, {"data": {}})
        journal._file.close()  # without a word, as at the end of a process that is killed
        module.open_journal(path, {"data": {}}).close()
    finally:
        child.kill()
        child.join()


@pytest.mark.parametrize("error", ["no engines", "bad engines"])
def test_a_launch_that_fails_leaves_the_journal_to_others(splits, threads, path, error):
    engines = 3
    if error == "no engines":
        engines = ThreadPoolExecutor(1)
        engines.shutdown()
    launch = partial(mscourse.grid_search, Marks(), GRID, splits, journal=path)
    with pytest.raises((mscourse.MSCourseError, RuntimeError)):
        launch(engines=engines).wait(20)
    assert launch(engines=threads).wait(20)


def test_looking_into_a_journal_does_not_touch_it(splits, threads, path, capsys):
    search = mscourse.grid_search(Marks(), GRID, splits, engines=threads, journal=path)
    search.wait(20)
    path.chmod(0o400)
    before = path.stat(), path.read_bytes()
    report = mscourse.read_journal(path)
    assert (report.n_done, report.n_total, report.n_failed, report.damage) == (24, 24, 0, None)
    assert [each.params for each in report.leaders] == [s.params for s in search.best(5)]
    assert report.leaders[0].test.mean == pytest.approx(search.best(1)[0].validation.mean)
    from mscourse.cli import main

    assert main(["search", "status", str(path)]) == 0
    told = capsys.readouterr().out
    assert "100% (24/24), 1 launch" in told
    assert "{'other': 1.5, 'setting': 4}" in told
    assert (path.stat().st_mtime_ns, path.read_bytes()) == (before[0].st_mtime_ns, before[1])
    assert main(["search", "status", str(path.parent / "none")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_values_that_have_the_same_name_are_told_apart(splits, threads, path):
    estimator = Pipeline([("pca", PCA(2)), ("marks", Marks(setting=1))])
    in_pipeline = Pipeline([("marks", Marks(setting=3))])
    functions = [Marks(other=lambda: 0), Marks(other=lambda: 1)]
    described = []
    for grid in (
        {"marks": [Marks(setting=1), Marks(setting=2), SVC(), in_pipeline]},
        {"pca": [PCA(2), PCA(2, whiten=True), Pipeline([("pca", PCA(3))])]},
    ):
        search = mscourse.grid_search(estimator, grid, splits, engines=threads, journal=path)
        search.wait(20)
        described.append(str(mscourse.read_journal(path)))
        path.unlink()
    assert "{'marks': 'Marks(setting=1)'}" in described[0]
    assert "{'marks': 'Marks(setting=2)'}" in described[0]
    assert "{'marks': 'SVC'}" in described[0]
    assert "{'marks': 'Pipeline'}" in described[0]
    assert "{'pca': 'PCA(whiten=False)'}" in described[1]
    assert "{'pca': 'Pipeline'}" in described[1]
    one, other = (described_value(each) for each in functions)
    shown = as_shown(one, [one, other]), as_shown(other, [one, other])
    assert shown[0] != shown[1]
    assert all(re.fullmatch(r"Marks\(other=<lambda> [0-9a-f]{6}\)", each) for each in shown)
    steps = [described_value(Pipeline([("m", Marks(setting=i))])) for i in (1, 2)]
    assert as_shown(steps[0], steps) == "Pipeline(steps=[('m', 'Marks(setting=1)')])"


def test_a_journal_can_be_looked_into_while_it_is_written(splits, threads, path):
    estimator = Marks(seconds=0.01)
    search = mscourse.grid_search(estimator, GRID, splits, engines=threads, journal=path)
    n_done = [0]
    while not search.wait(0):
        n_done.append(mscourse.read_journal(path).n_done)
        assert mscourse.read_journal(path).damage is None
    assert n_done == sorted(n_done)
    assert mscourse.read_journal(path).n_done == 24


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scoring": "accuracy"}, r"scoring was estimator\.score, and is"),
        ({"return_train_score": False}, "return_train_score was true, and is false"),
        ({"random_state": 1}, "random_state was 0, and is 1"),
        (
            {"estimator": Marks(seconds=0.001)},
            r"estimator\.params\.seconds was 0\.0, and is 0\.001",
        ),
        ({"estimator": SVC(), "grid": {"C": [1]}}, r"was test_journal\.Marks, and is sklearn\.svm"),
    ],
)
def test_a_journal_of_other_work_is_refused_with_what_differs(splits, threads, path, change, says):
    mscourse.grid_search(Marks(), GRID, splits, engines=threads, journal=path).wait(20)
    before = path.read_bytes()
    change = {"estimator": Marks(), "grid": GRID} | change
    estimator, grid = change.pop("estimator"), change.pop("grid")
    with pytest.raises(mscourse.JournalMismatchError, match=says):
        mscourse.grid_search(estimator, grid, splits, engines=threads, journal=path, **change)
    assert path.read_bytes() == before


def test_a_journal_of_other_data_is_refused(digits, splits, threads, path, tmp_path):
    mscourse.grid_search(Marks(), GRID, splits, engines=threads, journal=path).wait(20)
    X, y = digits
    X = X.copy()
    X[17, 3] += 1e-9
    other = mscourse.persist_cv_splits(X, y, folder=tmp_path, name="digits", cv=N_SPLITS)
    with pytest.raises(
        mscourse.JournalMismatchError, match=r"data\.sha256 was .*\n.*same random_state"
    ):
        mscourse.grid_search(Marks(), GRID, other, engines=threads, journal=path)


@pytest.mark.parametrize(
    "content", [b"a,b\n1,2\n", b"hello", b"\0" * 100, b'{"format": "other"}\n']
)
def test_a_file_that_is_no_journal_is_left_as_it_is(splits, threads, path, content):
    path.write_bytes(content)
    says = f"^{re.escape(str(path))} is no journal"
    with pytest.raises(mscourse.JournalError, match=says):
        mscourse.grid_search(Marks(), GRID, splits, engines=threads, journal=path)
    assert path.read_bytes() == content
    with pytest.raises(mscourse.JournalError, match=says):
        mscourse.read_journal(path)


def test_a_pipe_is_no_journal(splits, threads, path):
    os.mkfifo(path)
    with pytest.raises(mscourse.JournalError, match="is no file that can be written anew"):
        mscourse.grid_search(Marks(), GRID, splits, engines=threads, journal=path)


@pytest.mark.parametrize("path", ["", 3, None])
def test_what_cannot_be_a_path_is_refused(path):
    with pytest.raises(mscourse.ParameterError, match="journal must be the path of a file"):
        mscourse.read_journal(path)


@pytest.mark.parametrize("journal", ["", 3, "no/such/folder/x.journal", ".", "x\0y"])
def test_what_cannot_be_a_journal_is_refused_before_anything_runs(splits, marks, journal):
    with pytest.raises(mscourse.MSCourseError, match="journal"):
        mscourse.grid_search(Marks(folder=str(marks)), GRID, splits, journal=journal)
    assert n_fits(marks) == 0


def test_a_journal_of_a_newer_version_is_refused(splits, threads, path):
    mscourse.grid_search(Marks(), GRID, splits, engines=threads, journal=path).wait(20)
    first = json.loads(path.read_bytes().splitlines()[0])
    del first["crc32"]
    first["format_version"] = 99
    path.write_bytes(module.sealed_line(first))
    says = f"^{re.escape(str(path))} is of format version 99, .* Update mscourse"
    with pytest.raises(mscourse.JournalError, match=says):
        mscourse.grid_search(Marks(), GRID, splits, engines=threads, journal=path)
    with pytest.raises(mscourse.JournalError, match=says):
        mscourse.read_journal(path)


def test_a_value_that_cannot_be_told_from_others_is_refused(splits, threads, path, marks):
    grid = {"other": [threading.Lock()]}
    with pytest.raises(mscourse.ParameterError, match="cannot tell"):
        mscourse.grid_search(
            Marks(folder=str(marks)), grid, splits, engines=threads, journal=path
        ).wait(20)
    assert n_fits(marks) == 0


# -- damage ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(splits, tmp_path_factory):
    """A whole journal, as bytes, and what its evaluations are."""
    path = tmp_path_factory.mktemp("written") / "search.journal"
    with ThreadPoolExecutor(1) as executor:
        mscourse.grid_search(Marks(), GRID, splits, engines=executor, journal=path).wait(20)
    content = path.read_bytes()
    return content, evaluations_of(path)


def evaluations_of(path):
    content = Content()
    with path.open("rb") as file:
        return {
            (json.dumps(entry.params), entry.split): entry.outcome
            for _, entry in entries(file, content)
        }


def test_a_torn_last_line_costs_itself_and_is_told(splits, threads, path, written):
    content, _ = written
    lines = content.splitlines(keepends=True)
    whole, last = b"".join(lines[:-1]), lines[-1]
    for torn in (last[:1], last[: len(last) // 2], last[:-1], last[:-1] + b"x" * 5000):
        path.write_bytes(whole + torn)
        search = mscourse.grid_search(Marks(), GRID, splits, engines=threads, journal=path)
        assert "not written to its end" in repr(search)
        assert search.wait(20)
        assert path.read_bytes().startswith(whole)
        again = mscourse.grid_search(Marks(), GRID, splits, engines=threads, journal=path)
        assert again.n_done == 24
        assert "damaged" not in repr(again)


def test_a_damaged_line_costs_itself_alone_and_is_told(splits, threads, path, written, marks):
    content, _ = written
    lines = content.splitlines(keepends=True)
    lines[7] = lines[7].replace(b'"split": ', b'"split":  ')
    path.write_bytes(b"".join(lines))
    search = mscourse.grid_search(Marks(), GRID, splits, engines=threads, journal=path)
    assert search.n_done >= 23
    assert search.wait(20)
    assert "line 8 cannot be read" in repr(search)
    assert len(scores(search)) == 24
    assert mscourse.read_journal(path).damage == "line 8 cannot be read"


def test_without_its_first_line_nothing_is_believed(splits, threads, path, written):
    content, _ = written
    path.write_bytes(content.replace(b'"data"', b'"dada"', 1))
    before = path.read_bytes()
    with pytest.raises(mscourse.JournalError, match="first line"):
        mscourse.grid_search(Marks(), GRID, splits, engines=threads, journal=path)
    assert path.read_bytes() == before


def test_a_journal_torn_in_its_first_line_begins_anew(splits, threads, path, written):
    content, _ = written
    for n_left in (0, 1, 20, 200):
        path.write_bytes(content[:n_left])
        search = mscourse.grid_search(Marks(), GRID, splits, engines=threads, journal=path)
        assert search.wait(20)
        assert len(evaluations_of(path)) == 24


RELAXED = settings(
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@RELAXED
@given(st.binary(max_size=300))
def test_any_bytes_are_an_error_or_nothing(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.journal"
    path.write_bytes(content)
    with contextlib.suppress(mscourse.JournalError):
        assert evaluations_of(path) == {}


@RELAXED
@given(st.data())
def test_damaged_bytes_never_change_what_an_evaluation_says(tmp_path_factory, written, data):
    content, known = written
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 5))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        if data.draw(st.booleans()):
            damaged[position] ^= 1 << data.draw(st.integers(0, 7))
        else:
            del damaged[position : position + data.draw(st.integers(1, 400))]
    path = tmp_path_factory.getbasetemp() / "damaged.journal"
    path.write_bytes(damaged)
    try:
        found = evaluations_of(path)
    except mscourse.JournalError:
        return
    for place, outcome in found.items():
        assert known[place] == outcome


def test_nonsense_is_told_whatever_it_is():
    assert fuzz.main(["--inputs", "2000", "--seed", "7", "journal"]) == 0


# -- what is promised of the disk, and what is refused besides -------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what a descriptor is of")
def test_a_new_journal_outlives_a_power_cut(path, monkeypatch):
    """Its first line is on the disk, and then its name."""
    flushed = []
    fsync = os.fsync

    def noted(descriptor):
        is_begun = path.stat().st_size > 0
        flushed.append((Path(f"/proc/self/fd/{descriptor}").readlink(), is_begun))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    module.open_journal(path, {"data": {}}).close()
    assert flushed == [(path, True), (path.parent, True)]


def test_where_nothing_can_be_locked_a_journal_is_refused(path, monkeypatch):
    """Else two searches might write into it, as on some file systems of a network."""

    def no_locks(descriptor, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(mscourse.JournalError, match=r"cannot be opened: .*No locks"):
        module.open_journal(path, {"data": {}})


def test_a_journal_that_was_changed_under_a_search_is_told(splits, threads, path):
    launch = partial(mscourse.grid_search, Marks(), splits=splits, engines=threads, journal=path)
    assert launch({"setting": [1, 2]}).wait(20)
    search = launch({"setting": [1]})
    assert search.wait(20)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"setting": 2', b'"setting": 3'))  # not its checksum
    with pytest.raises(mscourse.JournalError, match="was changed while it was in use"):
        search.add({"setting": [2]})


def test_nothing_is_added_to_a_search_that_has_broken(splits, threads, path):
    estimator = Marks(seconds=0.05)
    search = mscourse.grid_search(estimator, GRID, splits, engines=threads, journal=path)
    path.unlink()
    for act in (lambda: search.wait(20), lambda: search.add({"setting": [9]})):
        with pytest.raises(mscourse.JournalError, match="has been deleted"):
            act()
    assert (search.n_total, len(search.candidates)) == (24, 8)


def test_splits_that_part_elsewhere_are_other_data(digits, threads, path, tmp_path):
    """Also if all files are the same, byte for byte."""
    X, y = digits
    rows = np.arange(100)[::-1]

    def launch(n_train):
        splits = mscourse.persist_cv_splits(
            X[:100], y[:100], cv=[(rows[:n_train], rows[n_train:])], folder=tmp_path, name="d"
        )
        return mscourse.grid_search(Marks(), {}, splits, engines=threads, journal=path)

    assert launch(60).wait(20)
    with pytest.raises(mscourse.JournalMismatchError, match=r"data\.sha256"):
        launch(70)


def test_who_gets_the_metadata_is_a_part_of_the_work(digits, threads, path, tmp_path):
    X, y = digits
    splits = mscourse.persist_cv_splits(
        X, y, cv=2, folder=tmp_path, name="d", metadata={"sample_weight": np.linspace(0.1, 1, 600)}
    )

    def launch(*, in_fit, in_score):
        estimator = GaussianNB().set_fit_request(sample_weight=in_fit)
        scoring = make_scorer(accuracy_score).set_score_request(sample_weight=in_score)
        return mscourse.grid_search(
            estimator, {}, splits, engines=threads, scoring=scoring, journal=path
        )

    with sklearn.config_context(enable_metadata_routing=True):
        assert launch(in_fit=True, in_score=True).wait(20)
        with pytest.raises(mscourse.JournalMismatchError, match="score_metadata"):
            launch(in_fit=True, in_score=False)
        with pytest.raises(mscourse.JournalMismatchError, match="fit_metadata"):
            launch(in_fit=False, in_score=True)


def test_a_failure_that_has_been_mended_is_reported_as_done(splits, threads, path, marks):
    estimator, grid = Marks(folder=str(marks)), {"fails": [True, False]}
    launch = partial(mscourse.grid_search, estimator, grid, splits, engines=threads, journal=path)
    assert launch().wait(20)
    report = mscourse.read_journal(path)
    assert (report.n_done, report.n_failed) == (6, 3)
    (marks / "mended").touch()
    assert launch(retry_failed=True).wait(20)
    report = mscourse.read_journal(path)
    assert (report.n_done, report.n_failed) == (6, 0)


def test_a_line_that_is_being_written_is_no_damage(path, written):
    content, _ = written
    path.write_bytes(content + b'{"params": {"set')
    report = mscourse.read_journal(path)
    assert (report.n_done, report.damage) == (24, None)


def test_the_leaders_are_those_with_the_most_rows(splits, threads, path):
    search = mscourse.halving_search(
        Marks(), GRID, splits, min_resources=40, engines=threads, journal=path
    )
    assert search.wait(20)
    leaders = mscourse.read_journal(path).leaders
    assert {(each.n_train, each.n_splits) for each in leaders} == {(400, N_SPLITS)}
    best = [each.validation.mean for each in search.best(5)]
    assert [each.test.mean for each in leaders] == pytest.approx(best)
