"""A search on executors of the world: the same results as on ipyparallel engines."""

from __future__ import annotations

import logging
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import psutil
import pytest
from helpers import wait_until
from joblib.externals.loky import get_reusable_executor
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import ShuffleSplit
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC

import mscourse
from mscourse.pools import ExecutorPool

GRID = {"C": [0.1, 1, 10], "gamma": [1e-2, 1e-1]}


@contextmanager
def threads():
    with ThreadPoolExecutor(2) as executor:
        yield executor


@contextmanager
def processes():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


@contextmanager
def loky():
    executor = get_reusable_executor(max_workers=2)
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, kill_workers=True)


@contextmanager
def dask():
    distributed = pytest.importorskip("distributed")
    with (
        tempfile.TemporaryDirectory() as folder,  # Dask leaves its own behind
        pytest.importorskip("dask.config").set(
            {
                "temporary-directory": folder,
                # Each death of a worker is told at once, not after some tries of Dask's own.
                "distributed.scheduler.allowed-failures": 0,
            }
        ),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            silence_logs=logging.ERROR,
        ) as cluster,
        distributed.Client(cluster) as client,
        client.get_executor() as executor,
    ):
        yield executor


EXECUTORS = [threads, processes, loky, dask]
IN_PROCESSES = [processes, loky, dask]


def children():
    return {each.pid for each in psutil.Process().children(recursive=True)}


@pytest.fixture(autouse=True)
def _no_process_is_left(client):
    before = children()
    yield
    left = [psutil.Process(pid) for pid in children() - before if psutil.pid_exists(pid)]
    # The resource tracker of multiprocessing and of loky serves this process to its end.
    left = [each for each in left if "resource_tracker" not in " ".join(each.cmdline())]
    _, alive = psutil.wait_procs(left, timeout=10)
    assert not alive


@pytest.fixture(scope="module")
def expected(client, digits_splits):
    search = mscourse.grid_search(SVC(), GRID, digits_splits, engines=client)
    search.wait()
    return search.results()


@pytest.mark.parametrize("open_executor", EXECUTORS)
def test_the_results_are_those_of_engines(open_executor, digits_splits, expected):
    with open_executor() as executor:
        assert len(ExecutorPool(executor).engines()) == 2
        search = mscourse.grid_search(SVC(), GRID, digits_splits, engines=executor)
        search.wait()
        results = search.results()
        assert search.n_done == search.n_total == 30
    for key in ("mean_test_score", "std_test_score", "rank_test_score"):
        np.testing.assert_array_equal(results[key], expected[key])


class Where(ClassifierMixin, BaseEstimator):
    """Scores with the process it runs in, or ends that process."""

    def __init__(self, i=0, deadly=False):
        self.i = i
        self.deadly = deadly

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        if self.deadly:
            os._exit(1)
        return self

    def score(self, X, y):
        return os.getpid()


@pytest.mark.parametrize("open_executor", IN_PROCESSES)
def test_the_work_is_done_in_the_executors_processes(open_executor, digits_splits):
    with open_executor() as executor:
        search = mscourse.grid_search(Where(), {"i": range(20)}, digits_splits, engines=executor)
        search.wait()
        pids = set(np.ravel([search.results()[f"split{i}_test_score"] for i in range(5)]))
        assert pids <= children()
        assert os.getpid() not in pids


@pytest.mark.parametrize("open_executor", EXECUTORS)
def test_an_aborted_search_leaves_the_executor_usable(open_executor, digits_splits):
    with open_executor() as executor:
        search = mscourse.grid_search(
            SVC(), {"C": list(range(1, 500))}, digits_splits, engines=executor
        )
        search.abort()
        assert search.n_done < search.n_total
        again = mscourse.grid_search(
            GaussianNB(), {"var_smoothing": [1e-9]}, digits_splits, engines=executor
        )
        again.wait()
        assert again.n_done == 5


@pytest.mark.parametrize("open_executor", [processes, loky])
def test_the_death_of_a_worker_is_told_where_it_ends_the_executor(open_executor, digits_splits):
    with open_executor() as executor:
        search = mscourse.grid_search(
            Where(), {"deadly": [True], "i": range(4)}, digits_splits, engines=executor
        )
        with pytest.raises(mscourse.NoEnginesError, match="took the executor with it"):
            search.wait()


@pytest.fixture
def one_split(digits, tmp_path):
    cv = ShuffleSplit(1, random_state=0)
    return mscourse.persist_cv_splits(*digits, folder=tmp_path, name="digits", cv=cv)


def test_dask_goes_on_when_a_worker_dies(one_split):
    with dask() as executor:
        search = mscourse.grid_search(
            Where(), [{"deadly": [True]}, {"i": range(4)}], one_split, engines=executor
        )
        search.wait()
        scores = search.results()["mean_test_score"]
    assert np.isnan(scores).tolist() == [True, False, False, False, False]


class DiesOnce(GaussianNB):
    def __init__(self, var_smoothing=1e-9, marker=None):
        super().__init__(var_smoothing=var_smoothing)
        self.marker = marker

    def fit(self, X, y):
        if not self.marker.exists():
            self.marker.touch()
            os._exit(1)
        return super().fit(X, y)


def test_what_dask_lost_with_a_worker_is_done_again(one_split, tmp_path):
    with dask() as executor:
        estimator = DiesOnce(marker=tmp_path / "died")
        search = mscourse.grid_search(
            estimator, {"var_smoothing": [1e-9]}, one_split, engines=executor
        )
        search.wait()
        assert search.n_failed == 0


class Slow(GaussianNB):
    def __init__(self, number=0):
        super().__init__()
        self.number = number

    def fit(self, X, y):
        time.sleep(0.5)
        FITTED.append(self.number)
        return super().fit(X, y)


FITTED = []


@pytest.mark.parametrize("cancels", [False, True])
def test_what_an_executor_runs_when_it_is_shut_down_counts(digits_splits, cancels):
    FITTED.clear()
    executor = ThreadPoolExecutor(2)
    search = mscourse.grid_search(
        Slow(), {"number": list(range(20))}, digits_splits, engines=executor
    )
    assert wait_until(lambda: len(FITTED) > 2)
    executor.shutdown(wait=True, cancel_futures=cancels)
    with pytest.raises(mscourse.ClusterError, match=r"cannot be sent work: .* after shutdown"):
        search.wait(60)
    assert 2 < search.n_done == len(FITTED) < 100
