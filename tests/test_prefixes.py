"""Candidates that share the first steps of a pipeline: fewer fits, the same results."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

import mscourse
from mscourse import prefixes

PATIENCE_S = 120
X, Y = load_breast_cancer(return_X_y=True)
CV = ShuffleSplit(3, random_state=0)


class Counting(TransformerMixin, BaseEstimator):
    """Leaves a mark in a folder each time it is fitted."""

    def __init__(self, folder=None, factor=1.0):
        self.folder = folder
        self.factor = factor

    def fit(self, X, y=None):
        (self.folder / f"{self.factor}-{time.time_ns()}").touch()
        return self

    def transform(self, X):
        return X * self.factor


class Noise(TransformerMixin, BaseEstimator):
    """Draws from the global generator, as what has no random_state does."""

    def __init__(self, scale=1.0):
        self.scale = scale

    def fit(self, X, y=None):
        self.noise_ = np.random.normal(scale=self.scale, size=X.shape[1])
        return self

    def transform(self, X):
        return X + self.noise_


class Scribbler(ClassifierMixin, BaseEstimator):
    """Writes into its input, and predicts by what it found there before."""

    def __init__(self, a=0):
        self.a = a

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.mean_ = float(X.mean())
        X += 1.0
        return self

    def predict(self, X):
        return np.full(len(X), int(self.mean_ < 0.5))


def sees_the_pipeline(estimator, X, y):
    return estimator.named_steps["standardscaler"].mean_[0] + X[0, 0] + estimator.score(X, y)


def correlation(y, predicted):
    return float(np.corrcoef(y, predicted)[0, 1])


@pytest.fixture
def splits(tmp_path):
    return mscourse.persist_cv_splits(X, Y, cv=CV, folder=tmp_path, name="cancer")


def search_with_and_without(splits, pipeline, grid, client, **arguments):
    """Search with shared prefixes, and without."""
    both = []
    for n_bytes in (None, 0):
        search = mscourse.grid_search(
            pipeline, grid, splits, engines=client, prefix_cache_bytes=n_bytes, **arguments
        )
        assert search.wait(PATIENCE_S)
        both.append(search)
    return both


def assert_same_scores(one, other):
    ours, theirs = one.results(), other.results()
    for key in theirs:
        if "score" in key and "time" not in key:
            np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)


GRIDS = [
    (make_pipeline(StandardScaler(), PCA(random_state=0), LogisticRegression(max_iter=50)),
     {"pca__n_components": [2, 5], "logisticregression__C": [0.1, 1, 10]}, None),
    (make_pipeline(StandardScaler(), PCA(random_state=0), LogisticRegression(max_iter=50)),
     [{"pca": ["passthrough", PCA(3)], "logisticregression__C": [0.1, 1]},
      {"standardscaler": [MaxAbsScaler(), "passthrough"], "logisticregression": [GaussianNB()]}],
     ["accuracy", "roc_auc"]),
    (make_pipeline(StandardScaler(), LogisticRegression(max_iter=50)),
     {"logisticregression__C": [0.1, 1]}, sees_the_pipeline),
    (make_pipeline(FunctionTransformer(sparse.csr_matrix), MaxAbsScaler(), Ridge()),
     {"ridge__alpha": [0.1, 1]}, make_scorer(correlation)),
    # What it gives when it is fitted is not what it gives later.
    (make_pipeline(FunctionTransformer(np.rint), TargetEncoder(random_state=0), GaussianNB()),
     {"gaussiannb__var_smoothing": [1e-9, 1e-3]}, None),
]  # fmt: skip


@pytest.mark.parametrize(("pipeline", "grid", "scoring"), GRIDS, ids=range(len(GRIDS)))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:.*TargetEncoder:FutureWarning")
def test_the_results_are_the_same(splits, client, pipeline, grid, scoring):
    shared, alone = search_with_and_without(splits, pipeline, grid, client, scoring=scoring)
    assert not shared.n_failed
    assert_same_scores(shared, alone)
    refit = "accuracy" if isinstance(scoring, list) else False
    theirs = GridSearchCV(pipeline, grid, cv=CV, scoring=scoring, refit=refit).fit(X, Y)
    for key, expected in theirs.cv_results_.items():
        if key.startswith("mean_test"):
            np.testing.assert_allclose(shared.results()[key], expected, rtol=1e-9)


class Jitter(TransformerMixin, BaseEstimator):
    """Draws each time that it transforms, from a generator of its own."""

    def __init__(self, random_state=0):
        self.random_state = random_state

    def fit(self, X, y=None):
        self.random_ = np.random.default_rng(self.random_state)
        return self

    def transform(self, X):
        return X + self.random_.normal(scale=X.std(axis=0), size=X.shape)


def accuracy_of_a_pipeline(estimator, X, y):
    return estimator.score(X, y)


@pytest.mark.parametrize("scoring", [accuracy_of_a_pipeline, ["accuracy", "roc_auc"]])
def test_steps_that_draw_when_they_transform_are_not_shared(splits, client, scoring):
    """What they give depends on how often they were asked, and so on the other candidates."""
    pipeline = make_pipeline(StandardScaler(), Jitter(), DecisionTreeClassifier(random_state=0))
    grid = {"decisiontreeclassifier__max_depth": list(range(1, 7))}
    shared, alone = search_with_and_without(splits, pipeline, grid, client, scoring=scoring)
    assert_same_scores(shared, alone)
    by_sklearn = GridSearchCV(
        pipeline, grid, scoring=scoring, cv=CV, return_train_score=True, refit=False
    )
    ours = shared.results()
    theirs = by_sklearn.fit(X, Y).cv_results_
    for i in range(3):
        name = "score" if callable(scoring) else "accuracy"
        key = f"split{i}_test_{name}"
        np.testing.assert_array_equal(ours[key], theirs[key])


def test_a_prefix_is_fitted_once_for_each_split(splits, tmp_path, client):
    pipeline = Pipeline([("count", Counting(tmp_path)), ("nb", GaussianNB())])
    grid = {"count__factor": [1.0, 2.0], "nb__var_smoothing": np.logspace(-9, 0, 8)}
    search = mscourse.grid_search(pipeline, grid, splits, engines=client[0])
    assert search.wait(PATIENCE_S)
    assert (search.n_done, search.n_failed) == (48, 0)
    assert len(list(tmp_path.glob("1.0-*"))) == len(list(tmp_path.glob("2.0-*"))) == 3


def test_without_a_budget_everything_is_fitted_each_time(splits, tmp_path, client):
    pipeline = Pipeline([("count", Counting(tmp_path)), ("nb", GaussianNB())])
    grid = {"nb__var_smoothing": [1e-9, 1e-3]}
    for n_bytes in (0, 1000):  # nothing is shared; what is shared is too large to be kept
        before = len(list(tmp_path.glob("1.0-*")))
        search = mscourse.grid_search(
            pipeline, grid, splits, engines=client, prefix_cache_bytes=n_bytes
        )
        assert search.wait(PATIENCE_S)
        assert len(list(tmp_path.glob("1.0-*"))) - before == 6


def test_by_default_each_host_goes_by_its_own_memory(splits, tmp_path, monkeypatch):
    pipeline = Pipeline([("count", Counting(tmp_path)), ("nb", GaussianNB())])
    grid = {"nb__var_smoothing": [1e-9, 1e-3]}
    n_fits = []
    with ThreadPoolExecutor(1) as engine:
        for total_bytes in (2**40, 4):
            before = len(list(tmp_path.glob("1.0-*")))
            launched = threading.Event()
            engine.submit(launched.wait)
            search = mscourse.grid_search(pipeline, grid, splits, engines=engine)
            # As if the engine were on a host of that size, and the client were not.
            memory = SimpleNamespace(total_bytes=total_bytes)
            monkeypatch.setattr(prefixes, "host_memory", lambda memory=memory: memory)
            prefixes._default_budget_bytes.cache_clear()
            launched.set()
            assert search.wait(PATIENCE_S)
            n_fits.append(len(list(tmp_path.glob("1.0-*"))) - before)
    prefixes._default_budget_bytes.cache_clear()
    assert n_fits == [3, 6]


def test_an_estimator_that_writes_into_its_input_harms_nobody(splits, client):
    pipeline = make_pipeline(StandardScaler(), Scribbler())
    grid = {"scribbler__a": list(range(6))}
    shared, alone = search_with_and_without(splits, pipeline, grid, client)
    assert not shared.n_failed
    assert_same_scores(shared, alone)
    assert len(set(shared.results()["mean_test_score"])) == 1


AS_FRAME = MinMaxScaler().set_output(transform="pandas")


@pytest.mark.parametrize(
    ("steps", "grid"),
    [
        ([StandardScaler(copy=False)], {"svc__C": [0.1, 1, 10]}),
        ([StandardScaler(copy=False), PCA(5, random_state=0)], {"svc__C": [0.1, 1, 10]}),
        ([PCA(5, random_state=0), StandardScaler(copy=False)], {"svc__C": [0.1, 1, 10]}),
        (
            [MinMaxScaler(), StandardScaler(copy=False)],
            {"standardscaler__with_mean": [True, False], "svc__C": [0.1, 1, 10]},
        ),
        ([AS_FRAME, StandardScaler(copy=False)], {"standardscaler__with_mean": [True, False]}),
        (
            [AS_FRAME, StandardScaler(copy=False)],
            {
                "standardscaler__with_mean": [True, False],
                "standardscaler__with_std": [True, False],
                "svc__C": [0.1, 10],
            },
        ),
        ([FunctionTransformer(None)], {"svc__C": [0.1, 1, 10]}),
    ],
    ids=["alone", "first", "second", "parted", "frame", "parted frame", "unchanged"],
)
@pytest.mark.parametrize("return_train_score", [True, False])
def test_a_step_that_makes_no_copy_harms_nobody(splits, steps, grid, return_train_score):
    with ThreadPoolExecutor(1) as engine:
        shared, alone = search_with_and_without(
            splits,
            make_pipeline(*steps, SVC()),
            grid,
            engine,
            return_train_score=return_train_score,
        )
    assert not shared.n_failed
    assert_same_scores(shared, alone)


def test_a_failure_says_the_same_as_without_sharing(splits, client):
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    grid = {"logisticregression__C": [-1.0, -2.0]}
    with pytest.warns(RuntimeWarning, match="Of 6 evaluations"):
        shared, alone = search_with_and_without(splits, pipeline, grid, client)
    assert shared.n_failed == alone.n_failed == 6
    errors = [sorted(e.error for e in search.evaluations()) for search in (shared, alone)]
    assert errors[0] == errors[1]


def test_luck_depends_neither_on_the_engines_nor_on_the_cache(splits, client):
    pipeline = make_pipeline(Noise(), Noise(), GaussianNB())
    scoring = "neg_log_loss"  # which tells the slightest difference
    grid = {
        "noise-1__scale": [1.0, 30.0],
        "noise-2__scale": [10.0],
        "gaussiannb__var_smoothing": [1e-9, 1e-3],
    }
    launch = partial(mscourse.grid_search, pipeline, grid, splits, scoring=scoring)
    runs = [
        launch(engines=engines, prefix_cache_bytes=n_bytes)
        for engines, n_bytes in ((client, None), (client[0], None), (client[1], 10))
    ]
    for search in runs:
        assert search.wait(PATIENCE_S)
        assert not search.n_failed
        assert_same_scores(search, runs[0])
    other = launch(engines=client, random_state=1)
    assert other.wait(PATIENCE_S)
    table = other.results()["mean_test_score"].tolist()
    assert table != runs[0].results()["mean_test_score"].tolist()


def test_more_candidates_share_too(splits, tmp_path, client):
    pipeline = Pipeline([("count", Counting(tmp_path)), ("nb", GaussianNB())])
    search = mscourse.grid_search(
        pipeline, {"nb__var_smoothing": [1e-9, 1e-8]}, splits, engines=client[0]
    )
    assert search.add({"nb__var_smoothing": [1e-9, 1e-7, 1e-6]}) == 2
    assert search.wait(PATIENCE_S)
    assert (search.n_done, search.n_failed) == (12, 0)
    assert len(list(tmp_path.glob("1.0-*"))) <= 6


def test_what_is_kept_is_let_go_when_nobody_uses_it(monkeypatch):
    monkeypatch.setattr(prefixes, "_FORGET_AFTER_S", 0.2)
    monkeypatch.setattr(prefixes, "_LOOK_S", 0.05)

    class Budget:
        seed = 0
        prefix_cache_bytes = 10**9

    pipeline = make_pipeline(StandardScaler(), GaussianNB())
    shared = prefixes.fitted(Budget(), ("t", 0, 0), pipeline, ((1, (0, 0)),), X, Y)
    assert shared.fit_data.shape == X.shape
    time.sleep(0.5)
    assert len(prefixes._latest.levels) == 1  # an evaluation that takes long still needs it
    prefixes.release()
    deadline_s = time.monotonic() + 10
    while prefixes._latest.levels and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert prefixes._latest.levels == []
    assert shared.fit_data.shape == X.shape


def test_pipelines_that_may_do_anything_are_left_alone():
    class Own(Pipeline):
        pass

    steps = [("s", StandardScaler()), ("nb", GaussianNB())]
    assert prefixes.can_share(Pipeline(steps))
    assert not prefixes.can_share(Own(steps))
    assert not prefixes.can_share(Pipeline(steps, memory="somewhere"))
    assert not prefixes.can_share(Pipeline(steps[1:]))
    assert not prefixes.can_share(GaussianNB())
