"""The work that every system is given: data, an estimator, a grid and five stratified folds."""
# ruff: noqa: RUF001  # people read a multiplication sign more easily than an x

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import ParameterGrid, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline

CV = StratifiedKFold(5)

# Where `Burns` writes down when it was at work: a folder, named in the environment of the workers.
LOG_VARIABLE = "MSCOURSE_BENCHMARK_LOG"

Data: TypeAlias = tuple[Any, NDArray[np.int64]]

# Enough tiny evaluations that each of 8 workers has had some, and has imported what it needs.
_WARM_UP_CANDIDATES = 16
_WARM_UP_SAMPLES = 200
_WARM_UP_S = 0.001

_WORDS_PER_TEXT = 150
_VOCABULARY = 30_000


class DoesNothing(ClassifierMixin, BaseEstimator):
    """An estimator whose fit and score take no time: what is left is the system's own."""

    def __init__(self, setting: int = 0, other: int = 0) -> None:
        self.setting = setting
        self.other = other

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> DoesNothing:
        self.classes_ = (0, 1)
        return self

    def score(self, X: NDArray[Any], y: NDArray[Any]) -> float:
        return 0.0


class Burns(ClassifierMixin, BaseEstimator):
    """An estimator whose fit keeps a core busy for a set time, and writes down from when to when.

    What is written down is the same whichever system calls it, so that they can be compared.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> Burns:
        start_s = time.time()
        while time.time() < start_s + self.seconds:
            math.sqrt(2.0)
        self.classes_ = (0, 1)
        # The warm-up is no part of the work.
        if LOG_VARIABLE in os.environ and self.seconds > _WARM_UP_S:
            log = Path(os.environ[LOG_VARIABLE]) / f"{os.getpid()}.txt"
            with log.open("a") as file:
                file.write(f"{start_s!r} {time.time()!r}\n")
        return self

    def score(self, X: NDArray[Any], y: NDArray[Any]) -> float:
        return 0.0


@dataclass(frozen=True)
class Workload:
    """Candidates to be evaluated on five folds of some data.

    Attributes
    ----------
    estimator : estimator
        What is fitted.
    param_grid : dict of str to sequence
        The candidates. `first` cuts the parameter that comes first, which is the first in the order
        of the alphabet, too: scikit-learn's grid varies it least often.
    tolerance : float
        How much the mean test scores of two systems may differ. It is not 0 where the order of
        the rows matters to the estimator, since `mscourse` stores the rows of a fold in an order
        of its own.
    n_samples, n_features : int
        Shape of the data.
    kind : {"classes", "texts"}
        Numbers in float64, or texts.
    shown_as : str, optional
        What the report calls the estimator.
    """

    estimator: BaseEstimator
    param_grid: Mapping[str, Sequence[Any]]
    tolerance: float
    n_samples: int
    n_features: int = 100
    kind: Literal["classes", "texts"] = "classes"
    shown_as: str = ""

    @property
    def n_candidates(self) -> int:
        return len(ParameterGrid(self.param_grid))

    @property
    def n_evaluations(self) -> int:
        return self.n_candidates * CV.get_n_splits()

    @property
    def data_bytes(self) -> int:
        """Size of the data as numbers; of texts, about what their characters take."""
        if self.kind == "texts":
            return self.n_samples * _WORDS_PER_TEXT * _BYTES_PER_WORD
        return self.n_samples * self.n_features * np.dtype(np.float64).itemsize

    @property
    def shape(self) -> str:
        if self.kind == "texts":
            return f"{self.n_samples:,} texts of {_WORDS_PER_TEXT} words"
        return f"{self.n_samples:,} × {self.n_features} float64"

    def data(self) -> Data:
        """Two classes that overlap, so that the scores say something."""
        if self.kind == "texts":
            return _texts(self.n_samples)
        rng = np.random.default_rng(0)
        X = rng.standard_normal((self.n_samples, self.n_features))
        noise = rng.standard_normal(self.n_samples)
        y = (X @ rng.standard_normal(self.n_features) / self.n_features**0.5 + noise > 0).astype(
            int
        )
        return X, y

    def first(self, n_evaluations: int) -> Workload:
        """The same with fewer candidates."""
        name, values = next(iter(self.param_grid.items()))
        n_values = len(values) * n_evaluations // self.n_evaluations
        return replace(self, param_grid={**self.param_grid, name: values[:n_values]})

    def warm_up(self) -> Workload:
        """The same estimator on next to no data."""
        name, values = next(iter(self.param_grid.items()))
        value = _WARM_UP_S if isinstance(self.estimator, Burns) else values[0]
        first_of_others = {other: values[:1] for other, values in self.param_grid.items()}
        return replace(
            self,
            param_grid={**first_of_others, name: [value] * _WARM_UP_CANDIDATES},
            n_samples=_WARM_UP_SAMPLES,
        )


_BYTES_PER_WORD = 6  # "w" and about four digits, and a space


def _texts(n_samples: int) -> Data:
    """Texts of two classes, whose words are as frequent as those of a language (Zipf's law).

    A class is told by how often it uses some of the words.
    """
    rng = np.random.default_rng(0)
    words = np.array([f"w{i:x}" for i in range(_VOCABULARY)])
    frequency = 1 / np.arange(1, _VOCABULARY + 1)
    preferred = rng.permutation(_VOCABULARY)[: _VOCABULARY // 2]
    other = frequency.copy()
    other[preferred] *= rng.uniform(0.6, 1.6, len(preferred))
    cumulated = [np.cumsum(each / each.sum()) for each in (frequency, other)]
    y = rng.integers(2, size=n_samples)
    drawn = [np.searchsorted(cumulated[label], rng.random(_WORDS_PER_TEXT)) for label in y]
    texts = [" ".join(words[np.minimum(numbers, _VOCABULARY - 1)]) for numbers in drawn]
    return texts, y


def workloads(*, quick: bool) -> dict[str, Workload]:
    """Name the workloads; the quick ones only show that everything runs."""
    large = Workload(
        estimator=SGDClassifier(max_iter=5, tol=None, random_state=0),
        param_grid={"alpha": np.logspace(-4, -0.5, 2 if quick else 8).tolist()},
        tolerance=0.05 if quick else 0.01,
        n_samples=10_000 if quick else 200_000,
        n_features=20 if quick else 100,
    )
    nothing = Workload(
        estimator=DoesNothing(),
        param_grid={"setting": range(40 if quick else 2_000)},
        tolerance=0.0,
        n_samples=200,
        n_features=10,
    )
    return {
        "large": large,
        "large 15 MB": replace(
            large,
            n_samples=large.n_samples // 10,
            # So few rows say less, and the order of the rows decides more.
            tolerance=3 * large.tolerance,
        ),
        "large 1.5 GB": replace(
            large,
            n_samples=large.n_samples * (2 if quick else 10),
            param_grid={"alpha": large.param_grid["alpha"][:2]},
        ),
        "light": Workload(
            estimator=GaussianNB(),
            param_grid={"var_smoothing": np.logspace(-12, 1, 2 if quick else 4).tolist()},
            tolerance=1e-9,
            n_samples=large.n_samples,
            n_features=large.n_features,
        ),
        "heavy": Workload(
            estimator=HistGradientBoostingClassifier(
                max_iter=20, early_stopping=False, random_state=0
            ),
            param_grid={"learning_rate": np.logspace(-2, 0, 1 if quick else 4).tolist()},
            # Where a bin ends depends on rounding, and that on the order of the rows.
            tolerance=0.02,
            n_samples=2_000 if quick else 20_000,
            n_features=20 if quick else 100,
            shown_as="HistGradientBoostingClassifier(max_iter=20)",
        ),
        "small": Workload(
            estimator=GaussianNB(),
            param_grid={"var_smoothing": np.logspace(-12, 1, 20 if quick else 200).tolist()},
            tolerance=1e-9,
            n_samples=2_000,
        ),
        "nothing": nothing,
        "million": replace(
            nothing,
            # Two ranges, so that nobody needs to hold the candidates.
            param_grid={"setting": range(20 if quick else 1_000), "other": range(200)},
        ),
        "text": Workload(
            estimator=Pipeline(
                [
                    ("tfidf", TfidfVectorizer()),
                    ("classifier", SGDClassifier(max_iter=20, tol=None, random_state=0)),
                ]
            ),
            param_grid={
                "classifier__alpha": np.logspace(-6, -2, 2 if quick else 10).tolist(),
                "tfidf__ngram_range": [(1, 1), (1, 2)],
            },
            # With so few rows, and the weakest penalty, their order decides on some of them.
            tolerance=0.1 if quick else 0.05,
            n_samples=400 if quick else 8_000,
            kind="texts",
            shown_as="TfidfVectorizer → SGDClassifier",
        ),
        "pca": Workload(
            estimator=Pipeline(
                [
                    ("pca", PCA(svd_solver="full")),
                    ("classifier", LogisticRegression(max_iter=300)),
                ]
            ),
            param_grid={
                "classifier__C": np.logspace(-3, 2, 2 if quick else 10).tolist(),
                "pca__n_components": [5, 10] if quick else [20, 100],
            },
            tolerance=0.05 if quick else 1e-3,
            n_samples=2_000 if quick else 20_000,
            n_features=30 if quick else 300,
            shown_as='PCA(svd_solver="full") → LogisticRegression',
        ),
        "mix": Workload(
            estimator=Burns(),
            param_grid={"seconds": _mixed_seconds(quick=quick)},
            tolerance=0.0,
            n_samples=200,
            n_features=10,
            shown_as="an estimator that keeps a core busy for a set time",
        ),
    }


def _mixed_seconds(*, quick: bool) -> list[float]:
    """Draw times whose logarithms are spread evenly, in a random order.

    With 15 candidates of five splits each they add up to 80 s, which is 40 s for 2 workers.
    """
    n_candidates, most_s = (3, 0.2) if quick else (15, 5.0)
    seconds = np.geomspace(0.05, most_s, n_candidates)
    return np.random.default_rng(0).permutation(seconds).round(3).tolist()
