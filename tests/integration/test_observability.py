"""What a running service tells of itself: lines of its log, spans and metrics over OTLP, and never a payload."""

import base64
import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from app.protocols.grpc.inference_pb2 import ModelInferRequest
from tests.support.bundles import dummy_bundle
from tests.support.collector import PATIENCE_S, Collector, Span, collecting
from tests.support.server import _LISTENING, COMMAND, DEFAULTS, RunningService, start
from tests.support.workers import wait_for

PICTURE = [[1, 2, 3], [4, 5, 6]]
BODY = {"instances": [{"image": PICTURE}]}
POISON = 77
TRACE_ID, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE_ID}-{PARENT}-01"}
SERVER = 2  # the kind of a span, in OTLP
INFER = "/inference.GRPCInferenceService/ModelInfer"
SECRET = "Rosebud-4711"


@contextmanager
def served(models: Path, **environ: str) -> Iterator[RunningService]:
    """Start a service whose log is JSON, and wait until it is ready."""
    settings = {"ZTO_MODELS_DIR": str(models), "ZTO_LOG_FORMAT": "json", "ZTO_GRPC_PORT": "0"}
    with start(settings | environ) as running:
        wait_for(lambda: _LISTENING.search(running.log()) is not None, running)
        running.url = _LISTENING.search(running.log())[1]  # type: ignore[index]
        running.wait_until()
        yield running


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    dummy_bundle(folder, "dummy", behavior={"raise_on": POISON})
    dummy_bundle(folder, "slow", behavior={"sleep_s": 0.05}, rows=2)
    return folder


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def service(models: Path, collector: Collector) -> Iterator[RunningService]:
    told = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    }
    with served(models, ZTO_ACCESS_LOG="1", **told) as running:
        yield running


def lines(running: RunningService) -> list[dict[str, Any]]:
    return [json.loads(line) for line in running.log().splitlines(keepends=True) if line.endswith("\n")]


def line_of(running: RunningService, request_id: str) -> dict[str, Any]:
    """Return the line of a request, which is written a moment after its answer."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        found[:] = [
            line for line in lines(running) if line["event"] == "request" and line.get("request_id") == request_id
        ]
        return bool(found)

    wait_for(is_there, running)
    (line,) = found
    return line


def ask(running: RunningService, request_id: str, model: str = "dummy", **options: Any) -> httpx.Response:
    headers = {"X-Request-ID": request_id} | options.pop("headers", {})
    options = options or {"json": BODY}
    return httpx.post(f"{running.url}/predict/{model}", headers=headers, **options)


def infer(running: RunningService, request_id: str, data: bytes, **metadata: str) -> grpc.StatusCode:
    with grpc.insecure_channel(running.grpc_target) as channel:
        told = [("x-request-id", request_id), *metadata.items()]
        call = channel.unary_unary(INFER).future(data, timeout=30, metadata=told)
        call.exception()  # which waits
        code: grpc.StatusCode = call.code()
        return code


def message(**changes: Any) -> ModelInferRequest:
    tensor = ModelInferRequest.InferInputTensor(name="image", datatype="FP32", shape=[1, 2, 3])
    tensor.contents.fp32_contents.extend([1, 2, 3, 4, 5, 6])
    return ModelInferRequest(**({"model_name": "dummy", "inputs": [tensor]} | changes))


def ns_of(span: Span) -> list[int]:
    return [span.start_ns, *(at for _, at in span.events), span.end_ns]


# Spans


def test_a_prediction_is_a_span_of_its_callers_trace(service: RunningService, collector: Collector) -> None:
    assert ask(service, "short-way", headers=SAMPLED).status_code == 200
    span = collector.of_request("short-way")
    assert (span.trace_id.hex(), span.parent_id.hex()) == (TRACE_ID, PARENT)
    assert (span.name, span.kind, span.is_error) == ("POST /predict/dummy", SERVER, False)
    assert span.attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/predict/dummy",
        "url.path": "/predict/dummy",
        "url.scheme": "http",
        "client.address": "127.0.0.1",
        "zto.request_id": "short-way",
        "zto.door": "predict",
        "zto.model": "dummy",
        "zto.version": "1",
        "zto.rows": 1,
        "zto.batch.rows": 1,
    }
    assert [name for name, _ in span.events] == ["parsed", "taken", "computed", "written"]
    assert ns_of(span) == sorted(ns_of(span))
    assert span.resource["service.name"] == "zero-to-one"
    assert span.resource["deployment.environment.name"] == "test"
    line = line_of(service, "short-way")
    assert (line["trace_id"], line["model"], line["status"], line["rows"]) == (TRACE_ID, "dummy", 200, 1)


def test_a_batch_links_to_its_requests_and_they_to_it(service: RunningService, collector: Collector) -> None:
    with service.connections(6) as connections:  # while one batch runs, the others gather
        for number, connection in enumerate(connections):
            headers = {"Content-Type": "application/json", "X-Request-ID": f"together-{number}"}
            connection.request("POST", "/predict/slow", json.dumps(BODY), headers)
        assert [connection.getresponse().status for connection in connections] == [200] * 6
    requests = [collector.of_request(f"together-{number}") for number in range(6)]
    places = {span.place for span in requests}
    batches: list[Span] = []
    while sum(batch.attributes["zto.batch.requests"] for batch in batches) < 6:
        batches = collector.wait_for(lambda span: span.name == "batch slow", count=len(batches) + 1)
    assert set().union(*(batch.links for batch in batches)) == places
    assert sum(batch.attributes["zto.batch.requests"] for batch in batches) == 6
    assert sum(batch.attributes["zto.batch.rows"] for batch in batches) == 6
    assert max(batch.attributes["zto.batch.rows"] for batch in batches) > 1
    for request in requests:
        (its_own,) = [batch for batch in batches if request.place in batch.links]
        assert request.links == {its_own.place}
        assert its_own.trace_id != request.trace_id
        assert request.attributes["zto.batch.rows"] == its_own.attributes["zto.batch.rows"]
        assert request.parent_id == b""
        # two clocks are read one after the other, on a machine that may be busy: so far off is the end of the batch
        assert request.start_ns < its_own.start_ns + 25_000_000


def test_a_caller_who_samples_nothing_has_a_trace_in_the_log_alone(
    service: RunningService, collector: Collector
) -> None:
    assert ask(service, "unsampled", headers={"traceparent": f"00-{TRACE_ID}-{PARENT}-00"}).status_code == 200
    assert line_of(service, "unsampled")["trace_id"] == TRACE_ID
    ask(service, "after-it")
    collector.of_request("after-it")
    assert not [span for span in collector.spans if span.attributes.get("zto.request_id") == "unsampled"]


@pytest.mark.parametrize(
    ("name", "options", "status", "code"),
    [
        ("long-way", {"content": json.dumps(BODY).encode(), "headers": {"Expect": "100-continue"}}, 200, ""),
        ("two-rows", {"json": {"instances": BODY["instances"] * 2}}, 200, ""),
        ("invalid", {"json": {"instances": [{"image": "no"}]}}, 422, "invalid_input"),
        ("poison", {"json": {"instances": [{"image": [[POISON, 2, 3], [4, 5, 6]]}]}}, 422, "model_rejected_input"),
        ("not-json", {"content": b"{"}, 400, "malformed_body"),
    ],
)  # fmt: skip
def test_every_way_through_the_door_is_told_alike(
    service: RunningService, collector: Collector, name: str, options: Any, status: int, code: str
) -> None:
    headers = SAMPLED | {"Content-Type": "application/json"} | options.pop("headers", {})
    assert ask(service, name, headers=headers, **options).status_code == status
    span, line = collector.of_request(name), line_of(service, name)
    assert (span.parent_id.hex(), span.attributes["http.response.status_code"]) == (PARENT, status)
    assert (line["status"], line.get("code", ""), line["door"]) == (status, code, "predict")
    assert line["seconds"] > 0
    assert not span.is_error  # a caller's mistake is none of the server's
    assert bool(span.links) is (status == 200)


def test_routes_of_fastapi_are_spans_of_fastapi(service: RunningService, collector: Collector) -> None:
    headers = SAMPLED | {"X-Request-ID": "a-card"}
    assert httpx.get(f"{service.url}/models/dummy", headers=headers).status_code == 200
    (span,) = collector.wait_for(lambda span: span.attributes.get("http.route") == "/models/{model}")
    assert (span.scope, span.trace_id.hex(), span.parent_id.hex()) == ("fastapi", TRACE_ID, PARENT)
    assert line_of(service, "a-card")["trace_id"] == TRACE_ID


def test_a_prediction_through_a_route_has_one_span_and_its_batch_links_to_it(
    service: RunningService, collector: Collector
) -> None:
    body = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 2, 3], "data": [1, 2, 3, 4, 5, 6]}]}
    trace_id = "00000000000000000000000000000abc"
    headers = {"X-Request-ID": "routed", "traceparent": f"00-{trace_id}-{PARENT}-01"}
    answered = httpx.post(f"{service.url}/v2/models/dummy/versions/1/infer", json=body, headers=headers)
    assert answered.status_code == 200
    (span,) = collector.wait_for(lambda span: span.trace_id.hex() == trace_id)
    assert (span.scope, span.parent_id.hex()) == ("fastapi", PARENT)
    collector.wait_for(lambda batch: span.place in batch.links)
    line = line_of(service, "routed")
    assert (line["trace_id"], line["door"], line["model"]) == (trace_id, "v2", "dummy")
    assert [each.name for each in collector.spans if each.trace_id.hex() == trace_id] == [span.name]


def test_a_call_of_grpc_is_a_span_and_a_line(service: RunningService, collector: Collector) -> None:
    assert infer(service, "called", message().SerializeToString(), **SAMPLED) is grpc.StatusCode.OK
    span, line = collector.of_request("called"), line_of(service, "called")
    assert (span.trace_id.hex(), span.parent_id.hex(), span.kind) == (TRACE_ID, PARENT, SERVER)
    assert span.name == "inference.GRPCInferenceService/ModelInfer"
    assert span.attributes["rpc.system.name"] == "grpc"
    assert span.attributes["rpc.response.status_code"] == "OK"
    assert (line["door"], line["model"], line["status"], line["trace_id"]) == ("grpc", "dummy", "OK", TRACE_ID)
    unknown = message(model_name="nobody").SerializeToString()
    assert infer(service, "called-nobody", unknown) is grpc.StatusCode.NOT_FOUND
    assert line_of(service, "called-nobody")["code"] == "unknown_model"
    assert not collector.of_request("called-nobody").is_error


def test_what_never_became_a_request_is_a_line_too(service: RunningService) -> None:
    answered = httpx.get(service.url, headers={"x": "y" * 70_000, "X-Request-ID": "too-large"})
    assert answered.status_code == 431
    wait_for(lambda: any(line.get("status") == 431 for line in lines(service)), service)


# Metrics


def test_metrics_are_the_figures_of_the_scrape(service: RunningService, collector: Collector) -> None:
    ask(service, "counted")
    before = collector.exports_of.get("/v1/metrics", 0)

    def is_exported_anew() -> bool:  # what is exported now was read after the request
        return collector.exports_of.get("/v1/metrics", 0) > before + 1

    wait_for(is_exported_anew, service)
    scraped = httpx.get(f"{service.url}/metrics").text
    labels = {"door": "predict", "model": "dummy", "version": "1", "status": "200"}
    (value,) = [value for found, value in collector.metrics["zto_requests"] if found == labels]
    told = ",".join(f'{name}="{labels[name]}"' for name in sorted(labels))
    assert f"zto_requests_total{{{told}}} {value}\n" in scraped
    counts = {
        found["stage"]: count for found, count in collector.metrics["zto_stage_seconds"] if found["model"] == "dummy"
    }
    assert set(counts) == {"parse", "queue", "compute", "write"}
    for stage, count in counts.items():
        assert f'zto_stage_seconds_count{{model="dummy",stage="{stage}"}} {count}.0\n' in scraped
    assert collector.metrics["process.uptime"]
    # FastAPI measures its own routes, and nothing that is counted here
    routes = {found.get("http.route", "") for found, _ in collector.metrics["http.server.request.duration"]}
    assert "/metrics" in routes or "/readyz" in routes
    assert not [route for route in routes if route.startswith("/predict")]


def test_the_process_tells_of_itself(service: RunningService) -> None:
    text = httpx.get(f"{service.url}/metrics").text
    resident = re.search(r'zto_process_resident_memory_bytes{worker="0"} (\S+)', text)
    assert resident is not None
    assert 0.5 < float(resident[1]) / service.rss_bytes() < 2
    started = re.search(r'zto_process_start_time_seconds{worker="0"} (\S+)', text)
    assert started is not None
    assert 0 <= time.time() - float(started[1]) < 3600
    assert 'zto_model_state{model="dummy",state="ready",version="1"} 1.0' in text
    assert 'zto_model_state{model="dummy",state="failed",version="1"} 0.0' in text
    assert re.search(r'zto_build_info{python="3[^"]+",version="[^"]+"} 1.0', text)
    wait_for(lambda: "zto_event_loop_lag_seconds_count 0.0" not in httpx.get(f"{service.url}/metrics").text, service)


# Payloads


def test_no_payload_is_ever_logged_unless_it_is_asked_for(service: RunningService) -> None:
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/predict/dummy", {"json": {"instances": [{"image": SECRET}]}}),
        ("/predict/dummy", {"json": {"instances": [{SECRET: PICTURE}]}}),
        ("/predict/dummy", {"content": f'{{"instances": [{{"image": {SECRET}'.encode()}),
        ("/predict/dummy", {"content": SECRET.encode(), "headers": {"Content-Type": "image/png"}}),
        ("/predict/dummy", {"files": {"file": (SECRET, SECRET.encode(), "image/png")}}),
        ("/predict/dummy", {"json": BODY, "params": {"version": SECRET}}),
        ("/predict", {"json": {"model": SECRET} | BODY}),
        ("/predict/dummy", {"json": {"instances": [{"image": [[POISON, 1234.40625, 3], [4, 5, 6]]}]}}),
        ("/v2/models/dummy/infer", {"json": {"id": SECRET, "inputs": [{"name": SECRET, "datatype": SECRET}]}}),
        ("/v2/models/dummy/infer", {"content": SECRET.encode()}),
        ("/invocations", {"json": {"inputs": SECRET}}),
    ]  # fmt: skip
    with httpx.Client(base_url=service.url, headers={"X-Secret": SECRET, "Authorization": SECRET}) as client:
        refused = [client.post(path, **options).status_code for path, options in bodies]
    assert all(400 <= status < 500 for status in refused), refused
    named = message(id=SECRET, model_name="dummy")
    named.inputs[0].name = SECRET
    assert infer(service, "secretly", named.SerializeToString()) is grpc.StatusCode.INVALID_ARGUMENT
    assert infer(service, "badly", SECRET.encode()) is grpc.StatusCode.INVALID_ARGUMENT
    ask(service, "behind-all")
    line_of(service, "behind-all")
    log = service.log()
    assert SECRET not in log
    assert base64.b64encode(SECRET.encode()).decode().rstrip("=") not in log
    assert "1234.4" not in log


@pytest.fixture(scope="module")
def payloads(models: Path) -> Iterator[RunningService]:
    # which takes connections and never answers: worse than none, since whoever sends has to wait
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hung = {"ZTO_OTEL": "1", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}",
                "OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_BSP_MAX_QUEUE_SIZE": "8",
                "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4", "OTEL_EXPORTER_OTLP_TIMEOUT": "3600"}  # fmt: skip
        with served(models, ZTO_LOG_PAYLOADS="1", ZTO_LOG_PAYLOAD_BYTES="24", **hung) as running:
            yield running


def test_payloads_that_are_asked_for_are_cut(payloads: RunningService) -> None:
    assert ask(payloads, "plain").status_code == 200
    assert ask(payloads, "bad", content=b"{oops", headers={"Content-Type": "application/json"}).status_code == 400
    data = message().SerializeToString()
    assert infer(payloads, "called", data) is grpc.StatusCode.OK

    def told() -> dict[str, dict[str, Any]]:
        return {line["request_id"]: line for line in lines(payloads) if line["event"] == "payload"}

    wait_for(lambda: {"plain", "bad", "called"} <= told().keys(), payloads)
    whole = json.dumps(BODY, separators=(",", ":"))
    assert (told()["plain"]["payload"], told()["plain"]["bytes"]) == (whole[:24], len(whole))
    assert told()["bad"]["payload"] == "{oops"
    assert told()["called"]["payload"] == data[:24].decode()  # a short message may well be text
    assert not [line for line in lines(payloads) if line["event"] == "request"]  # lines of requests are not asked for


def test_a_collector_that_hangs_costs_its_spans_and_nothing_else(payloads: RunningService) -> None:
    with httpx.Client(base_url=payloads.url) as client:
        for _ in range(200):
            assert client.post("/predict/dummy", json=BODY).status_code == 200

        def dropped() -> float:
            found = re.search(r'zto_spans_dropped_total{scope="zero-to-one"} (\S+)', client.get("/metrics").text)
            return 0.0 if found is None else float(found[1])

        wait_for(lambda: client.post("/predict/dummy", json=BODY).status_code == 200 and dropped() > 0, payloads)
    assert payloads.stop() == 0
    assert "takes nothing; what was not sent is lost" in payloads.log()
    assert "leaving while" not in payloads.log()


# A reader who is slow


def test_a_log_that_nobody_reads_stops_nobody(models: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ZTO_")}
    settings = DEFAULTS | {"ZTO_MODELS_DIR": str(models), "ZTO_ACCESS_LOG": "1"}
    process = subprocess.Popen(COMMAND, env=environ | settings, stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        told = b""
        while not (found := _LISTENING.search(told.decode())):
            more = os.read(process.stderr.fileno(), 4096)
            assert more, told
            told += more
        ends_at = time.monotonic() + PATIENCE_S
        dropped = None
        with httpx.Client(base_url=found[1], timeout=30) as client:
            while dropped is None and time.monotonic() < ends_at:
                for _ in range(100):
                    assert client.post("/predict/nobody", json=BODY).status_code == 404
                dropped = re.search(r'zto_log_lines_dropped_total{log="requests"} (\S+)', client.get("/metrics").text)
        assert dropped is not None
        assert float(dropped[1]) > 0
        reading = threading.Thread(target=process.stderr.read)  # and somebody who comes back has the end of it
        reading.start()
        process.terminate()
        assert process.wait(30) == 0
        reading.join()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
