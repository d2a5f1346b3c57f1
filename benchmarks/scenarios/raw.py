"""Raw bytes at the door: 784 float32, little-endian, as ``application/octet-stream``; no JSON is read."""

import json
import sys

import numpy as np

from benchmarks import pictures
from benchmarks.findings import Bar, Finding, Setting
from benchmarks.scenarios import _alternate, _command
from benchmarks.scenarios._bundles import MODELS_DIR
from benchmarks.servers import SERVICE_NAME, Server, service, start

MODEL = "cnn"
CLIENTS = 32
BAR_PER_S = 10_000
AIM_PER_S = 12_000
MEDIA_TYPE = "application/octet-stream"
RAW_NAME = f"{SERVICE_NAME}, raw bytes"
JSON_NAME = f"{SERVICE_NAME}, JSON"
_TOLERANCE = 1e-6


def measure(setting: Setting) -> Finding:
    """Measure the door for raw bytes, and the one for JSON beside it.

    Raises:
        ValueError: The service does not answer raw bytes as it answers the same picture in JSON.
    """
    bodies = pictures.bodies(64)
    expect_same_answers(bodies[:8], setting.server_core)
    path = service(MODEL, MODELS_DIR).path
    contenders = [
        _alternate.Contender(server=_named(RAW_NAME), requests=[raw_request(path, raw_body(b)) for b in bodies]),
        _alternate.Contender(server=_named(JSON_NAME), requests=pictures.http_requests(path, bodies)),
    ]
    turns = _alternate.run(contenders, setting, clients=CLIENTS)
    rate = _alternate.middle(turns, RAW_NAME, lambda sample: sample.requests_per_s)
    cpu_us = _alternate.middle(turns, RAW_NAME, lambda sample: sample.server_us)
    busy = _alternate.middle(turns, RAW_NAME, lambda sample: sample.generator_busy)
    return Finding(
        title="Raw bytes",
        bars=(
            Bar(
                what=f"{MODEL}, raw bytes, {CLIENTS} clients",
                bar=f"{BAR_PER_S:,} requests/s",
                aim=f"{AIM_PER_S:,}",
                measured=f"{rate:,.0f} requests/s ({cpu_us:.1f} us CPU a request; the generator was busy {busy:.0%})",
                is_met=rate >= BAR_PER_S,
                is_aim_met=rate >= AIM_PER_S,
            ),
        ),
        table_markdown=_command.table(_alternate.COLUMNS, [_alternate.row(turns, n) for n in (RAW_NAME, JSON_NAME)]),
        notes=(
            f"One picture to a request, as {MEDIA_TYPE} of float32 in the manifest's shape, {CLIENTS} clients; JSON "
            "beside it in the same turns. Where the generator is busy all the time, it is the limit and not the server."
        ),
        raw={"turns": _alternate.raw(turns)},
    )


def raw_body(json_body: bytes) -> bytes:
    """Return the pictures of a JSON body as float32, little-endian."""
    instances = json.loads(json_body)["instances"]
    return np.array([instance["image"] for instance in instances], "<f4").tobytes()


def raw_request(path: str, body: bytes) -> bytes:
    """Return a whole HTTP/1.1 request, with the headers that clients send."""
    (request,) = pictures.http_requests(path, [body])
    return request.replace(b"Content-Type: application/json", b"Content-Type: " + MEDIA_TYPE.encode())


def expect_same_answers(bodies: list[bytes], core: int) -> None:
    """Ask for the same pictures both ways.

    Raises:
        ValueError: The answers differ, or one is none.
    """
    import http.client

    server = service(MODEL, MODELS_DIR)
    with start(server, core) as running:
        for body in bodies:
            answers = []
            for data, media_type in ((body, "application/json"), (raw_body(body), MEDIA_TYPE)):
                connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
                connection.request("POST", server.path, data, {"Content-Type": media_type})
                response = connection.getresponse()
                text = response.read()
                connection.close()
                if response.status != 200:
                    raise ValueError(f"{media_type} is answered {response.status}: {text[:300]!r}")
                answers.append(json.loads(text)["predictions"][0])
            in_json, in_bytes = answers
            if in_json["label"] != in_bytes["label"] or (
                abs(in_json["probability"] - in_bytes["probability"]) > _TOLERANCE
            ):
                raise ValueError(f"JSON is answered {in_json}, raw bytes {in_bytes}")


def _named(name: str) -> Server:
    server = service(MODEL, MODELS_DIR)
    return Server(
        name=name,
        arguments=server.arguments,
        path=server.path,
        environ=server.environ,
        ready_path=server.ready_path,
    )


if __name__ == "__main__":
    sys.exit(_command.run(measure))
