"""Candidates that are computed from their number are those of scikit-learn's grid."""

from __future__ import annotations

import copy
import itertools
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import ParameterGrid
from sklearn.svm import SVC

import mscourse
from mscourse.candidates import (
    Candidates,
    are_same,
    drawn_candidates,
    grid_candidates,
    new_ones,
)

GRIDS = [
    {},
    {"a": [1]},
    {"b": [1, 2, 3], "a": ["x", None], "c": np.logspace(-1, 1, 4)},
    [{"kernel": ["linear"]}, {}, {"kernel": ["rbf"], "gamma": (0.1, 1)}],
]


@pytest.mark.parametrize("grid", GRIDS, ids=range(len(GRIDS)))
def test_they_are_those_of_scikit_learn_in_its_order(grid):
    ours, theirs = grid_candidates(grid), list(ParameterGrid(grid))
    assert len(ours) == len(theirs)
    assert list(ours) == [ours[i] for i in range(len(ours))] == theirs
    assert [list(params) for params in ours] == [list(params) for params in theirs]
    assert ours == theirs
    assert ours[-1] == theirs[-1]
    assert ours[:2] == theirs[:2]
    with pytest.raises(IndexError, match=f"no number {len(theirs)}"):
        ours[len(theirs)]


def test_a_million_candidates_take_no_memory():
    grid = grid_candidates({name: range(100) for name in "abc"})
    assert len(grid) == 1_000_000
    assert grid[123_456] == {"a": 12, "b": 34, "c": 56}
    assert sum(map(sys.getsizeof, vars(grid).values())) < 1000


@pytest.mark.parametrize("grid", [{"a": 1}, {"a": "text"}, {"a": []}, [1], 7])
def test_what_is_no_grid_is_refused(grid):
    with pytest.raises(mscourse.ParameterError, match="not a grid"):
        grid_candidates(grid)


def test_more_may_be_added():
    candidates = Candidates()
    assert len(candidates) == 0
    candidates.extend([{"a": 1}])
    candidates.extend([])
    candidates.extend(grid_candidates({"a": [2, 3]}))
    assert candidates == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert candidates != [{"a": 1}]
    assert repr(candidates) == "[{'a': 1}, {'a': 2}, {'a': 3}]"
    candidates.extend([{"a": 4}])
    assert repr(candidates).endswith("{'a': 3}, ...] (4 candidates)")


def test_values_may_be_arrays():
    one, other = ({"a": np.array([1, n]), "b": 0} for n in (2, 3))
    assert Candidates([one, other]) == [{"a": np.array([1, 2]), "b": 0}, other]
    assert Candidates([one]) != [other]
    assert Candidates([one]) != [{"a": None, "b": 0}]
    assert Candidates([one]) != [{"a": one["a"]}]
    assert Candidates([one]) != [7]


def test_the_new_ones_are_told_from_the_known():
    one, other = SVC(), SVC()
    known = [{"a": 1, "b": 2.0}, {"clf": one}]
    more = [{"b": np.float64(2.0), "a": 1}, {"a": True, "b": 2.0}, {"clf": one}, {"clf": other}]
    assert new_ones(more, known) == [more[1], more[3]]
    days = np.array(["2026-01-01", "2026-01-02", "2026-01-03"], dtype="datetime64[D]")
    some, others = (grid_candidates({"day": part}) for part in (days[:1], days[1:]))
    assert new_ones(others, some) is others
    assert new_ones(some, grid_candidates({"day": days})) == []
    drawn = drawn_candidates({"a": [1, 2]}, 2, 0)
    assert new_ones(drawn, []) is drawn


def test_the_known_are_recognised_by_what_they_hold():
    known = [{"w": {0: 1, 1: 2}}, {"w": [np.ones(2)]}, {"w": (3, [4])}, {"w": np.ones(3)}]
    assert new_ones(copy.deepcopy(known), known) == []
    others = [{"w": {0: 1, 1: 3}}, {"w": [np.zeros(2)]}, {"w": (3, [5])}, {"w": np.ones(2)}]
    assert new_ones(others, known) is others


def test_any_value_can_be_compared():
    series = pd.Series([1, 2])
    assert are_same({"w": series}, {"w": series})
    for one, other in itertools.pairwise([series, series * 2, [np.ones(2)], [np.zeros(2)], None]):
        assert not are_same({"w": one}, {"w": other})
