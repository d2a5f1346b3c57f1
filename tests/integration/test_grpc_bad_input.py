"""Bad input over gRPC: each is refused with its tensor and its fault named, and takes no memory."""

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

from tests.support.bundles import dummy_bundle
from tests.support.grpc_calls import PICTURE, inputs_of, message, refusal
from tests.support.server import RunningService, serve


@pytest.fixture(scope="module")
def dummies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    models = tmp_path_factory.mktemp("models")
    dummy_bundle(models)
    dummy_bundle(models, "poisoned", behavior={"nan_on": 99})
    with serve(models, grpc_port=0, max_body_bytes=64 * 1024, max_queue_rows=8, max_instances=8) as running:
        yield running


def changed(**changes: Any) -> pb.ModelInferRequest:
    """Return a good request of a picture, whose only input is changed."""
    request = message()
    for name, value in changes.items():
        if name == "shape":
            del request.inputs[0].shape[:]
            request.inputs[0].shape.extend(value)
        elif name == "raw":
            del request.raw_input_contents[:]
            request.raw_input_contents.extend(value)
        else:
            setattr(request.inputs[0], name, value)
    return request


def twice() -> pb.ModelInferRequest:
    request = message()
    request.inputs.append(request.inputs[0])
    request.raw_input_contents.append(request.raw_input_contents[0])
    return request


def with_output(name: str) -> pb.ModelInferRequest:
    request = message()
    request.outputs.add(name=name)
    return request


def with_contents(**contents: list[Any]) -> pb.ModelInferRequest:
    request = message()
    for name, values in contents.items():
        getattr(request.inputs[0].contents, name).extend(values)
    return request


BAD = {
    "data shorter than the shape": (changed(raw=[bytes(23)]), "input:image: its shape asks for 24 bytes"),
    "data longer than the shape": (changed(raw=[bytes(25)]), "input:image: its shape asks for 24 bytes"),
    "a shape of other data": (changed(shape=[2, 2, 3]), "input:image: its shape asks for 48 bytes"),
    "a negative dimension": (changed(shape=[-1, 2, 3]), "input:image"),
    "a huge dimension": (changed(shape=[2**63 - 1, 2, 3]), "9223372036854775807 instances"),
    "huge dimensions": (changed(shape=[2**62, 2**62, 2**62]), "input:image"),
    "no dimensions": (changed(shape=[]), "input:image"),
    "an unknown datatype": (changed(datatype="FP31"), "input:image: unknown datatype 'FP31'"),
    "another datatype": (changed(datatype="INT64"), "input:image: expected the datatype FP32, found INT64"),
    "half a datatype": (changed(datatype="BF16"), "input:image: expected the datatype FP32, found BF16"),
    "strings of lying lengths": (
        changed(datatype="BYTES", shape=[1], raw=[b"\xff\xff\xff\x7fabc"]), "input:image: element 0 says"
    ),
    "contents twice": (with_contents(fp32_contents=[1.0] * 6), "input:image: its data stand in its contents and"),
    "the same input twice": (twice(), "input:image: it stands twice"),
    "an input missing": (message({}), "input:image: it is not in the request"),
    "an input too many": (message(PICTURE | {"other": np.ones(1, np.float32)}), "input:other: the model has no such"),
    "an unknown output": (with_output("none"), "output:none: the model has no such output"),
    "rows beyond the limit": (message({"image": np.ones((9, 2, 3), np.float32)}), "9 instances in one request"),
    "numbers out of range": (message({"image": np.full((1, 2, 3), np.nan, np.float32)}), "input:image"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_its_tensor_named(dummies: RunningService, case: str) -> None:
    request, told = BAD[case]
    failed = refusal(dummies, request.SerializeToString())
    assert failed.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert told in (failed.details() or "")


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\xff", b"\x1f\x8b" + bytes(10)])
def test_what_is_no_message_is_named_as_such(dummies: RunningService, data: bytes) -> None:
    failed = refusal(dummies, data)
    assert failed.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert failed.details() == "the message is no inference.ModelInferRequest"


def test_a_dimension_beyond_the_wire_s_numbers_is_refused(dummies: RunningService) -> None:
    # 2**63 as a varint comes out as the least number of 64 bits
    data = message().SerializeToString().replace(b"\x1a\x03\x01\x02\x03", b"\x1a\x0c" + b"\x80" * 9 + b"\x01\x02\x03")
    data = bytes([*data[:8], data[8] + 9, *data[9:]])
    assert pb.ModelInferRequest.FromString(data).inputs[0].shape[0] == -(2**63)
    assert "input:image" in (refusal(dummies, data).details() or "")


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_messages_beyond_the_limit_are_refused_and_bombs_are_not_inflated(
    dummies: RunningService, compression: grpc.Compression
) -> None:
    before = dummies.rss_bytes()
    failed = refusal(dummies, bytes(256 * 2**20), compression=compression)
    assert failed.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in (failed.details() or "")
    assert dummies.rss_bytes() - before < 64 * 2**20


def test_a_poisoned_row_is_the_caller_s_and_its_neighbors_are_answered(dummies: RunningService) -> None:
    with triton.InferenceServerClient(dummies.grpc_target) as client:
        with pytest.raises(InferenceServerException) as caught:
            client.infer("poisoned", inputs_of({"image": np.full((1, 2, 3), 99, np.float32)}))
        assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
        assert client.infer("poisoned", inputs_of(PICTURE)).as_numpy("logits").shape == (1, 3)
