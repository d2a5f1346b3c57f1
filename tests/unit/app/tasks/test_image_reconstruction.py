import math
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from app.errors import BundleError, InvalidInput
from app.tasks import create
from tests.support.kinds import CODE_SIZE, kind_document
from tests.support.tasks import LIMITS, bundle_of

TASK = create(bundle_of(kind_document("image_reconstruction")), LIMITS)
MEMBERS = ["error", "anomaly", "code", "reconstruction"]
OUTPUTS = {
    "error": np.array([0.02, 0.051], np.float32),
    "code": np.arange(2 * CODE_SIZE, dtype=np.float32).reshape(2, -1) / 10,
    "reconstruction": np.arange(12, dtype=np.float32).reshape(2, 2, 3) / 3,
}


def test_predictions_hold_the_outputs_to_the_bit() -> None:
    first, second = TASK.encode(OUTPUTS, TASK.parse_options({}))
    assert list(first) == MEMBERS
    assert first == {
        "error": float(np.float32(0.02)),
        "anomaly": False,
        "code": OUTPUTS["code"][0].tolist(),
        "reconstruction": OUTPUTS["reconstruction"][0].tolist(),
    }
    assert (second["error"], second["anomaly"]) == (float(np.float32(0.051)), True)


ERROR = float(OUTPUTS["error"][1])


@pytest.mark.parametrize(("threshold", "anomaly"), [(ERROR, False), (math.nextafter(ERROR, 0), True)])
def test_an_anomaly_has_an_error_above_the_threshold_not_at_it(threshold: float, anomaly: bool) -> None:
    document = kind_document("image_reconstruction")
    document["task"]["threshold"] = threshold
    task = create(bundle_of(document), LIMITS)
    predictions = task.encode(OUTPUTS, task.parse_options({"outputs": "anomaly"}))
    assert [prediction["anomaly"] for prediction in predictions] == [False, anomaly]


@pytest.mark.parametrize(
    ("query", "members"),
    [
        ("error", ["error"]),
        ("anomaly,error", ["error", "anomaly"]),
        ("reconstruction,code", ["code", "reconstruction"]),
        ("error,error", ["error"]),
        (",".join(MEMBERS), MEMBERS),
    ],
)
def test_outputs_selects_members_which_the_schema_allows_to_be_absent(query: str, members: list[str]) -> None:
    options = TASK.parse_options({"outputs": query})
    predictions = TASK.encode(OUTPUTS, options)
    whole = TASK.encode(OUTPUTS, TASK.parse_options({}))
    assert [list(prediction) for prediction in predictions] == [members, members]
    assert all(part.items() <= prediction.items() for part, prediction in zip(predictions, whole, strict=True))
    answer = {"model": "image_reconstruction", "version": "1", "predictions": predictions}
    schema = TASK.response_model.model_json_schema(mode="serialization")
    Draft202012Validator(schema).validate(answer)
    TASK.response_model.model_validate(answer)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_that_is_there_is_never_null(member: str) -> None:
    schema = TASK.response_model.model_json_schema(mode="serialization")
    answer = {"model": "image_reconstruction", "version": "1", "predictions": [{member: None}]}
    assert not Draft202012Validator(schema).is_valid(answer)
    prediction = schema["$defs"]["Image_reconstructionPrediction"]["properties"][member]
    assert "absent where not asked for" in prediction["description"]
    assert "default" not in prediction


@pytest.mark.parametrize("query", ["", "error,", "Error", "error anomaly", "error,label", "x" * 5000, "\ud800"])
def test_unknown_outputs_are_a_fault_of_the_query(query: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        TASK.parse_options({"outputs": query})
    (fault,) = caught.value.faults
    assert fault.pointer == "query:outputs"
    assert len(fault.message) < 300


def test_the_pattern_of_outputs_takes_what_the_task_takes() -> None:
    schema = TASK.options_model.model_json_schema()["properties"]["outputs"]
    validator = Draft202012Validator(schema)
    for good in ("error", "anomaly,code", schema["default"]):
        assert validator.is_valid(good)
        TASK.parse_options({"outputs": good})
    for bad in ("", "error,", "label"):
        assert not validator.is_valid(bad)


@pytest.mark.parametrize(
    ("index", "change", "message"),
    [
        (0, {"name": "mse"}, r"'error' of shape \(batch\)"),
        (0, {"shape": ["batch", 1]}, r"'error' of shape \(batch\)"),
        (1, {"shape": ["batch", CODE_SIZE + 1]}, r"'code' of shape \(batch, 4\)"),
        (2, {"shape": ["batch", 3, 2]}, r"'reconstruction' of shape \(batch, 2, 3\)"),
    ],
)
def test_a_manifest_whose_outputs_do_not_fit_is_refused(index: int, change: dict[str, Any], message: str) -> None:
    document = kind_document("image_reconstruction")
    document["outputs"][index] |= change
    with pytest.raises(BundleError, match=f"image_reconstruction needs an output {message}"):
        create(bundle_of(document), LIMITS)


def test_pictures_are_read_as_those_of_a_classifier_are() -> None:
    assert TASK.media_types == ("image/png", "image/jpeg")
    assert TASK.decode_json(TASK.example())["image"].shape == (1, 2, 3)
    with pytest.raises(InvalidInput) as caught:
        TASK.decode_json({"instances": [{"image": [[1, 2, 3], [4, 5, 256]]}]})
    assert [fault.pointer for fault in caught.value.faults] == ["#/instances/0/image/1/2"]
