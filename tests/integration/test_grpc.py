"""The Open Inference Protocol over gRPC, asked by the clients that others have: Triton's, and the specification's."""

import asyncio
import queue
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
import tritonclient.http as triton_http
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

from app.bundle.loader import open_bundle
from app.protocols.grpc.health_pb2 import HealthCheckRequest, HealthCheckResponse
from app.tensors import Array, take, trim
from tests.support.bundles import dummy_bundle, held
from tests.support.committed import LATEST, MODELS, NAMES
from tests.support.grpc_calls import INFER, PICTURE, counted, inputs_of, message, refusal, send
from tests.support.kinds import KINDS, kind_bundle, kind_golden
from tests.support.server import RunningService, serve

KEY = "a-key-of-the-tests"
ADMIN = {"authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def committed() -> Iterator[RunningService]:
    with serve(MODELS, grpc_port=0) as running:
        yield running


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        kind_bundle(folder, kind)
    dummy_bundle(folder)
    # so slow that it runs on a thread
    dummy_bundle(folder, "slow", behavior={"sleep_s": 0.05, "heeds_faults": True}, rows=2, max_rows=1)
    return folder


@pytest.fixture(scope="module")
def kinds(models: Path) -> Iterator[RunningService]:
    with serve(models, grpc_port=0, admin_key=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def client(kinds: RunningService) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(kinds.grpc_target) as client:
        yield client


def texts(name: str, *elements: bytes) -> Any:
    given = triton.InferInput(name, [len(elements)], "BYTES")
    given.set_data_from_numpy(np.array(elements, object))
    return given


# Inference


@pytest.mark.parametrize("name", NAMES)
def test_every_model_answers_as_over_http_to_the_bit(committed: RunningService, name: str) -> None:
    bundle = open_bundle(LATEST[name])
    golden = bundle.golden("onnx")
    rows = trim(take(golden.inputs, 0, 2))
    with triton.InferenceServerClient(committed.grpc_target) as client:
        found = client.infer(name, inputs_of(rows), request_id="17")
    over_http = triton_http.InferenceServerClient(committed.url.removeprefix("http://"))
    try:
        wanted = over_http.infer(name, inputs_of(rows, triton_http))
        for spec in bundle.manifest.outputs:
            assert found.as_numpy(spec.name).tobytes() == wanted.as_numpy(spec.name).tobytes()
            tolerance = 1e-3 * float(np.abs(golden.outputs[spec.name]).max())
            np.testing.assert_allclose(found.as_numpy(spec.name), golden.outputs[spec.name][:2], atol=tolerance)
    finally:
        over_http.close()
    response = found.get_response()
    assert (response.model_name, response.model_version, response.id) == (name, str(LATEST[name].version), "17")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_is_described_and_answers(client: triton.InferenceServerClient, kind: str) -> None:
    golden = kind_golden(kind)
    metadata = client.get_model_metadata(kind)
    config = client.get_model_config(kind).config
    assert {tensor.name for tensor in metadata.inputs} == set(golden.inputs)
    assert {tensor.name for tensor in config.output} == {tensor.name for tensor in metadata.outputs}
    assert (metadata.name, list(metadata.versions), config.max_batch_size > 0) == (kind, ["1"], True)
    assert client.is_model_ready(kind, "1")
    answer = client.infer(kind, inputs_of(trim(take(golden.inputs, 0, 1))), model_version="1")
    for output in metadata.outputs:
        np.testing.assert_allclose(answer.as_numpy(output.name), golden.outputs[output.name][:1], rtol=1e-5)
    stats = client.get_inference_statistics(kind, "1").model_stats[0]
    assert (stats.inference_stats.success.count, stats.inference_count) == (1, 1)


def test_texts_and_pictures_are_taken_as_they_are(committed: RunningService, pictures: tuple[Array, Array]) -> None:
    with triton.InferenceServerClient(committed.grpc_target) as client:
        found = client.infer("lstm", [texts("text", b"win a free prize", b"see you tomorrow")])
        assert found.as_numpy("probabilities").shape == (2, 2)
        file = (MODELS.parent / "docs" / "images" / "ankle-boot.png").read_bytes()
        found = client.infer("cnn", [texts("image", file)], outputs=[triton.InferRequestedOutput("logits", 3)])
        best = found.as_numpy("logits")[0, 0].decode().split(":")
        assert best[1:] == ["9", "Ankle boot"]


def test_outputs_are_those_asked_for_in_their_order(client: triton.InferenceServerClient) -> None:
    wanted = [triton.InferRequestedOutput("probabilities", 2), triton.InferRequestedOutput("logits")]
    found = client.infer("dummy", inputs_of(PICTURE), outputs=wanted).get_response()
    assert [(output.name, output.datatype) for output in found.outputs] == [
        ("probabilities", "BYTES"),
        ("logits", "FP32"),
    ]


def test_the_specification_s_own_client_is_answered(kinds: RunningService) -> None:
    script = f"""
import grpc
from open_inference.grpc import protocol, service
with grpc.insecure_channel({kinds.grpc_target!r}) as channel:
    stub = service.GRPCInferenceServiceStub(channel)
    assert stub.ServerLive(protocol.ServerLiveRequest()).live
    assert stub.ServerReady(protocol.ServerReadyRequest()).ready
    assert stub.ServerMetadata(protocol.ServerMetadataRequest()).name == "zero-to-one"
    assert stub.ModelReady(protocol.ModelReadyRequest(name="dummy", version="1")).ready
    metadata = stub.ModelMetadata(protocol.ModelMetadataRequest(name="dummy"))
    assert [(each.name, each.datatype, list(each.shape)) for each in metadata.inputs] == [("image", "FP32", [-1, 2, 3])]
    contents = protocol.InferTensorContents(fp32_contents=[1.0] * 6)
    image = protocol.ModelInferRequest.InferInputTensor(
        name="image", datatype="FP32", shape=[1, 2, 3], contents=contents)
    answer = stub.ModelInfer(protocol.ModelInferRequest(model_name="dummy", id="a", inputs=[image]))
    assert answer.id == "a" and not answer.raw_output_contents
    logits = next(output for output in answer.outputs if output.name == "logits")
    assert [round(value, 6) for value in logits.contents.fp32_contents] == [0.006, 0.012, 0.018]
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_calls_that_are_not_waited_for_are_answered(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    for number in range(8):
        rows = {"image": np.full((1, 2, 3), number, np.float32)}
        client.async_infer(
            "dummy", inputs_of(rows), lambda result, error: answers.put((result, error)), request_id=str(number)
        )
    for _ in range(8):
        result, error = answers.get(timeout=30)
        assert error is None
        number = int(result.get_response().id)
        np.testing.assert_allclose(result.as_numpy("logits")[0, 0], number * 6 / 1000, rtol=1e-5)


def test_a_client_for_asyncio_is_answered(kinds: RunningService, models: Path) -> None:
    async def ask() -> None:
        async with triton_aio.InferenceServerClient(kinds.grpc_target) as client:
            assert await client.is_server_ready()
            found = await asyncio.gather(*(client.infer("dummy", inputs_of(PICTURE)) for _ in range(8)))
            assert all(each.as_numpy("logits").shape == (1, 3) for each in found)
            with pytest.raises(InferenceServerException, match="no model named 'none'"):
                await client.infer("none", inputs_of(PICTURE))
            with held(models / "slow" / "1"), pytest.raises(InferenceServerException, match="DEADLINE_EXCEEDED"):
                await client.infer("slow", inputs_of(PICTURE), client_timeout=0.05)

    asyncio.run(ask())


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests_are_read(client: triton.InferenceServerClient, algorithm: str) -> None:
    rows = {"image": np.ones((8, 2, 3), np.float32)}
    found = client.infer("dummy", inputs_of(rows), compression_algorithm=algorithm)
    assert found.as_numpy("logits").shape == (8, 3)


# Streams


def test_a_stream_answers_in_order_and_an_error_ends_nothing(kinds: RunningService) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with triton.InferenceServerClient(kinds.grpc_target) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for number, model in enumerate(["slow", "dummy", "none", "dummy"]):
            client.async_stream_infer(model, inputs_of(PICTURE), request_id=str(number))
        found = [answers.get(timeout=30) for _ in range(4)]
        client.stop_stream()
    assert [result.get_response().id if result else str(error) for result, error in found[:2]] == ["0", "1"]
    assert "no model named 'none'" in str(found[2][1])
    assert found[3][0].get_response().id == "3"


def test_a_refusal_on_a_stream_names_its_request(kinds: RunningService) -> None:
    with grpc.insecure_channel(kinds.grpc_target) as channel:
        sent = message(model="none")
        sent.id = "8"
        call = channel.stream_stream(INFER.replace("ModelInfer", "ModelStreamInfer"))
        first, second = call(iter([sent.SerializeToString(), b"\xff"]), timeout=30)
    told = pb.ModelStreamInferResponse.FromString(first)
    assert (told.infer_response.id, told.infer_response.model_name) == ("8", "none")
    assert "is no inference.ModelInferRequest" in pb.ModelStreamInferResponse.FromString(second).error_message


# Everything else


def test_the_service_is_described(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata.name == "zero-to-one"
    assert {"statistics", "model_repository", "classification"} <= set(metadata.extensions)
    assert not client.is_model_ready("none")
    assert {each.name for each in client.get_inference_statistics().model_stats} >= set(KINDS)


def test_models_are_listed_unloaded_and_loaded_with_the_key(client: triton.InferenceServerClient) -> None:
    index = client.get_model_repository_index(headers=ADMIN)
    assert {(each.name, each.version, each.state) for each in index.models} >= {(k, "1", "READY") for k in KINDS}
    client.unload_model("tensors", headers=ADMIN)
    assert not client.is_model_ready("tensors")
    with pytest.raises(InferenceServerException, match="tensors"):
        client.infer("tensors", inputs_of(PICTURE))
    client.load_model("tensors", headers=ADMIN)
    assert client.is_model_ready("tensors")


@pytest.mark.parametrize(
    ("ask", "status", "told"),
    [
        (lambda c: c.get_model_repository_index(), "UNAUTHENTICATED", "needs a key"),
        (lambda c: c.load_model("dummy", headers={"authorization": "Bearer no"}), "UNAUTHENTICATED", "is wrong"),
        (lambda c: c.load_model("none", headers=ADMIN), "NOT_FOUND", "no model named 'none'"),
        (lambda c: c.load_model("dummy", headers=ADMIN, config="{}"), "INVALID_ARGUMENT", "parameter:config"),
        (lambda c: c.get_model_metadata("none"), "NOT_FOUND", "no model named 'none'; this"),
        (lambda c: c.get_model_config("dummy", "7"), "NOT_FOUND", "no version '7'"),
        (lambda c: c.get_inference_statistics("none"), "NOT_FOUND", "'none'"),
        (lambda c: c.get_trace_settings(), "UNIMPLEMENTED", "not offered by this service: traces"),
        (lambda c: c.get_log_settings(), "UNIMPLEMENTED", "ZTO_LOG_LEVEL"),
        (lambda c: c.get_system_shared_memory_status(), "UNIMPLEMENTED", "shared memory"),
        (lambda c: c.unregister_cuda_shared_memory(), "UNIMPLEMENTED", "send the data"),
    ],
)
def test_errors_are_the_client_s_own_with_our_message(
    client: triton.InferenceServerClient, ask: Callable[[Any], object], status: str, told: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        ask(client)
    assert caught.value.status() == f"StatusCode.{status}"
    assert told in caught.value.message()


def test_the_health_service_is_asked_and_watched(kinds: RunningService) -> None:
    method = "/grpc.health.v1.Health/Check"
    for service in ("", "inference.GRPCInferenceService"):
        answer, _ = send(kinds, HealthCheckRequest(service=service).SerializeToString(), method)
        assert HealthCheckResponse.FromString(answer).status == HealthCheckResponse.SERVING
    unknown = HealthCheckRequest(service="none").SerializeToString()
    assert refusal(kinds, unknown, method).code() is grpc.StatusCode.NOT_FOUND
    with grpc.insecure_channel(kinds.grpc_target) as channel:
        watching = channel.unary_stream("/grpc.health.v1.Health/Watch")(unknown, timeout=30)
        status = HealthCheckResponse.FromString(next(watching)).status
        assert status == HealthCheckResponse.SERVICE_UNKNOWN
        watching.cancel()


def test_ids_go_both_ways_and_counts_have_their_door(kinds: RunningService) -> None:
    before = counted(kinds, door="grpc", status="OK"), counted(kinds, door="grpc", status="INVALID_ARGUMENT")
    good = message().SerializeToString()
    _, metadata = send(kinds, good, metadata=(("x-request-id", "mine-1"),))
    assert metadata["x-request-id"] == "mine-1"
    _, metadata = send(kinds, good, metadata=(("x-request-id", "two words"),))
    assert metadata["x-request-id"] not in ("", "two words")
    failed = refusal(kinds, message({}).SerializeToString(), metadata=(("x-request-id", "mine-2"),))
    told = dict(failed.trailing_metadata())
    assert (told["x-request-id"], told["x-error-code"]) == ("mine-2", "invalid_input")
    after = counted(kinds, door="grpc", status="OK"), counted(kinds, door="grpc", status="INVALID_ARGUMENT")
    assert (after[0] - before[0], after[1] - before[1]) == (2, 1)
