"""Answers cut out of a batch's bytes are those that each request would have been written by itself."""

import numpy as np
import pytest

from app.protocols.open_inference import http_answer
from app.protocols.open_inference.batch_bytes import BatchBytes, are_bytes
from app.protocols.open_inference.messages import OutputTensor, RequestedOutput


def outputs_of(rows: int) -> tuple[OutputTensor, ...]:
    generator = np.random.default_rng(rows)
    return (
        OutputTensor(name="scores", datatype="FP32", array=generator.random((rows, 3)).astype(np.float32)),
        OutputTensor(name="count", datatype="INT64", array=generator.integers(0, 9, rows)),
        OutputTensor(name="is_odd", datatype="BOOL", array=generator.random((rows, 2, 1)) > 0.5),
        OutputTensor(name="nothing", datatype="FP32", array=np.zeros((rows, 0), np.float32)),
    )


@pytest.mark.parametrize("request_id", ["", "a request"])
@pytest.mark.parametrize(("start", "stop"), [(0, 1), (2, 5), (0, 7), (6, 7)])
def test_a_slice_of_the_batch_is_what_the_request_alone_would_get(start: int, stop: int, request_id: str) -> None:
    outputs = outputs_of(7)
    batch = BatchBytes("model", "2", outputs)
    alone = tuple(
        OutputTensor(name=each.name, datatype=each.datatype, array=each.array[start:stop]) for each in outputs
    )
    for _ in range(2):  # the second time from what is kept
        assert batch.rows(start, stop, request_id) == http_answer.write(
            "model", "2", request_id, alone, all_binary=True
        )


@pytest.mark.parametrize(
    ("is_binary", "classification", "all_binary", "expected"),
    [
        (True, 0, False, True),
        (None, 0, True, True),
        (None, 0, False, False),
        (False, 0, True, False),
        (True, 3, True, False),
    ],
)
def test_only_numbers_that_are_wanted_as_bytes_are_bytes(
    is_binary: bool | None, classification: int, all_binary: bool, expected: bool
) -> None:
    outputs = [
        RequestedOutput(name="scores", is_binary=True),
        RequestedOutput(name="count", is_binary=is_binary, classification=classification),
    ]
    assert are_bytes(outputs, all_binary=all_binary) is expected
