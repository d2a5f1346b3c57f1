"""Outputs of one batch as bytes: worked out once for all whose rows were in it, and each is given its slice."""

from collections.abc import Sequence

import orjson

from app.protocols.answers import BYTES, Written
from app.protocols.open_inference.elements import to_bytes
from app.protocols.open_inference.http_answer import header_line
from app.protocols.open_inference.messages import OutputTensor, RequestedOutput


class BatchBytes:
    """The answers to all requests of a batch that ask for the same outputs, as bytes behind the JSON.

    Args:
        model: Who answered.
        version: Of the model.
        outputs: Of all rows of the batch, in their order; numbers.
    """

    __slots__ = ("_begin", "_ends", "_outputs", "_parts")

    def __init__(self, model: str, version: str, outputs: Sequence[OutputTensor]) -> None:
        self._begin = orjson.dumps({"model_name": model, "model_version": version})[:-1]
        self._outputs = outputs
        self._parts = [(data := to_bytes(output.array), len(data) // len(output.array)) for output in outputs]
        self._ends: dict[int, bytes] = {}

    def rows(self, start: int, stop: int, request_id: str) -> Written:
        """Return the answer to one request.

        Args:
            start: Its first row.
            stop: The row behind its last.
            request_id: Told where it is not empty; of characters that JSON writes as they are.
        """
        begin = b'%b,"id":"%b"' % (self._begin, request_id.encode()) if request_id else self._begin
        end = self._ends.get(stop - start)
        if end is None:
            end = self._ends[stop - start] = self._end(stop - start)
        tail = [data[start * size : stop * size] for data, size in self._parts]
        return Written(BYTES, b"".join((begin, end, *tail)), header_line(len(begin) + len(end)))

    def _end(self, rows: int) -> bytes:
        """Return the JSON of the outputs of so many rows, from the comma on."""
        told = [
            {
                "name": output.name,
                "datatype": output.datatype,
                "shape": (rows, *output.array.shape[1:]),
                "parameters": {"binary_data_size": rows * size},
            }
            for output, (_, size) in zip(self._outputs, self._parts, strict=True)
        ]
        return b"," + orjson.dumps({"outputs": told})[1:]


def are_bytes(outputs: Sequence[RequestedOutput], *, all_binary: bool) -> bool:
    """Tell whether all outputs that are asked for go as bytes, and none as classes.

    Args:
        outputs: As they are asked for.
        all_binary: Whether those that say nothing of it go as bytes.
    """
    return all(
        not output.classification and (all_binary if output.is_binary is None else output.is_binary)
        for output in outputs
    )
