"""What evaluations hold in memory: no copy of the data, and little for a record of each."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.tree import DecisionTreeClassifier

import mscourse
from mscourse import footprint

PATIENCE_S = 120
ONLY_LINUX = pytest.mark.skipif(not psutil.LINUX, reason="Only Linux tells the anonymous memory.")


class Idle(ClassifierMixin, BaseEstimator):
    """Does nothing."""

    def __init__(self, setting=0):
        self.setting = setting

    def fit(self, X, y):
        return self

    def score(self, X, y):
        return 0.5


class Deletes(Idle):
    """Deletes the data it is fitted on."""

    def __init__(self, setting=None):
        self.setting = setting

    def fit(self, X, y):
        self.setting.unlink()
        return self


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """80 MB in five classes, as they are and in single precision; one split."""
    rng = np.random.default_rng(0)
    X = rng.random(size=(125_000, 80))
    y = np.argmax(X[:, :5], axis=1)
    cv = [(range(100_000), range(100_000, 125_000))]
    folder = tmp_path_factory.mktemp("large")
    return {
        dtype: mscourse.persist_cv_splits(X, y, cv=cv, folder=folder, name=dtype, dtype=dtype)
        for dtype in ("float64", "float32")
    }


def peak_bytes(estimator, splits, engines):
    search = mscourse.grid_search(
        estimator, {}, splits, engines=engines, return_train_score=False, error_score="raise"
    )
    assert search.wait(PATIENCE_S)
    return max(e.peak_anonymous_bytes for e in search.evaluations())


def copied_part(estimator, splits, digits_splits):
    """What an engine holds more than with little data, as a part of the train set."""
    with mscourse.local_cluster(1) as client:
        before_bytes = peak_bytes(estimator, digits_splits, client)
        added_bytes = peak_bytes(estimator, splits, client) - before_bytes
    return added_bytes / splits[0].load()[0].nbytes


@ONLY_LINUX
@pytest.mark.parametrize(
    ("estimator", "most"),
    [
        # What there is beside a copy: probabilities of each class,
        (SGDClassifier(max_iter=2, tol=None), 0.3),
        (LogisticRegression(max_iter=3), 0.4),
        (MultinomialNB(), 0.3),
        # and a byte for each number, with the columns side by side.
        (HistGradientBoostingClassifier(max_iter=2, early_stopping=False), 0.7),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_evaluation_adds_no_copy_of_the_data(estimator, most, large, digits_splits):
    assert copied_part(estimator, large["float64"], digits_splits) < most


@ONLY_LINUX
@pytest.mark.long
def test_a_tree_copies_double_precision_and_not_single(large, digits_splits):
    tree = DecisionTreeClassifier(max_depth=1)
    double, single = (copied_part(tree, large[d], digits_splits) for d in ("float64", "float32"))
    assert double > 0.5
    assert single < 0.4  # the order of the rows, and its other tables


@pytest.mark.long
def test_a_search_of_many_evaluations_takes_little_memory(digits_splits, client):
    def search_of(n_candidates):
        search = mscourse.grid_search(
            Idle(), {"setting": range(n_candidates)}, digits_splits, engines=client,
            return_train_score=False,
        )  # fmt: skip
        before_bytes = mscourse.process_memory().rss_bytes
        assert search.wait(PATIENCE_S)
        return search, mscourse.process_memory().rss_bytes - before_bytes

    search_of(1000)  # what is allocated once
    search, grown_bytes = search_of(20_000)
    assert search.n_done == 100_000
    assert grown_bytes / search.n_done < 1000
    assert len(search.best(3)) == 3


# -- the watch -------------------------------------------------------------------------------------


@ONLY_LINUX
def test_the_peak_is_seen_though_it_has_passed():
    before = footprint.watch().end()
    watch = footprint.watch()
    held = np.ones(100_000_000, dtype=np.uint8)
    time.sleep(0.1)
    del held
    inner = footprint.watch()
    assert inner.end() < before + 50e6
    assert 90e6 < watch.end() - before < 150e6


def _peak_of_100_mb(answer):
    watch = footprint.watch()
    held = np.ones(100_000_000, dtype=np.uint8)
    answer.put(watch.end() + 0 * int(held[0]))


@ONLY_LINUX
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_process_watches_itself():
    """The thread that watches for its parent has not come with it."""
    before = footprint.watch().end()
    fork = multiprocessing.get_context("fork")
    answer = fork.SimpleQueue()
    child = fork.Process(target=_peak_of_100_mb, args=(answer,))
    child.start()
    assert answer.get() > before + 80e6
    child.join()


@ONLY_LINUX
def test_nobody_looks_when_nobody_asks(monkeypatch):
    monkeypatch.setattr(footprint, "_IDLE_S", 0.05)
    footprint.watch().end()
    thread = footprint._watcher._thread
    assert thread.is_alive()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert footprint.watch().end() > 0


@ONLY_LINUX
def test_an_evaluation_that_ends_the_search_leaves_no_watch(digits, tmp_path):
    X, y = digits
    splits = mscourse.persist_cv_splits(X, y, folder=tmp_path, name="digits")
    (data,) = splits.folder.glob("X-*")
    with ThreadPoolExecutor(1) as executor:  # in this very process
        search = mscourse.grid_search(Deletes(data), {}, splits, engines=executor)
        with pytest.raises(mscourse.DamagedSplitsError, match="is gone"):
            search.wait(PATIENCE_S)
    assert footprint._watcher._watches == []


def test_where_the_system_does_not_tell_there_is_no_number(monkeypatch):
    monkeypatch.setattr(footprint, "_PAGE_BYTES", 0)
    assert footprint.watch().end() is None
