"""Where the rows of each split lie on disk: pure arithmetic, no I/O.

The rows are put into an order in which every train set and every test set is one contiguous range,
so that a process that maps the file gets each of them as a slice.

=======  ===========================================  ==========================================
layout   when                                         rows stored
=======  ===========================================  ==========================================
line     every set is a range of the data's own       the data as it is: 1 copy
         order (time series)
ring     every row is in exactly one test set, and    the k folds in order, then the first k - 2
         trains all other splits (k-fold)             again: 2 - 2/k copies for each repeat
block    anything else (random splits, lists)         per split its train rows, then its test rows
=======  ===========================================  ==========================================

The ring of five folds is ``0 1 2 3 4 0 1 2``: the train set of split i is the four folds that
follow fold i, ``1 2 3 4``, ``2 3 4 0``, ``3 4 0 1``, ``4 0 1 2``, ``0 1 2 3``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mscourse.errors import ParameterError

Rows = NDArray[np.int64]
LayoutKind = Literal["line", "ring", "block"]


class SplitRange(NamedTuple):
    """The rows of one split, as half-open ranges of the stored rows."""

    train_start: int
    train_stop: int
    test_start: int
    test_stop: int

    @property
    def train(self) -> slice:
        return slice(self.train_start, self.train_stop)

    @property
    def test(self) -> slice:
        return slice(self.test_start, self.test_stop)


@dataclass(frozen=True, eq=False)
class Layout:
    """An order of rows in which every set is a range.

    Attributes
    ----------
    kind : {"line", "ring", "block"}
        How the rows were ordered.
    rows : ndarray of int64, shape (n_stored,)
        ``rows[p]`` is the row of the dataset that is stored at position p.
    ranges : tuple of SplitRange
        Where each split lies in the stored rows.
    """

    kind: LayoutKind
    rows: Rows
    ranges: tuple[SplitRange, ...]


def plan_layout(
    splits: Sequence[tuple[Rows, Rows]], n_samples: int, *, random_state: int | None = None
) -> Layout:
    """Choose the smallest layout that holds the splits.

    Parameters
    ----------
    splits : sequence of (train, test)
        Row indices of each split, from 0 to ``n_samples - 1``, in the order in which an estimator
        should see them.
    n_samples : int
        How many rows the dataset has.
    random_state : int, optional
        Seed of the order of rows within a fold of the ring, which makes the first rows of a fold
        a fair sample of it. Line and block keep the order they are given.

    Returns
    -------
    Layout

    Raises
    ------
    ParameterError
        If there are no splits, or one of them has no rows, or rows that do not exist.
    """
    if not splits:
        raise ParameterError("cv gives no splits; at least one is needed.")
    for i, (train, test) in enumerate(splits):
        for name, rows in (("train", train), ("test", test)):
            _check_rows(f"The {name} set of split {i}", rows, n_samples)
    return (
        _line(splits, n_samples)
        or _rings(splits, n_samples, np.random.default_rng(random_state))
        or _block(splits)
    )


def _check_rows(what: str, rows: Rows, n_samples: int) -> None:
    if len(rows) == 0:
        raise ParameterError(f"{what} is empty; each set needs at least one row.")
    if rows.min() < 0 or rows.max() >= n_samples:
        outside = rows[(rows < 0) | (rows >= n_samples)][0]
        raise ParameterError(f"{what} names row {outside}, but the rows are 0 to {n_samples - 1}.")


def _line(splits: Sequence[tuple[Rows, Rows]], n_samples: int) -> Layout | None:
    ranges = []
    for train, test in splits:
        if not (_is_range(train) and _is_range(test)):
            return None
        ranges.append(
            SplitRange(int(train[0]), int(train[-1]) + 1, int(test[0]), int(test[-1]) + 1)
        )
    return Layout("line", np.arange(n_samples), tuple(ranges))


def _is_range(rows: Rows) -> bool:
    return bool(np.all(np.diff(rows) == 1))


def _rings(
    splits: Sequence[tuple[Rows, Rows]], n_samples: int, rng: np.random.Generator
) -> Layout | None:
    """One ring after the other, each of as many splits as it takes to test every row once."""
    rows: list[Rows] = []
    ranges: list[SplitRange] = []
    n_stored = 0
    folds: list[Rows] = []
    tested = np.zeros(n_samples, dtype=bool)
    for train, test in splits:
        if not _is_complement(train, test, n_samples) or tested[test].any():
            return None
        tested[test] = True
        folds.append(rng.permutation(test))
        if tested.all():
            ring = [*folds, *folds[: len(folds) - 2]]
            ranges += _ring_ranges([len(fold) for fold in folds], n_stored)
            rows += ring
            n_stored += sum(map(len, ring))
            folds = []
            tested[:] = False
    if folds:  # the last ring does not close
        return None
    return Layout("ring", np.concatenate(rows), tuple(ranges))


def _is_complement(train: Rows, test: Rows, n_samples: int) -> bool:
    """Whether the two sets hold each row of the dataset exactly once."""
    if len(train) + len(test) != n_samples:
        return False
    seen = np.zeros(n_samples, dtype=bool)
    seen[train] = True
    seen[test] = True
    return bool(seen.all())


def _ring_ranges(fold_sizes: list[int], offset: int) -> list[SplitRange]:
    k = len(fold_sizes)
    edges = offset + np.concatenate([[0], np.cumsum([*fold_sizes, *fold_sizes])])
    ranges = []
    for i in range(k):
        first = (i + 1) % k  # the train set of the last fold begins where the ring does
        ranges.append(SplitRange(*(int(edges[e]) for e in (first, first + k - 1, i, i + 1))))
    return ranges


def _block(splits: Sequence[tuple[Rows, Rows]]) -> Layout:
    rows: list[Rows] = []
    ranges = []
    start = 0
    for train, test in splits:
        middle, stop = start + len(train), start + len(train) + len(test)
        ranges.append(SplitRange(start, middle, middle, stop))
        rows += [train, test]
        start = stop
    return Layout("block", np.concatenate(rows), tuple(ranges))
