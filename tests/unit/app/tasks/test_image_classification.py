import base64
import io
import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from app.errors import BundleError, InvalidInput, TooManyInstances
from app.tasks import create
from app.tasks.image_classification import ImageClassificationTask
from app.tasks.shared.labels import Options
from tests.support.bundles import manifest_document
from tests.support.tasks import LIMITS, bundle_of, task_of

IMAGE = [[1, 2, 3], [4, 5, 6]]


@pytest.fixture(scope="module")
def task() -> ImageClassificationTask:
    return task_of()


def faults(task: ImageClassificationTask, document: object) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as caught:
        task.decode_json(document)
    assert all(fault.message for fault in caught.value.faults)
    return [(fault.pointer, fault.code) for fault in caught.value.faults]


def png(pixels_HW: Any = IMAGE) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.array(pixels_HW, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_instances_become_rows_in_their_order(task: ImageClassificationTask) -> None:
    second = base64.b64encode(png([[9, 8, 7], [6, 5, 4]])).decode()
    tensors = task.decode_json({"instances": [{"image": IMAGE}, {"image": second}], "model": "dummy"})
    assert list(tensors) == ["image"]
    assert tensors["image"].dtype == np.float32
    assert tensors["image"].tolist() == [IMAGE, [[9, 8, 7], [6, 5, 4]]]


def test_a_raw_file_becomes_one_row(task: ImageClassificationTask) -> None:
    tensors = task.decode_file(png())
    assert tensors["image"].dtype == np.float32
    assert tensors["image"].tolist() == [IMAGE]


def test_a_raw_file_that_is_no_picture_is_a_fault_of_the_body(task: ImageClassificationTask) -> None:
    with pytest.raises(InvalidInput) as caught:
        task.decode_file(b"just text")
    assert [(fault.pointer, fault.code) for fault in caught.value.faults] == [("#", "not_an_image")]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (None, [("#", "model_type")]),
        ([], [("#", "model_type")]),
        ("text", [("#", "model_type")]),
        ({}, [("#/instances", "missing")]),
        ({"instances": None}, [("#/instances", "list_type")]),
        ({"instances": {"image": IMAGE}}, [("#/instances", "list_type")]),
        ({"instances": []}, [("#/instances", "too_short")]),
        ({"instances": [IMAGE]}, [("#/instances/0", "model_type")]),
        ({"instances": [{}]}, [("#/instances/0/image", "missing")]),
        ({"instances": [{"image": None}]}, [("#/instances/0/image", "wrong_type")]),
        ({"instances": [{"image": IMAGE, "label": "a"}]}, [("#/instances/0/label", "extra_forbidden")]),
        ({"instances": [{"image": IMAGE}], "a/b": 1}, [("#/a~1b", "extra_forbidden")]),
        ({"instances": [{"image": IMAGE}], "model": "other"}, [("#/model", "literal_error")]),
        ({"instances": [{"image": IMAGE}], "model": None}, [("#/model", "literal_error")]),
        (
            {"instances": [{"image": IMAGE}, {"image": [[1, 2, 3], [4, -5, "6"]]}, {"image": "?"}], "model": 1},
            [
                ("#/model", "literal_error"),
                ("#/instances/1/image/1/1", "out_of_range"),
                ("#/instances/1/image/1/2", "wrong_type"),
                ("#/instances/2/image", "not_base64"),
            ],
        ),
    ],
)
def test_every_fault_is_named_with_its_place(
    task: ImageClassificationTask, document: object, expected: list[tuple[str, str]]
) -> None:
    assert faults(task, document) == expected


@pytest.mark.parametrize(
    "body",
    [
        '{"\\ud800": 1, "instances": [{"image": [[1, 2, 3], [4, 5, 6]]}]}',
        '{"model": "\\ud800", "instances": [{"image": [[1, 2, 3], [4, 5, 6]]}]}',
        '{"instances": [{"image": "\\ud800"}]}',
        '{"instances": [{"\\udfff": "\\ud800"}]}',
        '{"instances": "\\ud800"}',
        '"\\ud800"',
    ],
)
def test_half_a_surrogate_pair_is_a_fault_like_any_other(task: ImageClassificationTask, body: str) -> None:
    assert faults(task, json.loads(body))


def test_one_instance_more_than_the_limit_is_refused_before_it_is_looked_at(task: ImageClassificationTask) -> None:
    assert len(task.decode_json({"instances": [{"image": IMAGE}] * LIMITS.max_instances})["image"]) == 32
    with pytest.raises(TooManyInstances, match="33 instances in one request, at most 32"):
        task.decode_json({"instances": [None] * (LIMITS.max_instances + 1)})


@pytest.mark.parametrize("place", ["body", "instance"])
def test_very_many_unknown_members_cost_next_to_nothing(task: ImageClassificationTask, place: str) -> None:
    many = {f"{number:x}": 0 for number in range(100_000)}
    document = many if place == "body" else {"instances": [{"image": IMAGE}, many]}
    tracemalloc.start()
    try:
        found = faults(task, document)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == [("#" if place == "body" else "#/instances/1", "too_many_members")]
    assert peak_bytes < 100_000


def test_predictions_hold_the_outputs_to_the_bit(task: ImageClassificationTask) -> None:
    probabilities_BC = np.array([[0.1, 0.7, 0.2], [1 / 3, 1 / 3, 1 / 3]], np.float32)
    first, second = task.encode({"probabilities": probabilities_BC}, Options())
    assert first == {
        "label": "b",
        "index": 1,
        "probability": float(np.float32(0.7)),
        "probabilities": {"a": float(np.float32(0.1)), "b": float(np.float32(0.7)), "c": float(np.float32(0.2))},
    }
    assert list(first["probabilities"]) == ["a", "b", "c"]
    assert (second["label"], second["index"]) == ("a", 0)
    assert {type(value) for value in first["probabilities"].values()} == {float}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["a", "b", "c"]),
        ({"top_k": "1"}, ["c"]),
        ({"top_k": "2"}, ["c", "a"]),
        ({"top_k": "3"}, ["c", "a", "b"]),
        ({"top_k": "99"}, ["c", "a", "b"]),
    ],
)
def test_top_k_keeps_the_most_probable_labels_best_first(
    task: ImageClassificationTask, query: dict[str, str], expected: list[str]
) -> None:
    probabilities_BC = np.array([[0.3, 0.1, 0.6]], np.float32)
    (prediction,) = task.encode({"probabilities": probabilities_BC}, task.parse_options(query))
    assert list(prediction["probabilities"]) == expected
    assert (prediction["label"], prediction["index"]) == ("c", 2)


@pytest.mark.parametrize("value", ["0", "-1", "x", "", "1.5", "1e3", "null", "\ud800", "9" * 5000 + "x"])
def test_an_impossible_top_k_is_a_fault_of_the_query(task: ImageClassificationTask, value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        task.parse_options({"top_k": value})
    assert [fault.pointer for fault in caught.value.faults] == ["query:top_k"]


@pytest.mark.parametrize(("low", "high"), [(0.0, 255.0), (-1.0, 1.0)])
@pytest.mark.parametrize("size", [(2, 3), (1, 1), (28, 28), (64, 3)])
def test_the_example_works_as_it_stands(size: tuple[int, int], low: float, high: float) -> None:
    task = task_of(height=size[0], width=size[1], low=low, high=high)
    example = task.example()
    assert example == json.loads(json.dumps(example))
    pixels = task.decode_json(example)["image"]
    assert pixels.shape == (1, *size)
    assert low <= pixels.min() <= pixels.max() <= high * (1 + 1e-6)
    assert (np.diff(pixels.ravel()) >= 0).all(), "it is a gradient"


def test_the_request_schema_takes_what_the_task_takes(task: ImageClassificationTask) -> None:
    schema = task.request_model.model_json_schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    for document in (task.example(), {"model": "dummy", "instances": [{"image": IMAGE}]}):
        validator.validate(document)
        task.decode_json(document)
    for document in (
        {},
        {"instances": []},
        {"instances": [{"image": IMAGE[:1]}]},
        {"instances": [{"image": IMAGE, "more": 1}]},
        {"instances": [{"image": IMAGE}], "model": "other"},
        {"instances": [{"image": IMAGE}], "more": 1},
    ):
        assert not validator.is_valid(document)
        assert faults(task, document)


@pytest.mark.parametrize("query", [{}, {"top_k": "1"}])
def test_the_response_schema_takes_what_the_task_writes(task: ImageClassificationTask, query: dict[str, str]) -> None:
    schema = task.response_model.model_json_schema(mode="serialization")
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    probabilities_BC = np.array([[0.0, 1.0, 0.0], [0.2, 0.3, 0.5]], np.float32)
    predictions = task.encode({"probabilities": probabilities_BC}, task.parse_options(query))
    response = {"model": "dummy", "version": "1", "predictions": predictions}
    validator.validate(response)
    task.response_model.model_validate(response)
    for change in ({"label": "d"}, {"index": 3}, {"probability": 1.5}, {"probabilities": {"d": 0.5}}):
        assert not validator.is_valid(response | {"predictions": [predictions[0] | change]})


def test_the_schemas_of_two_models_have_names_of_their_own() -> None:
    names = {task_of(name=name).request_model.__name__ for name in ("mlp", "cnn", "cnn-large", "cnnlarge", "cnn_large")}
    assert names == {"MlpRequest", "CnnRequest", "Cnn-largeRequest", "CnnlargeRequest", "Cnn_largeRequest"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 3, 2]}]}, r"one input of shape"),
        ({"inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 6]}]}, r"one input of shape"),
        ({"inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", "h", 3]}]}, r"one input of shape"),
        ({"inputs": [{"name": n, "dtype": "float32", "shape": ["batch", 2, 3]} for n in "ab"]}, "one input of shape"),
        ({"inputs": [{"name": "image", "dtype": "uint8", "shape": ["batch", 2, 3]}]}, "float32, the input is uint8"),
        ({"outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", 3]}]}, "'probabilities' of shape"),
        ({"outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 4]}]}, r"shape \(batch, 3\)"),
        ({"outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["batch"]}]}, r"shape \(batch, 3\)"),
    ],
)
def test_a_manifest_whose_tensors_do_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    bundle = bundle_of(manifest_document() | change)
    with pytest.raises(BundleError, match=message):
        create(bundle, LIMITS)


def test_the_name_of_the_input_is_free() -> None:
    inputs = [{"name": "pixels", "dtype": "float32", "shape": ["n", 2, 3]}]
    task = create(bundle_of(manifest_document() | {"inputs": inputs}), LIMITS)
    assert list(task.decode_json({"instances": [{"image": IMAGE}]})) == ["pixels"]
    fast = task.decode_fast(b'{"instances":[{"image":[[1,2,3],[4,5,6]]}]}')
    assert fast is not None
    assert list(fast) == ["pixels"]
