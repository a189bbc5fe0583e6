"""scikit-learn's search classes on engines: the same results, with and without persisted splits."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sklearn
import sklearn.model_selection
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge, SGDClassifier
from sklearn.model_selection import (
    GroupKFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
    cross_val_score,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC

import mscourse
from mscourse.engines import ask_engines
from mscourse.sklearn import GridSearchCV, RandomizedSearchCV


def assert_same(ours, theirs, X):
    assert ours.cv_results_.keys() == theirs.cv_results_.keys()
    for key, expected in theirs.cv_results_.items():
        if "_time" not in key:
            np.testing.assert_array_equal(ours.cv_results_[key], expected, err_msg=key)
    assert ours.best_index_ == theirs.best_index_
    assert ours.best_params_ == theirs.best_params_
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


def digits_data():
    X, y = sklearn.datasets.load_digits(return_X_y=True)
    return X[:600], y[:600]


def frame_data():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    return X, y


def sparse_data():
    X, y = digits_data()
    return sparse.csr_matrix(X), y


def text_labels():
    X, y = digits_data()
    return X.tolist(), [f"digit {each}" for each in y]


def least_complex(results):
    return int(np.argmax(results["mean_test_f1_macro"]))


SGD = make_pipeline(StandardScaler(with_mean=False), SGDClassifier(random_state=0))


@pytest.mark.parametrize(
    ("estimator", "grid", "data", "options"),
    [
        (SVC(), {"C": [1, 10], "gamma": [1e-4, 1e-3]}, digits_data, {"return_train_score": True}),
        (SGD, {"sgdclassifier__alpha": [1e-4, 1e-2]}, sparse_data, {"cv": 4}),
        (SGD, {"sgdclassifier__penalty": ["l1", "l2"]}, frame_data, {"cv": StratifiedKFold(3)}),
        (GaussianNB(), {"var_smoothing": [1e-9, 1e-1]}, text_labels, {"cv": ShuffleSplit(3)}),
        (
            GaussianNB(),
            {"var_smoothing": [1e-9, 1e-1]},
            digits_data,
            {"scoring": ["accuracy", "f1_macro"], "refit": least_complex},
        ),
        (
            Ridge(),
            [{"alpha": [1, 10]}, {"alpha": [1], "fit_intercept": [False]}],
            lambda: load_diabetes(return_X_y=True),
            {"scoring": {"r2": "r2", "mae": "neg_mean_absolute_error"}, "refit": "mae"},
        ),
    ],
)
def test_a_grid_search_is_scikit_learns_bit_for_bit(client, estimator, grid, data, options):
    X, y = data()
    searches = [
        each.fit(X, y)
        for each in (
            GridSearchCV(estimator, grid, engines=client, **seeded(options)),
            sklearn.model_selection.GridSearchCV(estimator, grid, **seeded(options)),
        )
    ]
    assert_same(*searches, X)


def seeded(options):
    """Give a random splitter a generator of its own, which two searches must not share."""
    if isinstance(options.get("cv"), ShuffleSplit):
        return {**options, "cv": ShuffleSplit(3, random_state=np.random.RandomState(0))}
    return options


def test_a_random_search_is_scikit_learns_bit_for_bit(client):
    X, y = digits_data()
    options = {"n_iter": 6, "random_state": 5, "cv": 3}
    distributions = {"C": scipy.stats.loguniform(1e-2, 1e3), "kernel": ["rbf", "linear"]}
    ours = RandomizedSearchCV(SVC(), distributions, engines=client, **options)
    theirs = sklearn.model_selection.RandomizedSearchCV(SVC(), distributions, **options)
    assert_same(ours.fit(X, y), theirs.fit(X, y), X)


def test_weights_and_groups_go_the_same_ways(client):
    X, y = digits_data()
    rng = np.random.default_rng(0)
    weight, groups = rng.random(len(y)), rng.integers(0, 12, len(y))
    grid = {"alpha": [1e-4, 1e-2]}
    for routing in (False, True):
        with sklearn.config_context(enable_metadata_routing=routing):
            estimator = SGDClassifier(random_state=0)
            scoring = sklearn.metrics.make_scorer(sklearn.metrics.accuracy_score)
            if routing:
                estimator.set_fit_request(sample_weight=True)
                scoring.set_score_request(sample_weight=True)
            options = {"scoring": scoring, "cv": GroupKFold(4)}
            searches = [
                each.fit(X, y, sample_weight=weight, groups=groups)
                for each in (
                    GridSearchCV(estimator, grid, engines=client, **options),
                    sklearn.model_selection.GridSearchCV(estimator, grid, **options),
                )
            ]
            assert_same(*searches, X)


class Witness(ClassifierMixin, BaseEstimator):
    """Scores with what is asked for: where it runs, what its data are."""

    def __init__(self, what="pid", i=0):
        self.what = what
        self.i = i

    def fit(self, X, y=None, sample_weight=None):
        self.classes_ = np.unique(y)
        self.fit_pid_ = os.getpid()
        if self.what == "overwrite":
            self.total_ = float(X.sum())
            X[:] = 0
        elif self.what == "sleep":
            time.sleep(0.1)
        elif self.what == "fail":
            raise KeyError("as told")
        elif self.what == "speak":
            sys.stdout.write("spoken on an engine\n")
            warnings.warn("warned on an engine", ConvergenceWarning, stacklevel=1)
        elif self.what == "weight":
            self.total_ = float(sample_weight @ X[:, 0])
        elif self.what == "memory":
            X.sum()
            self.total_ = mscourse.process_memory().anonymous_bytes
        return self

    def predict(self, X):
        return np.full(X.shape[0], self.classes_[0])

    def score(self, X, y=None, sample_weight=None):
        if self.what == "pid":
            return os.getpid()
        if self.what == "mapped":
            base = X
            while isinstance(base, np.ndarray):
                base = base.base
            return float(type(base).__name__ == "mmap")
        return getattr(self, "total_", self.i)


def test_evaluations_run_on_the_engines_and_the_refit_here(client):
    X, y = digits_data()
    search = GridSearchCV(Witness(), {"i": range(8)}, cv=3, engines=client).fit(X, y)
    pids = {search.cv_results_[f"split{i}_test_score"][j] for i in range(3) for j in range(8)}
    # On a busy machine one engine may have done all of them before the other has begun.
    assert pids <= set(ask_engines(client, os.getpid).values())
    assert search.best_estimator_.fit_pid_ == os.getpid()
    alone = GridSearchCV(Witness(), {"i": [0]}, engines=client, n_jobs=1).fit(X, y)
    assert alone.best_score_ == os.getpid()


# -- persisted splits ------------------------------------------------------------------------------


def persist(X, y, **options):
    return mscourse.persist_cv_splits(X, y, folder=None, name="data", random_state=0, **options)


@pytest.mark.parametrize(
    ("cv", "layout"),
    [(5, "ring"), (TimeSeriesSplit(4), "line"), (ShuffleSplit(3, random_state=0), "block")],
)
@pytest.mark.parametrize("data", [digits_data, sparse_data])
def test_with_splits_it_is_scikit_learns_with_their_rows(client, data, cv, layout):
    X, y = data()
    weight = np.random.default_rng(0).random(len(y))
    grid = {"alpha": [1e-4, 1e-2]}
    with persist(X, y, cv=cv) as splits:
        assert splits.layout == layout
        pairs = [(each.train_indices, each.test_indices) for each in splits]
        theirs = sklearn.model_selection.GridSearchCV(SGDClassifier(random_state=0), grid, cv=pairs)
        ours = GridSearchCV(SGDClassifier(random_state=0), grid, engines=client, splits=splits)
        for params in ({}, {"sample_weight": weight}):
            assert_same(ours.fit(X, y, **params), theirs.fit(X, y, **params), X)
            assert ours.n_splits_ == len(splits)
            assert ours.cv is None
            # The refit sees the rows in another order; the evaluations do not.
            ours.fit(**params)
            for key in ("mean_test_score", "std_test_score", "rank_test_score"):
                np.testing.assert_array_equal(ours.cv_results_[key], theirs.cv_results_[key])
            assert ours.score(X, y) == pytest.approx(theirs.score(X, y), abs=0.05)


def test_parameters_of_each_row_follow_their_rows(client):
    X, y = digits_data()
    X[:, 0] = np.arange(len(y))
    weight = np.random.default_rng(0).random(len(y))
    with persist(X, y) as splits:
        search = GridSearchCV(Witness("weight"), {"i": [0]}, engines=client, splits=splits)
        for args in ((X, y), ()):
            for weights in (weight, list(weight)):
                search.fit(*args, sample_weight=weights)
                assert search.best_estimator_.total_ == pytest.approx(weight @ X[:, 0])
                for i, split in enumerate(splits):
                    expected = weight[split.train_indices] @ X[split.train_indices, 0]
                    assert search.cv_results_[f"split{i}_test_score"][0] == pytest.approx(expected)


def test_persisted_metadata_are_parameters_where_the_data_come_from_the_splits(client):
    X, y = digits_data()
    weight = np.random.default_rng(0).random(len(y))
    with persist(X, y, metadata={"sample_weight": weight}) as splits:
        search = GridSearchCV(Witness("weight"), {"i": [0]}, engines=client, splits=splits)
        assert search.fit().best_estimator_.total_ == pytest.approx(weight @ X[:, 0])
        expected = [weight[each.train_indices] @ X[each.train_indices, 0] for each in splits]
        assert search.best_score_ == pytest.approx(np.mean(expected))


def mixed_frame(library):
    rng = np.random.default_rng(0)
    columns = {
        "length": [1.5, float("nan"), *rng.random(298)],
        "count": rng.integers(0, 9, 300),
        "colour": rng.choice(["red", "green"], 300),
    }
    return pytest.importorskip(library).DataFrame(columns)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_and_text_come_from_splits_as_what_they_are(client, library):
    X = mixed_frame(library)
    y = np.arange(300) % 2
    columns = make_column_transformer(
        (OneHotEncoder(), ["colour"]), (SimpleImputer(), ["length", "count"])
    )
    assert_same_from_splits(client, make_pipeline(columns, GaussianNB()), X, y)
    text = [f"{colour} and {i % 7}" for i, colour in enumerate(X["colour"])]
    assert_same_from_splits(client, make_pipeline(TfidfVectorizer(), LinearSVC()), text, y)


def assert_same_from_splits(client, estimator, X, y):
    with persist(X, y) as splits:
        pairs = [(each.train_indices, each.test_indices) for each in splits]
        theirs = sklearn.model_selection.GridSearchCV(estimator, {}, cv=pairs).fit(X, y)
        ours = GridSearchCV(estimator, {}, engines=client, splits=splits)
        assert_same(ours.fit(X, y), theirs, X)
        assert ours.fit().best_score_ == theirs.best_score_
        with pytest.raises(mscourse.ParameterError, match="X is not what was persisted"):
            ours.fit(X[::-1], y)


def test_an_evaluation_with_splits_copies_no_row(client):
    rng = np.random.default_rng(0)
    # 48 MB: what a set takes is more than the C library keeps for later when it is freed.
    X, y = rng.random((60_000, 100)), rng.integers(0, 2, 60_000)
    with persist(X, y) as splits:
        mapped = GridSearchCV(Witness("mapped"), {"i": [0]}, engines=client, splits=splits)
        assert mapped.fit(X, y).best_score_ == 1
        assert GridSearchCV(Witness("mapped"), {"i": [0]}, engines=client).fit(X, y).best_score_ < 1
        if sys.platform != "linux":
            pytest.skip("only Linux tells which memory is a process's own")
        before = max(memory.anonymous_bytes for memory in mscourse.engines_memory(client).values())
        search = GridSearchCV(Witness("memory"), {"i": range(2)}, engines=client)
        without_copies, with_copies = (
            max(clone(search).set_params(splits=each).fit(X, y).cv_results_["mean_test_score"])
            for each in (splits, None)
        )
        assert without_copies - before < X.nbytes / 8
        assert with_copies - before > X.nbytes / 2


def test_what_an_estimator_writes_into_persisted_rows_is_seen_nowhere_else(client):
    X, y = digits_data()
    with persist(X, y) as splits:
        search = GridSearchCV(Witness("overwrite"), {"i": range(6)}, engines=client, splits=splits)
        search.fit(X.copy(), y)
        for i, split in enumerate(splits):
            totals = search.cv_results_[f"split{i}_test_score"]
            assert set(totals) == {X[split.train_indices].sum()}
        splits.verify()


def test_splits_that_do_not_fit_are_refused(client, digits, digits_splits):
    X, y = digits
    grid = {"C": [1]}

    def fit(*args, estimator=None, splits=digits_splits, cv=None, **params):
        search = GridSearchCV(estimator or SVC(), grid, engines=client, splits=splits, cv=cv)
        search.fit(*args, **params)

    for args, match in [
        ((X[:-1], y[:-1]), "X has 599 rows, but the splits 'digits' are of 600"),
        ((X[::-1], y), "X is not what was persisted as 'digits'"),
        ((X[:, :3], y), "X is not what was persisted"),
        ((X, y[::-1]), "y is not what was persisted"),
        ((X, [str(each) + "?" for each in y]), "y is not what was persisted"),
        ((X,), "or neither"),
        ((None, y), "or neither"),
    ]:
        with pytest.raises(mscourse.ParameterError, match=match):
            fit(*args)
    with pytest.raises(mscourse.ParameterError, match="exclude each other"):
        fit(X, y, cv=3)
    with pytest.raises(mscourse.ParameterError, match="groups belong to persist_cv_splits"):
        fit(X, y, groups=y)
    with pytest.raises(mscourse.ParameterError, match="distances or a kernel"):
        fit(X, y, estimator=SVC(kernel="precomputed"))
    with pytest.raises(ValueError, match="square kernel matrix"):
        GridSearchCV(SVC(), {"kernel": ["precomputed"]}, engines=client, splits=digits_splits).fit()
    with pytest.raises(mscourse.ParameterError, match="must come from persist_cv_splits"):
        fit(X, y, splits=[1])
    with pytest.raises(mscourse.ParameterError, match="fit needs X"):
        fit(splits=None)


# -- engines ---------------------------------------------------------------------------------------


def test_an_engine_may_die_in_the_middle():
    X, y = digits_data()
    with mscourse.local_cluster(2) as client:
        pids = ask_engines(client, os.getpid)
        threading.Timer(0.7, os.kill, (pids[0], signal.SIGKILL)).start()
        search = GridSearchCV(Witness("sleep"), {"i": range(8)}, cv=3, engines=client).fit(X, y)
        assert client.ids == [1]
    assert list(search.cv_results_["mean_test_score"]) == list(range(8))


def test_without_engines_a_cluster_is_started_for_the_fit():
    X, y = digits_data()
    search = GridSearchCV(Witness(), {"i": range(6)}, n_jobs=2).fit(X, y)
    pids = {int(each) for each in search.cv_results_["split0_test_score"]}
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2
    with pytest.raises(ProcessLookupError):
        os.kill(pids.pop(), 0)


@pytest.mark.parametrize(("n_jobs", "n_engines"), [(-1, 3), (-2, 2), (-9, 1), (2, 2), (None, None)])
def test_the_cluster_of_a_fit_has_as_many_engines_as_there_are_jobs(
    client, monkeypatch, n_jobs, n_engines
):
    """A negative number counts from the number of cores, as in joblib."""
    asked_for = []

    def cluster(n):
        asked_for.append(n)
        return nullcontext(client)

    monkeypatch.setattr(mscourse.sklearn, "local_cluster", cluster)
    monkeypatch.setattr(mscourse.sklearn, "usable_cores", lambda: 3)
    GridSearchCV(Witness(), {"i": [0]}, cv=2, n_jobs=n_jobs).fit(*digits_data())
    assert asked_for == [n_engines]


class Refers(ClassifierMixin, BaseEstimator):
    """Scores the sum of one of its parameters, an array."""

    def __init__(self, reference=None):
        self.reference = reference

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def score(self, X, y):
        return float(self.reference.sum())


def test_the_data_may_be_a_parameter_too(client):
    """What stands for the data of a search in its messages does not stand for the parameter."""
    X, y = digits_data()
    with persist(X, y) as splits:
        grid = {"reference": [X]}
        search = GridSearchCV(Refers(), grid, engines=client, splits=splits).fit(X, y)
    assert search.best_score_ == X.sum()


def test_without_engines_joblib_decides_where_it_has_been_told(client):
    X, y = digits_data()
    search = GridSearchCV(Witness(), {"i": [0]}, cv=2)
    assert clone(search).set_params(n_jobs=1).fit(X, y).best_score_ == os.getpid()
    with joblib.parallel_config("threading", n_jobs=2):
        assert search.fit(X, y).best_score_ == os.getpid()
    with joblib.parallel_config("mscourse", engines=client):
        assert search.fit(X, y).best_score_ != os.getpid()
        # Here the search itself runs on an engine, where it must not start a cluster.
        on_engine = cross_val_score(search, X, y, cv=2)
    assert set(on_engine) <= set(ask_engines(client, os.getpid).values())


def test_an_executor_will_do_and_a_number_will_not():
    X, y = digits_data()
    with ThreadPoolExecutor(2) as executor:
        search = GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9, 1e-1]}, engines=executor)
        assert search.fit(X, y).best_score_ > 0.7
    with pytest.raises(mscourse.ParameterError, match="engines must be"):
        GridSearchCV(GaussianNB(), {}, engines=4).fit(X, y)


def test_a_clone_keeps_the_engines_and_a_pickle_does_not(client, digits_splits):
    X, y = digits_data()
    search = GridSearchCV(SVC(), {"C": [1, 10]}, engines=client).fit(X, y)
    assert clone(search).engines is client
    assert search.get_params()["engines"] is client
    assert "engines=<" in repr(search)
    assert search._repr_html_()
    for other in (pickle.loads(pickle.dumps(search)), copy.deepcopy(search), copy.copy(search)):
        assert other.engines is None
        np.testing.assert_array_equal(other.predict(X), search.predict(X))
    assert search.engines is client
    with_splits = GridSearchCV(SVC(), {"C": [1]}, splits=digits_splits)
    assert clone(with_splits).splits is digits_splits
    assert pickle.loads(pickle.dumps(with_splits)).splits.token == digits_splits.token
    assert_same(search.fit(X, y), clone(search).fit(X, y), X)


def test_a_fitted_search_is_used_where_its_data_are_not(client):
    X, y = digits_data()
    with persist(X, y) as splits:
        search = GridSearchCV(GaussianNB(), {}, engines=client, splits=splits).fit(X, y)
        expected = search.predict(X)
        sent = pickle.dumps(search)
        assert len(sent) < X.nbytes / 4
        assert clone(search).splits is splits
    np.testing.assert_array_equal(pickle.loads(sent).predict(X), expected)


def test_data_are_known_again_whatever_they_are_given_as(client):
    days = pd.DataFrame({"day": pd.to_datetime(["2026-01-01", None, "2026-01-03"] * 20)})
    target = pd.DataFrame({"y": [0, 1, 1] * 20})
    with persist(days, target) as splits:
        GridSearchCV(DummyClassifier(), {}, engines=client, splits=splits).fit(days, target)
        with pytest.raises(mscourse.ParameterError, match="y is not what was persisted"):
            GridSearchCV(DummyClassifier(), {}, engines=client, splits=splits).fit(days, 1 - target)


@pytest.mark.parametrize("told", [{"n_jobs": 1}, {"n_jobs": 1, "backend": "loky"}])
def test_one_job_needs_no_cluster(told, monkeypatch):
    data = digits_data()
    monkeypatch.setattr(mscourse.sklearn, "local_cluster", None)
    with joblib.parallel_config(**told):
        GridSearchCV(GaussianNB(), {}).fit(*data)
    with pytest.raises(ValueError, match="n_jobs == 0"):
        GridSearchCV(GaussianNB(), {}, n_jobs=0).fit(*data)


def test_it_is_an_estimator_among_others(client):
    X, y = digits_data()
    ours = GridSearchCV(SVC(), {"C": [1, 10]}, cv=2, engines=client)
    theirs = sklearn.model_selection.GridSearchCV(SVC(), {"C": [1, 10]}, cv=2)
    scores = [cross_val_score(each, X, y, cv=3) for each in (ours, theirs)]
    np.testing.assert_array_equal(*scores)
    pipes = [
        Pipeline([("scale", StandardScaler()), ("search", clone(each))]).fit(X, y)
        for each in (ours, theirs)
    ]
    np.testing.assert_array_equal(*[each.predict(X) for each in pipes])
    outer = GridSearchCV(pipes[0], {"scale__with_std": [True, False]}, cv=2, engines=client)
    assert outer.fit(X, y).best_score_ > 0.8


def test_an_error_is_raised_as_what_it_is(client):
    X, y = digits_data()
    search = GridSearchCV(Witness(), {"what": ["fail", "none"]}, engines=client)
    with (
        pytest.warns(sklearn.exceptions.FitFailedWarning, match="as told"),
        pytest.warns(UserWarning, match="non-finite"),
    ):
        search.fit(X, y)
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [True, False]
    with pytest.raises(KeyError, match="as told"):
        search.set_params(error_score="raise").fit(X, y)
    assert not hasattr(search, "_place")
    search.set_params(param_grid={"what": ["none"]}).fit(X, y)


def test_it_can_be_interrupted(client):
    X, y = digits_data()
    search = GridSearchCV(Witness("sleep"), {"i": range(200)}, engines=client)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    start_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    assert time.monotonic() - start_s < 5
    assert search.set_params(param_grid={"i": [3]}).fit(X, y).best_score_ == 3


def test_what_is_printed_and_warned_of_on_engines_is_so_here(client, capsys):
    X, y = digits_data()
    search = GridSearchCV(Witness("speak"), {"i": [0, 1]}, cv=2, engines=client, refit=False)
    with pytest.warns(ConvergenceWarning, match="warned on an engine") as warned:
        search.set_params(verbose=3).fit(X, y)
    assert len(warned) == 4
    printed = capsys.readouterr().out
    assert printed.count("spoken on an engine") == 4
    assert "Fitting 2 folds for each of 2 candidates, totalling 4 fits" in printed
    assert printed.count("] END") == 4
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("default")
        search.set_params(verbose=0).fit(X, y)
    assert len(warned) == 1  # as with any warning from one place
