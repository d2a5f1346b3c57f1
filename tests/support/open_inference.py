"""Requests and answers of the Open Inference Protocol over HTTP, written out by hand from its documents.

They share nothing with the service: neither its table of datatypes, nor its reading and writing of bytes.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any

import httpx
import numpy as np

from app.bundle.golden import GoldenRows, parse_golden
from app.bundle.loader import BundleRef, open_bundle
from app.tensors import Array, Tensors, take, trim

HEADER_LENGTH = "Inference-Header-Content-Length"
DATATYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16", "float32": "FP32", "float64": "FP64",
    "object": "BYTES",
}  # fmt: skip
_DTYPES = {datatype: dtype for dtype, datatype in DATATYPES.items() if dtype != "object"}


def golden_of(ref: BundleRef) -> GoldenRows:
    """Return the golden rows of a bundle on disk."""
    bundle = open_bundle(ref)
    return parse_golden(bundle.read(bundle.manifest.golden))


def golden_row(golden: GoldenRows, row: int) -> Tensors:
    """Return the inputs of one golden row, without padding."""
    return trim(take(golden.inputs, row, row + 1))


def inputs_of(tensors: Tensors) -> list[dict[str, Any]]:
    """Return the inputs of a request with their data in the JSON."""
    return [_describe(name, array) | {"data": _listed(array)} for name, array in tensors.items()]


def json_body(tensors: Tensors, **more: Any) -> bytes:
    """Return a request with its tensors in the JSON."""
    return json.dumps({"inputs": inputs_of(tensors)} | more).encode()


def binary_body(tensors: Tensors, **more: Any) -> tuple[bytes, dict[str, str]]:
    """Return a request with its tensors behind the JSON, and the headers that say so."""
    data = {name: to_bytes(array) for name, array in tensors.items()}
    inputs = [
        _describe(name, array) | {"parameters": {"binary_data_size": len(data[name])}}
        for name, array in tensors.items()
    ]
    head = json.dumps({"inputs": inputs} | more).encode()
    headers = {HEADER_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
    return head + b"".join(data.values()), headers


def read_answer(response: httpx.Response) -> Tensors:
    """Return the outputs of an answer, whichever way each came."""
    assert response.status_code == 200, response.text
    length = int(response.headers.get(HEADER_LENGTH, len(response.content)))
    document, tail = json.loads(response.content[:length]), response.content[length:]
    outputs = {}
    for output in document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            array: Array = np.array(output["data"], _DTYPES.get(output["datatype"], "object"))
        else:
            array, tail = _from_bytes(tail[:size], output["datatype"]), tail[size:]
        outputs[output["name"]] = array.reshape(output["shape"])
    assert not tail
    return outputs


def to_bytes(array: Array) -> bytes:
    """Return elements as they stand behind the JSON."""
    if array.dtype == np.object_:
        return b"".join(struct.pack("<I", len(value)) + value for value in array.flat)
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def same_tensors(found: Mapping[str, Array], expected: Mapping[str, Array]) -> bool:
    """Tell whether tensors are the same to the bit."""
    return found.keys() == expected.keys() and all(
        found[name].dtype == array.dtype
        and found[name].shape == array.shape
        and (found[name].tobytes() == array.tobytes() if array.dtype != np.object_ else (found[name] == array).all())
        for name, array in expected.items()
    )


def _describe(name: str, array: Array) -> dict[str, Any]:
    return {"name": name, "datatype": DATATYPES[array.dtype.name], "shape": list(array.shape)}


def _listed(array: Array) -> list[Any]:
    flat = array.reshape(-1).tolist()
    return [value.decode() for value in flat] if array.dtype == np.object_ else flat


def _from_bytes(data: bytes, datatype: str) -> Array:
    if datatype != "BYTES":
        return np.frombuffer(data, np.dtype(_DTYPES[datatype]).newbyteorder("<"))
    values, place = [], 0
    while place < len(data):
        (length,) = struct.unpack_from("<I", data, place)
        values.append(data[place + 4 : place + 4 + length])
        place += 4 + length
    return np.array(values, object)
