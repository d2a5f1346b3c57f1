import json
import math
from typing import Any

import numpy as np
import pytest

from app.errors import BundleError, InvalidInput, TooManyValues, UnsupportedMedia
from app.tasks import create
from app.tasks.decoding.strict_json import parse_json
from app.tasks.sequence_classification import MAX_STEPS_ON_LOOP
from app.tasks.shared.ragged import MAX_ARRAYS_TOGETHER
from tests.support.kinds import kind_document
from tests.support.tasks import LIMITS, bundle_of, sequence_task_of

TASK = sequence_task_of(min_length=2)
FLOAT32_MAX = float(np.finfo(np.float32).max)
PLACE = "#/instances/0/sequence"


def body(*series: object) -> dict[str, Any]:
    return {"instances": [{"sequence": steps} for steps in series]}


def faults(document: object, task: Any = TASK) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as caught:
        task.decode_json(document)
    assert all(fault.message for fault in caught.value.faults)
    return [(fault.pointer, fault.code) for fault in caught.value.faults]


def test_series_of_one_request_are_padded_to_their_longest() -> None:
    tensors = TASK.decode_json(body([[1, 2], [3, -3]], [[0.1, 0], [0, 0], [-1, 2]]))
    assert (tensors["sequence"].dtype, tensors["lengths"].dtype) == (np.float32, np.int64)
    assert tensors["lengths"].tolist() == [2, 3]
    assert tensors["sequence"].tolist() == [
        [[1, 2], [3, -3], [0, 0]],
        [[float(np.float32(0.1)), 0], [0, 0], [-1, 2]],
    ]


def test_a_series_alone_is_not_padded() -> None:
    assert TASK.decode_json(body([[1, 2], [3, -3]]))["sequence"].shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], [(PLACE, "too_short")]),
        ([[1, 2]], [(PLACE, "too_short")]),
        ([[1, 2]] * 6, [(PLACE, "too_long")]),
        ([[1, 2]] * 100_000, [(PLACE, "too_long")]),
        (None, [(PLACE, "wrong_type")]),
        ("[[1, 2], [1, 2]]", [(PLACE, "wrong_type")]),
        ({"0": [1, 2]}, [(PLACE, "wrong_type")]),
        ([1, 2], [(PLACE + "/0", "wrong_type"), (PLACE + "/1", "wrong_type")]),
        ([[1, 2], [1]], [(PLACE + "/1", "wrong_shape")]),
        ([[1, 2], [1, 2, 3]], [(PLACE + "/1", "wrong_shape")]),
        ([[], [1, 2]], [(PLACE + "/0", "wrong_shape")]),
        ([[1, 2], [[1], 2]], [(PLACE + "/1/0", "wrong_type")]),
        ([[1, 2], [1, math.nan]], [(PLACE + "/1/1", "not_finite")]),
        ([[math.inf, 2], [-math.inf, 1]], [(PLACE + "/0/0", "not_finite"), (PLACE + "/1/0", "not_finite")]),
        ([[1, 3.001], [-3.001, 1]], [(PLACE + "/0/1", "out_of_range"), (PLACE + "/1/0", "out_of_range")]),
        ([[1, 10**400], [1, 1e39]], [(PLACE + "/0/1", "out_of_range"), (PLACE + "/1/1", "out_of_range")]),
        ([[1, True], ["1", None]], [(PLACE + "/0/1", "wrong_type"), (PLACE + "/1/0", "wrong_type"),
                                    (PLACE + "/1/1", "wrong_type")]),
    ],
)  # fmt: skip
def test_every_fault_is_named_with_its_place(steps: object, expected: list[tuple[str, str]]) -> None:
    assert faults(body(steps)) == expected


def test_the_faults_of_one_series_are_few() -> None:
    assert len(faults(body([[math.nan, math.nan]] * 5))) == 8


@pytest.mark.parametrize("length", [2, 5])
def test_the_bounds_of_the_length_are_taken(length: int) -> None:
    assert TASK.decode_json(body([[-3, 3]] * length))["lengths"].tolist() == [length]


def test_without_bounds_every_number_of_float32_is_taken_and_no_other() -> None:
    task = sequence_task_of(low=-FLOAT32_MAX, high=FLOAT32_MAX)
    assert np.isfinite(task.decode_json(body([[FLOAT32_MAX, -FLOAT32_MAX]]))["sequence"]).all()
    assert faults(body([[0, FLOAT32_MAX * (1 + 1e-9)]]), task) == [(PLACE + "/0/1", "out_of_range")]


def test_one_long_series_among_many_short_ones_is_refused_before_it_is_padded() -> None:
    task = sequence_task_of(num_channels=64, max_length=65_536)
    short, long = [[0] * 64], [[0] * 64] * 2049
    document = body(*[short] * 31, long)
    assert task.decode_fast(json.dumps(document).encode()) is None
    assert faults(document, task) == [("#/instances", "too_many_numbers")]
    assert task.decode_json(body(*[short] * 31, long[:-1]))["sequence"].shape == (32, 2048, 64)
    longest = task.decode_json(body([[0] * 64] * 65_536))
    assert longest["sequence"].shape == (1, 65_536, 64)  # alone it may be as long as the manifest says


def test_a_body_of_very_many_steps_is_left_to_a_thread() -> None:
    task = sequence_task_of(num_channels=1, max_length=65_536)
    document = body([[0]] * (MAX_STEPS_ON_LOOP - 2))
    assert task.decode_fast(json.dumps(document).encode()) is not None
    document["instances"][0]["sequence"].append([0])
    assert task.decode_fast(json.dumps(document).encode()) is None
    assert task.decode_json(document)["lengths"].tolist() == [MAX_STEPS_ON_LOOP - 1]


def test_a_body_of_more_arrays_than_rows_may_have_together_is_not_parsed() -> None:
    task = sequence_task_of(num_channels=1, max_length=65_536)
    assert task.json_limits.arrays <= MAX_ARRAYS_TOGETHER + 1
    with pytest.raises(TooManyValues):
        parse_json(b'{"instances":[{"sequence":[' + b"[]," * 400_000 + b"[]]}]}", task.json_limits)


def test_a_file_is_refused() -> None:
    assert TASK.media_types == ()
    with pytest.raises(UnsupportedMedia):
        TASK.decode_file(b"1,2")


@pytest.mark.parametrize(
    "bounds",
    [{}, {"min_length": 5}, {"max_length": 1}, {"low": 2.0}, {"high": -2.5}, {"num_channels": 12}, {"num_channels": 1}],
)
def test_the_example_works_as_it_stands(bounds: dict[str, Any]) -> None:
    task = sequence_task_of(**bounds)
    example = task.example()
    strict, fast = task.decode_json(example), task.decode_fast(json.dumps(example).encode())
    assert fast is not None
    assert np.array_equal(strict["sequence"], fast["sequence"])


@pytest.mark.parametrize(
    ("index", "change"),
    [
        (0, {"name": "series"}),
        (0, {"dtype": "int64"}),
        (0, {"shape": ["batch", "time"]}),
        (0, {"shape": ["batch", "time", 3]}),
        (0, {"shape": ["batch", "time", "channels"]}),
        (1, {"name": "mask", "shape": ["batch", "time"]}),
    ],
)
def test_a_manifest_whose_inputs_do_not_fit_is_refused(index: int, change: dict[str, Any]) -> None:
    document = kind_document("sequence_classification")
    document["inputs"][index] |= change
    with pytest.raises(
        BundleError, match=r"takes the inputs 'sequence', float32 \(batch, sequence, 2\), and 'lengths'"
    ):
        create(bundle_of(document), LIMITS)
