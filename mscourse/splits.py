"""Open persisted cross-validation splits as memory maps.

A dataset is a folder of ``.npy`` files and one JSON manifest, never a pickle: to read it runs no
code. Any number of processes map the same files, and the host holds their pages once.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mscourse.arrayfile import ArrayFile, MapMode
from mscourse.engines import ask_engines, one_engine_per_host
from mscourse.errors import (
    DamagedSplitsError,
    ParameterError,
    SplitsError,
    SplitsNotFoundError,
)
from mscourse.layout import Rows, SplitRange

MANIFEST = "manifest.json"
FORMAT = "mscourse splits"
FORMAT_VERSION = 1

Arrays = tuple[Any, Any, Any, Any]


@dataclass(frozen=True, eq=False)
class Split:
    """One train/test partition of persisted rows.

    Attributes
    ----------
    splits : Splits
        The dataset that this split belongs to.
    index : int
        Its number there.
    """

    splits: Splits
    index: int

    @property
    def range(self) -> SplitRange:
        """Where the split lies in the stored rows."""
        return self.splits.ranges[self.index]

    @property
    def n_train(self) -> int:
        """Rows in the train set."""
        return self.range.train_stop - self.range.train_start

    @property
    def n_test(self) -> int:
        """Rows in the test set."""
        return self.range.test_stop - self.range.test_start

    @property
    def train_indices(self) -> Rows:
        """Rows of the original dataset in the train set, in the order they are stored."""
        return self.splits.rows[self.range.train]

    @property
    def test_indices(self) -> Rows:
        """Rows of the original dataset in the test set, in the order they are stored."""
        return self.splits.rows[self.range.test]

    def load(self, mmap_mode: MapMode | None = "c", *, n_train: int | None = None) -> Arrays:
        """Open the four arrays of this split.

        Parameters
        ----------
        mmap_mode : {"c", "r", None}
            "c", copy-on-write: a write goes to a private page, and neither the file nor another
            process sees it. "r": a write raises. None: read the rows into memory. Files that
            others rely on are never opened for writing.
        n_train : int, optional
            Only the first ``n_train`` rows of the train set. By default all of them.

        Returns
        -------
        X_train, y_train, X_test, y_test
            Views of one map of X and one of y, with shapes ``(n_train, ...)`` and
            ``(n_test, ...)``; CSR if the data were sparse. The targets are None if there are none.

        Raises
        ------
        ParameterError
            If the mode is not one of these, or ``n_train`` is not between 1 and the rows there are.
        DamagedSplitsError
            If a file is gone or is not what was written.
        """
        train, test = self.range.train, self.range.test
        if n_train is not None:
            if not 1 <= n_train <= self.n_train:
                raise ParameterError(
                    f"n_train must be between 1 and {self.n_train}, the rows in the train set of "
                    f"split {self.index}; it is {n_train!r}."
                )
            train = slice(train.start, train.start + n_train)
        X, y = self.splits.open_arrays(mmap_mode)
        if y is None:
            return X[train], None, X[test], None
        return X[train], y[train], X[test], y[test]


class Splits:
    """Cross-validation splits on disk: a sequence of `Split`.

    Made by `persist_cv_splits` and `open_splits`. As a context manager it deletes the files at the
    end of the block if they are in a temporary folder, and leaves them alone if not. It is cheap
    to send to an engine: what travels is the path.

    Attributes
    ----------
    folder : pathlib.Path
        The folder of this dataset.
    name : str
        The dataset's name.
    layout : {"line", "ring", "block"}
        How the rows are stored; see `mscourse.layout`.
    ranges : tuple of SplitRange
        Where each split lies in the stored rows.
    n_samples : int
        Rows of the dataset that was persisted.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Mapping[str, Any],
        temporary: tempfile.TemporaryDirectory[str] | None = None,
    ) -> None:
        self.folder = folder
        self.name: str = manifest["name"]
        self.layout: str = manifest["layout"]
        self.n_samples: int = manifest["n_samples"]
        self.ranges = tuple(SplitRange(*numbers) for numbers in manifest["ranges"])
        self.token: str = manifest["token"]
        self._csr_columns: int | None = manifest["csr_columns"]
        self._files = {
            part: ArrayFile(
                folder / entry["file"], entry["dtype"], tuple(entry["shape"]), entry["sha256"]
            )
            for part, entry in manifest["files"].items()
        }
        self._temporary = temporary

    def __len__(self) -> int:
        return len(self.ranges)

    def __getitem__(self, index: int) -> Split:
        n_splits = len(self)
        if not -n_splits <= index < n_splits:
            raise IndexError(f"There are {n_splits} splits, 0 to {n_splits - 1}; not {index}.")
        return Split(self, index % n_splits)

    def __iter__(self) -> Iterator[Split]:
        return (Split(self, i) for i in range(len(self)))

    def __repr__(self) -> str:
        return (
            f"<Splits {self.name!r}: {len(self)} splits of {self.n_samples} rows, {self.layout} "
            f"layout, {self.n_bytes / 1e6:.1f} MB in {str(self.folder)!r}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.folder, self.token)

    def __enter__(self) -> Splits:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()

    @property
    def n_bytes(self) -> int:
        """Size of all data files."""
        return sum(file.n_bytes for file in self._files.values())

    @cached_property
    def rows(self) -> Rows:
        """``rows[p]`` is the row of the original dataset that is stored at position p."""
        return self._files["rows"].open("r")

    def open_arrays(self, mmap_mode: MapMode | None = "c") -> tuple[Any, Any]:
        """Open all stored rows of X and of y (None if there are no targets)."""
        y = self._files["y"].open(mmap_mode) if "y" in self._files else None
        if self._csr_columns is None:
            return self._files["X"].open(mmap_mode), y
        data, indices, indptr = (
            self._files[part].open(mmap_mode) for part in ("data", "indices", "indptr")
        )
        return _MappedCSR(data, indices, indptr, self._csr_columns), y

    def load_whole(self) -> tuple[Any, Any]:
        """Load all rows of the dataset, each once, in the order in which they are stored.

        Returns
        -------
        X, y
            Views of copy-on-write maps in the ring and line layouts, copies in the block layout; y
            is None if there are no targets.

        Raises
        ------
        SplitsError
            If some rows are in no split, and so were not stored.
        """
        return self._load(self._first_places())

    def as_cv(self) -> tuple[Any, Any, list[tuple[Rows, Rows]]]:
        """Give the data and the splits in the form that scikit-learn's own tools take.

        Returns
        -------
        X, y
            As from `load_whole`.
        cv : list of (train, test)
            The same splits, as numbers of the rows of this X.

        Raises
        ------
        SplitsError
            If some rows are in no split, and so were not stored.

        Examples
        --------
        >>> X, y, cv = splits.as_cv()
        >>> cross_val_score(SVC(), X, y, cv=cv)
        """
        places = self._first_places()
        X, y = self._load(places)
        number = np.empty(self.n_samples, dtype=np.int64)
        number[self.rows[places]] = np.arange(self.n_samples)
        return X, y, [(number[each.train_indices], number[each.test_indices]) for each in self]

    def _load(self, places: Rows) -> tuple[Any, Any]:
        """Load the rows at these places, which are in order; each row of the dataset is at one."""
        X, y = self.open_arrays()
        end = int(places[-1]) + 1
        X, y = X[slice(0, end)], None if y is None else y[:end]
        if end > self.n_samples:  # other rows lie between them
            X, y = X[places], None if y is None else y[places]
        return X, y

    def _first_places(self) -> Rows:
        """Where each row is stored first, in the order of storage."""
        stored, places = np.unique(self.rows, return_index=True)
        if len(stored) < self.n_samples:
            raise SplitsError(
                f"Of {self.n_samples} rows, the splits hold {len(stored)}. Load the data from "
                "where they came from."
            )
        return np.sort(places)

    def verify(self) -> None:
        """Read every file and compare it with the checksum in the manifest.

        Raises
        ------
        DamagedSplitsError
            Names each file that is not what was written.
        """
        damaged = [f"{file.path}: {why}" for file in self._files.values() if (why := file.damage())]
        if damaged:
            raise DamagedSplitsError(
                f"Persisted splits {self.name!r} are damaged; persist them again.\n"
                + "\n".join(damaged)
            )

    def warm(self, client: Any) -> dict[str, float]:
        """Read the files once on each host, so that its engines find them in the page cache.

        One sequential read per host is much faster than all engines reading at random places.

        Parameters
        ----------
        client : ipyparallel.Client
            The cluster whose hosts will read the splits.

        Returns
        -------
        dict of str to float
            Host name to the seconds that the reading took.

        Raises
        ------
        NoEnginesError
            If the client has no engines.
        ClusterError
            If a host cannot read the files; it names the engine and the path.
        """
        paths = [file.path for file in self._files.values()]
        hosts = one_engine_per_host(client)
        seconds = ask_engines(client, _read_through, paths, targets=hosts.values())
        return {host: seconds[engine] for host, engine in hosts.items() if engine in seconds}

    def delete(self) -> None:
        """Remove the files. Maps that are open stay readable (on Windows: must be closed first)."""
        (self.folder / MANIFEST).unlink(missing_ok=True)
        for file in self._files.values():
            file.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody else's files are in the folder: not ours
            self.folder.rmdir()
        if self._temporary is not None:
            self._temporary.cleanup()


class _MappedCSR:
    """The stored rows of a sparse matrix; a slice of rows is a CSR matrix over the same maps."""

    def __init__(
        self, data: NDArray[Any], indices: NDArray[Any], indptr: NDArray[Any], n_columns: int
    ) -> None:
        self._data, self._indices, self._indptr = data, indices, indptr
        self._n_columns = n_columns

    def __getitem__(self, rows: slice) -> sparse.csr_matrix:
        start, stop = self._indptr[rows.start], self._indptr[rows.stop]
        # Only this array is copied, 4 or 8 bytes a row. It must begin with 0, and have the type of
        # the indices, or scipy would convert both.
        indptr = (self._indptr[rows.start : rows.stop + 1] - start).astype(self._indices.dtype)
        return sparse.csr_matrix(
            (self._data[start:stop], self._indices[start:stop], indptr),
            shape=(rows.stop - rows.start, self._n_columns),
            copy=False,
        )


def open_splits(folder: str | Path, name: str) -> Splits:
    """Open splits that were persisted before.

    Parameters
    ----------
    folder : path
        Where datasets are kept.
    name : str
        The dataset's name.

    Returns
    -------
    Splits

    Raises
    ------
    SplitsNotFoundError
        If there is no such dataset. The message names those that there are.
    DamagedSplitsError
        If the manifest cannot be read, or a file is missing or has another size.
    """
    check_name(name)
    dataset_folder = Path(folder).absolute() / name
    if not (dataset_folder / MANIFEST).is_file():
        there = sorted(path.parent.name for path in Path(folder).glob(f"*/{MANIFEST}"))
        similar = difflib.get_close_matches(name, there, n=1)
        raise SplitsNotFoundError(
            f"There are no splits {name!r} in {Path(folder).absolute()}. "
            + (f"Did you mean {similar[0]!r}? " if similar else "")
            + (f"There are: {', '.join(there)}." if there else "There are none at all there.")
        )
    return read_manifest(dataset_folder)


def read_manifest(
    dataset_folder: Path, temporary: tempfile.TemporaryDirectory[str] | None = None
) -> Splits:
    """Open the dataset in a folder, which the splits own if it is temporary."""
    path = dataset_folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ValueError(f"its format is {manifest['format']!r}")
        if manifest["format_version"] > FORMAT_VERSION:
            raise SplitsError(
                f"{path} is of format version {manifest['format_version']}, written by a newer "
                f"mscourse; this one reads up to {FORMAT_VERSION}. Update mscourse."
            )
        splits = Splits(dataset_folder, manifest, temporary)
    except FileNotFoundError as error:
        raise SplitsNotFoundError(f"There are no splits in {dataset_folder}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedSplitsError(
            f"{path} is not a manifest of splits ({error!r}); persist them again."
        ) from error
    for file in splits._files.values():
        file.check_size()
    return splits


def _reopen(dataset_folder: Path, token: str) -> Splits:
    """Open the very version that was sent here, in a process that got its path."""
    splits = read_manifest(dataset_folder)
    if splits.token != token:
        raise SplitsError(
            f"The splits in {dataset_folder} were written anew since they were opened. "
            "Open them again, and start the search again."
        )
    return splits


def _read_through(paths: Iterable[Path]) -> float:
    """Read files from beginning to end and forget what they say. Runs on an engine."""
    start_s = time.perf_counter()
    buffer = bytearray(8 * 2**20)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - start_s


def check_name(name: str) -> None:
    """Refuse a dataset name that would lead elsewhere."""
    if not name or name != Path(name).name or name.startswith("."):
        raise ParameterError(
            f"name must be a plain folder name such as 'digits', not {name!r}; "
            "the place goes into folder."
        )
