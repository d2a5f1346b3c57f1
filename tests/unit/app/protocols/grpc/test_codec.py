import re
import struct
from typing import Any

import numpy as np
import pytest

from app.errors import InvalidInput
from app.protocols.grpc import codec
from app.protocols.grpc.inference_pb2 import ModelInferRequest, ModelInferResponse
from app.protocols.open_inference.datatypes import BYTES, DTYPES
from app.protocols.open_inference.messages import MAX_TENSORS, InferResponse, OutputTensor
from app.tensors import Array

# values that no other datatype of their field holds
EXTREMES = {name: [np.iinfo(dtype.name).min, np.iinfo(dtype.name).max] for name, dtype in DTYPES.items()
            if dtype.kind in "iu"}  # fmt: skip
VALUES: dict[str, list[Any]] = {"BOOL": [True, False], "FP16": [0.5, -2.0], "FP32": [0.1, 3e38], "FP64": [0.1, 1e308]}
VALUES |= EXTREMES


def request(datatype: str = "FP32", *, raw: list[bytes] | None = None, **contents: Any) -> ModelInferRequest:
    message = ModelInferRequest(model_name="cnn", id="7")
    tensor = message.inputs.add(name="image", datatype=datatype, shape=[2])
    for field, values in contents.items():
        getattr(tensor.contents, field).extend(values)
    message.raw_input_contents.extend(raw or [])
    return message


def read(message: ModelInferRequest, count: int = 2) -> Array:
    return codec.parse(message).inputs[0].read(count)


def refused(message: ModelInferRequest, *, told: str, count: int = 2) -> None:
    with pytest.raises(InvalidInput, match=re.escape(told)):
        read(message, count)


def answer(array: Array, datatype: str) -> InferResponse:
    output = OutputTensor(name="scores", datatype=datatype, array=array)
    return InferResponse(
        model="cnn", version="2", id="7", outputs=(output,), parse_s=0, queue_s=0, compute_s=0, batch_rows=1
    )  # fmt: skip


@pytest.mark.parametrize("datatype", DTYPES)
def test_raw_contents_are_read_as_they_are(datatype: str) -> None:
    wanted = np.array(VALUES[datatype], DTYPES[datatype])
    found = read(request(datatype, raw=[wanted.tobytes()]))
    assert found.dtype == wanted.dtype
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("datatype", [name for name in codec.CONTENTS if name != BYTES])
def test_typed_contents_are_read_as_they_are(datatype: str) -> None:
    wanted = np.array(VALUES[datatype], DTYPES[datatype])
    found = read(request(datatype, **{codec.CONTENTS[datatype]: wanted.tolist()}))
    assert found.dtype == wanted.dtype
    assert np.array_equal(found, wanted)


def test_strings_are_read_either_way() -> None:
    wanted = [b"", b"\xff\x00 any bytes"]
    packed = b"".join(struct.pack("<I", len(part)) + part for part in wanted)
    assert read(request(BYTES, raw=[packed])).tolist() == wanted
    assert read(request(BYTES, bytes_contents=wanted)).tolist() == wanted


def test_raw_numbers_are_not_copied() -> None:
    assert not read(request(raw=[bytes(8)])).flags.owndata


@pytest.mark.parametrize("datatype", [name for name in EXTREMES if "8" in name or "16" in name])
def test_numbers_beyond_their_datatype_are_refused(datatype: str) -> None:
    beyond = EXTREMES[datatype][1] + 1
    refused(request(datatype, **{codec.CONTENTS[datatype]: [0, beyond]}), told=f"input:image: {datatype} holds")


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (request(raw=[bytes(7)]), "input:image: its shape asks for 8 bytes"),
        (request(raw=[bytes(12)]), "input:image: its shape asks for 8 bytes, FP32 times 2, found 12"),
        (request(fp32_contents=[1]), "input:image: its shape asks for 2 elements, fp32_contents has 1"),
        (request(fp32_contents=[1, 2, 3]), "input:image: its shape asks for 2 elements, fp32_contents has 3"),
        (request(), "input:image: its shape asks for 2 elements, fp32_contents has 0"),
        (request(int64_contents=[1, 2]), "input:image: FP32 belongs into fp32_contents, found int64_contents"),
        (request(fp32_contents=[1, 2], fp64_contents=[1]), "input:image: FP32 belongs into fp32_contents"),
        (request("FP16", fp32_contents=[1, 2]), "input:image: FP16 has no typed contents"),
        (request(raw=[bytes(8)], fp32_contents=[1, 2]), "input:image: its data stand in its contents and in raw"),
        (request(raw=[bytes(8), bytes(8)]), "expected one entry for each of 1 inputs, or none at all; found 2"),
        (request("BOOL", raw=[b"\x00\x02"]), "input:image: expected bytes of 0 and 1"),
        (request(BYTES, raw=[b"\xff\xff\xff\xff"]), "input:image: element 0 says that it has 4294967295 bytes"),
        (request(BYTES, raw=[b"\x00\x00"]), "input:image: its shape asks for 2 elements, and its bytes end behind 0"),
    ],
)
def test_data_that_disagree_with_what_is_said_of_them_are_refused(message: ModelInferRequest, told: str) -> None:
    refused(message, told=told)


def test_an_input_without_its_raw_contents_is_named() -> None:
    message = request(raw=[bytes(8)])
    message.inputs.add(name="lengths", datatype="INT64", shape=[2])
    with pytest.raises(InvalidInput, match="'lengths' is the first without"):
        codec.parse(message)


def test_shared_memory_is_refused_in_and_out() -> None:
    message = request()
    message.inputs[0].parameters["shared_memory_region"].string_param = "r"
    with pytest.raises(InvalidInput, match="input:image: no shared memory"):
        codec.parse(message)
    message = request(raw=[bytes(8)])
    message.outputs.add(name="scores").parameters["shared_memory_region"].string_param = "r"
    with pytest.raises(InvalidInput, match="output:scores: no shared memory"):
        codec.parse(message)


@pytest.mark.parametrize("what", ["inputs", "outputs"])
def test_many_tensors_are_refused_before_they_are_looked_at(what: str) -> None:
    message = ModelInferRequest(model_name="cnn")
    for _ in range(MAX_TENSORS + 1):
        getattr(message, what).add(name="x")
    with pytest.raises(InvalidInput, match=f"may name {MAX_TENSORS} {what}, found {MAX_TENSORS + 1}"):
        codec.parse(message)


def test_id_parameters_and_wanted_outputs_are_read() -> None:
    message = request(raw=[bytes(8)])
    message.parameters["timeout"].int64_param = 5
    message.parameters["flag"].bool_param = True
    message.parameters["empty"].SetInParent()
    message.outputs.add(name="scores").parameters["classification"].int64_param = 3
    message.outputs.add(name="logits")
    found = codec.parse(message)
    assert (found.id, found.parameters) == ("7", {"timeout": 5, "flag": True, "empty": ""})
    assert [(output.name, output.classification) for output in found.outputs] == [("scores", 3), ("logits", 0)]


@pytest.mark.parametrize("parameter", [{"bool_param": True}, {"string_param": "3"}, {"double_param": 2.0}])
def test_a_number_of_classes_is_a_whole_number(parameter: dict[str, Any]) -> None:
    message = request(raw=[bytes(8)])
    given = message.outputs.add(name="scores").parameters["classification"]
    for name, value in parameter.items():
        setattr(given, name, value)
    with pytest.raises(InvalidInput, match="output:scores: expected a whole number as classification"):
        codec.parse(message)


@pytest.mark.parametrize("datatype", DTYPES)
@pytest.mark.parametrize("is_typed", [False, True])
def test_answers_come_in_the_form_of_the_request(datatype: str, is_typed: bool) -> None:
    array = np.array([VALUES[datatype]], DTYPES[datatype])
    message = ModelInferResponse.FromString(codec.serialize(answer(array, datatype), is_typed=is_typed))
    (tensor,) = message.outputs
    assert (message.model_name, message.model_version, message.id) == ("cnn", "2", "7")
    assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("scores", datatype, [1, 2])
    if is_typed and datatype in codec.CONTENTS:
        assert getattr(tensor.contents, codec.CONTENTS[datatype]) == array.reshape(-1).tolist()
        assert not message.raw_output_contents
    else:
        assert list(message.raw_output_contents) == [array.tobytes()]
        assert not tensor.HasField("contents")


@pytest.mark.parametrize("is_typed", [False, True])
def test_strings_are_written_either_way(is_typed: bool) -> None:
    array = np.array([[b"1.5:0:cat", b""]], object)
    message = ModelInferResponse.FromString(codec.serialize(answer(array, BYTES), is_typed=is_typed))
    if is_typed:
        assert list(message.outputs[0].contents.bytes_contents) == [b"1.5:0:cat", b""]
    else:
        assert list(message.raw_output_contents) == [b"\x09\0\0\0" + b"1.5:0:cat" + bytes(4)]


def test_rows_of_a_larger_batch_are_written_alone() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T[1:3]  # no one block of memory
    message = ModelInferResponse.FromString(codec.serialize(answer(array, "FP32"), is_typed=False))
    assert list(message.raw_output_contents) == [np.ascontiguousarray(array).tobytes()]
