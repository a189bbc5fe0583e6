"""Careless arguments: one clear error before anything starts, and nothing left on the disk.

What other tests say of their own functions is not repeated here.
"""

from __future__ import annotations

import functools
import math
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from helpers import cluster_processes, files_below
from scipy import sparse
from scipy.stats import uniform
from sklearn.base import ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    LeavePOut,
    StratifiedKFold,
    TimeSeriesSplit,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import mscourse
from mscourse.sklearn import GridSearchCV, RandomizedSearchCV

N = 12
X = np.arange(2.0 * N).reshape(N, 2)
Y = np.arange(N) % 2
HUGE = 10**400
NAN = np.where(np.arange(N) == 3, np.nan, 1.0)


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> mscourse.Splits:
    return mscourse.persist_cv_splits(X, Y, folder=tmp_path_factory.mktemp("s"), name="d", cv=3)


@pytest.fixture
def _nothing_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """No process, no thread, no file in a temporary folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    processes, threads = cluster_processes(), set(threading.enumerate())
    yield
    assert cluster_processes() <= processes
    assert set(threading.enumerate()) <= threads
    assert not list(tmp_path.iterdir())


# -- to persist ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        # Data that are none.
        ({"X": None}, "X must be an array with rows; it is a NoneType"),
        ({"X": np.float64(1)}, "X must be an array with rows"),
        ({"X": {"a": [1]}}, "X must be an array with rows; it is a dict"),
        ({"X": "text"}, "X must be an array with rows; it is a str"),
        ({"X": (row for row in X)}, "it is a generator"),
        ({"X": [1.5, HUGE] * 6}, "Python objects"),
        ({"X": [[1, 2], "x"] * 6}, "X is not an array"),
        ({"X": [HUGE] * N, "dtype": "int64"}, "cannot be stored as int64"),
        ({"X": np.zeros(N, "i4,f8")}, "several parts or no type"),
        ({"X": np.zeros(N, "V4")}, "several parts or no type"),
        ({"dtype": "i4,f8"}, "several parts or no type"),
        ({"dtype": "O"}, "Python objects"),
        ({"dtype": 7}, "dtype=7 is no type of numpy's"),
        ({"X": pl.LazyFrame({"a": [1] * N})}, "collect"),
        # No rows, no columns, one row.
        ({"X": [], "y": None}, "X has no rows"),
        ({"X": X[:0], "y": Y[:0]}, "X has no rows"),
        ({"X": X[:0], "y": None, "cv": KFold(2)}, "X has no rows"),
        ({"X": X[:0], "y": None, "cv": [([0], [0])]}, "X has no rows"),
        ({"X": sparse.csr_matrix((0, 2)), "y": None}, "X has no rows"),
        ({"X": pd.DataFrame({"a": []}), "y": None}, "X has no rows"),
        ({"X": pd.DataFrame({"a": [], "b": pd.Series([], dtype=str)}), "y": None}, "X has no rows"),
        ({"X": pl.DataFrame({"a": []}), "y": None}, "X has no rows"),
        ({"X": pd.DataFrame(index=range(N))}, "a data frame without columns"),
        ({"X": pl.DataFrame()}, "a data frame without columns"),
        ({"X": X[:1], "y": Y[:1]}, "does not split these 1 rows"),
        # Targets and groups.
        ({"y": 1}, r"y must have one or two dimensions; its shape is \(\)"),
        ({"y": []}, "X has 12 rows, but y has 0"),
        ({"y": "text"}, "y must have one or two dimensions"),
        ({"y": np.zeros((N, 0))}, "y has no columns"),
        ({"y": pd.DataFrame(index=range(N))}, "y has no columns"),
        ({"y": np.zeros((1, N))}, "X has 12 rows, but y has 1"),
        ({"y": [1, [2]] * 6}, "y is not an array"),
        ({"y": [HUGE, 0.5] * 6, "cv": KFold(3)}, "y holds Python objects"),
        ({"y": NAN, "cv": StratifiedKFold(3)}, "cv=StratifiedKFold"),
        ({"cv": GroupKFold(2)}, "'groups' parameter"),
        ({"cv": GroupKFold(2), "groups": NAN}, "NaN"),
        ({"cv": GroupKFold(2), "groups": ["a", None] * 6}, "groups has a missing value in row 1"),
        ({"cv": GroupKFold(2), "groups": ["a"] * N}, "number of groups"),
        ({"cv": LeaveOneGroupOut(), "groups": np.zeros(N)}, "cv=LeaveOneGroupOut"),
        ({"cv": GroupKFold(2), "groups": np.zeros((N, 2))}, "cv=GroupKFold"),
        ({"groups": 3}, "groups must have one or two dimensions"),
        ({"groups": []}, "X has 12 rows, but groups has 0"),
        # Metadata.
        ({"metadata": {"w": 1.0}}, r"metadata\['w'\] must have one or two dimensions"),
        ({"metadata": {"w": []}}, r"metadata\['w'\] has 0"),
        ({"metadata": {"w": np.zeros((N, 0))}}, r"metadata\['w'\] has no columns"),
        ({"metadata": {"": NAN}}, "has the name ''"),
        ({"metadata": {"y": NAN}}, "has the name 'y', which fit knows the data by"),
        ({"metadata": {"X": NAN}}, "has the name 'X', which fit knows the data by"),
        ({"metadata": {"w": [1, "a"] * 6}}, r"metadata\['w'\] holds Python objects of several"),
        ({"metadata": [("w", NAN)]}, "metadata must be a dict"),
        # Splits that cannot be.
        ({"cv": True}, "cv must be a number of folds"),
        ({"cv": False}, "cv must be a number of folds"),
        ({"cv": 0}, "cv=0 does not split"),
        ({"cv": -3}, "cv=-3 does not split"),
        ({"cv": 2.0}, "cv=2.0 does not split"),
        ({"cv": math.nan}, "cv=nan does not split"),
        ({"cv": 10**30, "y": None}, "cv=10+.* does not split"),
        ({"cv": N + 1, "y": None}, "cv=13 does not split these 12 rows"),
        ({"cv": object()}, "cv=<object"),
        ({"cv": []}, "cv gives no splits"),
        ({"cv": iter(())}, "cv gives no splits"),
        ({"cv": [1, 2]}, "does not split"),
        ({"cv": [([0], [1], [2])]}, "does not split"),
        ({"cv": {0: [1]}}, "does not split"),
        ({"cv": [([], [1])]}, "train set of split 0 is empty"),
        ({"cv": [([[0, 1]], [2])]}, r"must be lists; these have the shape \(1, 2\)"),
        ({"cv": [(0, 1)]}, r"must be lists; these have the shape \(\)"),
        ({"cv": [([0, N], [1])]}, "names row 12, but the rows are 0 to 11"),
        ({"cv": [([0], [-1])]}, "names row -1"),
        ({"cv": [([0], [2**63])]}, "there is no row 9223372036854775808"),
        ({"cv": [([0], [2**70])]}, "must be integers"),
        ({"cv": [([0], [math.nan])]}, "must be integers"),
        ({"cv": [(["a"], [1])]}, "must be integers"),
        ({"cv": [(np.ones(N - 1, bool), [1])]}, "a mask of 11 rows is none of 12"),
        ({"cv": [(np.zeros(N, bool), [1])]}, "train set of split 0 is empty"),
        ({"cv": TimeSeriesSplit(3, test_size=5)}, "cv=TimeSeriesSplit"),
        ({"cv": TimeSeriesSplit(2, gap=100)}, "cv=TimeSeriesSplit"),
        ({"cv": LeavePOut(N)}, "cv=LeavePOut"),
        # Numbers.
        ({"random_state": -1}, "random_state must be an integer, 0 or larger, or None, not -1"),
        ({"random_state": 1.5}, "random_state must be an integer"),
        ({"random_state": True}, "random_state must be an integer"),
        ({"random_state": "0"}, "random_state must be an integer"),
        ({"random_state": np.random.RandomState(0)}, "random_state must be an integer"),
        # Names and folders.
        ({"name": None}, "plain folder name such as 'digits', not None"),
        ({"name": 3}, "plain folder name such as 'digits', not 3"),
        ({"name": b"d"}, "plain folder name"),
        ({"name": Path("d")}, "plain folder name"),
        ({"name": "."}, "plain folder name"),
        ({"name": ".hidden"}, "plain folder name"),
        ({"name": "/d"}, "plain folder name"),
        ({"name": "d/"}, "plain folder name"),
        ({"name": "../d"}, "plain folder name"),
        ({"name": "a\\b"}, "plain folder name"),
        ({"name": "a\0b"}, "plain folder name"),
        ({"name": "\ud800"}, "cannot be the name of a folder"),
        ({"name": "d" * 256}, "name has 256 bytes, more than the 255"),
        ({"name": "ü" * 200}, "name has 400 bytes"),
        ({"folder": 3}, "folder must be the path of a folder, not 3"),
        ({"folder": b"f"}, "folder must be the path"),
        ({"folder": ["f"]}, "folder must be the path"),
        ({"folder": "a\0b"}, "folder must be the path"),
        ({"folder": "\ud800"}, "folder must be the path"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("_nothing_starts")
def test_what_cannot_be_persisted(tmp_path, arguments, says):
    given = {"X": X, "y": Y, "folder": tmp_path, "name": "d", "cv": 3} | arguments
    with pytest.raises(mscourse.ParameterError, match=says):
        mscourse.persist_cv_splits(**given)
    if "folder" not in arguments:
        given["folder"] = None
        # A generator is used up, and gives no splits then.
        with pytest.raises(mscourse.ParameterError):
            mscourse.persist_cv_splits(**given)


@pytest.mark.parametrize(
    "below", ["", "deep/er"], ids=["a file is in its place", "a file is on the way"]
)
def test_folders_that_cannot_be(tmp_path, below):
    (tmp_path / "file").write_text("somebody's")
    for folder, name in ((tmp_path / "file" / below, "d"), (tmp_path, "file")):
        with pytest.raises(mscourse.SplitsError, match="could not be written to"):
            mscourse.persist_cv_splits(X, Y, folder=folder, name=name, cv=3)
        with pytest.raises(mscourse.SplitsNotFoundError, match="no splits"):
            mscourse.open_splits(folder, name)
    assert files_below(tmp_path) == {"file"}
    assert (tmp_path / "file").read_text() == "somebody's"


def test_paths_that_are_too_long(tmp_path):
    for folder in (tmp_path / ("f" * 300), tmp_path.joinpath(*["f" * 200] * 25)):
        with pytest.raises(mscourse.SplitsError, match="could not be written to"):
            mscourse.persist_cv_splits(X, Y, folder=folder, name="d", cv=3)
        with pytest.raises(mscourse.SplitsNotFoundError, match="no splits 'd'"):
            mscourse.open_splits(folder, "d")
    assert not files_below(tmp_path)


def test_what_may_look_careless_and_is_right(tmp_path):
    """Of these, numpy's integers and None mean what they mean in scikit-learn."""
    where = {"folder": tmp_path, "name": "d" * 255}
    y = np.repeat([0, 1], N // 2)
    for cv, n_splits in ((np.int64(3), 3), (None, 5)):
        splits = mscourse.persist_cv_splits(X, y, cv=cv, random_state=np.int64(1), **where)
        assert len(splits) == n_splits
        for split in splits:  # stratified, although the classes come one after the other
            assert len(np.unique(split.load()[3])) == 2
    assert len(mscourse.open_splits(str(tmp_path), "d" * 255)) == 5
    one_class = mscourse.persist_cv_splits(X, np.zeros(N, int), cv=3, **where)
    assert one_class[0].n_test == 4


@pytest.mark.parametrize("folder", [3, None, b"f", "a\0b", ["f"]])
def test_folders_that_cannot_be_opened(folder):
    with pytest.raises(mscourse.ParameterError, match="folder must be the path"):
        mscourse.open_splits(folder, "d")


@pytest.mark.parametrize("name", [None, 3, "", ".", "..", "a/b", "a\0b", "a\\b", "x" * 256])
def test_names_that_cannot_be_opened(tmp_path, name):
    with pytest.raises(mscourse.ParameterError, match="name"):
        mscourse.open_splits(tmp_path, name)


@pytest.mark.parametrize("n_train", [True, 1.0, 0, -1, 9, HUGE, "3", math.nan])
def test_parts_of_a_split_that_cannot_be(splits, n_train):
    with pytest.raises(mscourse.ParameterError, match="n_train must be between 1 and 8"):
        splits[0].load(n_train=n_train)
    with pytest.raises(mscourse.ParameterError, match="n_train must be between 1 and 8"):
        splits[0].load_metadata(n_train=n_train)
    assert len(splits[0].load(n_train=np.int64(3))[0]) == 3


# -- clusters --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, -1, 1.0, "2", True, math.nan, 10**6, HUGE, [2], np.bool_(1)])
@pytest.mark.parametrize("name", ["n_engines", "threads_per_engine"])
@pytest.mark.usefixtures("_nothing_starts")
def test_clusters_that_cannot_be(name, number):
    with (
        pytest.raises(mscourse.ParameterError, match=f"{name} must be a positive integer, and at"),
        mscourse.local_cluster(**{"n_engines": 1, name: number}),
    ):
        pass


# -- searches and curves ---------------------------------------------------------------------------


class NoTags(ClassifierMixin):
    """Has the methods, but is no estimator of scikit-learn's."""

    def fit(self, X: Any, y: Any) -> NoTags:
        return self

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {}

    def set_params(self, **params: Any) -> NoTags:
        return self


# Of all searches.
SHARED = [
    ({"estimator": None}, "estimator must be an object with fit"),
    ({"splits": None}, "splits must be what persist_cv_splits or open_splits returns, not NoneT"),
    ({"splits": "digits"}, "persist_cv_splits or open_splits"),
    ({"scoring": 3}, "scoring"),
    ({"scoring": [None]}, "scoring"),
    ({"timeout_s": 0}, "timeout_s must be a positive number"),
    ({"timeout_s": -1}, "timeout_s must be a positive number"),
    ({"timeout_s": math.nan}, "timeout_s must be a positive number"),
    ({"timeout_s": math.inf}, "timeout_s must be a positive number"),
    ({"timeout_s": "5"}, "timeout_s must be a positive number"),
    ({"timeout_s": True}, "timeout_s must be a positive number"),
    ({"engines": 4}, "engines must be"),
]
OF_CANDIDATES = [
    ({"random_state": -1}, "random_state"),
    ({"random_state": 2**32}, "random_state"),
    ({"error_score": None}, "error_score must be a number or 'raise'"),
    ({"error_score": True}, "error_score must be a number or 'raise'"),
    ({"rank_by": "f1"}, "'f1', but estimator.score is the only metric, .* no rank_by is needed"),
    ({"scoring": "f1", "rank_by": "recall"}, "'recall', but 'f1' is the only .* is needed"),
    ({"scoring": ["f1"], "rank_by": "recall"}, "rank_by must be one of f1; it is 'recall'"),
    (
        {"scoring": "acuracy"},
        r"^scoring: 'acuracy' is no .* mean 'accuracy'.* sklearn\.metrics\.get_scorer_names\(\)",
    ),
    ({"scoring": "ACCURACY"}, "^scoring: 'ACCURACY' is no metric .* Did you mean 'accuracy'"),
    ({"scoring": ["f1", "acc"]}, "^scoring: 'acc' is no metric .* Did you mean 'accuracy'.* or "),
    (
        {"scoring": {"a": "f1_makro"}},
        "^scoring: 'f1_makro' is no metric .* Did you mean 'f1_macro'",
    ),
    ({"scoring": ["acuracy", "f11"]}, "'acuracy' .* mean 'accuracy'.* 'f11' .* mean 'f1'"),
    ({"scoring": "zzz"}, r"^scoring: 'zzz' is no metric of scikit-learn\. sklearn"),
    ({"scoring": {"accuracy", "neg_log_loss"}}, "scoring is a set.* Give a list .* or name rank_"),
    ({"scoring": frozenset({"accuracy", "f1"})}, "scoring is a set"),
]
OF_PREFIXES = [
    ({"prefix_cache_bytes": -1}, "prefix_cache_bytes must be"),
    ({"prefix_cache_bytes": math.nan}, "prefix_cache_bytes must be"),
    ({"prefix_cache_bytes": math.inf}, "prefix_cache_bytes must be"),
    ({"prefix_cache_bytes": True}, "prefix_cache_bytes must be"),
    ({"prefix_cache_bytes": "a lot"}, "prefix_cache_bytes must be"),
    ({"random_state": 1.5}, "random_state"),
    ({"random_state": True}, "random_state"),
    ({"n_evaluations": True}, "n_evaluations must be a positive integer"),
    ({"n_evaluations": HUGE}, "n_evaluations must be a positive integer"),
]


def refused(function: Any, given: dict[str, Any], says: str) -> None:
    with pytest.raises(mscourse.ParameterError, match=says):
        function(**given)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        *SHARED, *OF_CANDIDATES, *OF_PREFIXES,
        ({"estimator": NoTags()}, "estimator"),
        ({"param_grid": []}, "param_grid has 0 candidates"),
        ({"param_grid": {1: [2]}}, "1 is no name of a parameter: it is of type int"),
        ({"param_grid": {None: [2]}}, "None is no name of a parameter"),
        ({"param_grid": {"c": [1]}}, "SVC has no parameter 'c'. Did you mean 'C'?"),
        ({"estimator": make_pipeline(StandardScaler(), SVC()), "param_grid": {"svc__c": [1]}},
         "Did you mean 'svc__C'"),
        ({"param_grid": {1: [2], "C": [1]}}, "not a grid"),
        ({"param_grid": {"C": {1, 2}}}, "not a grid"),
        ({"param_grid": {"C": (c for c in [1])}}, "not a grid"),
        ({"param_grid": {"C": np.ones((2, 2))}}, "not a grid"),
        ({"param_grid": {"C": uniform()}}, "not a grid"),
        ({"param_grid": [{"C": [1]}, 7]}, "not a grid"),
        ({"param_grid": {"C": range(10**9)}}, "param_grid has 1000000000 candidates; .*random_sea"),
        ({"param_grid": {"C": range(10**9), "gamma": range(10**9), "coef0": range(10**9)}},
         "param_grid has 1000000000000000000000000000 candidates"),
        ({"order": None}, "'random' or 'grid'"),
        ({"n_evaluations": -1}, "n_evaluations must be a positive integer"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("_nothing_starts")
def test_grid_searches_that_cannot_be(splits, arguments, says):
    given = {"estimator": SVC(), "param_grid": {"C": [1]}, "splits": splits}
    refused(mscourse.grid_search, given | arguments, says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        *SHARED, *OF_CANDIDATES, *OF_PREFIXES,
        ({"on_evaluation": "print"}, "on_evaluation must be callable"),
        ({"n_iter": True}, "n_iter must be a positive integer"),
        ({"n_iter": -1}, "n_iter must be a positive integer"),
        ({"n_iter": 2.0}, "n_iter must be a positive integer"),
        ({"n_iter": HUGE}, "n_iter must be a positive integer"),
        ({"param_distributions": []}, "cannot be drawn from: it is empty"),
        ({"param_distributions": {}}, "cannot be drawn from: it is empty"),
        ({"param_distributions": None}, "cannot be drawn from"),
        ({"param_distributions": {"C": []}}, "cannot be drawn from"),
        ({"param_distributions": {"C": "rbf"}}, "cannot be drawn from"),
        ({"param_distributions": {1: [2]}, "n_iter": 1}, "1 is no name of a parameter"),
        ({"param_distributions": {"C": range(10**9), "gamma": range(10**9), "tol": range(10**9)}},
         "cannot be drawn from"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("_nothing_starts")
def test_random_searches_that_cannot_be(splits, arguments, says):
    given = {"estimator": SVC(), "param_distributions": {"C": uniform()}, "splits": splits}
    refused(mscourse.random_search, given | {"n_iter": 2} | arguments, says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        *SHARED, *OF_CANDIDATES[2:],
        ({"factor": HUGE}, "factor must be a number"),
        ({"factor": None}, "factor must be a number"),
        ({"factor": np.nan}, "factor must be a number"),
        ({"factor": 3j}, "factor must be a number"),
        ({"min_resources": True}, "min_resources must be a positive integer"),
        ({"min_resources": "smallest"}, "min_resources must be a positive integer"),
        ({"min_resources": HUGE}, "min_resources must be a positive integer"),
        ({"max_resources": True}, "max_resources must be a positive integer"),
        ({"resource": "max_iter", "max_resources": HUGE}, "max_resources must be a positive"),
        ({"resource": None}, "the name of a parameter, not None"),
        ({"param_grid": []}, "param_grid has 0 candidates"),
        ({"param_grid": {1: [2]}}, "1 is no name of a parameter"),
        ({"n_iter": True}, "n_iter must be a positive integer"),
        ({"n_iter": 3, "param_grid": []}, "cannot be drawn from: it is empty"),
        ({"random_state": -1}, "random_state must be an integer"),
        ({"random_state": "a"}, "random_state must be an integer"),
        ({"on_evaluation": 3}, "on_evaluation must be callable"),
        ({"retry_failed": True}, "retry_failed is about a journal"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("_nothing_starts")
def test_halving_searches_that_cannot_be(splits, arguments, says):
    given = {"estimator": SVC(), "param_grid": {"C": [1, 2]}, "splits": splits}
    refused(mscourse.halving_search, given | arguments, says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        *(each for each in SHARED if "scoring" not in each[0]),
        ({"scoring": ["accuracy"]}, "scoring must be one metric"),
        ({"scoring": 3}, "scoring must be one metric"),
        ({"train_sizes": None}, "train_sizes must be a list of numbers"),
        ({"train_sizes": "all"}, "train_sizes must be a list of numbers"),
        ({"train_sizes": [[1, 2]]}, "train_sizes must be a list of numbers"),
        ({"train_sizes": [[1], [2, 3]]}, "train_sizes must be a list of numbers"),
        ({"train_sizes": [True, False]}, "train_sizes must be a list of numbers"),
        ({"train_sizes": [HUGE]}, "train_sizes must be a list of numbers"),
        ({"train_sizes": [1j]}, "train_sizes must be a list of numbers"),
        ({"train_sizes": [-1]}, "train_sizes in rows must be between 1 and 8"),
        ({"train_sizes": [9]}, "train_sizes in rows must be between 1 and 8"),
        ({"train_sizes": [2**63 + 1]}, "train_sizes in rows must be between 1 and 8"),
        ({"train_sizes": [-0.5]}, "train_sizes as fractions must be above 0"),
        ({"train_sizes": [math.inf]}, "train_sizes as fractions must be above 0"),
        ({"params": 7}, "params must be a dict, or a list of dicts, not 7"),
        ({"params": [7]}, "params must be a dict, or a list of dicts"),
        ({"params": "C"}, "params must be a dict, or a list of dicts"),
        ({"params": [{"C": 1}, None]}, "params must be a dict, or a list of dicts"),
        ({"params": {1: 2}}, "1 is no name of a parameter"),
    ],
)
@pytest.mark.usefixtures("_nothing_starts")
def test_learning_curves_that_cannot_be(splits, arguments, says):
    refused(mscourse.learning_curve, {"estimator": SVC(), "splits": splits} | arguments, says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        *(each for each in SHARED if "scoring" not in each[0]),
        ({"scoring": ["accuracy"]}, "scoring must be one metric"),
        ({"param_range": None}, "param_range must be a list of values"),
        ({"param_range": 5}, "param_range must be a list of values"),
        ({"param_range": "rbf"}, "param_range must be a list of values, not 'rbf'"),
        ({"param_range": np.array(3)}, "param_range must be a list of values"),
        ({"param_name": None}, "param_name must be the name of a parameter, not None"),
        ({"param_name": ["C"]}, "param_name must be the name of a parameter"),
        ({"param_name": ""}, "SVC has no parameter ''"),
    ],
)
@pytest.mark.usefixtures("_nothing_starts")
def test_validation_curves_that_cannot_be(splits, arguments, says):
    given = {"estimator": SVC(), "splits": splits, "param_name": "C", "param_range": [1]}
    refused(mscourse.validation_curve, given | arguments, says)


class TakesAnything(SVC):
    """Takes whatever it is given, and uses none of it."""

    def fit(self, X: Any, y: Any, **metadata: Any) -> TakesAnything:
        return super().fit(X, y)


def adds_weights(method: Any) -> Any:
    """Let a method take weights, of which its signature does not tell."""

    @functools.wraps(method)
    def taking(*args: Any, sample_weight: Any = None, **given: Any) -> Any:
        return method(*args, **given)

    @functools.wraps(taking)
    def outer(*args: Any, **given: Any) -> Any:
        return taking(*args, **given)

    return outer


class Decorated(KNeighborsClassifier):
    fit = adds_weights(KNeighborsClassifier.fit)


class Hidden(KNeighborsClassifier):
    """Nobody can tell what it takes."""

    fit = adds_weights(KNeighborsClassifier.fit)
    fit.__signature__ = "unknown"


KNN_PIPELINE = make_pipeline(StandardScaler(), KNeighborsClassifier())


def with_metadata(folder: Path, name: str) -> mscourse.Splits:
    metadata = {name: np.ones(N)}
    return mscourse.persist_cv_splits(X, Y, folder=folder, name="m", cv=3, metadata=metadata)


@pytest.mark.parametrize(
    ("estimator", "name", "says"),
    [
        (KNeighborsClassifier(), "sample_weight",
         r"KNeighborsClassifier\.fit takes no 'sample_weight'.* splits 'm'.* takes none.*_routing"),
        (SVC(), "colour", r"SVC\.fit takes no 'colour'"),
        (SVC(), "sample_wieght", "Did you mean 'sample_weight'?"),
        (make_pipeline(StandardScaler(), SVC()), "sample_weight",
         "Pipeline.fit takes no 'sample_weight'.* such as 'svc__sample_weight'"),
        (make_pipeline(StandardScaler(), SVC()), "svm__sample_weight",
         "Pipeline.fit takes no 'svm__sample_weight'.* Did you mean 'svc__sample_weight'?"),
        (KNN_PIPELINE, "sample_weight", "Pipeline.fit takes no 'sample_weight'"),
        (KNN_PIPELINE, "kneighborsclassifier__sample_weight",
         r"KNeighborsClassifier\.fit takes no 'sample_weight'"),
        (make_pipeline(PCA(), SVC()), "pca__sample_weight", r"PCA\.fit takes no 'sample_weight'"),
        (Pipeline([("inner", KNN_PIPELINE)]), "inner__sample_weight",
         "Pipeline.fit takes no 'sample_weight'"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("_nothing_starts")
def test_metadata_that_fit_does_not_take(tmp_path_factory, estimator, name, says):
    splits = with_metadata(tmp_path_factory.mktemp("m"), name)
    for launch, given in (
        (mscourse.grid_search, {"param_grid": {}}),
        (mscourse.random_search, {"param_distributions": {"C": [1]}, "n_iter": 1}),
        (mscourse.halving_search, {"param_grid": {}}),
        (mscourse.learning_curve, {"train_sizes": [1.0]}),
    ):
        if "param_distributions" in given:
            params = estimator.get_params()
            free = next(each for each in params if each.endswith(("C", "n_neighbors")))
            given = given | {"param_distributions": {free: [1]}}
        refused(launch, {"estimator": estimator, "splits": splits} | given, says)


@pytest.mark.parametrize(
    ("estimator", "name", "param_grid"),
    [
        (SVC(), "sample_weight", {}),
        (TakesAnything(), "colour", {}),
        (Decorated(), "sample_weight", {}),
        (Hidden(), "sample_weight", {}),
        (sklearn.model_selection.GridSearchCV(SVC(), {}, cv=2), "sample_weight", {}),
        (make_pipeline(StandardScaler(), SVC()), "svc__sample_weight", {}),
        (make_pipeline(StandardScaler(), SVC()), "standardscaler__sample_weight", {}),
        (Pipeline([("inner", make_pipeline(SVC()))]), "inner__svc__sample_weight", {}),
        # What takes none may give its place to one that does.
        (Pipeline([("of", KNeighborsClassifier())]), "of__sample_weight", {"of": [SVC()]}),
        (Pipeline([("of", "passthrough"), ("svc", SVC())]), "of__sample_weight",
         {"of": [StandardScaler()]}),
        (Pipeline([("in", Pipeline([("of", PCA())]))]), "in__of__sample_weight",
         {"in__of": [SVC()]}),
        (Pipeline([("of", KNeighborsClassifier())]), "other__sample_weight",
         {"steps": [[("other", SVC())]]}),
    ],
)  # fmt: skip
def test_metadata_that_fit_may_take(tmp_path, estimator, name, param_grid):
    splits = with_metadata(tmp_path, name)
    with ThreadPoolExecutor(1) as threads:
        search = mscourse.grid_search(estimator, param_grid, splits, engines=threads)
        assert search.wait(60)
    assert search.n_failed == 0, repr(search)


# -- scikit-learn's own searches -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"engines": "local"}, mscourse.ParameterError, "engines must be"),
        ({"splits": "digits"}, mscourse.ParameterError, "splits must come from"),
        # Scikit-learn's own checks, in its own words, since it is its own search.
        ({"cv": 1}, ValueError, r"'cv' parameter .* must be an int in the range \[2, inf\)"),
        ({"cv": N + 1, "n_jobs": 1}, ValueError, "n_splits=13"),
        ({"scoring": "acuracy"}, ValueError, "acuracy"),
        ({"error_score": "ignore"}, ValueError, "error_score"),
    ],
)
@pytest.mark.usefixtures("_nothing_starts")
def test_searches_of_scikit_learn_that_cannot_be(arguments, error, says):
    for search in (
        GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9]}, **arguments),
        RandomizedSearchCV(GaussianNB(), {"var_smoothing": [1e-9]}, n_iter=1, **arguments),
    ):
        with pytest.raises(error, match=says):
            search.fit(X, Y)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ((X, Y[:-1]), "inconsistent numbers of samples"),
        ((X[:0], Y[:0]), "0"),
        ((X[0, 0], Y), "Singleton|scalar|dimension"),
    ],
)
@pytest.mark.usefixtures("_nothing_starts")
def test_data_that_scikit_learn_refuses(data, says):
    with pytest.raises((ValueError, TypeError), match=says):
        GridSearchCV(GaussianNB(), {}, cv=2, n_jobs=1).fit(*data)
