"""Tables are read as they stand, chunk after chunk, and what is wrong with a row is said with its line."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.predict import sources
from app.predict.decoding import decode_block, decode_rows
from app.predict.errors import BadUse
from app.predict.fields import fields_of
from app.predict.rows import Block, Instance, Row, Unreadable
from app.predict.sources import Reading
from app.tasks import Task
from tests.support.tasks import tabular_task_of, task_of

NAMES = ("mean radius", "a/b~c", "model")
HEAD = ",".join(NAMES)
TABULAR = tabular_task_of()


def opened(path: Path, task: Task = TABULAR, **changes: Any) -> sources.Source:
    defaults: dict[str, Any] = {"chunk_rows": 2, "chunk_bytes": 10_000, "max_row_bytes": 200}
    reading = Reading(fields=fields_of(task), **(defaults | changes))
    return sources.open_source(path, sources.format_of(path, None), reading)


def rows_of(path: Path, task: Task = TABULAR, **changes: Any) -> list[Row]:
    source = opened(path, task, **changes)
    found: list[Row] = []
    for chunk in source.chunks({}):
        some = source.rows(chunk, task)
        assert isinstance(some, list)
        found += some
    source.close()
    return found


def csv_rows(tmp_path: Path, text: str | bytes, **changes: Any) -> list[Row]:
    (tmp_path / "in.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return rows_of(tmp_path / "in.csv", **changes)


def features(row: Row) -> Any:
    assert isinstance(row.question, Instance), row.question
    return row.question.document["features"]  # type: ignore[index]


def fault(row: Row) -> Unreadable:
    assert isinstance(row.question, Unreadable)
    return row.question


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_columns_are_found_by_name(before: bytes, end: bytes, tmp_path: Path) -> None:
    lines = [b"model,extra,mean radius,a/b~c", b"3,x,1,.5", b"", b"-3e1,y, 2 ,+0.25"]
    rows = csv_rows(tmp_path, before + end.join(lines))
    assert [features(row) for row in rows] == [
        {"mean radius": 1.0, "a/b~c": 0.5, "model": 3.0},
        {"mean radius": 2.0, "a/b~c": 0.25, "model": -30.0},
    ]
    assert [row.line for row in rows] == [2, 4]


def test_rows_that_cannot_be_read_are_told_with_their_line(tmp_path: Path) -> None:
    lines = [HEAD.encode(), b"1,0,1", b"1,0", b"1,,1", b"1,\xff,1", b"1" * 300, b"1,0,2"]
    rows = csv_rows(tmp_path, b"\n".join(lines))
    assert [row.line for row in rows] == [2, 3, 4, 5, 6, 7]
    assert [fault(row).code for row in rows[1:5]] == ["wrong_width", "empty_cell", "not_utf8", "body_too_large"]
    assert fault(rows[1]).message == "line 3 has 2 cells, and the head has 3 columns"
    assert "line 5, byte 3" in fault(rows[3]).message
    assert features(rows[5])["model"] == 2.0


def test_a_quote_left_open_costs_its_own_rows_only(tmp_path: Path) -> None:
    good = "1,0,1\n" * 100
    rows = csv_rows(tmp_path, f'{HEAD}\n1,"0,1\n{good}')
    assert fault(rows[0]).code == "body_too_large"
    assert rows[0].line == 2
    assert 60 < len(rows) < 100
    assert features(rows[-1])["model"] == 1.0


@pytest.mark.parametrize("cell", ["1_000", "٣", "abc", "true", "0x10"])
def test_what_no_number_is_in_json_is_none_in_a_cell(cell: str, tmp_path: Path) -> None:
    (row,) = csv_rows(tmp_path, f"{HEAD}\n{cell},0,1\n")
    decoded = decode_rows(TABULAR, [row], 7, is_ragged=False)
    (rejection,) = decoded.rejections
    assert rejection.row == 7
    assert rejection.line == 2
    assert rejection.faults[0].pointer == "#/instances/0/features/mean%20radius"


@pytest.mark.parametrize(("cell", "code"), [("nan", "not_finite"), ("1e400", "not_finite"), ("-1", "out_of_range")])
def test_numbers_are_held_to_the_same_bounds(cell: str, code: str, tmp_path: Path) -> None:
    (row,) = csv_rows(tmp_path, f"{HEAD}\n{cell},0,1\n")
    (rejection,) = decode_rows(TABULAR, [row], 0, is_ragged=False).rejections
    assert [each.code for each in rejection.faults] == [code]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is empty"),
        (b"a,b\n1,2\n", "line 1: no column 'mean radius', 'a/b~c', 'model'"),
        (HEAD.encode() + b",model\n", "'model' is there twice"),
        (HEAD.encode("utf-16"), "is UTF-16"),
        (b"mean\0radius\n", "NUL in line 1, column 5"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_at_once(text: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(BadUse, match=words.replace("(", r"\(")):
        csv_rows(tmp_path, text)


def test_columns_are_kept_and_name_rows(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(f"who,{HEAD},note\nA,1,0,1,n\n")
    (row,) = rows_of(tmp_path / "in.csv", id_column="who", keep=("all",))
    assert (row.id, list(row.kept)) == ("A", ["n"])
    with pytest.raises(BadUse, match="no column 'nope'"):
        opened(tmp_path / "in.csv", keep=("nope",))


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl"])
def test_every_chunk_can_be_gone_on_from(name: str, tmp_path: Path) -> None:
    cells = [f"{n},0,{n}" for n in range(7)]
    objects = [f'{{"features": {{"mean radius": {n}, "a/b~c": 0, "model": {n}}}}}' for n in range(7)]
    (tmp_path / name).write_text("\n".join([HEAD, *cells] if name == "in.csv" else objects) + "\n\n")
    source = opened(tmp_path / name)
    chunks = list(source.chunks({}))
    assert [(chunk.first_row, chunk.num_rows) for chunk in chunks] == [(0, 2), (2, 2), (4, 2), (6, 1)]
    for index, chunk in enumerate(chunks):
        rest = list(source.chunks(chunk.end))
        assert [one.content for one in rest] == [one.content for one in chunks[index + 1 :]]
    source.close()


def write(path: Path, rows_BHW: "np.ndarray[Any, Any]", kind: str) -> None:
    flat = pa.array(rows_BHW.reshape(-1))
    _, height, width = rows_BHW.shape
    column = {
        "flat": lambda: pa.FixedSizeListArray.from_arrays(flat, height * width),
        "nested": lambda: pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(flat, width), height),
        "lists": lambda: pa.array(rows_BHW.tolist()),
        "bytes": lambda: pa.array([row.tobytes() for row in rows_BHW], pa.binary(rows_BHW[0].nbytes)),
    }[kind]()
    pq.write_table(pa.table({"image": column}), path, row_group_size=3)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("kind", ["flat", "nested", "lists", "bytes"])
def test_parquet_becomes_arrays(kind: str, dtype: str, tmp_path: Path) -> None:
    task = task_of()
    images_BHW = np.arange(42).reshape(7, 2, 3).astype(dtype)
    write(tmp_path / "in.parquet", images_BHW, kind)
    source = opened(tmp_path / "in.parquet", task)
    found = []
    for chunk in source.chunks({"row": 1}):
        block = source.rows(chunk, task)
        assert isinstance(block, Block)
        found += [part["image"] for part in decode_block(task, block, 0).parts]
    assert np.array_equal(np.concatenate(found), images_BHW[1:].astype(np.float32))
    source.close()


@pytest.mark.parametrize("kind", ["flat", "nested", "lists", "bytes"])
def test_a_number_out_of_range_costs_its_own_row_only(kind: str, tmp_path: Path) -> None:
    task = task_of()
    images_BHW = np.ones((2, 2, 3), np.float32)
    images_BHW[1, 0, 2] = np.nan
    write(tmp_path / "in.parquet", images_BHW, kind)
    source = opened(tmp_path / "in.parquet", task)
    (chunk,) = source.chunks({})
    block = source.rows(chunk, task)
    assert isinstance(block, Block)
    decoded = decode_block(task, block, 10)
    assert decoded.rows_B.tolist() == [0]
    assert [(each.row, each.faults[0].code) for each in decoded.rejections] == [(11, "not_finite")]
    source.close()


def test_lists_of_another_length_or_none_are_refused_alone(tmp_path: Path) -> None:
    task = task_of()
    pq.write_table(pa.table({"image": [[1] * 6, None, [1] * 5]}), tmp_path / "in.parquet")
    decoded = decode_rows(task, rows_of(tmp_path / "in.parquet", task, chunk_rows=3), 0, is_ragged=False)
    assert decoded.rows_B.tolist() == [0]
    assert [each.row for each in decoded.rejections] == [1, 2]


def test_numbers_of_a_table_in_parquet_become_one_array(tmp_path: Path) -> None:
    table = {"model": [3.0, 4.0], "mean radius": [1, 2], "a/b~c": pa.array([0.5, 1.0], pa.float32())}
    pq.write_table(pa.table(table), tmp_path / "in.parquet")
    source = opened(tmp_path / "in.parquet")
    (chunk,) = source.chunks({})
    block = source.rows(chunk, TABULAR)
    assert isinstance(block, Block)
    assert block.array.tolist() == [[1.0, 0.5, 3.0], [2.0, 1.0, 4.0]]
    source.close()


def test_an_unknown_suffix_asks_for_the_format(tmp_path: Path) -> None:
    (tmp_path / "in.dat").write_text("")
    with pytest.raises(BadUse, match="--input-format"):
        sources.format_of(tmp_path / "in.dat", None)
    with pytest.raises(BadUse, match="there is no"):
        sources.format_of(tmp_path / "none.csv", None)
