"""What is written: the answers of a chunk as bytes of the output, one class for each format.

Every format grows by appending, so that it can be cut back to any chunk. Parquet cannot, having its table of contents
at the end: while rows are computed, they lie in a stream of Arrow's record batches, of which the file is made in the
end, a row group at a time.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np
import orjson

from app.predict.columns import Column, Predictions, cells, values
from app.predict.errors import BadUse, Stopped
from app.predict.sources.parquet_rows import MISSING
from app.tensors import Array

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("csv", "jsonl", "parquet")
_SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
ROW_GROUP_ROWS = 2**16
_FRAME_BYTES = 8
# half a surrogate pair, as the name of a file that is no UTF-8 has, stands in tables as it does in JSON: "\\udcff"
_HALF_PAIRS = "backslashreplace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The answered rows of a chunk.

    Attributes:
        rows_B: Their numbers in the input.
        ids: Their names; None where they have none.
        kept: Columns that are passed on, by name.
        predictions: Of the task.
    """

    rows_B: Array
    ids: Sequence[Any] | None
    kept: dict[str, Sequence[Any]]
    predictions: Predictions


class Sink(Protocol):
    """One format.

    Attributes:
        columns: All that it writes of predictions; None where that is the whole of them.
    """

    columns: Sequence[Column] | None

    def head(self) -> bytes:
        """Return what the output begins with."""
        ...

    def encode(self, answered: Answered) -> bytes:
        """Return what is appended for a chunk; on any thread."""
        ...

    def finish(self, grown: Path, final: Path) -> Path:
        """Return the file that is renamed to the output: what has grown, or what is made of it."""
        ...


def format_of(path: Path, asked: str | None) -> str:
    """Return the format of an output.

    Raises:
        BadUse: Its suffix does not tell.
    """
    found = asked or _SUFFIXES.get(path.suffix.lower())
    if found is None:
        raise BadUse(f"{path.name}: the suffix does not tell the format; name it with --format {'|'.join(FORMATS)}")
    return found


def open_sink(
    kind: str, columns: Sequence[Column], *, has_ids: bool, keep: Sequence[str], wide_floats: bool
) -> Sink:  # fmt: skip
    """Return the sink of a format.

    Args:
        kind: The format.
        columns: Of the predictions.
        has_ids: Whether rows have names.
        keep: Columns that are passed on.
        wide_floats: Whether the model answers float64.

    Raises:
        BadUse: Two columns would have the same name, or pyarrow is missing.
    """
    own = ["row", *(["id"] if has_ids else ()), *(column.name for column in columns)]
    if kind != "jsonl" and (twice := sorted(set(own) & set(keep))):
        raise BadUse(f"the output has a column {', '.join(map(repr, twice))} of its own; keep it under another name")
    if kind == "jsonl":
        return JsonLinesSink()
    return CsvSink(columns, has_ids, keep) if kind == "csv" else ParquetSink(columns, has_ids, keep, wide_floats)


class JsonLinesSink:
    """``{"row": 0, "id": ..., "kept": {...}, "prediction": {...}}`` a line; see :class:`Sink`."""

    columns: Sequence[Column] | None = None

    def head(self) -> bytes:
        """Return nothing."""
        return b""

    def encode(self, answered: Answered) -> bytes:
        """Return a line for each row."""
        ids, kept = answered.ids, answered.kept
        lines: list[bytes] = []
        for index, (row, prediction) in enumerate(
            zip(answered.rows_B.tolist(), answered.predictions.written, strict=True)
        ):  # fmt: skip
            document: dict[str, Any] = {"row": row}
            if ids is not None:
                document["id"] = ids[index]
            if kept:
                document["kept"] = {name: column[index] for name, column in kept.items()}
            document["prediction"] = prediction
            lines.append(_dumps(document))
        lines.append(b"")
        return b"\n".join(lines)

    def finish(self, grown: Path, final: Path) -> Path:
        """Return what has grown."""
        return grown


def _dumps(document: Any) -> bytes:
    try:
        return orjson.dumps(document, default=str)
    except (TypeError, ValueError):  # half a surrogate pair, or an integer beyond 64 bits, that the caller keeps
        return json.dumps(document, default=str).encode()


class CsvSink:
    """A head and a row a line; see :class:`Sink`."""

    def __init__(self, columns: Sequence[Column], has_ids: bool, keep: Sequence[str]) -> None:
        self.columns: Sequence[Column] | None = columns
        self._columns = columns
        self._names = ["row", *(["id"] if has_ids else ()), *keep, *(column.name for column in columns)]

    def head(self) -> bytes:
        """Return the names of the columns."""
        return self._lines([self._names])

    def encode(self, answered: Answered) -> bytes:
        """Return a line for each row."""
        columns = [answered.rows_B.tolist(), *([answered.ids] if answered.ids is not None else ())]
        columns += [*answered.kept.values(), *(cells(column, answered.predictions) for column in self._columns)]
        return self._lines(zip(*columns, strict=True))

    def finish(self, grown: Path, final: Path) -> Path:
        """Return what has grown."""
        return grown

    def _lines(self, rows: Any) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue().encode(errors=_HALF_PAIRS)


class ParquetSink:
    """Typed columns; see :class:`Sink`."""

    def __init__(self, columns: Sequence[Column], has_ids: bool, keep: Sequence[str], wide_floats: bool) -> None:
        try:
            import pyarrow as pa
        except ImportError as exc:
            raise BadUse(MISSING) from exc
        self.columns: Sequence[Column] | None = columns
        self._columns = columns
        self._float = pa.float64() if wide_floats else pa.float32()
        fields = [pa.field("row", pa.int64())]
        if has_ids:
            fields.append(pa.field("id", pa.string()))
        fields += [pa.field(name, pa.string()) for name in keep]
        fields += [pa.field(column.name, self._type(column.example)) for column in columns]
        self._schema = pa.schema(fields)

    def _type(self, example: Any) -> "pa.DataType":
        import pyarrow as pa

        if isinstance(example, list):
            return pa.list_(self._type(example[0] if example else 0.0))
        kinds = {bool: pa.bool_(), int: pa.int64(), str: pa.string()}
        return kinds.get(type(example), self._float)

    def head(self) -> bytes:
        """Return nothing: the schema follows from the model and the options."""
        return b""

    def encode(self, answered: Answered) -> bytes:
        """Return a record batch, behind its length."""
        import pyarrow as pa

        arrays = [pa.array(answered.rows_B, pa.int64())]
        if answered.ids is not None:
            arrays.append(pa.array([_text(id_) for id_ in answered.ids], pa.string()))
        arrays += [pa.array([_text(value) for value in column], pa.string()) for column in answered.kept.values()]
        offset = len(arrays)
        arrays += [
            pa.array(values(column, answered.predictions), self._schema.field(offset + index).type)
            for index, column in enumerate(self._columns)
        ]
        data = pa.RecordBatch.from_arrays(arrays, schema=self._schema).serialize().to_pybytes()
        return _frame(data)

    def finish(self, grown: Path, final: Path) -> Path:
        """Write the file from the record batches, a row group at a time."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        made = final.with_name(f"{final.name}.parquet.partial")
        with grown.open("rb") as file, pq.ParquetWriter(made, self._schema, compression="snappy") as writer:
            group: list[pa.RecordBatch] = []
            rows = 0
            for data in _frames(file):
                group.append(pa.ipc.read_record_batch(pa.py_buffer(data), self._schema))
                rows += len(group[-1])
                if rows >= ROW_GROUP_ROWS:
                    writer.write_table(pa.Table.from_batches(group), row_group_size=rows)
                    group, rows = [], 0
            if group:
                writer.write_table(pa.Table.from_batches(group), row_group_size=rows)
        return made


def _frame(data: bytes) -> bytes:
    return len(data).to_bytes(_FRAME_BYTES, "little") + data


def _frames(file: IO[bytes]) -> Iterator[bytes]:
    while length := file.read(_FRAME_BYTES):
        data = file.read(int.from_bytes(length, "little"))
        if len(data) != int.from_bytes(length, "little"):
            raise Stopped("the rows that were computed have been cut short; begin anew with --restart")
        yield data


def _text(value: Any) -> str | None:
    return None if value is None else str(value).encode(errors=_HALF_PAIRS).decode()


Encode = Callable[[Answered], bytes]


def is_wide(outputs: Sequence[str]) -> bool:
    """Tell whether any of these dtypes is float64."""
    return any(np.dtype(name) == np.float64 for name in outputs)
