"""One array in one ``.npy`` file: written in pieces, checked, and opened as a memory map."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import ArrayLike, DTypeLike, NDArray

from mscourse.errors import ParameterError
from mscourse.storedfile import FileWriter, MapMode, StoredFile, check_mode
from mscourse.values import is_count, shown

# Types as `numpy.dtype.str` writes those of stored arrays. Numpy itself would take more:
# expressions of Python's, and objects, which it would make of any bytes.
_DTYPE = re.compile(r"[<>|][biufcmMSU][0-9]{1,9}(\[[0-9]{0,9}[a-zA-Z]{1,2}\])?", re.ASCII)


@dataclass(frozen=True)
class ArrayFile(StoredFile):
    """A ``.npy`` file that has been written completely.

    Attributes
    ----------
    dtype : str
        Type of its elements, as numpy writes it (``"<f8"``).
    shape : tuple of int
        Its shape.
    """

    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def from_entry(cls, path: Path, entry: dict[str, Any]) -> ArrayFile:
        """Take a file from what the manifest says of it.

        Raises
        ------
        ValueError
            If no such file can have been written.
        """
        dtype, shape = checked_dtype(path.name, entry["dtype"]), tuple(entry["shape"])
        # All of them, before they are the key of a cache: to that, 3.0 and True are integers.
        if not all(map(is_count, shape)):
            raise ValueError(f"{path.name} is said to have the shape {shown(shape)}")
        n_bytes = len(_header(dtype, shape)) + math.prod(shape) * dtype.itemsize
        return cls(path, entry["sha256"], n_bytes, entry["dtype"], shape)

    @cached_property
    def _dtype(self) -> np.dtype[Any]:
        return np.dtype(self.dtype)

    @cached_property
    def _offset(self) -> int:
        """Where the elements begin in the file."""
        return self.n_bytes - math.prod(self.shape) * self._dtype.itemsize

    def open(self, mmap_mode: MapMode | None) -> NDArray[Any]:
        """Map the array, or read it into memory if the mode is None.

        Each call makes a map of its own, since what is written into a copy-on-write map is seen
        by all views of that map.
        """
        check_mode(mmap_mode)
        if mmap_mode is None or 0 in self.shape:  # an empty file range cannot be mapped
            # Not by np.load, which believes what the file says of itself: here it is what the
            # manifest says, as it is for a map.
            return np.ndarray(self.shape, self._dtype, self._read(), self._offset)
        return self._map(mmap_mode, self.shape, self._dtype, self._offset)

    def entry(self) -> dict[str, Any]:
        """Say in the manifest what the file is; its size follows."""
        return {
            "file": self.path.name,
            "dtype": self.dtype,
            "shape": self.shape,
            "sha256": self.sha256,
        }


class ArrayWriter(FileWriter):
    """Write an array of known shape in pieces, in the order of its rows."""

    def __init__(
        self, path: Path, dtype: DTypeLike, shape: tuple[int, ...], *, durable: bool = True
    ) -> None:
        self._dtype = np.dtype(dtype)
        self._shape = shape
        header = _header(self._dtype, shape)
        n_bytes = len(header) + math.prod(shape) * self._dtype.itemsize
        super().__init__(path, n_bytes, durable=durable)
        self.put(memoryview(header))

    def write(self, rows: ArrayLike) -> None:
        """Append rows, converted to the file's type.

        Raises
        ------
        ParameterError
            If a value cannot be converted, or would become another integer.
        """
        try:
            with np.errstate(invalid="ignore"):  # that a float is no integer is said below
                array = np.ascontiguousarray(rows, self._dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise ParameterError(f"The data cannot be stored as {self._dtype}: {error}") from error
        self._check_integers(np.asarray(rows), array)
        self.put(array.reshape(-1).view(np.uint8).data)

    def _check_integers(self, given: NDArray[Any], stored: NDArray[Any]) -> None:
        """Refuse to wrap numbers round, and to cut off what comes after the point."""
        if stored.dtype.kind not in "biu" or given.dtype.kind not in "biufcO":
            return
        differs = np.flatnonzero(given != stored)
        if len(differs):
            value = given.reshape(-1)[differs[0]]
            raise ParameterError(
                f"The data cannot be stored as {self._dtype}: {value} would become "
                f"{stored.reshape(-1)[differs[0]]}."
            )

    def finish(self) -> ArrayFile:
        """Flush the file to the disk if it must last, and give it its name."""
        file = super().finish()
        return ArrayFile(file.path, file.sha256, file.n_bytes, self._dtype.str, self._shape)


class NewFiles:
    """The files of a dataset that is being written.

    Their names carry a token of their own, so that they stand beside those of the dataset that
    they replace.

    Parameters
    ----------
    folder : pathlib.Path
        Where they are written.
    token : str
        What tells them from other versions.
    durable : bool
        Whether they must outlive a crash of the machine.
    """

    def __init__(self, folder: Path, token: str, *, durable: bool) -> None:
        self.folder = folder
        self._token = token
        self._durable = durable
        self._writers: dict[str, FileWriter] = {}

    def array(self, part: str, dtype: DTypeLike, *shape: int) -> ArrayWriter:
        """Begin a ``.npy`` file."""
        path = self.folder / f"{part}-{self._token}.npy"
        writer = ArrayWriter(path, dtype, shape, durable=self._durable)
        self._writers[part] = writer
        return writer

    def file(self, part: str, suffix: str, n_bytes: int) -> FileWriter:
        """Begin a file of another format."""
        path = self.folder / f"{part}-{self._token}{suffix}"
        writer = self._writers[part] = FileWriter(path, n_bytes, durable=self._durable)
        return writer

    def finish(self) -> dict[str, StoredFile]:
        """Give all files their names."""
        return {part: writer.finish() for part, writer in self._writers.items()}

    def discard(self) -> None:
        """Remove all of them."""
        for writer in self._writers.values():
            writer.discard()


def array_file(files: Mapping[str, StoredFile], part: str, n_rows: int | None = None) -> ArrayFile:
    """Find the array of a part; it must have so many rows, if that is known.

    Raises
    ------
    KeyError, ValueError
        If the manifest names none.
    """
    file = files[part]
    if not isinstance(file, ArrayFile):
        raise ValueError(f"the file of {part} is no array")
    if not file.shape or n_rows not in (None, file.shape[0]):
        raise ValueError(f"{part} has the shape {file.shape}, but {n_rows} rows are stored")
    return file


def vector_file(
    files: Mapping[str, StoredFile], part: str, kinds: str, length: int | None = None
) -> ArrayFile:
    """Find an array of one dimension, whose type is of one of these kinds of numpy's.

    Raises
    ------
    KeyError, ValueError
        If the manifest names none.
    """
    file = array_file(files, part, length)
    if len(file.shape) != 1 or np.dtype(file.dtype).kind not in kinds:
        raise ValueError(f"{part} is an array of {file.dtype} of the shape {file.shape}")
    return file


def checked_dtype(what: str, dtype: Any) -> np.dtype[Any]:
    """Take a type of numpy's from a manifest.

    Raises
    ------
    ValueError
        If nothing of such a type is stored.
    """
    if isinstance(dtype, str) and _DTYPE.fullmatch(dtype):
        return np.dtype(dtype)
    if dtype in ("O", "|O"):  # would be pickled
        raise ValueError(f"{what} is said to hold Python objects")
    raise ValueError(f"{what} is said to be of dtype {shown(dtype)}")


@functools.lru_cache  # a tenth of the time that opening splits takes
def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Build the bytes that stand before the elements of a ``.npy`` file, magic number included.

    Raises
    ------
    ValueError
        If there can be no such array.
    """
    # Numpy refuses what has too many dimensions, or more bytes than there are addresses.
    np.broadcast_to(np.empty((), dtype), shape)
    buffer = BytesIO()
    npy.write_array_header_1_0(
        buffer, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()
