"""Data frames with columns of several types: one Arrow file, whose columns are views of its map.

Pandas reads it by way of `mscourse.datakinds.columns`, polars by itself.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mscourse.arrayfile import NewFiles
from mscourse.datakinds import columns
from mscourse.datakinds.arrowfile import Column, Shelf, write_columns
from mscourse.datakinds.base import Facts, n_stored, needed
from mscourse.datakinds.frames import checked_names, column_names
from mscourse.errors import DamagedSplitsError, ParameterError
from mscourse.layout import Rows
from mscourse.storedfile import MapMode, StoredFile
from mscourse.values import is_count, shown, told

# Strings that are looked at to estimate how long all of them are.
_SAMPLE = 1000

# What pandas, polars and pyarrow raise when columns are not what was noted of them.
_UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,
)


class _FrameSource(ABC):
    """What the two libraries have in common."""

    given: Any
    n_samples: int
    library: Literal["pandas", "polars"]

    def __init__(self, frame: Any, dtype: DTypeLike | None) -> None:
        needed("pyarrow", "X is a data frame with columns of several types", reading=False)
        if dtype is not None:
            raise ParameterError(
                f"dtype={dtype!r} can be given for arrays, and for a data frame of pandas whose "
                "columns have the same numeric type. Cast the columns of X before: X.astype(…) in "
                "pandas, X.cast(…) in polars."
            )
        self.given = frame
        self.n_samples = len(frame)

    @abstractmethod
    def _given_bytes(self) -> int:
        """Tell the size of the frame in memory."""

    @abstractmethod
    def _column(self, i: int, rows: Rows) -> Column:
        """Give some rows of a column, as Arrow has them."""

    def _facts(self) -> Facts:
        return {}

    def stored_bytes(self, rows: Rows) -> int:
        """Twice the size of the file: until it is whole, the columns lie beside it."""
        return int(2 * self._given_bytes() / self.n_samples * len(rows))

    def write(self, files: NewFiles, rows: Rows) -> Facts:
        """Write one column at a time to a place of its own, and then all of them into one file."""
        with Shelf(files.folder) as shelf:
            for i, name in enumerate(self.given.columns):
                with _explained(name):
                    field, values = self._column(i, rows)
                shelf.put(field, values)
                del values  # before the next column is made
            places = write_columns(files, shelf.columns())
        return {"kind": "arrow", "library": self.library, "places": places, **self._facts()}


class PandasSource(_FrameSource):
    """A data frame of pandas, of any types that can be brought back."""

    library = "pandas"

    def __init__(self, frame: Any, dtype: DTypeLike | None) -> None:
        super().__init__(frame, dtype)
        self._names = column_names(frame)
        self._notes = [
            columns.describe(frame.iloc[:, i], name) for i, name in enumerate(self._names)
        ]
        first = np.arange(min(1, self.n_samples))
        for i, name in enumerate(self._names):
            with _explained(name):
                self._column(i, first)

    def _given_bytes(self) -> int:
        n_bytes = int(self.given.memory_usage(index=False).sum())
        for i, note in enumerate(self._notes):
            if note["as"] == "object":
                some = self.given.iloc[:: max(1, self.n_samples // _SAMPLE), i].dropna()
                n_bytes += int(self.n_samples * np.mean([len(s) for s in some] or [0]))
        return n_bytes

    def _column(self, i: int, rows: Rows) -> Column:
        import pyarrow as pa

        values = columns.encode(self.given.iloc[:, i], rows, self._notes[i])
        # Named by number, since names may be equal or no strings.
        return pa.field(str(i), values.type), values

    def _facts(self) -> Facts:
        described = zip(self._names, self._notes, strict=True)
        return {"columns": [{"name": name, **note} for name, note in described]}


class PolarsSource(_FrameSource):
    """A data frame of polars."""

    library = "polars"

    def __init__(self, frame: Any, dtype: DTypeLike | None) -> None:
        super().__init__(frame, dtype)
        if frame.width == 0:
            raise ParameterError("X is a data frame without columns.")
        for i, (name, given) in enumerate(frame.schema.items()):
            with _explained(name):
                field, values = self._column(i, np.arange(min(1, self.n_samples)))
                found = _polars_frame([(field, values)]).dtypes[0]
            if found != given:
                raise ParameterError(
                    f"Column {name!r} of X is of type {given}, but comes back from Arrow as "
                    f"{found}. Cast it first."
                )

    def _given_bytes(self) -> int:
        return int(self.given.estimated_size())

    def _column(self, i: int, rows: Rows) -> Column:
        import polars as pl

        # Polars takes the rows, since pyarrow cannot for strings of its kind; the newest types are
        # those that it uses itself, so that reading needs no copy.
        table = self.given[:, [i]][rows].to_arrow(compat_level=pl.CompatLevel.newest())
        values = table.column(0).combine_chunks()
        return table.schema.field(0), values


@contextlib.contextmanager
def _explained(name: object) -> Iterator[None]:
    """Say which column Arrow cannot hold."""
    try:
        yield
    except (ParameterError, OSError, MemoryError):
        raise
    except Exception as error:  # of pyarrow's: ValueError, TypeError, NotImplementedError, others
        raise ParameterError(
            f"Column {name!r} of X cannot be stored by Arrow: {error}. Turn it into numbers, "
            "strings or categories first."
        ) from error


class StoredArrowFrame:
    """The Arrow file, and what its columns were."""

    def __init__(self, facts: Facts, files: Mapping[str, StoredFile]) -> None:
        self._file = files["X"]
        if facts["library"] not in ("pandas", "polars"):
            raise ValueError(f"there are no frames of {facts['library']!r}")
        self._library: str = facts["library"]
        places = facts["places"]
        if not isinstance(places, list) or not places or not all(map(is_count, places)):
            raise ValueError(f"the columns of X have the places {shown(places)}")
        self._places: list[int] = places
        self._notes: list[dict[str, Any]] = []
        if self._library == "pandas":
            self._notes = facts["columns"]
            self._names = checked_names([note["name"] for note in self._notes])
            for note in self._notes:
                columns.check_note(note)
            if len(self._notes) != len(places):
                raise ValueError(f"of {len(places)} columns {len(self._notes)} are described")
        self._n_rows = n_stored(files)
        self._is_checked = False
        self._index: Any = None
        self._categories: dict[int, Any] = {}

    def open(self, mmap_mode: MapMode | None) -> _PandasRows | _PolarsRows:
        pa = needed("pyarrow", "X is a data frame with columns of several types", reading=True)
        needed(self._library, f"X is a data frame of {self._library}", reading=True)
        raw = self._file.open_bytes(mmap_mode)
        buffer = pa.py_buffer(raw)
        try:
            batch = pa.ipc.open_file(pa.BufferReader(buffer)).get_batch(0).select(self._places)
            if not self._is_checked:  # once in a process, since it reads codes and strings
                self._check(batch, raw, buffer.address)
                self._is_checked = True
        except (pa.ArrowException, *_UNREADABLE) as error:
            raise DamagedSplitsError(
                f"{self._file.path} is no Arrow file of these columns ({told(error)}). "
                "Persist the splits again."
            ) from error
        if self._library == "polars":
            return _PolarsRows(batch, self._file)
        return _PandasRows(batch, self, raw, buffer.address)

    def _check(self, batch: Any, raw: NDArray[np.uint8], base: int) -> None:
        """Refuse what the libraries would believe: they would read beyond the file."""
        if batch.num_rows != self._n_rows:
            raise ValueError(f"it has {batch.num_rows} rows, not {self._n_rows}")
        batch.validate(full=True)
        # Older versions of polars took the values of such a column for addresses of Python objects.
        if b"POLARS_EXTENSION_TYPE" in batch.schema.serialize().to_pybytes():
            raise ValueError("it names a type that is of no use outside of a process")
        for array, note in zip(batch.columns, self._notes, strict=False):  # polars has no notes
            if note["as"] == "category":
                columns.check_codes(array, raw, base)

    def to_pandas(self, batch: Any, raw: NDArray[np.uint8], base: int) -> Any:
        """Make a frame of columns that are views of the map.

        Raises
        ------
        DamagedSplitsError
            If they are not what was noted of them.
        """
        try:
            return self._to_pandas(batch, raw, base)
        except _UNREADABLE as error:
            raise _no_columns(self._file, error) from error

    def _to_pandas(self, batch: Any, raw: NDArray[np.uint8], base: int) -> Any:
        import pandas as pd

        if self._index is None:
            self._index = pd.Index(self._names)
        values = {}
        for i, (array, note) in enumerate(zip(batch.columns, self._notes, strict=True)):
            if note["as"] == "category":
                if i not in self._categories:
                    self._categories[i] = columns.decode_categories(array, note, raw, base)
                values[i] = columns.decode_codes(array, self._categories[i], raw, base)
            else:
                values[i] = columns.decode(array, note, raw, base)
        frame = pd.DataFrame(values, copy=False)
        frame.columns = self._index
        return frame


class _PandasRows:
    """The stored rows; a slice of them is a frame of pandas."""

    def __init__(
        self, batch: Any, stored: StoredArrowFrame, raw: NDArray[np.uint8], base: int
    ) -> None:
        self._batch, self._stored, self._raw, self._base = batch, stored, raw, base

    def __getitem__(self, rows: slice) -> Any:
        batch = self._batch.slice(rows.start, rows.stop - rows.start)
        return self._stored.to_pandas(batch, self._raw, self._base)


class _PolarsRows:
    """The stored rows; a slice of them is a frame of polars."""

    def __init__(self, batch: Any, file: StoredFile) -> None:
        self._batch, self._file = batch, file

    def __getitem__(self, rows: slice) -> Any:
        import polars as pl

        batch = self._batch.slice(rows.start, rows.stop - rows.start)
        try:
            return _polars_frame(list(zip(batch.schema, batch.columns, strict=True)))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, *_UNREADABLE) as error:
            raise _no_columns(self._file, error) from error


def _no_columns(file: StoredFile, error: BaseException) -> DamagedSplitsError:
    return DamagedSplitsError(
        f"{file.path} does not hold the columns that were written ({told(error)}). "
        "Persist the splits again."
    )


def _polars_frame(parts: list[Column]) -> Any:
    import polars as pl
    import pyarrow as pa

    fields, arrays = zip(*parts, strict=True)
    table = pa.Table.from_arrays(list(arrays), schema=pa.schema(list(fields)))
    return pl.from_arrow(table, rechunk=False)
