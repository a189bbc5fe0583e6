"""Arguments that several functions take, checked before anything runs."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from sklearn.metrics import check_scoring
from sklearn.utils import get_tags

from mscourse.errors import ParameterError
from mscourse.evaluation import SINGLE_METRIC, Evaluator, Params
from mscourse.splits import Splits

Scoring: TypeAlias = str | Callable[..., Any] | Iterable[str] | Mapping[str, Any] | None


def checked_evaluator(
    estimator: Any,
    candidates: Sequence[Params],
    splits: Splits,
    scoring: Scoring,
    rank_by: str | None = None,
    return_train_score: bool = True,
    error_score: float | Literal["raise"] = math.nan,
) -> Evaluator:
    """Check what the evaluations of a search or a curve have in common, and put it together."""
    check_splits(splits)
    check_estimator(estimator)
    check_parameter_names(estimator, candidates)
    raise_errors = error_score == "raise"
    if not raise_errors and not isinstance(error_score, int | float):
        raise ParameterError(f"error_score must be a number or 'raise', not {error_score!r}.")
    scorer, metrics = checked_scorers(estimator, scoring, rank_by)
    return Evaluator(
        estimator,
        splits,
        scorer,
        metrics,
        return_train_score=return_train_score,
        error_score=math.nan if raise_errors else float(error_score),
    )


def check_one_metric(scoring: object) -> None:
    """Refuse several metrics, where there is room for one."""
    if scoring is not None and not isinstance(scoring, str) and not callable(scoring):
        raise ParameterError(f"scoring must be one metric, a name or a callable, not {scoring!r}.")


def checked_scorers(
    estimator: Any, scoring: Scoring, rank_by: str | None
) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """Give the scorer of one or several metrics, and their names, first the one to rank by.

    A callable may name its metrics only when it is called, so that its names are not checked here.
    """
    if rank_by is not None and not isinstance(rank_by, str):
        raise ParameterError(f"rank_by must be the name of a metric, not {rank_by!r}.")
    if scoring is None or isinstance(scoring, str):
        names = [SINGLE_METRIC]
    elif callable(scoring):
        return _scorer(estimator, scoring), (rank_by or SINGLE_METRIC,)
    else:
        scoring = dict(scoring) if isinstance(scoring, Mapping) else list(scoring)
        names = list(scoring)
    scorer = _scorer(estimator, scoring)
    if rank_by is not None and rank_by not in names:
        raise ParameterError(f"rank_by must be one of {', '.join(names)}; it is {rank_by!r}.")
    return scorer, tuple(dict.fromkeys([rank_by or names[0], *names]))


def _scorer(estimator: Any, scoring: Any) -> Callable[..., Any]:
    try:
        scorer: Callable[..., Any] = check_scoring(estimator, scoring)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"scoring={scoring!r} cannot score {estimator!r}: {error}") from error
    return scorer


def check_splits(splits: object) -> None:
    """Refuse what `persist_cv_splits` has not made."""
    if not isinstance(splits, Splits):
        raise ParameterError(
            "splits must be what persist_cv_splits or open_splits returns, not "
            f"{type(splits).__name__}."
        )


def check_estimator(estimator: Any) -> None:
    """Refuse what cannot be cloned and fitted on rows."""
    if isinstance(estimator, type) or not all(
        hasattr(estimator, method) for method in ("fit", "get_params", "set_params")
    ):
        raise ParameterError(
            f"estimator must be an object with fit, get_params and set_params, such as SVC(); "
            f"it is {estimator!r}."
        )
    if get_tags(estimator).input_tags.pairwise:
        raise ParameterError(
            f"{estimator!r} takes a matrix of distances between rows, of which a split needs rows "
            "and columns; persisted splits have rows only. Let it compute the distances itself."
        )


def check_parameter_names(estimator: Any, candidates: Iterable[Mapping[str, Any]]) -> None:
    """Refuse a parameter that the estimator does not have, before it fails on every engine."""
    known = estimator.get_params(deep=True)
    for name in dict.fromkeys(name for params in candidates for name in params):
        part, _, rest = name.partition("__")
        replaced = rest and any(part in params for params in candidates)
        if name not in known and not replaced:
            similar = difflib.get_close_matches(name, known, n=1)
            raise ParameterError(
                f"{type(estimator).__name__} has no parameter {name!r}. "
                + (f"Did you mean {similar[0]!r}? " if similar else "")
                + f"It has: {', '.join(sorted(known))}."
            )


def check_count(name: str, value: object) -> None:
    """Refuse what is not a positive integer."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ParameterError(f"{name} must be a positive integer, not {value!r}.")
