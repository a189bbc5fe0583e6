"""What evaluations warn of is told at the client, as its filters of warnings want it."""

from __future__ import annotations

import json
import sys
import threading
import types
import warnings
from concurrent.futures import ThreadPoolExecutor

import cloudpickle
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

import mscourse
from mscourse import warned
from mscourse.journalreport import read_journal

X, Y = load_iris(return_X_y=True)
N_SPLITS = 3
FIRST_LINE = "ConvergenceWarning: lbfgs failed to converge"


class Talker(ClassifierMixin, BaseEstimator):
    """Warns so many times, with another message each time, and once more of something else."""

    def __init__(self, n_warnings=0, seconds=0.0):
        self.n_warnings = n_warnings
        self.seconds = seconds

    def fit(self, X, y):
        for number in range(self.n_warnings):
            warnings.warn(f"number {number}", UserWarning, stacklevel=1)
        if self.n_warnings:
            warnings.warn("y is of type int", FutureWarning, stacklevel=1)
        self.classes_ = [0]
        return self

    def score(self, X, y):
        return float(self.n_warnings)


@pytest.fixture
def splits(tmp_path):
    return mscourse.persist_cv_splits(
        X, Y, cv=StratifiedKFold(N_SPLITS), folder=tmp_path, name="iris"
    )


@pytest.fixture
def like_a_user():
    """Set the filters that Python has by itself, where these tests make errors of warnings."""
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("default")
        yield


def search_that_warns(splits, client, **options):
    grid = {"max_iter": [1, 500]}
    estimator = LogisticRegression(C=0.01)
    return mscourse.grid_search(estimator, grid, splits, engines=client, **options)


@pytest.mark.usefixtures("like_a_user")
def test_who_has_warned_is_told_at_the_end_and_in_the_report(splits, client):
    search = search_that_warns(splits, client)
    with pytest.warns(RuntimeWarning, match=f"^Of 6 evaluations 3 warned: {FIRST_LINE}"):
        assert search.wait(60)
    line = f"3 warned: {FIRST_LINE}"
    assert line in repr(search)
    assert line in search._repr_html_()
    assert "{'max_iter': 1}" in repr(search).partition(line)[2].partition("\n")[0]
    for evaluation in search.evaluations():
        assert len(evaluation.warnings) == (evaluation.params["max_iter"] == 1)
        assert all(text.startswith(FIRST_LINE) for text in evaluation.warnings)
        assert evaluation.error is None
    assert search.to_frame()["warnings"].str.len().sum() == N_SPLITS


@pytest.mark.usefixtures("like_a_user")
def test_each_evaluation_warns_anew_on_the_same_engine(splits, client):
    for _ in range(2):
        search = search_that_warns(splits, client)
        with pytest.warns(RuntimeWarning, match="3 warned"):
            search.wait(60)


@pytest.mark.usefixtures("like_a_user")
def test_what_the_client_ignores_is_not_told(splits, client):
    warnings.simplefilter("ignore", ConvergenceWarning)
    search = search_that_warns(splits, client)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert search.wait(60)
    assert "warned" not in repr(search)
    assert not any(evaluation.warnings for evaluation in search.evaluations())


@pytest.mark.usefixtures("like_a_user")
def test_what_is_an_error_at_the_client_is_one_for_the_evaluation(splits, client):
    warnings.simplefilter("error", ConvergenceWarning)
    search = search_that_warns(splits, client)
    assert search.wait(60)
    assert search.n_failed == N_SPLITS
    assert f"3 failed: {FIRST_LINE}" in repr(search)
    # And the engines are as they were.
    warnings.simplefilter("default")
    with pytest.warns(RuntimeWarning, match="3 warned"):
        search_that_warns(splits, client).wait(60)


@pytest.mark.usefixtures("like_a_user")
def test_many_different_warnings_fill_neither_engine_nor_report(splits, client):
    search = mscourse.grid_search(Talker(), {"n_warnings": [0, 10_000]}, splits, engines=client)
    with pytest.warns(RuntimeWarning) as told:
        assert search.wait(60)
    assert len(told) == 6
    assert "3 warned: UserWarning: number 0 (first: split" in str(told[0].message)
    assert "other warnings, which `to_frame` has" in str(told[-1].message)
    assert max(len(evaluation.warnings) for evaluation in search.evaluations()) == 20


@pytest.mark.usefixtures("like_a_user")
def test_a_journal_keeps_what_was_warned_of(splits, client, tmp_path):
    path = tmp_path / "warned.journal"
    search = search_that_warns(splits, client, journal=path)
    with pytest.warns(RuntimeWarning, match="3 warned"):
        search.wait(60)
    report = read_journal(path)
    assert list(report.warnings.values()) == [N_SPLITS]
    assert f"3 warned: {FIRST_LINE}" in str(report)
    again = search_that_warns(splits, client, journal=path)
    with pytest.warns(RuntimeWarning, match="3 warned"):
        again.wait(60)
    assert {e.candidate: e.warnings for e in again.evaluations()} == {
        e.candidate: e.warnings for e in search.evaluations()
    }
    # A line without a warning is written, and read, as it always was.
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sum("warnings" in line for line in lines) == N_SPLITS


@pytest.mark.usefixtures("like_a_user")
def test_curves_tell_too(splits, client):
    curve = mscourse.validation_curve(
        LogisticRegression(C=0.01),
        splits,
        param_name="max_iter",
        param_range=[1, 500],
        engines=client,
    )
    with pytest.warns(RuntimeWarning, match=f"^Of 6 evaluations 3 warned: {FIRST_LINE}"):
        assert curve.wait(60)
    assert f"3 warned: {FIRST_LINE}" in repr(curve)


@pytest.mark.usefixtures("like_a_user")
def test_with_a_limit_of_time_it_is_the_same(splits, client):
    search = search_that_warns(splits, client, timeout_s=60)
    with pytest.warns(RuntimeWarning, match="3 warned"):
        assert search.wait(60)


@pytest.mark.usefixtures("like_a_user")
def test_a_category_that_the_engines_do_not_know_is_passed_over(splits, client):
    module = types.ModuleType("only_at_the_client")
    exec("class OddWarning(UserWarning): pass", module.__dict__)
    sys.modules[module.__name__] = module
    try:
        warnings.simplefilter("ignore", module.OddWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert search_that_warns(splits, client).wait(60)
    finally:
        del sys.modules[module.__name__]


def test_filters_survive_the_journey():
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.filterwarnings("error", message="old.*", category=ConvergenceWarning, lineno=3)
        warnings.filterwarnings("ignore", module=r"mscourse\.")
        filters = cloudpickle.loads(cloudpickle.dumps(warned.current_filters()))
        assert [each.here() for each in filters] == warnings.filters


def test_threads_have_their_warnings_and_their_filters_to_themselves():
    before = list(warnings.filters)
    inside = threading.Barrier(2)

    def work():
        with warned.caught(warned.current_filters()) as found:
            inside.wait(10)
            return found

    with ThreadPoolExecutor(2) as executor:
        assert [future.result() for future in [executor.submit(work) for _ in range(2)]] == [{}, {}]
    assert warnings.filters == before


@pytest.mark.parametrize(
    ("to", "n_mb", "says"),
    [
        ("engines", 1.2, None),
        ("engines", 24.0, "each engine has a copy of"),
        ("executor", 0.6, None),
        ("executor", 1.2, "travel with each message"),
    ],
)
def test_an_estimator_that_carries_data_is_warned_of(splits, client, to, n_mb, says):
    """It is sent to each engine once; an executor takes it along each time."""
    carrier = LogisticRegression(
        class_weight={each: np.ones(int(n_mb * 1e6 / 8 / 3)) for each in range(3)}
    )
    with ThreadPoolExecutor(1) as executor, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        engines = client if to == "engines" else executor
        mscourse.grid_search(carrier, {}, splits, engines=engines).abort()
    messages = [str(each.message) for each in told if each.category is RuntimeWarning]
    if says is None:
        assert not messages
    else:
        assert len(messages) == 1
        assert f"have {n_mb:.1f} MB, which {says}" in messages[0]
