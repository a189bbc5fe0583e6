"""Which estimators copy the data that they are given, and whether float32 helps them.

Called by run.py, and also alone: ``python benchmarks/copies.py`` prints a table, ``--json`` the
rows of it, and ``--quick`` only shows that everything runs.

Splits that are mapped spare each engine a copy of the data. But many an estimator makes one by
itself: in another order, in another type, or of the parts that it works on. So each estimator is
fitted once on the train set of a persisted split, in a fresh process that has done a tiny fit
before. From outside it is watched how much memory the process comes to hold by itself, meaning
pages that belong to no file. That growth is given as a multiple of the train set.
"""
# ruff: noqa: RUF001  # people read a multiplication sign more easily than an x

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import tempfile
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pss import own_bytes
from sklearn.base import BaseEstimator, is_regressor
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import (
    Lasso,
    LinearRegression,
    LogisticRegression,
    Perceptron,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

import mscourse

DTYPES = ("float64", "float32")

Row = dict[str, Any]

_PERIOD_S = 0.001

# A tenth of the data is the smallest growth that counts.
_LEAST_GROWTH = 0.1


@dataclass(frozen=True)
class Case:
    """An estimator, and the shape of the data that it is given.

    The data are large beside what a model holds, so that the growth is that of copies. An estimator
    that looks at pairs of rows is given few and long ones.
    """

    name: str
    estimator: BaseEstimator
    n_samples: int = 50_000
    n_features: int = 100


_FEW_ROWS = {"n_samples": 2_500, "n_features": 2_000}


def cases() -> list[Case]:
    """Name the estimators. They learn little: how much they copy shows at once."""
    return [
        Case("GaussianNB", GaussianNB()),
        Case("SGDClassifier", SGDClassifier(max_iter=2, tol=None)),
        Case("Perceptron", Perceptron(max_iter=2, tol=None)),
        Case("LogisticRegression, lbfgs", LogisticRegression(max_iter=300)),
        Case("LogisticRegression, newton-cholesky", LogisticRegression(solver="newton-cholesky")),
        Case("LogisticRegression, saga", LogisticRegression(solver="saga", tol=0.1)),
        Case("RidgeClassifier", RidgeClassifier()),
        Case("Ridge", Ridge()),
        Case("LinearRegression", LinearRegression()),
        Case("Lasso", Lasso(alpha=0.1)),
        Case("LinearSVC", LinearSVC(tol=0.1)),
        # Its cache of the kernel is another matter: 200 MB by default, whatever the data.
        Case("SVC", SVC(cache_size=1, tol=1.0), **_FEW_ROWS),
        Case("KNeighborsClassifier, brute", KNeighborsClassifier(algorithm="brute")),
        Case("KNeighborsClassifier, kd_tree", KNeighborsClassifier(algorithm="kd_tree")),
        Case("DecisionTreeClassifier", DecisionTreeClassifier(max_depth=2)),
        Case("RandomForestClassifier", RandomForestClassifier(2, max_depth=4)),
        Case("ExtraTreesClassifier", ExtraTreesClassifier(2, max_depth=4)),
        Case("GradientBoostingClassifier", GradientBoostingClassifier(n_estimators=2, max_depth=1)),
        Case("HistGradientBoostingClassifier", HistGradientBoostingClassifier(max_iter=2)),
        Case(
            "HistGradientBoostingClassifier, early_stopping=False",
            HistGradientBoostingClassifier(max_iter=2, early_stopping=False),
        ),
        Case("MLPClassifier", MLPClassifier((20,), max_iter=1, solver="sgd", tol=10.0)),
        Case("KMeans", KMeans(3, n_init=1, max_iter=5, tol=0.1)),
        Case("MiniBatchKMeans", MiniBatchKMeans(3, n_init=1, max_iter=5)),
        Case("PCA", PCA(10)),
        Case("StandardScaler → SGDClassifier", make_pipeline(
            StandardScaler(), SGDClassifier(max_iter=2, tol=None)
        )),
    ]  # fmt: skip


def measure(*, quick: bool) -> list[Row]:
    """Fit all estimators on both types of numbers.

    Returns
    -------
    list of dict
        For each: how the memory grew, as a multiple of the train set as it is stored.
    """
    chosen = cases()[:3] if quick else cases()
    # Processes that are forked from one that has imported everything, and has done nothing yet.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["copies"])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for n_samples, n_features in sorted({(each.n_samples, each.n_features) for each in chosen}):
            X, y = _data(n_samples, n_features)
            for dtype in DTYPES:
                name = f"{n_samples}-{n_features}-{dtype}"
                mscourse.persist_cv_splits(X, y, folder=folder, name=name, cv=5, dtype=dtype)
        for case in chosen:
            row: Row = {"estimator": case.name}
            for dtype in DTYPES:
                name = f"{case.n_samples}-{case.n_features}-{dtype}"
                row[dtype] = _growth(processes, case.name, Path(folder) / name)
            rows.append(row)
    return rows


def as_table(rows: Iterable[Row]) -> str:
    """Render what `measure` gives as a table in Markdown."""
    lines = [
        "| estimator | float64: × the train set | float32: × the train set | with float32 |",
        "| :-- | --: | --: | :-- |",
    ]
    for row in rows:
        shown = " | ".join(f"{row[dtype]:.1f}" for dtype in DTYPES)
        lines.append(f"| {row['estimator']} | {shown} | {verdict(row)} |")
    return "\n".join(lines)


def verdict(row: Row) -> str:
    """Say what float32 changes, given that the file itself is half as large."""
    # In units of the train set in float64, which is what an engine pays for.
    own, own_single = row["float64"], row["float32"] / 2
    if own_single > own + _LEAST_GROWTH:
        return "file halved, but each engine copies more"
    if own < _LEAST_GROWTH:
        return "file halved, nothing copied"
    if own_single < own - _LEAST_GROWTH:
        return "file and copies smaller"
    return "file halved, copies as large as before"


# -- one fit ---------------------------------------------------------------------------------------


def _growth(processes: Any, name: str, folder: Path) -> float:
    """Fit one estimator in a fresh process, and watch it from here."""
    here, there = processes.Pipe()
    process = processes.Process(target=_fit, args=(there, name, folder))
    process.start()
    there.close()
    train_bytes: int = here.recv()
    before_bytes = most_bytes = own_bytes(process.pid)
    here.send("go")
    while not here.poll():
        most_bytes = max(most_bytes, own_bytes(process.pid))
        time.sleep(_PERIOD_S)
    here.recv()
    process.join()
    return round((most_bytes - before_bytes) / train_bytes, 2)


def _fit(connection: Connection, name: str, folder: Path) -> None:
    """Map a train set, say how large it is, and fit an estimator when told to."""
    # They are told to stop before they have learned all there is to learn.
    warnings.simplefilter("ignore", ConvergenceWarning)
    (estimator,) = (case.estimator for case in cases() if case.name == name)
    X, y, *_ = mscourse.open_splits(folder.parent, folder.name)[0].load()
    if is_regressor(estimator):
        y = y + 0.5
    # What is imported and set up only once is no copy.
    estimator.fit(*_data(200, X.shape[1], dtype=X.dtype))
    float(X.sum())  # now all pages are there, whoever reads them next
    gc.collect()
    connection.send(X.nbytes)
    connection.recv()
    estimator.fit(X, y)
    connection.send("done")


def _data(
    n_samples: int, n_features: int, dtype: Any = np.float64
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_samples, n_features))
    # The classes overlap little, so that every solver ends soon.
    y = (X[:, 0] + 0.3 * rng.standard_normal(n_samples) > 0).astype(int)
    return X.astype(dtype, copy=False), y


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only show that everything runs")
    parser.add_argument("--json", action="store_true", help="print the rows instead of the table")
    arguments = parser.parse_args()
    rows = measure(quick=arguments.quick)
    print(json.dumps(rows) if arguments.json else as_table(rows))


if __name__ == "__main__":
    main()
