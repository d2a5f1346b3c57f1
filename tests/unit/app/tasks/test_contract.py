"""What holds for every task, and for every bundle and its task."""

import dataclasses
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from app import tasks
from app.bundle.golden import GoldenRows
from app.bundle.loader import Bundle, BundleRef, find_bundles, open_bundle
from app.bundle.manifest import TaskSettings
from app.errors import BundleError, InvalidInput, TooManyInstances
from app.tasks import Limits, check_contract
from tests.support.bundles import golden_images, golden_rows, open_folder
from tests.support.kinds import KINDS, kind_bundle, kind_golden
from tests.support.tasks import LIMITS, sequence_task_of, task_of, text_task_of

COMMITTED = find_bundles(Path(__file__).resolve().parents[4] / "models")

Change = Callable[[GoldenRows], dict[str, Any]]


@pytest.fixture
def golden() -> GoldenRows:
    return golden_rows(golden_images(4, 2, 3), ("a", "b", "c"))


def test_every_task_of_the_manifest_has_its_file_and_every_file_its_task() -> None:
    # a union of one is that one
    members = get_args(TaskSettings) or (TaskSettings,)
    settings = get_args(members[0]) if get_args(members[0]) else members
    assert {member.model_fields["kind"].default for member in settings} == set(tasks.kinds())


@pytest.mark.parametrize("ref", COMMITTED, ids=lambda ref: f"{ref.name}/{ref.version}")
def test_the_golden_rows_of_a_committed_bundle_hold_its_task(ref: BundleRef) -> None:
    bundle = open_bundle(ref)
    task = tasks.create(bundle, Limits(max_instances=1, max_image_pixels=1))
    check_contract(task, bundle.golden())


def test_every_task_has_a_bundle_in_these_tests() -> None:
    assert set(KINDS) == set(tasks.kinds())


@pytest.fixture(params=tasks.kinds())
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Bundle:
    return open_folder(kind_bundle(tmp_path, request.param))


def test_a_task_keeps_to_its_protocol(bundle: Bundle) -> None:
    task = tasks.create(bundle, LIMITS)
    for name in tasks.Task.__annotations__:
        assert hasattr(task, name)
    for name, method in inspect.getmembers(tasks.Task, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.signature(getattr(task, name)).parameters.keys() == (
                inspect.signature(method).parameters.keys() - {"self"}
            )


def test_columns_say_what_predictions_say(bundle: Bundle) -> None:
    task = tasks.create(bundle, LIMITS)
    outputs = bundle.golden().outputs
    predictions = task.encode(outputs, task.parse_options({}))
    for name, array in task.columns(outputs).items():
        assert array.tolist() == [prediction[name] for prediction in predictions]
    flat = {name for name, value in predictions[0].items() if not isinstance(value, list | dict)}
    assert task.columns(outputs).keys() == flat


def test_right_golden_rows_are_taken(bundle: Bundle) -> None:
    check_contract(tasks.create(bundle, LIMITS), bundle.golden())


def test_both_decoders_make_of_a_golden_request_what_the_manifest_promises(bundle: Bundle) -> None:
    task = tasks.create(bundle, LIMITS)
    golden = bundle.golden()
    together = {"instances": golden.requests}
    strict = task.decode_json(together)
    assert {name: array.tolist() for name, array in strict.items()} == {
        name: array.tolist() for name, array in golden.inputs.items()
    }
    for tensors in (
        strict,
        task.decode_json(task.example()),
        task.decode_fast(json.dumps(together).encode()) or strict,
    ):
        assert tensors.keys() == {spec.name for spec in bundle.manifest.inputs}
        assert all(spec.describes(tensors[spec.name]) for spec in bundle.manifest.inputs)


def test_requests_and_answers_keep_to_their_schemas(bundle: Bundle) -> None:
    task = tasks.create(bundle, LIMITS)
    golden = bundle.golden()
    request, response = (
        task.request_model.model_json_schema(),
        task.response_model.model_json_schema(mode="serialization"),
    )
    for schema in (request, response):
        Draft202012Validator.check_schema(schema)
    for document in (task.example(), {"instances": golden.requests}, {"model": bundle.manifest.name} | task.example()):
        Draft202012Validator(request).validate(document)
    predictions = task.encode(golden.outputs, task.parse_options({}))
    answer = {"model": bundle.manifest.name, "version": "1", "predictions": predictions}
    Draft202012Validator(response).validate(answer)
    task.response_model.model_validate(answer)
    assert not Draft202012Validator(response).is_valid(
        answer | {"predictions": [predictions[0] | {"label": 1, "value": "1", "error": -1, "outputs": 1}]}
    )


def test_the_largest_good_body_stays_within_the_limits_of_its_json(bundle: Bundle) -> None:
    limits = Limits(max_instances=2, max_image_pixels=10_000)
    task = tasks.create(bundle, limits)
    document = {"model": bundle.manifest.name} | {"instances": bundle.golden().requests[-2:]}
    body = json.dumps(document).encode()
    for mark, most in zip(b"[{:,", dataclasses.astuple(task.json_limits)[:4], strict=True):
        assert body.count(mark) <= most


def test_a_body_of_a_wrong_shape_is_refused_with_a_pointer(bundle: Bundle) -> None:
    task = tasks.create(bundle, LIMITS)
    (key,) = bundle.golden().requests[0]
    for document in (
        {},
        [],
        None,
        {"instances": []},
        {"instances": [{}]},
        {"instances": [{key: None}]},
        {"instances": [1]},
    ):
        with pytest.raises(InvalidInput) as caught:
            task.decode_json(document)
        assert all(fault.pointer.startswith("#") for fault in caught.value.faults)
    with pytest.raises(TooManyInstances):
        task.decode_json({"instances": [None] * (LIMITS.max_instances + 1)})
    with pytest.raises(InvalidInput):
        task.parse_options({"unknown": "1"})


@pytest.mark.parametrize("change", ["other_dtype", "one_more", "none", "fixed_axis"])
def test_a_manifest_with_other_tensors_is_refused(bundle: Bundle, change: str) -> None:
    manifest = bundle.manifest
    if manifest.task.kind == "tensors" and change != "none":
        pytest.skip("it takes whatever the manifest has")
    first, *others = manifest.inputs
    inputs = {
        "other_dtype": (first.model_copy(update={"dtype": "float64"}), *others),
        "one_more": (*manifest.inputs, first.model_copy(update={"name": "more"})),
        "none": (first.model_copy(update={"name": "more", "shape": ("batch",)}), *others),
        "fixed_axis": (first.model_copy(update={"shape": (*first.shape, 7)}), *others),
    }[change]
    changed = dataclasses.replace(bundle, manifest=manifest.model_copy(update={"inputs": inputs}))
    with pytest.raises(BundleError, match=manifest.task.kind):
        tasks.create(changed, LIMITS)
    without = dataclasses.replace(bundle, manifest=manifest.model_copy(update={"outputs": ()}))
    with pytest.raises(BundleError, match=f"{manifest.task.kind} needs an output"):
        tasks.create(without, LIMITS)


def test_more_golden_rows_than_a_request_may_hold_are_taken() -> None:
    many = golden_rows(golden_images(LIMITS.max_instances + 5, 2, 3), ("a", "b", "c"))
    check_contract(task_of(), many)


def with_request(row: int, request: Any) -> Change:
    return lambda golden: {"requests": [*golden.requests[:row], request, *golden.requests[row + 1 :]]}


def other_label(golden: GoldenRows) -> dict[str, Any]:
    return {"responses": [*golden.responses[:3], golden.responses[3] | {"label": "a", "index": 0}]}


def other_probability(golden: GoldenRows) -> dict[str, Any]:
    last = golden.responses[3]
    return {"responses": [*golden.responses[:3], last | {"probability": np.nextafter(last["probability"], 0)}]}


def other_pixel(golden: GoldenRows) -> dict[str, Any]:
    images = golden.inputs["image"].copy()
    images[2, 1, 1] = np.nextafter(images[2, 1, 1], np.float32(300))
    return {"inputs": {"image": images}}


def other_name(golden: GoldenRows) -> dict[str, Any]:
    return {"inputs": {"pixels": golden.inputs["image"]}}


def other_dtype(golden: GoldenRows) -> dict[str, Any]:
    return {"inputs": {"image": golden.inputs["image"].astype(np.float64)}}


def other_shape(golden: GoldenRows) -> dict[str, Any]:
    return {"inputs": {"image": golden.inputs["image"][:, :, :2]}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_request(1, {"image": [[0] * 3] * 2}), "golden request 1 does not become its golden input 'image'"),
        (with_request(2, {"image": [[-1] * 3] * 2}), r"golden request 2 is refused: #/instances/0/image/0/0"),
        (with_request(0, None), "golden request 0 is refused"),
        (other_pixel, "golden request 2 does not become its golden input 'image'"),
        (other_name, "golden request 0 does not become its golden input 'pixels'"),
        (other_dtype, "golden request 0 does not become its golden input 'image'"),
        (other_shape, "golden request 0 does not become its golden input 'image'"),
        (other_label, "golden output 3 does not become its golden response"),
        (other_probability, "golden output 3 does not become its golden response"),
    ],
)
def test_a_skew_between_training_and_serving_is_told(golden: GoldenRows, change: Change, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        check_contract(task_of(), dataclasses.replace(golden, **change(golden)))


def filled_up(name: str, value: float) -> Change:
    def change(golden: GoldenRows) -> dict[str, Any]:
        padded = golden.inputs[name].copy()
        padded[0, -1] = value
        return {"inputs": golden.inputs | {name: padded}}

    return change


def wider(name: str, value: float) -> Change:
    def change(golden: GoldenRows) -> dict[str, Any]:
        padded = golden.inputs[name]
        more = np.full((len(padded), 3, *padded.shape[2:]), value, padded.dtype)
        return {"inputs": golden.inputs | {name: np.concatenate([padded, more], axis=1)}}

    return change


def other_length(golden: GoldenRows) -> dict[str, Any]:
    lengths = golden.inputs["lengths"].copy()
    lengths[1] += 1
    return {"inputs": golden.inputs | {"lengths": lengths}}


def negative_length(golden: GoldenRows) -> dict[str, Any]:
    return {"inputs": golden.inputs | {"lengths": -golden.inputs["lengths"]}}


def other_step(golden: GoldenRows) -> dict[str, Any]:
    (name,) = golden.inputs.keys() - {"lengths"}
    padded = golden.inputs[name].copy()
    padded[1, 0] += 1
    return {"inputs": golden.inputs | {name: padded}}


@pytest.mark.parametrize("kind", ["sequence_classification", "text_classification"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (filled_up, "is padded with other than zeros in row 0"),
        (wider, "is padded with other than zeros in row 0"),
        (other_length, "golden request 1 does not become its golden input"),
        (negative_length, "golden request 0 does not become its golden input"),
        (other_step, "golden request 1 does not become its golden input"),
    ],
)
def test_padding_is_held_to_zeros_and_each_row_to_its_length(kind: str, change: Any, message: str) -> None:
    task, name = (sequence_task_of(), "sequence") if kind == "sequence_classification" else (text_task_of(), "tokens")
    golden = kind_golden(kind)
    changed = change(name, 2)(golden) if change in (filled_up, wider) else change(golden)
    with pytest.raises(BundleError, match=message):
        check_contract(task, dataclasses.replace(golden, **changed))
    check_contract(task, dataclasses.replace(golden, **wider(name, 0)(golden)))
