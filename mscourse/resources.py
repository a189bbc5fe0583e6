"""What the rungs of a halving search give their candidates: how much, and what may be asked for."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import is_classifier

from mscourse.asha import N_SAMPLES
from mscourse.checks import check_count, check_parameter_names
from mscourse.errors import ParameterError
from mscourse.evaluation import Params
from mscourse.evaluator import Evaluator
from mscourse.values import is_integer, is_number

# Closer to 1 the rungs would hardly differ, and there would be hundreds.
_LEAST_FACTOR = 1.1

# Rows that scikit-learn's halving wants at least for each split and class.
_LEAST_ROWS = 2

# The logarithm of a whole power may come out a little too small: log(243, 3) is 4.999...
_ROUNDING = 1e-9


def rung_steps(least: int, most: int, factor: float) -> tuple[int, ...]:
    """Give the resources of the rungs: the top is ``most``, the bottom not below ``least``."""
    n_above = math.floor(math.log(most / least, factor) + _ROUNDING)
    steps = [round(most / factor ** (n_above - k)) for k in range(n_above + 1)]
    return tuple(dict.fromkeys(steps))  # small ones may round to the same


def least_rows(evaluator: Evaluator) -> int:
    n_rows = _LEAST_ROWS * len(evaluator.splits)
    y = evaluator.splits.open_arrays()[1] if is_classifier(evaluator.estimator) else None
    return n_rows if y is None else n_rows * len(np.unique(y))


def checked_rows(max_resources: int | None, n_rows: int) -> int:
    if max_resources is None:
        return n_rows
    check_count("max_resources", max_resources)
    if max_resources > n_rows:
        raise ParameterError(
            f"max_resources must be at most {n_rows}, the rows in the largest train set, not "
            f"{max_resources}. Leave it out to use all rows."
        )
    return int(max_resources)


def checked_least(
    min_resources: int | None, most: int, least_sensible: int, n_candidates: int, factor: float
) -> int:
    if min_resources is None:
        n_promotions = math.floor(math.log(n_candidates, factor) + _ROUNDING)
        return min(most, max(least_sensible, int(most / factor**n_promotions)))
    check_count("min_resources", min_resources)
    if min_resources > most:
        raise ParameterError(
            f"min_resources must be at most max_resources, which is {most}; it is {min_resources}."
        )
    return int(min_resources)


def checked_parameter(
    estimator: Any, candidates: Sequence[Params], resource: object, max_resources: int | None
) -> int:
    if not isinstance(resource, str):
        raise ParameterError(
            f"resource must be {N_SAMPLES!r} or the name of a parameter, not {resource!r}."
        )
    if any(resource in params for params in candidates):
        raise ParameterError(
            f"{resource!r} is the resource, so that the search sets it; take it out of param_grid."
        )
    # Some take a parameter that they do not list, and then perhaps no other value than an integer.
    tried = 1 if max_resources is None else max_resources
    try:
        check_parameter_names(estimator, [{resource: tried}])
    except ParameterError as error:
        raise ParameterError(f"resource must be {N_SAMPLES!r} or a parameter. {error}") from error
    value = estimator.get_params().get(resource)  # of one that is not listed, nobody knows it
    if value is not None and not is_integer(value):
        raise ParameterError(
            f"resource must be {N_SAMPLES!r} or a parameter that is an integer, such as "
            f"n_estimators or max_iter; {resource!r} is {value!r}."
        )
    if max_resources is None:
        raise ParameterError(
            f"max_resources must say which {resource} a candidate gets in the top rung, for "
            "example max_resources=100."
        )
    check_count("max_resources", max_resources)
    return int(max_resources)


def check_factor(factor: object) -> None:
    if not is_number(factor) or not _LEAST_FACTOR <= factor <= sys.float_info.max:
        raise ParameterError(
            f"factor must be a number of at least {_LEAST_FACTOR}, usually 2 to 4, not {factor!r}: "
            "one candidate in so many is promoted."
        )
