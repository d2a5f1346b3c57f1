"""What holds for every task, and for every bundle and its task."""

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from app import tasks
from app.bundle.golden import GoldenRows
from app.bundle.loader import BundleRef, find_bundles, open_bundle
from app.bundle.manifest import TaskSettings
from app.errors import BundleError
from app.tasks import Limits, check_contract
from tests.support.bundles import golden_images, golden_rows
from tests.support.tasks import LIMITS, tabular_task_of, task_of

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


@pytest.mark.parametrize(
    "task", [task_of(), tabular_task_of(), tabular_task_of("tabular_regression")], ids=lambda task: type(task).__name__
)
def test_a_task_keeps_to_its_protocol(task: tasks.Task) -> None:
    for name in tasks.Task.__annotations__:
        assert hasattr(task, name)
    for name, method in inspect.getmembers(tasks.Task, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.signature(getattr(task, name)).parameters.keys() == (
                inspect.signature(method).parameters.keys() - {"self"}
            )


def test_right_golden_rows_are_taken(golden: GoldenRows) -> None:
    check_contract(task_of(), golden)


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
