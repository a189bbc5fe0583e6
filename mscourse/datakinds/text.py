"""Strings, as UTF-8 in one ``.npy`` file and the places where they begin in another.

An array of numpy's strings is as wide as the longest of them, at 4 bytes a character: one long
document would make every other one as long.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mscourse.arrayfile import ArrayFile, NewFiles, vector_file
from mscourse.datakinds.base import CHUNK_BYTES, Facts, n_stored
from mscourse.errors import DamagedSplitsError, ParameterError
from mscourse.given import is_missing
from mscourse.layout import Rows
from mscourse.storedfile import MapMode, StoredFile
from mscourse.values import is_count, shown

# Rows that become Python objects at a time.
_STEP = 1024


def holds_text(array: NDArray[Any]) -> bool:
    """Whether an array holds strings: the first value that is not missing says so."""
    if array.dtype.kind == "U":
        return array.size > 0
    if array.dtype.kind != "O":
        return False
    return isinstance(next((v for v in array.flat if not is_missing(v)), None), str)


class TextSource:
    """Strings, one or several for each row.

    Parameters
    ----------
    array : ndarray of str or object, shape (n_samples, ...)
        The strings.

    Raises
    ------
    ParameterError
        If a value is missing, or is no string.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self.given = array
        self.n_samples = len(array)
        self._shape = array.shape[1:]
        self._per_row = math.prod(self._shape)
        lengths = np.empty((self.n_samples, self._per_row), np.int64)
        for start in range(0, self.n_samples, _STEP):
            rows = array[start : start + _STEP].reshape(-1, self._per_row).tolist()
            for row, cells in enumerate(rows, start):
                lengths[row] = [_utf8_bytes(cell, row) for cell in cells]
        self._lengths = lengths

    def stored_bytes(self, rows: Rows) -> int:
        return int(self._lengths.sum(axis=1)[rows].sum()) + 8 * (len(rows) * self._per_row + 1)

    def write(self, files: NewFiles, rows: Rows) -> Facts:
        offsets = np.concatenate([[0], np.cumsum(self._lengths[rows].ravel())])
        text = files.array("text", np.uint8, int(offsets[-1]))
        gathered = bytearray()
        for start in range(0, len(rows), _STEP):
            for cell in self.given[rows[start : start + _STEP]].ravel().tolist():
                gathered += cell.encode("utf-8", "surrogatepass")
                if len(gathered) >= CHUNK_BYTES:
                    text.put(memoryview(gathered))
                    gathered = bytearray()
        text.put(memoryview(gathered))
        files.array("offsets", np.int64, len(offsets)).write(offsets)
        return {"kind": "text", "shape": list(self._shape)}


def _utf8_bytes(cell: object, row: int) -> int:
    if isinstance(cell, str):
        return len(cell) if cell.isascii() else len(cell.encode("utf-8", "surrogatepass"))
    if is_missing(cell):
        raise ParameterError(
            f"X is text, and row {row} has none ({cell!r}). Fill it in, for example with '', or "
            "drop such rows."
        )
    raise ParameterError(
        f"X is text, but row {row} holds {cell!r}, of type {type(cell).__name__}. Give strings "
        "only, or a data frame with a column for each type."
    )


class StoredText:
    """The two files of the strings."""

    def __init__(self, facts: Facts, files: Mapping[str, StoredFile]) -> None:
        shape = facts["shape"]
        if not isinstance(shape, list) or not all(is_count(n, least=1) for n in shape):
            raise ValueError(f"the texts of a row have the shape {shown(shape)}")
        self._shape = tuple(shape)
        self._text = vector_file(files, "text", "u")
        n_texts = n_stored(files) * math.prod(shape)
        self._offsets = vector_file(files, "offsets", "i", n_texts + 1)

    def open(self, mmap_mode: MapMode | None) -> _TextRows:
        return _TextRows(self._text, self._offsets, self._shape, mmap_mode)


class _TextRows:
    """The stored strings; a slice of rows is an array of Python's."""

    def __init__(
        self,
        text: ArrayFile,
        offsets: ArrayFile,
        shape: tuple[int, ...],
        mmap_mode: MapMode | None,
    ) -> None:
        self._path = text.path
        self._text = text.open(mmap_mode).data  # much faster to slice than the array
        self._offsets: NDArray[np.int64] = offsets.open(mmap_mode)
        self._shape = shape

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        per_row = math.prod(self._shape)
        edges = self._offsets[rows.start * per_row : rows.stop * per_row + 1].tolist()
        text = self._text
        strings = np.empty(len(edges) - 1, dtype=object)
        try:
            strings[:] = [
                str(text[start:stop], "utf-8", "surrogatepass")
                for start, stop in itertools.pairwise(edges)
            ]
        except UnicodeDecodeError as error:
            raise DamagedSplitsError(
                f"{self._path} does not hold the texts: {error}. Persist the splits again."
            ) from error
        return strings.reshape(-1, *self._shape)
