"""Open persisted cross-validation splits as memory maps.

A dataset is a folder of data files (see `mscourse.datakinds`) and one JSON manifest, never a
pickle: to read it runs no code. Any number of processes map the same files, and the host holds
their pages once.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import numpy as np

from mscourse.arrayfile import array_file
from mscourse.datakinds import stored_data, take_rows
from mscourse.engines import ask_engines, one_engine_per_host
from mscourse.errors import (
    DamagedSplitsError,
    SplitsError,
    SplitsNotFoundError,
)
from mscourse.layout import Rows
from mscourse.manifest import MANIFEST, Manifest, check_name, checked_folder, read_manifest
from mscourse.split import Metadata, Split
from mscourse.storedfile import MapMode
from mscourse.values import is_integer, told

# An engine on a node of a cluster finds the splits that were sent there in this folder.
DATA_FOLDER_VARIABLE = "MSCOURSE_DATA_FOLDER"


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
    metadata_names : tuple of str
        What else is stored of each sample, such as ``"sample_weight"``.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        temporary: tempfile.TemporaryDirectory[str] | None = None,
    ) -> None:
        self.folder = folder
        self.name = manifest.name
        self.layout = manifest.layout
        self.n_samples = manifest.n_samples
        self.ranges = manifest.ranges
        self.token = manifest.token
        self.metadata_names = manifest.metadata
        self._facts = manifest.data
        self._files = files = manifest.files
        self._temporary = temporary
        try:
            self._data = stored_data(manifest.data, files)
            self._y = array_file(files, "y") if "y" in files else None
            self._metadata = [
                array_file(files, f"metadata{i}") for i in range(len(self.metadata_names))
            ]
            self._rows = array_file(files, "rows")
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedSplitsError(
                f"{folder / MANIFEST} does not say how the data are stored ({told(error)}); "
                "persist the splits again."
            ) from error
        for file in files.values():
            file.check_size()

    def __len__(self) -> int:
        return len(self.ranges)

    @overload
    def __getitem__(self, index: int) -> Split: ...

    @overload
    def __getitem__(self, index: slice) -> list[Split]: ...

    def __getitem__(self, index: int | slice) -> Split | list[Split]:
        n_splits = len(self)
        if isinstance(index, slice):
            return [Split(self, i) for i in range(*index.indices(n_splits))]
        if not is_integer(index):
            raise TypeError(
                f"Splits are counted by integers, or taken by slices, not by {index!r}."
            )
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
        return _reopen, (self.folder, self.token, self.folder_on_nodes)

    @property
    def folder_on_nodes(self) -> str:
        """What the folder is called among those that were sent to a node: as no other version."""
        return f"{self.name}-{self.token}"

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

    def check_unchanged(self) -> None:
        """Raise DamagedSplitsError if a file was written to since this process opened it.

        It takes microseconds, and finds what others do to the files; `verify` finds all damage.
        """
        for file in self._files.values():
            file.check_unchanged()

    def description(self) -> dict[str, Any]:
        """Tell what is stored, not where: the same data say the same when they are persisted again.

        Returns
        -------
        dict
            Of what JSON knows: the rows of each split, what each file holds, by its SHA-256, and
            what the files do not tell, such as the names of columns.
        """
        return {
            "layout": self.layout,
            "ranges": self.ranges,
            "sha256": {part: file.sha256 for part, file in self._files.items()},
            "data": self._facts,
            "metadata": self.metadata_names,
        }

    @property
    def n_bytes(self) -> int:
        """Size of all data files."""
        return sum(file.n_bytes for file in self._files.values())

    @cached_property
    def rows(self) -> Rows:
        """``rows[p]`` is the row of the original dataset that is stored at position p."""
        return self._rows.open("r")

    def open_arrays(self, mmap_mode: MapMode | None = "c") -> tuple[Any, Any]:
        """Open all stored rows of X and of y (None if there are no targets).

        Of X only an array is one; for other kinds of data it is something whose slices are what
        `Split.load` gives.
        """
        y = None if self._y is None else self._y.open(mmap_mode)
        return self._data.open(mmap_mode), y

    def open_metadata(self, mmap_mode: MapMode | None = "c") -> Metadata:
        """Open all stored rows of the metadata of the samples, by name."""
        arrays = [file.open(mmap_mode) for file in self._metadata]
        return dict(zip(self.metadata_names, arrays, strict=True))

    def load_whole(self) -> tuple[Any, Any]:
        """Load all rows of the dataset, each once, in the order in which they are stored.

        Returns
        -------
        X, y
            As from `Split.load`: views of copy-on-write maps in the ring and line layouts, copies
            in the block layout; y is None if there are no targets.

        Raises
        ------
        SplitsError
            If some rows are in no split, and so were not stored.
        """
        return self._load(self._first_places())

    def load_whole_metadata(self) -> Metadata:
        """Load the metadata of all samples, by name, with their rows as from `load_whole`.

        Raises
        ------
        SplitsError
            If some rows are in no split, and so were not stored.
        """
        places = self._first_places()
        arrays = self.open_metadata()
        return {name: self._take(array, places) for name, array in arrays.items()}

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
        >>> cross_val_score(SVC(gamma=1e-3), X, y, cv=cv).round(2)
        array([0.98, 0.95, 0.98, 0.99, 0.96])
        """
        places = self._first_places()
        X, y = self._load(places)
        number = np.empty(self.n_samples, dtype=np.int64)
        number[self.rows[places]] = np.arange(self.n_samples)
        return X, y, [(number[each.train_indices], number[each.test_indices]) for each in self]

    def _load(self, places: Rows) -> tuple[Any, Any]:
        """Load the rows at these places, which are in order; each row of the dataset is at one."""
        X, y = self.open_arrays()
        return self._take(X, places), None if y is None else self._take(y, places)

    def _take(self, stored: Any, places: Rows) -> Any:
        end = int(places[-1]) + 1
        first = stored[slice(0, end)]
        # In a block, other rows lie between them.
        return take_rows(first, places) if end > self.n_samples else first

    def _first_places(self) -> Rows:
        """Where each row is stored first, in the order of storage."""
        stored, places = np.unique(self.rows, return_index=True)
        if stored[0] < 0 or stored[-1] >= self.n_samples:  # they are the places of an array
            raise DamagedSplitsError(
                f"{self._rows.path} names rows that are not among the {self.n_samples} of the "
                "dataset. Persist the splits again."
            )
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
            If a host does not have the files, or cannot read them; it names the engine and the
            path.
        """
        hosts = one_engine_per_host(client)
        seconds = ask_engines(client, _read_through, self, targets=hosts.values())
        return {host: seconds[engine] for host, engine in hosts.items() if engine in seconds}

    def delete(self) -> None:
        """Remove the files. Maps that are open stay readable (on Windows: must be closed first).

        Raises
        ------
        SplitsError
            If one cannot be removed.
        """
        try:
            (self.folder / MANIFEST).unlink(missing_ok=True)
            for file in self._files.values():
                file.path.unlink(missing_ok=True)
        except OSError as error:
            raise SplitsError(
                f"The splits {self.name!r} in {self.folder} cannot be removed: {error}."
            ) from error
        with contextlib.suppress(OSError):  # somebody else's files are in the folder: not ours
            self.folder.rmdir()
        if self._temporary is not None:
            self._temporary.cleanup()


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

    Examples
    --------
    >>> mscourse.open_splits("data", "digits")
    <Splits 'digits': 5 splits of 1797 rows, ring layout, 1.5 MB in '...data/digits'>
    """
    check_name(name)
    parent = checked_folder(folder)
    dataset_folder = parent / name
    # Of os, which says no where Path raises: if a path is too long, or leads through a file.
    if not os.path.isfile(dataset_folder / MANIFEST):  # noqa: PTH113
        there = _datasets(parent)
        similar = difflib.get_close_matches(name, there, n=1)
        raise SplitsNotFoundError(
            f"There are no splits {name!r} in {parent}. "
            + (f"Did you mean {similar[0]!r}? " if similar else "")
            + (f"There are: {', '.join(there)}." if there else "There are none at all there.")
        )
    return Splits(dataset_folder, read_manifest(dataset_folder))


def _datasets(folder: Path) -> list[str]:
    """List the datasets in a folder; none, if it cannot be looked into."""
    try:
        return sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))
    except OSError:
        return []


def _reopen(dataset_folder: Path, token: str, folder_on_nodes: str) -> Splits:
    """Open the very version that was sent here, in a process that got its path."""
    if node_folder := os.environ.get(DATA_FOLDER_VARIABLE):
        sent = Path(node_folder) / folder_on_nodes
        if os.path.isdir(sent):  # noqa: PTH112  # Path's raises if the path leads through a file
            dataset_folder = sent
        elif not os.path.isdir(dataset_folder):  # noqa: PTH112
            raise SplitsNotFoundError(
                f"There are no splits {sent.name!r} on {socket.gethostname()}. Send them to the "
                "nodes of the cluster first: `cluster.send(splits)`."
            )
    try:
        manifest = read_manifest(dataset_folder)
    except SplitsNotFoundError as error:
        raise DamagedSplitsError(
            f"There are no splits in {dataset_folder} any more. Persist them again. If they are "
            f"still there on other hosts, {socket.gethostname()} does not see that folder."
        ) from error
    if manifest.token != token:
        raise DamagedSplitsError(
            f"The splits in {dataset_folder} were written anew since they were opened. "
            "Open them again, and start the search again."
        )
    return Splits(dataset_folder, manifest)


def _read_through(splits: Splits) -> float:
    """Read the files from beginning to end and forget what they say. Runs on an engine.

    The splits have travelled, so that the files are those that this host has.
    """
    start_s = time.perf_counter()
    buffer = bytearray(8 * 2**20)
    for stored in splits._files.values():
        with stored.path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - start_s
