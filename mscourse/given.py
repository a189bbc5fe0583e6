"""What users give, as arrays that can be stored: targets, metadata of the samples, groups."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from mscourse.errors import ParameterError

# Booleans, integers, floats, complex numbers, times and strings: what a ``.npy`` file holds
# without a pickle.
_STORABLE_KINDS = "biufcmMU"


def frame_library(data: object) -> Literal["pandas", "polars"] | None:
    """Name the library that a data frame is of, or None if it is none; imports nothing."""
    if (pandas := sys.modules.get("pandas")) and isinstance(data, pandas.DataFrame):
        return "pandas"
    if (polars := sys.modules.get("polars")) and isinstance(data, polars.DataFrame):
        return "polars"
    return None


def as_array(what: str, values: Any) -> NDArray[Any]:
    """Make an array, in which strings that came in a list stay Python objects.

    To numpy a list of strings is an array as wide as the longest one, and ``["a", nan]`` and
    ``["a", 1]`` are lists of strings too.
    """
    if (polars := sys.modules.get("polars")) and isinstance(values, polars.Series):
        # To numpy, its strings too are an array as wide as the longest.
        strings = values.dtype in (polars.String, polars.Categorical, polars.Enum)
        values = values.to_list() if strings else values
    try:
        is_list = isinstance(values, list | tuple)
        first = values
        while isinstance(first, list | tuple) and first:
            first = first[0]
        array = np.asarray(values, dtype=object if is_list and isinstance(first, str) else None)
        if is_list and array.dtype.kind == "U":
            array = np.asarray(values, dtype=object)
    except (ValueError, TypeError, OverflowError) as error:
        raise ParameterError(f"{what} is not an array: {error}") from error
    if array.dtype.kind == "T":  # numpy's strings of variable width
        array = array.astype(object)
    return array


def is_missing(value: object) -> bool:
    """Whether a value stands for one that is not there: None, NaN, NaT, ``pandas.NA``."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except TypeError:  # pandas.NA is neither true nor false
        return True
    except ValueError:  # an array
        return False


def as_targets(y: Any, n_samples: int) -> NDArray[Any]:
    """Check the targets, and make an array of them.

    Raises
    ------
    ParameterError
        If they are of several types, have missing strings, or are not one or more for each row.
    """
    if sparse.issparse(y):
        raise ParameterError("y is sparse; give it as an array: y.toarray().")
    return _as_column("y", y, n_samples)


def as_metadata(
    metadata: Mapping[str, ArrayLike] | None, n_samples: int
) -> dict[str, NDArray[Any]]:
    """Check the metadata of the samples, and make arrays of them.

    Raises
    ------
    ParameterError
        If a name is no Python identifier, or an array does not fit X or cannot be stored.
    """
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise ParameterError(
            "metadata must be a dict of arrays such as {'sample_weight': w}, not a "
            f"{type(metadata).__name__}."
        )
    arrays = {}
    for name, values in metadata.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ParameterError(
                f"metadata has the name {name!r}; it must be the name of an argument of fit or "
                "score, such as 'sample_weight'."
            )
        if name in ("X", "y"):  # fit would get two of them
            raise ParameterError(f"metadata has the name {name!r}, which fit knows the data by.")
        if sparse.issparse(values):
            raise ParameterError(f"metadata[{name!r}] is sparse; give it as an array: toarray().")
        arrays[name] = _as_column(f"metadata[{name!r}]", values, n_samples)
    return arrays


def as_groups(groups: ArrayLike | None, n_samples: int) -> NDArray[Any] | None:
    """Make an array of the groups, for the splitter."""
    return None if groups is None else _as_column("groups", groups, n_samples)


def _as_column(what: str, values: Any, n_samples: int) -> NDArray[Any]:
    library = frame_library(values)
    if library and values.shape[1] == 1:
        # The column, which scikit-learn would take too, but with a warning.
        values = values.iloc[:, 0] if library == "pandas" else values.to_series()
    array = as_array(what, values)
    if array.ndim == 2 and not array.shape[1]:
        raise ParameterError(f"{what} has no columns; its shape is {array.shape}.")
    if array.ndim not in (1, 2):
        raise ParameterError(f"{what} must have one or two dimensions; its shape is {array.shape}.")
    if len(array) != n_samples:
        raise ParameterError(f"X has {n_samples} rows, but {what} has {len(array)}.")
    if array.dtype.hasobject:
        array = _of_one_type(what, array)
    if array.dtype.kind not in _STORABLE_KINDS:
        raise ParameterError(
            f"{what} is of dtype {array.dtype}; give numbers, booleans, strings or numpy's dates."
        )
    return array


def _of_one_type(what: str, array: NDArray[Any]) -> NDArray[Any]:
    """Find a type for an array of Python objects."""
    values = array.ravel().tolist()
    strings = any(isinstance(value, str) for value in values)
    kinds: dict[str, None] = {}
    for i, value in enumerate(values):
        if isinstance(value, str):
            kind = "str"
        elif isinstance(value, bool | np.bool_):
            kind = "bool"
        elif (strings or not isinstance(value, float)) and is_missing(value):
            row = i // max(1, len(values) // len(array))
            raise ParameterError(
                f"{what} has a missing value in row {row} ({value!r}). Drop such rows, or give "
                "them a value of their own."
            )
        elif isinstance(value, numbers.Number | np.generic):
            kind = "number" if isinstance(value, numbers.Number) else type(value).__name__
        else:
            kind = type(value).__name__
        kinds[kind] = None
    if len(kinds) > 1:
        raise ParameterError(
            f"{what} holds Python objects of several types ({', '.join(kinds)}); give numbers or "
            "strings."
        )
    found = np.asarray(array.tolist())
    if found.dtype.hasobject or found.shape != array.shape:
        raise ParameterError(
            f"{what} holds Python objects of type {', '.join(kinds)}; give numbers, strings, or "
            "numpy's dates (datetime64)."
        )
    return found
