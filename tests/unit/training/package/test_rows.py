"""Rows that are given are held against what the service would take, and told by their number where they do not fit."""

import json

import numpy as np
import pytest

from app.bundle.manifest import (
    GenericTensors,
    ImageClassification,
    SequenceClassification,
    TabularClassification,
    TensorSpec,
    TextClassification,
)
from app.preprocess.text import TextPreparation
from tests.support.foreign import word_pieces
from training.errors import PackageRefused
from training.export.bundle import file_ref
from training.package import rows
from training.package.any_tensors import AnyTensors
from training.package.kinds import Pictures, Series, Tables, WrittenTexts

LABELS = ("a", "b")


def spec(name, dtype, *axes):
    return TensorSpec(name=name, dtype=dtype, shape=("batch", *axes))


LENGTHS = spec("lengths", "int64")


def table():
    features = [{"name": "f", "minimum": 0, "maximum": 9}, {"name": "g", "maximum": 3, "minimum": -3}]
    settings = TabularClassification.model_validate({"features": features, "labels": LABELS})
    return Tables(settings, spec("features", "float32", 2))


def pictures():
    settings = ImageClassification.model_validate({"image": {"height": 1, "width": 2}, "labels": LABELS})
    return Pictures(settings, spec("image", "float32", 1, 2))


def series():
    sequence = {"num_channels": 2, "min_length": 2, "max_length": 3, "low": -1, "high": 1}
    settings = SequenceClassification.model_validate({"sequence": sequence, "labels": LABELS})
    return Series(settings, (spec("sequence", "float32", "time", 2), LENGTHS))


def texts():
    tokenizer = word_pieces().encode()
    text = {"tokenizer": file_ref("tokenizer.json", tokenizer).model_dump(), "max_chars": 20, "max_tokens": 6}
    settings = TextClassification.model_validate({"text": text, "labels": LABELS})
    return WrittenTexts(settings, (spec("tokens", "int64", "tokens"), LENGTHS), TextPreparation(tokenizer, 20, 6))


def tensors(*more):
    bounds = {"n": {"low": 0, "high": 9}, "x": {"low": -2}}
    settings = GenericTensors.model_validate({"bounds": bounds, "max_lengths": {"t": 3}})
    return AnyTensors(settings, (spec("x", "float32", "t"), spec("n", "int32"), *more))


def ragged():
    settings = GenericTensors.model_validate({"bounds": {"x": {"low": 0, "high": 1}}, "max_lengths": {"t": 4}})
    return AnyTensors(settings, (spec("x", "float64", "t"), LENGTHS))


KINDS = [table, pictures, series, texts, ragged]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_drawn_is_taken_and_lies_within_the_bounds(kind):
    kind = kind()
    drawn = rows.draw(kind, seed=3, steps=3)
    inputs = kind.tensors(drawn)
    assert {len(array) for array in inputs.values()} == {len(drawn)}
    assert all(each.describes(inputs[each.name]) for each in kind.inputs)


def test_rows_that_are_large_are_few():
    settings = GenericTensors.model_validate({"bounds": {"x": {"low": 0, "high": 1}}})
    assert len(rows.draw(AnyTensors(settings, (spec("x", "float32", 300, 300),)), seed=0, steps=1)) == 4
    assert len(rows.draw(AnyTensors(settings, (spec("x", "float32", 3),)), seed=0, steps=1)) == rows.NUM_DRAWN + 2


@pytest.mark.parametrize("kind", [table, pictures, series, tensors, ragged])
def test_arrays_become_requests_that_become_the_same_arrays(tmp_path, kind):
    kind = kind()
    lengths = {"t": 3, "time": 3}
    arrays = {
        each.name: np.ones((2, *(lengths.get(axis, axis) for axis in each.shape[1:])), each.dtype)
        for each in kind.inputs
    }
    if "lengths" in arrays:
        arrays["lengths"][:] = [3, 2]
        next(array for name, array in arrays.items() if name != "lengths")[1, 2:] = 0
    np.savez(tmp_path / "rows.npz", **arrays, labels=[0, 1])
    found = rows.read(tmp_path / "rows.npz", kind)
    assert found.answers == [0, 1]
    again = kind.tensors(found.requests)
    assert {name: array.tolist() for name, array in again.items()} == {
        name: array.tolist() for name, array in arrays.items()
    }


@pytest.mark.parametrize(
    ("kind", "request_", "message"),
    [
        (table, {"features": {"f": 1}}, "row 0 has not the features f, g"),
        (table, {"features": {"f": 1, "g": "2"}}, "row 0: g is no number"),
        (table, {"features": {"f": True, "g": 2}}, "row 0: f is no number"),
        (table, {"features": {"f": 10, "g": 2}}, "'f' has numbers from 10 to 10, and the bounds are 0 to 9"),
        (table, {"rows": [1, 2]}, "row 0 is not of the form"),
        (table, [1, 2], "expected an object"),
        (pictures, {"image": [[1, 2, 3]]}, r"row 0 has the shape \(1, 3\), expected \(1, 2\)"),
        (pictures, {"image": [[1], [2, 3]]}, "row 0 cannot be read"),
        (pictures, {"image": [[1, 256]]}, "the bounds are 0 to 255"),
        (series, {"sequence": [[1, 1]]}, "row 0 has 1 steps, not 2 to 3"),
        (series, {"sequence": [[1, 1], [1, 2]]}, "the bounds are -1 to 1"),
        (series, {"sequence": [[1], [1]]}, "row 0 has the shape"),
        (texts, {"text": ""}, "row 0 is no text, or an empty one"),
        (texts, {"text": 1}, "row 0 is no text"),
        (texts, {"text": "\ud800"}, "row 0: the text holds half a surrogate pair"),
        (tensors, {"inputs": {"x": [1]}}, "row 0 has not the inputs n, x"),
        (tensors, {"inputs": {"x": [1] * 4, "n": 1}}, r"row 0 of 'x' has the shape \(4,\)"),
        (tensors, {"inputs": {"x": [-3], "n": 1}}, "'x' has numbers from -3 to -3"),
        (tensors, {"inputs": {"x": [1], "n": 1.5}}, "expected whole numbers"),
        (tensors, {"inputs": {"x": [1], "n": True}}, "expected numbers, found bool"),
        (tensors, {"inputs": {"x": [1], "n": 2**40}}, "row 0 cannot be read: expected numbers of int32"),
    ],
)
def test_rows_that_the_service_would_refuse_are_refused(tmp_path, kind, request_, message):
    (tmp_path / "rows.jsonl").write_text(json.dumps(request_))
    with pytest.raises(PackageRefused, match=message):
        kind().tensors(rows.read(tmp_path / "rows.jsonl", kind()).requests)


def test_rows_of_one_array_have_one_shape():
    with pytest.raises(PackageRefused, match=r"row 1 has the shape \(2,\), expected \(1,\)"):
        tensors().tensors([{"inputs": {"x": [1], "n": 1}}, {"inputs": {"x": [1, 2], "n": 1}}])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", b"1,2", "read from .npz or .jsonl"),
        ("rows.npz", b"nothing", "cannot be read"),
        ("rows.jsonl", b"\n\n", "has no rows"),
        ("rows.jsonl", b'{"features": {}}\n{', "line 2: no JSON"),
        ("rows.jsonl", b'{"features": {}, "label": 1}\n{"features": {}}', "2 rows and 1 answers"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PackageRefused, match=message):
        rows.read(tmp_path / name, table())


def test_pickles_in_npz_are_not_opened(tmp_path):
    np.savez(tmp_path / "rows.npz", x=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(PackageRefused, match="cannot be read"):
        rows.read(tmp_path / "rows.npz", table())


def test_texts_are_not_read_from_arrays(tmp_path):
    np.savez(tmp_path / "rows.npz", tokens=[[1, 2]])
    with pytest.raises(PackageRefused, match=r"written as .jsonl"):
        rows.read(tmp_path / "rows.npz", texts())
