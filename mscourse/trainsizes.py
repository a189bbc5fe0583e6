"""Which sizes of train sets a curve is made of, in which order, and what they leave out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mscourse.errors import ParameterError
from mscourse.splits import Splits

# Of classes, splits, and groups of splits that lack the same, so many are named in a line.
_MOST_LISTED = 5
_MOST_GROUPS = 3


def checked_sizes(train_sizes: ArrayLike, n_most: int) -> NDArray[np.int64]:
    """Turn fractions into rows, as scikit-learn does, and refuse what cannot be."""
    try:
        sizes = np.asarray(train_sizes)
    except ValueError:  # lists of different lengths
        sizes = np.array(None)
    if sizes.ndim != 1 or not len(sizes) or sizes.dtype.kind not in "iuf":
        raise ParameterError(f"train_sizes must be a list of numbers, not {train_sizes!r}.")
    if sizes.dtype.kind == "f":
        if not ((sizes > 0) & (sizes <= 1)).all():
            raise ParameterError(
                f"train_sizes as fractions must be above 0 and at most 1; they are {sizes}. "
                "Give integers to mean rows."
            )
        # A product such as 0.29 * 100 lies a hair below the integer it means.
        rows = np.clip((sizes * n_most + 1e-9).astype(np.int64), 1, n_most)
    else:
        rows = sizes.astype(np.int64)
        if rows.min() < 1 or rows.max() > n_most:
            raise ParameterError(
                f"train_sizes in rows must be between 1 and {n_most}, the rows of the smallest "
                f"train set; they are {sizes}."
            )
    return np.unique(rows)


def spread(n: int) -> list[int]:
    """Order 0 to n - 1 so that the first few are spread over the whole range.

    The last comes first and the first comes next; then, again and again, what lies in the middle
    of the largest gap.
    """
    order = [n - 1] if n == 1 else [n - 1, 0]
    while len(order) < n:
        known = sorted(order)
        gap, low = max((high - low, low) for low, high in itertools.pairwise(known))
        order.append(low + gap // 2)
    return order


def missing_classes(splits: Splits, train_sizes: NDArray[np.int64]) -> list[str]:
    """Tell which sizes leave out a class, and in which splits: a line for each."""
    _, y = splits.open_arrays("r")  # X may be long to read, and does not matter
    if y is None or y.ndim != 1:
        return []
    all_classes = [np.unique(y[split.range.train]) for split in splits]
    lines = []
    for size in train_sizes.tolist():
        splits_of: dict[tuple[object, ...], list[int]] = {}  # by what they lack
        for split, there_are in zip(splits, all_classes, strict=True):
            absent = np.setdiff1d(there_are, y[split.range.train][:size])
            if len(absent):
                splits_of.setdefault(tuple(absent.tolist()), []).append(split.index)
        if splits_of:
            groups = list(splits_of.items())
            told = [
                f"of class {_listed(classes)} in split {_listed(lacking)}"
                for classes, lacking in groups[:_MOST_GROUPS]
            ]
            if others := [lacking for _, lacking in groups[_MOST_GROUPS:]]:
                lacking = sorted(itertools.chain(*others))
                told.append(f"of others in split {_listed(lacking)}")
            lines.append(f"{size} rows have no sample {'; '.join(told)}")
    return lines


def _listed(values: Sequence[object]) -> str:
    """Name the first few, and count the others."""
    n_more = len(values) - _MOST_LISTED
    return ", ".join(map(str, values[:_MOST_LISTED])) + (f" and {n_more} more" * (n_more > 0))
