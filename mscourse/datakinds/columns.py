"""Columns of a data frame of pandas as Arrow arrays, and back, with their very types.

Arrow knows fewer types than pandas: a column of its categories, or one that marks what is missing
with NaN, does not come back by itself. So each column notes what it was, as a small dict that goes
through JSON.

============================  ===================  ================================================
pandas                        noted as             stored as
============================  ===================  ================================================
numpy's numbers, booleans,    ``numpy``            the bytes as they are; read as a view
datetimes without a zone
``Int64``, ``boolean``, …     ``nullable``         the values (read as a view) and what is missing
datetimes with a zone         ``zone``             timestamps
strings                       ``string``           strings; pyarrow's are read as a view
objects, if they are strings  ``object``           strings; read as Python objects
categories                    ``category``         codes, and the categories as a column
Arrow's own types             ``arrow``            themselves; read as a view
============================  ===================  ================================================
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mscourse.arrayfile import checked_dtype
from mscourse.errors import ParameterError
from mscourse.values import shown

# How a column was, for the way back.
Note = dict[str, Any]

# Booleans, integers, floats and times, of at most 8 bytes: there are unsigned integers as wide.
_NUMPY_KINDS = "biufmM"

# Pandas' types with a mask of what is missing.
_NULLABLE = frozenset(
    ["boolean", "Float32", "Float64"]
    + [f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)]
)

# Where pandas keeps strings, in all versions of it.
_STORAGES = ("python", "pyarrow", "pyarrow_numpy")


def describe(series: Any, name: Any) -> Note:
    """Note what a column is.

    Raises
    ------
    ParameterError
        If it could not come back as it is.
    """
    import pandas as pd

    dtype = series.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in _NUMPY_KINDS and dtype.itemsize <= 8:
        return {"as": "numpy", "dtype": dtype.str}
    if isinstance(dtype, np.dtype) and dtype.hasobject:
        return {"as": "object", "missing": _missing_of_strings(series, name)}
    if isinstance(dtype, pd.CategoricalDtype):
        categories = describe(_series(dtype.categories), name)
        return {"as": "category", "ordered": bool(dtype.ordered), "categories": categories}
    if isinstance(dtype, pd.StringDtype):
        missing = "NA" if dtype.na_value is pd.NA else "nan"
        return {"as": "string", "storage": dtype.storage, "missing": missing}
    if isinstance(dtype, pd.DatetimeTZDtype):
        return {"as": "zone"}
    if isinstance(dtype, pd.ArrowDtype):
        return {"as": "arrow"}
    if isinstance(series.array, _nullable_arrays()):
        return {"as": "nullable", "dtype": series.array.dtype.name}
    raise ParameterError(
        f"Column {name!r} of X has the type {dtype}, which cannot be memory-mapped. Turn it into "
        "numbers, strings or categories first (astype)."
    )


def check_note(note: Note) -> None:
    """Refuse what `describe` has not noted: a manifest may come from anywhere.

    Raises
    ------
    KeyError, TypeError, ValueError
        Says what is wrong.
    """
    kind = note["as"]
    if kind == "category":
        categories = note["categories"]
        right = isinstance(note["ordered"], bool) and categories["as"] != "category"
        check_note(categories if right else {"as": None})
    elif kind == "numpy":
        dtype = checked_dtype("a column of X", note["dtype"])
        right = dtype.kind in _NUMPY_KINDS and dtype.itemsize <= 8
    elif kind == "nullable":
        right = note["dtype"] in _NULLABLE
    elif kind == "object":
        right = note["missing"] in ("None", "nan", "NA")
    elif kind == "string":
        right = note["missing"] in ("nan", "NA") and note["storage"] in _STORAGES
    else:
        right = kind in ("arrow", "zone")
    if not right:
        raise ValueError(f"there are no columns such as {shown(note)}")


def check_codes(array: Any, raw: NDArray[np.uint8], base: int) -> None:
    """Refuse codes of categories that there are not; pandas would look them up all the same.

    Raises
    ------
    ValueError
        If there are any.
    """
    codes = _codes_of(array, raw, base)
    if len(codes) and not -1 <= codes.min() <= codes.max() < len(array.dictionary):
        raise ValueError(f"there are {len(array.dictionary)} categories, and codes of others")


def encode(series: Any, rows: NDArray[np.int64] | None, note: Note) -> Any:
    """Give these rows of a column (all, if None) as one Arrow array, without any other copy."""
    import pandas as pd
    import pyarrow as pa

    dtype = series.dtype
    if note["as"] == "numpy":
        values = series.to_numpy()
        return _raw(np.ascontiguousarray(values if rows is None else values[rows]))
    if note["as"] == "category":
        codes = np.asarray(series.array.codes)
        return pa.DictionaryArray.from_arrays(
            _codes(codes if rows is None else codes[rows]),
            encode(_series(dtype.categories), None, note["categories"]),
            ordered=note["ordered"],
        )
    if rows is not None and isinstance(dtype, np.dtype):
        array = pa.array(series.to_numpy()[rows], from_pandas=True)
    else:
        values = series.array if rows is None else series.array.take(rows)
        array = pa.array(pd.Series(values, copy=False), from_pandas=True)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if note["as"] in ("object", "string"):
        array = array.cast(pa.large_string())  # with 64-bit offsets: more than 2 GB in a column
    return array


def _series(categories: Any) -> Any:
    import pandas as pd

    return pd.Series(categories, dtype=categories.dtype, copy=False)  # to_series() guesses a type


def _raw(values: NDArray[Any]) -> Any:
    """Wrap the bytes of numpy's values in an Arrow array of unsigned integers, whatever they are.

    So booleans stay bytes and what is not a time keeps its mark, and both come back as views.
    """
    import pyarrow as pa

    return pa.array(values.view(f"u{values.dtype.itemsize}"))


def _codes(codes: NDArray[Any]) -> Any:
    """Wrap the codes of categories: what is missing is -1, as in pandas, and null, as in Arrow."""
    import pyarrow as pa

    valid = pa.array(codes >= 0).buffers()[1] if (codes < 0).any() else None
    buffers = [valid, pa.py_buffer(np.ascontiguousarray(codes))]
    return pa.Array.from_buffers(pa.from_numpy_dtype(codes.dtype), len(codes), buffers)


def decode(array: Any, note: Note, raw: NDArray[np.uint8], base: int) -> Any:
    """Give back what `encode` was given, as a view of the map where the type allows it.

    Parameters
    ----------
    array : pyarrow.Array
        A column, or a slice of it.
    note : dict
        What `describe` has noted of it.
    raw : ndarray of uint8
        The file's bytes, which the array's buffers lie in.
    base : int
        The address of the first of them.

    Returns
    -------
    ndarray, pandas.Series or extension array of pandas
    """
    import pandas as pd

    kind = note["as"]
    if kind == "numpy":
        return _view(array, np.dtype(note["dtype"]), raw, base)
    if kind == "arrow":
        return pd.arrays.ArrowExtensionArray(array)
    if kind == "object":
        return pd.Series(_objects(array, note["missing"]), dtype=object, copy=False)
    if kind == "string":
        return string_dtype(note).__from_arrow__(array)
    if kind == "zone":
        return array.type.to_pandas_dtype().__from_arrow__(array)
    assert kind == "nullable", kind
    dtype = pd.api.types.pandas_dtype(note["dtype"])
    missing = np.asarray(array.is_null())
    if dtype == pd.BooleanDtype():
        values = np.asarray(array.fill_null(False))
        return pd.arrays.BooleanArray(values, missing, copy=False)
    values = _view(array, dtype.numpy_dtype, raw, base)
    whole = pd.arrays.FloatingArray if dtype.kind == "f" else pd.arrays.IntegerArray
    return whole(values, missing, copy=False)


def decode_categories(array: Any, note: Note, raw: NDArray[np.uint8], base: int) -> Any:
    """Give the type of a column of categories. It owns its memory, and so can be kept."""
    import pandas as pd

    values = decode(array.dictionary, note["categories"], raw, base)
    return pd.CategoricalDtype(pd.Index(values, copy=True), ordered=note["ordered"])


def decode_codes(array: Any, dtype: Any, raw: NDArray[np.uint8], base: int) -> Any:
    """Give a column of categories of this type."""
    import pandas as pd

    codes = _codes_of(array, raw, base)
    return pd.Categorical.from_codes(codes, dtype=dtype, validate=False)


def _codes_of(array: Any, raw: NDArray[np.uint8], base: int) -> NDArray[Any]:
    return _view(array.indices, array.type.index_type.to_pandas_dtype(), raw, base)


def string_dtype(note: Note) -> Any:
    """Make pandas' type of strings, which before pandas 3 has one mark of what is missing."""
    import pandas as pd

    if note["missing"] == "NA":
        return pd.StringDtype(note["storage"])
    return pd.StringDtype(note["storage"], na_value=np.nan)


def _view(array: Any, dtype: Any, raw: NDArray[np.uint8], base: int) -> NDArray[Any]:
    """View the values of an Arrow array in the map, which can be written to if the map can."""
    dtype = np.dtype(dtype)
    offset = array.buffers()[1].address - base + array.offset * dtype.itemsize
    # Values that were compressed do not lie in the map. Numpy would go there all the same, forward
    # or back, and nothing would keep what lies there.
    if not 0 <= offset <= len(raw) - len(array) * dtype.itemsize:
        raise ValueError("the values do not lie in the file as they are")
    return np.ndarray(len(array), dtype, raw, offset)


def _objects(array: Any, missing: str) -> NDArray[Any]:
    import pandas as pd

    values: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    if array.null_count and missing != "None":
        values[np.asarray(array.is_null())] = {"nan": np.nan, "NA": pd.NA}[missing]
    return values


def _missing_of_strings(series: Any, name: object) -> str:
    """Say how a column of Python strings marks what is missing."""
    is_missing = series.isna().to_numpy()
    values = series.to_numpy()
    for row in np.flatnonzero(~is_missing):
        if not isinstance(values[row], str):
            raise ParameterError(
                f"Column {name!r} of X holds Python objects; that in row {row} is of type "
                f"{type(values[row]).__name__}. Only strings can be stored so: cast the column "
                "first (astype, or infer_objects for the whole frame)."
            )
    marks = dict.fromkeys(_mark(value) for value in values[is_missing])
    if len(marks) > 1 or "NaT" in marks:
        raise ParameterError(
            f"Column {name!r} of X marks missing strings with {', '.join(marks)}; choose one of "
            f"None, NaN and pandas.NA: X[{name!r}].fillna(np.nan)."
        )
    return next(iter(marks), "None")


def _mark(value: object) -> str:
    import pandas as pd

    if value is None:
        return "None"
    if value is pd.NA:
        return "NA"
    return "NaT" if value is pd.NaT else "nan"


def _nullable_arrays() -> Any:
    import pandas as pd

    return (pd.arrays.IntegerArray, pd.arrays.FloatingArray, pd.arrays.BooleanArray)
