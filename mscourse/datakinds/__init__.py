"""What X may be, and how each kind of it is stored.

============================  =====================  ==============================================
X                             stored as              a set of a split
============================  =====================  ==============================================
array, list of numbers        one ``.npy``           view of the map
sparse matrix or array        CSR: three ``.npy``    CSR over views of the maps, a matrix or an
                                                     array as given
strings: list, array, Series  UTF-8 and offsets:     array of ``str`` objects, made when it is
                              two ``.npy``           opened
pandas frame of one type      one ``.npy``           frame around a view of the map (numbers only)
any other pandas frame        Arrow file             frame of the same types; what numpy or Arrow
                                                     holds is a view
polars frame                  Arrow file             frame of the same types, views
============================  =====================  ==============================================

A kind is a `DataSource`, which writes, and a `StoredData`, which opens. This module alone chooses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import DTypeLike
from scipy import sparse

from mscourse.arrayfile import array_file
from mscourse.datakinds.arrays import ArraySource, CSRSource, StoredCSR
from mscourse.datakinds.arrowframes import PandasSource, PolarsSource, StoredArrowFrame
from mscourse.datakinds.base import DataSource, Facts, StoredData, n_stored
from mscourse.datakinds.frames import FrameSource, StoredFrame, has_one_type
from mscourse.datakinds.text import StoredText, TextSource, holds_text
from mscourse.errors import ParameterError
from mscourse.given import as_array, frame_library
from mscourse.layout import Rows
from mscourse.storedfile import StoredFile

__all__ = ["DataSource", "StoredData", "data_source", "stored_data", "take_rows"]


def data_source(X: Any, dtype: DTypeLike | None = None) -> DataSource:
    """Choose how X is stored.

    Parameters
    ----------
    X : array-like, sparse matrix or data frame
        The data, as given.
    dtype : dtype, optional
        Store numbers in this type.

    Raises
    ------
    ParameterError
        If it cannot be stored.
    """
    if sparse.issparse(X):
        return CSRSource(X, dtype)
    library = frame_library(X)
    if library == "polars":
        return PolarsSource(X, dtype)
    if library == "pandas":
        return FrameSource(X, dtype) if has_one_type(X) else PandasSource(X, dtype)
    if hasattr(X, "collect_schema") and hasattr(X, "collect"):
        raise ParameterError("X is a LazyFrame; give X.collect().")
    array = as_array("X", X)
    if array.ndim == 0:
        raise ParameterError(f"X must be an array with rows; it is a {type(X).__name__}.")
    if dtype is None and holds_text(array):
        return TextSource(array)
    return ArraySource(array, dtype)


def stored_data(facts: Facts, files: Mapping[str, StoredFile]) -> StoredData:
    """Find out how X was stored.

    Raises
    ------
    KeyError, TypeError, ValueError
        If no kind of data was stored like this.
    """
    kind = facts["kind"]
    if kind == "dense":
        return array_file(files, "X", n_stored(files))
    if kind == "csr":
        return StoredCSR(facts, files)
    if kind == "text":
        return StoredText(facts, files)
    if kind == "frame":
        return StoredFrame(facts, files)
    if kind == "arrow":
        return StoredArrowFrame(facts, files)
    raise ValueError(f"its data are of kind {kind!r}")


def take_rows(X: Any, rows: Rows) -> Any:
    """Take some rows of what a split gives."""
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]
