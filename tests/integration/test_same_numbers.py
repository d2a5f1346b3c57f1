"""One row gives the same numbers through every door, to the bit of float32: each alone, on the same backend."""

import base64
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from PIL import Image
from tritonclient.grpc import service_pb2, service_pb2_grpc

from app.bundle.loader import open_bundle
from app.bundle.manifest import Manifest
from app.tensors import LENGTHS, Tensors
from tests.support.committed import LATEST, MODELS, NAMES, names_of
from tests.support.documented import OCTETS
from tests.support.open_inference import (
    DATATYPES,
    binary_body,
    golden_of,
    golden_row,
    json_body,
    read_answer,
    same_tensors,
    to_bytes,
)
from tests.support.server import RunningService, serve

NUM_ROWS = 3
TAKE_TEXTS = names_of("text_classification")
TAKE_PICTURES = [*names_of("image_classification"), *names_of("image_reconstruction")]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One golden row, in every form in which it can be asked.

    Attributes:
        manifest: Of the model.
        instance: For doors of typed requests.
        tensors: For doors of named tensors.
    """

    manifest: Manifest
    instance: dict[str, Any]
    tensors: Tensors

    @property
    def outputs(self) -> list[str]:
        return [spec.name for spec in self.manifest.outputs]


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    with serve(MODELS, grpc_port=0, predict_route="/vertex") as running:
        yield running


@pytest.fixture
def client(service: RunningService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        yield client


def questions_of(name: str) -> list[Question]:
    manifest, golden = open_bundle(LATEST[name]).manifest, golden_of(LATEST[name])
    return [
        Question(manifest=manifest, instance=golden.requests[row], tensors=golden_row(golden, row))
        for row in range(NUM_ROWS)
    ]


def numbers_of(question: Question, prediction: dict[str, Any]) -> Tensors:
    """Return what a typed prediction holds of the outputs, as the numbers that they are."""
    found = dict(prediction)
    if isinstance(found.get("probabilities"), dict):
        labels = question.manifest.task.labels  # type: ignore[union-attr]
        found["probabilities"] = [prediction["probabilities"][label] for label in labels]
    numbers = {}
    for spec in question.manifest.outputs:
        if spec.name in found:
            wide = np.array([found[spec.name]], np.float64)
            numbers[spec.name] = wide.astype(spec.dtype)
            # JSON has the very float32, not merely one that rounds to it
            np.testing.assert_array_equal(numbers[spec.name].astype(np.float64), wide.astype(np.float32))
    assert numbers
    return numbers


def typed(response: httpx.Response, question: Question) -> Tensors:
    assert response.status_code == 200, response.text
    (prediction,) = response.json()["predictions"]
    return numbers_of(question, prediction)


def predict_json(client: httpx.Client, question: Question) -> Tensors:
    body = {"instances": [question.instance]}
    return typed(client.post(f"/predict/{question.manifest.name}", json=body), question)


def predict_by_name(client: httpx.Client, question: Question) -> Tensors:
    body = {"model": question.manifest.name, "instances": [question.instance]}
    return typed(client.post("/predict", json=body), question)


def predict_bytes(client: httpx.Client, question: Question) -> Tensors:
    """Ask with bytes, and once for each output."""
    (name,) = set(question.tensors) - {LENGTHS}
    headers = {"content-type": OCTETS, "accept": OCTETS}
    found = {}
    for spec in question.manifest.outputs:
        path = f"/predict/{question.manifest.name}?tensor={spec.name}"
        response = client.post(path, content=to_bytes(question.tensors[name]), headers=headers)
        assert response.status_code == 200, response.text
        told, dtype, shape = response.headers["x-tensor"].split("; ")
        assert told == spec.name
        axes = [int(axis) for axis in shape.removeprefix("shape=").split(",")]
        found[told] = np.frombuffer(response.content, dtype.removeprefix("dtype=")).reshape(axes)
    return found


def infer(question: Question, version: bool = False) -> str:
    path = f"/v2/models/{question.manifest.name}"
    return f"{path}/versions/{question.manifest.version}/infer" if version else f"{path}/infer"


def v2_json(client: httpx.Client, question: Question) -> Tensors:
    return read_answer(client.post(infer(question), content=json_body(question.tensors)))


def v2_json_to_bytes(client: httpx.Client, question: Question) -> Tensors:
    body = json_body(question.tensors, parameters={"binary_data_output": True})
    return read_answer(client.post(infer(question), content=body))


def v2_bytes_to_json(client: httpx.Client, question: Question) -> Tensors:
    body, headers = binary_body(question.tensors)
    return read_answer(client.post(infer(question), content=body, headers=headers))


def v2_bytes(client: httpx.Client, question: Question) -> Tensors:
    body, headers = binary_body(question.tensors, parameters={"binary_data_output": True})
    return read_answer(client.post(infer(question), content=body, headers=headers))


def v2_of_a_version(client: httpx.Client, question: Question) -> Tensors:
    body, headers = binary_body(question.tensors, id="7", outputs=[{"name": name} for name in question.outputs])
    return read_answer(client.post(infer(question, version=True), content=body, headers=headers))


def v2_nested(client: httpx.Client, question: Question) -> Tensors:
    document = json.loads(json_body(question.tensors))
    for tensor in document["inputs"]:
        tensor["data"] = question.tensors[tensor["name"]].tolist()
    return read_answer(client.post(infer(question), json=document))


def sagemaker(client: httpx.Client, question: Question) -> Tensors:
    headers = {"X-Amzn-SageMaker-Custom-Attributes": f"model={question.manifest.name}"}
    return typed(client.post("/invocations", json={"instances": [question.instance]}, headers=headers), question)


def sagemaker_of_many_models(client: httpx.Client, question: Question) -> Tensors:
    path = f"/models/{question.manifest.name}/invoke"
    return typed(client.post(path, json={"instances": [question.instance]}), question)


def vertex(client: httpx.Client, question: Question) -> Tensors:
    body = {"instances": [question.instance], "parameters": {"model": question.manifest.name}}
    return typed(client.post("/vertex", json=body), question)


def kserve_v1(client: httpx.Client, question: Question) -> Tensors:
    path = f"/v1/models/{question.manifest.name}:predict"
    return typed(client.post(path, json={"instances": [question.instance]}), question)


def azure_ml(client: httpx.Client, question: Question) -> Tensors:
    body = {"model": question.manifest.name, "instances": [question.instance]}
    return typed(client.post("/score", json=body), question)


WAYS: Sequence[Callable[[httpx.Client, Question], Tensors]] = (
    predict_json, predict_by_name, predict_bytes, v2_json, v2_json_to_bytes, v2_bytes_to_json, v2_of_a_version,
    v2_nested, sagemaker, sagemaker_of_many_models, vertex, kserve_v1, azure_ml,
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ask", WAYS)
def test_numbers_are_the_same_whichever_way_they_are_asked_for(
    client: httpx.Client, ask: Callable[[httpx.Client, Question], Tensors], name: str
) -> None:
    for question in questions_of(name):
        expected = v2_bytes(client, question)
        assert list(expected) == question.outputs
        found = ask(client, question)
        assert same_tensors(found, {each: expected[each] for each in found})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_raw", [True, False])
def test_numbers_are_the_same_over_grpc(service: RunningService, client: httpx.Client, is_raw: bool, name: str) -> None:
    with grpc.insecure_channel(service.grpc_target) as channel:
        ask = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        for question in questions_of(name):
            answer = ask(message_of(question, is_raw=is_raw), timeout=30)
            # typed requests are answered typed
            assert (len(answer.raw_output_contents) > 0) is is_raw
            assert same_tensors(read_message(answer), v2_bytes(client, question))


def message_of(question: Question, *, is_raw: bool) -> service_pb2.ModelInferRequest:
    """Return a request with its numbers as raw bytes, or typed."""
    request = service_pb2.ModelInferRequest(model_name=question.manifest.name)
    for name, array in question.tensors.items():
        datatype = DATATYPES[array.dtype.name]
        tensor = request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        if is_raw:
            request.raw_input_contents.append(to_bytes(array))
        else:
            getattr(tensor.contents, _CONTENTS[datatype]).extend(array.reshape(-1).tolist())
    return request


def read_message(answer: service_pb2.ModelInferResponse) -> Tensors:
    outputs = {}
    for place, output in enumerate(answer.outputs):
        assert output.datatype == "FP32"
        if answer.raw_output_contents:
            array = np.frombuffer(answer.raw_output_contents[place], "<f4")
        else:
            array = np.array(output.contents.fp32_contents, np.float32)
        outputs[output.name] = array.reshape(output.shape)
    return outputs


_CONTENTS = {"FP32": "fp32_contents", "INT64": "int64_contents"}


def natural_of(question: Question) -> Tensors:
    """Return the one input that stands for the tensors: the text, or the picture as a file."""
    if "text" in question.instance:
        return {"text": np.array([question.instance["text"].encode()], object)}
    buffer = io.BytesIO()
    (picture_HW,) = question.tensors["image"].astype(np.uint8)
    np.testing.assert_array_equal(picture_HW, question.tensors["image"][0])
    Image.fromarray(picture_HW).save(buffer, "PNG")
    data = np.empty(1, object)
    data[0] = buffer.getvalue()
    return {"image": data}


@pytest.mark.parametrize("name", [*TAKE_TEXTS, *TAKE_PICTURES])
def test_natural_inputs_give_the_numbers_of_their_tensors(client: httpx.Client, name: str) -> None:
    for question in questions_of(name):
        natural, expected = natural_of(question), v2_bytes(client, question)
        body, headers = binary_body(natural, parameters={"binary_data_output": True})
        assert same_tensors(read_answer(client.post(infer(question), content=body, headers=headers)), expected)
        if name in TAKE_PICTURES:  # in JSON a file stands as base64
            natural = {"image": np.array([base64.b64encode(natural["image"][0])], object)}
        assert same_tensors(read_answer(client.post(infer(question), content=json_body(natural))), expected)
