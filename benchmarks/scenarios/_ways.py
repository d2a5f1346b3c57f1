"""The same numbers in every form that the service takes: predict door and Open Inference Protocol, JSON and bytes."""

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import pictures
from benchmarks.scenarios import _picture_bundle, _v2

PREDICT_JSON, PREDICT_BYTES = "predict, JSON", "predict, bytes"
V2_JSON, V2_BYTES, GRPC = "V2, JSON", "V2, bytes", "V2, gRPC"
NAMES = (PREDICT_JSON, PREDICT_BYTES, V2_JSON, V2_BYTES, GRPC)
CNN, PICTURE = "cnn", _picture_bundle.NAME
TITLES = {CNN: "cnn, 1x28x28", PICTURE: "a small model, 3x224x224"}
CLIENTS = {CNN: 32, PICTURE: 4}
_OCTETS = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One model, and what it is asked.

    Attributes:
        model: Its name.
        field: Name of its input.
        output: What is asked for.
        rows: Each with the batch axis, float32.
        clients: Each with one request in flight.
        instance: What the predict door takes for a row, around the nested numbers.
        read: The scores of an answer of the predict door.
    """

    model: str
    field: str
    output: str
    rows: Sequence[NDArray[np.float32]]
    clients: int
    instance: Callable[[object], object]
    read: Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One door and one form.

    Attributes:
        name: In tables.
        requests: Whole HTTP requests, or serialized messages.
        read: The scores of an answer's body.
        is_grpc: Which of the two.
    """

    name: str
    requests: Sequence[bytes]
    read: Callable[[bytes], NDArray[np.float32]]
    is_grpc: bool = False


def cases() -> tuple[Case, ...]:
    """Return the two models: small tensors, and large ones with little to compute."""
    return (
        Case(
            model=CNN,
            field="image",
            output="probabilities",
            rows=[np.array([picture], np.float32) for picture in pictures.pictures(64)],
            clients=CLIENTS[CNN],
            instance=lambda numbers: {"image": numbers},
            read=lambda prediction: list(prediction["probabilities"].values()),
        ),
        Case(
            model=PICTURE,
            field=_picture_bundle.INPUT,
            output=_picture_bundle.OUTPUT,
            rows=list(_picture_bundle.pictures(8)[:, None]),
            clients=CLIENTS[PICTURE],
            instance=lambda numbers: {"inputs": {_picture_bundle.INPUT: numbers}},
            read=lambda prediction: prediction["outputs"][_picture_bundle.OUTPUT],
        ),
    )


def ways(case: Case) -> tuple[Way, ...]:
    """Return the same rows in every form; without gRPC where it is not installed."""
    path = f"/predict/{case.model}"
    numbers = [_v2.json_numbers(row) for row in case.rows]

    def read(body: bytes) -> NDArray[np.float32]:
        (prediction,) = json.loads(body)["predictions"]
        return np.array(case.read(prediction), np.float32)

    in_json = [pictures.as_json({"instances": [case.instance(row[0].tolist())]}) for row in numbers]
    in_bytes = [row.astype("<f4").tobytes() for row in case.rows]
    asked = [(case.model, case.field, row, case.output) for row in case.rows]
    as_lists = [(case.model, case.field, row, case.output) for row in numbers]
    over_http = (
        Way(name=PREDICT_JSON, requests=pictures.http_requests(path, in_json), read=read),
        Way(name=PREDICT_BYTES, requests=pictures.http_requests(path, in_bytes, _OCTETS), read=read),
        Way(name=V2_JSON, requests=[_v2.json_request(*each) for each in as_lists], read=_v2.read_json),
        Way(name=V2_BYTES, requests=[_v2.binary_request(*each) for each in asked], read=_v2.read_binary),
    )
    if importlib.util.find_spec("grpc") is None:
        return over_http
    messages = [_v2.grpc_request(*each) for each in asked]
    return (*over_http, Way(name=GRPC, requests=messages, read=_v2.read_grpc, is_grpc=True))
