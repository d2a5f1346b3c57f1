"""What a request for inference says is understood, or it is told what is wrong with it."""

import json
from typing import Any

import numpy as np
import pytest

from app.errors import InvalidInput, MalformedBody, RequestError, TooManyInstances
from app.protocols.open_inference import http_body
from app.protocols.open_inference.infer_door import json_limits
from app.protocols.open_inference.messages import RequestedOutput
from app.protocols.open_inference.model import InferModel
from tests.support.kinds import kind_document
from tests.support.tasks import bundle_of, text_task_of

TASK = text_task_of()
MODEL = InferModel(bundle_of(kind_document("text_classification", "texts")).manifest, TASK)
LIMITS = json_limits(TASK)
TOKENS: dict[str, Any] = {"name": "tokens", "shape": [1, 3], "datatype": "INT64", "data": [1, 2, 3]}
LENGTHS: dict[str, Any] = {"name": "lengths", "shape": [1], "datatype": "INT64", "data": [3]}


def read(document: object, tail: bytes = b"", header_length: bytes | None = None) -> Any:
    body = json.dumps(document).encode()
    if tail and header_length is None:
        header_length = b"%d" % len(body)
    request = http_body.parse(body + tail, header_length, LIMITS)
    MODEL.requested(request.outputs)
    MODEL.expect_good(request)
    return MODEL.read(request)


def test_json_and_bytes_give_the_same_tensors() -> None:
    expected = read({"inputs": [TOKENS, LENGTHS]})
    raw = np.array([1, 2, 3]).tobytes()
    mixed = read({"inputs": [LENGTHS, without_data(TOKENS, len(raw))]}, raw)
    assert expected["tokens"].tolist() == mixed["tokens"].tolist() == [[1, 2, 3]]
    assert expected["lengths"].tolist() == mixed["lengths"].tolist() == [3]


def without_data(tensor: dict[str, Any], size: object) -> dict[str, Any]:
    return {k: v for k, v in tensor.items() if k != "data"} | {"parameters": {"binary_data_size": size}}


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_texts_stand_for_their_tokens(shape: list[int]) -> None:
    text = {"name": "text", "shape": shape, "datatype": "BYTES", "data": ["abc", "de"]}
    tensors = read({"inputs": [text]})
    assert tensors["tokens"].shape[0] == 2
    packed = b"\x03\0\0\0abc\x02\0\0\0de"
    again = read({"inputs": [without_data(text, len(packed))]}, packed)
    assert np.array_equal(tensors["tokens"], again["tokens"])


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ([TOKENS], "input:lengths: it is not in the request, which has tokens"),
        ([TOKENS, LENGTHS, LENGTHS], "input:lengths: it stands twice"),
        ([TOKENS, LENGTHS, LENGTHS | {"name": "more"}], "input:more: the model has no such input; it has tokens"),
        ([TOKENS | {"datatype": "FP32"}, LENGTHS], "input:tokens: expected the datatype INT64, found FP32"),
        ([TOKENS | {"datatype": "FP99"}, LENGTHS], "input:tokens: unknown datatype 'FP99', expected INT64"),
        ([TOKENS | {"data": None}, LENGTHS], "input:tokens: it has neither data nor binary_data_size"),
        ([TOKENS | {"data": [1, 2]}, LENGTHS], "input:tokens: its shape asks for 3 elements, its data have 2"),
        ([TOKENS | {"data": [1, 2, -3]}, LENGTHS], r"input:tokens: expected a number from 0 to \d+, found -3"),
        ([TOKENS, LENGTHS | {"data": [4]}], "input:lengths: expected lengths from 1 to 3"),
        ([TOKENS | {"shape": [1, True]}, LENGTHS], "#/inputs/0/shape/1"),
        ([TOKENS | {"shape": [2**63, 3]}, LENGTHS], "input:lengths: 1 rows, and 'tokens' has 9223372036854775808"),
        ([TOKENS | {"more": 1}, LENGTHS], "#/inputs/0/more"),
        ([], "#/inputs: List should have at least 1 item"),
        (
            [TOKENS | {"parameters": {"shared_memory_region": "x"}}, LENGTHS],
            "input:tokens: no shared memory is read",
        ),
        ([TOKENS | {"parameters": {"binary_data_size": 8}}, LENGTHS], "input:tokens: it has both data and"),
        ([without_data(TOKENS, -1), LENGTHS], "input:tokens: binary_data_size is no number of bytes"),
        ([without_data(TOKENS, True), LENGTHS], "input:tokens: binary_data_size is no number of bytes"),
        ([without_data(TOKENS, 24), LENGTHS], "input:tokens: binary_data_size is 24, and the body has 0 bytes left"),
        (
            [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}, LENGTHS],
            "input:text: it is the only input where it is sent as BYTES",
        ),
        (
            [{"name": "text", "shape": [1, 2], "datatype": "BYTES", "data": ["a"]}],
            r"input:text: expected the shape \[rows",
        ),
        ([{"name": "text", "shape": [1], "datatype": "BYTES", "data": [""]}], "input:text: element 0 is empty"),
        ([{"name": "text", "shape": [1], "datatype": "FP32", "data": [1]}], "input:text: the model has no such input"),
    ],
)
def test_wrong_tensors_are_refused_by_their_name(inputs: list[object], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        read({"inputs": inputs})


def test_more_texts_than_one_request_may_hold_are_too_many() -> None:
    with pytest.raises(TooManyInstances, match=r"^input:text: 1000000000 instances"):
        read({"inputs": [{"name": "text", "shape": [10**9], "datatype": "BYTES", "data": ["a"]}]})


@pytest.mark.parametrize("length", [b"", b"-5", b"0", b"99999", b"1e3", b"9" * 40, b" 5", "\u0665".encode()])
def test_a_length_that_the_json_cannot_have_is_refused(length: bytes) -> None:
    with pytest.raises(MalformedBody, match="Inference-Header-Content-Length is"):
        http_body.parse(json.dumps({"inputs": [TOKENS, LENGTHS]}).encode(), length, LIMITS)


def test_bytes_that_belong_to_no_tensor_are_refused() -> None:
    with pytest.raises(InvalidInput, match="3 bytes stand behind the last tensor"):
        read({"inputs": [TOKENS, LENGTHS]}, b"abc")


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        ([{"name": "none"}], "output:none: the model has no such output; it has logits, probabilities"),
        ([{"name": "logits"}, {"name": "logits"}], "output:logits: it is asked for twice"),
        ([{"name": "logits", "parameters": {"classification": 0}}], "output:logits: expected classification to be"),
        ([{"name": "logits", "parameters": {"classification": "1"}}], "output:logits: expected classification to be"),
        ([{"name": "logits", "parameters": {"binary_data": 1}}], "output:logits: expected binary_data to be true or"),
        ([{"name": "logits", "parameters": {"binary_data": [1]}}], "#/outputs/0/parameters/binary_data"),
        ([{"name": "logits", "parameters": {"shared_memory_region": "x"}}], "output:logits: no shared memory is"),
    ],
)
def test_wrong_outputs_are_refused_by_their_name(outputs: list[object], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        read({"inputs": [TOKENS, LENGTHS], "outputs": outputs})


def test_parameters_that_would_change_the_meaning_are_refused() -> None:
    for inputs in ([TOKENS, LENGTHS], [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]):
        with pytest.raises(InvalidInput, match="there are no sequences"):
            read({"inputs": inputs, "parameters": {"sequence_id": 7}})


@pytest.mark.parametrize("asked", [[], [{"name": "logits"}]])
def test_a_flag_of_the_request_is_true_or_false_whatever_outputs_it_names(asked: list[object]) -> None:
    told = "parameter:binary_data_output: expected binary_data_output to be true or false, found a string"
    with pytest.raises(InvalidInput, match=told):
        read({"inputs": [TOKENS, LENGTHS], "outputs": asked, "parameters": {"binary_data_output": "yes"}})


def test_an_id_that_no_answer_could_give_back_is_refused() -> None:
    with pytest.raises(InvalidInput, match="#/id: it holds half of a surrogate pair"):
        read({"id": "\ud800", "inputs": [TOKENS, LENGTHS]})


def test_null_is_what_was_not_said() -> None:
    tensor = TOKENS | {"parameters": None}
    document = {"id": None, "parameters": {"content_type": None}, "inputs": [tensor, LENGTHS], "outputs": None}
    request = http_body.parse(json.dumps(document).encode(), None, LIMITS)
    assert (request.id, request.parameters, request.outputs) == ("", {}, ())
    assert read(document)["tokens"].tolist() == [[1, 2, 3]]


def test_what_is_asked_for_is_understood() -> None:
    asked = [{"name": "probabilities", "parameters": {"classification": 2}}, {"name": "logits"}]
    document = {"id": "7", "parameters": {"binary_data_output": True}, "inputs": [TOKENS, LENGTHS], "outputs": asked}
    request = http_body.parse(json.dumps(document).encode(), None, LIMITS)
    assert request.id == "7"
    assert request.outputs == (
        RequestedOutput(name="probabilities", classification=2, is_binary=True),
        RequestedOutput(name="logits", is_binary=True),
    )


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"1", b"null", b'{"inputs": 1}', b"\xef\xbb\xbf{}", b'{"a":1,"a":2}', b"{"]
)
def test_other_json_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        http_body.parse(body, None, LIMITS)
