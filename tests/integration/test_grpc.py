"""The Open Inference Protocol over gRPC, asked by the clients that others have: Triton's, and the specification's."""

import asyncio
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
import tritonclient.http as triton_http
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

from app.bundle.loader import open_bundle
from app.protocols.grpc.health_pb2 import HealthCheckRequest, HealthCheckResponse
from app.protocols.open_inference.datatypes import datatype_of
from app.tensors import Array, Tensors, take, trim
from tests.support.bundles import dummy_bundle
from tests.support.committed import LATEST, MODELS, NAMES
from tests.support.kinds import KINDS, kind_bundle, kind_golden
from tests.support.server import RunningService, serve, start
from tests.support.workers import wait_until_serving

KEY = "a-key-of-the-tests"
ADMIN = {"authorization": f"Bearer {KEY}"}
INFER = "/inference.GRPCInferenceService/ModelInfer"
PICTURE: Tensors = {"image": np.ones((1, 2, 3), np.float32)}
LIMIT = 64 * 1024


@pytest.fixture(scope="module")
def committed() -> Iterator[RunningService]:
    with serve(MODELS, grpc_port=0) as running:
        yield running


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    models = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        kind_bundle(models, kind)
    dummy_bundle(models)
    dummy_bundle(models, "slow", behavior={"sleep_s": 0.3}, rows=2, max_rows=1)
    dummy_bundle(models, "poisoned", behavior={"nan_on": 99})
    limits: dict[str, Any] = {"max_body_bytes": LIMIT, "max_queue_rows": 8, "max_instances": 8}
    with serve(models, grpc_port=0, admin_key=KEY, client_header="x-client", **limits) as running:
        yield running


@pytest.fixture(scope="module")
def client(kinds: RunningService) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(kinds.grpc_target) as client:
        yield client


def inputs_of(tensors: Tensors, module: Any = triton) -> list[Any]:
    inputs = []
    for name, array in tensors.items():
        given = module.InferInput(name, array.shape, datatype_of(array.dtype.name))
        given.set_data_from_numpy(array)
        inputs.append(given)
    return inputs


def texts(name: str, *elements: bytes) -> Any:
    given = triton.InferInput(name, [len(elements)], "BYTES")
    given.set_data_from_numpy(np.array(elements, object))
    return given


def message(tensors: Tensors = PICTURE, model: str = "dummy") -> pb.ModelInferRequest:
    """Return a request as Triton's clients write it, to be damaged."""
    request = pb.ModelInferRequest(model_name=model)
    for name, array in tensors.items():
        request.inputs.add(name=name, datatype=datatype_of(array.dtype.name), shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    return request


def send(running: RunningService, data: bytes, method: str = INFER, **options: Any) -> tuple[bytes, dict[str, str]]:
    """Send bytes; return what is answered, and the trailing metadata."""
    with grpc.insecure_channel(running.grpc_target) as channel:
        answer, call = channel.unary_unary(method).with_call(data, timeout=30, **options)
        return answer, dict(call.trailing_metadata())


def refusal(running: RunningService, data: bytes, method: str = INFER, **options: Any) -> grpc.Call:
    with pytest.raises(grpc.RpcError) as caught:
        send(running, data, method, **options)
    assert isinstance(caught.value, grpc.Call)
    return caught.value


def counted(running: RunningService, **labels: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(httpx.get(f"{running.url}/metrics").text)
        for sample in family.samples
        if sample.name == "zto_requests_total" and labels.items() <= sample.labels.items()
    )


def queue_rows(running: RunningService, model: str) -> float:
    families = text_string_to_metric_families(httpx.get(f"{running.url}/metrics").text)
    samples = (sample for family in families for sample in family.samples)
    return sum(s.value for s in samples if s.name == "zto_queue_rows" and s.labels["model"] == model)


def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        time.sleep(0.01)


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


def test_a_client_for_asyncio_is_answered(kinds: RunningService) -> None:
    async def ask() -> None:
        async with triton_aio.InferenceServerClient(kinds.grpc_target) as client:
            assert await client.is_server_ready()
            found = await asyncio.gather(*(client.infer("dummy", inputs_of(PICTURE)) for _ in range(8)))
            assert all(each.as_numpy("logits").shape == (1, 3) for each in found)
            with pytest.raises(InferenceServerException, match="no model named 'none'"):
                await client.infer("none", inputs_of(PICTURE))
            with pytest.raises(InferenceServerException, match="DEADLINE_EXCEEDED"):
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


# Bad input


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
def test_bad_input_is_refused_with_its_tensor_named(kinds: RunningService, case: str) -> None:
    request, told = BAD[case]
    failed = refusal(kinds, request.SerializeToString())
    assert failed.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert told in (failed.details() or "")


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\xff", b"\x1f\x8b" + bytes(10)])
def test_what_is_no_message_is_named_as_such(kinds: RunningService, data: bytes) -> None:
    failed = refusal(kinds, data)
    assert failed.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert failed.details() == "the message is no inference.ModelInferRequest"


def test_a_dimension_beyond_the_wire_s_numbers_is_refused(kinds: RunningService) -> None:
    # 2**63 as a varint comes out as the least number of 64 bits
    data = message().SerializeToString().replace(b"\x1a\x03\x01\x02\x03", b"\x1a\x0c" + b"\x80" * 9 + b"\x01\x02\x03")
    data = bytes([*data[:8], data[8] + 9, *data[9:]])
    assert pb.ModelInferRequest.FromString(data).inputs[0].shape[0] == -(2**63)
    assert "input:image" in (refusal(kinds, data).details() or "")


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_messages_beyond_the_limit_are_refused_and_bombs_are_not_inflated(
    kinds: RunningService, compression: grpc.Compression
) -> None:
    before = kinds.rss_bytes()
    failed = refusal(kinds, bytes(256 * 2**20), compression=compression)
    assert failed.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in (failed.details() or "")
    assert kinds.rss_bytes() - before < 64 * 2**20


def test_a_poisoned_row_is_the_caller_s_and_its_neighbors_are_answered(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer("poisoned", inputs_of({"image": np.full((1, 2, 3), 99, np.float32)}))
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert client.infer("poisoned", inputs_of(PICTURE)).as_numpy("logits").shape == (1, 3)


# Deadlines, overload, and callers who leave


def test_a_deadline_that_cannot_be_kept_is_told_at_once(kinds: RunningService) -> None:
    failed = refusal(kinds, message(model="slow").SerializeToString(), metadata=(("x-request-timeout-ms", "x"),))
    assert failed.code() is grpc.StatusCode.INVALID_ARGUMENT
    with grpc.insecure_channel(kinds.grpc_target) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(INFER)(message(model="slow").SerializeToString(), timeout=0.1)
        assert isinstance(caught.value, grpc.Call)
        # refused since it would come too late, or given up on: never answered late
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def test_a_full_queue_refuses_and_says_when_to_come_back(kinds: RunningService) -> None:
    data = message({"image": np.ones((8, 2, 3), np.float32)}, model="slow").SerializeToString()
    with grpc.insecure_channel(kinds.grpc_target) as channel:
        calls = [channel.unary_unary(INFER).future(data, timeout=30) for _ in range(6)]
        failed = [call for call in calls if call.exception() is not None]
        assert 0 < len(failed) < len(calls)
        for call in failed:
            assert call.code() is grpc.StatusCode.UNAVAILABLE
            assert int(dict(call.trailing_metadata())["retry-after"]) >= 1


def test_messages_that_are_held_are_bounded_together(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, "slow", behavior={"sleep_s": 0.5}, rows=2, max_rows=1)
    size = message(model="slow").ByteSize()
    with (
        serve(tmp_path, grpc_port=0, max_incoming_bytes=max(1024, 2 * size), max_body_bytes=1024) as running,
        triton.InferenceServerClient(running.grpc_target) as client,
    ):
        ended: queue.Queue[Exception | None] = queue.Queue()
        padded = inputs_of(PICTURE)
        for number in range(40):
            client.async_infer(
                "slow", padded, lambda result, error: ended.put(error), request_id=f"{number:0>200}", client_timeout=30
            )
        told = [ended.get(timeout=60) for _ in range(40)]
        refused = [error for error in told if error is not None]
        assert refused
        assert all("too many large bodies are on their way" in str(error) for error in refused)
        assert len(refused) < 40
        client.infer("slow", padded)


def test_who_gives_up_is_dropped_from_the_queue(kinds: RunningService) -> None:
    before = counted(kinds, door="grpc", model="slow", status="CANCELLED")
    data = message({"image": np.ones((4, 2, 3), np.float32)}, model="slow").SerializeToString()
    with grpc.insecure_channel(kinds.grpc_target) as channel:
        calls = [channel.unary_unary(INFER).future(data, timeout=30) for _ in range(2)]
        until(lambda: queue_rows(kinds, "slow") > 0)
        for call in calls:
            call.cancel()
        until(lambda: counted(kinds, door="grpc", model="slow", status="CANCELLED") >= before + 2)
        # what had begun is finished, and nothing of what was waiting is
        send(kinds, message(model="slow").SerializeToString())
        assert queue_rows(kinds, "slow") == 0


# The life of the server


def test_without_its_setting_nothing_of_grpc_is_imported() -> None:
    script = (
        "import sys; from pathlib import Path; from app.main import create_app; from app.settings import Settings\n"
        "from app.server import Server\n"
        f"settings = Settings(models_dir=Path({str(MODELS)!r})); Server(create_app(settings), settings)\n"
        "assert not {'grpc', 'google.protobuf'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_the_extra_the_start_ends_and_names_it(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    script = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'grpc' else find(name, *rest)\n"
        "from app.__main__ import main; sys.exit(main(['serve']))"
    )
    environ = {"ZTO_MODELS_DIR": str(tmp_path), "ZTO_PORT": "0", "ZTO_GRPC_PORT": "0", "PATH": "/usr/bin:/bin"}
    for workers in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environ | {"ZTO_WORKERS": workers}
        )
        assert done.returncode == 2, done.stderr
        assert "pip install 'zero-to-one[grpc]'" in done.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_is_taken_ends_the_start_with_its_name(tmp_path: Path, workers: int) -> None:
    dummy_bundle(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        settings = {"ZTO_MODELS_DIR": str(tmp_path), "ZTO_GRPC_PORT": str(port), "ZTO_WORKERS": str(workers)}
        with start(settings) as running:
            assert running.process.wait(60) == 2
            assert f"port {port} for gRPC (ZTO_GRPC_PORT)" in running.log()


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_lost_where_the_service_ends_under_load(tmp_path: Path, workers: int) -> None:
    dummy_bundle(tmp_path, behavior={"sleep_s": 0.002}, max_rows=2)
    data = message().SerializeToString()
    answered: list[bytes] = []
    lost: list[grpc.RpcError] = []

    def ask(channel: grpc.Channel) -> None:
        infer = channel.unary_unary(INFER)
        while True:
            try:
                answered.append(infer(data, timeout=30))
            except grpc.RpcError as exc:
                # nobody listens any more: this one was never sent
                if not isinstance(exc, grpc.Call) or "onnect" not in (exc.details() or ""):
                    lost.append(exc)
                return

    with serve(tmp_path, workers=workers, grpc_port=0) as running:
        if workers > 1:
            wait_until_serving(running, times=workers)
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [grpc.insecure_channel(running.grpc_target, options) for _ in range(4)]
        threads = [threading.Thread(target=ask, args=(channel,)) for channel in channels for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: len(answered) >= 300)
        running.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(60)
        assert running.stop() == 0
        for channel in channels:
            channel.close()
        assert "worker" in running.log() or "ERROR" not in running.log()
    assert not lost
    assert len(answered) > 300


def test_who_watches_or_keeps_a_stream_open_is_sent_away_at_the_end(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    with serve(tmp_path, grpc_port=0, drain_s=0.5) as running, grpc.insecure_channel(running.grpc_target) as channel:
        watching = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=30)
        assert HealthCheckResponse.FromString(next(watching)).status == HealthCheckResponse.SERVING
        sent: queue.Queue[bytes] = queue.Queue()
        stream = channel.stream_stream(INFER.replace("ModelInfer", "ModelStreamInfer"))(iter(sent.get, None))
        sent.put(message().SerializeToString())
        assert not pb.ModelStreamInferResponse.FromString(next(stream)).error_message
        running.process.send_signal(signal.SIGTERM)
        assert HealthCheckResponse.FromString(next(watching)).status == HealthCheckResponse.NOT_SERVING
        assert list(watching) == []
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert isinstance(caught.value, grpc.Call)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "shutting down" in (caught.value.details() or "")
        assert running.process.wait(30) == 0
        sent.put(b"")  # lets the thread that sends end
        assert "leaving while" not in running.log()


def test_what_outlasts_the_end_is_told(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, behavior={"hangs_on": 254.5}, max_rows=1)
    data = message({"image": np.full((1, 2, 3), 254.5, np.float32)}).SerializeToString()
    with (
        serve(tmp_path, grpc_port=0, shutdown_s=1, run_on="thread") as running,
        grpc.insecure_channel(running.grpc_target) as channel,
    ):
        stuck = channel.unary_unary(INFER).future(data, timeout=30)
        behind = channel.unary_unary(INFER).future(data, timeout=30)
        until(lambda: queue_rows(running, "dummy") > 0)
        running.process.send_signal(signal.SIGTERM)
        for call in (stuck, behind):
            assert call.exception() is not None
            assert call.code() is grpc.StatusCode.UNAVAILABLE
            assert "shutting down" in (call.details() or "")
        assert running.process.wait(30) == 0
