"""A dataset's folder may come from anywhere: what lies in it is read as written, or refused.

What is refused is refused by an error of the package. No code is run, and no file is read or
removed that is not the dataset's.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fuzz
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from scipy import sparse

import mscourse
from mscourse.manifest import seal

# Beside what pytest keeps, which git does not see.
set_hypothesis_home_dir(Path(__file__).parent.parent / ".pytest_cache" / "hypothesis")

# The same examples each time where nobody looks at them.
some = settings(max_examples=150, deadline=None, derandomize=bool(os.environ.get("CI")))

KINDS = ["dense", "csr", "text", "frame", "pandas", "polars"]

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([value for value in fuzz.NASTY if not isinstance(value, dict | list)]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)

Loaded = list[tuple[Any, ...]]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    fuzz.datasets(folder)
    return folder


@pytest.fixture
def place(source: Path, tmp_path: Path) -> Path:
    """A copy of the datasets that may be spoilt, and a file beside them."""
    shutil.copytree(source, tmp_path / "datasets")
    (tmp_path / "datasets" / "X-00000000.npy").write_bytes(b"somebody else's")
    return tmp_path / "datasets"


def manifest_of(folder: Path, kind: str) -> dict[str, Any]:
    return json.loads((folder / kind / "manifest.json").read_text())


def put_manifest(folder: Path, kind: str, content: Any) -> None:
    """Write a manifest with the checksum of one that was written so."""
    content = {key: value for key, value in content.items() if key != "sha256"}
    (folder / kind / "manifest.json").write_bytes(seal(json.dumps(content).encode()))


def load(folder: Path, kind: str, mmap_mode: Any = "c") -> Loaded:
    """All that can be read of a dataset."""
    splits = mscourse.open_splits(folder, kind)
    loaded = [split.load(mmap_mode) + split.load_metadata(mmap_mode) for split in splits]
    loaded.append((*splits.load_whole(), splits.load_whole_metadata()))
    X, y, pairs = splits.as_cv()
    loaded.append((X, y, *pairs))
    loaded.append((np.array(splits.rows), splits.layout, splits.n_samples))
    return loaded


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return isinstance(one, np.ndarray) and np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if sparse.issparse(one):
        return one.shape == other.shape and (one != other).nnz == 0
    if isinstance(one, pd.DataFrame | pl.DataFrame):
        return bool(one.equals(other))
    return bool(np.array_equal(one, other)) if isinstance(one, np.ndarray) else one == other


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# -- the manifest ----------------------------------------------------------------------------------


@some
@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_and_any_json_are_no_manifest(raw):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "d", "manifest.json")
        path.parent.mkdir()
        path.write_bytes(raw)
        with pytest.raises(mscourse.DamagedSplitsError, match=r"manifest\.json is not a manifest"):
            mscourse.open_splits(folder, "d")
        # And such a folder can be written into.
        X = np.arange(8.0).reshape(4, 2)
        assert len(mscourse.persist_cv_splits(X, folder=folder, name="d", cv=2)) == 2


def places_in(value: Any) -> Iterator[tuple[Any, ...]]:
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield (key,)
        if isinstance(value[key], dict | list):
            yield from ((key, *rest) for rest in places_in(value[key]))


def changed_at(content: Any, place: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    content = holder = json.loads(json.dumps(content))
    for key in place[:-1]:
        holder = holder[key]
    change(holder, place[-1])
    return content


def drop(holder: Any, key: Any) -> None:
    del holder[key]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_changed_by_accident_is_noticed(place, kind):
    """Any value in any place: the checksum tells, if nothing else does."""
    right, content = load(place, kind), manifest_of(place, kind)
    path = place / kind / "manifest.json"
    rng = random.Random(0)
    for where in places_in(content):
        values = rng.sample(fuzz.NASTY, 3)
        changes = [drop, *(lambda holder, key, v=v: holder.__setitem__(key, v) for v in values)]
        for change in changes:
            changed = changed_at(content, where, change)
            if changed == content and repr(changed) == repr(content):
                continue
            path.write_text(json.dumps(changed))
            with pytest.raises(mscourse.SplitsError, match=r"manifest\.json"):
                mscourse.open_splits(place, kind)
    path.write_text(json.dumps(content))
    assert same(load(place, kind), right)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_changed_on_purpose_does_no_harm(place, kind):
    """With a checksum that is right. What is read may be other rows, but these of these files."""
    content = manifest_of(place, kind)
    rng = random.Random(1)
    outcomes = set()
    for where in places_in(content):
        values = [*rng.sample(fuzz.NASTY, 6), [0] * 2000]
        changes = [drop, *(lambda holder, key, v=v: holder.__setitem__(key, v) for v in values)]
        for change in changes:
            put_manifest(place, kind, changed_at(content, where, change))
            try:
                load(place, kind)
                outcomes.add("loaded")
            except mscourse.SplitsError as error:
                outcomes.add(type(error).__name__)
    assert outcomes <= {"loaded", "DamagedSplitsError", "SplitsError"}
    assert {"loaded", "DamagedSplitsError"} <= outcomes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("raw", fuzz.RAW_TOKENS, ids=lambda raw: repr(raw[:10]))
def test_values_that_json_reads_and_python_chokes_on(place, kind, raw):
    content = manifest_of(place, kind)
    path = place / kind / "manifest.json"
    for where in [
        ("format",),
        ("format_version",),
        ("n_samples",),
        ("data", "kind"),
        ("ranges", 0),
    ]:
        changed = changed_at(content, where, lambda holder, key: holder.__setitem__(key, "@@"))
        path.write_bytes(json.dumps(changed).encode().replace(b'"@@"', raw))
        with pytest.raises(mscourse.SplitsError, match=r"manifest\.json") as caught:
            mscourse.open_splits(place, kind)
        assert len(str(caught.value)) < 1000
        # Such a dataset can be replaced, and what it names is left alone.
        mscourse.persist_cv_splits(np.ones((6, 2)), folder=place, name=kind, cv=3)
    assert (place / "X-00000000.npy").read_bytes() == b"somebody else's"


# What the two libraries would make of this are pointers into anywhere.
@pytest.mark.parametrize("dtype", ["O", "|O", "<O8", "V8", "f8,O", "(1,)O", "S9999999999"])
def test_no_note_of_a_column_makes_python_objects(place, dtype):
    content = manifest_of(place, "pandas")
    for note in content["data"]["columns"]:
        if note["as"] in ("numpy", "nullable"):
            note["dtype"] = dtype
    put_manifest(place, "pandas", content)
    with pytest.raises(mscourse.DamagedSplitsError, match="column"):
        mscourse.open_splits(place, "pandas")


@pytest.mark.parametrize(
    ("kind", "where", "value"),
    [
        ("dense", ("files", "X", "shape"), [16, 3.0]),
        ("dense", ("files", "X", "shape"), [16, True, 3]),
        ("dense", ("files", "X", "shape"), [2**40, 2**40]),
        ("dense", ("files", "X", "shape"), [0, 2**62, 8]),
        ("dense", ("files", "X", "shape"), [16, 3] + [1] * 63),
        ("dense", ("files", "X", "shape"), []),
        ("dense", ("files", "X", "shape"), [3, 20]),  # the same bytes, but fewer rows
        ("dense", ("files", "y", "shape"), [10, 2]),
        ("dense", ("files", "X", "dtype"), "(1,,)f8"),  # numpy would have Python parse it
        ("dense", ("files", "X", "dtype"), None),  # which numpy takes for a float
        ("dense", ("files", "X", "sha256"), "no checksum"),
        ("dense", ("files", "rows", "dtype"), "<f8"),
        ("dense", ("ranges", 0), [0.0, 8, 8, 12]),
        ("dense", ("ranges", 0), [False, 8, 8, 12]),
        ("dense", ("ranges", 0), "0123"),
        ("dense", ("ranges",), []),
        ("dense", ("layout",), "spiral"),
        ("dense", ("n_samples",), 0),
        ("dense", ("n_samples",), True),
        ("dense", ("n_samples",), 2**70),
        ("dense", ("name",), None),
        ("dense", ("token",), 7),
        ("dense", ("metadata",), "w"),
        ("dense", ("format_version",), 0),
        ("dense", ("format_version",), 2.0),
        ("frame", ("metadata",), ["a", "a"]),
        ("frame", ("files", "metadata0", "shape"), [4, 4]),
        ("frame", ("data", "columns"), "abc"),
        ("frame", ("data", "columns"), ["a", "b"]),
        ("frame", ("files", "X", "dtype"), "<M8"),
        ("csr", ("data", "n_columns"), 3.0),
        ("csr", ("data", "n_columns"), -1),
        ("csr", ("data", "n_columns"), 2**80),
        ("csr", ("files", "indptr", "shape"), [16]),
        ("csr", ("files", "indices", "dtype"), "<f4"),
        ("csr", ("files", "data", "dtype"), "<M8[s]"),
        ("text", ("data", "shape"), [0]),
        ("text", ("data", "shape"), [2]),
        ("text", ("data", "shape"), "1"),
        ("text", ("files", "offsets", "dtype"), "<f8"),
        ("pandas", ("files", "X", "n_bytes"), float("inf")),
        ("pandas", ("files", "X", "n_bytes"), "100"),
        ("pandas", ("data", "places"), [0, 1, 2, 3]),
        ("pandas", ("data", "places"), [0, 1, 2, 3, -1]),
        ("pandas", ("data", "columns", 0, "as"), "pickle"),
        ("pandas", ("data", "columns", 0, "name"), None),
        ("polars", ("data", "places"), []),
        ("polars", ("data", "places"), "01"),
    ],
)  # fmt: skip
def test_what_cannot_have_been_written_is_refused_at_once(place, kind, where, value):
    content = manifest_of(place, kind)
    change = changed_at(content, where, lambda holder, key: holder.__setitem__(key, value))
    put_manifest(place, kind, change)
    with pytest.raises(mscourse.DamagedSplitsError, match=r"manifest\.json"):
        mscourse.open_splits(place, kind)


def test_the_checksum_is_asked_for(place):
    content = manifest_of(place, "dense")
    path = place / "dense" / "manifest.json"
    content["ranges"][0], content["ranges"][1] = content["ranges"][1], content["ranges"][0]
    path.write_text(json.dumps(content))
    with pytest.raises(mscourse.DamagedSplitsError, match="changed after it was written"):
        mscourse.open_splits(place, "dense")
    del content["sha256"]
    path.write_text(json.dumps(content))
    with pytest.raises(mscourse.DamagedSplitsError, match="changed after it was written"):
        mscourse.open_splits(place, "dense")


# -- files that are not the dataset's --------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["notes.npy", "manifest.json", "X.npy", "model.arrow", "X-00000000.npy.bak", "x-1.txt",
     "../X-00000000.npy", "X-00000000.npy\n", "/X-00000000.npy", "\ud800", "a" * 300, ["X.npy"]],
)  # fmt: skip
def test_only_data_files_are_opened_and_removed(place, name):
    content = manifest_of(place, "dense")
    folder = place / "dense"
    data = folder / content["files"]["y"]["file"]
    for own in ("notes.npy", "X.npy", "model.arrow", "X-00000000.npy.bak", "x-1.txt"):
        shutil.copy(data, folder / own)
    content["files"]["y"]["file"] = name
    put_manifest(place, "dense", content)
    outside, inside = files_of(place), files_of(folder)
    with pytest.raises(mscourse.DamagedSplitsError, match="no data file"):
        mscourse.open_splits(place, "dense")
    mscourse.persist_cv_splits(np.ones((6, 2)), folder=place, name="dense", cv=3).delete()
    assert files_of(place) == outside
    left = files_of(folder)
    assert {"notes.npy", "X.npy", "model.arrow", "X-00000000.npy.bak", "x-1.txt"} <= left.keys()
    assert left.items() <= inside.items()


def test_old_files_of_others_are_not_taken_for_what_a_writer_has_left(tmp_path):
    """The folder may be one that was somebody's before."""
    folder = tmp_path / "digits"
    folder.mkdir()
    own = {"train.npy", "results.arrow", "draft.partial", "X-1.npy", "notes-2024.npy"}
    left = {"X-0123abcd.npy", "y-0123abcd.npy.partial", "manifest.json-0123abcd.partial"}
    long_ago = time.time() - 7200
    for name in own | left:
        (folder / name).write_bytes(b"1")
        os.utime(folder / name, (long_ago, long_ago))
    mscourse.persist_cv_splits(np.ones((6, 2)), folder=tmp_path, name="digits", cv=3)
    assert own <= files_of(folder).keys()
    assert not left & files_of(folder).keys()


@pytest.mark.parametrize("kind", ["dense", "pandas"])
@pytest.mark.parametrize("mmap_mode", ["c", "r", None])
@pytest.mark.parametrize("what", ["folder", "pipe", "nothing", "loop"])
def test_what_is_no_file_is_refused(place, kind, mmap_mode, what):
    splits = mscourse.open_splits(place, kind)
    path = next(iter((place / kind).glob("X-*")))
    path.unlink()
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "loop":
        path.symlink_to(path.name)
    with pytest.raises(mscourse.DamagedSplitsError, match=path.name):
        mscourse.open_splits(place, kind)
    if what != "pipe" or mmap_mode is None:
        with pytest.raises(mscourse.DamagedSplitsError, match=path.name):
            splits[0].load(mmap_mode)
    with pytest.raises(mscourse.DamagedSplitsError, match=path.name):
        splits.verify()
    if what == "folder":
        with pytest.raises(mscourse.SplitsError, match="cannot be removed"):
            splits.delete()


def test_a_manifest_that_is_a_folder(place):
    path = place / "dense" / "manifest.json"
    splits = mscourse.open_splits(place, "dense")
    path.unlink()
    path.mkdir()
    with pytest.raises(mscourse.SplitsNotFoundError, match="no splits 'dense'"):
        mscourse.open_splits(place, "dense")
    with pytest.raises(mscourse.SplitsError, match=r"manifest\.json cannot be read"):
        pickle.loads(pickle.dumps(splits))
    before = files_of(place / "dense")
    with pytest.raises(mscourse.SplitsError, match="could not be written"):
        mscourse.persist_cv_splits(np.ones((6, 2)), folder=place, name="dense", cv=3)
    assert files_of(place / "dense") == before


# -- the data files --------------------------------------------------------------------------------


class Harm:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def spoil(path: Path, content: bytes) -> None:
    """Overwrite a file so that its times tell nothing."""
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def data_files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in (".npy", ".arrow"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mmap_mode", ["c", None])
def test_files_that_are_cut_or_grow_are_refused(place, kind, mmap_mode):
    splits = mscourse.open_splits(place, kind)
    for path in data_files_of(place / kind):
        whole = path.read_bytes()
        for spoilt in (b"", whole[:1], whole[:-1], whole + b"\0", whole * 2):
            spoil(path, spoilt)
            with pytest.raises(mscourse.DamagedSplitsError, match="torn"):
                mscourse.open_splits(place, kind)
            if path.name.startswith("X-"):
                with pytest.raises(mscourse.DamagedSplitsError, match="torn"):
                    splits[0].load(mmap_mode)
        spoil(path, whole)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mmap_mode", ["c", "r", None])
def test_what_an_npy_file_says_of_itself_does_not_count(place, kind, mmap_mode):
    """The manifest says what it is; its own header may say anything, a pickle among them."""
    right = load(place, kind, mmap_mode)
    for path in data_files_of(place / kind):
        whole = path.read_bytes()
        if path.suffix != ".npy":
            continue
        end = whole.index(b"\n") + 1
        harm = pickle.dumps(Harm(place / "harm"))[: end - 1]
        for header in (
            bytes(end),
            b"\xff" * end,
            whole[:end].replace(b"<", b">"),
            whole[:end].replace(b"'descr': '<", b"'descr': '|O'  "[:12]).ljust(end)[:end],
            whole[:end].replace(b"False", b"True "),
            harm.ljust(end),
        ):
            spoil(path, header + whole[end:])
            assert same(load(place, kind, mmap_mode), right)
        spoil(path, whole)
    assert not (place / "harm").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickle_in_the_place_of_data_is_not_read_as_one(place, kind):
    content = manifest_of(place, kind)
    harm = pickle.dumps(Harm(place / "harm"))
    for path in data_files_of(place / kind):
        whole = path.read_bytes()
        spoil(path, (harm * (1 + len(whole) // len(harm)))[: len(whole)])
        with contextlib.suppress(mscourse.SplitsError):
            load(place, kind)
        spoil(path, whole)
    for part, entry in content["files"].items():
        changed = json.loads(json.dumps(content))
        if "dtype" in entry:
            changed["files"][part] |= {"dtype": "|O"}
            put_manifest(place, kind, changed)
            with pytest.raises(mscourse.DamagedSplitsError, match="Python objects"):
                load(place, kind)
    assert not (place / "harm").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_differ_are_no_crash(place, kind):
    """The size is right, so that only `verify` tells for sure. What is loaded may be wrong."""
    rng = random.Random(2)
    for path in data_files_of(place / kind):
        whole = path.read_bytes()
        for _ in range(60 if path.suffix == ".arrow" else 15):
            spoilt = bytearray(whole)
            for _ in range(rng.choice((1, 1, 5, 50))):
                spoilt[rng.randrange(len(spoilt))] = rng.choice((0, 1, 127, 128, 255))
            spoil(path, spoilt)
            splits = mscourse.open_splits(place, kind)
            if spoilt != whole:
                with pytest.raises(mscourse.DamagedSplitsError, match=path.name):
                    splits.verify()
            with contextlib.suppress(mscourse.SplitsError):
                repr([(X, str(y), X_test) for X, y, X_test, _ in (s.load() for s in splits)])
                splits.as_cv()
        spoil(path, whole)


def test_places_that_a_sparse_matrix_does_not_have(place):
    """To scipy they are places in memory."""
    splits = mscourse.open_splits(place, "csr")
    for part, values in [("indices", (-1, 3, 2**31 - 1)), ("indptr", (-1, 2**40, 1000))]:
        path = next((place / "csr").glob(f"{part}-*"))
        whole = path.read_bytes()
        start = whole.index(b"\n") + 1
        for value in values:
            array = np.frombuffer(whole[start:], np.int32 if part == "indices" else np.int64).copy()
            array[5] = value
            spoil(path, whole[:start] + array.tobytes())
            with pytest.raises(mscourse.DamagedSplitsError, match=path.name):
                splits[0].load()
        spoil(path, whole)
    splits[0].load()


def test_rows_that_the_dataset_does_not_have(place):
    splits = mscourse.open_splits(place, "dense")
    path = next((place / "dense").glob("rows-*"))
    whole = path.read_bytes()
    spoil(path, whole[:-8] + np.int64(12).tobytes())
    with pytest.raises(mscourse.DamagedSplitsError, match="not among the 12"):
        splits.load_whole()


def arrow_file(path: Path, columns: dict[str, Any], schema: Any = None, options: Any = None) -> int:
    batch = pa.record_batch(
        list(columns.values()), names=None if schema else list(columns), schema=schema
    )
    with (
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_file(file, batch.schema, options=options) as writer,
    ):
        writer.write_batch(batch)
    return path.stat().st_size


def put_arrow(
    place: Path, kind: str, columns: dict[str, Any], notes: Any = None, **options: Any
) -> None:
    """Replace the file of a frame by another one, and have the manifest tell its size."""
    content = manifest_of(place, kind)
    path = place / kind / content["files"]["X"]["file"]
    status = path.stat()
    content["files"]["X"]["n_bytes"] = arrow_file(path, columns, **options)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    content["data"]["places"] = list(range(len(columns)))
    if notes is not None:
        content["data"]["columns"] = notes
    put_manifest(place, kind, content)


N_STORED = 16


NUMBERS = pa.array([1] * N_STORED)
STRINGS = {"as": "string", "storage": "python", "missing": "nan"}
CATEGORIES = {"as": "category", "ordered": False, "categories": STRINGS}


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (NUMBERS, {"as": "zone"}),
        (NUMBERS, CATEGORIES),
        (pa.array([None] * N_STORED), {"as": "numpy", "dtype": "<i8"}),
        (pa.array([1.5] * (N_STORED - 1)), {"as": "numpy", "dtype": "<f8"}),
        (pa.array(["text"] * N_STORED, pa.string_view()), STRINGS | {"as": "category"}),
        (pa.DictionaryArray.from_arrays(pa.array([0, 9] * 8, pa.int8()), ["a"], safe=False),
         CATEGORIES),
        # Missing by the mask, so that Arrow does not look at the code; pandas does.
        (pa.DictionaryArray.from_buffers(
            pa.dictionary(pa.int8(), pa.string()), N_STORED,
            [pa.py_buffer(bytes(2)), pa.py_buffer(bytes([100] * N_STORED))], pa.array(["a"])),
         CATEGORIES),
    ],
)  # fmt: skip
def test_columns_that_are_not_what_was_noted(place, values, note):
    put_arrow(place, "pandas", {"0": values}, [{"name": "a", **note}])
    with pytest.raises(mscourse.DamagedSplitsError, match=r"[Pp]ersist the splits again"):
        mscourse.open_splits(place, "pandas")[0].load()


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (pa.array(["text"] * N_STORED), {"as": "numpy", "dtype": "<f8"}),
        (pa.array(["text"] * N_STORED), {"as": "nullable", "dtype": "Int64"}),
        (pa.array([1] * N_STORED, pa.int8()), {"as": "nullable", "dtype": "Float64"}),
        (NUMBERS, STRINGS),
        (NUMBERS, {"as": "object", "missing": "None"}),
    ],
)
def test_columns_that_can_be_taken_for_others(place, values, note):
    """They are refused, or give bytes of this file: no others, since pandas is given a view."""
    put_arrow(place, "pandas", {"0": values}, [{"name": "a", **note}])
    with contextlib.suppress(mscourse.DamagedSplitsError):
        frame = mscourse.open_splits(place, "pandas")[0].load()[0]
        assert frame.shape == (8, 1)
        repr(frame)


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_an_arrow_file_runs_no_code(place, kind):
    """Not even one whose type says that a pickle describes it."""
    harm = pickle.dumps(Harm(place / "harm"))
    for name in (b"arrow.py_extension_type", b"POLARS_EXTENSION_TYPE", b"pandas.period"):
        described = {b"ARROW:extension:name": name, b"ARROW:extension:metadata": harm}
        for values in (
            pa.array([1] * N_STORED),
            pa.array([bytes(8)] * N_STORED, pa.binary(8)),
            pa.array([b"\x01" * 16] * N_STORED, pa.binary(16)),
        ):
            schema = pa.schema([pa.field("0", values.type, metadata=described)])
            put_arrow(place, kind, {"0": values}, [{"name": "a", "as": "arrow"}], schema=schema)
            splits = mscourse.open_splits(place, kind)
            if name.startswith(b"POLARS"):  # to older versions, the values were addresses
                with pytest.raises(mscourse.DamagedSplitsError, match="no use outside of a proc"):
                    splits[0].load()
            else:
                with contextlib.suppress(mscourse.SplitsError):
                    repr(splits[0].load())
    assert not (place / "harm").exists()


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_compressed_columns_are_read_or_refused(place, kind):
    """We write none; their values do not lie in the file."""
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    notes = [{"name": "a", "as": "numpy", "dtype": "<f8"}]
    put_arrow(place, kind, {"0": pa.array([1.5] * N_STORED)}, notes, options=options)
    if kind == "polars":
        assert mscourse.open_splits(place, kind)[0].load()[0]["0"].to_list() == [1.5] * 8
    else:
        with pytest.raises(mscourse.DamagedSplitsError, match="columns"):
            mscourse.open_splits(place, kind)[0].load()


# -- the program -----------------------------------------------------------------------------------


def test_the_manifest_reader_stands_changed_manifests(capsys):
    assert fuzz.main(["--inputs", "2000", "--seed", "7", "manifest"]) == 0
    printed = capsys.readouterr().out
    assert "manifest: 2000 inputs from seed 7" in printed
    for came_out in ("DamagedSplitsError", "right answer", "well sealed", "SplitsError"):
        assert came_out in printed


def test_a_reader_that_fails_is_shown_with_what_makes_it_fail(capsys, monkeypatch):
    class Careless(fuzz.ManifestReader):
        def read(self, raw: bytes, origin: Any) -> str:
            json.loads(raw)
            return "read"

    monkeypatch.setitem(fuzz.READERS, "manifest", Careless)
    assert fuzz.main(["--inputs", "2000", "--seed", "7", "manifest"]) == 1
    printed = capsys.readouterr().err
    assert "Error" in printed
    seed = printed.partition("--inputs 1 --seed ")[2].partition(")")[0]
    assert fuzz.main(["--inputs", "1", "--seed", seed, "manifest"]) == 1
    assert capsys.readouterr().err.partition("The input")[2] == printed.partition("The input")[2]
