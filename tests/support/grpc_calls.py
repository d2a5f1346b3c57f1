"""Calls of the Open Inference Protocol over gRPC, as Triton's clients write them or damaged on purpose, and counts."""

from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.grpc import service_pb2 as pb

from app.protocols.open_inference.datatypes import datatype_of
from app.tensors import Tensors
from tests.support.server import RunningService

INFER = "/inference.GRPCInferenceService/ModelInfer"
PICTURE: Tensors = {"image": np.ones((1, 2, 3), np.float32)}


def inputs_of(tensors: Tensors, module: Any = triton) -> list[Any]:
    inputs = []
    for name, array in tensors.items():
        given = module.InferInput(name, array.shape, datatype_of(array.dtype.name))
        given.set_data_from_numpy(array)
        inputs.append(given)
    return inputs


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
