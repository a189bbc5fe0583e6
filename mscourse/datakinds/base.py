"""What the kinds of data have in common: how they are written, and how they are opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from mscourse.arrayfile import ArrayWriter, NewFiles, array_file
from mscourse.errors import ParameterError, SplitsError
from mscourse.layout import Rows
from mscourse.storedfile import MapMode, StoredFile

# What the manifest notes of X, beside its files. Goes through JSON.
Facts = dict[str, Any]

# Rows are gathered in pieces of this size: small enough that a piece is still in the processor's
# cache when it is put into the block that is written, and that the allocator keeps little.
CHUNK_BYTES = 2 * 2**20


class DataSource(Protocol):
    """X as it was given, on its way to the disk.

    Attributes
    ----------
    given : object
        What a splitter sees.
    n_samples : int
        Its rows.
    """

    given: Any
    n_samples: int

    def stored_bytes(self, rows: Rows) -> int:
        """Estimate how much room these rows take on the disk while they are written."""
        ...

    def write(self, files: NewFiles, rows: Rows) -> Facts:
        """Write these rows, in this order, without a second copy of the data in memory."""
        ...


class StoredRows(Protocol):
    """All stored rows of X, opened; a slice with a start and a stop gives what a fit takes."""

    def __getitem__(self, rows: slice, /) -> Any: ...


class StoredData(Protocol):
    """X on the disk."""

    def open(self, mmap_mode: MapMode | None) -> StoredRows:
        """Map the files anew, or read them into memory if the mode is None."""
        ...


def n_stored(files: Mapping[str, StoredFile]) -> int:
    """Tell how many rows are stored, so that the files of X can be held against it."""
    return array_file(files, "rows").shape[0]


def pieces(rows: Rows, row_bytes: int) -> Iterator[Rows]:
    """Divide the rows into pieces of `CHUNK_BYTES`."""
    step = max(1, CHUNK_BYTES // max(1, row_bytes))
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


def write_rows(writer: ArrayWriter, array: Any, rows: Rows, row_bytes: int) -> None:
    """Write these rows of an array."""
    for some_rows in pieces(rows, row_bytes):
        writer.write(array[some_rows])


def needed(module: str, what: str, *, reading: bool) -> Any:
    """Import a library that only some kinds of data need.

    Raises
    ------
    ParameterError
        If it is not installed and the data are to be written.
    SplitsError
        If it is not installed and the data are to be read, perhaps on an engine.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = "'mscourse[frames]'" if module == "pyarrow" else module
        message = f"{what}, and {module} is not installed here: pip install {package}"
        if reading:
            raise SplitsError(f"{message}.") from error
        raise ParameterError(
            f"{message}. Or make an array of it, for example X.to_numpy(dtype='float64')."
        ) from error
