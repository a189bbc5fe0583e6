"""Write cross-validation splits to disk, so that every set is one slice of a memory map.

::

    X, y, cv ─→ plan_layout ─→ persist_cv_splits ─→ folder/name/ ─→ open_splits ─→ splits[i].load()
                                                    X-….npy         views of a map that all
                                                    y-….npy         processes of the host share
                                                    rows-….npy
                                                    manifest.json

The manifest is renamed into its place last, so that at any time there is a whole dataset or none,
whatever crashes. The names of the data files carry a token that differs with each writing: a search
that reads the previous version is never handed rows of the next one.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy import sparse
from sklearn.model_selection import BaseCrossValidator, check_cv
from sklearn.utils.multiclass import type_of_target

from mscourse.arrayfile import PARTIAL_SUFFIX, ArrayWriter
from mscourse.errors import ParameterError, SplitsError
from mscourse.layout import Layout, Rows, plan_layout
from mscourse.splits import FORMAT, FORMAT_VERSION, MANIFEST, Splits, check_name, read_manifest

CV: TypeAlias = int | BaseCrossValidator | Iterable[tuple[ArrayLike, ArrayLike]]

# Rows are gathered in pieces of this size: small enough that a piece is still in the processor's
# cache when it is put into the block that is written, and that the allocator keeps little.
_CHUNK_BYTES = 2 * 2**20

# A living writer touches its files all the time, so that an hour without a change means that
# nobody will finish this one.
_ABANDONED_AFTER_S = 3600


def persist_cv_splits(
    X: Any,
    y: Any = None,
    *,
    folder: str | Path | None,
    name: str,
    cv: CV = 5,
    groups: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    random_state: int | None = None,
) -> Splits:
    """Write the rows of all splits to disk, so that every set is one slice of a memory map.

    Parameters
    ----------
    X : array-like or sparse matrix, shape (n_samples, ...)
        The data. Sparse matrices are stored as CSR.
    y : array-like, shape (n_samples,) or (n_samples, n_outputs), optional
        The targets.
    folder : path or None
        Where datasets are kept; it is made if it does not exist. None takes a temporary folder,
        which is deleted at the end of the ``with`` block.
    name : str
        The dataset's name, a folder in ``folder``. A dataset of that name is replaced once the
        new one is complete.
    cv : int, splitter or iterable of (train, test)
        Anything that scikit-learn takes. An int is `StratifiedKFold` if the targets are integers,
        booleans or strings, else `KFold`, both without shuffling, as in scikit-learn.
    groups : array-like, shape (n_samples,), optional
        Passed to the splitter.
    dtype : dtype, optional
        Store X in this type. By default its own.
    random_state : int, optional
        Seed of the order of rows within a fold of the ring layout (see `mscourse.layout`). It
        does not change which rows are in which set.

    Returns
    -------
    Splits
        Open, and usable as a context manager.

    Raises
    ------
    ParameterError
        If the data cannot be memory-mapped or the splits cannot be made. Nothing is written.
    SplitsError
        If the files cannot be written. What was there before is still there.

    Examples
    --------
    >>> with persist_cv_splits(X, y, folder=None, name="digits", cv=5) as splits:
    ...     X_train, y_train, X_test, y_test = splits[0].load()
    """
    X = _as_data(X)
    stored_dtype = _stored_dtype(X, dtype)
    n_samples = X.shape[0]
    y = None if y is None else _as_targets(y, n_samples)
    check_name(name)
    layout = plan_layout(_index_pairs(cv, X, y, groups), n_samples, random_state=random_state)

    temporary = None
    if folder is None:
        temporary = tempfile.TemporaryDirectory(prefix="mscourse-", ignore_cleanup_errors=True)
        folder = temporary.name
    dataset_folder = Path(folder).absolute() / name
    facts = {"name": name, "cv": repr(cv), "random_state": random_state}
    try:
        durable = temporary is None
        _write_dataset(dataset_folder, X, stored_dtype, y, layout, facts, durable=durable)
        return read_manifest(dataset_folder, temporary)
    except BaseException as error:
        if temporary is not None:
            temporary.cleanup()
        if isinstance(error, OSError) and not isinstance(error, SplitsError):
            raise SplitsError(
                f"The splits {name!r} could not be written to {dataset_folder}: {error}. "
                "What was there before is unchanged."
            ) from error
        raise


def _write_dataset(
    dataset_folder: Path,
    X: Any,
    stored_dtype: np.dtype[Any],
    y: NDArray[Any] | None,
    layout: Layout,
    facts: dict[str, Any],
    *,
    durable: bool,
) -> None:
    """Write the data files, then the manifest, whose renaming makes the dataset exist."""
    _check_free_space(dataset_folder, _stored_bytes(X, stored_dtype, y, layout))
    dataset_folder.mkdir(parents=True, exist_ok=True)
    replaced = _files_of(dataset_folder)
    _remove_abandoned(dataset_folder, replaced)
    token = secrets.token_hex(4)
    writers: dict[str, ArrayWriter] = {}

    def writer(part: str, dtype: DTypeLike, *shape: int) -> ArrayWriter:
        path = dataset_folder / f"{part}-{token}.npy"
        writers[part] = ArrayWriter(path, dtype, shape, durable=durable)
        return writers[part]

    n_stored = len(layout.rows)
    try:
        if sparse.issparse(X):
            _write_csr(writer, X, stored_dtype, layout.rows)
        else:
            _write_rows(writer("X", stored_dtype, n_stored, *X.shape[1:]), X, layout.rows)
        if y is not None:
            _write_rows(writer("y", y.dtype, n_stored, *y.shape[1:]), y, layout.rows)
        writer("rows", np.int64, n_stored).write(layout.rows)
        files = {part: each.finish() for part, each in writers.items()}
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **facts,
            "token": token,
            "layout": layout.kind,
            "n_samples": X.shape[0],
            "csr_columns": X.shape[1] if sparse.issparse(X) else None,
            "files": {
                part: {
                    "file": file.path.name,
                    "dtype": file.dtype,
                    "shape": file.shape,
                    "sha256": file.sha256,
                }
                for part, file in files.items()
            },
            "ranges": layout.ranges,
        }
        partial = dataset_folder / f"{MANIFEST}-{token}{PARTIAL_SUFFIX}"
        with partial.open("x", encoding="utf-8") as file:
            json.dump(manifest, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(dataset_folder / MANIFEST)
    except BaseException:
        for each in writers.values():
            each.discard()
        for left in dataset_folder.glob(f"{MANIFEST}-{token}*"):
            left.unlink()
        with contextlib.suppress(OSError):  # the folder holds a dataset that was there before
            dataset_folder.rmdir()
        raise
    for path in replaced:
        with contextlib.suppress(OSError):  # Windows does not remove files that are mapped
            path.unlink()


def _write_rows(writer: ArrayWriter, array: NDArray[Any], rows: Rows) -> None:
    row_bytes = max(1, array.dtype.itemsize * math.prod(array.shape[1:]))
    for some_rows in _pieces(rows, row_bytes):
        writer.write(array[some_rows])


def _write_csr(
    writer: Callable[..., ArrayWriter], X: Any, dtype: np.dtype[Any], rows: Rows
) -> None:
    lengths = np.diff(X.indptr)[rows]
    indptr = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    n_stored = int(indptr[-1])
    # Column numbers nearly always fit into 32 bits; with 64 scipy would look through all of them
    # whenever a split is opened, and copy them.
    index_dtype = np.int32 if X.shape[1] <= np.iinfo(np.int32).max else np.int64
    data, indices = writer("data", dtype, n_stored), writer("indices", index_dtype, n_stored)
    row_bytes = max(1, (X.data.itemsize + X.indices.itemsize) * n_stored // max(1, len(rows)))
    for some_rows in _pieces(rows, row_bytes):
        piece = X[some_rows]
        data.write(piece.data)
        indices.write(piece.indices)
    writer("indptr", np.int64, len(indptr)).write(indptr)


def _pieces(rows: Rows, row_bytes: int) -> Iterator[Rows]:
    step = max(1, _CHUNK_BYTES // row_bytes)
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


def _stored_bytes(
    X: Any, stored_dtype: np.dtype[Any], y: NDArray[Any] | None, layout: Layout
) -> int:
    """Estimate the size of the files; exact but for headers, and for uneven rows of a CSR."""
    per_row = 8.0
    if sparse.issparse(X):
        per_row += 8 + X.nnz / X.shape[0] * (stored_dtype.itemsize + 4)
    else:
        per_row += stored_dtype.itemsize * math.prod(X.shape[1:])
    if y is not None:
        per_row += y.dtype.itemsize * math.prod(y.shape[1:])
    return int(per_row * len(layout.rows))


def _check_free_space(folder: Path, needed_bytes: int) -> None:
    while not folder.exists():
        folder = folder.parent
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise SplitsError(
            f"The splits need {needed_bytes / 1e6:.1f} MB, but {folder} has "
            f"{free_bytes / 1e6:.1f} MB free. Name another folder, store fewer bytes "
            "(dtype='float32'), or use k-fold splits, which take at most 2 copies of the data."
        )


def _files_of(dataset_folder: Path) -> list[Path]:
    """List the data files of the dataset that is in a folder now."""
    try:
        manifest = json.loads((dataset_folder / MANIFEST).read_text(encoding="utf-8"))
        return [dataset_folder / entry["file"] for entry in manifest["files"].values()]
    except (OSError, ValueError, KeyError, TypeError):  # none, or one that nobody can open
        return []


def _remove_abandoned(dataset_folder: Path, in_use: list[Path]) -> None:
    """Remove what a writer that was killed has left."""
    for path in [*dataset_folder.glob(f"*{PARTIAL_SUFFIX}"), *dataset_folder.glob("*.npy")]:
        with contextlib.suppress(OSError):  # another writer may remove it at the same time
            if path not in in_use and time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                path.unlink()


def _index_pairs(cv: CV, X: Any, y: Any, groups: ArrayLike | None) -> list[tuple[Rows, Rows]]:
    if isinstance(cv, int):
        # Whether an integer target is a class or a count cannot be known here; scikit-learn asks
        # the estimator. Counts that cannot be stratified are told so below.
        classes = y is not None and y.dtype.kind in "biuUS" and y.ndim == 1
        classes = classes and type_of_target(y) in ("binary", "multiclass")
    else:
        classes = False
    try:
        splitter = check_cv(cv, y, classifier=classes)
        return [(_as_rows(a), _as_rows(b)) for a, b in splitter.split(X, y, groups)]
    except (ValueError, TypeError) as error:
        raise ParameterError(
            f"cv={cv!r} does not split these {X.shape[0]} rows: {error} Give cv as an int of at "
            "least 2, a scikit-learn splitter such as KFold(5), or pairs of row indices."
        ) from error


def _as_rows(indices: ArrayLike) -> Rows:
    rows = np.asarray(indices)
    if rows.dtype == bool:
        rows = np.flatnonzero(rows)
    if rows.size and rows.dtype.kind not in "iu":
        raise ValueError(f"row indices must be integers, not {rows.dtype}.")
    return rows.astype(np.int64, copy=False)


def _as_data(X: Any) -> Any:
    if sparse.issparse(X):
        return X.tocsr()
    array = np.asarray(X)
    if array.ndim == 0:
        raise ParameterError(f"X must be an array with rows; it is a {type(X).__name__}.")
    return array


def _stored_dtype(X: Any, dtype: DTypeLike | None) -> np.dtype[Any]:
    stored: np.dtype[Any] = X.dtype if dtype is None else np.dtype(dtype)
    if stored.hasobject:
        raise ParameterError(
            f"X is of dtype {stored}, which cannot be memory-mapped: its elements are Python "
            "objects. Encode it as numbers first (for a DataFrame: OrdinalEncoder, OneHotEncoder), "
            "or name a dtype, for example dtype='float64'."
        )
    return stored


def _as_targets(y: Any, n_samples: int) -> NDArray[Any]:
    if sparse.issparse(y):
        raise ParameterError("y is sparse; give it as an array: y.toarray().")
    array = np.asarray(y)
    if array.dtype.hasobject:
        array = np.asarray(array.tolist())  # strings in a DataFrame are objects
    if array.dtype.hasobject:
        raise ParameterError("y holds Python objects of several types; give numbers or strings.")
    if array.ndim not in (1, 2):
        raise ParameterError(f"y must have one or two dimensions; its shape is {array.shape}.")
    if len(array) != n_samples:
        raise ParameterError(f"X has {n_samples} rows, but y has {len(array)}.")
    return array
