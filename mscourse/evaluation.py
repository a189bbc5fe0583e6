"""The unit of work: one candidate that is fitted on one split and scored; and what came of it.

Light to import, for those who only read what engines have done: these need no scikit-learn.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

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
        The score by each metric, first the one by which candidates are ranked; `error_score` where
        the evaluation or the metric failed. A single metric is called "score". The train scores are
        None if they were not asked for.
    fit_time_s, score_time_s : float
        Seconds that the fit and the scoring of the test set took. If candidates share the fitted
        first steps of a pipeline, the fit of these counts where it was done.
    error : str or None
        Type and message of the exception, if the evaluation failed, or one of several metrics.
    error_traceback : str or None
        Where it was raised.
    started_at_s : float
        When the evaluation began, in seconds since the epoch, on the engine's clock.
    elapsed_s : float
        Seconds that it took in all: opening the split, the fit, and all scoring.
    peak_anonymous_bytes : int or None
        The most memory that the process held by itself meanwhile, all it held before included;
        memory maps of persisted splits are not part of it. None where the system does not tell.
    host, pid
        Where it ran.
    engine : hashable or None
        The engine, as the client knows it.
    warnings : tuple of str
        Type and message of each different warning that the filters of the client let through.
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
    peak_anonymous_bytes: int | None
    host: str
    pid: int
    engine: Hashable = None
    warnings: tuple[str, ...] = ()

    @property
    def train_score(self) -> float | None:
        """The train score by which candidates are ranked; None if it was not asked for."""
        return None if self.train_scores is None else next(iter(self.train_scores.values()))

    @property
    def test_score(self) -> float:
        """The test score by which candidates are ranked."""
        return next(iter(self.test_scores.values()))


class Outcome(NamedTuple):
    """What an engine says of an evaluation: all that the client does not know already.

    The fields are those of `Evaluation`, but for the scores: they are in the order of ``metrics``,
    and empty if the evaluation failed. If some metrics failed, ``metrics`` are the others.
    """

    n_train: int
    metrics: tuple[str, ...]
    test_scores: tuple[float, ...]
    train_scores: tuple[float, ...]
    fit_time_s: float
    score_time_s: float
    error: str | None
    error_traceback: str | None
    started_at_s: float
    elapsed_s: float
    peak_anonymous_bytes: int | None
    host: str
    pid: int
    warnings: tuple[str, ...] = ()

    def ranked_by(self, metric: str) -> Outcome:
        """Put a metric first, if there is one of that name."""
        if metric not in self.metrics or self.metrics[0] == metric:
            return self
        order = sorted(range(len(self.metrics)), key=lambda i: self.metrics[i] != metric)
        return self._replace(
            metrics=tuple(self.metrics[i] for i in order),
            test_scores=tuple(self.test_scores[i] for i in order),
            train_scores=tuple(self.train_scores[i] for i in order if self.train_scores),
        )
