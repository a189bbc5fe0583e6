"""Text as data: stored as UTF-8, opened as an array of strings."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    BaseCrossValidator,
    KFold,
    RepeatedKFold,
    ShuffleSplit,
    TimeSeriesSplit,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import mscourse
from mscourse.datakinds import text

N = 60
WORDS = [
    "",
    "plain",
    "grüße",
    "日本語",
    "🦔 and 👩‍👩‍👧",
    "a\0b",
    "\0",
    "new\nline",
    "lone \ud800 half",
]
TEXTS = [WORDS[i % len(WORDS)] * (i % 4) for i in range(N)]
WHOLE = [text for text in TEXTS if "\ud800" not in text]  # what Arrow and numpy's strings can hold


@pytest.mark.parametrize(
    "given",
    [
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS, dtype=object),
        np.array([text.replace("\0", "0") for text in TEXTS]),
        np.array(WHOLE, dtype=np.dtypes.StringDType()),
        pd.Series(WHOLE),
        pd.Series(TEXTS, dtype=object),
        pd.Series(WHOLE, dtype="string"),
        pd.Series(WHOLE, dtype="category"),
        pl.Series(WHOLE),
        [""] * N,
    ],
    ids=[
        "list",
        "tuple",
        "object",
        "U",
        "T",
        "str",
        "series",
        "string",
        "category",
        "polars",
        "''",
    ],
)
@pytest.mark.parametrize("mmap_mode", ["c", "r", None])
def test_strings_come_back_equal(tmp_path, given, mmap_mode):
    expected = np.array(list(given), dtype=object)
    splits = mscourse.persist_cv_splits(given, folder=tmp_path, name="t", cv=KFold(4))
    splits.verify()
    for split in splits:
        X_train, _, X_test, _ = split.load(mmap_mode)
        for found, rows in ((X_train, split.train_indices), (X_test, split.test_indices)):
            assert found.dtype == object
            assert found.shape == (len(rows),)
            assert all(type(value) is str for value in found)
            assert found.tolist() == expected[rows].tolist()
        part = split.load(mmap_mode, n_train=5)[0]
        assert part.tolist() == X_train[:5].tolist()
    assert not [path for path in splits.folder.glob("*.npy") if np.load(path).dtype.kind in "US"]


@pytest.mark.parametrize(
    "cv",
    [
        KFold(4),
        RepeatedKFold(n_splits=3, n_repeats=2, random_state=0),
        TimeSeriesSplit(3),
        ShuffleSplit(3, test_size=0.5, random_state=0),
    ],
    ids=["ring", "rings", "line", "block"],
)
def test_the_layouts_and_the_whole(tmp_path, cv):
    texts = np.array([f"text {i}" for i in range(N)], dtype=object)
    splits = mscourse.persist_cv_splits(texts, np.arange(N), folder=tmp_path, name="t", cv=cv)
    X, y = splits.load_whole()
    assert X.tolist() == texts[y].tolist()
    X, y, pairs = splits.as_cv()
    for (train, test), (train_rows, test_rows) in zip(pairs, cv.split(texts), strict=True):
        assert set(X[train]) == set(texts[train_rows])
        assert set(X[test]) == set(texts[test_rows])


def test_several_strings_for_each_row(tmp_path):
    colours = np.array([["red", "ö"], ["blue", ""], ["green", "z" * 9]] * (N // 3))
    for given in (colours, colours.tolist(), colours.astype(object)):
        splits = mscourse.persist_cv_splits(given, folder=tmp_path, name="t", cv=3)
        X_train = splits[0].load()[0]
        assert X_train.dtype == object
        np.testing.assert_array_equal(X_train, colours[splits[0].train_indices])
        assert OneHotEncoder().fit_transform(X_train).shape[1] == 6


def test_a_long_text_does_not_make_the_others_long(tmp_path):
    texts = ["x" * 5_000_000, *["short"] * 59]
    splits = mscourse.persist_cv_splits(texts, folder=tmp_path, name="t", cv=KFold(3))
    assert splits.n_bytes < 11e6  # with numpy's strings: 1.6 GB
    assert max(map(len, splits[1].load()[0])) == 5_000_000


def test_pieces_of_all_sizes_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "_STEP", 7)
    monkeypatch.setattr(text, "CHUNK_BYTES", 11)
    splits = mscourse.persist_cv_splits(TEXTS, folder=tmp_path, name="t", cv=KFold(4))
    for split in splits:
        assert split.load()[0].tolist() == [TEXTS[row] for row in split.train_indices]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["a", "b", None, *"x" * 57], r"row 2 has none \(None\)"),
        (["a", float("nan"), *"x" * 58], r"row 1 has none \(nan\)"),
        ([float("nan"), "a", *"x" * 58], r"row 0 has none \(nan\)"),
        ([None, "a", *"x" * 58], r"row 0 has none \(None\)"),
        (pd.Series(["a", None] * 30), r"row 1 has none \(nan\)"),
        (pd.Series(["a", pd.NA] * 30, dtype="string"), r"row 1 has none \(<NA>\)"),
        (pl.Series(["a", None] * 30), r"row 1 has none \(None\)"),
        (["a", 1] * 30, "row 1 holds 1, of type int"),
        (["a", b"b"] * 30, "row 1 holds b'b', of type bytes"),
        ([["a", "b"], ["c", None], *[["d", "e"]] * 58], r"row 1 has none \(None\)"),
        ([None] * 60, "Python objects"),
    ],
)
def test_what_is_no_text_is_named_by_its_row(tmp_path, given, says):
    with pytest.raises(mscourse.ParameterError, match=says):
        mscourse.persist_cv_splits(given, folder=tmp_path, name="t", cv=3)
    assert not list(tmp_path.iterdir())


class _ByLength(BaseCrossValidator):
    """Looks at the data, as a splitter of one's own may."""

    def get_n_splits(self, X=None, y=None, groups=None):
        return 1

    def split(self, X, y=None, groups=None):
        is_long = np.array([len(text) > 5 for text in X])
        yield np.flatnonzero(~is_long), np.flatnonzero(is_long)


def test_a_splitter_sees_the_text(tmp_path):
    splits = mscourse.persist_cv_splits(TEXTS, folder=tmp_path, name="t", cv=_ByLength())
    X_train, _, X_test, _ = splits[0].load()
    assert max(map(len, X_train)) <= 5 < min(map(len, X_test))


def test_a_pipeline_scores_as_scikit_learn_does(tmp_path, client):
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    texts = [" ".join(rng.choice([f"w{k}", "ä", "und", "the"], 6)) for k in y]
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression())
    splits = mscourse.persist_cv_splits(texts, y, folder=tmp_path, name="t", cv=KFold(3))
    expected = cross_val_score(pipeline, texts, y, cv=KFold(3))

    def score(split):
        X_train, y_train, X_test, y_test = split.load()
        return pipeline.fit(X_train, y_train).score(X_test, y_test)

    found = client[0].map_sync(score, list(splits))
    # The rows of a fold are in another order, which changes the solver's last digits only.
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_a_torn_file_is_named(tmp_path):
    splits = mscourse.persist_cv_splits(TEXTS, folder=tmp_path, name="t", cv=3)
    assert pickle.loads(pickle.dumps(splits)).n_samples == N
    path = next(splits.folder.glob("text-*.npy"))
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"?")
    with pytest.raises(mscourse.DamagedSplitsError, match=path.name):
        splits.verify()
    path.write_bytes(content[:-1])
    with pytest.raises(mscourse.DamagedSplitsError, match="torn"):
        splits[0].load()
    path.unlink()
    with pytest.raises(mscourse.DamagedSplitsError, match="gone"):
        splits[0].load()
    splits.delete()
    assert not splits.folder.exists()
