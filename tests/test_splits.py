"""Persisted splits: what is written, what is read, and what happens if something breaks."""

from __future__ import annotations

import hashlib
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
import polars as pl
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
from sklearn.naive_bayes import GaussianNB

import mscourse
from mscourse import persist, storedfile
from mscourse.splits import DATA_FOLDER_VARIABLE

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


def test_the_manifest_does_not_repeat_lists_of_rows(tmp_path):
    pairs = [(list(range(i + 1, N)), [i]) for i in range(N - 1)]
    splits = mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d", cv=pairs)
    assert (splits.folder / "manifest.json").stat().st_size < 3000


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


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (pl.Series([1, 0] * 30), np.array([1, 0] * 30)),
        (pd.Series(["yes", "no"] * 30), np.array(["yes", "no"] * 30)),
        (pd.Series(["a", "b"] * 30, dtype="category"), np.array(["a", "b"] * 30)),
        (pd.Series([3, 4] * 30, dtype="category"), np.array([3, 4] * 30)),
        (pl.Series(["a", "b"] * 30, dtype=pl.Categorical), np.array(["a", "b"] * 30)),
        (pd.Series([True, False] * 30, dtype="boolean"), np.array([True, False] * 30)),
        (pd.Series([1, 2] * 30, dtype="Int64"), np.array([1, 2] * 30)),
        (np.array([1, 2] * 30, dtype=object), np.array([1, 2] * 30)),
        (np.array([1, np.nan] * 30, dtype=object), np.array([1, np.nan] * 30)),
        (np.array([True, False] * 30, dtype=object), np.array([True, False] * 30)),
        (np.array(["é", ""] * 30, dtype=object), np.array(["é", ""] * 30)),
        (np.array(["a", "b"] * 30, dtype=np.dtypes.StringDType()), np.array(["a", "b"] * 30)),
        (["a", "b"] * 30, np.array(["a", "b"] * 30)),
        # A frame of one column is that column; an array of one column stays as it is.
        (pd.DataFrame({"y": ["a", "b"] * 30}), np.array(["a", "b"] * 30)),
        (pl.DataFrame({"y": [0.5, 1] * 30}), np.array([0.5, 1] * 30)),
        (Y.reshape(N, 1), Y.reshape(N, 1)),
        (pd.DataFrame({"a": Y, "b": -Y}), np.stack([Y, -Y], axis=1)),
        (pd.DataFrame({"a": ["x"] * N, "b": ["yy"] * N}), np.array([["x", "yy"]] * N)),
    ],
)
def test_targets_become_plain_arrays(tmp_path, given, expected):
    splits = mscourse.persist_cv_splits(X, given, folder=tmp_path, name="d", cv=KFold(3))
    _, y_train, _, y_test = splits[1].load()
    assert y_train.dtype == expected.dtype
    np.testing.assert_array_equal(y_train, expected[splits[1].train_indices])
    np.testing.assert_array_equal(y_test, expected[splits[1].test_indices])


def test_strings_in_a_frame_of_one_column_are_stratified(tmp_path):
    y = pd.DataFrame({"y": ["a"] * 50 + ["b"] * 10})
    for split in mscourse.persist_cv_splits(X, y, folder=tmp_path, name="d", cv=5):
        assert (split.load()[3] == "b").sum() == 2


def test_classes_that_are_floats_are_warned_of_where_the_call_stands(tmp_path):
    y = np.arange(200.0) // 20
    with pytest.warns(UserWarning, match=r"(?s)KFold.*10 values.*astype\(int\)") as caught:
        splits = mscourse.persist_cv_splits(y[:, np.newaxis], y, folder=tmp_path, name="d")
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(np.sort(splits[0].test_indices), np.arange(40))


@pytest.mark.parametrize(
    ("y", "cv"),
    [
        (np.arange(200.0), 5),  # whole numbers, as of the diabetes data
        (np.linspace(0, 1, 200), 5),
        (np.r_[np.nan, np.zeros(199)], 5),
        (np.r_[np.inf, np.zeros(199)], 5),
        (np.zeros((200, 2)), 5),
        (np.linspace(0, 1e300, 200), 5),
        (np.arange(200) % 2, 5),
        (np.arange(200) % 2.0, StratifiedKFold(5)),
    ],
)
def test_other_targets_are_not_warned_of(tmp_path, y, cv):
    mscourse.persist_cv_splits(np.zeros((200, 2)), y, folder=tmp_path, name="d", cv=cv)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_classes_are_stratified_as_a_list_and_as_a_column(tmp_path, shape):
    y = np.repeat([0, 1], [50, 10]).reshape(shape)
    for split in mscourse.persist_cv_splits(X, y, folder=tmp_path, name="d", cv=5):
        assert (split.load()[3] == 1).sum() == 2


def test_the_order_of_the_rows_is_the_same_each_time_unless_it_is_to_be_another(tmp_path):
    def checksums(**seed):
        return mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d", **seed).description()[
            "sha256"
        ]

    assert checksums() == checksums() == checksums(random_state=0)
    assert checksums(random_state=None) != checksums(random_state=None)


def test_data_of_all_kinds(tmp_path):
    for data in (
        X.astype(np.float32),
        X.tolist(),
        np.asfortranarray(X),
        X.reshape(N, 2, 2),
        X.astype(np.float16),
        np.where(X > 1, np.nan, X),
        X[:, 0],
        pd.Series(X[:, 0]),
        pl.Series(X[:, 0]),
        np.arange(N).astype("datetime64[D]"),
        np.array([b"bytes"] * N),
        np.zeros((N, 0)),
        X > 0,
    ):
        splits = mscourse.persist_cv_splits(data, folder=tmp_path, name="d", cv=KFold(3))
        X_train, _, X_test, _ = splits[0].load()
        array = np.asarray(data)
        np.testing.assert_array_equal(X_train, array[splits[0].train_indices])
        np.testing.assert_array_equal(X_test, array[splits[0].test_indices])
        assert X_train.dtype == array.dtype


def test_dtype_converts_while_it_writes(tmp_path):
    splits = mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d", dtype="float32")
    X_train = splits[0].load()[0]
    assert X_train.dtype == np.float32
    np.testing.assert_array_equal(X_train, X[splits[0].train_indices].astype(np.float32))
    for objects in (X.astype(object), X.astype(str)):
        splits = mscourse.persist_cv_splits(
            objects, folder=tmp_path, name="d", cv=3, dtype="float64"
        )
        np.testing.assert_array_equal(splits[0].load()[0], X[splits[0].train_indices])


@pytest.mark.parametrize(
    ("values", "dtype", "says"),
    [
        ([1, 300], "int8", "as int8: 300 would become 44"),
        ([1, -1], "uint8", "as uint8: -1 would become 255"),
        ([1.0, 2.5], "int64", "as int64: 2.5 would become 2"),
        ([1.0, np.nan], "int32", "as int32: nan would become"),
        ([0, 2], "bool", "as bool: 2 would become True"),
        (np.array([1, 300], dtype=object), "uint8", "as uint8: .*300"),
    ],
)
def test_a_type_that_cannot_hold_the_numbers_is_refused(tmp_path, values, dtype, says):
    data = np.resize(np.asarray(values), (N, 1))
    with pytest.raises(mscourse.ParameterError, match=says):
        mscourse.persist_cv_splits(data, Y, folder=tmp_path, name="d", dtype=dtype)
    assert list(tmp_path.rglob("*.npy")) == []
    fitting = np.resize(np.asarray([0.0, 1.0]), (N, 1))
    splits = mscourse.persist_cv_splits(fitting, Y, folder=tmp_path, name="d", dtype=dtype)
    assert splits[0].load()[0].dtype == dtype


@pytest.mark.parametrize(
    "kind",
    [
        sparse.csr_matrix,
        sparse.csc_matrix,
        sparse.csr_array,
        sparse.coo_array,
        sparse.dia_array,
    ],
)
@pytest.mark.parametrize("cv", [KFold(4, shuffle=True, random_state=0), TimeSeriesSplit(3)])
def test_sparse_data_stay_sparse_and_are_not_copied(tmp_path, kind, cv):
    dense = np.where(X > 0.5, X, 0.0)
    dense[7] = 0  # a row without elements
    splits = mscourse.persist_cv_splits(kind(dense), Y, folder=tmp_path, name="s", cv=cv)
    for split in splits:
        X_train, _, X_test, _ = split.load()
        container = sparse.csr_matrix if kind.__name__.endswith("matrix") else sparse.csr_array
        assert type(X_train) is type(X_test) is container
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


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what a descriptor is of")
def test_after_a_power_cut_the_manifest_names_what_is_there(tmp_path, monkeypatch):
    """The names of files are on the disk when their folder is, and only then."""
    flushed: list[tuple[str, bool, bool]] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_dir():
            names = {each.name for each in (tmp_path / "digits").iterdir()}
            has_data = any(name.startswith("X-") and name.endswith(".npy") for name in names)
            flushed.append((path.name, has_data, "manifest.json" in names))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    mscourse.persist_cv_splits(np.ones((10, 2)), np.arange(10) % 2, folder=tmp_path, name="digits")
    assert flushed == [
        ("digits", True, False),
        ("digits", True, True),
        (tmp_path.name, True, True),
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what a descriptor is of")
@pytest.mark.parametrize(
    "given",
    [X, sparse.csr_matrix(X), ["text"] * N, pd.DataFrame({"a": Y, "b": ["x"] * N})],
    ids=["dense", "sparse", "text", "frame"],
)
def test_after_a_power_cut_what_is_there_is_whole(tmp_path, monkeypatch, given):
    """The bytes of a file are on the disk before it has its name, the manifest's too."""
    flushed: set[str] = set()
    named: set[str] = set()
    fsync, replace = os.fsync, Path.replace

    def noted(descriptor: int) -> None:
        flushed.add(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def named_when_flushed(self: Path, target: Path) -> Path:
        assert self.name in flushed, f"{target.name} may be empty after a power cut"
        named.add(target.name)
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Path, "replace", named_when_flushed)
    splits = mscourse.persist_cv_splits(given, Y, folder=tmp_path, name="d")
    assert named == {path.name for path in splits.folder.iterdir()}


def test_the_checksum_is_of_what_was_written_also_when_it_lags_behind(tmp_path, monkeypatch):
    """A block is not filled anew while its checksum is taken."""
    take = storedfile.FileWriter._take_checksum

    def take_late(self, block, n_bytes):
        time.sleep(0.005)
        take(self, block, n_bytes)

    monkeypatch.setattr(storedfile, "_BLOCK_BYTES", 4096)
    monkeypatch.setattr(storedfile.FileWriter, "_take_checksum", take_late)
    X = np.random.default_rng(0).random((2000, 5))  # 20 blocks
    mscourse.persist_cv_splits(X, folder=tmp_path, name="d", cv=KFold(3)).verify()


def test_a_dataset_is_replaced_as_a_whole(tmp_path):
    old = mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d", cv=3)
    X_old, rows_old = old[0].load()[0], old[0].train_indices
    new = mscourse.persist_cv_splits(-X, Y, folder=tmp_path, name="d", cv=4)
    assert len(mscourse.open_splits(tmp_path, "d")) == 4
    assert len(files_below(tmp_path)) == 4  # X, y, rows and the manifest: nothing is left behind
    np.testing.assert_array_equal(X_old, X[rows_old])  # what is open stays readable
    with pytest.raises(mscourse.DamagedSplitsError, match="written anew"):
        pickle.loads(pickle.dumps(old))
    assert len(pickle.loads(pickle.dumps(new))) == 4


def test_an_interrupt_just_before_the_manifest_leaves_what_was_there(tmp_path, monkeypatch):
    mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d", cv=3)
    before = files_below(tmp_path)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(persist, "write_manifest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mscourse.persist_cv_splits(-X, Y, folder=tmp_path, name="d", cv=4)
    assert files_below(tmp_path) == before
    splits = mscourse.open_splits(tmp_path, "d")
    splits.verify()
    assert len(splits) == 3


def test_a_temporary_folder_is_private_and_goes_with_the_block():
    with mscourse.persist_cv_splits(X, Y, folder=None, name="d") as splits:
        folder = splits.folder
        assert files_below(folder)
        assert folder.parent.stat().st_mode & 0o077 == 0
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
    assert [split.index for split in splits[1:3]] == [1, 2]
    assert [split.index for split in splits[::-2]] == [4, 2, 0]
    assert splits[np.int64(1)].index == 1
    for wrong in ("a", 1.5, None):
        with pytest.raises(TypeError, match=f"by integers, or taken by slices, not by {wrong!r}"):
            splits[wrong]
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


def n_bytes_read():
    """Bytes that this process has read of files, from the memory of the system or not."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="Only Linux tells.")
def test_to_warm_is_to_read_all(tmp_path, client):
    splits = mscourse.persist_cv_splits(
        np.ones((50_000, 20)), np.arange(50_000) % 2, folder=tmp_path, name="d"
    )
    (engine,) = mscourse.one_engine_per_host(client).values()
    before = client[engine].apply_sync(n_bytes_read)
    splits.warm(client)
    assert client[engine].apply_sync(n_bytes_read) - before >= splits.n_bytes > 8e6


def test_a_node_that_was_sent_the_splits_warms_its_own_copy(tmp_path, monkeypatch):
    splits = mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d")
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path / "node"))
    (tmp_path / "node").mkdir()
    splits.folder.rename(tmp_path / "away")  # what the client has is not there on the node
    with mscourse.local_cluster(1) as node:
        with pytest.raises(mscourse.ClusterError, match="no splits"):
            splits.warm(node)
        (tmp_path / "away").rename(tmp_path / "node" / splits.folder_on_nodes)
        assert all(seconds > 0 for seconds in splits.warm(node).values())


# -- metadata of the samples -----------------------------------------------------------------------

WEIGHT = np.linspace(0, 1, N)
METADATA = {
    "sample_weight": WEIGHT,
    "region": ["north", "süd", ""] * (N // 3),
    "when": np.arange(N).astype("datetime64[D]"),
    "costs": pd.DataFrame({"a": WEIGHT, "b": -WEIGHT}),
    "known": pl.Series([True, False] * (N // 2)),
}


@pytest.mark.parametrize(
    "cv",
    [KFold(4), TimeSeriesSplit(3), ShuffleSplit(3, random_state=0)],
    ids=["ring", "line", "block"],
)
def test_metadata_are_sliced_with_the_rows(tmp_path, cv):
    given = {"folder": tmp_path, "name": "d", "cv": cv, "random_state": 0}
    splits = mscourse.persist_cv_splits(X, Y, metadata=METADATA, **given)
    assert splits.metadata_names == tuple(METADATA)
    assert files_below(tmp_path) == {
        f"d/{path.name}" for path in (*splits.folder.glob("*.npy"), splits.folder / "manifest.json")
    }
    arrays = {name: np.asarray(values) for name, values in METADATA.items()}
    stored = splits.open_metadata("r")
    assert list(stored) == list(METADATA)
    for name, array in arrays.items():
        np.testing.assert_array_equal(stored[name], array[splits.rows])
        assert stored[name].dtype.kind == array.dtype.kind
    for split in splits:
        for mmap_mode in ("c", "r", None):
            train, test = split.load_metadata(mmap_mode, n_train=5)
            for name, array in arrays.items():
                np.testing.assert_array_equal(train[name], array[split.train_indices[:5]])
                np.testing.assert_array_equal(test[name], array[split.test_indices])
        train, test = split.load_metadata()
        assert len(train["region"]) == split.n_train
        assert train["sample_weight"].base is test["sample_weight"].base
        assert isinstance(train["sample_weight"].base, np.memmap)
        with pytest.raises(mscourse.ParameterError, match="n_train must be between 1 and"):
            split.load_metadata(n_train=0)
    splits.verify()


def test_metadata_of_the_whole_dataset(tmp_path):
    for cv in (KFold(4), TimeSeriesSplit(3), [(range(40), range(40, 60)), (range(20), [20])]):
        splits = mscourse.persist_cv_splits(
            X, Y, metadata={"number": np.arange(N)}, folder=tmp_path, name="d", cv=cv
        )
        number = splits.load_whole_metadata()["number"]
        assert sorted(number) == list(range(N))
        np.testing.assert_array_equal(splits.load_whole()[0], X[number])
        np.testing.assert_array_equal(splits.as_cv()[1], Y[number])


@pytest.mark.parametrize(
    "given",
    [X[:6], sparse.csr_matrix(X[:6]), list("abcdef"), pd.DataFrame({"a": Y[:6], "b": [*"abcdef"]})],
    ids=["dense", "sparse", "text", "frame"],
)
def test_the_whole_dataset_of_blocks_whose_first_lacks_rows(tmp_path, given):
    y = np.arange(6)
    cv = [([4, 1, 2], [0]), ([2, 1, 5], [3, 4])]
    splits = mscourse.persist_cv_splits(
        given, y, cv=cv, folder=tmp_path, name="d", metadata={"row": y}
    )
    assert splits.layout == "block"
    found, rows = splits.load_whole()
    assert sorted(rows) == y.tolist()
    np.testing.assert_array_equal(splits.load_whole_metadata()["row"], rows)
    if isinstance(given, pd.DataFrame):
        expected = given.iloc[rows].reset_index(drop=True)
        pd.testing.assert_frame_equal(found.reset_index(drop=True), expected)
    elif sparse.issparse(given):
        np.testing.assert_array_equal(found.toarray(), given.toarray()[rows])
    else:
        np.testing.assert_array_equal(found, np.asarray(given)[rows])
    _, y_stored, pairs = splits.as_cv()
    assert [(y_stored[train].tolist(), y_stored[test].tolist()) for train, test in pairs] == cv


def test_there_need_be_no_metadata(tmp_path):
    for metadata in (None, {}):
        splits = mscourse.persist_cv_splits(X, Y, metadata=metadata, folder=tmp_path, name="d")
        assert splits.metadata_names == ()
        assert splits[0].load_metadata() == ({}, {})
        assert splits.load_whole_metadata() == {}


def test_metadata_travel_to_engines(tmp_path, client):
    splits = mscourse.persist_cv_splits(
        X, Y, metadata={"sample_weight": WEIGHT}, folder=tmp_path, name="d"
    )

    def total(split):
        return float(split.load_metadata()[0]["sample_weight"].sum())

    split = splits[1]
    assert client[0].apply_sync(total, split) == pytest.approx(WEIGHT[split.train_indices].sum())


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


def test_another_file_in_the_place_of_one_in_use_is_told(tmp_path):
    """Also one of the same size that was written at the same time."""
    splits = mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d")
    splits[0].load()
    path = next(splits.folder.glob("X-*"))
    status, other = path.stat(), tmp_path / "other"
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    with pytest.raises(mscourse.DamagedSplitsError, match="was written to while"):
        splits[0].load()


@pytest.mark.parametrize("timeout_s", [None, 60])
def test_splits_that_are_deleted_before_an_engine_opens_them(tmp_path, client, timeout_s):
    splits = mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d")
    splits.delete()
    search = mscourse.grid_search(GaussianNB(), {}, splits, engines=client, timeout_s=timeout_s)
    with pytest.raises(mscourse.DamagedSplitsError, match=r"On .*no splits in .* any more"):
        search.wait(20)
    assert search.n_failed == 0


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


def test_the_first_format_is_still_read(tmp_path):
    """As version 0.1 wrote it: no kind of data, no metadata."""
    folder = tmp_path / "old"
    folder.mkdir()
    dense = np.array([[0.0, 1.0], [2.0, 0.0], [0.0, 0.0]])
    csr = sparse.csr_matrix(dense)
    arrays = {
        "X": dense,
        "data": csr.data,
        "indices": csr.indices.astype(np.int32),
        "indptr": csr.indptr.astype(np.int64),
        "y": np.array([7, 8, 9]),
        "rows": np.array([2, 0, 1]),
    }
    entries = {}
    for part, array in arrays.items():
        path = folder / f"{part}-0123abcd.npy"
        np.save(path, array)
        entries[part] = {
            "file": path.name,
            "dtype": array.dtype.str,
            "shape": list(array.shape),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
    for csr_columns, parts in ((None, ["X"]), (2, ["data", "indices", "indptr"])):
        manifest = {
            "format": "mscourse splits",
            "format_version": 1,
            "name": "old",
            "cv": "KFold(2)",
            "random_state": None,
            "token": "0123abcd",
            "layout": "block",
            "n_samples": 3,
            "csr_columns": csr_columns,
            "files": {part: entries[part] for part in (*parts, "y", "rows")},
            "ranges": [[0, 2, 2, 3]],
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        splits = mscourse.open_splits(tmp_path, "old")
        splits.verify()
        assert splits.metadata_names == ()
        X_train, y_train, X_test, y_test = splits[0].load()
        if csr_columns is not None:
            assert isinstance(X_train, sparse.csr_matrix)
            X_train, X_test = X_train.toarray(), X_test.toarray()
        np.testing.assert_array_equal(X_train, dense[:2])
        np.testing.assert_array_equal(X_test, dense[2:])
        assert (y_train.tolist(), y_test.tolist()) == ([7, 8], [9])
        assert pickle.loads(pickle.dumps(splits)).n_samples == 3


@pytest.mark.parametrize("part", ["X", "y", "rows"])
@pytest.mark.parametrize(
    "file", ["/outside.npy", "../outside.npy", "a/b.npy", "a\\b.npy", "c:b.npy", "..", ".", "", 3]
)
def test_a_manifest_cannot_lead_out_of_its_folder(tmp_path, part, file):
    splits = mscourse.persist_cv_splits(X, Y, folder=tmp_path / "f", name="d")
    outside = tmp_path / "f" / "outside.npy"
    content = (splits.folder / splits._files[part].path.name).read_bytes()
    outside.write_bytes(content)
    if file == "/outside.npy":
        file = str(outside)
    path = splits.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][part]["file"] = file
    path.write_text(json.dumps(manifest))
    with pytest.raises(mscourse.DamagedSplitsError, match="persist them again"):
        mscourse.open_splits(tmp_path / "f", "d")
    # Nor is what it names removed when the dataset is replaced.
    mscourse.persist_cv_splits(X, Y, folder=tmp_path / "f", name="d")
    assert outside.read_bytes() == content


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"kind": "pickle"}},
        {"data": {"kind": "csr", "n_columns": 4, "container": "matrix"}},
        {"data": {"kind": "csr"}},
        {"data": {"kind": "arrow", "library": "os"}},
        {"data": {}},
        {"data": None},
        {"metadata": ["sample_weight"]},
        {"files": {}},
        {"ranges": [[0, 48, 48, 1000]]},
        {"ranges": [[-1, 48, 48, 60]]},
        {"ranges": [[1, 2, 3]]},
    ],
)
def test_a_manifest_of_nonsense_is_damage(tmp_path, change):
    splits = mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d")
    path = splits.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(mscourse.DamagedSplitsError, match=r"manifest\.json"):
        mscourse.open_splits(tmp_path, "d")


def test_no_manifest_makes_python_objects(tmp_path):
    splits = mscourse.persist_cv_splits(X, Y, folder=tmp_path, name="d")
    path = splits.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["X"]["dtype"] = "|O"
    path.write_text(json.dumps(manifest))
    with pytest.raises(mscourse.DamagedSplitsError, match="Python objects"):
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
        ({"X": np.array([[1, "x"]] * N, dtype=object)}, "Python objects"),
        ({"X": 3.0}, "must be an array with rows"),
        ({"X": [[1, 2], [3]]}, "X is not an array"),
        ({"X": sparse.coo_array(X[:, 0])}, "two dimensions"),
        ({"dtype": "flaot64"}, "flaot64"),
        ({"dtype": "U5"}, "strings are stored as text"),
        ({"metadata": X[:, 0]}, "must be a dict of arrays"),
        ({"metadata": {"sample weight": X[:, 0]}}, "'sample weight'; it must be the name"),
        ({"metadata": {"../w": X[:, 0]}}, "'../w'; it must be the name"),
        ({"metadata": {3: X[:, 0]}}, "has the name 3"),
        ({"metadata": {"w": X[:-1, 0]}}, r"X has 60 rows, but metadata\['w'\] has 59"),
        ({"metadata": {"w": X.reshape(N, 2, 2)}}, r"metadata\['w'\] must have one or two dim"),
        ({"metadata": {"w": [object()] * N}}, r"metadata\['w'\] holds Python objects"),
        ({"metadata": {"w": ["a", None] * 30}}, r"metadata\['w'\] has a missing value in row 1"),
        ({"metadata": {"w": np.zeros(N, "V8")}}, r"metadata\['w'\] is of dtype"),
        ({"metadata": {"w": sparse.csr_matrix(X)}}, r"metadata\['w'\] is sparse"),
        ({"groups": Y[:-1]}, "X has 60 rows, but groups has 59"),
        ({"y": Y[:-1]}, "X has 60 rows, but y has 59"),
        ({"y": np.zeros((N, 1, 1))}, "one or two dimensions"),
        ({"y": [object()] * N, "cv": KFold(3)}, "Python objects"),
        ({"y": ["a", 1] * 30}, r"Python objects of several types \(str, number\)"),
        ({"y": np.array([True, 2] * 30, dtype=object)}, r"several types \(bool, number\)"),
        ({"y": pd.DataFrame({"a": ["x"] * N, "b": 1})}, r"several types \(str, number\)"),
        ({"y": ["a", "b", None] * 20}, r"y has a missing value in row 2 \(None\)"),
        ({"y": [1, "a"] * 30}, r"Python objects of several types \(number, str\)"),
        ({"y": [np.nan, "a"] * 30}, r"y has a missing value in row 0 \(nan\)"),
        ({"y": ["a", np.nan] * 30}, r"y has a missing value in row 1 \(nan\)"),
        ({"y": pd.Series(["a", None] * 30)}, "y has a missing value in row 1"),
        ({"y": pd.Series(["a", None] * 30, dtype="category")}, "y has a missing value in row 1"),
        ({"y": pl.Series(["a", None] * 30)}, "y has a missing value in row 1"),
        ({"y": pd.DataFrame({"a": ["x"] * N, "b": ["y"] * 59 + [None]})}, "value in row 59"),
        ({"y": np.array([1, None] * 30, dtype=object)}, "y has a missing value in row 1"),
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
    data = np.array(["1", "two"] * 30)
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
