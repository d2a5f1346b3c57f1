"""What is answered to a prediction: the body, as JSON or as bytes, and the receipts in its headers.

What can be worked out for a whole batch at once (labels, Python numbers out of arrays) is worked out once, and kept
with the batch for the other requests in it.
"""

from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qsl

import orjson

from app.bundle.manifest import Manifest
from app.errors import Fault, InvalidInput, quoted
from app.serving.jobs import Answer, Batch
from app.tasks import Task
from app.tasks.decoding import raw

DOOR = "predict"
JSON = b"application/json"
BYTES = raw.MEDIA_TYPE.encode()

# an answer of more numbers is written on a thread: so many take a millisecond, for which everybody else would wait
MAX_NUMBERS_ON_LOOP = 10_000
_NUMBERS, _PREDICTIONS = "numbers", "predictions"


class Written(NamedTuple):
    """The body of an answer.

    Attributes:
        media_type: Of the body.
        body: Its bytes.
        lines: Header lines of its own.
    """

    media_type: bytes
    body: bytes
    lines: bytes = b""


class Reply(NamedTuple):
    """A whole answer."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Timed(Protocol):
    """What is told of the way of a request, in seconds."""

    @property
    def queue_s(self) -> float:
        """Until its first row was taken."""
        ...

    @property
    def compute_s(self) -> float:
        """That its batches took."""
        ...

    @property
    def batch_rows(self) -> int:
        """Rows of the last of these."""
        ...


class Answers:
    """Writes the answers of one model.

    Args:
        manifest: Of the model; all its versions have the same outputs.
        task: Of the model.
    """

    def __init__(self, manifest: Manifest, task: Task) -> None:
        self._name = manifest.name
        self._task = task
        self._no_options = task.parse_options({})
        self._outputs = tuple(spec.name for spec in manifest.outputs)

    @property
    def no_options(self) -> Any:
        """The options of a request without a query."""
        return self._no_options

    def to_json(self, version: str, answer: Answer, options: Any) -> Written:
        """Return the predictions as a JSON document; ``options`` as the task has parsed them."""
        return Written(
            JSON,
            orjson.dumps(
                {"model": self._name, "version": version, "predictions": self._predictions(answer, options)},
            ),
        )

    def to_bytes(self, answer: Answer, tensor: str) -> Written:
        """Return one output as it lies in memory: little-endian, in C order, row after row."""
        array = answer.batch.outputs[tensor][answer.start : answer.stop]
        shape = ",".join(map(str, array.shape))
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        told = f"x-tensor: {tensor}; dtype={array.dtype.name}; shape={shape}\r\n".encode()
        return Written(BYTES, array.tobytes(), told)

    def tensor(self, asked: str | None) -> str:
        """Return the output that an answer in bytes is made of: the one that is asked for, else the last.

        Raises:
            InvalidInput: The model has no such output.
        """
        if asked is None:
            return self._outputs[-1]
        if asked not in self._outputs:
            message = f"expected one of {', '.join(self._outputs)}, found {quoted(asked)!r}"
            raise InvalidInput(Fault(pointer="query:tensor", code="unknown_output", message=message))
        return asked

    def _predictions(self, answer: Answer, options: Any) -> list[dict[str, Any]]:
        if options is not self._no_options or count_numbers(answer.batch) > MAX_NUMBERS_ON_LOOP:
            return self._task.encode(answer.outputs, options)
        memo = answer.batch.memo
        predictions: list[dict[str, Any]] | None = memo.get(_PREDICTIONS)
        if predictions is None:
            predictions = memo[_PREDICTIONS] = self._task.encode(answer.batch.outputs, options)
        return predictions[answer.start : answer.stop]


def is_large(answer: Answer) -> bool:
    """Tell whether an answer takes so long to write that it is not to be done on the event loop."""
    if count_numbers(answer.batch) <= MAX_NUMBERS_ON_LOOP:  # of all rows of the batch
        return False
    return sum(array.size for array in answer.outputs.values()) > MAX_NUMBERS_ON_LOOP


def parse_query(query_string: bytes) -> dict[str, str]:
    """Return the parameters of a query; of one that is there twice, the last."""
    return dict(parse_qsl(query_string.decode("latin-1"), keep_blank_values=True)) if query_string else {}


def head_of(written: Written, version: bytes, parse_s: float, answer: Timed) -> bytes:
    """Return the header lines of an answer, but for those of admission."""
    return (
        b"content-type: %b\r\ncontent-length: %d\r\n%bx-model-version: %b\r\n"
        b'server-timing: parse;dur=%.3f, queue;dur=%.3f, compute;dur=%.3f, batch;desc="rows=%d"\r\n'
    ) % (
        written.media_type, len(written.body), written.lines, version,
        parse_s * 1e3, answer.queue_s * 1e3, answer.compute_s * 1e3, answer.batch_rows,
    )  # fmt: skip


def count_numbers(batch: Batch) -> int:
    """Return how many numbers the outputs of a batch hold."""
    numbers: int | None = batch.memo.get(_NUMBERS)
    if numbers is None:
        numbers = batch.memo[_NUMBERS] = sum(array.size for array in batch.outputs.values())
    return numbers
