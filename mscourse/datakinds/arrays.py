"""Arrays, one ``.npy`` file each, and sparse matrices, three."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import sparse

from mscourse.arrayfile import ArrayFile, NewFiles, vector_file
from mscourse.datakinds.base import Facts, n_stored, pieces, write_rows
from mscourse.errors import DamagedSplitsError, ParameterError
from mscourse.layout import Rows
from mscourse.storedfile import MapMode, StoredFile
from mscourse.values import is_count, shown

# Booleans, integers, floats, complex numbers.
NUMERIC_KINDS = "biufc"


class ArraySource:
    """A dense array. Its `StoredData` is the `ArrayFile` itself.

    Parameters
    ----------
    array : ndarray, shape (n_samples, ...)
        The data.
    dtype : dtype, optional
        Store it in this type.
    """

    def __init__(self, array: NDArray[Any], dtype: DTypeLike | None) -> None:
        self.given = array
        self.n_samples = len(array)
        self._dtype = stored_dtype(array, dtype)

    def stored_bytes(self, rows: Rows) -> int:
        return len(rows) * self._dtype.itemsize * math.prod(self.given.shape[1:])

    def write(self, files: NewFiles, rows: Rows) -> Facts:
        shape = self.given.shape[1:]
        writer = files.array("X", self._dtype, len(rows), *shape)
        write_rows(writer, self.given, rows, self.given.dtype.itemsize * math.prod(shape))
        return {"kind": "dense"}


class CSRSource:
    """A sparse matrix or array; its rows are stored as CSR.

    Parameters
    ----------
    matrix : sparse matrix or array, shape (n_samples, n_features)
        The data.
    dtype : dtype, optional
        Store its elements in this type.
    """

    def __init__(self, matrix: Any, dtype: DTypeLike | None) -> None:
        if matrix.ndim != 2:
            raise ParameterError(
                f"X is sparse and must have two dimensions; its shape is {matrix.shape}."
            )
        self.given = matrix.tocsr()
        self.n_samples = int(matrix.shape[0])
        self._dtype = stored_dtype(self.given, dtype)
        # Column numbers nearly always fit into 32 bits; with 64 scipy would look through all of
        # them whenever a split is opened, and copy them.
        fits = matrix.shape[1] <= np.iinfo(np.int32).max
        self._index_dtype = np.dtype(np.int32 if fits else np.int64)

    def stored_bytes(self, rows: Rows) -> int:
        n_elements = int(np.diff(self.given.indptr)[rows].sum(dtype=np.int64))
        element_bytes = self._dtype.itemsize + self._index_dtype.itemsize
        return n_elements * element_bytes + 8 * (len(rows) + 1)

    def write(self, files: NewFiles, rows: Rows) -> Facts:
        X = self.given
        indptr = _cumulated(np.diff(X.indptr)[rows])
        n_elements = int(indptr[-1])
        data = files.array("data", self._dtype, n_elements)
        indices = files.array("indices", self._index_dtype, n_elements)
        row_bytes = (X.data.itemsize + X.indices.itemsize) * n_elements // len(rows)
        for some_rows in pieces(rows, row_bytes):
            piece = X[some_rows]
            data.write(piece.data)
            indices.write(piece.indices)
        files.array("indptr", np.int64, len(indptr)).write(indptr)
        container = "array" if isinstance(X, sparse.sparray) else "matrix"
        return {"kind": "csr", "n_columns": X.shape[1], "container": container}


class StoredCSR:
    """The three files of a sparse matrix."""

    def __init__(self, facts: Facts, files: Mapping[str, StoredFile]) -> None:
        data = vector_file(files, "data", NUMERIC_KINDS)
        indices = vector_file(files, "indices", "i", data.shape[0])
        indptr = vector_file(files, "indptr", "i", n_stored(files) + 1)
        self._files: tuple[ArrayFile, ...] = data, indices, indptr
        if not is_count(facts["n_columns"]):
            raise ValueError(f"there are no matrices of {shown(facts['n_columns'])} columns")
        self._n_columns: int = facts["n_columns"]
        self._is_checked = False
        containers = {"array": sparse.csr_array, "matrix": sparse.csr_matrix}
        self._container = containers[facts["container"]]

    def open(self, mmap_mode: MapMode | None) -> _CSRRows:
        data, indices, indptr = (file.open(mmap_mode) for file in self._files)
        if not self._is_checked:  # once in a process, since it reads two of the files
            self._check(indices, indptr)
            self._is_checked = True
        return _CSRRows(data, indices, indptr, self._n_columns, self._container)

    def _check(self, indices: NDArray[Any], indptr: NDArray[Any]) -> None:
        """Refuse places that are not there: scipy would read and write beyond its arrays."""
        rows_are_right = (
            indptr[0] == 0 and indptr[-1] == len(indices) and (np.diff(indptr) >= 0).all()
        )
        if not rows_are_right or (
            len(indices) and not 0 <= indices.min() <= indices.max() < self._n_columns
        ):
            raise DamagedSplitsError(
                f"{self._files[1].path} and {self._files[2].path.name} are not those of a sparse "
                "matrix. Persist the splits again."
            )


class _CSRRows:
    """The stored rows of a sparse matrix; a slice of rows is CSR over the same maps."""

    def __init__(
        self,
        data: NDArray[Any],
        indices: NDArray[Any],
        indptr: NDArray[Any],
        n_columns: int,
        container: Any,
    ) -> None:
        self._data, self._indices, self._indptr = data, indices, indptr
        self._n_columns = n_columns
        self._container = container

    def __getitem__(self, rows: slice) -> Any:
        start, stop = self._indptr[rows.start], self._indptr[rows.stop]
        # Only this array is copied, 4 or 8 bytes a row. It must begin with 0, and have the type of
        # the indices, or scipy would convert both.
        indptr = (self._indptr[rows.start : rows.stop + 1] - start).astype(self._indices.dtype)
        return self._container(
            (self._data[start:stop], self._indices[start:stop], indptr),
            shape=(rows.stop - rows.start, self._n_columns),
            copy=False,
        )


def stored_dtype(X: Any, dtype: DTypeLike | None) -> np.dtype[Any]:
    """Say which type X is stored in.

    Raises
    ------
    ParameterError
        If it cannot be memory-mapped.
    """
    try:
        stored: np.dtype[Any] = X.dtype if dtype is None else np.dtype(dtype)
    except TypeError as error:
        raise ParameterError(f"dtype={dtype!r} is no type of numpy's: {error}") from error
    if stored.kind == "V":
        raise ParameterError(
            f"X would be of dtype {stored}, whose elements have several parts or no type. Give "
            "numbers, or a data frame with a column for each part."
        )
    if stored.hasobject:
        raise ParameterError(
            f"X is of dtype {stored}, which cannot be memory-mapped: its elements are Python "
            "objects. Encode it as numbers first (OrdinalEncoder, OneHotEncoder), name a dtype, "
            "for example dtype='float64', or give a data frame."
        )
    if stored.kind == "U":
        raise ParameterError("dtype must be a type of numbers; strings are stored as text.")
    return stored


def _cumulated(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Give the places at which parts of these lengths begin, and the end of the last."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
