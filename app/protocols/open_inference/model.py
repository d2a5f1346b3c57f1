"""What the Open Inference Protocol has to know of one model: its tensors in, its tensors out, and its labels."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from app.bundle.manifest import Manifest
from app.errors import Fault, InvalidInput, quoted
from app.protocols.open_inference.datatypes import BYTES, KNOWN, datatype_of
from app.protocols.open_inference.messages import InferRequest, InputTensor, OutputTensor, RequestedOutput
from app.serving.jobs import Answer
from app.tasks import NaturalInput, Task
from app.tasks.decoding.named import input_pointer
from app.tensors import Array, Tensors

# what would change the meaning of a request, and is not offered
_REFUSED_PARAMETERS: Mapping[str, str] = {
    "sequence_id": "models here keep nothing between requests, so there are no sequences",
    "shared_memory_region": "no shared memory is read; send the data in the request",
}
MAX_NAMED = 8


class InferModel:
    """Translates between the messages of the protocol and the tensors of one model. Pure.

    Args:
        manifest: Of the model; all its versions have the same inputs and outputs.
        task: Of the model.

    Attributes:
        name: Of the model.
        datatypes: Of the inputs, by name, in the protocol's words.
        outputs: Names of the outputs, in their order.
    """

    def __init__(self, manifest: Manifest, task: Task) -> None:
        self.name = manifest.name
        self.rows = task.named
        self.natural: NaturalInput | None = task.natural
        self.datatypes = {spec.name: datatype_of(spec.dtype) for spec in manifest.inputs}
        self.outputs = tuple(spec.name for spec in manifest.outputs)
        self._output_datatypes = {spec.name: datatype_of(spec.dtype) for spec in manifest.outputs}
        labels: tuple[str, ...] = getattr(manifest.task, "labels", ())
        self._labels = {
            spec.name: labels for spec in manifest.outputs if len(spec.shape) == 2 and spec.shape[1] == len(labels)
        }

    def requested(self, outputs: Sequence[RequestedOutput]) -> tuple[RequestedOutput, ...]:
        """Return the outputs to answer with: those asked for, else all.

        Raises:
            InvalidInput: One is not there, stands twice, or is to be classified into no classes.
        """
        if not outputs:
            return tuple(RequestedOutput(name=name) for name in self.outputs)
        faults = []
        for place, output in enumerate(outputs):
            if output.name not in self.outputs:
                told = f"the model has no such output; it has {', '.join(self.outputs)}"
                faults.append(_output_fault(output.name, "unknown_output", told))
            elif output.name in {other.name for other in outputs[:place]}:
                faults.append(_output_fault(output.name, "duplicate", "it is asked for twice"))
            elif output.classification < 0:
                told = f"expected 1 or more classes, found {output.classification}"
                faults.append(_output_fault(output.name, "out_of_range", told))
            if len(faults) == MAX_NAMED:
                break
        if faults:
            raise InvalidInput(*faults)
        return tuple(outputs)

    def takes_natural(self, request: InferRequest) -> bool:
        """Tell whether a request brings texts or files instead of tensors."""
        return self.natural is not None and any(
            tensor.datatype == BYTES and tensor.name == self.natural.name for tensor in request.inputs
        )

    def expect_good(self, request: InferRequest) -> None:
        """Hold names, datatypes and shapes against the model; no data are read.

        Of natural inputs only the parameters are looked at; their own faults are found where they are read.

        Raises:
            InvalidInput: With every fault, each of which names its tensor.
            TooManyInstances: More rows than one request may hold.
        """
        for name, reason in _REFUSED_PARAMETERS.items():
            if request.parameters.get(name):
                raise InvalidInput(Fault(pointer=f"parameter:{name}", code="not_offered", message=reason))
        if self.takes_natural(request):
            return
        if faults := self._wrong_names(request.inputs) + self._wrong_datatypes(request.inputs):
            raise InvalidInput(*faults[:MAX_NAMED])
        self.rows.expect_shapes({tensor.name: tensor.shape for tensor in request.inputs})

    def read(self, request: InferRequest) -> Tensors:
        """Return the inputs of the manifest; the request has passed :meth:`expect_good`, or brings natural inputs.

        Raises:
            InvalidInput: The data are not what shape and datatype say, or out of range.
            TooManyInstances: More rows than one request may hold.
        """
        if self.takes_natural(request):
            return self._read_natural(request)
        given: Tensors = {}
        for tensor in request.inputs:
            flat = tensor.read(math.prod(tensor.shape))
            given[tensor.name] = flat.reshape(tensor.shape)
        tensors = self.rows.settle(given)
        if tensors is None:
            raise self.rows.faults(given)
        return tensors

    def answer(self, answer: Answer, requested: Sequence[RequestedOutput]) -> tuple[OutputTensor, ...]:
        """Return the outputs that are asked for."""
        found = answer.batch.outputs
        outputs = []
        for output in requested:
            array = found[output.name][answer.start : answer.stop]
            datatype = self._output_datatypes[output.name]
            if output.classification:
                array, datatype = _classes(array, output.classification, self._labels.get(output.name, ())), BYTES
            outputs.append(
                OutputTensor(name=output.name, datatype=datatype, array=array, is_binary=output.is_binary)
            )  # fmt: skip
        return tuple(outputs)

    def _read_natural(self, request: InferRequest) -> Tensors:
        natural = self.natural
        assert natural is not None
        tensor = next(each for each in request.inputs if each.name == natural.name and each.datatype == BYTES)
        if len(request.inputs) > 1:
            told = f"it is the only input where it is sent as BYTES, found {len(request.inputs)}"
            raise InvalidInput(_input_fault(tensor.name, "too_many_inputs", told))
        shape = tensor.shape
        if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1) or shape[0] < 1:
            shown = quoted(", ".join(map(str, shape[:MAX_NAMED])))
            told = f"expected the shape [rows] or [rows, 1], found [{shown}]"
            raise InvalidInput(_input_fault(tensor.name, "wrong_shape", told))
        self.rows.expect_rows(tensor.name, shape[0])
        return natural.decode(tensor.read(shape[0]).tolist())

    def _wrong_names(self, inputs: Sequence[InputTensor]) -> list[Fault]:
        names = [tensor.name for tensor in inputs]
        faults = [
            _input_fault(name, "unknown_input", f"the model has no such input; it has {self._told_inputs()}")
            for name in dict.fromkeys(names)
            if name not in self.datatypes
        ]
        faults += [
            _input_fault(name, "duplicate", "it stands twice in the request")
            for name in self.datatypes
            if names.count(name) > 1
        ]
        faults += [
            _input_fault(name, "missing", f"it is not in the request, which has {_listed(names)}")
            for name in self.datatypes
            if name not in names
        ]
        return faults

    def _wrong_datatypes(self, inputs: Sequence[InputTensor]) -> list[Fault]:
        faults = []
        for tensor in inputs:
            expected = self.datatypes.get(tensor.name)
            if expected is None or tensor.datatype == expected:
                continue
            if tensor.datatype in KNOWN:
                found = f"expected the datatype {expected}, found {tensor.datatype}"
            else:
                found = f"unknown datatype {quoted(tensor.datatype)!r}, expected {expected}"
            faults.append(_input_fault(tensor.name, "wrong_datatype", found))
        return faults

    def _told_inputs(self) -> str:
        told = [f"{name} ({datatype})" for name, datatype in self.datatypes.items()]
        if self.natural is not None:
            told.append(f"{self.natural.name} ({BYTES}) instead of all others")
        return ", ".join(told)


def _classes(array: Array, most: int, labels: Sequence[str]) -> Array:
    """Return the greatest values of every row as ``value:index:label``, best first; object (B, k) of bytes.

    Source: Triton's classification extension.
    """
    rows_BC = array.reshape(len(array), -1)
    # sorted backwards, not negated: whole numbers without a sign, and truth values, have no negatives
    best_BK = rows_BC.shape[1] - 1 - np.argsort(rows_BC[:, ::-1], axis=1, kind="stable")[:, ::-1][:, :most]
    classes = np.empty(best_BK.shape, object)
    for place, index in np.ndenumerate(best_BK):
        value = rows_BC[place[0], index]
        label = f":{labels[int(index)]}" if labels else ""
        classes[place] = f"{value!s}:{index}{label}".encode()
    return classes


def _listed(names: Sequence[str]) -> str:
    return quoted(", ".join(map(quoted, names[:MAX_NAMED]))) or "none"


def _input_fault(name: str, code: str, message: str) -> Fault:
    return Fault(pointer=input_pointer(name), code=code, message=message)


def output_pointer(name: str) -> str:
    """Return the place of an output in a fault."""
    return f"output:{quoted(name)}"


def _output_fault(name: str, code: str, message: str) -> Fault:
    return Fault(pointer=output_pointer(name), code=code, message=message)
