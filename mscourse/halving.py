"""Successive halving: all candidates on a little, the good ones on more, the best on everything.

::

    rung 0     1/27 of the rows   27 candidates
                                  │ the best third, as soon as it can be told
    rung 1     1/9                9
                                  │
    rung 2     1/3                3
                                  │
    rung 3     all                1

If promotions waited until a rung is full, all engines would wait for its slowest candidate. Here
none does: Li et al., *A System for Massively Parallel Hyperparameter Tuning*, MLSys 2020.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier

from mscourse import results
from mscourse.asha import N_SAMPLES, Asha, Ladder, Promotions, Rung
from mscourse.candidates import (
    Candidates,
    drawn_candidates,
    drawn_order,
    grid_candidates,
    random_order,
)
from mscourse.checks import Scoring, check_callback, checked_evaluator, checked_seed
from mscourse.errors import MSCourseError, ParameterError
from mscourse.evaluation import Evaluation, Outcome, Params
from mscourse.evaluator import Evaluator
from mscourse.extras import comes_with
from mscourse.handle import TOP_SHOWN, Search
from mscourse.journal import Journal
from mscourse.log import Columns
from mscourse.pools import EngineId, Engines
from mscourse.resources import (
    check_factor,
    checked_least,
    checked_parameter,
    checked_rows,
    least_rows,
    rung_steps,
)
from mscourse.results import Ranking
from mscourse.resume import journal_of
from mscourse.splits import Splits
from mscourse.trainsizes import missing_classes


class HalvingSearch(Search):
    """A halving search that is under way or over: look at it at any time.

    Made by `halving_search`. It is used like any `Search`. What differs:

    - Candidates compare only with the same resources. `best` ranks those that are done in the top
      rung; the report tells of the others at which rung they are.
    - `plot_parameters` and `plot_heat_map` draw the bottom rung, where all candidates compare.
    - How many evaluations there will be depends on what they say. `n_total` is what is to be
      expected, and is exact at the end. `progress` never goes back, and is 1 only at the end.

    Attributes
    ----------
    candidates : list of dict
        The candidates, in the order of the grid or as they were drawn.
    n_splits : int
        Splits that each candidate is evaluated on in each rung.
    resource : str
        What a candidate is given more of in each rung: ``"n_samples"``, or a parameter.
    missing_classes : list of str
        What the rows of the lower rungs leave out, one line for each rung that lacks a class. The
        report shows them.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        candidates: Candidates,
        order: Sequence[int],
        ladder: Ladder,
        factor: float,
        engines: Engines,
        *,
        raise_errors: bool,
        on_evaluation: Callable[[Evaluation], object] | None,
        journal: Journal | None,
    ) -> None:
        self.resource = ladder.resource
        self.missing_classes = (
            missing_classes(evaluator.splits, np.array(ladder.steps))
            if ladder.resource == N_SAMPLES and is_classifier(evaluator.estimator)
            else []
        )
        self._ladder = ladder
        self._promotions = Promotions(Asha(order, len(ladder.steps), factor), candidates, ladder)
        super().__init__(
            evaluator,
            candidates,
            self._promotions,
            self._promotions.n_total,
            engines,
            raise_errors=raise_errors,
            keeps_params=ladder.resource != N_SAMPLES,
            learn=self._learn_score,
            on_evaluation=on_evaluation,
            journal=journal,
        )

    def _learn_score(self, candidate: int, split: int, outcome: Outcome, engine: EngineId) -> None:
        if outcome.error is None:
            score = outcome.test_scores[0]
        else:  # of several metrics, another one may have failed
            found = dict(zip(outcome.metrics, outcome.test_scores, strict=False))
            score = found.get(self._evaluator.metrics[0], self._evaluator.error_score)
        self._promotions.learn(candidate, split, score)

    @property
    def n_total(self) -> int:
        """Evaluations to be expected, done ones included; exact at the end.

        Each rung is expected to send on one part in ``factor``. It may be more, since a promotion
        is not waited for, and what was among the best may be overtaken.
        """
        return self._promotions.n_total

    @property
    def progress(self) -> float:
        """The part of the expected evaluations that is done, 0 to 1; never goes back."""
        return self._promotions.progress

    def rungs(self) -> list[Rung]:
        """List the rungs from the bottom to the top, as far as they have come."""
        return self._promotions.rungs()

    @property
    def best_params(self) -> dict[str, Any]:
        """The best candidate in the top rung so far, with its resource if that is a parameter.

        Raises
        ------
        MSCourseError
            If no candidate has reached the top rung yet.
        """
        if not self.best(1) and self.n_failed < self.n_done:
            raise MSCourseError(
                f"There is no best candidate yet: none is done in the top rung, with "
                f"{self._ladder.show(-1)}. Wait for one, or see how far they are in rungs()."
            )
        return super().best_params

    def results(self) -> dict[str, Any]:
        """Arrange what is done as scikit-learn's ``cv_results_``, a row for each candidate.

        Returns
        -------
        dict
            The same keys and types as of `Search.results`, and ``iter`` and ``n_resources``: the
            highest rung that the candidate has completed, 0 for the bottom, and its resource. The
            scores are from there. The ranks put the higher rung first, and go by score only within
            a rung; a candidate without a mean comes last.
        """
        done = self._log.columns()
        highest = list(self._highest_rungs(done))
        candidates: list[Params] = list(self.candidates)
        for candidate, rung, _ in highest:
            candidates[candidate] = self._ladder.params(candidates[candidate], rung)
        rows = np.concatenate([np.zeros(0, np.intp), *(rows for _, _, rows in highest)])
        table = results.cv_results(candidates, self.n_splits, done.take(rows))
        rungs = [rung for _, rung, _ in highest]
        for metric in done.test_scores:
            keys = [
                (math.isnan(mean), -rung, results.nan_last(-mean))
                for rung, mean in zip(rungs, table[f"mean_test_{metric}"].tolist(), strict=True)
            ]
            ranked = sorted(keys)
            ranks = [1 + bisect.bisect_left(ranked, key) for key in keys]
            table[f"rank_test_{metric}"] = np.array(ranks, dtype=np.int32)
        return {
            "iter": np.array(rungs, dtype=int),
            "n_resources": np.array([self._ladder.steps[rung] for rung in rungs], dtype=int),
        } | table

    def to_frame(self) -> Any:
        """Arrange what is done as a `pandas.DataFrame`, a row for each evaluation.

        The columns of `Search.to_frame`, and ``iter`` and ``n_resources``: the rung, 0 for the
        bottom, and its resource.
        """
        frame = super().to_frame()
        if len(frame):
            frame["iter"] = frame.groupby("candidate").cumcount() // self.n_splits
            frame["n_resources"] = np.take(self._ladder.steps, frame["iter"])
        return frame

    def plot_rungs(self, ax: Any = None) -> Any:
        """Draw the score of each candidate at each rung.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            By default a new figure is made.

        Returns
        -------
        matplotlib.axes.Axes
        """
        with comes_with("notebook", "Pictures"):
            from mscourse.plots import halving_rungs

        return halving_rungs(self, ax=ax)

    def _comparable(self) -> list[Evaluation]:
        """List what is done in the bottom rung, the only one that all candidates go into."""
        evaluations = self.evaluations()
        return [
            replace(evaluations[row], params=self.candidates[candidate])  # without the resource
            for candidate, rows in self._rows_by_candidate(self._log.columns())
            for row in rows[: self.n_splits].tolist()
        ]

    def _notes(self) -> list[str]:
        counts = (
            f"{rung.n_resources}: {len(rung.scores)} done, {len(rung.promoted)} promoted"
            for rung in self.rungs()
        )
        rungs = f"Rungs by {self._ladder.resource}: {'; '.join(counts)}"
        return [rungs, *self.missing_classes, *super()._notes()]

    def _ranking(self, n_top: int = TOP_SHOWN) -> Ranking:
        done = self._log.columns()
        scores = next(iter(done.test_scores.values()))
        # All are sorted, of which there may be many thousands, and only the shown ones summed up.
        with np.errstate(invalid="ignore", over="ignore"):  # of scores without end
            places = [
                (
                    (-rung, -len(rows), results.nan_last(-float(scores[rows].mean()))),
                    (candidate, rung, rows),
                )
                for candidate, rung, rows in self._highest_rungs(done)
            ]
        places.sort(key=lambda place: place[0])
        complete = (1 - len(self._ladder.steps), -self.n_splits)
        ranked = [each for key, each in places if key[:2] == complete]
        unranked = [each for key, each in places if key[:2] != complete]

        def score(candidate: int, rung: int, rows: NDArray[np.intp]) -> results.CandidateScore:
            params = self._ladder.params(self.candidates[candidate], rung)
            where = f"rung {rung}, {self._ladder.show(rung)}"
            return results.candidate_score(params, self.n_splits, done.take(rows), where)

        return Ranking(
            [score(*each) for each in ranked[:n_top]],
            [score(*each) for each in unranked[:n_top]],
            max(0, len(ranked) - n_top) + max(0, len(unranked) - n_top),
        )

    def _highest_rungs(self, done: Columns) -> Iterator[tuple[int, int, NDArray[np.intp]]]:
        """Give each candidate's highest rung that is complete, and the rows of what is done there.

        If none is complete yet, it is the bottom rung.
        """
        n = self.n_splits
        for candidate, rows in self._rows_by_candidate(done):
            rung = max(0, len(rows) // n - 1)
            yield candidate, rung, rows[rung * n : (rung + 1) * n]

    def _rows_by_candidate(self, done: Columns) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Group what is done: a candidate's first ``n_splits`` are rung 0, the next rung 1, ..."""
        by_candidate = np.argsort(done.candidate, kind="stable")
        begun, starts = np.unique(done.candidate[by_candidate], return_index=True)
        yield from (
            zip(begun.tolist(), np.split(by_candidate, starts[1:]), strict=True)
            if len(begun)
            else ()
        )


def halving_search(
    estimator: Any,
    param_grid: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    splits: Splits,
    *,
    factor: float = 3,
    resource: str = N_SAMPLES,
    min_resources: int | None = None,
    max_resources: int | None = None,
    n_iter: int | None = None,
    engines: Engines = None,
    random_state: int | None = 0,
    scoring: Scoring = None,
    rank_by: str | None = None,
    return_train_score: bool = False,
    error_score: float | Literal["raise"] = math.nan,
    timeout_s: float | None = None,
    on_evaluation: Callable[[Evaluation], object] | None = None,
    journal: str | Path | None = None,
    retry_failed: bool = False,
) -> HalvingSearch:
    """Search by asynchronous successive halving, on all engines; returns at once.

    All candidates begin with few resources: the first rows of each train set, or a small value of
    a parameter such as ``n_estimators``. An engine that wants work promotes a candidate from the
    highest rung where one is among the best ``1 / factor`` so far; if there is none, it begins
    with a new candidate. So no engine waits for a rung to fill, and at times a candidate is
    promoted that is overtaken later. If in the end no candidate is in the top rung, the best there
    is goes on. A candidate that fails goes no further.

    With several engines, results come back in another order each time, so that others may be
    promoted. Each evaluation comes out the same, but of two candidates that are about as good now
    one may win, and now the other.

    Each rung costs about as much as the one below if the time of a fit is proportional to the
    resource: with s rungs above the bottom ``(s + 1) / factor**s`` of a grid search, and about a
    quarter more for candidates that are overtaken.

    Parameters
    ----------
    estimator : estimator
        With scikit-learn's interface. It is cloned, never changed.
    param_grid : dict of str to sequence, or list of such dicts
        As for `grid_search`: all its candidates, in random order. With ``n_iter`` the values may
        also be distributions, as for `random_search`.
    splits : Splits
        From `persist_cv_splits` or `open_splits`. In the ring layout the first rows of a train set
        are a fair sample of its first fold; the other layouts keep the order that they were given.
        So if the rows have an order, shuffle the folds: ``KFold(5, shuffle=True)``. A number of
        folds does not, and lower rungs would see a part of that order only. Classes that they do
        not see are in the report.
    factor : float
        One candidate in ``factor`` is promoted, and gets ``factor`` times the resources.
    resource : str
        "n_samples", or a parameter of the estimator that is an integer.
    min_resources : int, optional
        The least that a candidate is given. By default so much that about one candidate is left in
        the top rung, but for "n_samples" at least 2 rows for each split and class, as
        scikit-learn's halving wants it.
    max_resources : int, optional
        What a candidate is given in the top rung. By default all rows. A parameter has no default.
    n_iter : int, optional
        How many candidates to draw from ``param_grid``. By default all of the grid.
    engines : Client, view, Executor or None
        As for `grid_search`.
    random_state : int, optional
        Seed of the order of the candidates, and of the draw. With one engine the same seed always
        promotes the same candidates: each is begun when the one before is done. With several
        engines it depends on who is done first.
    scoring, rank_by
        As for `grid_search`. Candidates are promoted by the metric that ranks.
    return_train_score : bool
        Whether to score the train sets too.
    error_score : float or "raise"
        Score of an evaluation that fails. With nan the candidate goes no further. With "raise" the
        first failure ends the search, and `HalvingSearch.wait` raises it.
    timeout_s, on_evaluation, journal, retry_failed
        As for `grid_search`. What the journal has is counted when its candidate gets that far.

    Returns
    -------
    HalvingSearch
        The running search.

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
    >>> grid = {"gamma": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]}
    >>> search = mscourse.halving_search(SVC(), grid, splits, engines=client)
    >>> search.wait()
    True
    >>> search.best_params
    {'gamma': 0.001}
    """
    check_factor(factor)
    check_callback(on_evaluation)
    if n_iter is None:
        try:
            candidates = grid_candidates(param_grid)
        except ParameterError as error:
            raise ParameterError(f"{error} To draw from distributions, set n_iter.") from error
        order = random_order(len(candidates), checked_seed(random_state))
    else:
        candidates = drawn_candidates(param_grid, n_iter, random_state)
        order = drawn_order(param_grid, len(candidates), checked_seed(random_state))
    evaluator = checked_evaluator(
        estimator,
        candidates.examples(),
        splits,
        scoring=scoring,
        rank_by=rank_by,
        return_train_score=return_train_score,
        error_score=error_score,
        random_state=random_state,
        timeout_s=timeout_s,
    )
    rows = tuple(split.n_train for split in splits)
    if resource == N_SAMPLES:
        most = checked_rows(max_resources, max(rows))
        least_sensible = least_rows(evaluator)
    else:
        most = checked_parameter(estimator, candidates, resource, max_resources)
        least_sensible = 1
    least = checked_least(min_resources, most, least_sensible, len(candidates), factor)
    ladder = Ladder(resource, rung_steps(least, most, factor), rows)
    raise_errors = error_score == "raise"
    return HalvingSearch(
        evaluator,
        candidates,
        order.tolist(),
        ladder,
        factor,
        engines,
        raise_errors=raise_errors,
        on_evaluation=on_evaluation,
        journal=journal_of(
            evaluator, journal, random_state=random_state, retry_failed=retry_failed
        ),
    )
