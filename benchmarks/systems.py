"""Who does the work: each system is a context manager that starts workers and yields a search.

A search takes a workload and its data, and returns the mean test score of each candidate, in the
order of the grid. Whatever a system does with the data before the first fit (send it, dump it,
persist it) is part of its search; to start the workers is not.

All systems on ipyparallel use the same cluster, so that they differ in what they send to it.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import ipyparallel as ipp
import joblib
import numpy as np
from ipyparallel.joblib import register
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, ParameterGrid
from workloads import CV, Workload

import mscourse
import mscourse.joblib

Scores: TypeAlias = NDArray[np.float64]
Search: TypeAlias = Callable[[Workload, Any, NDArray[Any]], Scores]
System: TypeAlias = Callable[[int], AbstractContextManager[Search]]

# Room for the data that wait in Ray's shared memory, a copy for each task under way. Of what is not
# used nothing is taken; with less, Ray would write to the disk.
_RAY_STORE_BYTES = 8_000_000_000


@contextmanager
def sequential(n_workers: int) -> Iterator[Search]:
    """Run scikit-learn's search in the calling process, whatever the number of workers."""
    yield lambda work, X, y: _scikit_learn_search(work, X, y, n_jobs=1)


@contextmanager
def scikit_learn(n_workers: int) -> Iterator[Search]:
    """Run scikit-learn's search on loky, its default."""
    yield lambda work, X, y: _scikit_learn_search(work, X, y, n_jobs=n_workers)


@contextmanager
def scikit_learn_memory(n_workers: int) -> Iterator[Search]:
    """Run scikit-learn's search on loky, with a pipeline that keeps its fitted steps on disk."""
    with tempfile.TemporaryDirectory() as folder:

        def search(work: Workload, X: Any, y: NDArray[Any]) -> Scores:
            return _scikit_learn_search(work, X, y, n_jobs=n_workers, memory=folder)

        yield search


@contextmanager
def on_ray(n_workers: int) -> Iterator[Search]:
    """Run scikit-learn's search on Ray, through the joblib backend that comes with it."""
    # Said before the import: nothing is reported to anybody, and nothing is asked.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    import ray
    from ray.util.joblib import register_ray

    # It warns of settings that it cannot take from joblib, which nobody has given.
    logging.getLogger("ray").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        ray.init(
            num_cpus=n_workers,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            object_store_memory=_RAY_STORE_BYTES,
            _temp_dir=folder,
        )
        try:
            register_ray()
            with joblib.parallel_config("ray"):
                yield lambda work, X, y: _scikit_learn_search(work, X, y, n_jobs=n_workers)
        finally:
            ray.shutdown()


@contextmanager
def joblib_ipyparallel(n_workers: int) -> Iterator[Search]:
    """Run scikit-learn's search on ipyparallel engines, through joblib."""
    register()
    with (
        mscourse.local_cluster(n_workers) as client,
        joblib.parallel_config("ipyparallel", view=client.load_balanced_view()),
    ):
        yield lambda work, X, y: _scikit_learn_search(work, X, y, n_jobs=None)


@contextmanager
def joblib_mscourse(n_workers: int) -> Iterator[Search]:
    """Run scikit-learn's search on the same engines, through this package's joblib backend."""
    with (
        mscourse.local_cluster(n_workers) as client,
        joblib.parallel_config("mscourse", engines=client),
    ):
        yield lambda work, X, y: _scikit_learn_search(work, X, y, n_jobs=-1)


@contextmanager
def dask_ml(n_workers: int) -> Iterator[Search]:
    """Run dask-ml's search on a local cluster of processes with one thread each."""
    import dask_ml.model_selection
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):

        def search(work: Workload, X: Any, y: NDArray[Any]) -> Scores:
            grid = dask_ml.model_selection.GridSearchCV(
                work.estimator, work.param_grid, cv=CV, refit=False, scheduler=client
            )
            return grid.fit(X, y).cv_results_["mean_test_score"]

        yield search


@contextmanager
def by_hand(n_workers: int) -> Iterator[Search]:
    """Run the thirty lines of the course: a file per split, a message per evaluation."""
    with mscourse.local_cluster(n_workers) as client, tempfile.TemporaryDirectory() as folder:
        view = client.load_balanced_view()

        def search(work: Workload, X: NDArray[Any], y: NDArray[Any]) -> Scores:
            files = _persist_by_hand(X, y, Path(folder))
            return _grid_search_by_hand(view, work.estimator, work.param_grid, files)

        yield search


@contextmanager
def with_mscourse(n_workers: int, *, shares_prefixes: bool = True) -> Iterator[Search]:
    """Run this package's search on the engines that it starts."""
    # Given only where it says something, so that the default is what is measured.
    sharing = {} if shares_prefixes else {"prefix_cache_bytes": 0}
    with mscourse.local_cluster(n_workers) as client:

        def search(work: Workload, X: Any, y: NDArray[Any]) -> Scores:
            with mscourse.persist_cv_splits(
                X, y, folder=None, name="work", cv=CV, random_state=0
            ) as splits:
                running = mscourse.grid_search(
                    work.estimator,
                    work.param_grid,
                    splits,
                    engines=client,
                    return_train_score=False,
                    error_score="raise",
                    **sharing,
                )
                running.wait(progress_bar=False)
                return running.results()["mean_test_score"]

        yield search


def mscourse_sharing_nothing(n_workers: int) -> AbstractContextManager[Search]:
    """Run this package's search, but fit each pipeline as a whole."""
    return with_mscourse(n_workers, shares_prefixes=False)


SYSTEMS: dict[str, System] = {
    "sequential": sequential,
    "scikit-learn": scikit_learn,
    "scikit-learn, memory": scikit_learn_memory,
    "dask-ml": dask_ml,
    "Ray": on_ray,
    "joblib on ipyparallel": joblib_ipyparallel,
    "joblib on mscourse": joblib_mscourse,
    "by hand": by_hand,
    "mscourse, nothing shared": mscourse_sharing_nothing,
    "mscourse": with_mscourse,
}


def _scikit_learn_search(
    work: Workload, X: Any, y: NDArray[Any], n_jobs: int | None, memory: str | None = None
) -> Scores:
    estimator = clone(work.estimator)
    if memory is not None:
        estimator.set_params(memory=memory)
    grid = GridSearchCV(estimator, work.param_grid, cv=CV, refit=False, n_jobs=n_jobs)
    return grid.fit(X, y).cv_results_["mean_test_score"]


# -- by hand, as in the course -------------------------------------------------------------------


def _persist_by_hand(X: NDArray[Any], y: NDArray[Any], folder: Path) -> list[Path]:
    files = []
    for i, (train, test) in enumerate(CV.split(X, y)):
        file = folder / f"split-{i}.joblib"
        joblib.dump((X[train], y[train], X[test], y[test]), file)
        files.append(file)
    return files


def compute_evaluation(estimator: Any, params: dict[str, Any], file: Path) -> float:
    """Fit one candidate on one split, and score it. Runs on an engine."""
    X_train, y_train, X_test, y_test = joblib.load(file, mmap_mode="c")
    model = clone(estimator).set_params(**params)
    return model.fit(X_train, y_train).score(X_test, y_test)


def _grid_search_by_hand(
    view: ipp.LoadBalancedView, estimator: Any, param_grid: Mapping[str, Any], files: list[Path]
) -> Scores:
    evaluations = [
        [view.apply_async(compute_evaluation, estimator, params, file) for file in files]
        for params in ParameterGrid(param_grid)
    ]
    return np.array([np.mean([each.get() for each in row]) for row in evaluations])
