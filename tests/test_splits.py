"""Persisted splits: what is written, what is read, and what happens if something breaks."""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import files_below
from scipy import sparse
from sklearn.model_selection import (
    KFold,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
)

import mscourse
from mscourse import persist

N = 60
X = np.random.default_rng(0).normal(size=(N, 4))
Y = np.arange(N) % 3


def sets(splits: mscourse.Splits) -> list[tuple[set[int], set[int]]]:
    return [(set(split.train_indices), set(split.test_indices)) for split in splits]


# -- writing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cv", [KFold(3), StratifiedKFold(4), TimeSeriesSplit(3), ShuffleSplit(2, random_state=0)]
)
@pytest.mark.parametrize("mmap_mode", ["c", "r", None])
def test_the_arrays_are_the_rows_of_the_splitter(tmp_path, cv, mmap_mode):
    splits = mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d", cv=cv, random_state=1)
    for split, (train, test) in zip(splits, cv.split(X, Y), strict=True):
        assert (split.n_train, split.n_test) == (len(train), len(test))
        if splits.layout != "ring":
            np.testing.assert_array_equal(split.train_indices, train)
            np.testing.assert_array_equal(split.test_indices, test)
        assert set(split.train_indices) == set(train)
        assert set(split.test_indices) == set(test)
        X_train, y_train, X_test, y_test = split.load(mmap_mode)
        np.testing.assert_array_equal(X_train, X[split.train_indices])
        np.testing.assert_array_equal(y_train, Y[split.train_indices])
        np.testing.assert_array_equal(X_test, X[split.test_indices])
        np.testing.assert_array_equal(y_test, Y[split.test_indices])


def test_an_int_means_what_it_means_in_scikit_learn(tmp_path):
    def folds(splitter):
        return [(set(train), set(test)) for train, test in splitter.split(X, Y)]

    def persisted(y):
        return sets(mscourse.persist_cv_splits(X, y, folder=tmp_path, name="d", cv=4))

    assert persisted(Y) == folds(StratifiedKFold(4))
    assert persisted(np.array(["a", "b", "c"])[Y]) == folds(StratifiedKFold(4))
    assert persisted(X[:, 0]) == folds(KFold(4))
    assert persisted(None) == folds(KFold(4))


def test_an_iterable_of_pairs_and_of_masks(tmp_path):
    train = np.arange(N) < 40
    pairs = ((a, b) for a, b in [(train, ~train), ([3, 1], [0])])
    splits = mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d", cv=pairs)
    assert splits.layout == "block"
    assert splits[0].n_train == 40
    assert splits[1].train_indices.tolist() == [3, 1]


@pytest.mark.parametrize(
    "y", [None, Y, Y == 1, np.stack([Y, -Y], axis=1), X[:, :2], np.array(["é", "ü", "ab"])[Y]]
)
def test_targets_of_all_kinds(tmp_path, y):
    splits = mscourse.persist_cv_splits(X, y, folder=tmp_path, name="d", cv=KFold(3))
    _, y_train, _, y_test = splits[1].load()
    if y is None:
        assert y_train is None
        assert y_test is None
    else:
        np.testing.assert_array_equal(y_train, y[splits[1].train_indices])
        np.testing.assert_array_equal(y_test, y[splits[1].test_indices])
        assert y_train.dtype == y.dtype


def test_data_of_all_kinds(tmp_path):
    for data in (
        X.astype(np.float32),
        X.tolist(),
        np.asfortranarray(X),
        X.reshape(N, 2, 2),
        X[:, 0],
        np.array([f"text {i}" for i in range(N)]),
        np.arange(N).astype("datetime64[D]"),
        np.zeros((N, 0)),
        pd.DataFrame(X, columns=list("abcd")),
        X > 0,
    ):
        splits = mscourse.persist_cv_splits(data, folder=tmp_path, name="d", cv=KFold(3))
        X_train, _, X_test, _ = splits[0].load()
        array = np.asarray(data)
        np.testing.assert_array_equal(X_train, array[splits[0].train_indices])
        np.testing.assert_array_equal(X_test, array[splits[0].test_indices])
        assert X_train.dtype == array.dtype
    frame = pd.DataFrame({"y": ["yes", "no", "no"] * (N // 3)})
    splits = mscourse.persist_cv_splits(X, frame["y"], folder=tmp_path, name="d", cv=2)
    assert splits[0].load()[1].dtype == "<U3"


def test_dtype_converts_while_it_writes(tmp_path):
    splits = mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d", dtype="float32")
    X_train = splits[0].load()[0]
    assert X_train.dtype == np.float32
    np.testing.assert_array_equal(X_train, X[splits[0].train_indices].astype(np.float32))
    mixed = pd.DataFrame(X).astype(object)
    splits = mscourse.persist_cv_splits(mixed, folder=tmp_path, name="d", cv=3, dtype="float64")
    np.testing.assert_array_equal(splits[0].load()[0], X[splits[0].train_indices])


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.coo_array])
@pytest.mark.parametrize("cv", [KFold(4, shuffle=True, random_state=0), TimeSeriesSplit(3)])
def test_sparse_data_stay_sparse_and_are_not_copied(tmp_path, kind, cv):
    dense = np.where(X > 0.5, X, 0.0)
    dense[7] = 0  # a row without elements
    splits = mscourse.persist_cv_splits(kind(dense), Y, folder=tmp_path, name="s", cv=cv)
    for split in splits:
        X_train, _, X_test, _ = split.load()
        assert sparse.issparse(X_train)
        assert X_train.format == "csr"
        np.testing.assert_array_equal(X_train.toarray(), dense[split.train_indices])
        np.testing.assert_array_equal(X_test.toarray(), dense[split.test_indices])
        for part in (X_train.data, X_train.indices):
            assert part.base is not None, "a copy was made"
            assert isinstance(_root(part), np.memmap)


def _root(array: np.ndarray) -> object:
    """The array that owns the memory of a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def test_writing_needs_no_second_copy_of_the_data(tmp_path):
    # In a process of its own: the peak of this one is that of all tests before. The child may
    # take, beyond the data, less than half of the data.
    code = f"""
        import resource, sys
        import numpy as np
        import mscourse
        from sklearn.model_selection import KFold
        mscourse.persist_cv_splits(np.zeros((9, 1)), folder={str(tmp_path)!r}, name="warm-up", cv=3)
        X = np.ones((400_000, 50))  # 160 MB, written
        unit = 1 if sys.platform == "darwin" else 1024
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        cv = KFold(5, shuffle=True, random_state=0)
        mscourse.persist_cv_splits(X, folder={str(tmp_path)!r}, name="big", cv=cv)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        print((after - before) / X.nbytes)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 0.5


def test_a_dataset_is_replaced_as_a_whole(tmp_path):
    old = mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d", cv=3)
    X_old, rows_old = old[0].load()[0], old[0].train_indices
    new = mscourse.persist_cv_splits(-X, Y, folder=tmp_path, name="d", cv=4)
    assert len(mscourse.open_splits(tmp_path, "d")) == 4
    assert len(files_below(tmp_path)) == 4  # X, y, rows and the manifest: nothing is left behind
    np.testing.assert_array_equal(X_old, X[rows_old])  # what is open stays readable
    with pytest.raises(mscourse.SplitsError, match="written anew"):
        pickle.loads(pickle.dumps(old))
    assert len(pickle.loads(pickle.dumps(new))) == 4


def test_a_temporary_folder_goes_with_the_block():
    with mscourse.persist_cv_splits(X, Y, folder=None, name="d") as splits:
        folder = splits.folder
        assert files_below(folder)
    assert not folder.exists()
    assert not folder.parent.exists()


def test_a_named_folder_stays(tmp_path):
    with mscourse.persist_cv_splits(X, Y, folder=tmp_path / "deep" / "er", name="d") as splits:
        pass
    mscourse.open_splits(tmp_path / "deep" / "er", "d").verify()
    splits.delete()
    assert not splits.folder.exists()


# -- reading ---------------------------------------------------------------------------------------


def test_the_sets_are_views_of_one_map(tmp_path):
    splits = mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d", cv=5, random_state=0)
    X_train, y_train, X_test, y_test = splits[2].load()
    whole_X, whole_y = X_train.base, y_train.base
    assert isinstance(whole_X, np.memmap)
    assert X_test.base is whole_X
    assert y_test.base is whole_y
    for view, whole in ((X_train, whole_X), (X_test, whole_X), (y_train, whole_y)):
        assert np.shares_memory(view, whole)
    assert len(whole_X) == N * 8 // 5  # the ring: 1.6 copies


def test_what_an_estimator_writes_harms_nobody(tmp_path):
    splits = mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d")
    X_train = splits[0].load("c")[0]
    before = X_train.copy()
    X_train[:] = 7
    np.testing.assert_array_equal(splits[0].load("c")[0], before)
    np.testing.assert_array_equal(splits[0].load("r")[0], before)
    splits.verify()
    with pytest.raises(ValueError, match="read-only"):
        splits[0].load("r")[0][0] = 1
    with pytest.raises(mscourse.ParameterError, match="r\\+"):
        splits[0].load("r+")


def test_fewer_rows_are_a_slice(tmp_path):
    splits = mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d")
    whole, part = splits[1].load("r"), splits[1].load("r", n_train=7)
    np.testing.assert_array_equal(part[0], whole[0][:7])
    np.testing.assert_array_equal(part[1], whole[1][:7])
    np.testing.assert_array_equal(part[2], whole[2])
    for wrong in (0, -1, 49):
        with pytest.raises(mscourse.ParameterError, match="between 1 and 48"):
            splits[1].load(n_train=wrong)


def test_splits_are_a_sequence(tmp_path):
    splits = mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d")
    assert len(splits) == len(list(splits)) == 5
    assert splits[-1].index == 4
    with pytest.raises(IndexError, match="5 splits, 0 to 4"):
        splits[5]
    assert "5 splits of 60 rows, ring" in repr(splits)
    on_disk = sum(path.stat().st_size for path in splits.folder.glob("*.npy"))
    assert splits.n_bytes == on_disk


def test_it_opens_in_another_folder_and_never_unpickles(tmp_path):
    splits = mscourse.persist_cv_splits(X, Y, folder=tmp_path / "a", name="d")
    (tmp_path / "b").mkdir()
    splits.folder.rename(tmp_path / "b" / "d")
    moved = mscourse.open_splits(tmp_path / "b", "d")
    moved.verify()
    for path in moved.folder.glob("*.npy"):
        np.load(path, allow_pickle=False)


def test_warm_reads_once_per_host(tmp_path, client):
    splits = mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d")
    seconds = splits.warm(client)
    assert list(seconds) == list(mscourse.hosts_memory(client))
    assert all(s > 0 for s in seconds.values())
    next(splits.folder.glob("X-*")).unlink()
    with pytest.raises(mscourse.ClusterError, match="X-"):
        splits.warm(client)


# -- faults ----------------------------------------------------------------------------------------


def test_damage_is_found_and_named(tmp_path):
    splits = mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d")
    splits.verify()
    path = next(splits.folder.glob("y-*.npy"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(mscourse.DamagedSplitsError, match=path.name):
        splits.verify()
    path.write_bytes(content[:-1])
    with pytest.raises(mscourse.DamagedSplitsError, match="torn"):
        mscourse.open_splits(tmp_path, "d")
    with pytest.raises(mscourse.DamagedSplitsError, match="torn"):
        splits[0].load()
    path.unlink()
    with pytest.raises(mscourse.DamagedSplitsError, match="gone"):
        splits[0].load()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": "other"}'])
def test_a_torn_manifest_is_named(tmp_path, content):
    splits = mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d")
    (splits.folder / "manifest.json").write_text(content)
    with pytest.raises(mscourse.DamagedSplitsError, match=r"manifest\.json"):
        mscourse.open_splits(tmp_path, "d")


def test_a_newer_format_is_named(tmp_path):
    splits = mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d")
    path = splits.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))
    with pytest.raises(mscourse.SplitsError, match="newer"):
        mscourse.open_splits(tmp_path, "d")


def test_a_name_with_a_typo(tmp_path):
    mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="digits")
    with pytest.raises(mscourse.SplitsNotFoundError, match="Did you mean 'digits'"):
        mscourse.open_splits(tmp_path, "digist")
    with pytest.raises(FileNotFoundError, match="none at all"):
        mscourse.open_splits(tmp_path / "elsewhere", "digits")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"X": pd.DataFrame({"a": ["x", "y"] * 30, "b": range(60)})}, "Python objects"),
        ({"X": 3.0}, "must be an array with rows"),
        ({"y": Y[:-1]}, "X has 60 rows, but y has 59"),
        ({"y": np.zeros((N, 1, 1))}, "one or two dimensions"),
        ({"y": [object()] * N, "cv": KFold(3)}, "Python objects"),
        ({"y": sparse.csr_matrix(Y)}, "toarray"),
        ({"cv": 1}, "cv=1"),
        ({"cv": KFold(61)}, "cv=KFold"),
        ({"cv": 30}, "cv=30"),
        ({"cv": [([0.5], [1])]}, "integers"),
        ({"cv": "five"}, "cv='five'"),
        ({"name": "a/b"}, "plain folder name"),
        ({"name": ".."}, "plain folder name"),
        ({"name": ""}, "plain folder name"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(tmp_path, arguments, says):
    given = {"X": X, "y": Y, "folder": tmp_path, "name": "d"} | arguments
    with pytest.raises(mscourse.ParameterError, match=says):
        mscourse.persist_cv_splits(**given)
    assert not list(tmp_path.iterdir())


def test_values_that_do_not_convert(tmp_path):
    data = pd.DataFrame({"a": ["1", "two"] * 30})
    with pytest.raises(mscourse.ParameterError, match="two"):
        mscourse.persist_cv_splits(data, folder=tmp_path, name="d", dtype="float64")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_too_small_is_told_before_writing(tmp_path, monkeypatch):
    full = SimpleNamespace(free=100)
    monkeypatch.setattr(persist.shutil, "disk_usage", lambda _: full)
    with pytest.raises(mscourse.SplitsError, match=r"need 0\.0 MB, but .* has 0\.0 MB free"):
        mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="no RLIMIT_FSIZE on Windows")
def test_a_disk_that_fills_up_leaves_what_was_there(tmp_path):
    """A limit on the size of files makes a write fail half-way, as a full disk does."""
    mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d", cv=3)
    before = files_below(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        with pytest.raises(mscourse.SplitsError, match="What was there before is unchanged"):
            mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d", cv=5)
        with pytest.raises(mscourse.SplitsError):
            mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="new", cv=5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert files_below(tmp_path) == before
    assert len(mscourse.open_splits(tmp_path, "d")) == 3


def test_a_writer_that_is_killed_leaves_what_was_there(tmp_path):
    mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d", cv=3)
    code = f"""
        import os, signal
        import numpy as np
        import mscourse
        from mscourse import arrayfile
        # Killed between the data files and the manifest: the last moment at which it can matter.
        arrayfile.ArrayWriter.finish = lambda self: os.kill(os.getpid(), signal.SIGKILL)
        mscourse.persist_cv_splits(np.ones((60, 4)), folder={str(tmp_path)!r}, name="d", cv=5)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -signal.SIGKILL
    left = [Path(name) for name in files_below(tmp_path) if name.endswith(".partial")]
    assert left, "the writer was killed too early for this test"
    splits = mscourse.open_splits(tmp_path, "d")
    splits.verify()
    assert len(splits) == 3

    # What it has left goes with the next writing, but not while it may still be at work.
    mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d", cv=4)
    assert set(left) <= {Path(name) for name in files_below(tmp_path)}
    long_ago = time.time() - 7200
    for path in left:
        os.utime(tmp_path / path, (long_ago, long_ago))
    mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d", cv=4)
    assert len(files_below(tmp_path)) == 4


@pytest.mark.parametrize(
    "cv",
    [
        KFold(4),
        RepeatedKFold(n_splits=3, n_repeats=2, random_state=0),
        TimeSeriesSplit(3),
        ShuffleSplit(3, random_state=0),
    ],
    ids=["ring", "rings", "line", "block"],
)
@pytest.mark.parametrize("is_sparse", [False, True], ids=["dense", "sparse"])
def test_scikit_learn_finds_the_same_rows_in_as_cv(tmp_path, cv, is_sparse):
    X, y = np.arange(120.0).reshape(40, 3), np.arange(40)
    given = sparse.csr_matrix(X) if is_sparse else X
    splits = mscourse.persist_cv_splits(given, y, cv=cv, folder=tmp_path, name="rows")
    X_stored, y_stored, pairs = splits.as_cv()
    assert sorted(y_stored) == y.tolist()
    dense = X_stored.toarray() if is_sparse else X_stored
    np.testing.assert_array_equal(dense, X[y_stored])
    for (train, test), (train_rows, test_rows) in zip(pairs, cv.split(X), strict=True):
        assert set(y_stored[train]) == set(train_rows)
        assert set(y_stored[test]) == set(test_rows)
