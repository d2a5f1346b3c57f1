"""Bad tensors at the door of the Open Inference Protocol: each is refused in its form, and named; nothing grows."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.support.bad_tensors import (
    BAD_BYTES,
    BAD_REQUESTS,
    BAD_STRINGS,
    COUNT,
    FLAGS,
    GOOD,
    MATRIX,
    MODEL,
    BadRequest,
    Tensor,
)
from tests.support.kinds import kind_bundle
from tests.support.open_inference import HEADER_LENGTH, read_answer
from tests.support.server import RunningService, serve

INFER = f"/v2/models/{MODEL}/infer"
TEXT = "/v2/models/text_classification/infer"
MIB = 2**20
# without what bytes alone can say
TYPED = [bad for bad in BAD_REQUESTS if not any(tensor.raw for tensor in bad.inputs)]

Inputs = list[dict[str, Any]]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    models = tmp_path_factory.mktemp("models")
    for kind in (MODEL, "text_classification"):
        kind_bundle(models, kind)
    with serve(models, backend="dummy", grpc_port=0) as running:
        yield running


@pytest.fixture(scope="module")
def ask(service: RunningService) -> Iterator[Callable[..., service_pb2.ModelInferResponse]]:
    """The call for inference over gRPC."""
    with grpc.insecure_channel(service.grpc_target) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer


@pytest.fixture
def client(service: RunningService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        yield client


def described(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def in_json(request: BadRequest) -> tuple[bytes, dict[str, str]]:
    inputs = [described(tensor) | {"data": list(tensor.data)} for tensor in request.inputs]
    outputs = {"outputs": [{"name": name} for name in request.outputs]} if request.outputs else {}
    return json.dumps({"inputs": inputs} | outputs).encode(), {}


def in_bytes(request: BadRequest) -> tuple[bytes, dict[str, str]]:
    data = [tensor.as_bytes for tensor in request.inputs]
    inputs = [
        described(tensor) | {"parameters": {"binary_data_size": len(each)}}
        for tensor, each in zip(request.inputs, data, strict=True)
    ]
    outputs = {"outputs": [{"name": name} for name in request.outputs]} if request.outputs else {}
    head = json.dumps({"inputs": inputs} | outputs).encode()
    return head + b"".join(data), {HEADER_LENGTH: str(len(head))}


def expect_good(client: httpx.Client) -> None:
    body, headers = in_bytes(BadRequest(what="nothing", inputs=GOOD, names=""))
    outputs = read_answer(client.post(INFER, content=body, headers=headers))
    # by the arithmetic of the dummy: its inputs add up to 4.5 + 3 + 2
    np.testing.assert_allclose(outputs["total"], [9.5 / 1000], rtol=1e-6)


def expect_refusal(client: httpx.Client, response: httpx.Response, names: str, status: int = 400) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert list(answer) == ["error"]
    assert names in answer["error"]
    assert len(answer["error"]) < 2000
    expect_good(client)
    message: str = answer["error"]
    return message


@pytest.mark.parametrize("bad", BAD_REQUESTS, ids=lambda bad: bad.what)
@pytest.mark.parametrize("write", [in_json, in_bytes])
def test_bad_tensors_are_refused_by_name(
    client: httpx.Client, write: Callable[[BadRequest], tuple[bytes, dict[str, str]]], bad: BadRequest
) -> None:
    body, headers = write(bad)
    for path in (INFER, f"/v2/models/{MODEL}/versions/1/infer"):
        response = client.post(path, content=body, headers=headers)
        expect_refusal(client, response, bad.names, 413 if bad.is_too_large else 400)


@pytest.mark.parametrize("bad", BAD_BYTES, ids=lambda bad: bad.what)
def test_bad_bytes_are_refused_by_name(client: httpx.Client, bad: BadRequest) -> None:
    body, headers = in_bytes(bad)
    expect_refusal(client, client.post(INFER, content=body, headers=headers), bad.names)


def with_matrix(**changes: Any) -> bytes:
    inputs: Inputs = [described(tensor) | {"data": list(tensor.data)} for tensor in GOOD]
    inputs[0] |= changes
    return json.dumps({"inputs": inputs}).encode()


@pytest.mark.parametrize(
    ("what", "data"),
    [("nested one level too deep", [[[[0.5], [-1.0]], [[2.0], [3.0]]]]),
     ("nested one level too flat", [[0.5, -1.0], [2.0, 3.0]]),
     ("nested in the other order", [[[0.5], [-1.0], [2.0], [3.0]]]),
     ("ragged", [[[0.5, -1.0, 2.0], [3.0]]]),
     ("flat and nested", [0.5, -1.0, [2.0, 3.0]]),
     ("nested and flat", [[[0.5, -1.0], 2.0, 3.0]]),
     ("brackets without end", json.loads("[" * 900 + "]" * 900)),
     ("empty arrays", [[], [], [], []]),
     ("a string", [0.5, -1.0, 2.0, "3.0"]),
     ("a truth value", [0.5, -1.0, 2.0, True]),
     ("null", [0.5, -1.0, 2.0, None]),
     ("an object", [0.5, -1.0, 2.0, {}]),
     ("NaN", [0.5, -1.0, 2.0, float("nan")]),
     ("an infinity", [0.5, -1.0, 2.0, float("inf")]),
     ("beyond float32", [0.5, -1.0, 2.0, 1e39]),
     ("beyond float64", [0.5, -1.0, 2.0, 10**400])],
)  # fmt: skip
def test_data_of_another_form_are_refused_by_name(client: httpx.Client, what: str, data: Any) -> None:
    expect_refusal(client, client.post(INFER, content=with_matrix(data=data)), "matrix")


@pytest.mark.parametrize(
    "number", ["1.5", "1e-3", "9223372036854775808", "-9223372036854775809", '"3"', "true", "null"]
)
def test_what_is_no_whole_number_is_refused_by_name(client: httpx.Client, number: str) -> None:
    inputs: Inputs = [described(tensor) | {"data": list(tensor.data)} for tensor in GOOD]
    inputs[1]["data"] = "@"
    body = json.dumps({"inputs": inputs}).replace('"@"', f"[{number}]").encode()
    expect_refusal(client, client.post(INFER, content=body), "count")


@pytest.mark.parametrize(
    ("changes", "names"),
    [({"shape": [2**63, 2, 2]}, "matrix"), ({"shape": [2**64, 2, 2]}, "matrix"), ({"shape": [10**400, 2, 2]}, "shape"),
     ({"shape": [1.0, 2, 2]}, "shape"), ({"shape": "1,2,2"}, "shape"), ({"shape": None}, "shape"),
     ({"shape": [[1, 2, 2]]}, "shape"), ({"shape": [True, 2, 2]}, "shape"), ({"datatype": 7}, "datatype"),
     ({"name": None}, "name"), ({"name": 7}, "name"), ({"data": {}}, "data"), ({"data": "0.5"}, "data"),
     ({"data": None}, "matrix"), ({"contents": []}, "contents"), ({"parameters": []}, "parameters"),
     ({"parameters": {"binary_data_size": 16}}, "matrix"),
     ({"parameters": {"shared_memory_region": "a"}}, "matrix")],
)  # fmt: skip
def test_inputs_of_another_form_are_refused(client: httpx.Client, changes: dict[str, Any], names: str) -> None:
    body = with_matrix(**changes)
    expect_refusal(client, client.post(INFER, content=body), names)


@pytest.mark.parametrize(
    ("body", "names"),
    [(b"", "empty"), (b"hello", "JSON"), (b"[]", "#"), (b"{}", "inputs"), (b'{"inputs": []}', "inputs"),
     (b'{"inputs": {}}', "inputs"), (b'{"instances": []}', "instances"), (b'{"inputs": [7]}', "inputs/0"),
     (b'{"inputs": [], "inputs": []}', "inputs"), (b"\xef\xbb\xbf{}", "byte order mark"), (b"[" * 20_000, "deep"),
     (b'{"inputs": [' + b"{}," * 300 + b"{}]}", "inputs")],
)  # fmt: skip
def test_bodies_that_are_no_requests_are_refused(client: httpx.Client, body: bytes, names: str) -> None:
    response = client.post(INFER, content=body)
    assert response.status_code == 400, response.text
    if body:
        expect_refusal(client, response, names)


@pytest.mark.parametrize("stated", ["-1", "0", "100000", "1", "9" * 30, "0x10", "1e2", "ten", "", "+1", "1.0"])
def test_lengths_of_the_header_that_cannot_be_are_refused(client: httpx.Client, stated: str) -> None:
    body, headers = in_bytes(BadRequest(what="nothing", inputs=GOOD, names=""))
    response = client.post(INFER, content=body, headers=headers | {HEADER_LENGTH: stated})
    expect_refusal(client, response, "JSON" if stated == "1" else HEADER_LENGTH)


def test_bytes_without_the_length_of_their_header_are_refused(client: httpx.Client) -> None:
    body, _ = in_bytes(BadRequest(what="nothing", inputs=GOOD, names=""))
    expect_refusal(client, client.post(INFER, content=body), "")


@pytest.mark.parametrize("difference", [-5, -1, 1, 5])
def test_lengths_of_the_header_that_cut_elsewhere_are_refused(client: httpx.Client, difference: int) -> None:
    body, headers = in_bytes(BadRequest(what="nothing", inputs=GOOD, names=""))
    wrong = {HEADER_LENGTH: str(int(headers[HEADER_LENGTH]) + difference)}
    expect_refusal(client, client.post(INFER, content=body, headers=wrong), "")


@pytest.mark.parametrize(
    ("size", "names"),
    [(0, "matrix"), (8, "matrix"), (15, "matrix"), (17, "matrix"), (10_000, "matrix"), (2**63, "matrix"),
     (-16, "matrix"), (16.5, "matrix"), (True, "matrix"), ("16", "matrix"), (None, "binary_data_size")],
)  # fmt: skip
def test_sizes_of_bytes_that_lie_are_refused_by_name(client: httpx.Client, size: object, names: str) -> None:
    # the last of the tensors, so that no other one's bytes are taken for its own
    tensors = (COUNT, FLAGS, MATRIX)
    data = [tensor.as_bytes for tensor in tensors]
    inputs = [
        described(tensor) | {"parameters": {"binary_data_size": len(each)}}
        for tensor, each in zip(tensors, data, strict=True)
    ]
    inputs[-1]["parameters"] = {"binary_data_size": size}
    head = json.dumps({"inputs": inputs}).encode()
    response = client.post(INFER, content=head + b"".join(data), headers={HEADER_LENGTH: str(len(head))})
    # where the size says less than there is, it is the rest that stands there for nothing
    expect_refusal(client, response, names if size not in (0, 8, 15) else "bytes")


@pytest.mark.parametrize(("what", "data", "shape"), BAD_STRINGS, ids=[what for what, _, _ in BAD_STRINGS])
def test_strings_whose_lengths_lie_are_refused_by_name(
    client: httpx.Client, what: str, data: bytes, shape: tuple[int, ...]
) -> None:
    tensor = {"name": "text", "datatype": "BYTES", "shape": list(shape), "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    response = client.post(TEXT, content=head + data, headers={HEADER_LENGTH: str(len(head))})
    is_too_large = shape[0] > 1024
    expect_refusal(client, response, "instances" if is_too_large else "text", 413 if is_too_large else 400)


@pytest.mark.parametrize(
    ("outputs", "names"),
    [([{"name": "scores", "parameters": {"classification": 0}}], "scores"),
     ([{"name": "scores", "parameters": {"classification": -1}}], "scores"),
     ([{"name": "scores", "parameters": {"classification": "2"}}], "scores"),
     ([{"name": "scores", "parameters": {"binary_data": 1}}], "scores"),
     ([{"name": 7}], "outputs"), ([{}], "outputs"), ({}, "outputs"), ([{"name": "scores"}] * 300, "outputs")],
)  # fmt: skip
def test_outputs_that_cannot_be_asked_for_are_refused(client: httpx.Client, outputs: Any, names: str) -> None:
    inputs: Inputs = [described(tensor) | {"data": list(tensor.data)} for tensor in GOOD]
    expect_refusal(client, client.post(INFER, json={"inputs": inputs, "outputs": outputs}), names)


def as_message(request: BadRequest, *, is_raw: bool = True) -> service_pb2.ModelInferRequest:
    """Return a request over gRPC, with its data as raw bytes or typed."""
    message = service_pb2.ModelInferRequest(model_name=MODEL)
    for tensor in request.inputs:
        described = message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if is_raw:
            message.raw_input_contents.append(tensor.as_bytes)
        elif tensor.datatype == "BYTES":
            described.contents.bytes_contents.extend(text.encode() for text in tensor.data)
        else:
            getattr(described.contents, CONTENTS.get(tensor.datatype, "fp32_contents")).extend(tensor.data)
    for name in request.outputs:
        message.outputs.add(name=name)
    return message


CONTENTS = {
    "FP32": "fp32_contents", "FP64": "fp64_contents", "INT64": "int64_contents", "INT32": "int_contents",
    "BOOL": "bool_contents",
}  # fmt: skip


def expect_grpc_refusal(
    ask: Callable[..., service_pb2.ModelInferResponse], message: service_pb2.ModelInferRequest, names: str
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        ask(message, timeout=30)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT, refused.value.details()
    assert names in refused.value.details()
    assert len(refused.value.details()) < 2000
    answer = ask(as_message(BadRequest(what="nothing", inputs=GOOD, names="")), timeout=30)
    total = np.frombuffer(answer.raw_output_contents[1], "<f8")
    np.testing.assert_allclose(total, [9.5 / 1000], rtol=1e-6)


@pytest.mark.parametrize("bad", [*BAD_REQUESTS, *BAD_BYTES], ids=lambda bad: bad.what)
def test_bad_tensors_are_refused_by_name_over_grpc(
    ask: Callable[..., service_pb2.ModelInferResponse], bad: BadRequest
) -> None:
    expect_grpc_refusal(ask, as_message(bad), bad.names)


# without what only bytes can say: of no elements there are none to be typed
@pytest.mark.parametrize(
    "bad", [bad for bad in BAD_REQUESTS if not any(t.raw for t in bad.inputs)], ids=lambda b: b.what
)
def test_bad_typed_tensors_are_refused_by_name_over_grpc(
    ask: Callable[..., service_pb2.ModelInferResponse], bad: BadRequest
) -> None:
    expect_grpc_refusal(ask, as_message(bad, is_raw=False), bad.names)


@pytest.mark.parametrize(("what", "data", "shape"), BAD_STRINGS, ids=[what for what, _, _ in BAD_STRINGS])
def test_strings_whose_lengths_lie_are_refused_by_name_over_grpc(
    ask: Callable[..., service_pb2.ModelInferResponse], what: str, data: bytes, shape: tuple[int, ...]
) -> None:
    message = service_pb2.ModelInferRequest(model_name="text_classification", raw_input_contents=[data])
    message.inputs.add(name="text", datatype="BYTES", shape=shape)
    expect_grpc_refusal(ask, message, "instances" if shape[0] > 1024 else "text")


def test_raw_bytes_that_are_not_one_for_each_input_are_refused_over_grpc(
    ask: Callable[..., service_pb2.ModelInferResponse],
) -> None:
    good = BadRequest(what="nothing", inputs=GOOD, names="")
    fewer, more, both = as_message(good), as_message(good), as_message(good)
    del fewer.raw_input_contents[-1]
    more.raw_input_contents.append(bytes(4))
    both.inputs[0].contents.fp32_contents.extend(MATRIX.data)
    for message, names in ((fewer, "raw_input_contents"), (more, "raw_input_contents"), (both, "matrix")):
        expect_grpc_refusal(ask, message, names)


def test_nothing_grows_by_what_is_refused_over_grpc(
    ask: Callable[..., service_pb2.ModelInferResponse], service: RunningService
) -> None:
    messages = [as_message(bad) for bad in (*BAD_REQUESTS, *BAD_BYTES)]

    def refuse_all() -> None:
        for message in messages:
            with pytest.raises(grpc.RpcError):
                ask(message, timeout=30)

    refuse_all()
    before = service.rss_bytes()
    for _ in range(10):
        refuse_all()
    assert service.rss_bytes() - before < 8 * MIB
    assert "Traceback" not in service.log()


def test_nothing_grows_by_what_is_refused(client: httpx.Client, service: RunningService) -> None:
    bodies = [write(bad) for bad in BAD_REQUESTS for write in (in_json, in_bytes)]
    for body, headers in bodies:
        client.post(INFER, content=body, headers=headers)
    before = service.rss_bytes()
    for _ in range(20):
        for body, headers in bodies:
            assert client.post(INFER, content=body, headers=headers).status_code in (400, 413)
    assert service.rss_bytes() - before < 8 * MIB
    expect_good(client)
    assert "Traceback" not in service.log()
