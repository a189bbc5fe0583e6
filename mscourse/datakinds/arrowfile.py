"""One Arrow IPC file: one record batch, not compressed, and aligned so that its map can be used.

Numbers, times and codes begin at multiples of 64 bytes, so that any library takes them as they are.
The columns whose buffers pyarrow does not let us pad come last, where they move no others: views of
strings at multiples of 16 bytes, and strings with offsets, lists and the like at multiples of 8, as
long as their elements are.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mscourse.arrayfile import NewFiles

_ALIGNMENT_BYTES = 64

# A field of Arrow's and its values.
Column = tuple[Any, Any]


class Shelf:
    """Where columns lie until there are all of them: a file without a name, gone with the process.

    One for all columns, since a map holds its file open and a process may open only so many.

    Parameters
    ----------
    folder : pathlib.Path
        On which disk it lies.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by __exit__
        self._places: list[tuple[Any, int, int]] = []

    def __enter__(self) -> Shelf:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def put(self, field: Any, values: Any) -> None:
        """Lay down a column."""
        import pyarrow as pa

        self._file.write(bytes(-self._file.tell() % _ALIGNMENT_BYTES))
        start = self._file.tell()
        _write_file(self._file.write, pa.record_batch([values], schema=pa.schema([field])))
        self._places.append((field, start, self._file.tell()))

    def columns(self) -> list[Column]:
        """Map all of them."""
        import pyarrow as pa

        self._file.flush()
        whole = pa.py_buffer(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))
        columns = []
        for field, start, stop in self._places:
            part = whole.slice(start, stop - start)
            array = pa.ipc.open_file(pa.BufferReader(part)).get_batch(0).column(0)
            columns.append((field, _padded(array, part)))
        return columns


def _rank(kind: Any) -> int:
    """Say how well an array of a type can be padded, so that what follows it stays aligned."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return 0
    if kind.num_fields > 0 or isinstance(kind, pa.BaseExtensionType) or pa.types.is_null(kind):
        return 2
    try:
        return 0 if kind.bit_width else 2
    except ValueError:  # of no fixed width; views are of 16 bytes each, offsets of 4 or 8
        return 1 if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind) else 2


def _padded(array: Any, file: Any) -> Any:
    """Lengthen the buffers of an array in a file to multiples of 64 bytes.

    Pyarrow has no option for it, but writes as much of a buffer as there is of it, up to such a
    multiple. What is added are the bytes that follow in the file, which nobody reads.
    """
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        return pa.DictionaryArray.from_arrays(
            _padded(array.indices, file), array.dictionary, ordered=array.type.ordered, safe=False
        )
    if _rank(array.type) == 2:
        return array
    buffers = []
    for buffer in array.buffers():
        if buffer is None or not buffer.size:
            buffers.append(buffer)
            continue
        start = buffer.address - file.address
        n_bytes = -(-buffer.size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        buffers.append(file.slice(start, min(n_bytes, file.size - start)))
    return pa.Array.from_buffers(array.type, len(array), buffers, array.null_count)


def write_columns(files: NewFiles, parts: list[Column]) -> list[int]:
    """Write columns as one record batch; say where each of them lies in it."""
    order = sorted(range(len(parts)), key=lambda i: _rank(parts[i][0].type))
    _write_batch(files, [parts[i] for i in order])
    places: list[int] = np.argsort(order).tolist()
    return places


def _write_batch(files: NewFiles, parts: list[Column]) -> None:
    import pyarrow as pa

    arrays = [values for _, values in parts]
    fields = [field for field, _ in parts]
    for n_padding in range(0, 2 * _ALIGNMENT_BYTES, 8):
        # The buffers lie at multiples of 64 bytes from the first one, whose place depends on the
        # length of what stands before it; so that is made longer.
        schema = pa.schema(fields, metadata={"padding": "." * n_padding})
        batch = pa.record_batch(arrays, schema=schema)
        tape = _Tape(arrays)
        _write_file(tape.put, batch)
        if tape.first is None or tape.first % _ALIGNMENT_BYTES == 0:
            break
    writer = files.file("X", ".arrow", tape.n_bytes)
    _write_file(writer.put, batch)


def _write_file(put: Callable[[memoryview], object], batch: Any) -> None:
    import pyarrow as pa

    with pa.ipc.new_file(_Sink(put), batch.schema) as writer:
        writer.write_batch(batch)


class _Sink:
    """The part of a file that pyarrow writes to."""

    closed = False

    def __init__(self, put: Callable[[memoryview], object]) -> None:
        self._put = put

    def write(self, piece: Any) -> None:
        with memoryview(piece) as view, view.cast("B") as whole:
            self._put(whole)

    def flush(self) -> None:
        pass


class _Tape:
    """Measures what is written: how much it is, and where the first buffer of the columns lies."""

    def __init__(self, arrays: list[Any]) -> None:
        buffers = (buffer for array in arrays for buffer in array.buffers() if buffer)
        self._addresses = {buffer.address for buffer in buffers if buffer.size}
        self.n_bytes = 0
        self.first: int | None = None

    def put(self, piece: memoryview) -> None:
        # No bytes are looked at, so that this costs next to nothing.
        address = np.frombuffer(piece, np.uint8).__array_interface__["data"][0]
        if self.first is None and address in self._addresses:
            self.first = self.n_bytes
        self.n_bytes += len(piece)
