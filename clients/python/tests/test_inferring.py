"""Named tensors through the Open Inference Protocol: as bytes and as JSON, against the real service."""

import json
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from app.bundle.loader import open_bundle
from clients.python.tests.support.callers import VERIFY, Caller
from clients.python.tests.support.scripted import CARD, Asked, Reply, in_turn, scripted
from tests.support.committed import LATEST, NAMES, names_of
from tests.support.server import RunningService
from zero_to_one_client import BadRequest, InvalidRequest, NotFound, Options, UnexpectedAnswer, datatypes

SPLITS = [pytest.param(True, id="bytes"), pytest.param(False, id="json")]


class Telling(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Passes all on to a real service, but answers itself which extensions that one has; keeps what was sent."""

    def __init__(self, *extensions: str) -> None:
        self.told = {"name": "x", "version": "1", "extensions": extensions}
        self.sync, self.loop = httpx.HTTPTransport(verify=VERIFY), httpx.AsyncHTTPTransport(verify=VERIFY)
        self.asked: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return httpx.Response(200, json=self.told) if self.is_mine(request) else self.sync.handle_request(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if self.is_mine(request):
            return httpx.Response(200, json=self.told)
        return await self.loop.handle_async_request(request)

    @staticmethod
    def is_mine(request: httpx.Request) -> bool:
        return request.url.path == "/v2"

    def close(self) -> None:
        self.sync.close()

    async def aclose(self) -> None:
        await self.loop.aclose()


def telling(*, is_binary: bool) -> Telling:
    return Telling("binary_tensor_data", "classification") if is_binary else Telling()


@pytest.mark.parametrize("is_binary", SPLITS)
@pytest.mark.parametrize("name", NAMES)
def test_golden_tensors_come_out_as_the_trainer_measured(
    caller: Caller, service: RunningService, name: str, is_binary: bool
) -> None:
    bundle = open_bundle(LATEST[name])
    golden = bundle.golden()
    passing = telling(is_binary=is_binary)
    client = caller.client(service.url, transport_of_http=passing)
    found = client.infer(name, golden.inputs)
    assert list(found) == [spec.name for spec in bundle.manifest.outputs]
    for spec in bundle.manifest.outputs:
        assert found[spec.name].dtype == spec.dtype
        np.testing.assert_allclose(found[spec.name], golden.outputs[spec.name], rtol=1e-3, atol=1e-4)
    assert found.version == str(LATEST[name].version)
    assert found.receipts[0].timing is not None
    sent = [request for request in passing.asked if request.method == "POST"]
    assert all(("inference-header-content-length" in request.headers) is is_binary for request in sent)


def test_a_service_that_tells_no_extensions_is_sent_json(caller: Caller, service: RunningService) -> None:
    """As it is, whatever it has by now."""
    found = caller.client(service.url).infer("cnn", {"image": np.zeros((1, 28, 28), np.float32)})
    as_json = caller.client(service.url, Options(binary=False)).infer("cnn", {"image": np.zeros((1, 28, 28))})
    np.testing.assert_allclose(found["probabilities"], as_json["probabilities"], rtol=1e-5)


def test_a_service_that_does_not_tell_its_extensions_is_sent_json_from_then_on(caller: Caller) -> None:
    def answer(asked: Asked) -> Reply:
        return Reply(status=404) if asked.method == "GET" else Reply(document=output("FP32", [1], data=[2.0]))

    with scripted(answer) as server:
        client = caller.client(server.url)
        for _ in range(2):
            assert client.infer("echo", {"features": np.zeros((1, 1))})["value"] == 2.0
    assert [asked.path for asked in server.asked] == ["/v2", *["/v2/models/echo/infer"] * 2]


@pytest.mark.parametrize("is_binary", SPLITS)
def test_rows_beyond_the_limit_are_split_and_joined(
    caller: Caller, service: RunningService, small_service: RunningService, is_binary: bool
) -> None:
    images = np.random.default_rng(3).integers(0, 256, (13, 28, 28), np.uint8)
    whole, parts = (
        caller.client(url, transport_of_http=telling(is_binary=is_binary)).infer("cnn", {"image": images})
        for url in (service.url, small_service.url)
    )
    assert len(whole.receipts) == 1
    assert sum(receipt.rows for receipt in parts.receipts) == 13
    assert max(receipt.rows for receipt in parts.receipts) <= 5
    np.testing.assert_allclose(parts["probabilities"], whole["probabilities"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("is_binary", SPLITS)
@pytest.mark.parametrize("name", names_of("text_classification"))
def test_texts_go_as_they_are(caller: Caller, service: RunningService, name: str, is_binary: bool) -> None:
    client = caller.client(service.url, transport_of_http=telling(is_binary=is_binary))
    texts = ["Lose weight fast!", "Re: patch for the parser\nThanks, applied. \u00fc"]
    found = client.infer(name, {"text": texts}, outputs=["probabilities"])
    assert list(found) == ["probabilities"]
    told = [list(prediction.probabilities.values()) for prediction in client.predict(name, texts)]
    np.testing.assert_allclose(found["probabilities"], told, rtol=1e-4, atol=1e-6)


def test_numbers_are_of_the_dtype_that_the_model_takes(caller: Caller, service: RunningService) -> None:
    client = caller.client(service.url, transport_of_http=telling(is_binary=True))
    wanted = client.infer("cnn", {"image": np.full((1, 28, 28), 7, np.float32)})
    for dtype in (np.float64, np.float16, np.uint8, np.int64):
        found = client.infer("cnn", {"image": np.full((1, 28, 28), 7, dtype)})
        np.testing.assert_allclose(found["logits"], wanted["logits"], rtol=1e-5)
    listed = client.infer("cnn", {"image": [[[7] * 28] * 28]})
    np.testing.assert_allclose(listed["logits"], wanted["logits"], rtol=1e-5)


def test_whole_numbers_that_do_not_fit_are_refused_and_not_wrapped(caller: Caller) -> None:
    card = CARD | {"inputs": [{"name": "features", "dtype": "int32", "shape": ["batch", 1]}]}
    refused = pytest.raises(InvalidRequest, match="features: a number is out of the range of int32")
    with scripted(in_turn(Reply(document={"extensions": []})), card) as server, refused:
        caller.client(server.url).infer("echo", {"features": np.array([[2**40]])})


@pytest.mark.parametrize("is_binary", SPLITS)
@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"picture": np.zeros((1, 28, 28), np.float32)}, "picture"),
        ({"image": np.zeros((1, 27, 28), np.float32)}, "image"),
        ({"image": np.zeros((28, 28), np.float32)}, "image"),
        ({"image": np.full((1, 28, 28), -1, np.float32)}, "image"),
        ({"image": np.zeros((1, 28, 28)), "x": np.zeros((2, 2))}, "x"),
    ],
)
def test_what_the_service_says_of_a_tensor_is_told(
    caller: Caller, service: RunningService, inputs: dict[str, Any], said: str, is_binary: bool
) -> None:
    with pytest.raises(BadRequest, match=said):
        caller.client(service.url, transport_of_http=telling(is_binary=is_binary)).infer("cnn", inputs)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({}, ()),
        ({"image": np.zeros((1, 28, 28))}, "logits"),
        ({"image": np.array([[1 + 2j]])}, ()),
        ({"image": np.array([{}])}, ()),
        ({"image": [[1], [1, 2]]}, ()),
        ({"image": ["half a pair: \ud800"]}, ()),
    ],
)
def test_what_has_no_name_in_the_protocol_is_refused_before_it_is_sent(
    caller: Caller, service: RunningService, inputs: dict[str, Any], outputs: Any
) -> None:
    with pytest.raises(InvalidRequest):
        caller.client(service.url).infer("cnn", inputs, outputs=outputs)


def test_what_json_cannot_hold_is_refused_before_it_is_sent(caller: Caller, service: RunningService) -> None:
    client = caller.client(service.url, transport_of_http=telling(is_binary=False))
    with pytest.raises(InvalidRequest, match="JSON has no such numbers"):
        client.infer("cnn", {"image": np.full((1, 28, 28), np.nan, np.float32)})
    with pytest.raises(InvalidRequest, match="text: these bytes are no text"):
        client.infer("lstm", {"text": [b"\xff\xfe"]})


def test_a_version_that_is_not_there_is_not_found(caller: Caller, service: RunningService) -> None:
    client = caller.client(service.url)
    image = {"image": np.zeros((1, 28, 28), np.float32)}
    assert client.infer("cnn", image, version=client.card("cnn").version).version == client.card("cnn").version
    with pytest.raises(NotFound, match="77"):
        client.infer("cnn", image, version="77")


@given(st.lists(st.binary(max_size=20) | st.text(max_size=10), max_size=12))
def test_strings_lie_in_a_body_as_tritons_own_client_puts_them(found: list[bytes | str]) -> None:
    array = np.empty(len(found), object)
    array[:] = found
    elements = datatypes.elements(array)
    packed = datatypes.pack(elements)
    serialized = serialize_byte_tensor(array)
    assert packed == (serialized.item() if serialized.size else b"")
    assert datatypes.unpack(packed) == elements == list(deserialize_bytes_tensor(packed))


@pytest.mark.parametrize("data", [b"\x01", b"\x05\0\0\0abc", b"\xff\xff\xff\xff", b"\x01\0\0\0a\0\0"])
def test_strings_whose_lengths_lie_are_no_answer(data: bytes) -> None:
    with pytest.raises(UnexpectedAnswer):
        datatypes.unpack(data)


def answering(document: dict[str, Any], tail: bytes = b"", length: str | None = None) -> Any:
    def answer(asked: Asked) -> Reply:
        if asked.method == "GET":
            return Reply(document={"extensions": ["binary_tensor_data"]})
        head = json.dumps(document).encode()
        headers = {"inference-header-content-length": length or str(len(head))} if tail or length else {}
        return Reply(body=head + tail, headers=headers)

    return answer


def output(datatype: str, shape: list[int], **more: Any) -> dict[str, Any]:
    return {"outputs": [{"name": "value", "datatype": datatype, "shape": shape, **more}]}


@pytest.mark.parametrize("datatype", datatypes.DTYPES)
def test_every_datatype_comes_back_as_bytes_and_as_json(caller: Caller, datatype: str) -> None:
    wanted = np.array([[0, 1], [1, 0]], datatypes.DTYPES[datatype])
    data = wanted.astype(wanted.dtype.newbyteorder("<")).tobytes()
    as_bytes = answering(output(datatype, [2, 2], parameters={"binary_data_size": len(data)}), data)
    for script in (as_bytes, answering(output(datatype, [2, 2], data=wanted.ravel().tolist()))):
        with scripted(script) as server:
            found = caller.client(server.url).infer("echo", {"features": np.zeros((2, 1))})
        assert found["value"].dtype == wanted.dtype
        assert np.array_equal(found["value"], wanted)


def test_strings_come_back_as_bytes(caller: Caller) -> None:
    data = datatypes.pack([b"a\0", b""])
    as_bytes = answering(output("BYTES", [2, 1], parameters={"binary_data_size": len(data)}), data)
    as_json = answering(output("BYTES", [2, 1], data=["a\0", ""]))
    for script in (as_bytes, as_json):
        with scripted(script) as server:
            found = caller.client(server.url).infer("echo", {"features": np.zeros((2, 1))})
        assert found["value"].tolist() == [[b"a\0"], [b""]]


FOUR = {"binary_data_size": 4}
CONTRADICTIONS = {
    "data shorter than the shape": answering(output("FP32", [2], data=[1.0])),
    "data of another kind": answering(output("FP32", [1], data=["x"])),
    "a datatype that NumPy has not": answering(output("BF16", [1], parameters={"binary_data_size": 2}), b"ab"),
    "bytes shorter than said": answering(output("FP32", [1], parameters=FOUR), b"ab"),
    "bytes longer than said": answering(output("FP32", [1], parameters=FOUR), b"abcdef"),
    "a size that is a text": answering(output("FP32", [1], parameters={"binary_data_size": "4"}), b"abcd"),
    "a negative size": answering(output("FP32", [1], parameters={"binary_data_size": -1}), b"abcd"),
    "a negative length": answering(output("FP32", [1]), b"abcd", "-1"),
    "a length beyond the body": answering(output("FP32", [1]), b"abcd", "999999"),
    "a negative axis": answering(output("FP32", [-1], data=[])),
    "half an axis": answering(output("FP32", [1.5], data=[1])),
    "no output": answering({"outputs": [5]}),
    "a number that its type cannot hold": answering(output("UINT8", [1], data=[300])),
    "parameters that are none": answering(output("FP32", [1], data=[1.0], parameters=5)),
    "a length of thousands of digits": answering(output("FP32", [1], data=[1.0]), b"", "9" * 5000),
}


@pytest.mark.parametrize("script", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_an_answer_that_contradicts_itself_is_none(caller: Caller, script: Any) -> None:
    with scripted(script) as server, pytest.raises(UnexpectedAnswer):
        caller.client(server.url).infer("echo", {"features": np.zeros((1, 1))})


def test_fewer_rows_than_were_sent_are_no_answer(caller: Caller) -> None:
    script = answering(output("FP32", [1], data=[1.0]))
    with scripted(script) as server, pytest.raises(UnexpectedAnswer, match="expected 2 rows"):
        caller.client(server.url).infer("echo", {"features": np.zeros((2, 1))})


def test_parts_that_do_not_fit_together_are_no_answer(caller: Caller) -> None:
    card = CARD | {"limits": CARD["limits"] | {"max_instances": 1}}
    told = Reply(document={"extensions": []})
    first = Reply(document=output("FP32", [1, 2], data=[1, 2]))
    others = [
        Reply(document=output("FP32", [1, 3], data=[1, 2, 3])),
        Reply(document={"outputs": []}),
    ]
    for other in others:
        with scripted(in_turn(told, first, other), card) as server, pytest.raises(UnexpectedAnswer):
            caller.client(server.url).infer("echo", {"features": np.zeros((2, 1))})
