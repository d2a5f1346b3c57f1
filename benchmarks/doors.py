"""How servers want to be asked, and what their answers say: the same instance and the same answer in other words."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.pictures import as_json
from benchmarks.workloads import Workload

# answers are rounded to float32, and a batch adds up in another order than a row alone
TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said of one instance.

    Attributes:
        decision: The label; of a picture that was drawn again, whether it is an anomaly.
        numbers: All probabilities in the order of the labels; or the error, and the code.
    """

    decision: str
    numbers: tuple[float, ...]

    def says_the_same_as(self, other: "Answer") -> bool:
        """Compare within the tolerance, which grows with the numbers."""
        return (
            self.decision == other.decision
            and len(self.numbers) == len(other.numbers)
            and np.allclose(self.numbers, other.numbers, rtol=TOLERANCE, atol=TOLERANCE)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One way to ask.

    Attributes:
        content_type: Of the bodies.
        body: The body that asks for one instance.
        read: What an answer's body says.
    """

    content_type: str
    body: Callable[[Workload, Any], bytes]
    read: Callable[[Workload, bytes], Answer]


def _instances_body(workload: Workload, value: Any) -> bytes:
    return as_json({"instances": [{workload.field: value}]})


def _read_predictions(workload: Workload, body: bytes) -> Answer:
    document = json.loads(body)
    (prediction,) = document["predictions"] if isinstance(document, dict) else document
    if not workload.labels:
        return Answer(str(prediction["anomaly"]), (prediction["error"], *prediction["code"]))
    return Answer(prediction["label"], tuple(prediction["probabilities"][label] for label in workload.labels))


def _v2_body(workload: Workload, value: Any) -> bytes:
    """Return a body of the Open Inference Protocol, version 2."""
    if workload.field == "text":
        tensor = {"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": [value]}
    else:
        flat = [number for row in value for number in row]
        tensor = {"name": "image", "shape": [1, len(value), len(value[0])], "datatype": "FP32", "data": flat}
    return as_json({"inputs": [tensor]})


def _read_v2(workload: Workload, body: bytes) -> Answer:
    found: Mapping[str, Any] = {output["name"]: output["data"] for output in json.loads(body)["outputs"]}
    if not workload.labels:
        return Answer(str(bool(found["anomaly"][0])), (found["error"][0], *found["code"]))
    return Answer(found["label"][0], tuple(found["probabilities"]))


def _raw_body(workload: Workload, value: Any) -> bytes:
    return np.array(value, "<f4").tobytes()


DOORS: Mapping[str, Door] = {
    "instances": Door(content_type="application/json", body=_instances_body, read=_read_predictions),
    "v2": Door(content_type="application/json", body=_v2_body, read=_read_v2),
    # of the floor, which says nothing
    "none": Door(content_type="application/json", body=_instances_body, read=lambda workload, body: Answer("", ())),
    "raw": Door(content_type="application/octet-stream", body=_raw_body, read=_read_predictions),
}
