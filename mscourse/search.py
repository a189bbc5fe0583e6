"""Grid and random search on all engines, and the handle on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid, ParameterSampler

from mscourse import results
from mscourse.checks import (
    Scoring,
    check_count,
    checked_evaluator,
)
from mscourse.errors import MSCourseError, ParameterError
from mscourse.evaluation import Evaluation, Evaluator, Params
from mscourse.pools import Engines
from mscourse.results import CandidateScore, Ranking
from mscourse.running import Run
from mscourse.scheduler import Queue, Source
from mscourse.splits import Splits

_TOP_SHOWN = 5


class Search(Run):
    """A search that is under way or over: look at it at any time.

    Made by `grid_search` and `random_search`. Shown in a notebook or printed, it is a report of
    the progress and the best candidates so far.

    Attributes
    ----------
    candidates : list of dict
        The candidates, in the order of the grid or as they were drawn.
    n_splits : int
        Splits that each candidate is evaluated on.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        candidates: Sequence[Params],
        source: Source,
        n_total: int,
        engines: Engines,
        *,
        raise_errors: bool,
        on_evaluation: Callable[[Evaluation], None] | None = None,
    ) -> None:
        self.candidates = list(candidates)
        self.n_splits = len(evaluator.splits)
        super().__init__(
            evaluator,
            source,
            n_total,
            engines,
            raise_errors=raise_errors,
            on_evaluation=on_evaluation,
        )

    def best(self, n_top: int = _TOP_SHOWN) -> list[CandidateScore]:
        """List the best candidates so far, among those with the most splits done.

        Parameters
        ----------
        n_top : int
            How many at the most.
        """
        return self._ranking().ranked[:n_top]

    @property
    def best_params(self) -> dict[str, Any]:
        """The best candidate so far.

        Raises
        ------
        MSCourseError
            If no evaluation has succeeded yet.
        """
        best = self.best(1)
        if not best or math.isnan(best[0].validation.mean):
            errors = results.grouped_errors(self.evaluations())
            raise MSCourseError(
                "There is no best candidate yet: no evaluation has succeeded. "
                + ("\n".join(errors) or "Wait a little: search.wait(timeout_s=10).")
            )
        return results.plain(best[0].params)

    def refit(self) -> Any:
        """Fit the best candidate on all rows, in this process.

        Returns
        -------
        estimator
            Fitted: the one to predict with.

        Raises
        ------
        MSCourseError
            If no evaluation has succeeded yet.
        SplitsError
            If some rows are in no split, and so were not stored.
        """
        params = clone(self.best_params, safe=False)  # a value may be an estimator
        X, y = self._evaluator.splits.load_whole()
        estimator = clone(self._evaluator.estimator).set_params(**params)
        return estimator.fit(X) if y is None else estimator.fit(X, y)

    def results(self) -> dict[str, Any]:
        """Arrange what is done as scikit-learn's ``cv_results_``.

        Returns
        -------
        dict
            The same keys and types. A candidate whose splits are not all done has nan for its
            means; one that has not begun is left out.
        """
        return results.cv_results(
            self.candidates,
            self.n_splits,
            self.evaluations(),
            return_train_score=self._evaluator.return_train_score,
        )

    def plot_parameters(self, axes: Any = None) -> Any:
        """Draw the test scores against the values of each parameter.

        Parameters
        ----------
        axes : sequence of matplotlib.axes.Axes, optional
            One for each parameter. By default a new figure is made.

        Returns
        -------
        ndarray of matplotlib.axes.Axes
        """
        from mscourse import plots

        return plots.parameter_boxplots(self._comparable(), axes=axes)

    def plot_heat_map(self, x: str | None = None, y: str | None = None, ax: Any = None) -> Any:
        """Draw the mean test score against two parameters at a time.

        Parameters
        ----------
        x, y : str, optional
            The parameters. By default those with the most values.
        ax : matplotlib.axes.Axes, optional
            By default a new figure is made.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from mscourse import plots

        return plots.score_heat_map(self._comparable(), x, y, ax=ax)

    def __repr__(self) -> str:
        return results.text_report(self._headline(), self._ranking(), self._notes(), _TOP_SHOWN)

    def _repr_html_(self) -> str:
        return results.html_report(
            self._headline(), self.progress, self._ranking(), self._notes(), _TOP_SHOWN
        )

    def _comparable(self) -> list[Evaluation]:
        """List the evaluations whose scores compare with each other."""
        return self.evaluations()

    def _notes(self) -> list[str]:
        """Say what a report says below its headline."""
        evaluations = self.evaluations()
        ranking, *others = results.metric_names(evaluations)
        named = [f"Ranked by {ranking}; also {', '.join(others)}"] if others else []
        return [*self._pace(), *named, *results.grouped_errors(evaluations)]

    def _ranking(self) -> Ranking:
        return results.rank(self.candidates, self.n_splits, self.evaluations())


def grid_search(
    estimator: Any,
    param_grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Sequence[Any]]],
    splits: Splits,
    *,
    engines: Engines = None,
    order: Literal["random", "grid"] = "random",
    random_state: int | None = 0,
    n_evaluations: int | None = None,
    scoring: Scoring = None,
    rank_by: str | None = None,
    return_train_score: bool = True,
    error_score: float | Literal["raise"] = math.nan,
) -> Search:
    """Evaluate every candidate of a grid on every split, on all engines; returns at once.

    Parameters
    ----------
    estimator : estimator
        With scikit-learn's interface. It is cloned, never changed.
    param_grid : dict of str to sequence, or list of such dicts
        As for `sklearn.model_selection.ParameterGrid`.
    splits : Splits
        From `persist_cv_splits` or `open_splits`.
    engines : Client, view, Executor or None
        An ipyparallel client or view, or an executor of `concurrent.futures`. With None a local
        cluster with one engine per core is started, and stopped when the search is over.
    order : {"random", "grid"}
        Order of the candidates. In random order the first few are a fair sample of the grid, so
        that a search may be ended early (Bergstra & Bengio, JMLR 13, 2012). The splits of one
        candidate follow each other.
    random_state : int, optional
        Seed of the random order.
    n_evaluations : int, optional
        End after this many evaluations: a budget. By default all of them.
    scoring : str, callable, list of str or dict, optional
        One metric or several, as for `sklearn.model_selection.cross_validate`. By default
        ``estimator.score``.
    rank_by : str, optional
        Of several metrics, the one by which candidates are ranked. By default the first.
    return_train_score : bool
        Whether to score the train sets too.
    error_score : float or "raise"
        Score of an evaluation that fails. With "raise" the first failure ends the search, and
        `Search.wait` raises it.

    Returns
    -------
    Search
        The running search.

    Raises
    ------
    ParameterError
        If an argument cannot be right. Nothing is run.
    NoEnginesError
        If the client has no engines.

    Examples
    --------
    >>> search = grid_search(SVC(), {"C": [1, 10], "gamma": [1e-3, 1e-2]}, splits)
    >>> search.wait()
    True
    >>> search.best_params
    {'C': 10, 'gamma': 0.001}
    """
    candidates = grid_candidates(param_grid)
    if order not in ("random", "grid"):
        raise ParameterError(f"order must be 'random' or 'grid', not {order!r}.")
    sequence = np.arange(len(candidates))
    if order == "random":
        sequence = np.random.default_rng(random_state).permutation(sequence)
    return _start(
        estimator,
        candidates,
        sequence.tolist(),
        splits,
        engines,
        n_evaluations,
        scoring,
        rank_by,
        return_train_score,
        error_score,
    )


def random_search(
    estimator: Any,
    param_distributions: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    splits: Splits,
    *,
    n_iter: int = 10,
    engines: Engines = None,
    random_state: int | None = 0,
    n_evaluations: int | None = None,
    scoring: Scoring = None,
    rank_by: str | None = None,
    return_train_score: bool = True,
    error_score: float | Literal["raise"] = math.nan,
) -> Search:
    """Evaluate candidates drawn at random on every split, on all engines; returns at once.

    Parameters
    ----------
    estimator : estimator
        With scikit-learn's interface. It is cloned, never changed.
    param_distributions : dict, or list of dict
        Parameter names to lists of values or to distributions of `scipy.stats`, as for
        `sklearn.model_selection.ParameterSampler`.
    splits : Splits
        From `persist_cv_splits` or `open_splits`.
    n_iter : int
        How many candidates to draw. If there are only lists, no more than there are combinations.
    random_state : int, optional
        Seed of the draw: the same candidates as scikit-learn's `RandomizedSearchCV` draws.
    engines, n_evaluations, scoring, rank_by, return_train_score, error_score
        As for `grid_search`.

    Returns
    -------
    Search
        The running search.

    Raises
    ------
    ParameterError
        If an argument cannot be right. Nothing is run.
    NoEnginesError
        If the client has no engines.
    """
    candidates = drawn_candidates(param_distributions, n_iter, random_state)
    return _start(
        estimator,
        candidates,
        list(range(len(candidates))),
        splits,
        engines,
        n_evaluations,
        scoring,
        rank_by,
        return_train_score,
        error_score,
    )


def _start(
    estimator: Any,
    candidates: list[Params],
    order: list[int],
    splits: Splits,
    engines: Engines,
    n_evaluations: int | None,
    scoring: Scoring,
    rank_by: str | None,
    return_train_score: bool,
    error_score: float | Literal["raise"],
) -> Search:
    """Check what grid and random search have in common, and begin."""
    evaluator = checked_evaluator(
        estimator, candidates, splits, scoring, rank_by, return_train_score, error_score
    )
    jobs = [
        (candidate, candidates[candidate], split)
        for candidate in order
        for split in range(len(splits))
    ]
    if n_evaluations is not None:
        check_count("n_evaluations", n_evaluations)
        jobs = jobs[:n_evaluations]
    raise_errors = error_score == "raise"
    return Search(evaluator, candidates, Queue(jobs), len(jobs), engines, raise_errors=raise_errors)


def grid_candidates(
    param_grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Sequence[Any]]],
) -> list[Params]:
    """List all candidates of a grid."""
    try:
        return list(ParameterGrid(param_grid))
    except (TypeError, ValueError) as error:
        raise ParameterError(f"param_grid is not a grid: {error}") from error


def drawn_candidates(
    param_distributions: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    n_iter: int,
    random_state: int | None,
) -> list[Params]:
    """Draw candidates as scikit-learn does."""
    check_count("n_iter", n_iter)
    try:
        return list(ParameterSampler(param_distributions, n_iter, random_state=random_state))
    except (TypeError, ValueError) as error:
        raise ParameterError(f"param_distributions cannot be drawn from: {error}") from error
