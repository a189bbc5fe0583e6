"""One split of persisted data: which rows it has, and its four arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from mscourse.errors import ParameterError
from mscourse.layout import Rows, SplitRange
from mscourse.storedfile import MapMode
from mscourse.values import is_integer

if TYPE_CHECKING:
    from mscourse.splits import Splits

Arrays = tuple[Any, Any, Any, Any]
Metadata = dict[str, NDArray[Any]]


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
            ``(n_test, ...)``. X is of the kind that was given: an array, a CSR matrix or array, a
            data frame, or an array of strings (see `persist_cv_splits`). The targets are None if
            there are none.

        Raises
        ------
        ParameterError
            If the mode is not one of these, or ``n_train`` is not between 1 and the rows there are.
        DamagedSplitsError
            If a file is gone or is not what was written.

        Examples
        --------
        >>> X_train, y_train, X_test, y_test = splits[0].load(n_train=100)
        >>> X_train.shape, X_test.shape
        ((100, 64), (360, 64))
        """
        train, test = self._sets(n_train)
        X, y = self.splits.open_arrays(mmap_mode)
        if y is None:
            return X[train], None, X[test], None
        return X[train], y[train], X[test], y[test]

    def load_metadata(
        self, mmap_mode: MapMode | None = "c", *, n_train: int | None = None
    ) -> tuple[Metadata, Metadata]:
        """Open the metadata of the samples of this split, such as their weights.

        Parameters
        ----------
        mmap_mode : {"c", "r", None}
            As for `load`.
        n_train : int, optional
            As for `load`.

        Returns
        -------
        train, test : dict of str to ndarray
            By name, views of one map each, with the rows of X_train and X_test. Empty if there
            are no metadata.

        Raises
        ------
        ParameterError
            If the mode is not one of these, or ``n_train`` is not between 1 and the rows there are.
        DamagedSplitsError
            If a file is gone or is not what was written.
        """
        train, test = self._sets(n_train)
        arrays = self.splits.open_metadata(mmap_mode)
        return (
            {name: array[train] for name, array in arrays.items()},
            {name: array[test] for name, array in arrays.items()},
        )

    def _sets(self, n_train: int | None) -> tuple[slice, slice]:
        """Where the sets lie in the stored rows, with only so many of the train set."""
        train, test = self.range.train, self.range.test
        if n_train is not None:
            if not is_integer(n_train) or not 1 <= n_train <= self.n_train:
                raise ParameterError(
                    f"n_train must be between 1 and {self.n_train}, the rows in the train set of "
                    f"split {self.index}, and an integer; it is {n_train!r}."
                )
            train = slice(train.start, train.start + int(n_train))
        return train, test
