"""The work that every system is given: data, an estimator, a grid and five stratified folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import GaussianNB

CV = StratifiedKFold(5)

# Enough tiny evaluations that each of 8 workers has had some, and has imported what it needs.
_WARM_UP_CANDIDATES = 16
_WARM_UP_SAMPLES = 200


class DoesNothing(ClassifierMixin, BaseEstimator):
    """An estimator whose fit and score take no time: what is left is the system's own."""

    def __init__(self, setting: int = 0) -> None:
        self.setting = setting

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> DoesNothing:
        self.classes_ = (0, 1)
        return self

    def score(self, X: NDArray[Any], y: NDArray[Any]) -> float:
        return 0.0


@dataclass(frozen=True)
class Workload:
    """Candidates to be evaluated on five folds of some data.

    Attributes
    ----------
    n_samples, n_features : int
        Shape of the data, in float64.
    estimator : estimator
        What is fitted.
    parameter : str
        The parameter that the grid varies.
    values : sequence
        Its values: the candidates.
    tolerance : float
        How much the mean test scores of two systems may differ. It is not 0 where the order of
        the rows matters to the estimator, since `mscourse` stores the rows of a fold in an order
        of its own.
    """

    n_samples: int
    n_features: int
    estimator: BaseEstimator
    parameter: str
    values: Sequence[Any]
    tolerance: float

    @property
    def param_grid(self) -> dict[str, list[Any]]:
        return {self.parameter: list(self.values)}

    @property
    def n_evaluations(self) -> int:
        return len(self.values) * CV.get_n_splits()

    @property
    def data_bytes(self) -> int:
        return self.n_samples * self.n_features * np.dtype(np.float64).itemsize

    def data(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Two classes that overlap, so that the scores say something."""
        rng = np.random.default_rng(0)
        X = rng.standard_normal((self.n_samples, self.n_features))
        noise = rng.standard_normal(self.n_samples)
        y = (X @ rng.standard_normal(self.n_features) / self.n_features**0.5 + noise > 0).astype(
            int
        )
        return X, y

    def first(self, n_evaluations: int) -> Workload:
        """The same with fewer candidates."""
        return replace(self, values=self.values[: n_evaluations // CV.get_n_splits()])

    def warm_up(self) -> Workload:
        """The same estimator on next to no data."""
        values = [self.values[0]] * _WARM_UP_CANDIDATES
        return replace(self, values=values, n_samples=_WARM_UP_SAMPLES)


def workloads(*, quick: bool) -> dict[str, Workload]:
    """Name the workloads; the quick ones only show that everything runs."""
    return {
        "large": Workload(
            n_samples=20_000 if quick else 200_000,
            n_features=20 if quick else 100,
            estimator=SGDClassifier(max_iter=5, tol=None, random_state=0),
            parameter="alpha",
            values=np.logspace(-4, -0.5, 8).tolist(),
            tolerance=0.05 if quick else 0.01,
        ),
        "small": Workload(
            n_samples=2_000,
            n_features=100,
            estimator=GaussianNB(),
            parameter="var_smoothing",
            values=np.logspace(-12, 1, 20 if quick else 200).tolist(),
            tolerance=1e-9,
        ),
        "nothing": Workload(
            n_samples=200,
            n_features=10,
            estimator=DoesNothing(),
            parameter="setting",
            values=range(40 if quick else 2_000),
            tolerance=0.0,
        ),
    }
