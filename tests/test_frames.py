"""Data frames as data: they come back as frames, with their types, and share memory if they can."""

from __future__ import annotations

import datetime as dt
import json
import pickle
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from helpers import files_below
from polars.testing import assert_frame_equal as assert_polars_equal
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    BaseCrossValidator,
    GroupKFold,
    KFold,
    RepeatedKFold,
    ShuffleSplit,
    TimeSeriesSplit,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import check_array

import mscourse
from mscourse import persist
from mscourse.datakinds import data_source

N = 60
ROWS = np.arange(N)
NUMBERS = pd.DataFrame(np.random.default_rng(0).normal(size=(N, 4)), columns=list("abçd"))
LAYOUTS = {
    "ring": KFold(4),
    "rings": RepeatedKFold(n_splits=3, n_repeats=2, random_state=0),
    "line": TimeSeriesSplit(3),
    "block": ShuffleSplit(3, test_size=0.5, random_state=0),
}

# Every type of pandas that is kept.
COLUMNS = {
    "float": np.linspace(0, 1, N),
    "float with NaN": np.where(ROWS % 3, 1.5, np.nan),
    "float16": ROWS.astype("f2"),
    "int": ROWS,
    "int8": ROWS.astype("i1"),
    "bool": ROWS % 2 == 0,
    "datetime": pd.Series(pd.date_range("2020", periods=N)).where(ROWS % 4 > 0),
    "datetime[s]": pd.date_range("2020", periods=N, unit="s"),
    "timedelta": pd.to_timedelta(ROWS, unit="s"),
    "Berlin": pd.Series(pd.date_range("2020", periods=N, tz="Europe/Berlin")).where(ROWS % 4 > 0),
    "UTC": pd.date_range("2020", periods=N, tz="UTC", unit="s"),
    "offset": pd.date_range("2020", periods=N, tz=dt.timezone(dt.timedelta(hours=1))),
    "Int64": pd.array([1, None] * 30, dtype="Int64"),
    "UInt8": pd.array([1, 2] * 30, dtype="UInt8"),
    "Float32": pd.array([1.5, None] * 30, dtype="Float32"),
    "boolean": pd.array([True, None] * 30, dtype="boolean"),
    "str": pd.array(["ä", None] * 30, dtype="str"),
    "string": pd.array(["ä", None] * 30, dtype="string"),
    "string[python]": pd.array(["ä", None] * 30, dtype="string[python]"),
    "str[python]": pd.array(["ä", ""] * 30, dtype=pd.StringDtype("python", na_value=np.nan)),
    "object": pd.Series(["ä", ""] * 30, dtype=object),
    "object, None": pd.Series(["ä", None] * 30, dtype=object),
    "object, NaN": pd.Series(["ä", np.nan] * 30, dtype=object),
    "object, NA": pd.Series(["ä", pd.NA] * 30, dtype=object),
    "object, all None": pd.Series([None] * N, dtype=object),
    "category": pd.Categorical(["a", None] * 30, categories=["b", "a"]),
    "category, ordered": pd.Categorical(["a", "b"] * 30, categories=["b", "a", "z"], ordered=True),
    "category, int": pd.Categorical([3, 1] * 30),
    "category, many": pd.Categorical([f"c{i * 5}" for i in range(N)]),
    "category, object": pd.Categorical(["a", "b"] * 30, pd.Index(["b", "a"], dtype=object)),
    "category, datetime": pd.Categorical(list(pd.date_range("2020", periods=N))),
    "category, Int64": pd.Categorical(pd.array([3, 1] * 30, dtype="Int64")),
    "arrow string": pd.array(["ä", None] * 30, dtype=pd.ArrowDtype(pa.string())),
    "arrow int32": pd.array([1, None] * 30, dtype=pd.ArrowDtype(pa.int32())),
    "arrow list": pd.Series([[1, 2], None] * 30, dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
}
MIXED = pd.DataFrame({name: pd.Series(values) for name, values in COLUMNS.items()})

POLARS = pl.DataFrame(
    {
        "int": ROWS,
        "float": np.linspace(0, 1, N),
        "float with nulls and NaN": [None, float("nan"), 1.5] * 20,
        "Int8": pl.Series([1, None] * 30, dtype=pl.Int8),
        "string": [f"a string of number {i}" if i % 7 else None for i in range(N)],
        "bool": [True, None] * 30,
        "categorical": pl.Series(["u", "v"] * 30, dtype=pl.Categorical),
        "enum": pl.Series(["u", None] * 30, dtype=pl.Enum(["v", "u", "w"])),
        "datetime": pl.Series([dt.datetime(2020, 1, 1)] * N),
        "Berlin": pl.Series([dt.datetime(2020, 1, 1)] * N).dt.replace_time_zone("Europe/Berlin"),
        "date": [dt.date(2020, 1, 1)] * N,
        "duration": [dt.timedelta(seconds=3)] * N,
        "time": [dt.time(3)] * N,
        "decimal": pl.Series(["1.5"] * N).cast(pl.Decimal(10, 2)),
        "list": [[1, 2], []] * 30,
        "struct": [{"a": 1}] * N,
        "array": pl.Series([[1.0, 2.0]] * N, dtype=pl.Array(pl.Float32, 2)),
        "null": [None] * N,
        "binary": [b"x"] * N,
    }
)


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def persisted(tmp_path, X, y=None, *, cv=KFold(4), **more):  # noqa: B008  # splitters do not change
    return mscourse.persist_cv_splits(
        X, y, folder=tmp_path, name="f", cv=cv, random_state=0, **more
    )


def rows_of(frame, rows):
    """Rows of what was given, as they come back: numbered anew."""
    return (
        frame.iloc[rows].reset_index(drop=True) if isinstance(frame, pd.DataFrame) else frame[rows]
    )


def assert_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, pl.DataFrame):
        assert found.schema == expected.schema
        assert_polars_equal(found, expected)
    else:
        assert found.dtypes.tolist() == expected.dtypes.tolist()
        pd.testing.assert_frame_equal(found, expected, check_exact=True)


def in_map(splits, address):
    """Whether an address lies in a map of the file of X."""
    path = str(next(splits.folder.glob("X-*")))
    with Path("/proc/self/maps").open() as maps:
        spans = [line.split()[0].split("-") for line in maps if line.rstrip().endswith(path)]
    return any(int(start, 16) <= address < int(stop, 16) for start, stop in spans)


# -- frames of one type ----------------------------------------------------------------------------


@pytest.mark.parametrize("cv", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize(
    "frame",
    [
        NUMBERS,
        NUMBERS.astype("float32"),
        NUMBERS > 0,
        NUMBERS.where(NUMBERS > 0),  # NaN
        (NUMBERS * 9).astype("int16"),
        NUMBERS.set_axis([0, 1, 5, 7], axis=1),
        NUMBERS.set_axis(["a", "b", "a", "ü"], axis=1),
        NUMBERS.set_axis(range(10, 10 + N)),
        pd.concat([NUMBERS[["a"]], NUMBERS[["d"]]], axis=1),  # in several blocks
    ],
    ids=["f8", "f4", "bool", "nan", "i2", "int names", "equal names", "index", "blocks"],
)
@pytest.mark.parametrize("mmap_mode", ["c", "r", None])
def test_a_frame_of_numbers_is_a_frame_around_the_map(tmp_path, frame, cv, mmap_mode):
    splits = persisted(tmp_path, frame, cv=cv)
    assert next(splits.folder.glob("X-*")).suffix == ".npy"
    for split in splits:
        X_train, _, X_test, _ = split.load(mmap_mode, n_train=7)
        assert_same(X_train, rows_of(frame, split.train_indices[:7]))
        assert_same(X_test, rows_of(frame, split.test_indices))


class _Taker(ClassifierMixin, BaseEstimator):
    """Keeps the array that scikit-learn makes of a frame."""

    def fit(self, X, y=None):
        self.array_ = check_array(X)
        return self


@linux
@pytest.mark.parametrize("mmap_mode", ["c", "r"])
def test_an_estimator_gets_no_copy_of_a_frame_of_numbers(tmp_path, mmap_mode):
    splits = persisted(tmp_path, NUMBERS)
    whole = splits.open_arrays(mmap_mode)[0]
    X_train = whole[splits[1].range.train]
    the_map = whole._array
    assert isinstance(the_map, np.memmap)
    assert np.shares_memory(X_train.to_numpy(), the_map)
    assert np.shares_memory(_Taker().fit(X_train).array_, the_map)
    assert X_train.to_numpy().flags.c_contiguous
    X_train, _, X_test, _ = splits[1].load(mmap_mode)
    assert in_map(splits, check_array(X_train).ctypes.data)
    assert in_map(splits, check_array(X_test).ctypes.data)


def test_feature_names_reach_the_estimator(tmp_path):
    splits = persisted(tmp_path, NUMBERS)
    X_train = splits[0].load()[0]
    assert StandardScaler().fit(X_train).feature_names_in_.tolist() == list("abçd")


def test_what_is_written_into_a_frame_harms_nobody(tmp_path):
    for frame in (NUMBERS, MIXED):
        splits = persisted(tmp_path, frame)
        X_train = splits[0].load()[0]
        X_train.iloc[0, 0] = 7
        X_train[X_train.columns[0]] = 8.0
        X_train["new"] = 9
        assert_same(splits[0].load()[0], rows_of(frame, splits[0].train_indices))
        splits.verify()


def test_dtype_converts_a_frame_of_one_type(tmp_path):
    splits = persisted(tmp_path, NUMBERS, dtype="float32")
    rows = splits[0].train_indices
    assert_same(splits[0].load()[0], rows_of(NUMBERS.astype("float32"), rows))
    assert splits.n_bytes < 1.6 * N * (4 * 4 + 8) + 300


def test_frames_of_numbers_need_no_pyarrow(tmp_path):
    code = f"""
        import sys
        sys.modules["pyarrow"] = None
        import numpy as np, pandas as pd, mscourse
        from sklearn.model_selection import KFold
        X = pd.DataFrame({{"a": np.arange(9.0), "b": np.arange(9.0)}})
        splits = mscourse.persist_cv_splits(X, folder={str(tmp_path)!r}, name="f", cv=KFold(3))
        assert splits[0].load()[0].columns.tolist() == ["a", "b"]
        for mixed in (X.assign(c="text"), X.astype({{"a": int}})):
            try:
                mscourse.persist_cv_splits(mixed, folder={str(tmp_path)!r}, name="m", cv=KFold(3))
            except mscourse.ParameterError as error:
                print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    for line in done.stdout.splitlines():
        assert "pip install 'mscourse[frames]'" in line
        assert "to_numpy" in line
    assert len(done.stdout.splitlines()) == 2


def test_the_import_brings_no_library_of_frames():
    code = """
        import sys
        import mscourse.splits  # and so all kinds of data; scikit-learn itself imports pandas
        print(*(m for m in ("pandas", "polars", "pyarrow") if m in sys.modules))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


# -- frames of several types -----------------------------------------------------------------------


@pytest.mark.parametrize("cv", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("mmap_mode", ["c", "r", None])
@pytest.mark.parametrize("frame", [MIXED, POLARS], ids=["pandas", "polars"])
def test_all_types_come_back(tmp_path, frame, cv, mmap_mode):
    splits = persisted(tmp_path, frame, cv=cv)
    splits.verify()
    assert {path.split("-")[0] for path in files_below(splits.folder)} == {
        "X", "manifest.json", "rows",
    }  # fmt: skip
    for split in splits:
        X_train, _, X_test, _ = split.load(mmap_mode, n_train=7)
        assert_same(X_train, rows_of(frame, split.train_indices[:7]))
        assert_same(X_test, rows_of(frame, split.test_indices))


def test_missing_strings_stay_what_they_were(tmp_path):
    splits = persisted(tmp_path, MIXED)
    X_train = splits[0].load()[0]
    for name, mark in (("object, None", None), ("object, NA", pd.NA), ("object, NaN", np.nan)):
        missing = X_train[name][X_train[name].isna()]
        assert len(missing)
        assert all(value is mark or (value != value) is True for value in missing)


@pytest.mark.parametrize("frame", [MIXED, POLARS, NUMBERS], ids=["pandas", "polars", "numbers"])
@pytest.mark.parametrize("cv", LAYOUTS.values(), ids=LAYOUTS)
def test_the_whole_and_as_cv(tmp_path, frame, cv):
    splits = persisted(tmp_path, frame, ROWS, cv=cv, metadata={"row": ROWS})
    X, y = splits.load_whole()
    assert_same(X, rows_of(frame, y)) if cv is not LAYOUTS["block"] else None
    assert sorted(y) == ROWS.tolist()
    np.testing.assert_array_equal(splits.load_whole_metadata()["row"], y)
    X, y, pairs = splits.as_cv()
    for (train, test), (train_rows, test_rows) in zip(pairs, cv.split(frame), strict=True):
        assert set(y[train]) == set(train_rows)
        assert set(y[test]) == set(test_rows)
        if frame is not NUMBERS:
            assert set(X["int"]) == set(ROWS.tolist())
            assert np.asarray(X["int"])[train].tolist() == y[train].tolist()


@linux
@pytest.mark.parametrize("mmap_mode", ["c", "r"])
def test_columns_are_views_of_the_map(tmp_path, mmap_mode):
    splits = persisted(tmp_path, MIXED)
    path = next(splits.folder.glob("X-*.arrow"))
    batch = pa.ipc.open_file(path)
    assert batch.num_record_batches == 1
    whole = splits.open_arrays(mmap_mode)[0]
    X = whole[splits[1].range.train]
    for name in MIXED.columns[: list(MIXED.columns).index("Berlin")]:
        assert np.shares_memory(X[name].to_numpy(), whole._raw), name
    for name in ("Int64", "UInt8", "Float32"):  # values, of which pandas shows a copy
        assert np.shares_memory(X[name].array._data, whole._raw), name
    for name in ("category", "category, ordered", "category, many"):
        assert np.shares_memory(X[name].array.codes, whole._raw), name
    for name in ("str", "string", "arrow string", "arrow int32"):
        arrow = X[name].array.__arrow_array__()
        for buffer in arrow.chunk(0).buffers()[1:]:
            assert in_map(splits, buffer.address), name


@linux
def test_polars_frames_are_views_of_the_map(tmp_path):
    splits = persisted(tmp_path, POLARS)
    X = splits[1].load()[0]
    for name in ("int", "float"):
        assert in_map(splits, X[name].to_numpy(allow_copy=False).ctypes.data)
    for name in ("Int8", "string", "datetime", "duration", "decimal", "binary"):
        arrow = X[name].to_arrow(compat_level=pl.CompatLevel.newest())
        assert all(in_map(splits, buffer.address) for buffer in arrow.buffers()[1:]), name


@pytest.mark.parametrize("n_names", range(1, 9))
@pytest.mark.parametrize("frame", [MIXED, POLARS], ids=["pandas", "polars"])
def test_buffers_are_aligned(tmp_path, frame, n_names):
    """Whatever the length of what stands before them, which the names are part of."""
    if isinstance(frame, pl.DataFrame):
        frame = frame.rename({"int": "n" * 8 * n_names})
    else:
        frame = pd.concat([frame, frame.iloc[:, :n_names]], axis=1)
    splits = persisted(tmp_path, frame)
    raw = np.fromfile(next(splits.folder.glob("X-*.arrow")), np.uint8)
    whole = pa.py_buffer(raw)
    batch = pa.ipc.open_file(pa.BufferReader(whole)).get_batch(0)
    n_aligned = 0
    for column in batch.columns:
        kind = column.type.index_type if pa.types.is_dictionary(column.type) else column.type
        starts = [buffer.address - whole.address for buffer in column.buffers() if buffer]
        if pa.types.is_primitive(kind) or pa.types.is_decimal(kind):
            assert all(start % 64 == 0 for start in starts), kind
            n_aligned += 1
        elif pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
            assert starts[-1] % 16 == starts[0] % 16 == 0
        else:
            assert all(start % 8 == 0 for start in starts), kind
    assert n_aligned > 8


@linux
def test_a_frame_of_many_columns_needs_few_open_files(tmp_path):
    frame = pd.DataFrame({f"c{i}": ROWS.astype(["i4", "f8"][i % 2]) for i in range(300)})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_open = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + 20, hard))
        splits = persisted(tmp_path, frame)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert_same(splits[0].load()[0], rows_of(frame, splits[0].train_indices))


def test_integer_and_equal_names_of_columns(tmp_path):
    frame = pd.DataFrame({"a": ROWS, "b": "x", "c": ROWS * 0.5})
    for names in ([0, 1, 2], ["a", "a", "b"], ["a", 1, np.int64(2)]):
        frame.columns = names
        splits = persisted(tmp_path, frame)
        X_train = splits[0].load()[0]
        assert X_train.columns.tolist() == names
        assert X_train.iloc[:, 0].tolist() == splits[0].train_indices.tolist()


@linux
def test_writing_needs_no_second_copy_of_a_frame(tmp_path):
    # In a process of its own, where anonymous memory is looked at all the time: mapped pages of
    # files are the system's to drop, and are not counted.
    code = f"""
        import threading, time
        import numpy as np, pandas as pd
        import mscourse
        from sklearn.model_selection import KFold

        def anonymous_bytes():
            with open("/proc/self/status") as status:
                return 1024 * sum(
                    int(line.split()[1])
                    for line in status
                    if line.startswith(("RssAnon", "RssShmem"))
                )

        def watch():
            while not done:
                peak.append(anonymous_bytes())
                time.sleep(0.001)

        def frame(n, k):
            X = pd.DataFrame({{f"c{{i}}": np.full(n, 0.5) for i in range(k)}})
            return X.assign(number=np.arange(n), text=pd.Series(["a", "b"] * (n // 2)))

        cv = KFold(5, shuffle=True, random_state=0)
        mscourse.persist_cv_splits(frame(1000, 2), folder={str(tmp_path)!r}, name="warm", cv=cv)
        X = frame(400_000, 50)
        X[[f"c{{i}}" for i in range(25)]] *= 2  # in blocks
        given_bytes = X.memory_usage().sum()
        done, peak, before = False, [], anonymous_bytes()
        thread = threading.Thread(target=watch)
        thread.start()
        splits = mscourse.persist_cv_splits(X, folder={str(tmp_path)!r}, name="big", cv=cv)
        done = True
        thread.join()
        print((max(peak) - before) / given_bytes)
        splits.verify()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 0.5


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (
            MIXED[["int"]].assign(p=pd.period_range("2020", periods=N)),
            "'p' of X has the type period",
        ),
        (MIXED[["int"]].assign(c=pd.cut(ROWS, 3)), "'c' of X has the type interval"),
        (MIXED[["int"]].assign(s=pd.arrays.SparseArray([0, 1] * 30)), "'s' of X has the type Spar"),
        (MIXED[["int"]].assign(z=[1j] * N), "'z' of X has the type complex128"),
        (
            MIXED[["int"]].assign(d=[dt.date(2020, 1, 1)] * N),
            "'d' of X .* in row 0 is of type date",
        ),
        (
            pd.DataFrame({"a": pd.Series(["x", 1] * 30, dtype=object)}),
            "'a' of X holds Python objects; that in row 1 is of type int",
        ),
        (
            pd.DataFrame({"a": pd.Series(["x", None, np.nan] * 20, dtype=object)}),
            "'a' of X marks missing strings with None, nan",
        ),
        (
            pd.DataFrame({"a": pd.Series(["x", pd.NaT] * 30, dtype=object)}),
            "'a' of X marks missing strings with NaT",
        ),
        (
            pd.DataFrame({"a": pd.Series(["x", "\ud800"] * 30, dtype=object)}),
            "'a' of X cannot be stored by Arrow: .*surrogates",
        ),
        (pd.DataFrame({("a", "b"): ROWS}), r"Column 0 of X is named \('a', 'b'\), of type tuple"),
        (pd.DataFrame({True: ROWS}), "Column 0 of X is named True, of type bool"),
        (pd.DataFrame({1.5: ROWS, "b": "x"}), "Column 0 of X is named 1.5, of type float"),
        (pd.DataFrame(index=ROWS), "without columns"),
        (pl.DataFrame(), "without columns"),
        (POLARS.lazy(), r"X\.collect\(\)"),
        (pl.DataFrame({"a": pl.Series([1] * N, dtype=pl.Int128)}), "'a' of X cannot be stored"),
        (pl.DataFrame({"a": pl.Series([{1}] * N, dtype=pl.Object)}), "'a' of X is of type Object"),
    ],
)
def test_what_cannot_come_back_is_named(tmp_path, frame, says):
    with pytest.raises(mscourse.ParameterError, match=says):
        persisted(tmp_path, frame)
    assert not list(tmp_path.iterdir())


def test_dtype_is_for_frames_of_one_type(tmp_path):
    for frame in (MIXED, POLARS):
        with pytest.raises(mscourse.ParameterError, match="Cast the columns of X before"):
            persisted(tmp_path, frame, dtype="float64")
    with pytest.raises(mscourse.ParameterError, match="type of numbers"):
        persisted(tmp_path, NUMBERS, dtype="datetime64[s]")
    assert not list(tmp_path.iterdir())


# -- splitters and estimators ----------------------------------------------------------------------


class _ByColumn(BaseCrossValidator):
    """Looks at the data, as a splitter of one's own may."""

    def get_n_splits(self, X=None, y=None, groups=None):
        return 1

    def split(self, X, y=None, groups=None):
        first = np.asarray(X["int"]) < 20
        yield np.flatnonzero(first), np.flatnonzero(~first)


@pytest.mark.parametrize("frame", [MIXED, POLARS], ids=["pandas", "polars"])
def test_splitters_see_the_frame_and_the_groups(tmp_path, frame):
    splits = persisted(tmp_path, frame, cv=_ByColumn())
    assert splits.layout == "line"
    assert splits[0].n_train == 20
    for groups in (pd.Series(list("abc") * 20), pl.Series(list("abc") * 20), list("abc") * 20):
        splits = persisted(tmp_path, frame, cv=GroupKFold(3), groups=groups)
        for split in splits:
            assert len(set(split.test_indices % 3)) == 1


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_column_transformer_on_engines(tmp_path, client, library):
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "colour": pd.Categorical(rng.choice(["red", "green", "blue"], 120)),
            "size": rng.normal(size=120),
            "town": rng.choice(["Ulm", "Köln"], 120),
        }
    )
    y = np.where((frame["colour"] == "red") ^ (frame["size"] > 0), "yes", "no")
    X = pl.from_pandas(frame) if library == "polars" else frame
    encoder = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["colour", "town"]), (StandardScaler(), ["size"])
    )
    pipeline = make_pipeline(encoder, LogisticRegression())
    splits = persisted(tmp_path, X, y, cv=KFold(3))

    def score(split):
        X_train, y_train, X_test, y_test = split.load()
        assert list(pipeline.fit(X_train, y_train).feature_names_in_) == ["colour", "size", "town"]
        return pipeline.score(X_test, y_test)

    found = client[0].map_sync(score, list(splits))
    expected = []
    for split in splits:
        train, test = split.train_indices, split.test_indices
        pipeline.fit(rows_of(X, train), y[train])
        expected.append(pipeline.score(rows_of(X, test), y[test]))
    assert found == expected


# -- faults ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [MIXED, POLARS], ids=["pandas", "polars"])
def test_damage_is_found_and_named(tmp_path, frame):
    splits = persisted(tmp_path, frame)
    on_disk = sum(path.stat().st_size for path in splits.folder.glob("*-*"))
    assert splits.n_bytes == on_disk
    assert pickle.loads(pickle.dumps(splits)).token == splits.token
    path = next(splits.folder.glob("X-*.arrow"))
    content = path.read_bytes()
    path.write_bytes(content[:2000] + bytes([content[2000] ^ 1]) + content[2001:])
    with pytest.raises(mscourse.DamagedSplitsError, match=path.name):
        splits.verify()
    path.write_bytes(bytes(len(content)))
    with pytest.raises(mscourse.DamagedSplitsError, match="is no Arrow file"):
        splits[0].load()
    for torn in (content[:-1], b""):
        path.write_bytes(torn)
        with pytest.raises(mscourse.DamagedSplitsError, match="torn"):
            splits[0].load()
        with pytest.raises(mscourse.DamagedSplitsError, match="torn"):
            mscourse.open_splits(tmp_path, "f")
    path.unlink()
    with pytest.raises(mscourse.DamagedSplitsError, match="gone"):
        splits[0].load()
    with pytest.raises(mscourse.ParameterError, match="r\\+"):
        splits[0].load("r+")
    splits.delete()
    assert not splits.folder.exists()


def test_warm_reads_the_arrow_file(tmp_path, client):
    splits = persisted(tmp_path, MIXED)
    assert all(seconds > 0 for seconds in splits.warm(client).values())
    next(splits.folder.glob("X-*.arrow")).unlink()
    with pytest.raises(mscourse.ClusterError, match="X-"):
        splits.warm(client)


def test_a_dataset_of_another_kind_is_replaced(tmp_path):
    for frame in (MIXED, NUMBERS, POLARS, MIXED):
        splits = persisted(tmp_path, frame)
        assert len(files_below(tmp_path)) == 3
    assert_same(splits[0].load()[0], rows_of(MIXED, splits[0].train_indices))


def test_an_engine_without_the_library_says_so(tmp_path):
    persisted(tmp_path, MIXED)
    code = f"""
        import sys
        sys.modules["pyarrow"] = None
        import mscourse
        try:
            mscourse.open_splits({str(tmp_path)!r}, "f")[0].load()
        except mscourse.SplitsError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert "pyarrow is not installed here: pip install 'mscourse[frames]'" in done.stdout


@pytest.mark.parametrize("limit_bytes", [2000, 100_000])
def test_a_disk_that_fills_up_leaves_what_was_there(tmp_path, limit_bytes):
    """While one column is written, and while all of them are."""
    persisted(tmp_path, NUMBERS)
    before = files_below(tmp_path)
    frame = pd.DataFrame({f"c{i}": np.zeros(3000, "f8") for i in range(4)} | {"s": "text"})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
        with pytest.raises(mscourse.SplitsError, match="What was there before is unchanged"):
            persisted(tmp_path, frame)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert files_below(tmp_path) == before
    assert_same(mscourse.open_splits(tmp_path, "f")[0].load()[0].iloc[:0], rows_of(NUMBERS, []))


def test_a_writer_that_is_killed_leaves_no_columns(tmp_path):
    code = f"""
        import os, signal
        import pandas as pd
        import mscourse
        from mscourse.datakinds import arrowfile
        arrowfile._write_batch = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        X = pd.DataFrame({{"a": range(60), "b": "text"}})
        mscourse.persist_cv_splits(X, folder={str(tmp_path)!r}, name="f", cv=5)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert files_below(tmp_path) == set()


@pytest.mark.parametrize("frame", [MIXED, POLARS, NUMBERS], ids=["pandas", "polars", "numbers"])
def test_a_disk_that_is_too_small_is_told_before_writing(tmp_path, monkeypatch, frame):
    full = SimpleNamespace(free=100)
    monkeypatch.setattr(persist.shutil, "disk_usage", lambda _: full)
    with pytest.raises(mscourse.SplitsError, match=r"has 0\.0 MB free"):
        persisted(tmp_path, frame)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["pandas", "objects", "polars", "numbers"])
def test_the_room_that_is_asked_for_is_the_room_that_is_taken(tmp_path, kind):
    n = 20_000
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, 4)), columns=list("abcd"))
    if kind != "numbers":
        frame["text"] = [f"{'long' * (i % 30)} text of row {i}" for i in range(n)]
        frame["code"] = pd.Categorical(rng.choice(["a", "b"], n))
    if kind == "objects":
        frame["text"] = frame["text"].astype(object)
    splits = persisted(tmp_path, pl.from_pandas(frame) if kind == "polars" else frame)
    size = next(splits.folder.glob("X-*")).stat().st_size
    source = data_source(pl.from_pandas(frame) if kind == "polars" else frame)
    times = 1 if kind == "numbers" else 2  # the columns, and the file of all of them
    assert source.stored_bytes(splits.rows) == pytest.approx(times * size, rel=0.2)


def test_the_manifest_names_the_columns(tmp_path):
    splits = persisted(tmp_path, MIXED)
    content = json.loads((splits.folder / "manifest.json").read_text(encoding="utf-8"))
    assert content["format_version"] == 2
    assert [column["name"] for column in content["data"]["columns"]] == list(MIXED.columns)
