"""Inference requests and answers, from and to the messages of the protocol.

Nothing of a tensor is read before its name, datatype and shape have been found good. Bytes are viewed, not copied.
"""

from functools import partial
from typing import Any

import numpy as np

from app.errors import Fault, InvalidInput, quoted
from app.protocols.grpc.inference_pb2 import InferParameter, ModelInferRequest, ModelInferResponse
from app.protocols.open_inference.datatypes import BYTES, DTYPES
from app.protocols.open_inference.elements import fault, read_binary, to_bytes
from app.protocols.open_inference.messages import (
    MAX_TENSORS,
    InferRequest,
    InferResponse,
    InputTensor,
    Parameter,
    RequestedOutput,
)
from app.tensors import Array

# the field of typed contents for each datatype; FP16 and BF16 have none
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
# what NumPy reads a field as before its numbers are held against the datatype
_WIDE = {"int_contents": np.int32, "uint_contents": np.uint32}


def parse(message: ModelInferRequest) -> InferRequest:
    """Return the request of a message; of its tensors nothing is read.

    Raises:
        InvalidInput: There are too many tensors, raw contents are not one for each input or come together with typed
            ones, or something is asked for that is not offered.
    """
    raw = message.raw_input_contents
    _expect_few(message)
    inputs = []
    for place, tensor in enumerate(message.inputs):
        name = tensor.name
        _expect_no_shared_memory(tensor.parameters, f"input:{quoted(name)}")
        if raw:
            if tensor.HasField("contents"):
                told = "its data stand in its contents and in raw_input_contents; send them once"
                raise InvalidInput(fault(name, "ambiguous", told))
            read = partial(_read_raw, name, tensor.datatype, raw[place])
        else:
            read = partial(_read_typed, tensor)
        inputs.append(InputTensor(name=name, datatype=tensor.datatype, shape=tuple(tensor.shape), read=read))
    return InferRequest(
        inputs=tuple(inputs),
        outputs=tuple(_requested(output) for output in message.outputs),
        id=message.id,
        parameters=_parameters(message.parameters) if message.parameters else {},
    )


def serialize(response: InferResponse, *, is_typed: bool) -> bytes:
    """Return an answer as it is written.

    Args:
        response: The answer.
        is_typed: Whether the tensors of the request came as typed contents: they go back in the same form, where their
            datatypes have one.
    """
    message = ModelInferResponse(model_name=response.model, model_version=response.version, id=response.id)
    is_typed = is_typed and all(output.datatype in CONTENTS for output in response.outputs)
    for output in response.outputs:
        tensor = message.outputs.add(name=output.name, datatype=output.datatype, shape=output.array.shape)
        if is_typed:
            elements = output.array.reshape(-1).tolist()
            getattr(tensor.contents, CONTENTS[output.datatype]).extend(elements)
        else:
            message.raw_output_contents.append(to_bytes(output.array))
    return message.SerializeToString()


def has_typed_contents(message: ModelInferRequest) -> bool:
    """Tell whether the tensors of a request come as typed contents."""
    return not message.raw_input_contents


def _expect_few(message: ModelInferRequest) -> None:
    for what, count in (("inputs", len(message.inputs)), ("outputs", len(message.outputs))):
        if count > MAX_TENSORS:
            told = f"a request may name {MAX_TENSORS} {what}, found {count}"
            raise InvalidInput(Fault(pointer=what, code="too_many", message=told))
    raw = len(message.raw_input_contents)
    if raw and raw != len(message.inputs):
        told = f"expected one entry for each of {len(message.inputs)} inputs, or none at all; found {raw}"
        if raw < len(message.inputs):
            told += f"; {quoted(message.inputs[raw].name)!r} is the first without"
        raise InvalidInput(Fault(pointer="raw_input_contents", code="wrong_length", message=told))


def _expect_no_shared_memory(parameters: Any, pointer: str) -> None:
    if parameters and "shared_memory_region" in parameters:
        told = "no shared memory is read or written; send the data in the request"
        raise InvalidInput(Fault(pointer=pointer, code="not_offered", message=told))


def _requested(output: ModelInferRequest.InferRequestedOutputTensor) -> RequestedOutput:
    if not output.parameters:
        return RequestedOutput(name=output.name)
    pointer = f"output:{quoted(output.name)}"
    _expect_no_shared_memory(output.parameters, pointer)
    classes = _parameters(output.parameters).get("classification", 0)
    if isinstance(classes, bool) or not isinstance(classes, int):
        told = f"expected a whole number as classification, found {quoted(str(classes))!r}"
        raise InvalidInput(Fault(pointer=pointer, code="wrong_type", message=told))
    return RequestedOutput(name=output.name, classification=classes)


def _parameters(given: Any) -> dict[str, Parameter]:
    return {name: _value(parameter) for name, parameter in given.items()}


def _value(parameter: InferParameter) -> Parameter:
    chosen = parameter.WhichOneof("parameter_choice")
    value: Parameter = "" if chosen is None else getattr(parameter, chosen)
    return value


def _read_raw(name: str, datatype: str, data: bytes, count: int) -> Array:
    return read_binary(name, datatype, memoryview(data), count)


def _read_typed(tensor: ModelInferRequest.InferInputTensor, count: int) -> Array:
    """Return the elements of typed contents.

    Raises:
        InvalidInput: They stand in another field than that of the datatype, are not as many as the shape asks for, or
            are beyond what the datatype holds.
    """
    name, datatype = tensor.name, tensor.datatype
    field = CONTENTS.get(datatype)
    if field is None:
        told = f"{datatype} has no typed contents; send it in raw_input_contents"
        raise InvalidInput(fault(name, "wrong_type", told))
    if others := [other.name for other, _ in tensor.contents.ListFields() if other.name != field]:
        raise InvalidInput(fault(name, "wrong_type", f"{datatype} belongs into {field}, found {', '.join(others)}"))
    elements = getattr(tensor.contents, field)
    if len(elements) != count:
        told = f"its shape asks for {count} elements, {field} has {len(elements)}"
        raise InvalidInput(fault(name, "wrong_length", told))
    if datatype == BYTES:
        values = np.empty(count, object)
        values[:] = elements
        return values
    dtype = DTYPES[datatype]
    wide = np.fromiter(elements, _WIDE.get(field, dtype), count)
    if wide.dtype == dtype:
        return wide
    narrow = wide.astype(dtype)
    if (wrong := narrow != wide).any():
        place = int(wrong.argmax())
        bounds = np.iinfo(dtype.name)
        told = f"{datatype} holds numbers from {bounds.min} to {bounds.max}, found {wide[place]} at [{place}]"
        raise InvalidInput(fault(name, "out_of_range", told))
    return narrow
