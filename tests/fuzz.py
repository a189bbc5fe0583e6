"""Feed the readers of files with what nobody has written, and see that they say so.

::

    python tests/fuzz.py                                   all readers, another seed each time
    python tests/fuzz.py --inputs 500000 --seed 1 manifest

Each input is one that was written, changed at random. A reader must give the right answer or raise
an error of the package. The first input of which it does anything else ends the program, with the
input and the seed that makes it again.

To add a reader, write a class with the methods of `Reader`, and name it in `READERS`.
"""

from __future__ import annotations

import argparse
import copy
import io
import itertools
import json
import random
import re
import secrets
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

import numpy as np
import pandas as pd
import polars as pl
from scipy import sparse
from sklearn.dummy import DummyClassifier

import mscourse
from mscourse.journalfile import Content, _sealed, entries
from mscourse.journalreport import report_on
from mscourse.manifest import MANIFEST, Manifest, is_data_file, parse_manifest, seal
from mscourse.splits import Splits

# A reader that takes longer for an input of some kilobytes has been led astray.
SLOW_S = 2.0

# Longest part of an input that is printed.
MOST_SHOWN = 5000


class Reader(Protocol):
    """What reads one kind of file."""

    def __init__(self, folder: Path) -> None:
        """Write what the inputs are made of, into a folder of its own."""

    def changed(self, rng: random.Random) -> tuple[bytes, Any]:
        """Make an input, and what `read` needs to judge what comes out of it."""

    def read(self, raw: bytes, origin: Any) -> str:
        """Read an input; say in two words what came out, or raise AssertionError if it is wrong."""


# -- what can be done to any file ------------------------------------------------------------------


def _flip(rng: random.Random, raw: bytearray, _: bytes) -> None:
    for _i in range(rng.choice((1, 1, 1, 2, 8))):
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)


def _set(rng: random.Random, raw: bytearray, _: bytes) -> None:
    raw[rng.randrange(len(raw))] = rng.choice(b'"\\{}[],:0123456789-+.eEtfnN/ \n\x00\x7f\x80\xff')


def _digit(rng: random.Random, raw: bytearray, _: bytes) -> None:
    digits = [i for i in rng.choices(range(len(raw)), k=50) if 48 <= raw[i] < 58]
    for i in digits[:1]:
        raw[i] = rng.choice(b"0123456789-.")


def _truncate(rng: random.Random, raw: bytearray, _: bytes) -> None:
    del raw[rng.randrange(len(raw)) :]


def _cut(rng: random.Random, raw: bytearray, _: bytes) -> None:
    start = rng.randrange(len(raw))
    del raw[start : start + rng.choice((1, 2, 10, 100))]


def _insert(rng: random.Random, raw: bytearray, _: bytes) -> None:
    start = rng.randrange(len(raw))
    raw[start:start] = rng.choice((rng.randbytes(rng.randint(1, 20)), *RAW_TOKENS))


def _repeat(rng: random.Random, raw: bytearray, _: bytes) -> None:
    start = rng.randrange(len(raw))
    raw[start:start] = raw[start : start + rng.choice((1, 10, 100))] * rng.choice((1, 2, 20))


def _splice(rng: random.Random, raw: bytearray, other: bytes) -> None:
    raw[rng.randrange(len(raw)) :] = other[rng.randrange(len(other)) :]


def _nonsense(rng: random.Random, raw: bytearray, _: bytes) -> None:
    raw[:] = rng.randbytes(rng.randrange(100))


BYTE_CHANGES = (_flip, _set, _digit, _truncate, _cut, _insert, _repeat, _splice, _nonsense)


def changed_bytes(rng: random.Random, raw: bytes, other: bytes) -> bytes:
    """Change bytes of a file in one to three ways; ``other`` is another file of its kind."""
    changed = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if changed:
            rng.choice(BYTE_CHANGES)(rng, changed, other)
    return bytes(changed)


# -- what can be done to JSON ----------------------------------------------------------------------

NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 4, 48, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63)),
    *(10**30, 10**400, -(10**400), 0.0, 1.0, 1.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "X", "y", "rows", "0", "-1", ".", "..", "../x.npy", "/etc/passwd", "c:\\x.npy"),
    *("manifest.json", "X-00000000.npy", "../X-00000000.npy", "X-00000000.npy\n", "NUL", "~"),
    *("a\0b", "\ud800", "\u202e", "é" * 100, "x" * 5000, "__class__", "os", "%s", "{0}"),
    *("O", "|O", "<f8", ">f8", "<i8", "|u1", "<u2", "|b1", "<U4", "<U0", "|S0", "|V8", "f8,f8"),
    *("(1,,)f8", "a5", "<M8[ns]", "<M8[999999999s]", "<M8[xx]", "S999999999", "<c32", "<f99"),
    *([], {}, [[]], [{}], [0], [0, 0, 0, 0], [1, 0, 1, 0], [0.5, 1, 0, 1], [True, 2, 2, 3]),
    *([2**62, 2**62], [0, 2**62], [1] * 65, ["O"], [None], [["kind", "dense"]], {"": ""}),
    *("dense", "csr", "text", "frame", "arrow", "pickle", "pandas", "polars", "line", "block"),
    {"file": "X-00000000.npy", "dtype": "|O", "shape": [1], "sha256": "0" * 64},
    *({"as": "numpy", "dtype": "|O"}, {"as": "category", "ordered": True}, {"as": "zone"}),
)

# What `json.dumps` cannot write.
RAW_TOKENS = (
    b"9" * 5000,
    b"-" + b"9" * 5000,
    b"1e999",
    b"[" * 100_000,
    b"[" * 900 + b"]" * 900,
    b'{"a":' * 2000 + b"0" + b"}" * 2000,
    b'"\\ud800"',
    b"NaN",
    b"\xff",
)
_PLACE = "@@raw@@"


def change_json(rng: random.Random, content: Any, other: Any) -> None:
    """Change one place somewhere in a JSON value; ``other`` is another one, to take parts of."""
    holder, key = _place(rng, content)
    match rng.randrange(8):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.insert(rng.randint(0, len(holder)), rng.choice(holder))
        case 2:
            second, other_key = _place(rng, content)
            # One may lie in the other; so a copy.
            holder[key] = json.loads(json.dumps(second[other_key]))
        case 3:
            second, other_key = _place(rng, other)
            holder[key] = second[other_key]
        case 4 if type(holder[key]) is int:
            holder[key] += rng.choice((-1, 1, 2, 64, -64))
        case 5:
            holder[key] = _PLACE
        case 6 if isinstance(holder, dict):
            holder[rng.choice(("", "dtype", "n_bytes", "csr_columns", "y", "sha256"))] = 0
        case _:
            holder[key] = copy.deepcopy(rng.choice(NASTY))  # the next change may change it


def _place(rng: random.Random, value: Any) -> tuple[Any, Any]:
    """Walk down at random; all depths are likely."""
    while True:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = rng.choice(keys)
        if not value[key] or not isinstance(value[key], dict | list) or rng.random() < 0.25:
            return value, key
        value = value[key]


def as_json(rng: random.Random, content: Any) -> bytes:
    """Write JSON, with what no JSON value stands for where a change has asked for it."""
    raw = json.dumps(content).encode("ascii")
    return raw.replace(f'"{_PLACE}"'.encode(), rng.choice(RAW_TOKENS))


# -- readers ---------------------------------------------------------------------------------------


class ManifestReader:
    """The manifest of persisted splits, up to where data would be read."""

    def __init__(self, folder: Path) -> None:
        self.origins = [
            (splits.folder, (splits.folder / MANIFEST).read_bytes()) for splits in datasets(folder)
        ]
        for n in range(2):  # the first two have kinds of data that version 1 had
            self.origins.append(_as_version_1(*self.origins[n]))
        self._right = {raw: _said(parse_manifest(raw, where)) for where, raw in self.origins}

    def changed(self, rng: random.Random) -> tuple[bytes, Any]:
        folder, raw = rng.choice(self.origins)
        other = rng.choice(self.origins)[1]
        if rng.random() < 0.3:
            return changed_bytes(rng, raw, other), (folder, raw, False)
        content, other_content = json.loads(raw), json.loads(other)
        for _ in range(rng.choice((1, 1, 2, 4))):
            if content:
                change_json(rng, content, other_content)
        # With the checksum of what it says now, as one who means harm would have it.
        if sealed := rng.random() < 0.7:
            content.pop("sha256", None)
        written = as_json(rng, content)
        return seal(written) if sealed else written, (folder, raw, sealed)

    def read(self, raw: bytes, origin: Any) -> str:
        folder, written, sealed = origin
        manifest = parse_manifest(raw, folder)
        splits = Splits(folder, manifest)
        assert all(file.path.parent == folder for file in manifest.files.values())
        assert all(is_data_file(file.path.name) for file in manifest.files.values())
        assert all(type(number) is int for each in splits.ranges for number in each)
        if _said(manifest) == self._right[written]:
            return "right answer"
        assert sealed or b'"format_version": 1,' in written, (
            "it says something else than was written"
        )
        return "well sealed"


def _said(manifest: Manifest) -> str:
    return repr([getattr(manifest, name) for name in Manifest.__dataclass_fields__])


def _as_version_1(folder: Path, raw: bytes) -> tuple[Path, bytes]:
    content = json.loads(raw)
    data = content.pop("data")
    del content["metadata"], content["sha256"]
    content |= {"format_version": 1, "csr_columns": data.get("n_columns")}
    return folder, json.dumps(content).encode("ascii")


def datasets(folder: Path) -> list[Splits]:
    """Persist small data of all kinds."""
    n = 12
    y, weight = np.arange(n) % 2, np.linspace(0, 1, n)
    dense = np.arange(3.0 * n).reshape(n, 3)
    frame = pd.DataFrame(
        {
            "number": weight,
            "text": ["a", "é", None] * (n // 3),
            "category": pd.Categorical(["u", "v"] * (n // 2)),
            "whole": pd.array([1, None] * (n // 2), dtype="Int64"),
            "time": pd.date_range("2026-01-01", periods=n, tz="UTC"),
        }
    )
    kinds = {
        "dense": dense,
        "csr": sparse.csr_matrix(dense),
        "text": ["one", "two", "three", "größer"] * (n // 4),
        "frame": pd.DataFrame(dense, columns=["a", "b", "c"]),
        "pandas": frame,
        "polars": pl.DataFrame({"number": weight, "text": ["a", "b"] * (n // 2)}),
    }
    metadata = {"sample_weight": weight}
    tokens = map("{:08x}".format, itertools.count(0xABC00))
    options: dict[str, Any] = {"folder": folder, "cv": 3, "random_state": 0}
    # The same tokens each time, so that a seed gives the same inputs.
    with mock.patch("mscourse.persist.secrets.token_hex", side_effect=tokens):
        return [
            mscourse.persist_cv_splits(
                X, y, name=name, metadata=metadata if name == "frame" else None, **options
            )
            for name, X in kinds.items()
        ]


class JournalReader:
    """The journal of a search: what goes on from it, and what is told of it."""

    def __init__(self, folder: Path) -> None:
        X, y = np.arange(36.0).reshape(12, 3), np.arange(12) % 2
        splits = mscourse.persist_cv_splits(X, y, folder=folder, name="x", cv=2, random_state=0)
        self._path = folder / "search.journal"
        grid = {"strategy": ["prior", "constant"], "constant": [0, None, 7]}
        with ThreadPoolExecutor(1) as executor:
            search = mscourse.grid_search(
                DummyClassifier(), grid, splits, engines=executor, journal=self._path
            )
            search.wait(progress_bar=False)
        self._lines: list[bytes] = []
        # The same times and processes each time, so that a seed gives the same inputs.
        same = re.compile(rb'"(\w+_s|pid|peak_\w+)": [-+.e0-9]+')
        host = re.compile(rb'"host": "[^"]*"')
        for line in self._path.read_bytes().splitlines():
            line = host.sub(rb'"host": "h"', same.sub(rb'"\1": 1', line))
            self._lines.append(_sealed(line.rpartition(b', "crc32"')[0].decode() + "}"))
        self._written = b"".join(self._lines)
        self._right = {repr(entry) for _, entry in self._entries(self._written)}
        assert len(self._right) == 12

    def changed(self, rng: random.Random) -> tuple[bytes, Any]:
        if rng.random() < 0.4:
            return changed_bytes(rng, self._written, self._written), False
        lines = list(self._lines)
        for _ in range(rng.choice((1, 1, 2, 4))):
            number = rng.randrange(len(lines))
            line, other_line = self._lines[number], rng.choice(self._lines)
            content, other = json.loads(line), json.loads(other_line)
            del content["crc32"], other["crc32"]
            change_json(rng, content, other)
            # With the checksum of what it says now, as one who means harm would have it.
            written = as_json(rng, content) if content else b"{}"
            lines[number] = _sealed(written.decode("latin-1"))
        return b"".join(lines), True

    def read(self, raw: bytes, sealed: bool) -> str:
        found = {repr(entry) for _, entry in self._entries(raw)}
        str(report_on(self._file(raw), self._path))
        if found == self._right:
            return "right answer"
        if found < self._right:
            return "some lost"
        assert sealed, "it says something else than was written"
        return "well sealed"

    def _entries(self, raw: bytes) -> list[tuple[int, Any]]:
        return list(entries(self._file(raw), Content()))

    def _file(self, raw: bytes) -> io.BytesIO:
        file = io.BytesIO(raw)
        file.name = str(self._path)
        return file


READERS: dict[str, Callable[[Path], Reader]] = {
    "manifest": ManifestReader,
    "journal": JournalReader,
}


# -- the program -----------------------------------------------------------------------------------


class WrongError(Exception):
    """A reader has done what it must not."""


def run(reader: Reader, n_inputs: int, seed: int) -> Counter[str]:
    """Feed a reader; count what came out.

    Raises
    ------
    WrongError
        Tells the input, and the seed that makes it.
    """
    counts: Counter[str] = Counter()
    for number in range(seed, seed + n_inputs):
        raw, origin = reader.changed(random.Random(number))
        start_s = time.perf_counter()
        try:
            came_out = reader.read(raw, origin)
        except mscourse.MSCourseError as error:
            came_out = type(error).__name__
        except BaseException as error:
            raise WrongError(_told(raw, number, traceback.format_exc())) from error
        if time.perf_counter() - start_s > SLOW_S:
            raise WrongError(_told(raw, number, f"It took longer than {SLOW_S} s."))
        counts[came_out] += 1
    return counts


def _told(raw: bytes, seed: int, what: str) -> str:
    more = f" ... ({len(raw)} bytes)" if len(raw) > MOST_SHOWN else ""
    return f"{what}\nThe input (--inputs 1 --seed {seed}):\n{raw[:MOST_SHOWN]!r}{more}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Feed the readers of files with changed ones.")
    parser.add_argument("readers", nargs="*", help=f"of {', '.join(READERS)}; by default all")
    parser.add_argument("--inputs", type=int, default=100_000, help="for each reader")
    parser.add_argument("--seed", type=int, help="the number of the first input")
    told = parser.parse_args(arguments)
    if unknown := set(told.readers) - set(READERS):
        parser.error(f"there are no readers {', '.join(sorted(unknown))}")
    seed = secrets.randbits(31) if told.seed is None else told.seed
    warnings.simplefilter("error")
    for name in told.readers or READERS:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mscourse-fuzz-")))
            reader = READERS[name](folder)
            start_s = time.perf_counter()
            try:
                counts = run(reader, told.inputs, seed)
            except WrongError as error:
                sys.stderr.write(f"{name}: {error}\n")
                return 1
            elapsed_s = time.perf_counter() - start_s
        sys.stdout.write(
            f"{name}: {told.inputs} inputs from seed {seed} in {elapsed_s:.0f} s, "
            f"{told.inputs / elapsed_s:.0f} a second\n"
        )
        for came_out, count in counts.most_common():
            sys.stdout.write(f"{count:10}  {came_out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
