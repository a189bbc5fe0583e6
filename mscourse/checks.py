"""Arguments that several functions take, checked before anything runs."""

from __future__ import annotations

import difflib
import inspect
import math
import secrets
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from sklearn import get_config
from sklearn.base import clone
from sklearn.metrics import check_scoring, get_scorer
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing

from mscourse.errors import ParameterError
from mscourse.evaluation import SINGLE_METRIC, Params
from mscourse.evaluator import Evaluator
from mscourse.splits import Splits
from mscourse.values import is_integer, is_number

# scikit-learn takes seeds below this.
_SEEDS_END = 2**32

# To send so much with each message takes longer than many an evaluation.
_LARGE_BYTES_EACH_TIME = 1_000_000

# Sent once, it is still a copy for each engine, and one more for each fit.
_LARGE_BYTES_ONCE = 20_000_000

Scoring: TypeAlias = str | Callable[..., Any] | Iterable[str] | Mapping[str, Any] | None


def checked_evaluator(
    estimator: Any,
    candidates: Sequence[Params],
    splits: Splits,
    *,
    scoring: Scoring = None,
    rank_by: str | None = None,
    return_train_score: bool = True,
    error_score: float | Literal["raise"] = math.nan,
    random_state: int | None = 0,
    timeout_s: float | None = None,
    prefix_cache_bytes: int | None = 0,
) -> Evaluator:
    """Check what the evaluations of a search or a curve have in common, and put it together.

    Of the candidates only the names of their parameters matter.
    """
    check_splits(splits)
    check_estimator(estimator)
    check_parameter_names(estimator, candidates)
    if not isinstance(return_train_score, bool | np.bool_):
        raise ParameterError(
            f"return_train_score must be True or False, not {return_train_score!r}."
        )
    raise_errors = isinstance(error_score, str) and error_score == "raise"
    if not raise_errors and not is_number(error_score):
        raise ParameterError(f"error_score must be a number or 'raise', not {error_score!r}.")
    if timeout_s is not None and not (is_number(timeout_s) and 0 < timeout_s < math.inf):
        raise ParameterError(
            f"timeout_s must be a positive number of seconds, or None, not {timeout_s!r}."
        )
    if prefix_cache_bytes is not None:
        if not (is_number(prefix_cache_bytes) and 0 <= prefix_cache_bytes < math.inf):
            raise ParameterError(
                "prefix_cache_bytes must be a number of bytes, 0 to share nothing, or None, not "
                f"{prefix_cache_bytes!r}."
            )
        prefix_cache_bytes = int(prefix_cache_bytes)
    scorer, metrics = checked_scorers(estimator, scoring, rank_by)
    fit_metadata, score_metadata = _routed_metadata(estimator, scorer, splits)
    return Evaluator(
        estimator,
        splits,
        scorer,
        metrics,
        return_train_score=return_train_score,
        error_score=math.nan if raise_errors else float(error_score),
        seed=checked_seed(random_state),
        fit_metadata=fit_metadata,
        score_metadata=score_metadata,
        config=get_config(),
        timeout_s=timeout_s,
        prefix_cache_bytes=prefix_cache_bytes,
        scores_by_predictions=_scores_by_predictions(scoring),
    )


def checked_seed(random_state: int | None) -> int:
    """Give a seed; one that differs each time for None."""
    if random_state is None:
        return secrets.randbits(31)
    if not is_integer(random_state) or not 0 <= random_state < _SEEDS_END:
        raise ParameterError(
            f"random_state must be an integer from 0 to {_SEEDS_END - 1}, or None, not "
            f"{random_state!r}."
        )
    return int(random_state)


def _scores_by_predictions(scoring: Scoring) -> bool:
    """Whether scores depend on what is predicted, not on how the estimator is made."""
    if scoring is None or isinstance(scoring, str):
        return True
    if callable(scoring):
        return isinstance(scoring, type(get_scorer("accuracy")).__mro__[1])  # of make_scorer
    each = scoring.values() if isinstance(scoring, Mapping) else scoring
    return all(map(_scores_by_predictions, each))


def _routed_metadata(
    estimator: Any, scorer: Callable[..., Any], splits: Splits
) -> tuple[dict[str, str], dict[str, str]]:
    """Tell which of the persisted metadata each argument of ``fit`` and of the scorer gets."""
    names = splits.metadata_names
    if not names:
        return {}, {}
    if not get_config()["enable_metadata_routing"]:
        accepts = "sample_weight" in names and _accepts_sample_weight(scorer)
        return {name: name for name in names}, (
            {"sample_weight": "sample_weight"} if accepts else {}
        )
    router = (
        MetadataRouter(owner="The search")
        .add(estimator=estimator, method_mapping=MethodMapping().add(caller="fit", callee="fit"))
        .add(scorer=scorer, method_mapping=MethodMapping().add(caller="fit", callee="score"))
    )
    try:
        routed = process_routing(router, "fit", **{name: name for name in names})
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"The metadata of the splits ({', '.join(names)}) cannot be routed: {error}"
        ) from error
    return dict(routed.estimator.fit), dict(routed.scorer.score)


def _accepts_sample_weight(scorer: Callable[..., Any]) -> bool:
    if hasattr(scorer, "_accept_sample_weight"):  # a scorer of scikit-learn, which asks likewise
        return bool(scorer._accept_sample_weight())
    return "sample_weight" in inspect.signature(scorer).parameters


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
    elif not isinstance(scoring, Iterable):
        raise ParameterError(
            "scoring must be a metric, a list or dict of metrics, or None to use estimator.score, "
            f"not {scoring!r}."
        )
    else:
        scoring = dict(scoring) if isinstance(scoring, Mapping) else list(scoring)
        names = list(scoring)
    scorer = _scorer(estimator, scoring)
    if rank_by is not None and rank_by not in names:
        raise ParameterError(f"rank_by must be one of {', '.join(names)}; it is {rank_by!r}.")
    return scorer, tuple(dict.fromkeys([rank_by or names[0], *names]))


def _scorer(estimator: Any, scoring: Any) -> Callable[..., Any]:
    try:
        # Of several metrics, one that raises does not cost the scores of the others.
        scorer: Callable[..., Any] = check_scoring(estimator, scoring, raise_exc=False)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"scoring={scoring!r} cannot score {estimator!r}: {error}") from error
    return scorer


def check_callback(on_evaluation: object) -> None:
    """Refuse what cannot be called with each evaluation."""
    if on_evaluation is not None and not callable(on_evaluation):
        raise ParameterError(
            f"on_evaluation must be callable with an Evaluation, or None, not {on_evaluation!r}."
        )


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
    try:
        tags = get_tags(estimator)
    except (AttributeError, TypeError) as error:
        raise ParameterError(
            f"estimator must be made as scikit-learn asks for it: {error} Derive its class from "
            "sklearn.base.BaseEstimator."
        ) from error
    if tags.input_tags.pairwise:
        raise ParameterError(
            f"{estimator!r} takes a matrix of distances between rows, of which a split needs rows "
            "and columns; persisted splits have rows only. Let it compute the distances itself."
        )


def check_parameter_names(estimator: Any, candidates: Iterable[Mapping[str, Any]]) -> None:
    """Refuse a parameter that the estimator does not have, before it fails on every engine."""
    known = estimator.get_params(deep=True)
    candidates = list(candidates)
    names = dict.fromkeys(name for params in candidates for name in params)
    for name in names:
        if not isinstance(name, str):
            raise ParameterError(
                f"{name!r} is no name of a parameter: it is of type {type(name).__name__}, not str."
            )
        if (
            name not in known
            and not _is_replaced(name, names)
            and not _takes(estimator, name, candidates)
        ):
            similar = difflib.get_close_matches(name, known, n=1)
            raise ParameterError(
                f"{type(estimator).__name__} has no parameter {name!r}. "
                + (f"Did you mean {similar[0]!r}? " if similar else "")
                + f"It has: {', '.join(sorted(known))}."
            )


def _is_replaced(name: str, names: Iterable[str]) -> bool:
    """Whether a part of the estimator, of which this is a parameter, is one itself."""
    parts = name.split("__")
    prefixes = {"__".join(parts[:n]) for n in range(1, len(parts))}
    return not prefixes.isdisjoint(names)


def _takes(estimator: Any, name: str, candidates: Iterable[Mapping[str, Any]]) -> bool:
    """Whether an estimator takes a parameter that it does not list, as some take other names."""
    value = next(params[name] for params in candidates if name in params)
    try:
        clone(estimator).set_params(**{name: value})
    except Exception:  # noqa: BLE001  # whatever it raises, it does not take it
        return False
    return True


def checked_candidate(candidate: object, n_candidates: int) -> int:
    """Give the number of a candidate, if there is one of that number."""
    if not is_integer(candidate) or not 0 <= candidate < n_candidates:
        raise ParameterError(
            f"There is no candidate {candidate!r}; there are {n_candidates}, from 0 on."
        )
    return int(candidate)


def check_seconds(name: str, value: object) -> None:
    """Refuse what is no number of seconds; it may be without end."""
    if not is_number(value) or math.isnan(value):
        raise ParameterError(f"{name} must be a number of seconds, not {value!r}.")


def check_rows(name: str, value: object) -> None:
    """Refuse what can be no number of rows; a float such as 1e6 may be meant as one."""
    if not is_number(value) or not 1 <= value < math.inf:
        raise ParameterError(f"{name} must be a number of rows, at least 1, not {value!r}.")


def check_count(name: str, value: object) -> None:
    """Refuse what is not a positive integer, or more than anything can be counted to."""
    if not is_integer(value) or not 1 <= value <= sys.maxsize:
        raise ParameterError(f"{name} must be a positive integer, not {value!r}.")


def warn_if_large(n_bytes: int, *, each_time: bool) -> None:
    """Warn if what the evaluations have in common is large: it is copied, as the data are not.

    Parameters
    ----------
    n_bytes : int
    each_time : bool
        Whether it travels with each message, and not once to each engine.
    """
    if n_bytes > (_LARGE_BYTES_EACH_TIME if each_time else _LARGE_BYTES_ONCE):
        travel = (
            "travel with each message to a worker" if each_time else "each engine has a copy of"
        )
        warnings.warn(
            f"The estimator and the scorer have {n_bytes / 1e6:.1f} MB, which {travel}. Is there "
            "an array among their parameters? Persist it with the splits, or have the estimator "
            "read it from a file.",
            RuntimeWarning,
            stacklevel=2,
        )
