"""Tensors as they are: every dtype, shape and bound, open axes, lengths, and what is refused at its place."""

import dataclasses
import json
import math
from typing import Any

import jsonschema
import numpy as np
import pytest

from app import tasks
from app.errors import BundleError, InvalidInput, TooManyValues, UnsupportedMedia
from app.tasks import Limits, Task
from app.tasks import tensors as module
from app.tasks.decoding.strict_json import parse_json
from tests.support.bundles import manifest_document
from tests.support.kinds import kind_document
from tests.support.tasks import LIMITS, bundle_of

Spec = dict[str, Any]


def spec(name: str, dtype: str, *axes: int | str) -> Spec:
    return {"name": name, "dtype": dtype, "shape": ["batch", *axes]}


def task_of(*inputs: Spec, limits: Limits = LIMITS, outputs: list[Spec] | None = None, **settings: Any) -> Task:
    document = kind_document("tensors") | {"inputs": list(inputs), "task": {"kind": "tensors"} | settings}
    if outputs is not None:
        document |= {"outputs": outputs}
    return tasks.create(bundle_of(document), limits)


def series_task(**settings: Any) -> Task:
    """Return the task of a model of two ragged inputs and their lengths."""
    inputs = spec("steps", "float32", "time", 2), spec("marks", "int32", "time"), spec("lengths", "int64")
    return task_of(*inputs, **{"max_lengths": {"time": 5}} | settings)


def body(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"instances": [{"inputs": row} for row in rows]}


def faults(task: Task, document: object) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as caught:
        task.decode_json(document)
    return [(fault.pointer.removeprefix("#/instances/"), fault.code) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("dtype", "numbers"),
    [
        ("float32", [0, -1.5, 3.4028234663852886e38]),
        ("float64", [0.1, -1.7976931348623157e308, 5e-324]),
        ("int64", [2**63 - 1, -(2**63), 2**53 + 1]),
        ("int64", [3.0, 2**53 + 1, 1e18]),
        ("int32", [2**31 - 1, -(2**31), 0]),
        ("uint8", [0, 255, 7.0]),
        ("bool", [True, False, True]),
    ],
)
def test_every_dtype_arrives_to_the_last_bit(dtype: str, numbers: list[Any]) -> None:
    task = task_of(spec("x", dtype, 3), spec("one", dtype))
    tensors = task.decode_json(body({"x": numbers, "one": numbers[0]}, {"one": numbers[1], "x": numbers[::-1]}))
    assert tensors["x"].dtype == tensors["one"].dtype == dtype
    assert (tensors["x"].shape, tensors["one"].shape) == ((2, 3), (2,))
    expected = numbers if dtype.startswith("float") or dtype == "bool" else [int(number) for number in numbers]
    assert tensors["x"].tolist() == [expected, expected[::-1]]
    assert tensors["one"].tolist() == expected[:2]


@pytest.mark.parametrize(
    ("dtype", "value", "place", "code"),
    [
        ("float32", [1, 1e39], "/1", "out_of_range"),
        ("float32", [math.nan, 1], "/0", "not_finite"),
        ("float64", [1, math.inf], "/1", "not_finite"),
        ("float64", [1, 10**399], "/1", "out_of_range"),
        ("float32", [True, 1], "/0", "wrong_type"),
        ("float32", ["1", 1], "/0", "wrong_type"),
        ("float32", [None, 1], "/0", "wrong_type"),
        ("float32", [[1], 1], "/0", "wrong_type"),
        ("float32", [1], "", "wrong_shape"),
        ("float32", [1, 2, 3], "", "wrong_shape"),
        ("float32", 1, "", "wrong_type"),
        ("float32", {"0": 1}, "", "wrong_type"),
        ("int64", [1, 2.5], "/1", "not_whole"),
        ("int64", [2**63, 0], "/0", "out_of_range"),
        ("int64", [9.3e18, 0], "/0", "out_of_range"),
        ("int32", [2**31, 0], "/0", "out_of_range"),
        ("uint8", [256, 0], "/0", "out_of_range"),
        ("uint8", [-1, 0], "/0", "out_of_range"),
        ("int64", [True, 0], "/0", "wrong_type"),
        ("int64", [math.nan, 0], "/0", "not_finite"),
        ("bool", [1, True], "/0", "wrong_type"),
        ("bool", ["true", True], "/0", "wrong_type"),
    ],
)
def test_what_a_dtype_cannot_hold_is_refused_at_its_place(dtype: str, value: Any, place: str, code: str) -> None:
    task = task_of(spec("x", dtype, 2))
    good = [True, False] if dtype == "bool" else [1, 2]
    assert faults(task, body({"x": good}, {"x": value})) == [(f"1/inputs/x{place}", code)]


def test_bounds_are_held_and_told() -> None:
    task = task_of(spec("x", "float32", 2), spec("n", "int64"), bounds={"x": {"low": -1}, "n": {"low": 0.5, "high": 3}})
    assert faults(task, body({"x": [-1, -2], "n": 4})) == [
        ("0/inputs/x/1", "out_of_range"),
        ("0/inputs/n", "out_of_range"),
    ]
    schema = task.request_model.model_json_schema()["$defs"]["TensorsInputs"]["properties"]
    assert (schema["n"]["minimum"], schema["n"]["maximum"], schema["n"]["type"]) == (1, 3, "integer")
    assert schema["x"]["items"]["minimum"] == -1
    assert task.decode_json(task.example())["n"].tolist() == [1]


def test_missing_unknown_and_too_many_inputs_are_refused() -> None:
    task = task_of(spec("x", "float32"), spec("a.b", "float32"))
    assert faults(task, body({"x": 1})) == [("0/inputs/a.b", "missing")]
    assert faults(task, body({"x": 1, "a.b": 1, "y": 1})) == [("0/inputs/y", "extra_forbidden")]
    assert faults(task, body(dict.fromkeys(map(str, range(1000)), 1))) == [("0/inputs", "too_many_members")]
    assert faults(task, {"instances": [{"inputs": [1]}]})[0][0] == "0/inputs"


def test_many_faults_of_one_tensor_are_cut() -> None:
    assert len(faults(task_of(spec("x", "float32", 100)), body({"x": ["1"] * 100}))) == 8


def test_open_axes_take_any_length_within_their_bound_and_no_ragged_array() -> None:
    task = task_of(spec("x", "float32", "rows", "columns"), max_lengths={"rows": 3, "columns": 4})
    for rows, columns in ((1, 1), (3, 4), (2, 3)):
        assert task.decode_json(body({"x": [[1] * columns] * rows}))["x"].shape == (1, rows, columns)
    for value, place, code in (
        ([], "", "too_short"),
        ([[]], "/0", "too_short"),
        ([[1]] * 4, "", "too_long"),
        ([[1] * 5], "/0", "too_long"),
        ([[1, 2], [3]], "/1", "wrong_shape"),
        ([[1], [[2]]], "/1/0", "wrong_type"),
    ):
        assert faults(task, body({"x": value})) == [(f"0/inputs/x{place}", code)]


def test_one_axis_has_one_length_in_all_inputs() -> None:
    task = task_of(spec("x", "float32", "n"), spec("y", "float32", 2, "n"), max_lengths={"n": 9})
    assert task.decode_json(body({"x": [1, 2, 3], "y": [[1] * 3] * 2}))["y"].shape == (1, 2, 3)
    assert faults(task, body({"x": [1, 2], "y": [[1] * 3] * 2})) == [("0/inputs/y", "wrong_shape")]


def test_rows_of_other_shapes_want_a_request_of_their_own() -> None:
    task = task_of(spec("x", "float32", "n"), max_lengths={"n": 9})
    assert faults(task, body({"x": [1]}, {"x": [1]}, {"x": [1, 2]})) == [("2/inputs/x", "different_shape")]


def test_lengths_pad_rows_and_cut_off_what_does_not_count() -> None:
    task = series_task()
    tensors = task.decode_json(
        body(
            {"steps": [[1, 2]], "marks": [7]},
            {"steps": [[1, 2], [3, 4], [5, 6]], "marks": [7, 8, 9], "lengths": 2},
            {"steps": [[1, 2], [3, 4]], "marks": [1, 2], "lengths": 2},
        )
    )
    assert tensors["lengths"].tolist() == [1, 2, 2]
    assert tensors["marks"].tolist() == [[7, 0], [7, 8], [1, 2]]
    assert tensors["steps"].shape == (3, 2, 2)
    assert {name: array.dtype for name, array in tensors.items()} == {
        "steps": np.float32, "marks": np.int32, "lengths": np.int64
    }  # fmt: skip


@pytest.mark.parametrize(("length", "code"), [(0, "out_of_range"), (3, "out_of_range"), (-1, "out_of_range")])
def test_a_length_that_is_none_of_the_row_is_refused(length: int, code: str) -> None:
    row = {"steps": [[1, 2]] * 2, "marks": [1, 2], "lengths": length}
    assert faults(series_task(), body({"steps": [[1, 2]], "marks": [1]}, row)) == [("1/inputs/lengths", code)]


def test_padded_inputs_of_one_row_have_the_same_steps_whatever_their_axes_are_called() -> None:
    inputs = spec("a", "float32", "t"), spec("b", "float32", "s"), spec("lengths", "int64")
    task = task_of(*inputs, max_lengths={"t": 5, "s": 5})
    assert faults(task, body({"a": [1, 2], "b": [1]})) == [("0/inputs/b", "wrong_shape")]
    assert task.decode_json(task.example())["lengths"].tolist() == [4]
    with_more = task_of(spec("a", "float32", "t", "c"), spec("lengths", "int64"), max_lengths={"t": 5, "c": 5})
    assert faults(with_more, body({"a": [[1]]}, {"a": [[1, 2]]})) == [("1/inputs/a", "different_shape")]


def test_padding_cannot_be_made_to_take_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NUMBERS_TOGETHER", 100)
    task = task_of(spec("a", "float32", "t"), spec("lengths", "int64"), max_lengths={"t": 50})
    short, long = {"a": [1]}, {"a": [1] * 50}
    assert task.decode_json(body(long))["a"].shape == (1, 50)
    assert faults(task, body(*[short] * 9, long)) == [("#/instances", "too_many_numbers")]


def test_a_body_of_more_structure_than_any_good_one_is_not_parsed() -> None:
    task = task_of(spec("x", "float32", 2))
    for hostile in (b"[" * 2**20, b'{"instances":[' + b"{}," * 2**20, b"[" + b"1," * 2**20, b"{" + b'"a":1,' * 2**20):
        with pytest.raises(TooManyValues):
            parse_json(hostile, task.json_limits)


def test_limits_do_not_grow_with_what_the_largest_rows_would_take_together() -> None:
    huge = task_of(
        spec("x", "float32", "a", "b"),
        limits=Limits(max_instances=1024, max_image_pixels=1),
        max_lengths={"a": 1000, "b": 1000},
    )
    assert huge.json_limits.values <= module.MAX_NUMBERS_TOGETHER + 2048
    assert huge.json_limits.arrays <= module.MAX_ARRAYS_TOGETHER + 1
    small = task_of(spec("x", "float32", 2, 3))
    document = json.dumps({"model": "tensors"} | body(*[{"x": [[1, 2, 3]] * 2}] * LIMITS.max_instances)).encode()
    for mark, most in zip(b"[{:,", dataclasses.astuple(small.json_limits)[:4], strict=True):
        assert document.count(mark) <= most


def test_outputs_are_answered_as_they_come_and_selected() -> None:
    outputs = [spec("s", "float32"), spec("m", "float64", 2, "k"), spec("n.1", "int64", 2), spec("b", "bool")]
    task = task_of(spec("x", "float32"), outputs=outputs)
    arrays = {
        "s": np.array([0.5, 1], np.float32),
        "m": np.arange(8.0).reshape(2, 2, 2),
        "n.1": np.array([[1, 2], [3, 2**62]]),
        "b": np.array([True, False]),
    }
    first, second = task.encode(arrays, task.parse_options({}))
    assert first == {"outputs": {"s": 0.5, "m": [[0, 1], [2, 3]], "n.1": [1, 2], "b": True}}
    assert second["outputs"]["n.1"] == [3, 2**62]
    schema = task.response_model.model_json_schema(mode="serialization")
    for options, names in (({}, ["s", "m", "n.1", "b"]), ({"outputs": "b,s"}, ["s", "b"])):
        predictions = task.encode(arrays, task.parse_options(options))
        assert [list(prediction["outputs"]) for prediction in predictions] == [names, names]
        answer = {"model": "tensors", "version": "1", "predictions": predictions}
        jsonschema.validate(answer, schema)
        task.response_model.model_validate(answer)
    for query in ({"outputs": "s,x"}, {"outputs": ""}, {"top_k": "1"}):
        with pytest.raises(InvalidInput):
            task.parse_options(query)
    pattern = task.options_model.model_json_schema()["properties"]["outputs"]["pattern"]
    jsonschema.validate("n.1,b", {"pattern": pattern})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate("n,b", {"pattern": pattern})


@pytest.mark.parametrize(
    ("inputs", "settings", "message"),
    [
        ([spec("x", "float32", "n")], {}, r"greatest length of each open axis \(n\)"),
        ([spec("x", "float32", 2)], {"max_lengths": {"n": 3}}, "there is none"),
        ([spec("x", "float32", 2)], {"bounds": {"y": {"low": 0}}}, "the bounds name no input: y"),
        ([spec("x", "bool", 2)], {"bounds": {"x": {"low": 0}}}, "takes true and false"),
        ([spec("x", "uint8", 2)], {"bounds": {"x": {"low": 300}}}, "no number of uint8"),
        ([spec("x", "int64", 2)], {"bounds": {"x": {"low": 0.2, "high": 0.8}}}, "no number of int64"),
        ([spec("lengths", "int64")], {}, "is of another input"),
        (
            [spec("x", "float32", "n"), spec("lengths", "int64")],
            {"max_lengths": {"n": 3}, "bounds": {"lengths": {"low": 1}}},
            "bounded by the row",
        ),
        ([spec("x", "float32", 2048, 2049)], {}, "has 4196352 numbers at least, and 4194304 are the most"),
        ([spec("x", "float32", 2**62, 2**62)], {}, "numbers at least"),
        ([spec("x", "float32", *[1] * 32)], {}, "more than 32 axes"),
    ],
)
def test_settings_that_do_not_fit_the_tensors_are_refused(inputs: list[Spec], settings: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        task_of(*inputs, **settings)


def test_bounds_in_the_wrong_order_are_refused_by_the_manifest() -> None:
    document = manifest_document() | {"task": {"kind": "tensors", "bounds": {"x": {"low": 1, "high": 1}}}}
    with pytest.raises(ValueError, match="must be below high"):
        bundle_of(document)


def test_there_is_no_fast_way_in_and_no_file() -> None:
    task = task_of(spec("x", "float32"))
    assert task.decode_fast(json.dumps(body({"x": 1})).encode()) is None
    with pytest.raises(UnsupportedMedia):
        task.decode_file(b"1")
