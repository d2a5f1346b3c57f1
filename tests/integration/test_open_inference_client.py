"""The client that the protocol's working group generates from its specification, PyPI's `open-inference-openapi`.

Its types are the specification's, so whatever they do not take is no answer of the protocol.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from open_inference.openapi import InferenceRequest, InferenceResponse, RequestInput, RequestOutput, TensorData
from open_inference.openapi.client import AsyncOpenInferenceClient, OpenInferenceClient
from open_inference.openapi.core.api_error import ApiError
from open_inference.openapi.errors import BadRequestError, NotFoundError, ServiceUnavailableError

from app.bundle.loader import open_bundle
from app.tensors import Tensors
from tests.support.bundles import dummy_bundle
from tests.support.committed import LATEST, NAMES
from tests.support.open_inference import golden_of, golden_row, inputs_of, json_body, read_answer
from tests.support.server import RunningService, serve


@pytest.fixture
def spoken(service: RunningService) -> Iterator[OpenInferenceClient]:
    with httpx.Client(timeout=30) as http:
        yield OpenInferenceClient(base_url=service.url, httpx_client=http)


def with_async(service: RunningService, ask: Callable[[AsyncOpenInferenceClient], Any]) -> Any:
    async def run() -> Any:
        async with httpx.AsyncClient(timeout=30) as http:
            return await ask(AsyncOpenInferenceClient(base_url=service.url, httpx_client=http))

    return asyncio.run(run())


def request_of(tensors: Tensors, *outputs: str, **more: Any) -> InferenceRequest:
    return InferenceRequest(
        inputs=[
            RequestInput(**(described | {"data": TensorData.parse_obj(described["data"])}))
            for described in inputs_of(tensors)
        ],
        **({"outputs": [RequestOutput(name=name) for name in outputs]} if outputs else {}),
        **more,
    )


def row_of(name: str) -> Tensors:
    return golden_row(golden_of(LATEST[name]), 0)


def expect_golden(name: str, answer: InferenceResponse) -> None:
    manifest = open_bundle(LATEST[name]).manifest
    tolerance = manifest.golden.tolerance["onnx"]
    assert (answer.model_name, answer.model_version) == (name, str(manifest.version))
    assert [output.name for output in answer.outputs] == [spec.name for spec in manifest.outputs]
    for output, spec in zip(answer.outputs, manifest.outputs, strict=True):
        assert output.datatype == "FP32"
        found = np.array(json.loads(output.data.json()), spec.dtype).reshape(output.shape)
        expected = golden_of(LATEST[name]).outputs[spec.name][:1]
        np.testing.assert_allclose(found, expected, atol=tolerance.atol, rtol=tolerance.rtol)


def test_health_is_as_specified(spoken: OpenInferenceClient, service: RunningService) -> None:
    spoken.check_server_liveness()
    spoken.check_server_readiness()
    for name in NAMES:
        spoken.check_model_readiness(name)
        spoken.check_model_version_readiness(name, str(LATEST[name].version))
    with_async(service, lambda client: client.check_server_readiness())


def test_metadata_of_the_service_are_as_specified(spoken: OpenInferenceClient, service: RunningService) -> None:
    metadata = spoken.read_server_metadata()
    assert metadata.name == "zero-to-one"
    assert "binary_tensor_data" in metadata.extensions
    assert with_async(service, lambda client: client.read_server_metadata()) == metadata


@pytest.mark.parametrize("name", NAMES)
def test_metadata_of_models_are_as_specified(spoken: OpenInferenceClient, service: RunningService, name: str) -> None:
    manifest = open_bundle(LATEST[name]).manifest
    metadata = spoken.read_model_metadata(name)
    assert metadata.name == name
    assert metadata.versions == [str(manifest.version)]
    assert [tensor.name for tensor in metadata.inputs or ()] == [spec.name for spec in manifest.inputs]
    assert [tensor.name for tensor in metadata.outputs or ()] == [spec.name for spec in manifest.outputs]
    assert spoken.read_model_version_metadata(name, str(manifest.version)) == metadata
    assert with_async(service, lambda client: client.read_model_metadata(name)) == metadata


@pytest.mark.parametrize("name", NAMES)
def test_inference_is_as_specified(spoken: OpenInferenceClient, service: RunningService, name: str) -> None:
    request = request_of(row_of(name), id="a", parameters={"customer": "b"})
    answer = spoken.model_infer(name, request=request)
    assert answer.id == "a"
    expect_golden(name, answer)
    expect_golden(name, spoken.model_version_infer(name, str(LATEST[name].version), request=request))
    expect_golden(name, with_async(service, lambda client: client.model_infer(name, request=request)))


@pytest.mark.parametrize("name", NAMES)
def test_our_requests_and_answers_are_of_the_specified_types(client: httpx.Client, name: str) -> None:
    """What other clients of these tests send, and get back, is taken by the types of the specification."""
    tensors = row_of(name)
    body = json_body(tensors, id="7", outputs=[{"name": "nothing"}])
    assert [tensor.name for tensor in InferenceRequest.parse_raw(body).inputs] == list(tensors)
    response = client.post(f"/v2/models/{name}/infer", content=json_body(tensors, id="7"))
    parsed = InferenceResponse.parse_raw(response.content)
    assert parsed.id == "7"
    assert [output.name for output in parsed.outputs] == list(read_answer(response))


def test_requested_outputs_come_in_their_order(spoken: OpenInferenceClient) -> None:
    answer = spoken.model_infer("cnn", request=request_of(row_of("cnn"), "probabilities", "logits"))
    assert [output.name for output in answer.outputs] == ["probabilities", "logits"]


@pytest.mark.parametrize(
    ("tensors", "message"),
    [({"image": np.zeros((1, 27, 28), np.float32)}, "input:image"), ({"picture": np.zeros(1, np.float32)}, "picture")],
)
def test_bad_requests_are_raised_with_our_message(
    spoken: OpenInferenceClient, service: RunningService, tensors: Tensors, message: str
) -> None:
    with pytest.raises(BadRequestError) as refused:
        spoken.model_infer("cnn", request=request_of(tensors))
    assert message in refused.value.body["error"]
    with pytest.raises(BadRequestError):
        with_async(service, lambda client: client.model_infer("cnn", request=request_of(tensors)))


def test_unknown_models_are_raised_with_our_message(spoken: OpenInferenceClient) -> None:
    with pytest.raises(NotFoundError) as refused:
        spoken.check_model_readiness("nobody")
    assert "no model named 'nobody'" in refused.value.body["error"]
    with pytest.raises(NotFoundError):
        spoken.check_model_version_readiness("cnn", "999")
    # which the specification's own client has no class of its own for
    for ask in (
        lambda: spoken.read_model_metadata("nobody"),
        lambda: spoken.model_infer("nobody", request=request_of(row_of("cnn"))),
    ):
        with pytest.raises(ApiError) as unknown:
            ask()
        assert unknown.value.status_code == 404
        assert "no model named 'nobody'" in unknown.value.body["error"]


def test_what_is_not_ready_is_raised_with_our_message(tmp_path_factory: pytest.TempPathFactory) -> None:
    models = tmp_path_factory.mktemp("models")
    dummy_bundle(models, "good")
    (dummy_bundle(models, "bad") / "golden.npz").unlink()
    with serve(models, backend="dummy", ready=503) as running, httpx.Client(timeout=30) as http:
        spoken = OpenInferenceClient(base_url=running.url, httpx_client=http)
        spoken.check_server_liveness()
        spoken.check_model_readiness("good")
        with pytest.raises(ServiceUnavailableError) as refused:
            spoken.check_server_readiness()
        assert "bad" in refused.value.body["error"]
        with pytest.raises(ServiceUnavailableError) as refused:
            spoken.check_model_readiness("bad")
        assert "golden.npz" in refused.value.body["error"]
