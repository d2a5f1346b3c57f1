"""The answer to an inference request over HTTP: JSON, and behind it the bytes of the outputs that are to be bytes."""

from functools import lru_cache
from typing import Any

import orjson

from app.protocols.answers import BYTES as OCTETS
from app.protocols.answers import JSON, Written
from app.protocols.open_inference.datatypes import BYTES
from app.protocols.open_inference.elements import to_bytes
from app.protocols.open_inference.messages import OutputTensor

HEADER_LENGTH = b"inference-header-content-length"


def write(
    model: str, version: str, request_id: str, outputs: tuple[OutputTensor, ...], *, all_binary: bool = False
) -> Written:
    """Return the answer as it goes over the wire.

    Args:
        model: Who answered.
        version: Of the model.
        request_id: Told where it is not empty.
        outputs: In their order.
        all_binary: Whether outputs that say nothing of it go as bytes.
    """
    told: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for output in outputs:
        array = output.array
        entry: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": array.shape}
        if output.is_binary or (output.is_binary is None and all_binary):
            data = to_bytes(array)
            tail.append(data)
            entry["parameters"] = {"binary_data_size": len(data)}
        elif output.datatype == BYTES:
            entry["data"] = [value.decode("utf-8", "replace") for value in array.reshape(-1)]
        else:
            entry["data"] = array.reshape(-1)
        told.append(entry)
    document: dict[str, Any] = {"model_name": model, "model_version": version}
    if request_id:
        document["id"] = request_id
    document["outputs"] = told
    header = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not tail:
        return Written(JSON, header)
    return Written(OCTETS, b"".join((header, *tail)), header_line(len(header)))


@lru_cache(256)
def header_line(length: int) -> bytes:
    """Return the header line that tells where the JSON ends."""
    return b"%b: %d\r\n" % (HEADER_LENGTH, length)
