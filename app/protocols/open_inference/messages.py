"""The messages of the Open Inference Protocol without their wire: what HTTP and gRPC translate from and to.

Sources: https://github.com/open-inference/open-inference-protocol, and Triton's documents of the extensions
(binary tensor data, classification, statistics, model configuration, model repository).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from app.tensors import Array

# of a request, each of inputs and outputs
MAX_TENSORS = 256

Parameter: TypeAlias = bool | int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTensor:
    """One input of a request, as its sender describes it; nothing is checked yet.

    Attributes:
        name: Of the input.
        datatype: In the words of the protocol: ``FP32``, ``INT64``, ``BYTES``.
        shape: As stated; any whole numbers.
        read: Returns the elements in one axis, of the dtype that ``datatype`` names; of BYTES an object array of
            ``bytes``. Called once name, datatype and shape have been found good, so that nothing that is refused costs
            anything. Takes the number of elements that the shape asks for.
            Raises :class:`app.errors.InvalidInput` where the data are not as many, or not what the datatype says.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    read: Callable[[int], Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedOutput:
    """One output that is asked for.

    Attributes:
        name: Of the output.
        classification: How many of the best classes to tell instead of the numbers; 0 for the numbers.
        is_binary: Whether as bytes behind the JSON; None where nothing is said. Over gRPC it means nothing.
    """

    name: str
    classification: int = 0
    is_binary: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """A request for inference.

    Attributes:
        inputs: As they were sent.
        outputs: Those that are asked for, in their order; empty for all.
        id: Given back with the answer; empty where none was given.
        parameters: Of the request.
    """

    inputs: tuple[InputTensor, ...]
    outputs: tuple[RequestedOutput, ...] = ()
    id: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


class OutputTensor(NamedTuple):
    """One output of an answer.

    Attributes:
        name: Of the output.
        datatype: In the words of the protocol.
        array: The numbers in their shape; of BYTES an object array of ``bytes``.
        is_binary: Whether it was asked for as bytes; None where nothing was said.
    """

    name: str
    datatype: str
    array: Array
    is_binary: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InferResponse:
    """The answer to a request for inference.

    Attributes:
        model: Its name.
        version: The one that answered.
        id: That of the request.
        outputs: Those asked for, in their order.
        parse_s: Seconds from the head of the request to its place in the queue.
        queue_s: Seconds until its first row was taken.
        compute_s: Seconds of the batches that its rows ran in.
        batch_rows: Rows of the last of these.
    """

    model: str
    version: str
    id: str
    outputs: tuple[OutputTensor, ...]
    parse_s: float
    queue_s: float
    compute_s: float
    batch_rows: int
