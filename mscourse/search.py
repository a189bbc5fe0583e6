"""Grid and random search on all engines."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mscourse.candidates import (
    Grid,
    drawn_candidates,
    drawn_order,
    grid_candidates,
    random_order,
)
from mscourse.checks import Scoring, check_callback, check_count, checked_evaluator
from mscourse.errors import ParameterError
from mscourse.evaluation import Evaluation
from mscourse.handle import CandidateSearch
from mscourse.pools import Engines
from mscourse.resume import journal_of
from mscourse.splits import Splits


def grid_search(
    estimator: Any,
    param_grid: Grid,
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
    timeout_s: float | None = None,
    prefix_cache_bytes: int | None = None,
    on_evaluation: Callable[[Evaluation], object] | None = None,
    journal: str | Path | None = None,
    retry_failed: bool = False,
) -> CandidateSearch:
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
        candidate follow each other. At the end, what takes longest goes first; and candidates of a
        pipeline that share its first steps follow each other.
    random_state : int, optional
        Seed of the random order, and of what an estimator without a ``random_state`` of its own
        draws: each evaluation has its own luck, that does not depend on when and where it runs.
        None takes another one each time.
    n_evaluations : int, optional
        End after this many evaluations: a budget. By default all of them.
    scoring : str, callable, list of str or dict, optional
        One metric or several, as for `sklearn.model_selection.cross_validate`. By default
        ``estimator.score``. Of several, one that raises gets the ``error_score``, and the others
        stay; the evaluation counts as failed, and the report says why.
    rank_by : str, optional
        Of several metrics, the one by which candidates are ranked. By default the first.
    return_train_score : bool
        Whether to score the train sets too.
    error_score : float or "raise"
        Score of an evaluation that fails. With "raise" the first failure ends the search, and
        `Search.wait` raises it.
    timeout_s : float, optional
        An evaluation that takes longer is stopped, and counts as failed. It runs in a process of
        its own beside the engine, which takes the memory of another Python.
    prefix_cache_bytes : int, optional
        Candidates of a `sklearn.pipeline.Pipeline` that agree on its first steps share them on each
        split, fitted, and the data transformed by them, as long as an engine keeps no more than
        this. By default a quarter of its host's memory, divided by the host's cores; 0 shares
        nothing. Steps that draw random numbers, and have no ``random_state``, have other luck if
        they are shared. Fitted steps that hold a random generator are not shared, nor is anything
        among more than 100,000 candidates.
    on_evaluation : callable, optional
        Called with each `Evaluation` that is done, from another thread. It should be quick. What it
        raises does not end the search: the report tells of it, and `Search.wait` warns.
    journal : path, optional
        A file in which each evaluation is kept before it is shown. If it is there already, what it
        has is not run again: a search that was cut off goes on, also with more candidates. It is
        refused if it is of other data, another estimator or another scoring.
    retry_failed : bool
        Whether to run again what the journal has as failed.

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
    JournalError
        If the journal is of other work, in use, or no journal.

    Examples
    --------
    >>> grid = {"C": [1, 10], "gamma": [1e-4, 1e-3]}
    >>> search = mscourse.grid_search(SVC(), grid, splits, engines=client)
    >>> search.wait()
    True
    >>> search.best_params
    {'C': 1, 'gamma': 0.001}
    """
    candidates = grid_candidates(param_grid)
    if not isinstance(order, str) or order not in ("random", "grid"):
        raise ParameterError(f"order must be 'random' or 'grid', not {order!r}.")
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
        prefix_cache_bytes=prefix_cache_bytes,
    )
    n = len(candidates)
    sequence = random_order(n, evaluator.seed) if order == "random" else np.arange(n)
    check_callback(on_evaluation)
    if n_evaluations is not None:
        check_count("n_evaluations", n_evaluations)
    return CandidateSearch(
        evaluator,
        candidates,
        sequence,
        n_evaluations,
        engines,
        raise_errors=error_score == "raise",
        on_evaluation=on_evaluation,
        journal=journal_of(
            evaluator, journal, random_state=random_state, retry_failed=retry_failed
        ),
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
    timeout_s: float | None = None,
    prefix_cache_bytes: int | None = None,
    on_evaluation: Callable[[Evaluation], object] | None = None,
    journal: str | Path | None = None,
    retry_failed: bool = False,
) -> CandidateSearch:
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
        Seed of the draw: the same candidates as scikit-learn's `RandomizedSearchCV` draws. If there
        are only lists, also of the order in which they are evaluated. Else as for `grid_search`.
    engines, n_evaluations, scoring, rank_by, return_train_score, error_score, timeout_s, \
    prefix_cache_bytes, on_evaluation, journal, retry_failed
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
    JournalError
        If the journal is of other work, in use, or no journal.

    Examples
    --------
    >>> distributions = {"C": scipy.stats.loguniform(1, 100), "gamma": [1e-4, 1e-3]}
    >>> search = mscourse.random_search(SVC(), distributions, splits, n_iter=3, engines=client)
    >>> search.wait()
    True
    >>> search.best_params["gamma"]
    0.001
    """
    candidates = drawn_candidates(param_distributions, n_iter, random_state)
    evaluator = checked_evaluator(
        estimator,
        candidates,
        splits,
        scoring=scoring,
        rank_by=rank_by,
        return_train_score=return_train_score,
        error_score=error_score,
        random_state=random_state,
        timeout_s=timeout_s,
        prefix_cache_bytes=prefix_cache_bytes,
    )
    check_callback(on_evaluation)
    if n_evaluations is not None:
        check_count("n_evaluations", n_evaluations)
    return CandidateSearch(
        evaluator,
        candidates,
        drawn_order(param_distributions, len(candidates), evaluator.seed),
        n_evaluations,
        engines,
        raise_errors=error_score == "raise",
        on_evaluation=on_evaluation,
        journal=journal_of(
            evaluator, journal, random_state=random_state, retry_failed=retry_failed
        ),
    )
