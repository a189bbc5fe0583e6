"""The layouts hold exactly the sets that scikit-learn names, each as one range."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneOut,
    LeavePGroupsOut,
    PredefinedSplit,
    RepeatedKFold,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    TimeSeriesSplit,
)

from mscourse.errors import ParameterError
from mscourse.layout import plan_layout

N = 61  # prime, so that no fold divides it
Y = np.arange(N) % 3
GROUPS = np.arange(N) // 4

SPLITTERS = [
    (KFold(5, shuffle=True, random_state=0), "ring", 2 - 2 / 5),
    (KFold(5), "ring", 2 - 2 / 5),
    (KFold(2), "line", 1),
    (KFold(2, shuffle=True, random_state=0), "ring", 1),
    (KFold(3, shuffle=True, random_state=0), "ring", 2 - 2 / 3),
    (StratifiedKFold(4), "ring", 2 - 2 / 4),
    (GroupKFold(5), "ring", 2 - 2 / 5),
    (StratifiedGroupKFold(3), "ring", 2 - 2 / 3),
    (LeaveOneOut(), "ring", 2 - 2 / N),
    (RepeatedKFold(n_splits=5, n_repeats=3, random_state=0), "ring", 3 * (2 - 2 / 5)),
    (RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0), "ring", 2),
    (TimeSeriesSplit(4), "line", 1),
    (TimeSeriesSplit(4, gap=3, max_train_size=9), "line", 1),
    (ShuffleSplit(3, test_size=0.25, random_state=0), "block", 3),
    (LeavePGroupsOut(2), "block", None),
    (PredefinedSplit(np.arange(N) % 4 - 1), "block", None),
]


@pytest.mark.parametrize(("splitter", "kind", "copies"), SPLITTERS, ids=lambda v: str(v)[:40])
def test_each_set_is_one_range_with_the_rows_scikit_learn_names(splitter, kind, copies):
    groups = GROUPS if "Group" in type(splitter).__name__ else None
    pairs = list(splitter.split(np.zeros((N, 1)), Y, groups))
    layout = plan_layout(pairs, N, random_state=0)
    assert layout.kind == kind
    assert len(layout.ranges) == len(pairs)
    for split, (train, test) in zip(layout.ranges, pairs, strict=True):
        for stored, named in ((layout.rows[split.train], train), (layout.rows[split.test], test)):
            if kind == "ring":
                stored, named = np.sort(stored), np.sort(named)
            np.testing.assert_array_equal(stored, named)
    if copies is not None:
        # Folds differ by a row, so that the ring may hold a few rows more or less.
        assert len(layout.rows) / N == pytest.approx(copies, abs=0.1)


def test_the_ring_of_five_folds_is_the_documented_one():
    folds = np.arange(10).reshape(5, 2)
    pairs = [(np.setdiff1d(np.arange(10), fold), fold) for fold in folds]
    layout = plan_layout(pairs, 10)
    assert (layout.rows[::2] // 2).tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert [split.train_start // 2 for split in layout.ranges] == [1, 2, 3, 4, 0]


def test_the_seed_shuffles_within_the_folds_only():
    pairs = list(KFold(4, shuffle=True, random_state=1).split(np.zeros((100, 1))))
    one, same, other = (plan_layout(pairs, 100, random_state=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.rows, same.rows)
    assert not np.array_equal(one.rows, other.rows)
    for split in one.ranges:
        assert set(one.rows[split.test]) == set(other.rows[split.test])
        assert not np.array_equal(one.rows[split.test], np.sort(one.rows[split.test]))


def test_block_keeps_the_order_and_the_repetitions_it_is_given():
    train, test = np.array([5, 1, 1, 3]), np.array([4, 0])
    layout = plan_layout([(train, test)], 6)
    assert layout.kind == "block"
    assert layout.rows.tolist() == [5, 1, 1, 3, 4, 0]


def test_rings_that_do_not_close_are_blocks():
    pairs = list(KFold(5, shuffle=True, random_state=0).split(np.zeros((20, 1))))[:4]
    assert plan_layout(pairs, 20).kind == "block"


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ([], "no splits"),
        ([([], [1])], "train set of split 0 is empty"),
        ([([0], [1]), ([0], [])], "test set of split 1 is empty"),
        ([([0, 9], [1])], r"names row 9, but the rows are 0 to 4"),
        ([([0, -1], [1])], r"names row -1"),
    ],
)
def test_splits_that_cannot_be_are_refused(pairs, says):
    as_rows = [(np.array(a, dtype=np.int64), np.array(b, dtype=np.int64)) for a, b in pairs]
    with pytest.raises(ParameterError, match=says):
        plan_layout(as_rows, 5)
