"""The instances of a request as bodies: JSON for all, plain bytes for arrays where the model takes them."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from zero_to_one_client import extras, wire
from zero_to_one_client.cards import ModelCard, TensorSpec
from zero_to_one_client.errors import InvalidRequest
from zero_to_one_client.tasks import Request

_HEAD, _TAIL = b'{"instances":[', b"]}"


class Batch(Protocol):
    """All instances of a call.

    Attributes:
        media_type: Of a body.
        frame_bytes: Of a body beside its instances.
    """

    media_type: str
    frame_bytes: int

    def __len__(self) -> int: ...

    def sizes(self) -> Iterable[int]:
        """Return the bytes of each instance in a body."""
        ...

    def body(self, part: slice) -> bytes:
        """Return the body with some of the instances."""
        ...


class JsonBatch:
    """Instances as JSON, each written once."""

    media_type = wire.JSON
    frame_bytes = len(_HEAD) + len(_TAIL)

    def __init__(self, rows: list[bytes]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def sizes(self) -> Iterable[int]:
        """Return the bytes of each instance, with its comma."""
        return (len(row) + 1 for row in self._rows)

    def body(self, part: slice) -> bytes:
        """Return the body with some of the instances."""
        return b"%b%b%b" % (_HEAD, b",".join(self._rows[part]), _TAIL)


class ByteBatch:
    """Instances as plain bytes: one array of the dtype and shape that the model takes, little-endian, in C order."""

    media_type = wire.BYTES
    frame_bytes = 0

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def sizes(self) -> Iterable[int]:
        """Return the bytes of each instance."""
        return (self._rows[0].nbytes for _ in range(len(self)))

    def body(self, part: slice) -> bytes:
        """Return the body with some of the instances."""
        body: bytes = self._rows[part].tobytes()
        return body


def encode(request: Request[Any], card: ModelCard, *, may_be_binary: bool) -> Batch:
    """Return the instances of a request, as bytes where they are arrays and the model takes them so.

    Raises:
        InvalidRequest: An instance cannot be sent.
    """
    instances = request.instances(card)
    spec = card.inputs[0]
    is_fixed = card.bytes_layout is not None and all(isinstance(axis, int) for axis in spec.shape[1:])
    if may_be_binary and is_fixed and request.takes_arrays:
        rows = _as_rows(instances, spec)
        if rows is not None:
            return ByteBatch(rows)
    return JsonBatch([_dumps(request, instance, card, index) for index, instance in enumerate(instances)])


def _as_rows(instances: Sequence[Any], spec: TensorSpec) -> Any:
    """Return arrays as the one that the model takes; None where they are none, or of another shape.

    Those of another shape go as JSON, so that the service says in its own words what is wrong: as bytes, a picture of
    14x56 would pass for one of 28x28.
    """
    shape = spec.shape[1:]
    if extras.is_array(instances):
        arrays: Any = instances
        if arrays.shape[1:] != shape:
            return None
    elif not all(extras.is_array(one) and one.shape == shape for one in instances):
        return None
    else:
        arrays = extras.numpy("an array").stack(instances)
    if arrays.dtype.kind not in "biuf":
        return None
    numpy = extras.numpy("an array")
    with numpy.errstate(over="ignore"):  # what is too large becomes an infinity, which the service refuses by its place
        return numpy.ascontiguousarray(arrays, numpy.dtype(spec.dtype).newbyteorder("<"))


def _dumps(request: Request[Any], instance: Any, card: ModelCard, index: int) -> bytes:
    try:
        text = json.dumps(request.to_json(instance, card), allow_nan=False, separators=(",", ":"), default=_default)
    except InvalidRequest as exc:
        raise type(exc)(f"instance {index}: {exc}") from exc
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidRequest(f"instance {index}: {exc}") from exc
    return text.encode("ascii")


def _default(value: object) -> Any:
    """Return what JSON knows nothing of as something that it knows."""
    if extras.is_numpy(value):
        return value.tolist()
    raise TypeError(f"expected what JSON can hold, found {type(value).__name__}")
