"""Persisted splits, as scikit-learn's own search takes them.

scikit-learn sees X, y, and a splitter that gives row numbers. On the way to an engine each of them
is replaced: X and y by all stored rows of the persisted splits, the row numbers of a set by the
range in which the set is stored. The engine takes a slice of a map where it would copy rows.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn import get_config
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import _safe_indexing, get_tags

from mscourse.errors import ParameterError
from mscourse.given import as_targets
from mscourse.splits import Splits

# Enough rows to tell other data and another order of rows, without reading all.
_N_ROWS_COMPARED = 20


class PersistedData(BaseCrossValidator):  # type: ignore[misc]  # untyped
    """Persisted splits as scikit-learn's data and splitter, and what travels in their place.

    scikit-learn has all rows once, and indices of them. The engines have the rows as they are
    stored, and ranges of them.
    """

    def __init__(self, search: Any, X: Any, y: Any, params: Mapping[str, Any]) -> None:
        splits = search.splits
        if not isinstance(splits, Splits):
            raise ParameterError(
                f"splits must come from persist_cv_splits or open_splits; it is {splits!r}."
            )
        if search.cv is not None:
            raise ParameterError("cv and splits exclude each other: the splits have been made.")
        if params.get("groups") is not None:
            raise ParameterError("The splits have been made: groups belong to persist_cv_splits.")
        if get_config()["array_api_dispatch"]:
            raise ParameterError(
                "Persisted splits are numpy's; array_api_dispatch is not for them."
            )
        if get_tags(search.estimator).input_tags.pairwise:
            raise ParameterError(
                f"{type(search.estimator).__name__} takes distances or a kernel between all rows, "
                "which persisted splits do not have. Leave out splits=."
            )
        self._splits = splits
        self.X, self.y, order = _whole(splits, X, y)
        # Where the row that is stored at each place is in X.
        number = np.empty(splits.n_samples, dtype=np.int64)
        number[order] = np.arange(splits.n_samples)
        self._numbers = number[splits.rows]
        self.params = {
            name: _in_order(value, order, splits.n_samples) for name, value in params.items()
        }
        if X is None:
            self.params = {**splits.load_whole_metadata(), **self.params}
        self._pairs = [
            (self._numbers[split.range.train], self._numbers[split.range.test]) for split in splits
        ]
        self.stand_ins: dict[int, object] = {}
        for split, (train, test) in zip(splits, self._pairs, strict=True):
            self.stand_ins[id(train)] = _Range(split.range.train)
            self.stand_ins[id(test)] = _Range(split.range.test)

    def __repr__(self) -> str:
        return repr(self._splits)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        return len(self._pairs)

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[Any]:
        # These are the very objects that go into the tasks.
        self.stand_ins[id(X)] = _Stored(pickle.dumps(self._splits), "X")
        if y is not None:
            self.stand_ins[id(y)] = _Stored(pickle.dumps(self._splits), "y")
        yield from self._pairs

    def stand_in_for_params(self, *params: Mapping[str, Any]) -> None:
        """Have what is there for each row travel in the order of the stored rows."""
        for value in (value for some in params for value in some.values()):
            if id(value) not in self.stand_ins and _is_per_row(value, self._splits.n_samples):
                self.stand_ins[id(value)] = _safe_indexing(value, self._numbers)


def _whole(splits: Splits, X: Any, y: Any) -> tuple[Any, Any, NDArray[np.int64]]:
    """Give X and y, and the row of the dataset that is in each of their rows."""
    rows = splits.rows
    if X is None and y is None:
        places = np.sort(np.unique(rows, return_index=True)[1])
        return *splits.load_whole(), rows[places]
    stored_X, stored_y = splits.open_arrays()
    if X is None or (y is None) != (stored_y is None):
        raise ParameterError(
            "With splits, fit takes X and y as they were persisted (y too, if there were targets), "
            "or neither, and reads them from the splits."
        )
    X, y = _for_this_fit(X), _for_this_fit(y)
    for name, given in (("X", X), ("y", y)):
        if given is not None and given.shape[0] != splits.n_samples:
            raise ParameterError(
                f"{name} has {given.shape[0]} rows, but the splits {splits.name!r} are of "
                f"{splits.n_samples}."
            )
    places = np.linspace(0, len(rows) - 1, _N_ROWS_COMPARED, dtype=np.int64)
    same_X = all(_are_same(X, rows[[p]], stored_X[slice(p, p + 1)]) for p in places.tolist())
    same_y = y is None or _are_same(as_targets(y, splits.n_samples), rows, stored_y)
    if not same_X or not same_y:
        raise ParameterError(
            f"{'y' if same_X else 'X'} is not what was persisted as {splits.name!r}: some rows "
            "differ. Persist the data again, or leave out X and y to fit what was persisted."
        )
    return X, y, np.arange(splits.n_samples)


def _for_this_fit(given: Any) -> Any:
    """Give data as scikit-learn would index them, if possible by a name that nobody else has.

    What is in the tasks is recognised by being the same object; the user's may be elsewhere too,
    such as in a parameter of the estimator.
    """
    if sparse.issparse(given):
        return given.tocsr()
    if isinstance(given, list | tuple):
        return np.asarray(given)
    return given.view() if type(given) in (np.ndarray, np.memmap) else given


def _are_same(given: Any, rows: NDArray[np.int64], stored: Any) -> bool:
    """Whether these rows are the stored ones, in the type in which they were stored."""
    some, stored = _safe_indexing(given, rows), np.asarray(_dense(stored))
    try:
        some = np.asarray(_dense(some)).astype(stored.dtype)
    except (TypeError, ValueError):  # text where numbers were
        return False
    if stored.dtype.hasobject:  # there are missing values that equal nothing, not even themselves
        return some.shape == stored.shape and all(map(_look_same, some.flat, stored.flat))
    return np.array_equal(some, stored, equal_nan=stored.dtype.kind in "fcmM")


def _look_same(a: object, b: object) -> bool:
    return str(a) == str(b)


def _dense(array: Any) -> Any:
    return array.toarray() if sparse.issparse(array) else array


def _is_per_row(value: Any, n_samples: int) -> bool:
    """Whether a parameter has an element for each row, so that scikit-learn splits it."""
    return getattr(value, "shape", (None,))[:1] == (n_samples,)


def _in_order(value: Any, order: NDArray[np.int64], n_samples: int) -> Any:
    if isinstance(value, list | tuple) and len(value) == n_samples:
        value = np.asarray(value)
    return _safe_indexing(value, order) if _is_per_row(value, n_samples) else value


class _Range:
    """Travels in the place of the row numbers of a set."""

    def __init__(self, rows: slice) -> None:
        self._rows = rows

    def __reduce__(self) -> tuple[Any, ...]:
        return np.arange, (self._rows.start, self._rows.stop)


class _Stored:
    """Travels in the place of X or y, and becomes all stored rows of it."""

    def __init__(self, splits: bytes, part: str) -> None:
        self._splits = splits
        self._part = part

    def __reduce__(self) -> tuple[Any, ...]:
        return _StoredRows, (self._splits, self._part)


# An engine opens the same splits for each of many evaluations.
_open_splits = functools.lru_cache(maxsize=2)(pickle.loads)


class _StoredRows:
    """All stored rows of X or y on an engine; scikit-learn can take rows of it, and no more."""

    def __init__(self, splits: bytes, part: str) -> None:
        self._splits: Splits = _open_splits(splits)
        self._part = part
        # It asks for the first; the second lets it refuse what needs a square of rows by rows.
        self.shape = len(self._splits.rows), None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """Take the rows of a `_Range` that has travelled."""
        rows = key[0] if isinstance(key, tuple) else key
        start, stop = int(rows[0]), int(rows[-1]) + 1
        if stop - start != len(rows) or not np.all(np.diff(rows) == 1):
            raise IndexError("Of persisted splits, scikit-learn takes nothing but their sets.")
        # A map for each set: what an estimator writes into its input is seen nowhere else.
        return self._splits.open_arrays()[self._part == "y"][slice(start, stop)]
