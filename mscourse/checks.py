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
from sklearn.base import TransformerMixin, clone
from sklearn.metrics import check_scoring, get_scorer, get_scorer_names
from sklearn.pipeline import Pipeline
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

# Names that are asked about where one is wrong; of a metric, the most probable is often not meant.
_MOST_METRICS_MEANT = 3

# Fewer letters begin too many names.
_LEAST_TELLING = 3

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
    replaced = frozenset(name for params in candidates for name in params)
    fit_metadata, score_metadata = _routed_metadata(estimator, scorer, splits, replaced)
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
    estimator: Any, scorer: Callable[..., Any], splits: Splits, replaced: frozenset[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Tell which of the persisted metadata each argument of ``fit`` and of the scorer gets."""
    names = splits.metadata_names
    if not names:
        return {}, {}
    if not get_config()["enable_metadata_routing"]:
        for name in names:
            if refusal := _refusal(estimator, name, replaced):
                raise ParameterError(
                    f"{refusal[0]}, but the splits {splits.name!r} have the metadata {name!r}, and "
                    f"fit gets all metadata. {refusal[1]} Persist them under a name that fit "
                    "takes, or not at all; or have them go only to what asks for them: "
                    "sklearn.set_config(enable_metadata_routing=True)."
                )
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


def _refusal(
    estimator: Any, name: str, replaced: frozenset[str], *, is_last: bool = True
) -> tuple[str, str] | None:
    """Say that a fit without routing takes no such argument, and what it takes; None if it may.

    Parameters
    ----------
    estimator : estimator
        Or a step of a pipeline, perhaps one that does nothing.
    name : str
        The argument.
    replaced : frozenset of str
        Parameters that the candidates set: what is replaced may take anything.
    is_last : bool
        Whether it is fitted by `fit`, and not by `fit_transform`, as a pipeline's first steps are.
    """
    says = f"{type(estimator).__name__}.fit takes no {name!r}"
    if getattr(type(estimator), "fit", None) is Pipeline.fit:
        if "steps" in replaced:
            return None
        steps = dict(estimator.steps)
        step, _, argument = name.partition("__")
        if step in steps and argument:
            inner = f"{step}__"
            deeper = {each.removeprefix(inner) for each in replaced if each.startswith(inner)}
            last = estimator.steps[-1][0]
            return (
                None
                if step in replaced
                else _refusal(steps[step], argument, frozenset(deeper), is_last=step == last)
            )
        named = [f"{step}__{argument or name}" for step in reversed(steps)]
        taken = [each for each in named if not _refusal(estimator, each, replaced)]
        such = f", such as {taken[0]!r}" if taken else ""
        meant = _did_you_mean(name, named) if argument else ""
        return says, f"{meant}It takes what its steps take, by <name of a step>__<argument>{such}."
    method = getattr(estimator, "fit", None)
    if method is None or _may_take(method, name):
        return None
    other = getattr(type(estimator), "fit_transform", TransformerMixin.fit_transform)
    if not is_last and other is not TransformerMixin.fit_transform and _may_take(other, name):
        return None
    takes = list(inspect.signature(method).parameters)[1:]  # after X, whatever its name is there
    takes = [each for each in takes if each != "y"]
    return says, f"{_did_you_mean(name, takes)}It takes {', '.join(takes) or 'none'}."


def _may_take(method: Any, name: str) -> bool:
    """Whether a method may take an argument of that name, as far as its signature tells."""
    while True:
        try:
            parameters = inspect.signature(method, follow_wrapped=False).parameters
        except (TypeError, ValueError):
            return True
        kinds = {each.kind for each in parameters.values()}
        if name in parameters or inspect.Parameter.VAR_KEYWORD not in kinds:
            return name in parameters
        # A decorator may take what the method does not; those of scikit-learn pass all on to it.
        module = getattr(method, "__globals__", {}).get("__name__", "")
        if not hasattr(method, "__wrapped__") or module.partition(".")[0] != "sklearn":
            return True
        method = method.__wrapped__


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
        _check_metrics([scoring])
        if rank_by not in (None, SINGLE_METRIC, scoring):
            only = "estimator.score" if scoring is None else repr(scoring)
            raise ParameterError(
                f"rank_by is {rank_by!r}, but {only} is the only metric, and then no rank_by is "
                f"needed. Leave it out, or give scoring a list of metrics with {rank_by!r} in it."
            )
        return _scorer(estimator, scoring), (SINGLE_METRIC,)
    if callable(scoring):
        return _scorer(estimator, scoring), (rank_by or SINGLE_METRIC,)
    if not isinstance(scoring, Iterable):
        raise ParameterError(
            "scoring must be a metric, a list or dict of metrics, or None to use estimator.score, "
            f"not {scoring!r}."
        )
    if isinstance(scoring, set | frozenset):
        scoring = sorted(scoring, key=str)  # its own order differs from process to process
        if rank_by is None and len(scoring) > 1:
            raise ParameterError(
                f"scoring is a set, of {', '.join(map(repr, scoring))}, and none of a set comes "
                "first. Give a list of them, whose first one ranks, or name rank_by."
            )
    scoring = dict(scoring) if isinstance(scoring, Mapping) else list(scoring)
    _check_metrics(scoring.values() if isinstance(scoring, dict) else scoring)
    names = list(scoring)
    scorer = _scorer(estimator, scoring)
    if rank_by is not None and rank_by not in names:
        raise ParameterError(f"rank_by must be one of {', '.join(names)}; it is {rank_by!r}.")
    return scorer, tuple(dict.fromkeys([rank_by or names[0], *names]))


def _check_metrics(metrics: Iterable[Any]) -> None:
    """Refuse a name that is none of a metric; scikit-learn would list all sixty, or none."""
    known = get_scorer_names()
    wrong = {}
    for metric in metrics:
        if isinstance(metric, str) and metric not in known:
            try:
                get_scorer(metric)  # which knows those that are deprecated, too
            except ValueError:
                meant = _did_you_mean(metric, known, _MOST_METRICS_MEANT)
                wrong[metric] = f"{metric!r} is no metric of scikit-learn. {meant}"
    if wrong:
        raise ParameterError(
            f"scoring: {''.join(wrong.values())}sklearn.metrics.get_scorer_names() lists them; "
            "a callable will do, too."
        )


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
            raise ParameterError(
                f"{type(estimator).__name__} has no parameter {name!r}. "
                f"{_did_you_mean(name, known)}It has: {', '.join(sorted(known))}."
            )


def _did_you_mean(name: str, known: Iterable[str], most: int = 1) -> str:
    """Ask for the nearest names, in a sentence before another; with none, say nothing.

    First come names that differ by case only, then those of a step of a pipeline, then those in
    which a word begins like this.
    """
    by_fold = {each.casefold(): each for each in known}
    folded = name.casefold()
    is_telling = len(folded) >= _LEAST_TELLING
    found = (
        [each for each in by_fold if each == folded]
        or [each for each in by_fold if each.endswith(f"__{folded}")]
        or sorted((each for each in by_fold if f"_{folded}" in f"_{each}" and is_telling), key=len)
        or difflib.get_close_matches(folded, by_fold, n=most)
    )[:most]
    shown = [repr(by_fold[each]) for each in found]
    if len(shown) > 1:
        shown = [", ".join(shown[:-1]), shown[-1]]
    return f"Did you mean {' or '.join(shown)}? " if shown else ""


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
