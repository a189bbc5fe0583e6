"""Learning and validation curves on all engines.

The first ``n_train`` rows of a persisted split's train set are a slice of the memory map: to train
on less data costs no copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier

from mscourse import results
from mscourse.checks import (
    check_one_metric,
    check_rows,
    checked_candidate,
    checked_evaluator,
)
from mscourse.errors import ParameterError
from mscourse.evaluation import Evaluation, Params
from mscourse.evaluator import Evaluator
from mscourse.extras import comes_with
from mscourse.journal import Journal
from mscourse.pools import Engines
from mscourse.results import Mean
from mscourse.resume import journal_of
from mscourse.running import Run
from mscourse.scaling import Extrapolation, PowerLaw, ScoreLaw
from mscourse.source import Queue
from mscourse.splits import Splits
from mscourse.trainsizes import checked_sizes, missing_classes, spread

Floats = NDArray[np.float64]


class LearningCurve(Run):
    """A learning curve that is under way or over; made by `learning_curve`.

    Attributes
    ----------
    candidates : list of dict
        The candidates, one curve each.
    train_sizes : ndarray of int, shape (n_sizes,)
        Rows used for training.
    n_splits : int
        Splits that each size is evaluated on.
    missing_classes : list of str
        What the small sizes leave out, one line for each size that lacks a class.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        candidates: Sequence[Params],
        train_sizes: NDArray[np.int64],
        engines: Engines,
        journal: Journal | None,
    ) -> None:
        self.train_sizes = train_sizes
        self.missing_classes = (
            missing_classes(evaluator.splits, train_sizes)
            if is_classifier(evaluator.estimator)
            else []
        )
        jobs = [
            (candidate, params, split, int(train_sizes[size]))
            for split in range(len(evaluator.splits))
            for size in spread(len(train_sizes))
            for candidate, params in enumerate(candidates)
        ]
        super().__init__(evaluator, candidates, Queue(jobs), len(jobs), engines, journal=journal)

    def results(self, candidate: int = 0) -> dict[str, Any]:
        """Arrange what is done of one candidate as `sklearn.model_selection.learning_curve` does.

        Returns
        -------
        dict
            ``train_sizes``, shape (n_sizes,); and ``train_scores``, ``test_scores``, ``fit_times``
            and ``score_times`` in seconds, shape (n_sizes, n_splits), nan where nothing is yet.

        Raises
        ------
        ParameterError
            If there is no such candidate.
        """
        candidate = checked_candidate(candidate, len(self.candidates))
        row_of = {int(size): row for row, size in enumerate(self.train_sizes)}
        done = [e for e in self.evaluations() if e.candidate == candidate]
        shape = (len(self.train_sizes), self.n_splits)
        return {"train_sizes": self.train_sizes} | _tables(
            shape, [(row_of[e.n_train], e) for e in done]
        )

    def fit_time_law(self, candidate: int = 0) -> PowerLaw:
        """Fit a power law to the fit times.

        Raises
        ------
        ParameterError
            If fewer than three fits are done, or all of the same size, or there is no such
            candidate.
        """
        table = self.results(candidate)
        sizes = np.repeat(self.train_sizes, self.n_splits)
        times = table["fit_times"].ravel()
        return PowerLaw.fit(sizes[~np.isnan(times)], times[~np.isnan(times)])

    def score_law(self, candidate: int = 0) -> ScoreLaw:
        """Fit the approach of the test score to its limit.

        Raises
        ------
        ParameterError
            If fewer than four sizes are done, or there is no such candidate.
        """
        scores = self.results(candidate)["test_scores"]
        whole = ~np.isnan(scores).any(axis=1)
        return ScoreLaw.fit(self.train_sizes[whole], scores[whole])

    def extrapolate(self, n_train: int | None = None, candidate: int = 0) -> Extrapolation:
        """Tell what more data would bring, and what it would cost.

        Parameters
        ----------
        n_train : int, optional
            Rows to train on. By default twice as many as were measured.
        candidate : int
            Number of the candidate.

        Raises
        ------
        ParameterError
            If too little is done to tell, or there are no such rows or no such candidate.
        """
        if n_train is not None:
            check_rows("n_train", n_train)
        law = self.score_law(candidate)
        table = self.results(candidate)
        # The largest sizes take longest, and may not be done yet, or have failed.
        largest = int(np.flatnonzero(~np.isnan(table["test_scores"]).any(axis=1))[-1])
        now = int(self.train_sizes[largest])
        n_train = 2 * now if n_train is None else n_train
        return Extrapolation(
            n_train=n_train,
            n_train_now=now,
            score=law.predict(n_train),
            gain=law.gain(now, n_train),
            score_now=float(np.mean(table["test_scores"][largest])),
            fit_time_s=self.fit_time_law(candidate).predict(n_train),
            fit_time_now_s=float(np.mean(table["fit_times"][largest])),
        )

    def plot(self, ax: Any = None, *, extrapolate_to: int | None = None) -> Any:
        """Draw train and test score against the rows used; call it while it runs, too.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            By default a new figure is made.
        extrapolate_to : int, optional
            Continue the test score to this many rows, with its 95 % interval.

        Returns
        -------
        matplotlib.axes.Axes
        """
        with comes_with("notebook", "Pictures"):
            from mscourse.plots import learning_curves

        return learning_curves(self, ax=ax, extrapolate_to=extrapolate_to)

    def plot_fit_times(self, ax: Any = None) -> Any:
        """Draw the fit time against the rows used, with the power law; returns the axes."""
        with comes_with("notebook", "Pictures"):
            from mscourse.plots import fit_times

        return fit_times(self, ax=ax)

    def plot_cost(self, ax: Any = None) -> Any:
        """Draw the test score against the time of the fit; returns the axes."""
        with comes_with("notebook", "Pictures"):
            from mscourse.plots import score_against_fit_time

        return score_against_fit_time(self, ax=ax)

    def __repr__(self) -> str:
        lines = [self._headline(), *self.missing_classes, *self._outcome_notes()]
        for number, params in enumerate(self.candidates):
            lines += ["", str(results.plain(params))] if params else [""]
            lines.append("    rows  splits  validation              train")
            table = self.results(number)
            for row, size in enumerate(self.train_sizes):
                lines.append(_line(size, table["test_scores"][row], table["train_scores"][row]))
        return "\n".join(lines)


class ValidationCurve(Run):
    """A validation curve that is under way or over; made by `validation_curve`.

    Attributes
    ----------
    param_name : str
        The parameter.
    param_range : list
        Its values.
    n_splits : int
        Splits that each value is evaluated on.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        param_name: str,
        param_range: Sequence[Any],
        engines: Engines,
        journal: Journal | None,
    ) -> None:
        self.param_name = param_name
        self.param_range = list(param_range)
        candidates = [{param_name: value} for value in self.param_range]
        jobs = [
            (candidate, candidates[candidate], split)
            for split in range(len(evaluator.splits))
            for candidate in spread(len(candidates))
        ]
        super().__init__(evaluator, candidates, Queue(jobs), len(jobs), engines, journal=journal)

    def results(self) -> dict[str, Any]:
        """Arrange what is done as `sklearn.model_selection.validation_curve` does, with the times.

        Returns
        -------
        dict
            ``param_range``, a list; and ``train_scores``, ``test_scores``, ``fit_times`` and
            ``score_times`` in seconds, shape (n_values, n_splits), nan where nothing is yet.
        """
        shape = (len(self.param_range), self.n_splits)
        done = [(e.candidate, e) for e in self.evaluations()]
        return {"param_range": self.param_range} | _tables(shape, done)

    def plot(self, ax: Any = None) -> Any:
        """Draw train and test score against the parameter; call it while it runs, too.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            By default a new figure is made.

        Returns
        -------
        matplotlib.axes.Axes
        """
        with comes_with("notebook", "Pictures"):
            from mscourse.plots import validation_curve

        return validation_curve(self, ax=ax)

    def __repr__(self) -> str:
        table = self.results()
        values = [results.label(value) for value in self.param_range]
        lines = [self._headline(), *self._outcome_notes(), ""]
        lines.append(f"{self.param_name:>8}  splits  validation              train")
        for row, value in enumerate(values):
            lines.append(_line(value, table["test_scores"][row], table["train_scores"][row]))
        return "\n".join(lines)


def learning_curve(
    estimator: Any,
    splits: Splits,
    *,
    train_sizes: ArrayLike = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0),
    params: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    engines: Engines = None,
    scoring: str | Callable[..., float] | None = None,
    timeout_s: float | None = None,
    journal: str | Path | None = None,
    retry_failed: bool = False,
) -> LearningCurve:
    """Train on more and more rows of every split, on all engines; returns at once.

    Sizes are mixed in the queue, so that the whole curve is there early and sharpens evenly.

    Parameters
    ----------
    estimator : estimator
        With scikit-learn's interface. It is cloned, never changed.
    splits : Splits
        From `persist_cv_splits` or `open_splits`.
    train_sizes : array-like
        Fractions (0 < f <= 1) of the smallest train set, or numbers of rows.
    params : dict or list of dict, optional
        A candidate, or several, one curve each. By default the estimator as it is.
    engines : Client, view, Executor or None
        As for `grid_search`.
    scoring : str or callable, optional
        One metric. By default ``estimator.score``.
    timeout_s, journal, retry_failed
        As for `grid_search`.

    Returns
    -------
    LearningCurve
        The running curve.

    Raises
    ------
    ParameterError
        If an argument cannot be right. Nothing is run.
    NoEnginesError
        If the client has no engines.
    JournalError
        If the journal is of other work, in use, or no journal.

    Examples
    --------
    >>> sizes = [0.1, 0.3, 1.0]
    >>> curve = mscourse.learning_curve(
    ...     SVC(gamma=1e-3), splits, train_sizes=sizes, engines=client
    ... )
    >>> curve.wait()
    True
    >>> curve.results()["test_scores"].mean(axis=1).round(2)
    array([0.88, 0.94, 0.97])
    """
    check_one_metric(scoring)
    if params is None:
        params = {}
    several = [params] if isinstance(params, Mapping) else params
    if not isinstance(several, Sequence) or not all(isinstance(p, Mapping) for p in several):
        raise ParameterError(f"params must be a dict, or a list of dicts, not {params!r}.")
    candidates = [dict(each) for each in several]
    if not candidates:
        raise ParameterError("params is an empty list; give at least one candidate, or None.")
    evaluator = checked_evaluator(
        estimator, candidates, splits, scoring=scoring, timeout_s=timeout_s
    )
    sizes = checked_sizes(train_sizes, min(split.n_train for split in splits))
    kept = journal_of(evaluator, journal, retry_failed=retry_failed)
    return LearningCurve(evaluator, candidates, sizes, engines, kept)


def validation_curve(
    estimator: Any,
    splits: Splits,
    *,
    param_name: str,
    param_range: Sequence[Any],
    engines: Engines = None,
    scoring: str | Callable[..., float] | None = None,
    timeout_s: float | None = None,
    journal: str | Path | None = None,
    retry_failed: bool = False,
) -> ValidationCurve:
    """Evaluate one parameter at several values, on all engines; returns at once.

    Parameters
    ----------
    estimator, splits, engines, scoring, timeout_s, journal, retry_failed
        As for `learning_curve`.
    param_name : str
        The parameter.
    param_range : sequence
        Its values, in the order in which they should be drawn.

    Returns
    -------
    ValidationCurve
        The running curve.

    Raises
    ------
    ParameterError
        If an argument cannot be right. Nothing is run.
    NoEnginesError
        If the client has no engines.
    JournalError
        If the journal is of other work, in use, or no journal.

    Examples
    --------
    >>> curve = mscourse.validation_curve(
    ...     SVC(), splits, param_name="gamma", param_range=[1e-5, 1e-3, 1e-1], engines=client
    ... )
    >>> curve.wait()
    True
    >>> curve.results()["test_scores"].mean(axis=1).round(2)
    array([0.89, 0.97, 0.1 ])
    """
    check_one_metric(scoring)
    if not isinstance(param_name, str):
        raise ParameterError(f"param_name must be the name of a parameter, not {param_name!r}.")
    try:
        values = list(param_range)
    except TypeError:
        values = None
    # The letters of a string are hardly what is meant.
    if values is None or isinstance(param_range, str | bytes):
        raise ParameterError(f"param_range must be a list of values, not {param_range!r}.")
    if not values:
        raise ParameterError("param_range is empty; give at least one value.")
    evaluator = checked_evaluator(
        estimator, [{param_name: values[0]}], splits, scoring=scoring, timeout_s=timeout_s
    )
    kept = journal_of(evaluator, journal, retry_failed=retry_failed)
    return ValidationCurve(evaluator, param_name, values, engines, kept)


def _tables(shape: tuple[int, int], done: Sequence[tuple[int, Evaluation]]) -> dict[str, Floats]:
    names = ("train_scores", "test_scores", "fit_times", "score_times")
    tables = {name: np.full(shape, np.nan) for name in names}
    for row, e in done:
        if e.error is not None:  # the time until a fit raised is not the time of a fit
            continue
        assert e.train_score is not None
        tables["train_scores"][row, e.split] = e.train_score
        tables["test_scores"][row, e.split] = e.test_score
        tables["fit_times"][row, e.split] = e.fit_time_s
        tables["score_times"][row, e.split] = e.score_time_s
    return tables


def _line(name: object, test_scores: Floats, train_scores: Floats) -> str:
    done = ~np.isnan(test_scores)
    if not done.any():
        return f"{name:>8}  {0:6}"
    test, train = Mean.of(test_scores[done].tolist()), Mean.of(train_scores[done].tolist())
    return f"{name:>8}  {done.sum():6}  {test!s:22}  {train}"
