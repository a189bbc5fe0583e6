"""Whatever splitter and whatever sizes: the stored ranges hold the rows that the splits name."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneOut,
    LeavePGroupsOut,
    PredefinedSplit,
    RepeatedKFold,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
)

import mscourse
from mscourse.layout import Layout, plan_layout

# Beside what pytest keeps, which git does not see.
set_hypothesis_home_dir(Path(__file__).parent.parent / ".pytest_cache" / "hypothesis")

# The same examples each time where nobody looks at them.
some = settings(
    max_examples=150,
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
few = settings(some, max_examples=25)

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(2, 80)

Pairs = list[tuple[np.ndarray, np.ndarray]]


def pairs_of(splitter, n, y=None, groups=None) -> Pairs:
    try:
        return list(splitter.split(np.zeros((n, 1)), y, groups))
    except ValueError:  # scikit-learn refuses some sizes; that is its own affair
        assume(False)
        raise AssertionError from None


@st.composite
def folds(draw):
    n = draw(SIZES)
    k = draw(st.integers(2, n))
    seed = draw(st.none() | SEEDS)
    return n, pairs_of(KFold(k, shuffle=seed is not None, random_state=seed), n)


@st.composite
def stratified_folds(draw):
    k = draw(st.integers(2, 6))
    y = np.array(draw(st.lists(st.integers(0, 2), min_size=2 * k, max_size=60)))
    assume(np.unique(y, return_counts=True)[1].min() >= k)
    seed = draw(st.none() | SEEDS)
    splitter = StratifiedKFold(k, shuffle=seed is not None, random_state=seed)
    return len(y), pairs_of(splitter, len(y), y)


@st.composite
def group_folds(draw):
    groups = np.array(draw(st.lists(st.integers(0, 9), min_size=2, max_size=60)))
    n_groups = len(np.unique(groups))
    assume(n_groups > 1)
    splitter = GroupKFold(draw(st.integers(2, n_groups)))
    return len(groups), pairs_of(splitter, len(groups), groups=groups)


@st.composite
def repeated_folds(draw):
    n = draw(SIZES)
    options = {"n_repeats": draw(st.integers(1, 4)), "random_state": draw(SEEDS)}
    k = draw(st.integers(2, min(n, 7)))
    if draw(st.booleans()):
        return n, pairs_of(RepeatedKFold(n_splits=k, **options), n)
    y = np.arange(n) % 2
    assume(n // 2 >= k)
    return n, pairs_of(RepeatedStratifiedKFold(n_splits=k, **options), n, y)


@st.composite
def series(draw):
    n = draw(SIZES)
    splitter = TimeSeriesSplit(
        draw(st.integers(2, 8)),
        gap=draw(st.integers(0, 5)),
        test_size=draw(st.none() | st.integers(1, 10)),
        max_train_size=draw(st.none() | st.integers(1, 20)),
    )
    return n, pairs_of(splitter, n)


@st.composite
def shuffled(draw):
    n = draw(SIZES)
    splitter = ShuffleSplit(
        draw(st.integers(1, 5)),
        test_size=draw(st.floats(0.05, 0.9)),
        train_size=draw(st.none() | st.floats(0.05, 0.5)),
        random_state=draw(SEEDS),
    )
    return n, pairs_of(splitter, n)


@st.composite
def one_left_out(draw):
    n = draw(SIZES)
    return n, pairs_of(LeaveOneOut(), n)


@st.composite
def groups_left_out(draw):
    groups = np.array(draw(st.lists(st.integers(0, 4), min_size=2, max_size=40)))
    p = draw(st.integers(1, 3))
    assume(len(np.unique(groups)) > p)
    return len(groups), pairs_of(LeavePGroupsOut(p), len(groups), groups=groups)


@st.composite
def predefined(draw):
    folds = np.array(draw(st.lists(st.integers(-1, 4), min_size=2, max_size=60)))
    pairs = pairs_of(PredefinedSplit(folds), len(folds))
    assume(pairs and all(len(train) for train, _ in pairs))
    return len(folds), pairs


@st.composite
def any_lists(draw):
    """Any rows, some of them several times, in any order."""
    n = draw(st.integers(1, 30))
    rows = st.lists(st.integers(0, n - 1), min_size=1, max_size=40)
    pairs = draw(st.lists(st.tuples(rows, rows), min_size=1, max_size=6))
    return n, [(np.array(train), np.array(test)) for train, test in pairs]


@st.composite
def nearly_rings(draw):
    """Folds of which one is missing, doubled, out of its place, or a row off."""
    n, pairs = draw(folds() | repeated_folds())
    i, j = (draw(st.integers(0, len(pairs) - 1)) for _ in range(2))
    train, test = pairs[i]
    changes = [
        pairs[:i] + pairs[i + 1 :],
        [*pairs, pairs[i]],
        [pairs[j] if k == i else pairs[i] if k == j else pair for k, pair in enumerate(pairs)],
        [(test, train) if k == i else pair for k, pair in enumerate(pairs)],
        [(train[::-1], test) if k == i else pair for k, pair in enumerate(pairs)],
        [(train[:-1], test) if k == i else pair for k, pair in enumerate(pairs)],
        [(np.append(train[:-1], test[0]), test) if k == i else p for k, p in enumerate(pairs)],
    ]
    pairs = draw(st.sampled_from(changes))
    assume(pairs and all(len(train) for train, _ in pairs))
    return n, pairs


SPLITTERS = {
    "folds": folds(),
    "stratified": stratified_folds(),
    "groups": group_folds(),
    "repeated": repeated_folds(),
    "series": series(),
    "shuffled": shuffled(),
    "one left out": one_left_out(),
    "groups left out": groups_left_out(),
    "predefined": predefined(),
    "any lists": any_lists(),
    "nearly rings": nearly_rings(),
}


def check_layout(layout: Layout, pairs: Pairs, n: int) -> None:
    assert len(layout.ranges) == len(pairs)
    assert layout.rows.dtype == np.int64
    for split, (train, test) in zip(layout.ranges, pairs, strict=True):
        for where, named in ((split.train, train), (split.test, test)):
            assert 0 <= where.start < where.stop <= len(layout.rows)
            stored = layout.rows[where]
            if layout.kind == "ring":  # which may shuffle within a set
                stored, named = np.sort(stored), np.sort(named)
            np.testing.assert_array_equal(stored, named)
    if layout.kind == "line":
        np.testing.assert_array_equal(layout.rows, np.arange(n))
    if layout.kind == "ring":
        # The documented size: each fold twice, but for two of them in each repeat.
        assert len(layout.rows) < 2 * n * sum(len(test) for _, test in pairs) / n


@pytest.mark.parametrize("splits", SPLITTERS.values(), ids=SPLITTERS)
def test_the_ranges_hold_the_rows_that_the_splits_name(splits):
    @some
    @given(splits, SEEDS)
    def check(drawn, seed):
        n, pairs = drawn
        layout = plan_layout(pairs, n, random_state=seed)
        event(layout.kind)
        check_layout(layout, pairs, n)

    check()


@pytest.mark.parametrize(
    "splits", [folds(), stratified_folds(), group_folds(), repeated_folds(), one_left_out()]
)
def test_what_tests_every_row_once_is_never_a_block(splits):
    @few
    @given(splits)
    def check(drawn):
        n, pairs = drawn
        assert plan_layout(pairs, n).kind in ("line", "ring")

    check()


@few
@given(st.one_of(*SPLITTERS.values()), SEEDS)
def test_what_is_persisted_comes_back(drawn, seed):
    n, pairs = drawn
    rng = np.random.default_rng(seed)
    X, y, weight = rng.normal(size=(n, 3)), rng.integers(0, 5, n), rng.random(n)
    with tempfile.TemporaryDirectory() as folder:
        options = {"folder": folder, "name": "d", "cv": pairs, "random_state": seed}
        written = mscourse.persist_cv_splits(X, y, metadata={"sample_weight": weight}, **options)
        splits = mscourse.open_splits(folder, "d")
        splits.verify()
        assert splits.ranges == written.ranges
        assert (splits.layout, splits.n_samples) == (written.layout, n)
        check_layout(Layout(splits.layout, splits.rows, splits.ranges), pairs, n)
        for split, (train, test) in zip(splits, pairs, strict=True):
            X_train, y_train, X_test, y_test = split.load()
            weights = split.load_metadata()
            assert len(X_train) == len(train) == split.n_train
            assert len(X_test) == len(test) == split.n_test
            for rows, some_X, some_y, some_weights in (
                (split.train_indices, X_train, y_train, weights[0]),
                (split.test_indices, X_test, y_test, weights[1]),
            ):
                np.testing.assert_array_equal(some_X, X[rows])
                np.testing.assert_array_equal(some_y, y[rows])
                np.testing.assert_array_equal(some_weights["sample_weight"], weight[rows])
