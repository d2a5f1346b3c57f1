"""The body of an inference request over HTTP: JSON, and behind it the bytes of tensors where they come as such.

Sources: the protocol's HTTP/REST document, and Triton's extension for binary tensor data.
"""

from collections.abc import Mapping
from functools import partial
from itertools import islice
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
)

from app.errors import Fault, InvalidInput, MalformedBody
from app.protocols.open_inference.elements import fault, read_binary, read_json
from app.protocols.open_inference.messages import MAX_TENSORS, InferRequest, InputTensor, Parameter, RequestedOutput
from app.protocols.open_inference.model import output_pointer
from app.tasks.decoding.faults import expect_few_members, invalid_input
from app.tasks.decoding.numbers import custom_fault, kind_of
from app.tasks.decoding.strict_json import JsonLimits, parse_json

BINARY_SIZE = "binary_data_size"
_STRICT = ConfigDict(extra="forbid", frozen=True)

_Value = StrictBool | StrictInt | StrictFloat | StrictStr


def _without_nulls(value: object) -> object:
    """Leave out what is null: clients that write every member have it for what their caller has not said."""
    if isinstance(value, dict):
        return {name: each for name, each in value.items() if each is not None}
    return {} if value is None else value


Parameters = Annotated[
    dict[str, _Value], BeforeValidator(_without_nulls, json_schema_input_type=dict[str, _Value | None] | None)
]


class RequestInput(BaseModel):
    """One input: its data as JSON, in one array or nested as the shape is, or as bytes behind the JSON."""

    model_config = _STRICT

    name: StrictStr
    shape: list[StrictInt]
    datatype: StrictStr
    parameters: Parameters = {}
    data: list[Any] | None = None


class RequestOutput(BaseModel):
    """One output that is asked for."""

    model_config = _STRICT

    name: StrictStr
    parameters: Parameters = {}


class InferenceRequest(BaseModel):
    """The JSON of a request."""

    model_config = _STRICT

    id: Annotated[
        StrictStr, BeforeValidator(lambda told: "" if told is None else told, json_schema_input_type=StrictStr | None)
    ] = ""
    parameters: Parameters = {}
    inputs: Annotated[list[RequestInput], Field(min_length=1, max_length=MAX_TENSORS)]
    outputs: Annotated[
        list[RequestOutput],
        Field(max_length=MAX_TENSORS),
        BeforeValidator(
            lambda asked: [] if asked is None else asked, json_schema_input_type=list[RequestOutput] | None
        ),
    ] = []

    @field_validator("id")
    @classmethod
    def _id_can_be_given_back(cls, value: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise custom_fault("not_utf8", "it holds half of a surrogate pair") from None
        return value


def parse(body: bytes, header_length: bytes | None, limits: JsonLimits) -> InferRequest:
    """Read a request. Of its tensors, nothing but the sizes of their bytes is checked.

    Args:
        body: The whole of it.
        header_length: What ``Inference-Header-Content-Length`` says, where it is there: bytes of the JSON.
        limits: What the JSON may hold.

    Raises:
        MalformedBody: It is no JSON, or the length of the JSON is none that the body could have.
        TooManyValues: Its JSON holds more than any good one.
        InvalidInput: The JSON is not that of a request, or the sizes of tensors and body disagree.
    """
    size = len(body) if header_length is None else json_length(header_length, len(body))
    document = parse_json(body[:size], limits)
    return translate(validate(document), memoryview(body)[size:])


def json_length(stated: bytes, body_length: int) -> int:
    """Return how many bytes of a body are JSON.

    Raises:
        MalformedBody: That cannot be.
    """
    if not stated.isdigit() or len(stated) > 18 or not 0 < int(stated) <= body_length:
        raise MalformedBody(
            f"Inference-Header-Content-Length is {stated.decode('latin-1')[:32]!r}, expected the bytes of the JSON at "
            f"the beginning of the body, 1 to {body_length}"
        )
    return int(stated)


def validate(document: object) -> InferenceRequest:
    """Return the request that a JSON document describes.

    Raises:
        InvalidInput: It is none.
    """
    _expect_small(document)
    try:
        return InferenceRequest.model_validate(document)
    except ValidationError as exc:
        raise invalid_input(exc) from exc


def translate(request: InferenceRequest, tail: memoryview) -> InferRequest:
    """Return a request in the words of the protocol.

    Args:
        request: Its JSON.
        tail: The bytes of tensors, one after the other.

    Raises:
        InvalidInput: The sizes of tensors disagree with the tail, or a parameter is impossible.
    """
    inputs = []
    place = 0
    for each in request.inputs:
        size = _binary_size(each)
        if size is None:
            read = partial(read_json, each.name, each.datatype, tuple(each.shape), each.data or [])
        else:
            if size > len(tail) - place:
                told = f"{BINARY_SIZE} is {size}, and the body has {len(tail) - place} bytes left for it"
                raise InvalidInput(fault(each.name, "wrong_length", told))
            read = partial(read_binary, each.name, each.datatype, tail[place : place + size])
            place += size
        inputs.append(InputTensor(name=each.name, datatype=each.datatype, shape=tuple(each.shape), read=read))
    if place != len(tail):
        message = f"{len(tail) - place} bytes stand behind the last tensor; no input says that they are its data"
        raise InvalidInput(Fault(pointer="#", code="wrong_length", message=message))
    all_binary = _flag("parameter:binary_data_output", request.parameters, "binary_data_output", None)
    return InferRequest(
        id=request.id,
        parameters=request.parameters,
        inputs=tuple(inputs),
        outputs=tuple(
            RequestedOutput(
                name=each.name,
                classification=_classification(each),
                is_binary=_flag(output_pointer(each.name), each.parameters, "binary_data", all_binary),
            )
            for each in request.outputs
        ),
    )


def _expect_small(document: object) -> None:
    """Refuse members by the thousand before each would be named."""
    expect_few_members(document)
    if not isinstance(document, dict):
        return
    expect_few_members(document.get("parameters"), "parameters", most=64)
    for key in ("inputs", "outputs"):
        entries = document.get(key)
        for index, entry in enumerate(islice(entries, MAX_TENSORS)) if isinstance(entries, list) else ():
            expect_few_members(entry, key, index)
            if isinstance(entry, dict):
                expect_few_members(entry.get("parameters"), key, index, "parameters", most=64)


def _binary_size(tensor: RequestInput) -> int | None:
    """Return the bytes of a tensor behind the JSON; None where its data stand in the JSON.

    Raises:
        InvalidInput: It has both or neither, or the size is none.
    """
    if "shared_memory_region" in tensor.parameters:
        told = "no shared memory is read; send the data in the request"
        raise InvalidInput(fault(tensor.name, "not_offered", told))
    size = tensor.parameters.get(BINARY_SIZE)
    if size is None:
        if tensor.data is None:
            raise InvalidInput(fault(tensor.name, "missing", f"it has neither data nor {BINARY_SIZE}"))
        return None
    if tensor.data is not None:
        raise InvalidInput(fault(tensor.name, "duplicate", f"it has both data and {BINARY_SIZE}"))
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise InvalidInput(fault(tensor.name, "out_of_range", f"{BINARY_SIZE} is no number of bytes"))
    return size


def _classification(output: RequestOutput) -> int:
    if "shared_memory_region" in output.parameters:
        told = "no shared memory is written; the data come in the answer"
        raise InvalidInput(Fault(pointer=output_pointer(output.name), code="not_offered", message=told))
    count = output.parameters.get("classification", 0)
    if isinstance(count, bool) or not isinstance(count, int) or ("classification" in output.parameters and count < 1):
        message = f"expected classification to be a number of classes, 1 or more, found {str(count)[:32]}"
        raise InvalidInput(Fault(pointer=output_pointer(output.name), code="out_of_range", message=message))
    return count


def _flag(pointer: str, parameters: Mapping[str, Parameter], key: str, default: bool | None) -> bool | None:
    value = parameters.get(key, default)
    if value is None or isinstance(value, bool):
        return value
    message = f"expected {key} to be true or false, found {kind_of(value)}"
    raise InvalidInput(Fault(pointer=pointer, code="wrong_type", message=message))
