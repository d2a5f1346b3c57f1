"""SageMaker speaks to the service as it does in the cloud: its port, its probe, its headers, and its end."""

import io
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from benchmarks.servers import free_ports
from tests.support.committed import LATEST, MODELS
from tests.support.platforms import ATTRIBUTES, SERVE_ARGUMENT, example, started_as
from tests.support.workers import wait_for

TARGET = "X-Amzn-SageMaker-Target-Model"


@pytest.fixture(scope="module")
def sagemaker() -> Iterator[httpx.Client]:
    """SageMaker, where several containers share an endpoint: it says which port each has."""
    (port,) = free_ports(1)
    environ = {"SAGEMAKER_BIND_TO_PORT": str(port), "SAGEMAKER_SAFE_PORT_RANGE": "1-2", "MODELS_DIR": str(MODELS)}
    host = {"Host": "model.aws.local"}
    with (
        started_as(environ, port, "/ping", command=SERVE_ARGUMENT) as running,
        httpx.Client(base_url=running.url, timeout=60, headers=host) as client,
    ):
        yield client


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def test_sagemaker_pings_until_the_models_are_ready_and_invokes_them(
    sagemaker: httpx.Client, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    assert sagemaker.get("/ping").status_code == 200
    picture = pictures[0][0]
    asked = {ATTRIBUTES: "c000b4f9-df62-4c85-a0bf-7c525f9104a4,model=cnn,top_k=1", "Accept": "*/*"}
    answers = [
        sagemaker.post("/invocations", json={"instances": [{"image": picture.tolist()}]}, headers=asked),
        sagemaker.post("/invocations", content=png(picture), headers=asked | {"Content-Type": "image/png"}),
        sagemaker.post(
            "/invocations", content=picture.astype("<f4").tobytes(),
            headers=asked | {"Content-Type": "application/octet-stream"},
        ),
    ]  # fmt: skip
    for answer in answers:
        assert answer.status_code == 200, answer.text
        (prediction,) = answer.json()["predictions"]
        assert list(prediction["probabilities"]) == ["Ankle boot"]
        told = answer.headers[ATTRIBUTES]
        assert told == f"model=cnn,version={LATEST['cnn'].version},c000b4f9-df62-4c85-a0bf-7c525f9104a4"


def test_sagemaker_text_is_taken_as_it_is(sagemaker: httpx.Client) -> None:
    headers = {"Content-Type": "text/plain; charset=utf-8", ATTRIBUTES: "model=transformer"}
    answer = sagemaker.post("/invocations", content=b"A dull film.", headers=headers)
    body = {"instances": [{"text": "A dull film."}]}
    assert answer.json() == sagemaker.post("/predict/transformer", json=body).json()


def test_several_outputs_are_named_with_semicolons_in_sagemakers_attributes(sagemaker: httpx.Client) -> None:
    headers = {ATTRIBUTES: "model=autoencoder,outputs=error;anomaly"}
    answer = sagemaker.post("/invocations", json=example(sagemaker, "autoencoder"), headers=headers)
    assert set(answer.json()["predictions"][0]) == {"error", "anomaly"}


@pytest.mark.parametrize("target", ["cnn", "cnn.tar.gz", "/cnn.tar.gz"])
def test_the_target_of_a_multi_model_request_wins_over_its_attributes(sagemaker: httpx.Client, target: str) -> None:
    headers = {TARGET: target, ATTRIBUTES: "model=mlp"}
    answer = sagemaker.post("/invocations", json=example(sagemaker, "cnn"), headers=headers)
    assert answer.json()["model"] == "cnn"


def test_sagemaker_is_told_what_is_wrong_and_where(sagemaker: httpx.Client) -> None:
    body = example(sagemaker, "cnn")

    def problem(attributes: str, document: object = body) -> tuple[int, str, str | None]:
        answer = sagemaker.post("/invocations", json=document, headers={ATTRIBUTES: attributes} if attributes else {})
        found = answer.json()
        pointer = found["errors"][0]["pointer"] if "errors" in found else found["code"]
        return answer.status_code, pointer, answer.headers.get(ATTRIBUTES)

    assert problem("trace=1") == (422, "#/model", "trace=1")
    assert problem("") == (422, "#/model", None)
    assert problem("model=nobody,trace=1") == (404, "unknown_model", "trace=1")
    assert problem("model=cnn,version=99") == (404, "unknown_version", None)
    at_header, signed = f"header:{ATTRIBUTES}", f"model=cnn,version={LATEST['cnn'].version}"
    assert problem("model=cnn,top_k=0") == (422, at_header, signed)
    assert problem("model=cnn,outputs=error") == (422, at_header, signed)
    assert problem("model=cnn,tensor=nothing") == (422, at_header, signed)
    assert problem("model=cnn", body | {"model": "mlp"}) == (422, "#/model", signed)
    assert problem("model=cnn", body | {"parameters": {"model": "mlp"}}) == (422, "#/parameters/model", signed)
    assert problem("model=cnn,top_k=2", body | {"parameters": {"top_k": 0}}) == (422, "#/parameters/top_k", signed)


def test_attributes_that_would_grow_beyond_their_limit_are_passed_back_alone(sagemaker: httpx.Client) -> None:
    theirs = "t=" + "x" * (1024 - 2 - len(",model=mlp"))
    headers = {ATTRIBUTES: f"{theirs},model=mlp"}
    answer = sagemaker.post("/invocations", json=example(sagemaker, "mlp"), headers=headers)
    assert answer.headers[ATTRIBUTES] == theirs


def test_a_model_of_sagemakers_multi_model_path_that_is_not_there_is_404(sagemaker: httpx.Client) -> None:
    answer = sagemaker.post("/models/nobody/invoke", json={})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_model")


def test_sagemaker_ends_a_container_without_losing_a_request() -> None:
    (port,) = free_ports(1)
    environ = {"SAGEMAKER_BIND_TO_PORT": str(port), "MODELS_DIR": str(MODELS), "ZTO_DRAIN_S": "1"}
    with started_as(environ, port, "/ping", command=SERVE_ARGUMENT) as running:
        outcomes: list[int] = []
        body = httpx.get(f"{running.url}/models/cnn").json()["example"] | {"model": "cnn"}

        def invoke() -> None:
            with httpx.Client(base_url=running.url, timeout=30) as client:
                while True:
                    answer = client.post("/invocations", json=body)
                    outcomes.append(answer.status_code)
                    if answer.headers.get("connection") == "close":
                        return

        caller = threading.Thread(target=invoke)
        caller.start()
        wait_for(lambda: bool(outcomes), running)
        running.process.send_signal(signal.SIGTERM)  # to the shell's successor: `serve` hands its process on
        with httpx.Client(base_url=running.url) as probe:
            wait_for(lambda: probe.get("/ping").status_code == 503, running)
        caller.join(30)
        assert running.stop() == 0
    assert set(outcomes) == {200}


@pytest.mark.parametrize(
    ("environ", "told"),
    [({}, "8080/"), ({"SAGEMAKER_BIND_TO_PORT": "8081"}, "8081/"), ({"PORT": "9000"}, "/9000")],
)
def test_the_serve_argument_listens_on_8080_unless_a_port_is_said(
    tmp_path: Path, environ: dict[str, str], told: str
) -> None:
    shim = tmp_path / "python"
    shim.write_text('#!/bin/sh\necho "$*: ${SAGEMAKER_BIND_TO_PORT:-}/${PORT:-}"\n')
    shim.chmod(0o755)
    done = subprocess.run(
        [*SERVE_ARGUMENT], env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **environ}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout == f"-m app serve: {told}\n"
