"""A good request for every door of the service and every kind of model, made of the golden rows of the bundles."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from PIL import Image

from app.bundle.golden import GoldenRows
from app.tensors import Tensors
from benchmarks import pictures
from tests.support.committed import LATEST, NAMES, names_of
from tests.support.documented import octets_of
from tests.support.open_inference import DATATYPES, binary_body, golden_of, golden_row, json_body, to_bytes

JSON, OCTETS = "application/json", "application/octet-stream"
# where Vertex AI is told to ask: ZTO_PREDICT_ROUTE
VERTEX = "/vertex"
SETTINGS: dict[str, Any] = {"default_model": "cnn", "predict_route": VERTEX, "grpc_port": 0}
_ROWS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request of HTTP.

    Attributes:
        door: What kind of door it is for, in a word.
        path: With the query.
        body: As it is sent.
        content_type: Of the body.
        method: Of HTTP.
        headers: Beside those that every request has.
    """

    door: str
    path: str
    body: bytes = b""
    content_type: str = JSON
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        """The whole request."""
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: 127.0.0.1"]
        if self.method == "POST":
            lines += [f"Content-Type: {self.content_type}", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


@cache
def _golden(name: str) -> GoldenRows:
    return golden_of(LATEST[name])


def asks(models: Sequence[str] = tuple(NAMES)) -> list[Ask]:
    """Return good requests for all doors, some rows of every model."""
    return [ask for name in models for row in range(_ROWS) for ask in _of_row(name, row)] + list(_without_model())


def messages(models: Sequence[str] = tuple(NAMES)) -> list[bytes]:
    """Return serialized messages for ``ModelInfer`` over gRPC, likewise."""
    return [_message(name, golden_row(_golden(name), row)) for name in models for row in range(_ROWS)]


def _of_row(name: str, row: int) -> Iterator[Ask]:
    golden = _golden(name)
    instance, tensors = golden.requests[row], golden_row(golden, row)
    body = pictures.as_json({"instances": [instance]})
    yield Ask(door="predict JSON", path=f"/predict/{name}", body=body)
    yield Ask(door="predict JSON", path="/predict", body=pictures.as_json({"model": name, "instances": [instance]}))
    for octets in octets_of(golden)[:1]:
        yield Ask(door="predict bytes", path=f"/predict/{name}", body=octets, content_type=OCTETS)
    if name in names_of("image_classification"):
        yield Ask(door="predict image", path=f"/predict/{name}", body=_png(name, row), content_type="image/png")
    yield Ask(door="V2 JSON", path=f"/v2/models/{name}/infer", body=json_body(tensors))
    binary, headers = binary_body(tensors, parameters={"binary_data_output": True})
    yield Ask(
        door="V2 binary",
        path=f"/v2/models/{name}/infer",
        body=binary,
        content_type=headers["Content-Type"],
        headers={key: value for key, value in headers.items() if key != "Content-Type"},
    )
    yield Ask(door="V1", path=f"/v1/models/{name}:predict", body=body)
    yield Ask(door="SageMaker", path=f"/models/{name}/invoke", body=body)
    named = pictures.as_json({"instances": [instance], "parameters": {"model": name}})
    yield Ask(door="SageMaker", path="/invocations", body=named)
    yield Ask(door="Azure ML", path="/score", body=named)
    yield Ask(door="Vertex", path=VERTEX, body=named)


def _without_model() -> Iterator[Ask]:
    for path in ("/models", "/models/cnn", "/metrics", "/readyz", "/livez", "/ping", "/v2", "/v2/models/cnn"):
        yield Ask(door="metrics" if path == "/metrics" else "models", path=path, method="GET")


def _png(name: str, row: int) -> bytes:
    (array,) = golden_row(_golden(name), row).values()
    buffer = io.BytesIO()
    Image.fromarray(array.reshape(array.shape[-2:]).round().astype("uint8")).save(buffer, "PNG")
    return buffer.getvalue()


def _message(name: str, tensors: Tensors) -> bytes:
    from app.protocols.grpc import inference_pb2

    request = inference_pb2.ModelInferRequest(
        model_name=name,
        inputs=[
            inference_pb2.ModelInferRequest.InferInputTensor(
                name=tensor, datatype=DATATYPES[array.dtype.name], shape=array.shape
            )
            for tensor, array in tensors.items()
        ],
        raw_input_contents=[to_bytes(array) for array in tensors.values()],
    )
    content: bytes = request.SerializeToString()
    return content


def as_document(ask: Ask) -> object:
    """Return the JSON of a request; None where its body is none."""
    return json.loads(ask.body) if ask.content_type == JSON and ask.body else None
