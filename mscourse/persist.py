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
import numbers
import secrets
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from sklearn.model_selection import BaseCrossValidator, check_cv
from sklearn.utils.multiclass import type_of_target

from mscourse.arrayfile import NewFiles
from mscourse.datakinds import DataSource, data_source
from mscourse.datakinds.base import write_rows
from mscourse.durable import flush_folder
from mscourse.errors import ParameterError, SplitsError
from mscourse.given import as_groups, as_metadata, as_targets
from mscourse.layout import Layout, Rows, plan_layout
from mscourse.manifest import (
    check_name,
    checked_folder,
    data_files,
    is_data_file,
    is_partial,
    read_manifest,
    write_manifest,
)
from mscourse.splits import Splits
from mscourse.values import is_integer, shown

CV: TypeAlias = int | BaseCrossValidator | Iterable[tuple[ArrayLike, ArrayLike]]

# A living writer touches its files all the time, so that an hour without a change means that
# nobody will finish this one.
_ABANDONED_AFTER_S = 3600

# Floats of more different values are taken for numbers without a word.
_MOST_CLASSES = 20


def persist_cv_splits(
    X: Any,
    y: Any = None,
    *,
    folder: str | Path | None,
    name: str,
    cv: CV = 5,
    groups: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    metadata: Mapping[str, ArrayLike] | None = None,
    random_state: int | None = 0,
) -> Splits:
    """Write the rows of all splits to disk, so that every set is one slice of a memory map.

    Parameters
    ----------
    X : array-like, sparse matrix or data frame, shape (n_samples, ...)
        The data; see the table below.
    y : array-like, shape (n_samples,) or (n_samples, n_outputs), optional
        The targets: numbers, booleans or strings. A data frame of one column is taken as that
        column.
    folder : path or None
        Where datasets are kept; it is made if it does not exist. None takes a temporary folder,
        which is deleted at the end of the ``with`` block.
    name : str
        The dataset's name, a folder in ``folder``. A dataset of that name is replaced once the
        new one is complete.
    cv : int, splitter or iterable of (train, test)
        Anything that scikit-learn takes. An int is `StratifiedKFold` if the targets are integers,
        booleans or strings, else `KFold`, both without shuffling, as in scikit-learn. Floats that
        look like classes are warned of.
    groups : array-like, shape (n_samples,), optional
        Passed to the splitter.
    dtype : dtype, optional
        Store X in this type. By default its own. For arrays, sparse matrices, and data frames of
        pandas whose columns have one numeric type.
    metadata : dict of str to array-like, optional
        What else there is of each sample, such as ``{"sample_weight": w}``: of shape
        (n_samples,) or (n_samples, k), numbers, booleans, strings or dates. It is sliced with the
        splits: see `Split.load_metadata`.
    random_state : int or None
        Seed of the order of rows within a fold of the ring layout (see `mscourse.layout`). It
        does not change which rows are in which set. With None the order is another one each time,
        and a journal does not know the data again.

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

    Notes
    -----
    What an estimator gets is of the kind that was given, and shares the memory of all processes of
    the host as far as that kind allows it:

    ============================  =========================  =====================================
    X                             on the disk                a train or test set
    ============================  =========================  =====================================
    array, list of numbers        ``.npy``                   array, a view of the memory map
    sparse matrix or array        CSR, three ``.npy``        `csr_matrix` or `csr_array`, views
    strings: list, array, Series  UTF-8, offsets: ``.npy``   array of ``str`` objects, made anew
    pandas frame of one type      ``.npy``                   frame around a view (numbers only)
    any other pandas frame        Arrow file                 frame of the same types: numbers,
                                                             dates, codes of categories and
                                                             pyarrow's strings are views
    polars frame                  Arrow file                 frame of the same types, views
    ============================  =========================  =====================================

    Arrow files need pyarrow: ``pip install 'mscourse[frames]'``. While one is written, the disk
    holds its columns twice. The row index of a frame is not kept.

    Examples
    --------
    >>> with mscourse.persist_cv_splits(X, y, folder=None, name="digits", cv=3) as thirds:
    ...     X_train, y_train, X_test, y_test = thirds[0].load()
    ...     X_train.shape, X_test.shape
    ((1198, 64), (599, 64))
    """
    check_name(name)
    parent = None if folder is None else checked_folder(folder)
    random_state = _checked_seed(random_state)
    data = data_source(X, dtype)
    if not data.n_samples:
        raise ParameterError("X has no rows.")
    targets = None if y is None else as_targets(y, data.n_samples)
    parts = as_metadata(metadata, data.n_samples)
    pairs = _index_pairs(cv, data, targets, as_groups(groups, data.n_samples))
    layout = plan_layout(pairs, data.n_samples, random_state=random_state)

    temporary = None
    if parent is None:
        temporary = tempfile.TemporaryDirectory(prefix="mscourse-", ignore_cleanup_errors=True)
        parent = Path(temporary.name).absolute()
    dataset_folder = parent / name
    # Shortened: lists of rows would be the largest part of what each engine reads.
    facts = {"name": name, "cv": shown(cv), "random_state": random_state}
    try:
        durable = temporary is None
        _write_dataset(dataset_folder, data, targets, parts, layout, facts, durable=durable)
        return Splits(dataset_folder, read_manifest(dataset_folder), temporary)
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
    data: DataSource,
    y: NDArray[Any] | None,
    metadata: dict[str, NDArray[Any]],
    layout: Layout,
    facts: dict[str, Any],
    *,
    durable: bool,
) -> None:
    """Write the data files, then the manifest, whose renaming makes the dataset exist."""
    arrays = {} if y is None else {"y": y}
    # Numbered: a name is the user's, and may be one that a file cannot have.
    arrays |= {f"metadata{i}": array for i, array in enumerate(metadata.values())}
    rows = layout.rows
    n_bytes = data.stored_bytes(rows) + rows.nbytes
    n_bytes += sum(_row_bytes(array) * len(rows) for array in arrays.values())
    _check_free_space(dataset_folder, n_bytes)
    dataset_folder.mkdir(parents=True, exist_ok=True)
    replaced = data_files(dataset_folder)
    _remove_abandoned(dataset_folder, replaced)
    token = secrets.token_hex(4)
    files = NewFiles(dataset_folder, token, durable=durable)
    try:
        data_facts = data.write(files, rows)
        for part, array in arrays.items():
            writer = files.array(part, array.dtype, len(rows), *array.shape[1:])
            write_rows(writer, array, rows, _row_bytes(array))
        files.array("rows", np.int64, len(rows)).write(rows)
        facts = facts | {
            "n_samples": data.n_samples,
            "data": data_facts,
            "metadata": list(metadata),
        }
        stored = files.finish()
        if durable:
            flush_folder(dataset_folder)  # a manifest names only what is there
        write_manifest(dataset_folder, token, layout, facts, stored)
        if durable:
            flush_folder(dataset_folder)
            flush_folder(dataset_folder.parent)
    except BaseException:
        files.discard()
        with contextlib.suppress(OSError):  # the folder holds a dataset that was there before
            dataset_folder.rmdir()
        raise
    for path in replaced:
        with contextlib.suppress(OSError):  # Windows does not remove files that are mapped
            path.unlink()


def _row_bytes(array: NDArray[Any]) -> int:
    return array.nbytes // len(array)


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


def _remove_abandoned(dataset_folder: Path, in_use: list[Path]) -> None:
    """Remove what a writer that was killed has left."""
    for path in dataset_folder.iterdir():
        # By its name alone: the folder may hold the user's own files too.
        if not (is_data_file(path.name) or is_partial(path.name)) or path in in_use:
            continue
        with contextlib.suppress(OSError):  # another writer may remove it at the same time
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                path.unlink()


def _index_pairs(
    cv: CV, data: DataSource, y: NDArray[Any] | None, groups: NDArray[Any] | None
) -> list[tuple[Rows, Rows]]:
    if cv is None or isinstance(cv, numbers.Integral):
        if isinstance(cv, bool):
            raise ParameterError(f"cv must be a number of folds, a splitter or pairs, not {cv}.")
        # Whether an integer target is a class or a count cannot be known here; scikit-learn asks
        # the estimator. Counts that cannot be stratified are told so below.
        classes = y is not None and y.dtype.kind in "biuUS"
        classes = classes and type_of_target(y) in ("binary", "multiclass")
        if y is not None and y.dtype.kind == "f":
            _warn_of_classes(y)
    else:
        classes = False
    try:
        splitter = check_cv(cv, y, classifier=classes)
        return [
            (_as_rows(train, data.n_samples), _as_rows(test, data.n_samples))
            for train, test in splitter.split(data.given, y, groups)
        ]
    except (ValueError, TypeError, OverflowError) as error:
        raise ParameterError(
            f"cv={shown(cv)} does not split these {data.n_samples} rows: {error} Give cv as an int "
            "of at least 2, a scikit-learn splitter such as KFold(5), or pairs of row indices."
        ) from error


def _warn_of_classes(y: NDArray[Any]) -> None:
    """Say what is done with floats that look like classes: many readers of tables make them so."""
    # Not by scikit-learn's `type_of_target`, which refuses what is not finite.
    if y.ndim != 1 or not np.isfinite(y).all() or (y != np.rint(y)).any():
        return
    n_values = len(np.unique(y))
    if n_values <= _MOST_CLASSES and len(y) >= 10 * n_values:
        warnings.warn(
            "The targets are floats, which are numbers to be predicted, and so the folds are those "
            f"of KFold. If their {n_values} values are classes, give integers, as in "
            "y.astype(int), or a splitter, as in cv=StratifiedKFold(5): each fold then has its "
            "share of each class.",
            stacklevel=4,
        )


def _as_rows(indices: ArrayLike, n_samples: int) -> Rows:
    rows = np.asarray(indices)
    if rows.ndim != 1:
        raise ValueError(f"row indices must be lists; these have the shape {rows.shape}.")
    if rows.dtype == bool:
        if len(rows) != n_samples:
            raise ValueError(f"a mask of {len(rows)} rows is none of {n_samples}.")
        rows = np.flatnonzero(rows)
    if rows.size and rows.dtype.kind not in "iu":
        raise ValueError(f"row indices must be integers, not {rows.dtype}.")
    if rows.size and rows.max() > np.iinfo(np.int64).max:  # would become a negative number
        raise ValueError(f"there is no row {rows.max()}.")
    return rows.astype(np.int64, copy=False)


def _checked_seed(random_state: Any) -> int | None:
    if random_state is None:
        return None
    if not is_integer(random_state) or random_state < 0:
        raise ParameterError(
            f"random_state must be an integer, 0 or larger, or None, not {shown(random_state)}."
        )
    return int(random_state)  # for the manifest: JSON has no integers of numpy's
