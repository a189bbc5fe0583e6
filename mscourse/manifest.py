"""The manifest of a dataset: what lies in its folder, as one JSON file that is written last.

A manifest may come from anywhere, so that nothing in it is believed before it is checked: no file
outside its folder is read or removed because of it, none is unpickled, and what is no data file of
ours is left alone. Its own checksum tells what was written from what came of it by accident; it
does not tell who wrote it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from mscourse.arrayfile import ArrayFile, array_file, vector_file
from mscourse.durable import flush
from mscourse.errors import (
    DamagedSplitsError,
    ParameterError,
    SplitsError,
    SplitsNotFoundError,
)
from mscourse.layout import Layout, LayoutKind, SplitRange
from mscourse.storedfile import PARTIAL_SUFFIX, StoredFile
from mscourse.values import is_count, shown, told

MANIFEST = "manifest.json"
FORMAT = "mscourse splits"

# 1: arrays and CSR matrices. 2: text, data frames, metadata of the samples, a checksum of itself.
FORMAT_VERSION = 2

# What a data file is called: what it holds, and the token of its version. Nothing else is opened,
# and nothing else is removed from a folder, which may have been somebody's before a dataset was.
_DATA_FILE = re.compile(r"[A-Za-z]+[0-9]*-[0-9a-f]{8}\.(npy|arrow)", re.ASCII)

_SHA256 = re.compile(r"[0-9a-f]{64}")

# What stands before the checksum of a manifest. It is taken of the bytes, since a manifest of many
# splits is long, and an engine reads it for each search.
_SEAL = b', "sha256": "'

# The longest name that file systems take.
_LONGEST_NAME_BYTES = 255


@dataclass(frozen=True, eq=False)
class Manifest:
    """What lies in the folder of a dataset.

    Attributes
    ----------
    name : str
        The dataset's name.
    token : str
        What tells this version from others of the same name.
    layout : {"line", "ring", "block"}
        How the rows are stored.
    n_samples : int
        Rows of the dataset that was persisted.
    ranges : tuple of SplitRange
        Where each split lies in the stored rows.
    data : dict
        How X is stored (see `mscourse.datakinds`): its ``"kind"``, and what that kind notes.
    metadata : tuple of str
        Names of the metadata of the samples. The n-th of them is in the file ``metadata<n>``.
    files : dict of str to StoredFile
        The data files, by what they hold.
    """

    name: str
    token: str
    layout: LayoutKind
    n_samples: int
    ranges: tuple[SplitRange, ...]
    data: dict[str, Any]
    metadata: tuple[str, ...]
    files: dict[str, StoredFile]


def write_manifest(
    folder: Path,
    token: str,
    layout: Layout,
    facts: Mapping[str, Any],
    files: Mapping[str, StoredFile],
) -> None:
    """Write the manifest, whose renaming makes the dataset exist.

    Parameters
    ----------
    folder : pathlib.Path
        The dataset's folder.
    token : str
        What tells this version from others.
    layout : Layout
        Where the rows lie.
    facts : dict
        The other entries: name, n_samples, data, metadata, and what is only for people.
    files : dict of str to StoredFile
        The data files, by what they hold.
    """
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **facts,
        "token": token,
        "layout": layout.kind,
        "files": {part: file.entry() for part, file in files.items()},
        "ranges": layout.ranges,
    }
    partial = folder / f"{MANIFEST}-{token}{PARTIAL_SUFFIX}"
    try:
        with partial.open("xb") as file:
            file.write(seal(json.dumps(content).encode("ascii")))
            file.flush()
            flush(file.fileno())
        partial.replace(folder / MANIFEST)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest in a folder.

    Raises
    ------
    SplitsNotFoundError
        If there is none.
    DamagedSplitsError
        If it cannot be read, or tells of a file outside its folder.
    SplitsError
        If a newer version of the package has written it.
    """
    path = folder / MANIFEST
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise SplitsNotFoundError(f"There are no splits in {folder}.") from error
    except OSError as error:
        raise SplitsError(f"{path} cannot be read: {error}.") from error
    return parse_manifest(raw, folder)


def parse_manifest(raw: bytes, folder: Path) -> Manifest:
    """Check what the manifest in a folder says.

    Raises
    ------
    DamagedSplitsError
        If it is none, is not as it was written, or tells of a file outside its folder.
    SplitsError
        If a newer version of the package has written it.
    """
    path = folder / MANIFEST
    try:
        content = _as_dict(json.loads(raw.decode("utf-8")))
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {shown(content['format'])}")
        version = content["format_version"]
        if not is_count(version, least=1):
            raise ValueError(f"its format version is {shown(version)}")
        if version > FORMAT_VERSION:
            raise SplitsError(
                f"{path} is of format version {version}, written by a newer mscourse; this one "
                f"reads up to {FORMAT_VERSION}. Update mscourse."
            )
        if version == 1:
            facts = {"data": _data_of_version_1(content["csr_columns"]), "metadata": []}
            manifest = _checked(folder, content | facts)
        else:
            manifest = _checked(folder, content)
        # After the other checks, which say better what is wrong. Nothing has been opened yet.
        if version > 1 and raw != seal(raw.rpartition(_SEAL)[0] + b"}"):
            raise ValueError("it was changed after it was written")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedSplitsError(
            f"{path} is not a manifest of splits ({told(error)}); persist them again."
        ) from error
    return manifest


def seal(raw: bytes) -> bytes:
    """Put the checksum of a manifest at its end, as one more entry of it."""
    checksum = hashlib.sha256(raw).hexdigest().encode("ascii")
    return raw.removesuffix(b"}") + _SEAL + checksum + b'"}'


def _data_of_version_1(csr_columns: int | None) -> dict[str, Any]:
    if csr_columns is None:
        return {"kind": "dense"}
    return {"kind": "csr", "n_columns": csr_columns, "container": "matrix"}


def _checked(folder: Path, content: dict[str, Any]) -> Manifest:
    for key in ("name", "token"):
        if not isinstance(content[key], str):
            raise ValueError(f"its {key} is {shown(content[key])}")
    if content["layout"] not in get_args(LayoutKind):
        raise ValueError(f"its layout is {shown(content['layout'])}")
    if not is_count(content["n_samples"], least=1):
        raise ValueError(f"it is of {shown(content['n_samples'])} rows")
    files = {part: _file(folder, entry) for part, entry in _as_dict(content["files"]).items()}
    n_stored = vector_file(files, "rows", "i").shape[0]
    metadata = tuple(_as_list(content["metadata"]))
    if not all(isinstance(name, str) for name in metadata) or len(set(metadata)) < len(metadata):
        raise ValueError(f"its metadata are named {shown(metadata)}")
    for part in (*(["y"] if "y" in files else []), *(f"metadata{i}" for i in range(len(metadata)))):
        array_file(files, part, n_stored)
    return Manifest(
        name=content["name"],
        token=content["token"],
        layout=content["layout"],
        n_samples=content["n_samples"],
        ranges=_ranges(_as_list(content["ranges"]), n_stored),
        data=_as_dict(content["data"]),
        metadata=metadata,
        files=files,
    )


def _ranges(entries: list[Any], n_stored: int) -> tuple[SplitRange, ...]:
    if not entries:
        raise ValueError("it has no splits")
    ranges = []
    for entry in entries:
        a, b, c, d = _as_list(entry)
        # Not isinstance: a boolean is an integer too, and 1.0 would pass as a place in an array.
        # Not a loop: there may be as many splits as rows.
        are_integers = type(a) is type(b) is type(c) is type(d) is int
        if not (are_integers and 0 <= a < b <= n_stored and 0 <= c < d <= n_stored):
            raise ValueError(f"{shown(entry)} is no part of {n_stored} rows")
        ranges.append(SplitRange(a, b, c, d))
    return tuple(ranges)


def _file(folder: Path, entry: Any) -> StoredFile:
    entry = _as_dict(entry)
    path = folder / _data_file(entry["file"])
    sha256 = entry["sha256"]
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ValueError(f"the checksum of {path.name} is {shown(sha256)}")
    if "dtype" in entry:
        return ArrayFile.from_entry(path, entry)
    if not is_count(entry["n_bytes"]):
        raise ValueError(f"{path.name} is said to have {shown(entry['n_bytes'])} bytes")
    return StoredFile(path, sha256, entry["n_bytes"])


def _as_dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{shown(value)} stands where names and values should")
    return value


def _as_list(value: Any) -> list[Any]:
    # A string and a dict could be gone through too, and would be taken for something else.
    if not isinstance(value, list):
        raise TypeError(f"{shown(value)} stands where a list should")
    return value


def _data_file(name: Any) -> str:
    """Give back the name of a data file, or raise ValueError if it is none of this folder."""
    if not is_data_file(name):
        raise ValueError(f"{shown(name)} is no data file of its folder")
    return str(name)


def is_data_file(name: object) -> bool:
    """Whether a file with this name can be one of a dataset."""
    return isinstance(name, str) and bool(_DATA_FILE.fullmatch(name))


def is_partial(name: str) -> bool:
    """Whether a file with this name can be what a writer has left half-way."""
    whole = name.removesuffix(PARTIAL_SUFFIX)
    return whole != name and (is_data_file(whole) or whole.startswith(f"{MANIFEST}-"))


def data_files(folder: Path) -> list[Path]:
    """List the data files of the dataset that is in a folder now."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return [folder / _data_file(entry["file"]) for entry in content["files"].values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []  # there is none, or one that nobody can open


def check_name(name: object) -> None:
    """Refuse a dataset name that would lead elsewhere, or that no file system takes."""
    if (
        not isinstance(name, str)
        or not name
        or name != Path(name).name
        or name.startswith(".")
        or "\\" in name  # a path, where the dataset may be taken to
        or "\0" in name
    ):
        raise ParameterError(
            f"name must be a plain folder name such as 'digits', not {shown(name)}; "
            "the place goes into folder."
        )
    try:
        n_bytes = len(os.fsencode(name))
    except UnicodeEncodeError as error:
        raise ParameterError(f"name={name!r} cannot be the name of a folder: {error}.") from error
    if n_bytes > _LONGEST_NAME_BYTES:
        raise ParameterError(
            f"name has {n_bytes} bytes, more than the {_LONGEST_NAME_BYTES} that the name of a "
            f"folder may have: {shown(name)}"
        )


def checked_folder(folder: object) -> Path:
    """Give the absolute path of a folder, which need not exist.

    Raises
    ------
    ParameterError
        If it can be no path.
    """
    try:
        path = Path(folder).absolute()  # type: ignore[arg-type]  # that is what is found out
        possible = b"\0" not in os.fsencode(path)
    except (TypeError, ValueError):
        possible = False
    if not possible:
        raise ParameterError(f"folder must be the path of a folder, not {shown(folder)}.")
    return path
