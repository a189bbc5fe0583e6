"""The handle on a search: what it has found so far, and what can be done with it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from mscourse import results
from mscourse.candidates import Candidates, Grid, are_same, grid_candidates, new_ones
from mscourse.checks import check_count, check_parameter_names, checked_candidate
from mscourse.errors import MSCourseError, ParameterError
from mscourse.evaluation import Evaluation, Params
from mscourse.evaluator import Evaluator, as_arguments
from mscourse.extras import comes_with
from mscourse.journal import Journal
from mscourse.pools import Engines, pool_for
from mscourse.prefixes import Prefixes, can_share
from mscourse.prefixqueue import PrefixQueue
from mscourse.queues import CandidateQueue, Place, SearchQueue
from mscourse.results import CandidateScore, Ranking
from mscourse.running import Run
from mscourse.values import is_integer

TOP_SHOWN = 5

# To look for what candidates share takes 8 us and 350 bytes each, before anything begins.
_MOST_THAT_SHARE = 100_000


class Search(Run):
    """A search that is under way or over: look at it at any time.

    What all searches have in common. Shown in a notebook or printed, it is a report of the progress
    and the best candidates so far.

    Attributes
    ----------
    candidates : sequence of dict
        The candidates, in the order of the grid or as they were drawn.
    n_splits : int
        Splits that each candidate is evaluated on.

    Examples
    --------
    >>> search = mscourse.grid_search(SVC(), {"gamma": [1e-4, 1e-3]}, splits, engines=client)
    >>> search.wait()
    True
    >>> search.n_done, search.n_total, search.progress
    (10, 10, 1.0)
    >>> search.best(n_top=1)[0].params
    {'gamma': 0.001}
    >>> search.results()["mean_test_score"].round(2)
    array([0.95, 0.97])
    >>> search.best_estimator.predict(X[:5])
    array([0, 1, 2, 3, 4])
    """

    _refitted: tuple[Params, Any] | None = None

    def best(self, n_top: int = TOP_SHOWN) -> list[CandidateScore]:
        """List the best candidates so far, among those with the most splits done.

        Parameters
        ----------
        n_top : int
            How many at the most.

        Raises
        ------
        ParameterError
            If that is no positive number.
        """
        check_count("n_top", n_top)
        return self._ranking(n_top).ranked

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
            errors = results.grouped_errors(self._log)
            raise MSCourseError(
                "There is no best candidate yet: no evaluation has succeeded. "
                + ("\n".join(errors) or "Wait a little: search.wait(timeout_s=10).")
            )
        return results.plain(best[0].params)

    @property
    def best_estimator(self) -> Any:
        """The best candidate so far, fitted on all rows: the one to predict with.

        It is fitted when it is first asked for, and again when another candidate is the best.
        The errors are those of `refit`.
        """
        params = self.best_params
        if self._refitted is None or not are_same(self._refitted[0], params):
            self._refitted = params, self.refit()
        return self._refitted[1]

    def refit(self, by: str | Callable[[dict[str, Any]], int] | None = None) -> Any:
        """Fit a candidate on all rows, in this process.

        Parameters
        ----------
        by : str or callable, optional
            Which one: the best by this metric, or the one whose number in `results` this returns
            when it is called with them. By default the best.

        Returns
        -------
        estimator
            Fitted.

        Raises
        ------
        MSCourseError
            If no evaluation has succeeded yet, or no candidate has that metric of all its splits.
        ParameterError
            If there is no such metric, or no such candidate.
        SplitsError
            If some rows are in no split, and so were not stored.
        """
        params = clone(self._chosen(by), safe=False)  # a value may be an estimator
        splits = self._evaluator.splits
        X, y = splits.load_whole()
        estimator = clone(self._evaluator.estimator).set_params(**params)
        known = splits.load_whole_metadata() if self._evaluator.fit_metadata else {}
        metadata = as_arguments(self._evaluator.fit_metadata, known)
        return estimator.fit(X, **metadata) if y is None else estimator.fit(X, y, **metadata)

    def _chosen(self, by: str | Callable[[dict[str, Any]], int] | None) -> dict[str, Any]:
        best_params = self.best_params  # raises if nothing is done
        if by is None:
            return best_params
        table = self.results()
        if callable(by):
            number = by(table)
            if not is_integer(number) or not 0 <= number < len(table["params"]):
                raise ParameterError(
                    "The callable must return the number of a candidate in the results, 0 to "
                    f"{len(table['params']) - 1}; it returned {number!r}."
                )
        elif f"rank_test_{by}" in table:
            number = int(np.argmin(table[f"rank_test_{by}"]))
            if np.isnan(table[f"mean_test_{by}"][number]):
                raise MSCourseError(
                    f"There is no best candidate by {by} yet: none has it of all its splits."
                )
        else:
            raise ParameterError(
                f"There is no metric {by!r}; there are: {', '.join(self._log.metrics)}."
            )
        params: dict[str, Any] = table["params"][int(number)]
        return params

    def results(self) -> dict[str, Any]:
        """Arrange what is done as scikit-learn's ``cv_results_``.

        Returns
        -------
        dict
            The same keys and types. A candidate whose splits are not all done has nan for its
            means; one that has not begun is left out.
        """
        return results.cv_results(self.candidates, self.n_splits, self._log.columns())

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
        with comes_with("notebook", "Pictures"):
            from mscourse.plots import parameter_boxplots

        return parameter_boxplots(self._comparable(), axes=axes)

    def plot_heat_map(self, x: str | None = None, y: str | None = None, ax: Any = None) -> Any:
        """Draw the mean test score against two parameters at a time.

        Parameters
        ----------
        x, y : str, optional
            The parameters. By default those with the most values that some candidate has both of.
        ax : matplotlib.axes.Axes, optional
            By default a new figure is made.

        Returns
        -------
        matplotlib.axes.Axes
        """
        with comes_with("notebook", "Pictures"):
            from mscourse.plots import score_heat_map

        return score_heat_map(self._comparable(), x, y, ax=ax)

    def __repr__(self) -> str:
        return results.text_report(self._headline(), self._ranking(), self._notes())

    def _repr_html_(self) -> str:
        return results.html_report(self._headline(), self.progress, self._ranking(), self._notes())

    def _comparable(self) -> Sequence[Evaluation]:
        """List the evaluations whose scores compare with each other."""
        return self.evaluations()

    def _notes(self) -> list[str]:
        """Say what a report says below its headline."""
        ranking, *others = self._log.metrics
        named = [f"Ranked by {ranking}; also {', '.join(others)}"] if others else []
        notes = [*self._state_notes(), *named, *self._callback_notes(), *self._journal_notes()]
        return [*notes, *self._outcome_notes()]

    def _bar_facts(self) -> dict[str, Any]:
        best = self.best(1)
        score = {"best": f"{best[0].validation.mean:.4f}"} if best else {}
        return super()._bar_facts() | score

    def _ranking(self, n_top: int = TOP_SHOWN) -> Ranking:
        return results.rank(self.candidates, self.n_splits, self._log.columns(), n_top)


class CandidateSearch(Search):
    """A grid or random search: a `Search` to which candidates may be added while it runs.

    Made by `grid_search` and `random_search`.
    """

    _awaits_launch = False  # there are candidates whose launch has failed

    def __init__(
        self,
        evaluator: Evaluator,
        candidates: Candidates,
        order: NDArray[np.int64],
        n_evaluations: int | None,
        engines: Engines,
        *,
        raise_errors: bool,
        on_evaluation: Callable[[Evaluation], object] | None,
        journal: Journal | None,
    ) -> None:
        # Candidates may be added and given up in any thread, and in what each evaluation calls.
        self._changing = threading.RLock()
        self._prefixes = _prefixes(evaluator, len(candidates))
        self._queue: SearchQueue
        found = self._prefixes.of(candidates) if self._prefixes else []
        if any(found):
            self._queue = PrefixQueue(
                candidates,
                dict(enumerate(found)),
                order.tolist(),
                len(evaluator.splits),
                n_evaluations,
            )
        else:
            self._prefixes = None
            self._queue = CandidateQueue(candidates, order, len(evaluator.splits), n_evaluations)
        super().__init__(
            evaluator,
            candidates,
            self._queue,
            self._queue.n_waiting,
            engines,
            raise_errors=raise_errors,
            learn=self._queue.learn,
            on_evaluation=on_evaluation,
            journal=journal,
        )

    def _resume(self, journal: Journal) -> None:
        self._take_from_journal(journal, range(len(self.candidates)))

    def _take_from_journal(self, journal: Journal, numbers: Iterable[int]) -> None:
        """Take in what is done of some candidates, in the order in which it was."""
        if not len(journal):
            return
        rows = [split.n_train for split in self._evaluator.splits]
        found: dict[Place, int] = {}
        for number in numbers:
            places = journal.places(self.candidates[number])
            for split, n_train in enumerate(rows):
                offset = places.pop((split, n_train), None)
                if offset is not None:
                    found[number, split] = offset
        waiting = self._queue.skip(list(found))
        for number, split in sorted(waiting, key=found.__getitem__):
            entry = journal.read(found[number, split])
            self._keep_again(number, self.candidates[number], entry)

    def add(self, param_grid: Grid) -> int:
        """Add the candidates of another grid, at the end of the queue.

        A search that is over goes on with them.

        Parameters
        ----------
        param_grid : dict of str to sequence, or list of such dicts
            As for `grid_search`. Candidates that the search has already are left out, those that
            were given up included.

        Returns
        -------
        int
            How many candidates are new.

        Raises
        ------
        ParameterError
            If it is not a grid for this estimator. Nothing is added.
        MSCourseError
            If the search was aborted.
        NoEnginesError
            If the search is over, and there are no engines to go on with. Nothing is added.
        JournalError
            If the search is over, and its journal is gone or another search has had it. Nothing is
            added.
        """
        added = grid_candidates(param_grid)
        check_parameter_names(self._evaluator.estimator, added.examples())
        while True:
            with self._changing:
                before = self._scheduler
                n_added = self._add(added)
            if n_added is not None:
                return n_added
            before.wait()  # what it calls with its last evaluations may change it meanwhile

    def _add(self, added: Candidates) -> int | None:
        """Add what is new of the candidates; None if the search is ending, and not yet over."""
        if self._aborted:
            raise MSCourseError("The search was aborted; start another one for more candidates.")
        fresh = new_ones(added, self.candidates)
        numbers = range(len(self.candidates), len(self.candidates) + len(fresh))

        def put() -> None:
            candidates = self.candidates
            assert isinstance(candidates, Candidates)
            candidates.extend(fresh)
            if isinstance(self._queue, PrefixQueue):
                assert self._prefixes is not None
                self._queue.know(dict(zip(numbers, self._prefixes.of(fresh), strict=True)))
            self._n_total += self._queue.add(numbers)
            if self._journal is not None:
                self._take_from_journal(self._journal, numbers)

        if (len(fresh) or self._awaits_launch) and not self._scheduler.offer(put):
            if not self._scheduler.is_over:
                return None
            self._go_on_with(put)
        return len(fresh)

    def _go_on_with(self, put: Callable[[], None]) -> None:
        """Launch what is put into the queue after the end; if that fails, it is over as before."""
        before = self._scheduler
        before.wait()
        try:
            pool_for(self._engines)  # refuses what cannot be used, before anything is put
            if self._journal is not None:
                self._journal.reopen()
            self._awaits_launch = True
            put()
            self._launch()
            self._awaits_launch = False
        except BaseException:
            self._scheduler = before
            self._leave_journal()
            raise

    def abort(self, candidate: int | Params | None = None) -> None:
        """End the search, or give up one candidate. What is done is kept.

        Parameters
        ----------
        candidate : int or dict, optional
            Number or parameters of the candidate whose waiting evaluations are dropped; the others
            go on. By default the search ends: what is running is forgotten.

        Raises
        ------
        ParameterError
            If there is no such candidate.
        """
        if candidate is None:
            super().abort()
            return
        if isinstance(candidate, Mapping):
            places = (i for i, known in enumerate(self.candidates) if are_same(known, candidate))
            candidate = next(places, candidate)
        number = checked_candidate(candidate, len(self.candidates))
        with self._changing:
            n_dropped = self._queue.drop(number)
            self._n_total -= n_dropped
        self._scheduler.wake()


def _prefixes(evaluator: Evaluator, n_candidates: int) -> Prefixes | None:
    """Give what tells which candidates share a prefix, if they may."""
    estimator = evaluator.estimator
    may_share = (
        evaluator.prefix_cache_bytes != 0
        and not evaluator.fit_metadata
        and n_candidates <= _MOST_THAT_SHARE
    )
    return Prefixes(estimator) if may_share and can_share(estimator) else None
