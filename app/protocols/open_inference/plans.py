"""The short reading of an inference request: what one sender repeats, request after request, is understood once.

The JSON of a request says who, what and how many; only the numbers change. So the JSON without its numbers (and without
an ``id`` at its beginning) is the key to a :class:`Plan`: what it asks for, found good once. A request whose plan is
known costs a lookup, a view of its bytes and a look at its numbers.

It only accepts. Whatever is in doubt is left to :mod:`app.protocols.open_inference.http_body`, which names the faults.
"""

import math
import re
from typing import Any, NamedTuple

import numpy as np
import simdjson

from app.errors import RequestError
from app.protocols.open_inference.datatypes import DTYPES
from app.protocols.open_inference.http_body import BINARY_SIZE, InferenceRequest, translate, validate
from app.protocols.open_inference.messages import RequestedOutput
from app.protocols.open_inference.model import InferModel
from app.tasks.decoding.parsers import parser_for
from app.tasks.decoding.strict_json import JsonLimits, parse_json
from app.tensors import Array, Tensors

# of each model; a key is a JSON document without its numbers
MAX_PLANS, MAX_KEY_BYTES = 256, 4096
# what may be asked for without a look at the whole request
_PARAMETERS = frozenset(("binary_data_output",))
# as clients write it, first; an id that needs an escape is read the long way
_ID_FIRST = re.compile(rb'\{"id":\s?"([^"\\\x00-\x1f\x7f-\xff]*)",\s?')
_ID, _DATA = b'{"id"', b'"data"'
_BETWEEN = re.compile(rb"\s*:\s*\[")


class Wanted(NamedTuple):
    """What a request wants back.

    Attributes:
        outputs: In their order.
        all_binary: Whether outputs that say nothing of it go as bytes.
        id: Of the request.
    """

    outputs: tuple[RequestedOutput, ...]
    all_binary: bool
    id: str = ""


class _Input(NamedTuple):
    name: str
    dtype: "np.dtype[Any]"
    shape: tuple[int, ...]
    elements: int
    num_bytes: int


class Plan(NamedTuple):
    """What the JSON of a request says, without numbers."""

    inputs: tuple[_Input, ...]
    wanted: Wanted
    num_bytes: int


class Plans:
    """Reads the requests of one model the short way.

    Args:
        model: Theirs.
        limits: What a plan's JSON may hold.
    """

    def __init__(self, model: InferModel, limits: JsonLimits) -> None:
        self._model = model
        self._limits = limits
        self._plans: dict[bytes, Plan] = {}

    def read(self, body: bytes, header_length: bytes | None) -> tuple[Tensors, Wanted] | None:
        """Return the inputs of the manifest and what is wanted; None where there is any doubt, and never a fault.

        Only on the event loop's thread.

        Args:
            body: The whole of it.
            header_length: What ``Inference-Header-Content-Length`` says, where it is there.
        """
        found = self._of_json(body) if header_length is None else self._of_bytes(body, header_length)
        if found is None:
            return None
        given, wanted = found
        tensors = self._model.rows.settle(given)
        return None if tensors is None else (tensors, wanted)

    def _of_bytes(self, body: bytes, header_length: bytes) -> tuple[Tensors, Wanted] | None:
        size = int(header_length) if header_length.isdigit() and len(header_length) < 10 else 0
        if not 0 < size <= len(body):
            return None
        key, request_id = _without_id(body[:size])
        plan = self._plans.get(key) or self._learn(key, memoryview(body)[size:])
        # a plan without bytes is of requests whose numbers stand in the JSON, and here there would be none
        if plan is None or not plan.num_bytes or plan.num_bytes != len(body) - size:
            return None
        given: Tensors = {}
        for name, dtype, shape, count, num_bytes in plan.inputs:
            array: Array = np.frombuffer(body, dtype, count, size)
            size += num_bytes
            # behind JSON of any length, numbers may lie across the words that runtimes read
            given[name] = (array if array.flags.aligned else array.copy()).reshape(shape)
        return given, plan.wanted if request_id is None else plan.wanted._replace(id=request_id)

    def _of_json(self, body: bytes) -> tuple[Tensors, Wanted] | None:
        parts = _cut(body)
        if parts is None:
            return None
        skeleton, data = parts
        key, request_id = _without_id(skeleton)
        plan = self._plans.get(key) or self._learn(key, None)
        if plan is None or len(plan.inputs) != len(data) or plan.num_bytes:
            return None
        given: Tensors = {}
        for (name, dtype, shape, count, _), text in zip(plan.inputs, data, strict=True):
            flat = self._numbers(text, dtype)
            if flat is None or flat.size != count:
                return None
            given[name] = flat.reshape(shape)
        return given, plan.wanted if request_id is None else plan.wanted._replace(id=request_id)

    def _numbers(self, text: bytes, dtype: "np.dtype[Any]") -> Array | None:
        """Return the numbers of a flat JSON array; None where there are others than the type takes."""
        try:
            array = parser_for(len(text)).parse(text)
            if not isinstance(array, simdjson.Array):
                return None
            if dtype.kind == "f":
                with np.errstate(over="ignore"):  # what is too large becomes infinite, and is found by its bounds
                    return np.frombuffer(array.as_buffer(of_type="d")).astype(dtype)
            whole: Array = np.frombuffer(array.as_buffer(of_type="i"), np.int64)
        except (ValueError, TypeError, RuntimeError):
            return None
        narrow = whole.astype(dtype)
        return narrow if np.array_equal(narrow, whole) else None

    def _learn(self, key: bytes, tail: memoryview | None) -> Plan | None:
        """Understand a request's JSON without its numbers; None where it is not plain, or not good."""
        if len(key) > MAX_KEY_BYTES:
            return None
        try:
            plan = self._plan(validate(parse_json(key, self._limits)), tail)
        except RequestError:
            return None
        if plan is not None:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def _plan(self, document: InferenceRequest, tail: memoryview | None) -> Plan | None:
        is_binary, model = tail is not None, self._model
        if "id" in document.model_fields_set or not _PARAMETERS.issuperset(document.parameters):
            return None
        told = {BINARY_SIZE} if is_binary else set()
        if any(set(each.parameters) != told or each.data != (None if is_binary else []) for each in document.inputs):
            return None
        request = translate(document, memoryview(b"") if tail is None else tail)
        # classes are sorted on a thread where there are many
        if model.takes_natural(request) or any(output.classification for output in request.outputs):
            return None
        model.expect_good(request)
        inputs = []
        for tensor in request.inputs:
            dtype, count = DTYPES[tensor.datatype], math.prod(tensor.shape)
            if dtype.kind == "b":
                return None
            inputs.append(_Input(tensor.name, dtype, tensor.shape, count, count * dtype.itemsize if is_binary else 0))
        if [each.parameters.get(BINARY_SIZE, 0) for each in document.inputs] != [each.num_bytes for each in inputs]:
            return None
        wanted = Wanted(model.requested(request.outputs), request.parameters.get("binary_data_output") is True)
        return Plan(tuple(inputs), wanted, sum(each.num_bytes for each in inputs))


def _without_id(key: bytes) -> tuple[bytes, str | None]:
    """Return a JSON object without the ``id`` that it begins with, and the id; None where it begins with another."""
    found = _ID_FIRST.match(key) if key.startswith(_ID) else None
    return (key, None) if found is None else (b"{" + key[found.end() :], found[1].decode("ascii"))


def _cut(body: bytes) -> tuple[bytes, list[bytes]] | None:
    """Return a JSON document with every ``"data": [...]`` emptied, and what was in each, brackets included.

    What was in them is to be parsed as flat arrays of numbers: then no quote was among it, and the emptied document
    means what the whole one does, without the numbers.
    """
    kept: list[bytes] = []
    data: list[bytes] = []
    place = start = 0
    while (found := body.find(_DATA, start)) >= 0:
        start = found + len(_DATA)
        opens = _BETWEEN.match(body, start)
        if opens is None:  # the word as a value
            continue
        closes = body.find(b"]", opens.end())
        if closes < 0:
            return None
        data.append(body[opens.end() - 1 : closes + 1])
        kept.append(body[place : opens.end()])
        place = start = closes
    if not data:
        return None
    kept.append(body[place:])
    return b"".join(kept), data
