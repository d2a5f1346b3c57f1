import json
import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from app.bundle.manifest import Manifest
from app.errors import BundleError, InvalidInput, RequestError, TooManyInstances, UnsupportedMedia
from app.tasks import Task, create
from app.tasks.decoding.strict_json import parse_json
from tests.support.tasks import LIMITS, bundle_of, tabular_document, tabular_task_of

FEATURES = {"mean radius": 12.5, "a/b~c": -0.5, "model": 7}
FLOAT32_MAX = float(np.finfo(np.float32).max)

TASK = tabular_task_of()
REGRESSION = tabular_task_of("tabular_regression")


def faults(document: object) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as caught:
        TASK.decode_json(document)
    assert all(fault.message for fault in caught.value.faults)
    return [(fault.pointer, fault.code) for fault in caught.value.faults]


def body(features: object) -> dict[str, Any]:
    return {"instances": [{"features": features}]}


def test_named_numbers_become_columns_in_the_order_of_the_manifest() -> None:
    backwards = dict(reversed(FEATURES.items()))
    for task in (TASK, REGRESSION):
        tensors = task.decode_json({"instances": [{"features": FEATURES}, {"features": backwards}], "model": "table"})
        assert list(tensors) == ["features"]
        assert tensors["features"].dtype == np.float32
        assert tensors["features"].tolist() == [[12.5, -0.5, 7.0]] * 2


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (math.nan, "not_finite"),
        (math.inf, "not_finite"),
        (-math.inf, "not_finite"),
        (1e39, "out_of_range"),
        (-1e39, "out_of_range"),
        (10**400, "out_of_range"),
        (FLOAT32_MAX * (1 + 1e-9), "out_of_range"),
        ("1", "wrong_type"),
        (True, "wrong_type"),
        (None, "wrong_type"),
        ([1], "wrong_type"),
        ({}, "wrong_type"),
    ],
)
def test_what_is_no_number_of_float32_is_refused_at_its_place(value: object, code: str) -> None:
    assert faults(body(FEATURES | {"model": value})) == [("#/instances/0/features/model", code)]


@pytest.mark.parametrize(("value", "taken"), [(-1, True), (1, True), (-1.0000001, False), (1.0000001, False)])
def test_bounds_are_held_and_belong_to_what_is_taken(value: float, taken: bool) -> None:
    document = body(FEATURES | {"a/b~c": value})
    if taken:
        assert TASK.decode_json(document)
    else:
        assert faults(document) == [("#/instances/0/features/a~1b~0c", "out_of_range")]


@pytest.mark.parametrize("value", [FLOAT32_MAX, -FLOAT32_MAX, 1e-300, -0.0, 2**63])
def test_the_ends_of_float32_are_taken_and_stay_finite(value: float) -> None:
    assert np.isfinite(TASK.decode_json(body(FEATURES | {"model": value}))["features"]).all()


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (None, [("#", "model_type")]),
        ({}, [("#/instances", "missing")]),
        ({"instances": []}, [("#/instances", "too_short")]),
        ({"instances": [FEATURES]}, [("#/instances/0/features", "missing"),
                                     ("#/instances/0/mean%20radius", "extra_forbidden"),
                                     ("#/instances/0/a~1b~0c", "extra_forbidden"),
                                     ("#/instances/0/model", "extra_forbidden")]),
        (body(None), [("#/instances/0/features", "model_type")]),
        (body([1, 2, 3]), [("#/instances/0/features", "model_type")]),
        (body({}), [("#/instances/0/features/mean%20radius", "missing"), ("#/instances/0/features/a~1b~0c", "missing"),
                    ("#/instances/0/features/model", "missing")]),
        (body(FEATURES | {"extra": 1}), [("#/instances/0/features/extra", "extra_forbidden")]),
        (body({"mean radius": 1, "a/b~c": 0, "Model": 1}), [("#/instances/0/features/model", "missing"),
                                                            ("#/instances/0/features/Model", "extra_forbidden")]),
        # the names that Python gives to the fields are none of the caller's
        (body({"feature_0": 1, "a/b~c": 0, "model": 1}), [("#/instances/0/features/mean%20radius", "missing"),
                                                          ("#/instances/0/features/feature_0", "extra_forbidden")]),
        ({"instances": [{"features": FEATURES}], "model": "other"}, [("#/model", "literal_error")]),
    ],
)  # fmt: skip
def test_every_fault_is_named_with_its_place(document: object, expected: list[tuple[str, str]]) -> None:
    assert faults(document) == expected


def test_very_many_unknown_features_cost_next_to_nothing() -> None:
    document = body({f"{number:x}": 0 for number in range(100_000)})
    tracemalloc.start()
    try:
        assert faults(document) == [("#/instances/0/features", "too_many_members")]
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


def test_a_table_of_more_columns_than_any_other_object_has_members_is_taken() -> None:
    wide = tabular_task_of(features=[{"name": f"f{number}"} for number in range(300)])
    example = wide.example()
    assert wide.decode_json(example)["features"].shape == (1, 300)
    assert np.array_equal(wide.decode_fast(json.dumps(example).encode())["features"], np.zeros((1, 300)))  # type: ignore[index]


def test_one_instance_more_than_the_limit_is_refused_before_it_is_looked_at() -> None:
    with pytest.raises(TooManyInstances):
        TASK.decode_json({"instances": [None] * (LIMITS.max_instances + 1)})


def test_a_file_is_refused() -> None:
    assert TASK.media_types == ()
    with pytest.raises(UnsupportedMedia):
        TASK.decode_file(b"a,b,c")


PLAIN = b'{"instances":[{"features":{"mean radius":12.5,"a/b~c":-0.5,"model":7}}]}'
TAKEN = [
    PLAIN,
    PLAIN.replace(b"instances", b"\\u0069nstances"),
    PLAIN.replace(b"model", b"mode\\u006c"),
    PLAIN[:-1] + b',"model":"table"}',
    json.dumps({"instances": [{"features": dict(reversed(FEATURES.items()))}] * 3}).encode(),
]
DECLINED = [
    b"",
    b"[]",
    b"\xef\xbb\xbf" + PLAIN,
    PLAIN[:-1],
    PLAIN[:-1] + b',"model":"other"}',
    PLAIN.replace(b"12.5", b"NaN"),
    PLAIN.replace(b"12.5", b"1e39"),
    PLAIN.replace(b"12.5", b"1e400"),
    PLAIN.replace(b"12.5", b"-1"),
    PLAIN.replace(b"12.5", b"true"),
    PLAIN.replace(b"12.5", b"null"),
    PLAIN.replace(b"12.5", b'"12.5"'),
    PLAIN.replace(b"12.5", b"[12.5]"),
    PLAIN.replace(b"12.5", b"{}"),
    PLAIN.replace(b'"model":7', b'"other":7'),
    PLAIN.replace(b'"model":7', b'"a/b~c":7'),
    PLAIN.replace(b'"model":7', b'"model":7,"model":7'),
    PLAIN.replace(b'"model":7', b'"model":7,"other":7'),
    PLAIN.replace(b',"model":7', b""),
    PLAIN.replace(b'{"features"', b'{"features":1,"features"'),
    b'{"instances":[]}',
    b'{"instances":[{"features":[12.5,-0.5,7]}]}',
    b'{"instances":[[]]}',
    b'{"instances":{}}',
]


@pytest.mark.parametrize("text", TAKEN)
def test_a_plain_body_is_read_fast_and_as_strictly(text: bytes) -> None:
    fast = TASK.decode_fast(text)
    assert fast is not None
    assert fast["features"].dtype == np.float32
    assert np.array_equal(fast["features"], TASK.decode_json(parse_json(text, TASK.json_limits))["features"])


@pytest.mark.parametrize("text", DECLINED)
def test_what_the_strict_reading_refuses_the_fast_one_declines(text: bytes) -> None:
    assert TASK.decode_fast(text) is None
    with pytest.raises(RequestError):
        TASK.decode_json(parse_json(text, TASK.json_limits))


NUMBERS = st.one_of(
    st.floats(-2, 2).map(repr), st.integers(-3, 3).map(str), st.floats(allow_nan=False).map(repr),
    st.sampled_from(["1e39", "-1e39", "3.4028234663852886e38", "3.4028235e38", "18446744073709551616", "1e-400", "-0",
                     "NaN", "null", "true", '"1"', "[1]", "01", "1e400", "9" * 400]),
)  # fmt: skip
NAMES = st.sampled_from(["mean radius", "a/b~c", "model", "features", "\\u006dodel"])


@given(st.lists(st.lists(st.tuples(NAMES, NUMBERS), min_size=2, max_size=4), min_size=1, max_size=2))
def test_what_the_fast_reading_accepts_the_strict_one_does_to_the_bit(rows: list[list[tuple[str, str]]]) -> None:
    members = ["{" + ",".join(f'"{name}":{number}' for name, number in row) + "}" for row in rows]
    text = ('{"instances":[' + ",".join(f'{{"features":{row}}}' for row in members) + "]}").encode()
    fast = TASK.decode_fast(text)
    if fast is not None:
        strict = TASK.decode_json(parse_json(text, TASK.json_limits))
        assert fast["features"].tobytes() == strict["features"].tobytes()


@given(st.lists(st.tuples(st.floats(0, 1e30), st.floats(-1, 1), st.integers(-(2**63), 2**63)), min_size=1, max_size=3))
def test_every_plain_body_is_taken_by_both(rows: list[tuple[float, float, int]]) -> None:
    text = json.dumps({"instances": [{"features": dict(zip(FEATURES, row, strict=True))} for row in rows]}).encode()
    fast = TASK.decode_fast(text)
    assert fast is not None
    assert fast["features"].tobytes() == TASK.decode_json(parse_json(text, TASK.json_limits))["features"].tobytes()


def test_a_classification_is_answered_as_of_pictures() -> None:
    outputs = {"probabilities": np.array([[0.25, 0.5, 0.25]], np.float32)}
    (whole,) = TASK.encode(outputs, TASK.parse_options({}))
    assert whole == {
        "label": "b", "index": 1, "probability": 0.5, "probabilities": {"a": 0.25, "b": 0.5, "c": 0.25},
    }  # fmt: skip
    (short,) = TASK.encode(outputs, TASK.parse_options({"top_k": "1"}))
    assert short["probabilities"] == {"b": 0.5}


def test_a_regression_is_answered_with_its_value() -> None:
    answers = REGRESSION.encode({"value": np.array([152.25, -1], np.float32)}, REGRESSION.parse_options({}))
    assert answers == [{"value": 152.25}, {"value": -1.0}]
    schema = REGRESSION.response_model.model_json_schema(mode="serialization")
    Draft202012Validator(schema).validate({"model": "table", "version": "1", "predictions": answers})
    value = schema["$defs"]["TablePrediction"]["properties"]["value"]
    assert (value["title"], value["description"]) == ("price", "in EUR")


@pytest.mark.parametrize("query", [{"top_k": "1"}, {"other": ""}])
def test_a_regression_knows_no_query_parameters(query: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        REGRESSION.parse_options(query)
    assert [fault.pointer for fault in caught.value.faults] == [f"query:{next(iter(query))}"]


@pytest.mark.parametrize("task", [TASK, REGRESSION])
def test_the_example_works_and_the_schema_takes_it(task: Task) -> None:
    example = task.example()
    assert example == body({"mean radius": 0.0, "a/b~c": 0.5, "model": 0.0})
    assert task.decode_json(example)["features"].tolist() == [[0.0, 0.5, 0.0]]
    schema = task.request_model.model_json_schema()
    Draft202012Validator(schema).validate(example)
    assert not Draft202012Validator(schema).is_valid(body({"mean radius": 0.0}))
    assert not Draft202012Validator(schema).is_valid(body({"mean radius": -1, "a/b~c": 0, "model": 0}))
    assert task.conversion() is None


def test_the_schema_names_every_feature_with_bounds_and_unit() -> None:
    features = TASK.request_model.model_json_schema()["$defs"]["TableFeatures"]
    assert features["properties"] == {
        "mean radius": {
            "title": "mean radius (mm)", "type": "number", "format": "float", "minimum": 0.0,
            "maximum": FLOAT32_MAX, "description": "of the nuclei", "examples": [0.0],
        },
        "a/b~c": {
            "title": "a/b~c", "type": "number", "format": "float", "minimum": -1.0, "maximum": 1.0, "examples": [0.5],
        },
        "model": {
            "title": "model", "type": "number", "format": "float", "minimum": -FLOAT32_MAX, "maximum": FLOAT32_MAX,
            "examples": [0.0],
        },
    }  # fmt: skip
    assert features["required"] == list(FEATURES)
    assert features["additionalProperties"] is False


def shape(document: dict[str, Any]) -> None:
    document["inputs"][0]["shape"] = ["batch", 4]


def dtype(document: dict[str, Any]) -> None:
    document["inputs"][0]["dtype"] = "float64"


def second_input(document: dict[str, Any]) -> None:
    document["inputs"].append(document["inputs"][0] | {"name": "other"})


def no_output(document: dict[str, Any]) -> None:
    document["outputs"] = [document["outputs"][0] | {"name": "other"}]


def wide_output(document: dict[str, Any]) -> None:
    document["outputs"][-1]["shape"] = ["batch", 1]


@pytest.mark.parametrize("kind", ["tabular_classification", "tabular_regression"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shape, r"takes one input of shape \(batch, 3\)"),
        (dtype, "feeds float32, the input is float64"),
        (second_input, "takes one input"),
        (no_output, "needs an output"),
        (wide_output, "needs an output"),
    ],
)
def test_a_manifest_whose_tensors_are_not_those_of_the_task_is_refused(
    kind: Any, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    document = tabular_document(kind)
    change(document)
    with pytest.raises(BundleError, match=f"{kind} {message}"):
        create(bundle_of(document), LIMITS)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([], "at least 1 item"),
        ([{"name": "x"}, {"name": "x"}], "names of features must be distinct"),
        ([{"name": ""}], "at least 1 character"),
        ([{"name": "x", "minimum": 1, "maximum": 1}], r"minimum \(1\) must be below maximum \(1\)"),
        ([{"name": "x", "minimum": 1, "example": 0}], r"the example \(0\) lies outside 1 to"),
        ([{"name": "x", "maximum": 1e39}], "less than or equal to"),
        ([{"name": "x", "limit": 1}], "Extra inputs"),
    ],
)
def test_impossible_features_are_refused(features: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Manifest.model_validate(tabular_document(features=features))


def test_an_example_that_is_not_given_is_the_accepted_number_nearest_to_zero() -> None:
    features = [{"name": "a", "minimum": 2}, {"name": "b", "maximum": -3}, {"name": "c", "minimum": -1}]
    assert tabular_task_of(features=features).example() == body({"a": 2.0, "b": -3.0, "c": 0.0})
