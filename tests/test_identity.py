"""What is taken for the same in a journal: equal values in any process, and no others."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC

import mscourse
from mscourse.errors import ParameterError
from mscourse.identity import as_shown, described, differences, key_of


def module_function():
    return 1


class Scales:
    """Has methods whose results depend on what it is."""

    def __init__(self, factor):
        self.factor = factor

    def scale(self, X):
        return self.factor * X

    @classmethod
    def make(cls):
        return cls(1)


def recursive(step):
    def down(n):
        return down(n - step) if n > 0 else n

    return down


def unfinished():
    """Give a function that uses a name which has no value yet."""

    def use():
        return later

    described(use)
    later = 1
    return use


VALUES = [
    *(None, True, False, 0, 1, 1.0, -0.5, float("nan"), float("inf"), "1", "", b"1"),
    *((1, 2), [1, 2], [1, 2.0], {"a": 1}, {"a": 2}, {1: 2}),
    *(np.arange(3), np.arange(3.0), np.arange(3).reshape(1, 3), np.float32),
    *(SVC(), SVC(C=2), SVC(kernel="linear"), SVC, Pipeline([("svc", SVC())])),
    *(Pipeline([("svc", SVC(C=3))]), accuracy_score, module_function, partial(module_function)),
    *(lambda: 1, lambda: 2, lambda: {1, 2}, np.random.RandomState(0), np.random.RandomState(1)),
    *(make_scorer(accuracy_score), make_scorer(accuracy_score, greater_is_better=False)),
    *(Scales(1).scale, Scales(2).scale, Scales.scale, Scales.make, SVC().fit, SVC(C=2).fit),
    *("a".join, "b".join, len, partial, recursive(1), recursive(2), unfinished()),
    *(lambda *, a=1: a, lambda *, a=2: a, lambda a=1: a, lambda a=2: a),
    *(np.arange(2000) == 0, np.arange(2000) % 1999 == 0),
]


def test_values_that_differ_are_told_apart_and_equal_ones_are_not():
    keys = [key_of(described(value)) for value in VALUES]
    assert len(set(keys)) == len(keys)
    assert key_of(described(np.float64(0.5))) == key_of(described(0.5))
    assert key_of(described(np.int64(3))) == key_of(described(3))
    assert key_of(described(SVC(C=np.float64(2)))) == key_of(described(SVC(C=2.0)))


def test_a_description_is_the_same_in_another_process():
    program = (
        "from test_identity import VALUES, described, key_of\n"
        "print([key_of(described(value)).hex() for value in VALUES])"
    )
    there = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent,
        env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    here = [key_of(described(value)).hex() for value in VALUES]
    assert there.stdout.strip() == repr(here)


def calls_each_other():
    def one():
        return other()

    def other():
        return one()

    return one


def endless():
    values = []
    values.append(values)
    return values


def deep():
    values = []
    for _ in range(100_000):
        values = [values]
    return values


@pytest.mark.parametrize("make", [calls_each_other, endless, deep])
def test_what_cannot_be_told_from_others_is_refused(make):
    with pytest.raises(ParameterError, match="holds itself, or is nested very deeply"):
        described(make())


def test_integers_may_be_as_long_as_they_like():
    large, larger = described(10**5000), described(10**5000 + 1)
    assert large != larger
    assert key_of(large) != key_of(larger)
    assert as_shown(large) == hex(10**5000)
    assert described(-(2**64)) == -(2**64)


def test_differences_name_the_place():
    there = {"a": {"b": 1, "c": "x"}, "only": 1}
    here = {"a": {"b": True, "c": "x"}, "new": [1] * 100}
    told = list(differences(there, here))
    assert told[0] == "a.b was 1, and is true"
    assert told[1] == "only was 1, and is nothing"
    assert told[2].startswith("new was nothing, and is [1, 1, ")
    assert told[2].endswith(" ...")


X = np.random.default_rng(0).normal(size=(60, 2))
Y = np.arange(60) % 2
MIXED = pd.DataFrame({"a": X[:, 0], "b": Y, "c": list("xyz") * 20})
WEIGHTS = {"a": X[:, 0] ** 2, "b": X[:, 1] ** 2}

# Pairs of data that differ in nothing that a file of theirs has.
ALIKE = {
    "names of columns": (
        {"X": pd.DataFrame(X, columns=["a", "b"])},
        {"X": pd.DataFrame(X, columns=["b", "a"])},
    ),
    "names of columns of several types": (
        {"X": MIXED},
        {"X": MIXED.rename(columns={"a": "x", "c": "a"})},
    ),
    "a frame, or an array": ({"X": pd.DataFrame(X, columns=["a", "b"])}, {"X": X}),
    "columns that are empty": (
        {"X": sparse.csr_matrix((X.ravel(), ([*range(60)] * 2, [0] * 60 + [1] * 60)), (60, 2))},
        {"X": sparse.csr_matrix((X.ravel(), ([*range(60)] * 2, [0] * 60 + [1] * 60)), (60, 9))},
    ),
    "which metadata are which": (
        {"X": X, "metadata": WEIGHTS},
        {"X": X, "metadata": {"b": WEIGHTS["a"], "a": WEIGHTS["b"]}},
    ),
}


@pytest.mark.parametrize("pair", ALIKE.values(), ids=ALIKE)
def test_data_are_described_by_more_than_their_files(tmp_path, pair):
    def description(data):
        given = {"y": Y, "cv": 3, "folder": tmp_path, "name": "d", **data}
        return mscourse.persist_cv_splits(given.pop("X"), **given).description()

    one, other = map(description, pair)
    assert one == description(pair[0])  # persisted again
    assert one["sha256"] == other["sha256"]
    assert one != other


def test_a_journal_of_data_with_other_names_is_refused(tmp_path):
    journal = tmp_path / "j.journal"
    with ThreadPoolExecutor(1) as executor:

        def search(data):
            splits = mscourse.persist_cv_splits(data, Y, cv=3, folder=tmp_path, name="d")
            return mscourse.grid_search(SVC(), {}, splits, engines=executor, journal=journal)

        frame = pd.DataFrame(X, columns=["a", "b"])
        assert search(frame).wait(60)
        assert search(frame).n_done == 3
        with pytest.raises(mscourse.JournalMismatchError, match=r"data\.sha256"):
            search(frame.set_axis(["b", "a"], axis=1))
