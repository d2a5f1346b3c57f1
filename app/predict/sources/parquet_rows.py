"""Parquet: columns of numbers go into arrays without a Python object, the rest row by row.

A chunk is a number of rows, wherever the row groups of the file begin, so that batches are full. pyarrow is imported
late: nothing else needs it.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from app.predict.errors import BadUse, Stopped
from app.predict.fields import Files, expect_columns, from_values
from app.predict.rows import Block, Chunk, Row
from app.predict.sources import Reading, closed_on_error, file_identity, kept_columns
from app.tasks import Task
from app.tensors import Array

if TYPE_CHECKING:
    import pyarrow as pa

identity = file_identity

MISSING = "Parquet needs pyarrow: pip install 'zero-to-one[offline]'"
_BUFFER_BYTES = 2**20


class ParquetRows:
    """An open file; see :class:`app.predict.sources.Source`."""

    unit = "rows"

    def __init__(self, path: Path, reading: Reading) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as exc:
            raise BadUse(MISSING) from exc
        self._path = path
        self._reading = reading
        self._files = Files(path.parent, reading.max_row_bytes)
        try:
            # read as it is used: without, the whole of a row group would be in memory
            self._file = pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        except (OSError, pa.ArrowException) as exc:
            raise BadUse(f"{path} cannot be read as Parquet: {exc}") from exc
        columns = list(self._file.schema_arrow.names)
        with closed_on_error(self._file):
            expect_columns(reading.fields, columns, str(path))
            self.keep = kept_columns(reading, columns, str(path))
        self.has_ids = reading.id_column is not None
        self._fields = [field for field in reading.fields if field.column in columns]
        wanted = dict.fromkeys((*(field.column for field in self._fields), *self.keep))
        if reading.id_column is not None:
            wanted[reading.id_column] = None
        self._columns = list(wanted)
        self.total = self._file.metadata.num_rows

    def chunks(self, position: Mapping[str, int]) -> Iterator[Chunk]:
        """Yield chunks; see :class:`app.predict.sources.Source`."""
        import pyarrow as pa

        row, size = position.get("row", 0), self._reading.chunk_rows
        gathered: list[pa.RecordBatch] = []
        count = 0
        try:
            for batch in self._batches(row):
                start = 0
                while start < len(batch):
                    piece = batch.slice(start, size - count)
                    gathered.append(piece)
                    start, count = start + len(piece), count + len(piece)
                    if count == size:
                        yield self._chunk(row, gathered, count)
                        row, gathered, count = row + count, [], 0
        except (OSError, pa.ArrowException) as exc:
            raise Stopped(f"{self._path}, from row {row} on: {exc}") from exc
        if count:
            yield self._chunk(row, gathered, count)

    def _batches(self, row: int) -> "Iterator[pa.RecordBatch]":
        """Yield record batches from a row on; row groups before it are not read."""
        metadata = self._file.metadata
        first, skipped = 0, 0
        while first < metadata.num_row_groups and skipped + (rows := metadata.row_group(first).num_rows) <= row:
            first, skipped = first + 1, skipped + rows
        skip = row - skipped
        groups = list(range(first, metadata.num_row_groups))
        if not groups:
            return
        for batch in self._file.iter_batches(
            batch_size=self._reading.chunk_rows, row_groups=groups, columns=self._columns, use_threads=False
        ):  # fmt: skip
            if skip >= len(batch):
                skip -= len(batch)
                continue
            yield batch.slice(skip)
            skip = 0

    def _chunk(self, row: int, batches: "list[pa.RecordBatch]", count: int) -> Chunk:
        stop = row + count
        return Chunk(first_row=row, num_rows=count, end={"row": stop}, done=stop, content=batches)

    def rows(self, chunk: Chunk, task: Task) -> list[Row] | Block:
        """Return one array where the columns allow it; see :class:`app.predict.sources.Source`."""
        import pyarrow as pa

        table = pa.Table.from_batches(chunk.content)
        columns = {name: _one(table.column(name)) for name in self._columns}
        own = self._reading.id_column
        ids = None if own is None else columns[own].to_pylist()
        kept = {name: columns[name].to_pylist() for name in self.keep}
        array = self._array(columns, task)
        if array is not None:
            return Block(array, ids, kept)
        values = {field.column: self._values(columns[field.column], task) for field in self._fields}
        return [
            Row(
                from_values(self._fields, dict(zip(values, cells, strict=True)), self._files),
                id=None if ids is None else ids[index],
                kept=[column[index] for column in kept.values()],
            )
            for index, cells in enumerate(zip(*values.values(), strict=True))
        ]

    def _array(self, columns: "Mapping[str, pa.Array]", task: Task) -> Array | None:
        """Return the rows as one array; None where they have no fixed shape, or one lacks a number."""
        import pyarrow as pa

        shape = None if task.raw is None else task.raw.row_shape
        if shape is None:
            return None
        assert task.raw is not None
        if len(self._fields) == 1:
            column = columns[self._fields[0].column]
            array = _bytes(column, shape, task.raw.dtype) if _is_bytes(column.type) else _flat(column, shape)
        elif all(field.kind == "number" for field in self._fields):
            numbers = [columns[field.column] for field in self._fields]
            if any(pa.types.is_boolean(each.type) or each.null_count or not _is_number(each.type) for each in numbers):
                return None
            array = np.column_stack([each.to_numpy().astype(np.float64) for each in numbers])
        else:
            return None
        return array if array is not None and _fits(array.dtype, task.raw.dtype) else None

    def _values(self, array: "pa.Array", task: Task) -> list[Any]:
        """Return a column as Python holds it; what is flat takes the shape of a row where it has all its numbers."""
        values: list[Any] = array.to_pylist()
        shape = task.raw.row_shape if task.raw is not None and len(self._fields) == 1 else None
        if shape is None:
            return values
        assert task.raw is not None
        if _is_bytes(array.type) and (dtype := _dtype_of(array.type.byte_width, shape, task.raw.dtype)) is not None:
            return [value and np.frombuffer(value, dtype).reshape(shape).tolist() for value in values]
        if len(shape) < 2 or not _is_list(array.type) or _is_list(array.type.value_type):
            return values
        return [value and _nested(value, shape) for value in values]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_source(path: Path, reading: Reading) -> ParquetRows:
    """Open a file; see :func:`app.predict.sources.open_source`."""
    return ParquetRows(path, reading)


def _one(column: "pa.ChunkedArray") -> "pa.Array":
    import pyarrow as pa

    if column.num_chunks == 1:
        return column.chunk(0)  # combining would copy it
    whole = column.combine_chunks()
    return whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole


def _is_number(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _fits(found: "np.dtype[Any]", wanted: "np.dtype[Any]") -> bool:
    """Tell whether numbers of one kind may be cast; what could wrap around or lose its fraction is read one by one."""
    return found.kind in "iuf" if wanted.kind == "f" else np.can_cast(found, wanted, "safe")


def _flat(array: "pa.Array", shape: tuple[int, ...]) -> Array | None:
    """Return a column of lists as one array of shape ``(B, *shape)``: lists in lists, or all numbers in one list."""
    import pyarrow as pa

    count = len(array)
    widths: list[int] = []
    while _is_list(array.type):
        if array.null_count:
            return None
        if isinstance(array.type, pa.FixedSizeListType):
            width = array.type.list_size
        else:
            lengths = np.diff(array.offsets.to_numpy())
            width = int(lengths[0]) if len(lengths) else 0
            if (lengths != width).any():
                return None
        widths.append(width)
        array = array.flatten()
    if array.null_count or not _is_number(array.type) or tuple(widths) not in (shape, (math.prod(shape),)):
        return None
    found: Array = array.to_numpy(zero_copy_only=False)
    return found.reshape(count, *shape)


def _is_bytes(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_fixed_size_binary(kind))


def _dtype_of(width: int, shape: tuple[int, ...], dtype: "np.dtype[Any]") -> "np.dtype[Any] | None":
    """Return what rows of so many bytes hold: the numbers of the input as they lie in memory, or one byte each."""
    numbers = math.prod(shape)
    if width == numbers * dtype.itemsize:
        return dtype
    return np.dtype(np.uint8) if width == numbers and dtype.kind == "f" else None


def _bytes(array: "pa.Array", shape: tuple[int, ...], wanted: "np.dtype[Any]") -> Array | None:
    """Return a column of plain bytes, all of one width, as one array; a view."""
    width = array.type.byte_width
    dtype = _dtype_of(width, shape, wanted)
    if dtype is None or array.null_count:
        return None
    data = memoryview(array.buffers()[1])[array.offset * width : (array.offset + len(array)) * width]
    return np.frombuffer(data, dtype).reshape(len(array), *shape)


def _nested(value: list[Any], shape: tuple[int, ...]) -> Any:
    if len(value) != math.prod(shape):
        return value
    nested: list[Any] = value
    for width in reversed(shape[1:]):
        nested = [nested[start : start + width] for start in range(0, len(nested), width)]
    return nested


def _is_list(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
