"""Requests of the Open Inference Protocol that bring the same numbers in each of its forms."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import pictures

HEADER_LENGTH = "Inference-Header-Content-Length"


def path(model: str) -> str:
    """Return where a model infers."""
    return f"/v2/models/{model}/infer"


def json_request(model: str, name: str, row: NDArray[Any], output: str) -> bytes:
    """Return a whole HTTP request that brings a row as numbers in JSON, in one list as Triton's clients write them.

    Args:
        model: Asked.
        name: Of the input.
        row: With the batch axis, as :func:`json_numbers` returns it.
        output: Asked for.
    """
    document = {"inputs": [_input(name, row, data=row.ravel().tolist())], "outputs": [{"name": output}]}
    return pictures.http_requests(path(model), [pictures.as_json(document)])[0]


def binary_request(model: str, name: str, row: NDArray[np.float32], output: str) -> bytes:
    """Return a whole HTTP request that brings a row as bytes behind the JSON, and asks for the answer likewise."""
    data = row.astype("<f4").tobytes()
    header = pictures.as_json(
        {
            "inputs": [_input(name, row, parameters={"binary_data_size": len(data)})],
            "outputs": [{"name": output, "parameters": {"binary_data": True}}],
        }
    )
    (request,) = pictures.http_requests(path(model), [header + data], "application/octet-stream")
    return request.replace(b"\r\n\r\n", b"\r\n%s: %d\r\n\r\n" % (HEADER_LENGTH.encode(), len(header)), 1)


def grpc_request(model: str, name: str, row: NDArray[np.float32], output: str) -> bytes:
    """Return a serialized ``ModelInferRequest`` that brings a row as raw bytes."""
    from app.protocols.grpc import inference_pb2 as messages

    request = messages.ModelInferRequest(
        model_name=model,
        inputs=[messages.ModelInferRequest.InferInputTensor(name=name, datatype="FP32", shape=row.shape)],
        outputs=[messages.ModelInferRequest.InferRequestedOutputTensor(name=output)],
        raw_input_contents=[row.astype("<f4").tobytes()],
    )
    content: bytes = request.SerializeToString()
    return content


def read_json(body: bytes) -> NDArray[np.float32]:
    """Return the one output of an answer in JSON."""
    (output,) = json.loads(body)["outputs"]
    return np.array(output["data"], np.float32)


def read_binary(body: bytes) -> NDArray[np.float32]:
    """Return the one output of an answer with bytes behind its JSON, whose end the JSON itself tells."""
    document, end = json.JSONDecoder().raw_decode(body.decode("latin-1"))
    (output,) = document["outputs"]
    size = output["parameters"]["binary_data_size"]
    if len(body) != end + size:
        raise ValueError(f"the answer has {len(body) - end} bytes behind its JSON, and says {size}")
    return np.frombuffer(body[end:], "<f4")


def read_grpc(message: bytes) -> NDArray[np.float32]:
    """Return the one output of a serialized ``ModelInferResponse``."""
    from app.protocols.grpc import inference_pb2 as messages

    (raw,) = messages.ModelInferResponse.FromString(message).raw_output_contents
    return np.frombuffer(raw, "<f4")


def json_numbers(row: NDArray[np.float32]) -> NDArray[Any]:
    """Return an array of Python's numbers whose JSON is as short as it can be, and still the same float32."""
    numbers = np.empty(row.size, object)
    numbers[:] = [int(value) if value == int(value) else float(str(value)) for value in row.ravel()]
    return numbers.reshape(row.shape)


def _input(name: str, row: NDArray[Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": "FP32", "shape": list(row.shape), **more}
