"""Named tensors through the Open Inference Protocol: as bytes where both sides can, else as JSON."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zero_to_one_client import datatypes, documents, extras, splitting, wire
from zero_to_one_client.asking import Asker, in_parts, post, segment
from zero_to_one_client.cards import ModelCard
from zero_to_one_client.documents import Document
from zero_to_one_client.errors import InvalidRequest, UnexpectedAnswer
from zero_to_one_client.flows import Flow
from zero_to_one_client.receipts import Receipt
from zero_to_one_client.retries import Deadline

if TYPE_CHECKING:
    from numpy.typing import NDArray

# where the JSON ends and the tensors begin
_HEADER_LENGTH = "inference-header-content-length"
# a body that is nearly the limit in numbers may pass it in names and digits
_FRAME_BYTES = 4096
# of a length
_MOST_DIGITS = 20
# a float32 as JSON: sign, 9 digits, point, exponent, comma
_JSON_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensors(Mapping[str, "NDArray[Any]"]):
    """The outputs of a model, by name.

    Attributes:
        model: Who was asked.
        outputs: The arrays; the first axis counts the rows, as in the inputs. Those of BYTES hold ``bytes``.
        receipts: Of each answer that they came in, in their order: one, but where the batch was split.
    """

    model: str
    outputs: "Mapping[str, NDArray[Any]]"
    receipts: tuple[Receipt, ...]

    @property
    def version(self) -> str:
        """The version that answered; of a split call that of its first part, and ``receipts`` has all of them."""
        return self.receipts[0].version

    def __getitem__(self, name: str) -> "NDArray[Any]":
        return self.outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request on its way.

    Attributes:
        asker: Sends it.
        model: Who is asked.
        version: Who of it; None for what the model's policy says.
        inputs: Arrays by their names.
        outputs: Those asked for; empty for all.
        is_binary: Whether tensors go and come as bytes.
        is_whole: Whether the rows of all inputs go in one request.
        deadline: Of all parts.
    """

    asker: Asker
    model: str
    version: str | None
    inputs: "Mapping[str, NDArray[Any]]"
    outputs: Sequence[str]
    is_binary: bool
    is_whole: bool
    deadline: Deadline

    def ask(self, part: slice) -> Flow["tuple[dict[str, NDArray[Any]], Receipt]"]:
        """Return the outputs for some of the rows."""
        body, headers = self._body(self.inputs if self.is_whole else {n: a[part] for n, a in self.inputs.items()})
        version = "" if self.version is None else f"/versions/{segment(self.version, 'version')}"
        path = f"/v2/models/{segment(self.model, 'model')}{version}/infer"
        answered = yield from self.asker.ask(post(path, body, headers), self.deadline)
        response = answered.response
        document, tail = _parts(response.body, response.headers)
        rows = part.stop - part.start
        told = documents.text_or_none(document, "model_version") or ""
        found = _read(document, tail)
        if not self.is_whole and any(array.shape[:1] != (rows,) for array in found.values()):
            raise UnexpectedAnswer(f"expected {rows} rows, found {', '.join(str(a.shape) for a in found.values())}")
        return found, Receipt.of(response.headers, version=told, rows=rows, tries=answered.tries)

    def _body(self, inputs: "Mapping[str, NDArray[Any]]") -> tuple[bytes, dict[str, str]]:
        entries, tail = [], []
        for name, array in inputs.items():
            datatype = datatypes.datatype_of(array)
            entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(array.shape)}
            if self.is_binary:
                data = _to_bytes(array, datatype)
                entry["parameters"] = {"binary_data_size": len(data)}
                tail.append(data)
            else:
                entry["data"] = _to_list(array, datatype, name)
            entries.append(entry)
        document: dict[str, Any] = {"inputs": entries}
        if self.is_binary:
            document["parameters"] = {"binary_data_output": True}
        if self.outputs:
            document["outputs"] = [{"name": name} for name in self.outputs]
        try:
            head = json.dumps(document, allow_nan=False, separators=(",", ":")).encode("ascii")
        except ValueError as exc:
            raise InvalidRequest(f"{exc}; JSON has no such numbers") from exc
        if not self.is_binary:
            return head, {"content-type": wire.JSON}
        return b"".join((head, *tail)), {"content-type": wire.BYTES, _HEADER_LENGTH: str(len(head))}


def infer(
    asker: Asker,
    model: str,
    inputs: Mapping[str, Any],
    *,
    outputs: Sequence[str],
    version: str | None,
    deadline: Deadline,
) -> Flow[Tensors]:
    """Return the outputs for named inputs, as many rows as there may be.

    Raises:
        ClientError: As :mod:`zero_to_one_client.errors` draws them. One part that fails fails all.
    """
    if not inputs or isinstance(outputs, str):
        raise InvalidRequest("expected at least one input by its name, and the names of outputs in a list")
    card = yield from asker.card(model, deadline)
    is_binary = yield from asker.takes_binary_tensors(deadline)
    arrays = {name: _as_array(name, value, card) for name, value in inputs.items()}
    parts = _split(arrays, card, is_binary=is_binary)
    call = Call(
        asker=asker,
        model=model,
        version=version,
        inputs=arrays,
        outputs=outputs,
        is_binary=is_binary,
        is_whole=len(parts) == 1 and parts[0].stop < 2,
        deadline=deadline,
    )
    answers = yield from in_parts(parts, call.ask)
    return Tensors(
        model=model,
        outputs=_joined([found for found, _ in answers]),
        receipts=tuple(receipt for _, receipt in answers),
    )


def _as_array(name: str, value: Any, card: ModelCard) -> "NDArray[Any]":
    """Return an input as an array of the model's own dtype, where that takes nothing away from it."""
    numpy = extras.numpy("infer")
    if not extras.is_array(value) and _holds_bytes(value):
        # NumPy would cut off the zeros at the end of each
        value = numpy.array(value, object)
    try:
        array: NDArray[Any] = numpy.asarray(value)
    except (ValueError, TypeError) as exc:
        raise InvalidRequest(f"{name}: {exc}") from exc
    wanted = {spec.name: numpy.dtype(spec.dtype) for spec in card.inputs}.get(name)
    if wanted is None or array.dtype == wanted or array.dtype.kind not in "iuf":
        return array
    if not numpy.can_cast(array.dtype, wanted, "same_kind"):
        return array  # the service says what it expects
    with numpy.errstate(over="ignore"):
        cast: NDArray[Any] = array.astype(wanted)
    if wanted.kind in "iu" and not numpy.array_equal(cast, array):
        raise InvalidRequest(f"{name}: a number is out of the range of {wanted}")
    return cast


def _holds_bytes(value: Any) -> bool:
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return isinstance(value, bytes)


def _split(arrays: "Mapping[str, NDArray[Any]]", card: ModelCard, *, is_binary: bool) -> list[slice]:
    """Return the parts of a batch; one for inputs that do not have the same rows, which the service shall judge."""
    counts = {array.shape[0] if array.ndim else 0 for array in arrays.values()}
    if len(counts) != 1 or (rows := counts.pop()) < 2:
        return [slice(0, 1)]
    row_bytes = sum(_row_bytes(array, is_binary=is_binary) for array in arrays.values())
    return splitting.split(
        (row_bytes for _ in range(rows)),
        max_rows=card.limits.max_instances,
        max_bytes=card.limits.max_body_bytes - _FRAME_BYTES,
    )


def _row_bytes(array: "NDArray[Any]", *, is_binary: bool) -> int:
    """Return about how many bytes a row takes; where it is more, the service says so, and the part is halved."""
    if array.dtype.kind in "OSU":
        return sum(map(len, datatypes.elements(array))) // len(array) + 8
    per_row = math.prod(array.shape[1:])
    return per_row * (array.itemsize if is_binary else _JSON_BYTES)


def _to_bytes(array: "NDArray[Any]", datatype: str) -> bytes:
    if datatype == datatypes.BYTES:
        return datatypes.pack(datatypes.elements(array))
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _to_list(array: "NDArray[Any]", datatype: str, name: str) -> list[Any]:
    flat: list[Any] = array.ravel().tolist()
    if datatype != datatypes.BYTES:
        return flat
    try:
        return [element.decode() for element in datatypes.elements(array)]
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"{name}: these bytes are no text, and this service takes no binary tensors") from exc


def _parts(body: bytes, headers: Mapping[str, str]) -> tuple[Document, bytes]:
    """Return the JSON of an answer, and the bytes behind it."""
    told = headers.get(_HEADER_LENGTH)
    if told is None:
        return documents.parse(body, "an inference"), b""
    # Python refuses to read a number of thousands of digits
    is_number = told.isascii() and told.isdecimal() and len(told) <= _MOST_DIGITS
    if not is_number or int(told) > len(body):
        raise UnexpectedAnswer(f"{_HEADER_LENGTH}: {told[:64]!r}, of a body of {len(body)} bytes")
    return documents.parse(body[: int(told)], "an inference"), body[int(told) :]


def _read(document: Document, tail: bytes) -> "dict[str, NDArray[Any]]":
    found: dict[str, NDArray[Any]] = {}
    place = 0
    for entry in documents.objects(document, "outputs"):
        name, datatype = documents.text(entry, "name"), documents.text(entry, "datatype")
        parameters = {} if entry.get("parameters") is None else documents.members(entry, "parameters")
        data: bytes | Sequence[Any]
        if "binary_data_size" in parameters:
            size = documents.whole(parameters, "binary_data_size")
            data, place = tail[place : place + size], place + size
        else:
            data = documents.items(entry, "data")
        try:
            found[name] = _array(data, datatype, documents.items(entry, "shape"))
        except (ValueError, TypeError, OverflowError) as exc:
            raise UnexpectedAnswer(f"the output {name!r} is not what it says: {exc}") from exc
    if place != len(tail):
        raise UnexpectedAnswer(f"expected {place} bytes behind the JSON, found {len(tail)}")
    return found


def _array(data: bytes | Sequence[Any], datatype: str, shape: Sequence[Any]) -> "NDArray[Any]":
    numpy = extras.numpy("infer")
    if not all(isinstance(axis, int) and axis >= 0 for axis in shape):
        raise ValueError(f"no array has the shape {shape}")
    if datatype == datatypes.BYTES:
        found = datatypes.unpack(data) if isinstance(data, bytes) else [str(one).encode() for one in data]
        elements: NDArray[Any] = numpy.empty(len(found), object)
        elements[:] = found
        return elements.reshape(shape)
    if datatype not in datatypes.DTYPES:
        raise UnexpectedAnswer(f"NumPy has no {datatype}")
    dtype = numpy.dtype(datatypes.DTYPES[datatype])
    if isinstance(data, bytes):
        flat = numpy.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False)
    else:
        flat = numpy.array(data, dtype)
    array: NDArray[Any] = flat.reshape(shape)
    return array


def _joined(parts: "Sequence[Mapping[str, NDArray[Any]]]") -> "Mapping[str, NDArray[Any]]":
    if len(parts) == 1:
        return parts[0]
    if any(part.keys() != parts[0].keys() for part in parts):
        raise UnexpectedAnswer("the parts of a batch were answered with different outputs")
    numpy = extras.numpy("infer")
    try:
        return {name: numpy.concatenate([part[name] for part in parts]) for name in parts[0]}
    except ValueError as exc:
        raise UnexpectedAnswer(f"the parts of a batch do not fit together: {exc}") from exc
