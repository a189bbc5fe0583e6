"""Searches: the same results as scikit-learn's, and an honest account while they run."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient
from scipy import sparse
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    RandomizedSearchCV,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

import mscourse
from mscourse.running import Run

PATIENCE_S = 120


class Sleeper(ClassifierMixin, BaseEstimator):
    """Takes its time, and scores what it is told to."""

    def __init__(self, seconds=0.0, score=0.5):
        self.seconds = seconds
        self.score_ = score
        self.score = lambda X, y: score

    def get_params(self, deep=True):
        return {"seconds": self.seconds, "score": self.score_}

    def set_params(self, **params):
        self.__init__(**(self.get_params() | params))
        return self

    def fit(self, X, y):
        time.sleep(self.seconds)
        return self


def of_the_script(monkeypatch, thing):
    """Let a function or a class be as if it stood in the user's own script."""
    thing.__module__, thing.__qualname__ = "__main__", thing.__name__
    monkeypatch.setattr(sys.modules["__main__"], thing.__name__, thing, raising=False)
    return thing


class Vandal(BaseEstimator):
    """Scores the sum of what it is given, and overwrites it."""

    def __init__(self, a=0):
        self.a = a

    def fit(self, X, y):
        self.sum_ = float(X.sum())
        X[:] = 0
        return self

    def score(self, X, y):
        result = self.sum_ + float(X.sum())
        X[:] = 0
        return result


class Killer(BaseEstimator):
    """Kills its engine if told to."""

    def __init__(self, kills=False):
        self.kills = kills

    def fit(self, X, y):
        if self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        return self

    def score(self, X, y):
        return 1.0


def assert_same_results(search, reference, *, tolerance=0.0):
    """The keys, types and values of scikit-learn's cv_results_, times aside."""
    ours, theirs = search.results(), reference.cv_results_
    assert list(ours) == list(theirs)
    for key, expected in theirs.items():
        if key == "params":
            assert ours[key] == expected
            continue
        assert ours[key].dtype == expected.dtype, key
        assert type(ours[key]) is type(expected), key
        if "_time" in key:
            assert ours[key].shape == expected.shape
        elif key.startswith("param_"):
            np.testing.assert_array_equal(ours[key].mask, expected.mask)
            assert ours[key].tolist() == expected.tolist()
        elif "score" in key and not key.startswith("rank"):
            np.testing.assert_allclose(ours[key], expected, rtol=0, atol=tolerance, err_msg=key)
    if not tolerance:
        np.testing.assert_array_equal(ours["rank_test_score"], theirs["rank_test_score"])


def until_some_are_done(search):
    deadline_s = time.monotonic() + PATIENCE_S
    while not search.n_done and time.monotonic() < deadline_s:
        time.sleep(0.01)


# -- equal to scikit-learn -------------------------------------------------------------------------

IRIS, CANCER, DIABETES = (
    load(return_X_y=True) for load in (load_iris, load_breast_cancer, load_diabetes)
)
SPARSE_CANCER = (sparse.csr_matrix(np.where(CANCER[0] > 20, CANCER[0], 0)), CANCER[1])
TEXT_IRIS = (IRIS[0], np.array(["setosa", "versicolor", "virginica"])[IRIS[1]])
SVC_GRID = {"C": np.logspace(-1, 2, 4), "gamma": np.logspace(-4, 0, 5)}

BIT_FOR_BIT = [
    (SVC(), SVC_GRID, IRIS, ShuffleSplit(3, random_state=0), None),
    (SVC(), [{"kernel": ["linear"]}, {"kernel": ["rbf"], "gamma": [0.1, 1]}], TEXT_IRIS,
     ShuffleSplit(2, random_state=0), None),
    (SGDClassifier(random_state=0, max_iter=5, tol=None), {"alpha": [1e-4, 1e-2]}, CANCER,
     ShuffleSplit(3, test_size=0.3, random_state=1), "f1"),
    (Ridge(), {"alpha": [0.1, 1, 10]}, DIABETES, TimeSeriesSplit(4), None),
    (Ridge(), {"alpha": [0.1, 1]}, DIABETES, TimeSeriesSplit(3, gap=2), "neg_mean_absolute_error"),
    (RandomForestClassifier(n_estimators=5, random_state=0), {"max_depth": [2, None]}, CANCER,
     ShuffleSplit(2, random_state=0), "roc_auc"),
    (make_pipeline(StandardScaler(), LogisticRegression()),
     {"logisticregression__C": [0.1, 1], "standardscaler": [StandardScaler(), "passthrough"]},
     IRIS, ShuffleSplit(2, random_state=0), None),
    (LogisticRegression(max_iter=50), {"C": [0.1, 1.0]}, SPARSE_CANCER,
     ShuffleSplit(2, random_state=0), None),
    (KMeans(n_init=1, random_state=0), {"n_clusters": [2, 3]}, (IRIS[0], None),
     ShuffleSplit(2, random_state=0), None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("estimator", "grid", "data", "cv", "scoring"),
    BIT_FOR_BIT,
    ids=[f"{type(case[0]).__name__}-{i}" for i, case in enumerate(BIT_FOR_BIT)],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_block_and_line_give_the_same_bits(tmp_path, client, estimator, grid, data, cv, scoring):
    X, y = data
    with threadpool_limits(1):  # as in the engines; more threads add in another order
        reference = GridSearchCV(
            estimator, grid, cv=cv, scoring=scoring, return_train_score=True, refit=False
        ).fit(X, y)
    splits = mscourse.persist_cv_splits(X, y, folder=tmp_path, name="d", cv=cv)
    assert splits.layout in ("block", "line")
    search = mscourse.grid_search(estimator, grid, splits, scoring=scoring, engines=client)
    assert search.wait(PATIENCE_S)
    if any("standardscaler" in params for params in search.candidates):  # estimators have no ==
        for key in ("mean_test_score", "mean_train_score", "rank_test_score"):
            np.testing.assert_array_equal(search.results()[key], reference.cv_results_[key])
    else:
        assert_same_results(search, reference)


@pytest.mark.parametrize(
    ("estimator", "grid", "data", "cv"),
    [
        (GaussianNB(), {"var_smoothing": [1e-9, 1e-3]}, CANCER, StratifiedKFold(5)),
        (KNeighborsClassifier(), {"n_neighbors": [1, 5]}, IRIS,
         KFold(4, shuffle=True, random_state=0)),
        (DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2]}, IRIS, StratifiedKFold(3)),
        (Ridge(), {"alpha": [0.1, 1, 10]}, DIABETES, KFold(5)),
    ],
    ids=["GaussianNB", "KNeighbors", "DecisionTree", "Ridge"],
)  # fmt: skip
def test_the_ring_gives_the_same_scores_where_the_order_does_not_matter(
    tmp_path, client, estimator, grid, data, cv
):
    X, y = data
    reference = GridSearchCV(estimator, grid, cv=cv, return_train_score=True).fit(X, y)
    splits = mscourse.persist_cv_splits(X, y, folder=tmp_path, name="d", cv=cv, random_state=3)
    assert splits.layout == "ring"
    search = mscourse.grid_search(estimator, grid, splits, engines=client)
    assert search.wait(PATIENCE_S)
    assert_same_results(search, reference, tolerance=1e-9)


def test_the_ring_gives_the_same_bits_for_the_same_order(digits, digits_splits, client):
    X, y = digits
    pairs = [(split.train_indices, split.test_indices) for split in digits_splits]
    grid = {"C": [1.0, 10.0], "gamma": [0.01, 0.1]}
    reference = GridSearchCV(SVC(), grid, cv=pairs, return_train_score=True).fit(X, y)
    search = mscourse.grid_search(SVC(), grid, digits_splits, engines=client)
    assert search.wait(PATIENCE_S)
    assert_same_results(search, reference)


def test_random_search_draws_what_scikit_learn_draws(tmp_path, client):
    X, y = CANCER
    cv = ShuffleSplit(2, random_state=0)
    distributions = {"alpha": loguniform(1e-6, 1), "penalty": ["l1", "l2"]}
    estimator = SGDClassifier(random_state=0, max_iter=5, tol=None)
    reference = RandomizedSearchCV(
        estimator, distributions, n_iter=7, cv=cv, random_state=5, return_train_score=True
    ).fit(X, y)
    splits = mscourse.persist_cv_splits(X, y, folder=tmp_path, name="d", cv=cv)
    search = mscourse.random_search(
        estimator, distributions, splits, n_iter=7, random_state=5, engines=client
    )
    assert search.wait(PATIENCE_S)
    assert_same_results(search, reference)
    assert search.best_params == reference.best_params_


def test_all_of_a_grid_is_drawn_in_random_order(digits_splits, client):
    """scikit-learn gives the whole grid in its order; the numbers of the candidates stay so."""

    def order(random_state):
        search = mscourse.random_search(
            Sleeper(), {"score": list(range(30))}, digits_splits, engines=client[0], n_iter=30,
            random_state=random_state, n_evaluations=60,
        )  # fmt: skip
        assert [params["score"] for params in search.candidates] == list(range(30))
        assert search.wait(PATIENCE_S)
        return list(dict.fromkeys(e.params["score"] for e in search.evaluations()))

    assert order(0) == order(0) != order(1)
    assert order(0) != sorted(order(0))


@pytest.mark.filterwarnings("ignore:::sklearn.model_selection")  # it tells of the failure
def test_groups_and_a_failing_candidate_as_in_scikit_learn(tmp_path, client):
    X, y = IRIS
    groups = np.arange(len(y)) % 7
    grid = {"var_smoothing": [1e-9, -1.0]}
    cv = GroupKFold(3)
    reference = GridSearchCV(GaussianNB(), grid, cv=cv, return_train_score=True)
    reference.fit(X, y, groups=groups)
    splits = mscourse.persist_cv_splits(X, y, folder=tmp_path, name="d", cv=cv, groups=groups)
    search = mscourse.grid_search(GaussianNB(), grid, splits, engines=client)
    assert search.wait(PATIENCE_S)
    assert_same_results(search, reference, tolerance=1e-9)
    assert search.results()["rank_test_score"].tolist() == [1, 2]


# -- while it runs ---------------------------------------------------------------------------------


def test_it_returns_at_once_and_reports_while_it_runs(digits_splits, client):
    search = mscourse.grid_search(
        Sleeper(seconds=0.1), {"score": np.arange(8) / 8}, digits_splits, engines=client
    )
    assert search.n_done < search.n_total == 40
    assert not search.wait(0.01)
    until_some_are_done(search)
    assert 0 < search.n_done < 40
    assert search.progress == search.n_done / 40
    assert "Progress: " in repr(search)
    pace = r"^\d.* evaluations a second on 2 engines, about \d\d:\d\d left$"
    assert re.search(pace, repr(search), re.M)
    assert search.wait(PATIENCE_S)
    assert (search.n_done, search.n_failed, search.progress) == (40, 0, 1.0)
    assert search.best_params == {"score": 0.875}
    assert repr(search).startswith("Progress: 100% (40/40)\n\nRank 1: validation: 0.87500 (+/-0.0")


def test_an_abort_keeps_what_is_done(digits_splits, client):
    search = mscourse.grid_search(
        Sleeper(seconds=0.1), {"score": np.arange(20) / 20}, digits_splits, engines=client
    )
    until_some_are_done(search)
    search.abort()
    n_done = search.n_done
    assert 0 < n_done < search.n_total
    assert not search.wait(5)
    assert search.n_done == n_done == len(search.evaluations())
    assert "aborted" in repr(search)
    assert len(search.results()["params"]) <= n_done
    search.abort()  # twice is no error


def test_an_abort_after_the_end_changes_nothing(digits_splits, client):
    search = mscourse.grid_search(GaussianNB(), {}, digits_splits, engines=client)
    assert search.wait(PATIENCE_S)
    search.abort()
    assert search.wait(1)
    assert "aborted" not in repr(search)


def test_a_budget_ends_the_search_with_whole_candidates(digits_splits, client):
    search = mscourse.grid_search(
        SVC(), SVC_GRID, digits_splits, engines=client, n_evaluations=10, random_state=1
    )
    assert search.n_total == 10
    assert search.wait(PATIENCE_S)
    candidates = {tuple(e.params.values()) for e in search.evaluations()}
    assert len(candidates) == 2
    assert len(search.results()["params"]) == 2


def test_the_order_of_candidates(digits_splits, client):
    def order(**arguments):
        search = mscourse.grid_search(
            Sleeper(), {"score": list(range(30))}, digits_splits, engines=client[0], **arguments
        )
        assert search.wait(PATIENCE_S)
        begun = sorted(search.evaluations(), key=lambda e: e.started_at_s)
        return [e.params["score"] for e in begun if e.split == 0]

    assert order(order="grid") == list(range(30))
    assert order() == order(random_state=0) != order(random_state=1)
    assert sorted(order()) == list(range(30))


@pytest.mark.long
def test_a_candidate_that_kills_engines_fails_and_the_others_are_done(tmp_path):
    X, y = IRIS
    splits = mscourse.persist_cv_splits(
        X, y, folder=tmp_path, name="d", cv=[(range(100), range(100, 150))]
    )
    search = mscourse.grid_search(Killer(), {"kills": [False, True]}, splits)
    assert search.wait(PATIENCE_S)
    assert search.n_failed == 1
    assert search.best_params == {"kills": False}
    assert "too little memory" in repr(search)
    assert np.isnan(search.results()["mean_test_score"][1])


def test_what_an_estimator_writes_reaches_nobody(digits_splits, client):
    search = mscourse.grid_search(Vandal(), {"a": list(range(10))}, digits_splits, engines=client)
    assert search.wait(PATIENCE_S)
    scores = search.results()["mean_test_score"]
    assert (scores == scores[0]).all()
    assert scores[0] > 0
    digits_splits.verify()


# -- failures --------------------------------------------------------------------------------------


def test_a_fit_that_raises_is_recorded_and_grouped(digits_splits, client):
    search = mscourse.grid_search(
        SVC(), {"C": [1.0, -1.0]}, digits_splits, engines=client, error_score=-7
    )
    assert search.wait(PATIENCE_S)
    failed = [e for e in search.evaluations() if e.error]
    assert len(failed) == search.n_failed == 5
    assert failed[0].error.startswith("InvalidParameterError: The 'C' parameter")
    assert "_svm" in failed[0].error_traceback or "base.py" in failed[0].error_traceback
    assert {e.test_score for e in failed} == {-7}
    assert repr(search).count("InvalidParameterError") == 1
    assert "5 failed: InvalidParameterError" in repr(search)
    assert search.best_params == {"C": 1.0}


def test_error_score_raise_ends_the_search_and_says_where(digits_splits, client):
    search = mscourse.grid_search(
        SVC(), {"C": [-1.0] * 20}, digits_splits, engines=client, error_score="raise"
    )
    with pytest.raises(mscourse.EvaluationError, match=r"(?s)'C': -1.0.*engine \d.*Traceback"):
        search.wait(PATIENCE_S)
    assert search.n_done < search.n_total
    with pytest.raises(mscourse.MSCourseError, match="no evaluation has succeeded"):
        _ = search.best_params


@pytest.mark.parametrize("timeout_s", [None, 60])
def test_values_may_be_of_the_script_alone(digits_splits, client, monkeypatch, tmp_path, timeout_s):
    class Mine(GaussianNB):
        pass

    def square(X):
        return X**2

    add = 1.0
    mine, of_script = (of_the_script(monkeypatch, each) for each in (Mine, square))
    grid = {
        "functiontransformer__func": [np.log1p, of_script, lambda X: X + add],
        "gaussiannb": [GaussianNB(), mine(), mine(var_smoothing=0.1)],
    }
    launch = partial(
        mscourse.grid_search,
        make_pipeline(FunctionTransformer(), GaussianNB()),
        grid,
        digits_splits,
        engines=client,
        timeout_s=timeout_s,
        journal=tmp_path / "journal",
    )
    search = launch()
    assert search.wait(PATIENCE_S)
    assert (search.n_done, search.n_failed) == (45, 0)
    scores = search.results()["mean_test_score"].reshape(3, 3)
    assert scores[0, 0] == scores[0, 1] != scores[0, 2]
    assert launch().n_done == 45


@pytest.mark.parametrize("wrap", [np.array, np.float32, lambda score: np.array([[score]])])
def test_a_score_may_be_a_number_in_an_array(digits_splits, client, wrap):
    def scorer(estimator, X, y):
        return wrap(0.5)

    search = mscourse.grid_search(GaussianNB(), {}, digits_splits, engines=client, scoring=scorer)
    assert search.wait(PATIENCE_S)
    assert (search.n_failed, search.best(1)[0].validation.mean) == (0, 0.5)


def test_a_score_that_is_no_number_is_an_error(digits_splits, client):
    search = mscourse.grid_search(
        GaussianNB(), {}, digits_splits, engines=client, scoring=_scores_text
    )
    with pytest.warns(RuntimeWarning, match="Of 5 evaluations 5 failed: .*must give a number"):
        assert search.wait(PATIENCE_S)
    assert search.n_failed == 5
    assert "must give a number, not score='good'" in search.evaluations()[0].error


def _scores_text(estimator, X, y):
    return "good"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"estimator": SVC}, "estimator must be an object"),
        ({"estimator": "SVC"}, "estimator must be an object"),
        ({"estimator": SVC(kernel="precomputed")}, "matrix of distances"),
        ({"param_grid": {"gama": [1]}}, "no parameter 'gama'. Did you mean 'gamma'"),
        ({"param_grid": {"C": 1}}, "not a grid"),
        ({"order": np.array(["grid"])}, "'random' or 'grid'"),
        ({"error_score": np.array([0.0])}, "must be a number or 'raise'"),
        ({"param_grid": {"C": []}}, "not a grid"),
        ({"param_grid": None}, "not a grid"),
        ({"splits": IRIS[0]}, "persist_cv_splits or open_splits"),
        ({"order": "sorted"}, "'random' or 'grid'"),
        ({"n_evaluations": 0}, "n_evaluations must be a positive integer"),
        ({"n_evaluations": 2.5}, "n_evaluations must be a positive integer"),
        ({"scoring": "acuracy"}, "acuracy"),
        ({"scoring": ["accuracy", "f11"]}, "f11"),
        ({"scoring": []}, "scoring"),
        ({"scoring": ["accuracy"], "rank_by": "f1"}, "rank_by must be one of accuracy"),
        ({"rank_by": 1}, "rank_by must be the name"),
        ({"error_score": "ignore"}, "'raise'"),
        ({"return_train_score": "yes"}, "return_train_score must be True or False, not 'yes'"),
        ({"engines": "local"}, "engines must be"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(digits_splits, arguments, says):
    given = {"estimator": SVC(), "param_grid": {"C": [1]}, "splits": digits_splits} | arguments
    with pytest.raises(mscourse.ParameterError, match=says):
        mscourse.grid_search(
            given.pop("estimator"), given.pop("param_grid"), given.pop("splits"), **given
        )


@pytest.mark.parametrize(
    ("distributions", "n_iter", "says"),
    [
        ({"C": 1}, 3, "cannot be drawn"),
        ({"C": [1]}, 0, "n_iter"),
        ({"gamm": [1]}, 1, "Did you mean"),
    ],
)
def test_bad_distributions_are_refused(digits_splits, distributions, n_iter, says):
    with pytest.raises(mscourse.ParameterError, match=says):
        mscourse.random_search(SVC(), distributions, digits_splits, n_iter=n_iter)


# -- what it gives ---------------------------------------------------------------------------------


def test_evaluations_say_what_ran_where(digits_splits, client):
    search = mscourse.grid_search(
        GaussianNB(), {"var_smoothing": [1e-9, 1e-2]}, digits_splits, engines=client
    )
    assert search.wait(PATIENCE_S)
    pids = {engine: memory.pid for engine, memory in mscourse.engines_memory(client).items()}
    for e in search.evaluations():
        assert e.pid == pids[e.engine]
        assert e.n_train == digits_splits[e.split].n_train
        assert e.fit_time_s > 0
        assert e.score_time_s > 0
        assert e.fit_time_s + e.score_time_s < e.elapsed_s < PATIENCE_S
        assert abs(e.started_at_s - time.time()) < PATIENCE_S
    frame = search.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == 10
    assert {"candidate", "param_var_smoothing", "split", "test_score", "engine"} <= set(frame)


@pytest.mark.parametrize(
    "cv",
    [KFold(5), ShuffleSplit(3, random_state=0), TimeSeriesSplit(3)],
    ids=["ring", "block", "line"],
)
def test_the_best_is_fitted_on_all_rows(tmp_path, client, cv):
    X, y = load_diabetes(return_X_y=True)
    splits = mscourse.persist_cv_splits(X, y, cv=cv, folder=tmp_path, name="diabetes")
    grid = {"alpha": [0.01, 1.0, 100.0]}
    ours = mscourse.grid_search(Ridge(), grid, splits, engines=client)
    with pytest.raises(mscourse.MSCourseError, match="no best candidate yet"):
        mscourse.grid_search(Ridge(), {"alpha": [-1]}, splits, engines=client).refit()
    assert ours.wait(PATIENCE_S)
    theirs = GridSearchCV(Ridge(), grid, cv=cv).fit(X, y)
    np.testing.assert_allclose(ours.refit().predict(X), theirs.predict(X), rtol=1e-9)


def test_rows_that_no_split_holds_cannot_be_fitted_on(tmp_path, client):
    splits = mscourse.persist_cv_splits(
        *IRIS, cv=ShuffleSplit(2, train_size=0.3, test_size=0.2), folder=tmp_path, name="part"
    )
    search = mscourse.grid_search(GaussianNB(), {}, splits, engines=client)
    assert search.wait(PATIENCE_S)
    with pytest.raises(mscourse.SplitsError, match=r"Of 150 rows, the splits hold \d+"):
        search.refit()


def two_metrics(estimator, X, y):
    predicted = estimator.predict(X)
    return {"hits": float(np.mean(predicted == y)), "bias": float(np.mean(predicted - y))}


@pytest.mark.parametrize(
    ("scoring", "rank_by"),
    [
        (["balanced_accuracy", "neg_log_loss"], "neg_log_loss"),
        ({"log": "neg_log_loss", "f1": "f1_macro"}, "f1"),
        (two_metrics, "hits"),
    ],
)
def test_several_metrics_as_in_scikit_learn(tmp_path, client, scoring, rank_by):
    X, y = IRIS
    cv = ShuffleSplit(3, random_state=0)
    grid = {"var_smoothing": [1e-9, 1e-1, 1.0]}
    ours = mscourse.grid_search(
        GaussianNB(),
        grid,
        mscourse.persist_cv_splits(X, y, cv=cv, folder=tmp_path, name="iris"),
        engines=client,
        scoring=scoring,
        rank_by=rank_by,
    )
    assert ours.wait(PATIENCE_S)
    theirs = GridSearchCV(
        GaussianNB(), grid, cv=cv, scoring=scoring, refit=rank_by, return_train_score=True
    ).fit(X, y)
    assert ours.best_params == theirs.best_params_
    assert ours.best(1)[0].validation.mean == pytest.approx(theirs.best_score_)
    results = ours.results()
    assert set(results) == set(theirs.cv_results_)
    for key in results:
        if "test" in key or "train" in key:
            np.testing.assert_array_equal(results[key], theirs.cv_results_[key], err_msg=key)
    (other,) = {key.removeprefix("rank_test_") for key in results if "rank" in key} - {rank_by}
    assert f"Ranked by {rank_by}; also {other}" in repr(ours)
    assert {f"test_{rank_by}", f"train_{other}"} <= set(ours.to_frame())


def test_the_only_metric_may_be_named_to_rank(digits_splits):
    with ThreadPoolExecutor(1) as threads:
        for rank_by in ("f1_macro", "score"):
            search = mscourse.grid_search(
                *(GaussianNB(), {}, digits_splits),
                engines=threads,
                scoring="f1_macro",
                rank_by=rank_by,
            )
            assert search.wait(PATIENCE_S)
            assert search.n_failed == 0
            assert "mean_test_score" in search.results()


@pytest.mark.parametrize("kind", [set, frozenset])
def test_the_metrics_of_a_set_come_in_the_order_of_their_names(digits_splits, kind):
    """Strings are hashed anew in each process, and a set has the order of the hashes."""
    names = ["accuracy", "balanced_accuracy", "f1_macro", "neg_log_loss", "recall_macro"]
    with ThreadPoolExecutor(1) as threads:
        search = mscourse.grid_search(
            *(GaussianNB(), {}, digits_splits),
            engines=threads,
            scoring=kind(names),
            rank_by="f1_macro",
        )
        assert search.wait(PATIENCE_S)
        assert list(search.evaluations()[0].test_scores) == [
            "f1_macro", *(name for name in names if name != "f1_macro")
        ]  # fmt: skip
        alone = mscourse.grid_search(
            GaussianNB(), {}, digits_splits, engines=threads, scoring=kind({"accuracy"})
        )
        assert alone.wait(PATIENCE_S)
    assert list(alone.evaluations()[0].test_scores) == ["accuracy"]


def test_a_metric_that_is_not_computed_cannot_rank(digits_splits, client):
    search = mscourse.grid_search(
        GaussianNB(), {}, digits_splits, engines=client, scoring=two_metrics, rank_by="f1"
    )
    with pytest.warns(RuntimeWarning, match="Of 5 evaluations 5 failed"):
        assert search.wait(PATIENCE_S)
    assert search.n_failed == 5
    assert "scoring gives hits, bias, but not 'f1' to rank by" in repr(search)


def test_a_failed_evaluation_has_the_error_score_in_all_metrics(digits_splits, client):
    for scoring in (["accuracy", "f1_macro"], two_metrics):
        search = mscourse.grid_search(
            SVC(),
            {"C": [1.0, -1.0]},
            digits_splits,
            engines=client,
            scoring=scoring,
            error_score=-7,
        )
        assert search.wait(PATIENCE_S)
        results = search.results()
        failed = [params["C"] for params in results["params"]].index(-1.0)
        scores = [results[key][failed] for key in results if key.startswith("mean_test")]
        assert scores == [-7, -7]


@pytest.mark.parametrize("rank_by", ["accuracy", "picky"])
@pytest.mark.parametrize("pipeline", [False, True])
def test_a_metric_that_raises_leaves_the_others(digits_splits, client, tmp_path, rank_by, pipeline):
    """As `cross_validate` does it."""
    estimator, name = SVC(), "C"
    if pipeline:
        estimator, name = make_pipeline(StandardScaler(), SVC()), "svc__C"

    def picky(estimator, X, y):
        if estimator.get_params()[name] == 10:
            raise ValueError("not this one:\n  10")
        return 0.25

    launch = partial(
        mscourse.grid_search,
        estimator,
        {name: [1, 10]},
        digits_splits,
        engines=client,
        scoring={"accuracy": "accuracy", "picky": picky},
        rank_by=rank_by,
        error_score=-7,
        journal=tmp_path / "journal",
    )
    search = launch()
    assert search.wait(PATIENCE_S)
    assert search.n_failed == 5
    assert "5 failed: ValueError: not this one:\n  10 (metric: picky)" in repr(search)
    again = launch()
    assert again.wait(PATIENCE_S)
    theirs = GridSearchCV(
        estimator, {name: [1, 10]}, scoring="accuracy", cv=digits_splits.as_cv()[2]
    ).fit(*digits_splits.as_cv()[:2])
    for each in (search, again):
        results = each.results()
        assert results["mean_test_picky"].tolist() == [0.25, -7]
        assert results["mean_train_picky"].tolist() == [0.25, -7]
        np.testing.assert_allclose(
            results["mean_test_accuracy"], theirs.cv_results_["mean_test_score"], atol=1e-12
        )
        failed = next(e for e in each.evaluations() if e.error)
        assert failed.error_traceback.startswith("Traceback")
        assert next(iter(failed.test_scores)) == rank_by
    leaders = mscourse.read_journal(tmp_path / "journal").leaders
    assert [each.params for each in leaders] == [
        each.params for each in search.best(2) if rank_by == "accuracy" or each.params[name] == 1
    ]


def test_if_all_metrics_raise_the_error_is_that_of_one(digits_splits, client):
    def fails(estimator, X, y):
        raise ValueError("never")

    search = mscourse.grid_search(
        SVC(), {"C": [1]}, digits_splits, engines=client, scoring={"a": fails, "b": fails}
    )
    with pytest.warns(RuntimeWarning, match="Of 5 evaluations 5 failed: ValueError: never"):
        assert search.wait(PATIENCE_S)
    assert {e.error for e in search.evaluations()} == {"ValueError: never"}
    assert np.isnan(search.results()["mean_test_b"]).all()
    halving = mscourse.halving_search(
        SVC(), {"C": [1, 2, 3]}, digits_splits, engines=client,
        scoring={"accuracy": "accuracy", "b": fails},
    )  # fmt: skip
    with pytest.warns(RuntimeWarning, match="failed"):  # each lacks a metric
        assert halving.wait(PATIENCE_S)
    assert halving.best(1)[0].validation.mean > 0.5
    raising = mscourse.grid_search(
        SVC(), {}, digits_splits, engines=client,
        scoring={"accuracy": "accuracy", "b": fails}, error_score="raise",
    )  # fmt: skip
    with pytest.raises(mscourse.EvaluationError, match=r"never \(metric: b\)"):
        raising.wait(PATIENCE_S)


def test_data_that_are_damaged_are_no_fault_of_a_metric(digits_splits, client):
    def reads_what_is_gone(estimator, X, y):
        raise mscourse.DamagedSplitsError("X.npy is gone")

    search = mscourse.grid_search(
        SVC(), {}, digits_splits, engines=client,
        scoring={"accuracy": "accuracy", "b": reads_what_is_gone},
    )  # fmt: skip
    with pytest.raises(mscourse.DamagedSplitsError, match=r"^On .*: X\.npy is gone$"):
        search.wait(PATIENCE_S)
    assert search.n_failed == 0


def test_train_scores_can_be_left_out(digits_splits, client):
    search = mscourse.grid_search(
        GaussianNB(), {}, digits_splits, engines=client, return_train_score=False
    )
    assert search.wait(PATIENCE_S)
    assert not [key for key in search.results() if "train" in key]
    assert "train" not in repr(search)
    assert "train" not in str(search.best()[0])


def test_the_html_report_is_a_table_and_escapes(digits_splits, client):
    search = mscourse.grid_search(
        Sleeper(), {"score": [0.25, 0.75], "seconds": [0.0]}, digits_splits, engines=client
    )
    assert search.wait(PATIENCE_S)
    page = search._repr_html_()
    assert page.count("<tr>") == 3
    assert page.index("0.75000") < page.index("0.25000")
    failing = mscourse.grid_search(SVC(), {"kernel": ["<b>"]}, digits_splits, engines=client)
    with pytest.warns(RuntimeWarning, match="5 failed"):  # however each engine writes sets
        assert failing.wait(PATIENCE_S)
    assert "<b>" not in failing._repr_html_()
    assert "&lt;b&gt;" in failing._repr_html_()


def test_the_progress_bar_fills(digits_splits, client, capsys):
    search = mscourse.grid_search(GaussianNB(), {}, digits_splits, engines=client)
    assert search.wait(PATIENCE_S, progress_bar=True)
    assert "5/5" in capsys.readouterr().err
    assert search.wait(PATIENCE_S)  # no terminal here: no bar
    assert capsys.readouterr().err == ""


WATCH = """
from concurrent.futures import ThreadPoolExecutor
from sklearn.naive_bayes import GaussianNB
import mscourse

splits = mscourse.open_splits({folder!r}, "digits")
grid = {{"var_smoothing": [1e-9, 1e-5, 1e-1]}}
with ThreadPoolExecutor(1) as executor:
    search = mscourse.grid_search(GaussianNB(), grid, splits, engines=executor)
    print(search.watch(period_s=0.01))
"""


def test_a_notebook_watches_one_report_that_is_renewed(digits_splits):
    source = WATCH.format(folder=str(digits_splits.folder.parent))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    NotebookClient(notebook, timeout=PATIENCE_S, kernel_name="python3").execute()
    shown, printed = notebook.cells[0].outputs
    assert "Progress: 100% (15/15)" in shown["data"]["text/html"]
    assert printed["text"] == "True\n"


def test_to_watch_ends_when_there_are_no_engines_for_long(monkeypatch):
    class Alone:
        _check_engines, n_total, n_done = Run._check_engines, 5, 1

        @property
        def _scheduler(self):
            return self

        def wait(self, period_s):
            return False

        def without_engines(self):
            return PATIENCE_S + 1, "Start some."

    monkeypatch.setattr("mscourse.running.get_ipython", lambda: SimpleNamespace(kernel=1))
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: None)
    with pytest.raises(mscourse.NoEnginesError, match="Start some"):
        Run.watch(Alone())


def test_to_watch_in_a_terminal_is_to_wait(digits_splits, client, monkeypatch):
    monkeypatch.setattr("mscourse.running.get_ipython", lambda: SimpleNamespace())
    search = mscourse.grid_search(GaussianNB(), {}, digits_splits, engines=client)
    assert search.watch()
    assert search.n_done == 5


class Aliased(GaussianNB):
    """Takes its parameter under another name too, as some libraries do."""

    def set_params(self, **params):
        if "smoothing" in params:
            params["var_smoothing"] = params.pop("smoothing")
        return super().set_params(**params)


def test_parameters_that_scikit_learn_takes_are_taken(digits_splits, client):
    deep = TransformedTargetRegressor(Pipeline([("m", LinearRegression())]))
    grid = {"regressor__m": [Ridge()], "regressor__m__alpha": [1.0, 2.0]}
    for estimator, param_grid in ((deep, grid), (Aliased(), {"smoothing": [1e-9, 1e-2]})):
        search = mscourse.grid_search(estimator, param_grid, digits_splits, engines=client)
        assert search.wait(60)
        assert search.n_failed == 0
        assert len(set(search.results()["mean_test_score"])) == 2
    with pytest.raises(mscourse.ParameterError, match="no parameter 'smooth'"):
        mscourse.grid_search(Aliased(), {"smooth": [1]}, digits_splits, engines=client)
