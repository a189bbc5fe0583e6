"""The unit of work: fit one candidate on one split, and score it. Runs on the engine."""

from __future__ import annotations

import functools
import math
import numbers
import os
import pickle
import socket
import time
import traceback
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sklearn.base import clone

from mscourse.splits import Splits

Params = Mapping[str, Any]

# What scikit-learn calls the only metric: the keys of cv_results_ are then mean_test_score, ...
SINGLE_METRIC = "score"


@dataclass(frozen=True)
class Evaluation:
    """What came of one evaluation.

    Attributes
    ----------
    candidate : int
        Number of the candidate, in the order in which the search knows them.
    params : dict
        The candidate itself: parameter names and values.
    split : int
        Number of the split.
    n_train : int
        Rows of the train set that were used.
    train_scores, test_scores : dict of str to float
        The score by each metric, first the one by which candidates are ranked; `error_score` if the
        evaluation failed. A single metric is called "score". The train scores are None if they were
        not asked for.
    fit_time_s, score_time_s : float
        Seconds that the fit and the scoring of the test set took.
    error : str or None
        Type and message of the exception, if the evaluation failed.
    error_traceback : str or None
        Where it was raised.
    started_at_s : float
        When the evaluation began, in seconds since the epoch, on the engine's clock.
    elapsed_s : float
        Seconds that it took in all: opening the split, the fit, and all scoring.
    host, pid
        Where it ran.
    engine : hashable or None
        The engine, as the client knows it.
    """

    candidate: int
    params: Params
    split: int
    n_train: int
    train_scores: Mapping[str, float] | None
    test_scores: Mapping[str, float]
    fit_time_s: float
    score_time_s: float
    error: str | None
    error_traceback: str | None
    started_at_s: float
    elapsed_s: float
    host: str
    pid: int
    engine: Hashable = None

    @property
    def train_score(self) -> float | None:
        """The train score by which candidates are ranked; None if it was not asked for."""
        return None if self.train_scores is None else next(iter(self.train_scores.values()))

    @property
    def test_score(self) -> float:
        """The test score by which candidates are ranked."""
        return next(iter(self.test_scores.values()))

    def at(self, engine: Hashable) -> Evaluation:
        """Say which engine it ran on, which only the client knows."""
        return replace(self, engine=engine)


@dataclass(frozen=True)
class Evaluator:
    """Everything that the evaluations of a search have in common; sent to each engine.

    Attributes
    ----------
    estimator : estimator
        Cloned for each evaluation.
    splits : Splits
        Travels as a path.
    scorer : callable
        Called as ``scorer(estimator, X, y)``; gives a number, or a dict of them, one per metric.
    metrics : tuple of str
        Names of the metrics as far as they are known before one is computed, first the one by which
        candidates are ranked.
    return_train_score : bool
        Whether to score the train set too.
    error_score : float
        Score of an evaluation that fails.
    """

    estimator: Any
    splits: Splits
    scorer: Callable[..., float | Mapping[str, float]]
    metrics: tuple[str, ...] = (SINGLE_METRIC,)
    return_train_score: bool = True
    error_score: float = math.nan
    _latest: tuple[Params | None, bytes] = field(
        default=(None, b""), init=False, repr=False, compare=False
    )

    def __call__(
        self, candidate: int, params: Params, split: int, n_train: int | None = None
    ) -> Evaluation:
        """Evaluate one candidate on one split, or on the first ``n_train`` rows of its train set.

        An evaluation that raises becomes a record with its error. The arrays are mapped anew each
        time, copy-on-write, so that what an estimator does to them ends with the evaluation.
        """
        started_at_s = time.time()
        chosen = self.splits[split]
        test_scores = self._error_scores()
        train_scores = self._error_scores() if self.return_train_score else None
        fit_time_s = score_time_s = 0.0
        error = error_traceback = None
        began_s = start_s = time.perf_counter()
        try:
            X_train, y_train, X_test, y_test = chosen.load(n_train=n_train)
            estimator = self._unfitted(params)
            start_s = time.perf_counter()
            try:
                estimator.fit(X_train) if y_train is None else estimator.fit(X_train, y_train)
            finally:
                fit_time_s = time.perf_counter() - start_s
            start_s = time.perf_counter()
            scores = self._scores(estimator, X_test, y_test)
            score_time_s = time.perf_counter() - start_s
            if self.return_train_score:
                train_scores = self._scores(estimator, X_train, y_train)
            test_scores = scores
        except (Exception, SystemExit) as raised:  # noqa: BLE001  # whatever it is, it is recorded
            error = f"{type(raised).__name__}: {raised}"
            error_traceback = traceback.format_exc()
        host, pid = _here()
        return Evaluation(
            candidate=candidate,
            params=params,
            split=split,
            n_train=chosen.n_train if n_train is None else n_train,
            train_scores=train_scores,
            test_scores=test_scores,
            fit_time_s=fit_time_s,
            score_time_s=score_time_s,
            error=error,
            error_traceback=error_traceback,
            started_at_s=started_at_s,
            elapsed_s=time.perf_counter() - began_s,
            host=host,
            pid=pid,
        )

    def _unfitted(self, params: Params) -> Any:
        """Give an unfitted estimator with these parameters.

        The splits of a candidate follow each other, and to copy its estimator by pickle takes a
        tenth of the time of clone and set_params, which inspect signatures: 10 us, not 110.
        """
        known, pickled = self._latest
        if known is not params:
            # The values are cloned too: one may be an estimator that the fit would change.
            estimator = clone(self.estimator).set_params(**clone(dict(params), safe=False))
            try:
                pickled = pickle.dumps(estimator)
            except (pickle.PicklingError, AttributeError, TypeError):
                return estimator  # of a class that lives in a notebook
            object.__setattr__(self, "_latest", (params, pickled))
        return pickle.loads(pickled)

    def failed(
        self, error: str, candidate: int, params: Params, split: int, n_train: int | None = None
    ) -> Evaluation:
        """Record an evaluation that took its engines with it, so that none could."""
        return Evaluation(
            candidate=candidate,
            params=params,
            split=split,
            n_train=self.splits[split].n_train if n_train is None else n_train,
            train_scores=self._error_scores() if self.return_train_score else None,
            test_scores=self._error_scores(),
            fit_time_s=math.nan,
            score_time_s=math.nan,
            error=error,
            error_traceback=None,
            started_at_s=math.nan,
            elapsed_s=math.nan,
            host="",
            pid=0,
        )

    def _error_scores(self) -> dict[str, float]:
        return dict.fromkeys(self.metrics, self.error_score)

    def _scores(self, estimator: Any, X: Any, y: Any) -> dict[str, float]:
        """Score by all metrics, first by the one that ranks."""
        found = self.scorer(estimator, X) if y is None else self.scorer(estimator, X, y)
        by_name = found if isinstance(found, Mapping) else {SINGLE_METRIC: found}
        for name, score in by_name.items():
            if not isinstance(score, numbers.Number):
                raise TypeError(f"scoring must give a number, not {name}={score!r}.")
        first = self.metrics[0]
        if first == SINGLE_METRIC and by_name:  # a callable names them only now
            first = next(iter(by_name))
        if first not in by_name:
            raise TypeError(f"scoring gives {', '.join(by_name)}, but not {first!r} to rank by.")
        return {name: float(by_name[name]) for name in dict.fromkeys([first, *by_name])}


@functools.cache
def _here() -> tuple[str, int]:
    """Name the host and the process; asked once, since a look-up of the name takes long."""
    return socket.gethostname(), os.getpid()
