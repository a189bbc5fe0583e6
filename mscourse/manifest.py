"""The manifest of a dataset: what lies in its folder, as one JSON file that is written last.

A manifest may come from anywhere, so that nothing in it is believed before it is checked: no file
outside its folder is read or removed because of it, and none is unpickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mscourse.arrayfile import ArrayFile, array_file
from mscourse.errors import (
    DamagedSplitsError,
    ParameterError,
    SplitsError,
    SplitsNotFoundError,
)
from mscourse.layout import Layout, LayoutKind, SplitRange
from mscourse.storedfile import PARTIAL_SUFFIX, StoredFile

MANIFEST = "manifest.json"
FORMAT = "mscourse splits"

# 1: arrays and CSR matrices. 2: text, data frames, metadata of the samples.
FORMAT_VERSION = 2

# Suffixes of the data files.
SUFFIXES = (".npy", ".arrow")


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
        with partial.open("x", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
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
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}")
        version = content["format_version"]
        if version > FORMAT_VERSION:
            raise SplitsError(
                f"{path} is of format version {version}, written by a newer mscourse; this one "
                f"reads up to {FORMAT_VERSION}. Update mscourse."
            )
        if version == 1:
            content |= {"data": _data_of_version_1(content["csr_columns"]), "metadata": []}
        return _checked(folder, content)
    except FileNotFoundError as error:
        raise SplitsNotFoundError(f"There are no splits in {folder}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedSplitsError(
            f"{path} is not a manifest of splits ({error!r}); persist them again."
        ) from error


def _data_of_version_1(csr_columns: int | None) -> dict[str, Any]:
    if csr_columns is None:
        return {"kind": "dense"}
    return {"kind": "csr", "n_columns": csr_columns, "container": "matrix"}


def _checked(folder: Path, content: dict[str, Any]) -> Manifest:
    files = {part: _file(folder, entry) for part, entry in content["files"].items()}
    metadata = tuple(content["metadata"])
    n_stored = array_file(files, "rows").shape[0]
    ranges = tuple(SplitRange(*numbers) for numbers in content["ranges"])
    for each in ranges:
        if not (
            0 <= each.train_start < each.train_stop <= n_stored
            and 0 <= each.test_start < each.test_stop <= n_stored
        ):
            raise ValueError(f"{each} is no part of {n_stored} rows")
    return Manifest(
        name=content["name"],
        token=content["token"],
        layout=content["layout"],
        n_samples=content["n_samples"],
        ranges=ranges,
        data=dict(content["data"]),
        metadata=metadata,
        files=files,
    )


def _file(folder: Path, entry: dict[str, Any]) -> StoredFile:
    path = folder / _plain(entry["file"])
    if "dtype" in entry:
        return ArrayFile.from_entry(path, entry)
    return StoredFile(path, entry["sha256"], int(entry["n_bytes"]))


def _plain(name: str) -> str:
    """Give back a file's name, or raise ValueError if it would lead out of the folder."""
    # Whatever system wrote it: "a\\b" is a name on one and a path on another, where "c:" is a disk.
    if name in ("", ".", "..") or any(mark in name for mark in "/\\:\0"):
        raise ValueError(f"{name!r} is no file of its folder")
    return name


def data_files(folder: Path) -> list[Path]:
    """List the data files of the dataset that is in a folder now."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return [folder / _plain(entry["file"]) for entry in content["files"].values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []  # there is none, or one that nobody can open


def check_name(name: str) -> None:
    """Refuse a dataset name that would lead elsewhere."""
    if not name or name != Path(name).name or name.startswith("."):
        raise ParameterError(
            f"name must be a plain folder name such as 'digits', not {name!r}; "
            "the place goes into folder."
        )
