"""Data frames of pandas whose columns have one type: an array, and the names of its columns.

A frame around a memory map is a view of it, and so is what scikit-learn makes of such a frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mscourse.arrayfile import NewFiles, array_file
from mscourse.datakinds.arrays import NUMERIC_KINDS, stored_dtype
from mscourse.datakinds.base import Facts, n_stored, needed, pieces
from mscourse.errors import ParameterError
from mscourse.layout import Rows
from mscourse.storedfile import MapMode, StoredFile
from mscourse.values import shown


def has_one_type(frame: Any) -> bool:
    """Whether all columns of a frame of pandas have the same numeric type of numpy's."""
    dtypes = set(frame.dtypes)
    dtype = dtypes.pop() if len(dtypes) == 1 else None
    return isinstance(dtype, np.dtype) and dtype.kind in NUMERIC_KINDS


def column_names(frame: Any) -> list[str | int]:
    """Give the names of the columns of a frame of pandas.

    Raises
    ------
    ParameterError
        If there are none, or one is neither a string nor an integer.
    """
    names: list[Any] = frame.columns.tolist()
    if not names:
        raise ParameterError("X is a data frame without columns.")
    for i, name in enumerate(names):
        if isinstance(name, np.integer):
            names[i] = int(name)
        elif not isinstance(name, str | int) or isinstance(name, bool):
            raise ParameterError(
                f"Column {i} of X is named {name!r}, of type {type(name).__name__}; names must be "
                "strings (or integers): X.columns = X.columns.map(str)."
            )
    return names


def checked_names(names: Any) -> list[str | int]:
    """Give back the names of columns that a manifest tells.

    Raises
    ------
    ValueError
        If no columns can have these.
    """
    if not isinstance(names, list) or not all(type(name) in (str, int) for name in names):
        raise ValueError(f"the columns of X are named {shown(names)}")
    return names


class FrameSource:
    """A data frame of pandas of one numeric type.

    Parameters
    ----------
    frame : pandas.DataFrame
        The data.
    dtype : dtype, optional
        Store it in this type.
    """

    def __init__(self, frame: Any, dtype: DTypeLike | None) -> None:
        self.given = frame
        self.n_samples = len(frame)
        self._names = column_names(frame)
        given_dtype = frame.dtypes.iloc[0]
        self._row_bytes = len(self._names) * given_dtype.itemsize
        self._dtype = stored_dtype(np.empty(0, given_dtype), dtype)
        if self._dtype.kind not in NUMERIC_KINDS:
            raise ParameterError(
                f"dtype must be a type of numbers for a data frame of numbers, not {self._dtype}."
            )

    def stored_bytes(self, rows: Rows) -> int:
        return len(rows) * len(self._names) * self._dtype.itemsize

    def write(self, files: NewFiles, rows: Rows) -> Facts:
        writer = files.array("X", self._dtype, len(rows), len(self._names))
        for some_rows in pieces(rows, self._row_bytes):
            # to_numpy() of the whole frame would be a copy if its columns are not in one block.
            writer.write(self.given.iloc[some_rows].to_numpy())
        return {"kind": "frame", "columns": self._names}


class StoredFrame:
    """The file of the rows, and the names of the columns."""

    def __init__(self, facts: Facts, files: Mapping[str, StoredFile]) -> None:
        self._file = array_file(files, "X", n_stored(files))
        self._names = checked_names(facts["columns"])
        kind = np.dtype(self._file.dtype).kind
        if self._file.shape[1:] != (len(self._names),) or kind not in NUMERIC_KINDS:
            raise ValueError(f"X has the shape {self._file.shape} and {len(self._names)} columns")

    @cached_property
    def _columns(self) -> Any:
        return _pandas().Index(self._names)

    def open(self, mmap_mode: MapMode | None) -> _FrameRows:
        return _FrameRows(self._file.open(mmap_mode), self._columns)


class _FrameRows:
    """The stored rows; a slice of them is a frame around the same map."""

    def __init__(self, array: NDArray[Any], columns: Any) -> None:
        self._array = array
        self._columns = columns

    def __getitem__(self, rows: slice) -> Any:
        return _pandas().DataFrame(self._array[rows], columns=self._columns, copy=False)


def _pandas() -> Any:
    return needed("pandas", "X is a data frame", reading=True)
