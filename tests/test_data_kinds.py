"""Searches on all kinds of data and estimators, compared with scikit-learn's."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, SGDClassifier
from sklearn.metrics import make_scorer, silhouette_score
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

import mscourse

PATIENCE_S = 120
CV = ShuffleSplit(3, random_state=0)
IRIS, TARGET = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[TARGET]
RNG = np.random.default_rng(0)
WITH_GAPS = np.where(RNG.random(IRIS.shape) < 0.1, np.nan, IRIS)
TEXTS = [" ".join(RNG.choice(["rot", "gelb", "grün", "blau"], 8)) + f" {n}" for n in NAMES]
FRAME = pd.DataFrame(
    {
        "length": WITH_GAPS[:, 0],
        "count": np.arange(150) % 7,
        "colour": pd.Categorical(RNG.choice(["red", "green"], 150)),
        "name": RNG.choice(["a", "b", "c"], 150),
    }
)


def mixed(numbers):
    return Pipeline(
        [
            ("columns", ColumnTransformer(
                [("numbers", StandardScaler(), numbers), ("text", OneHotEncoder(), ["name"])]
            )),
            ("clf", LogisticRegression()),
        ]
    )  # fmt: skip


def two_targets():
    X, y = load_diabetes(return_X_y=True)
    return X, np.column_stack([y, -y + X[:, 0]])


LOGISTIC, C = LogisticRegression(max_iter=200), {"C": [0.1, 1]}

CASES = {
    "NaN": (HistGradientBoostingClassifier(max_iter=5), {"max_depth": [1, 2]}, WITH_GAPS, TARGET),
    "single precision": (SGDClassifier(random_state=0), {"alpha": [1e-4, 1e-2]},
                         IRIS.astype(np.float32), TARGET),
    "string targets": (GaussianNB(), {"var_smoothing": [1e-9, 0.1]}, IRIS, NAMES),
    "object targets": (GaussianNB(), {"var_smoothing": [1e-9, 0.1]}, IRIS, NAMES.astype(object)),
    "Series of targets": (GaussianNB(), {"var_smoothing": [1e-9, 0.1]}, IRIS, pd.Series(NAMES)),
    "booleans": (GaussianNB(), {"var_smoothing": [1e-9, 0.1]}, IRIS, TARGET == 0),
    "several outputs": (KNeighborsRegressor(), {"n_neighbors": [1, 5]}, *two_targets()),
    "several labels": (DecisionTreeClassifier(random_state=0), {"max_depth": [1, 3]}, IRIS,
                       np.column_stack([TARGET == 0, TARGET == 1]).astype(int)),
    "CSR matrix": (LOGISTIC, C, sparse.csr_matrix(IRIS), TARGET),
    "CSR array": (LOGISTIC, C, sparse.csr_array(IRIS), TARGET),
    "CSC array": (LOGISTIC, C, sparse.csc_array(IRIS), TARGET),
    "texts": (make_pipeline(TfidfVectorizer(), LogisticRegression()),
              {"tfidfvectorizer__ngram_range": [(1, 1), (1, 2)], "logisticregression__C": [0.1, 1]},
              TEXTS, TARGET),
    "frame of numbers": (LOGISTIC, C,
                         pd.DataFrame(IRIS, columns=list("abcd")), TARGET),
    "frame": (mixed(["count"]), {"clf__C": [0.1, 1]}, FRAME, TARGET),
    "polars frame": (mixed(["count"]), {"clf__C": [0.1, 1]},
                     pl.DataFrame({name: FRAME[name].tolist() for name in ("count", "name")}),
                     TARGET),
    "no targets": (KMeans(n_init=1, random_state=0), {"n_clusters": [2, 3]}, IRIS, None),
    "whole estimators": (Pipeline([("scale", StandardScaler()), ("clf", SVC())]),
                         [{"clf": [SVC(), GaussianNB()],
                           "scale": ["passthrough", StandardScaler()]},
                          {"clf": [LogisticRegression()], "clf__C": [0.1, 1]}], IRIS, TARGET),
    "a sequence as a value": (MLPClassifier(max_iter=2, random_state=0),
                              {"hidden_layer_sizes": [(3,), (3, 2)]}, IRIS, TARGET),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_scores_are_those_of_scikit_learn(tmp_path, client, case):
    estimator, grid, X, y = CASES[case]
    theirs = GridSearchCV(estimator, grid, cv=CV, error_score="raise", return_train_score=True)
    theirs.fit(X, y)
    splits = mscourse.persist_cv_splits(X, y, cv=CV, folder=tmp_path, name="data")
    ours = mscourse.grid_search(estimator, grid, splits, engines=client, error_score="raise")
    assert ours.wait(PATIENCE_S)
    for key in ("mean_test_score", "mean_train_score", "split2_test_score"):
        np.testing.assert_allclose(ours.results()[key], theirs.cv_results_[key], rtol=1e-9)
    if case not in ("a sequence as a value", "whole estimators"):
        assert ours.best_params == theirs.best_params_


class NoScore(LinearRegression):
    """Predicts, and cannot say how well."""

    score = None  # type: ignore[assignment]

    def __getattribute__(self, name):
        if name == "score":
            raise AttributeError(name)
        return super().__getattribute__(name)


def test_an_estimator_without_a_score_needs_a_metric(tmp_path, client):
    X, y = load_diabetes(return_X_y=True)
    splits = mscourse.persist_cv_splits(X, y, cv=CV, folder=tmp_path, name="data")
    with pytest.raises(mscourse.ParameterError, match=r"scoring=None cannot score NoScore\(\)"):
        mscourse.grid_search(NoScore(), {"positive": [True, False]}, splits, engines=client)
    search = mscourse.grid_search(
        NoScore(), {"positive": [True, False]}, splits, engines=client, scoring="r2"
    )
    assert search.wait(PATIENCE_S)
    assert search.n_failed == 0


def silhouette(estimator, X):
    return silhouette_score(X, estimator.predict(X))


def test_clusters_are_judged_without_targets(tmp_path, client):
    splits = mscourse.persist_cv_splits(IRIS, cv=CV, folder=tmp_path, name="data")
    estimator = KMeans(n_init=1, random_state=0)
    search = mscourse.grid_search(
        estimator, {"n_clusters": [2, 3, 4]}, splits, engines=client, scoring=silhouette
    )
    assert search.wait(PATIENCE_S)
    assert search.best_params == {"n_clusters": 2}
    assert len(search.best_estimator.cluster_centers_) == 2


def test_a_kernel_that_is_computed_before_is_refused(tmp_path):
    splits = mscourse.persist_cv_splits(IRIS @ IRIS.T, TARGET, folder=tmp_path, name="kernel")
    with pytest.raises(mscourse.ParameterError, match="needs rows and columns"):
        mscourse.grid_search(SVC(kernel="precomputed"), {"C": [1]}, splits)


def test_a_metric_of_ones_own_is_used(tmp_path, client):
    X, y = load_diabetes(return_X_y=True)
    splits = mscourse.persist_cv_splits(X, y, cv=CV, folder=tmp_path, name="data")

    def within_fifty(y, predicted):
        return float(np.mean(np.abs(y - predicted) < 50))

    scoring = {"near": make_scorer(within_fifty), "r2": "r2"}
    theirs = GridSearchCV(Ridge(), {"alpha": [0.1, 10]}, cv=CV, scoring=scoring, refit="near")
    theirs.fit(X, y)
    ours = mscourse.grid_search(
        Ridge(), {"alpha": [0.1, 10]}, splits, engines=client, scoring=scoring
    )
    assert ours.wait(PATIENCE_S)
    np.testing.assert_allclose(
        ours.results()["mean_test_near"], theirs.cv_results_["mean_test_near"]
    )
