"""Golden rows: requests, tensors and responses of the trainer, in one ``.npz`` without pickles."""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.bundle.manifest import Tolerance
from app.errors import BundleError, BundleNotProven
from app.tensors import Tensors, num_rows

# of a golden file once it is inflated; deflate makes a thousand bytes of one
MAX_INFLATED_BYTES = 512 * 2**20
_INPUT, _OUTPUT = "input.", "output."
_REQUESTS, _RESPONSES = "requests", "responses"


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenRows:
    """What went in and what came out when the trainer measured the network.

    Attributes:
        requests: One instance per row, as it stands in the body of a request.
        inputs: The tensors that the requests become; B rows.
        outputs: What the trainer's own eager network made of them; B rows.
        responses: One prediction per row, as it stands in the body of a response.
    """

    requests: list[Any]
    inputs: Tensors
    outputs: Tensors
    responses: list[Any]

    def __len__(self) -> int:
        return len(self.requests)


def dump_golden(golden: GoldenRows) -> bytes:
    """Serialise golden rows; the same rows give the same bytes, so that a digest tells whether they changed."""
    arrays = {_INPUT + name: array for name, array in golden.inputs.items()}
    arrays |= {_OUTPUT + name: array for name, array in golden.outputs.items()}
    for key, rows in ((_REQUESTS, golden.requests), (_RESPONSES, golden.responses)):
        arrays[key] = np.frombuffer(json.dumps(rows, allow_nan=False, separators=(",", ":")).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def parse_golden(data: bytes) -> GoldenRows:
    """Read what :func:`dump_golden` wrote.

    Raises:
        BundleError: It is no such file, holds pickled objects, would fill the memory, or its parts disagree about the
            number of rows.
    """
    try:
        # what a part says of its size is where its reader stops
        with zipfile.ZipFile(io.BytesIO(data)) as parts:
            size_bytes = sum(part.file_size for part in parts.infolist())
        if size_bytes > MAX_INFLATED_BYTES:
            raise BundleError(f"it inflates to {size_bytes} bytes, at most {MAX_INFLATED_BYTES} are taken")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        requests, responses = (json.loads(arrays[key].tobytes()) for key in (_REQUESTS, _RESPONSES))
    except BundleError as exc:
        raise BundleError(f"the golden file cannot be read: {exc}") from exc
    except Exception as exc:  # numpy answers a broken archive with many types
        raise BundleError(f"the golden file cannot be read: {type(exc).__name__}: {exc}") from exc
    if not isinstance(requests, list) or not isinstance(responses, list):
        raise BundleError("the golden file's requests and responses are no lists")
    inputs = {name.removeprefix(_INPUT): array for name, array in arrays.items() if name.startswith(_INPUT)}
    outputs = {name.removeprefix(_OUTPUT): array for name, array in arrays.items() if name.startswith(_OUTPUT)}
    golden = GoldenRows(requests=requests, inputs=inputs, outputs=outputs, responses=responses)
    try:
        counts = {len(requests), len(responses), num_rows(inputs), num_rows(outputs)}
    except ValueError as exc:
        raise BundleError(f"the golden file's arrays disagree: {exc}") from exc
    if len(counts) != 1:
        raise BundleError(f"the golden file holds {sorted(counts)} requests, inputs, outputs and responses")
    return golden


def expect_close(
    actual: Tensors, expected: Tensors, tolerance: Tolerance | Mapping[str, Tolerance], *, what: str
) -> None:
    """Hold the outputs of a backend against those of the trainer.

    Args:
        actual: The outputs by name.
        expected: The outputs that must be among them.
        tolerance: Of all outputs, or of each.
        what: Begins the message.

    Raises:
        BundleNotProven: An output is missing, has another shape or dtype, is not finite, or lies outside the tolerance;
            the message names the output, the row and the difference.
    """
    for name, expected_array in expected.items():
        actual_array = actual.get(name)
        if actual_array is None:
            raise BundleNotProven(f"{what}: output {name!r} is missing, the backend returns {sorted(actual)}")
        if actual_array.shape != expected_array.shape:
            raise BundleNotProven(
                f"{what}: output {name!r} has shape {actual_array.shape}, expected {expected_array.shape}"
            )
        if actual_array.dtype != expected_array.dtype:
            raise BundleNotProven(f"{what}: output {name!r} is {actual_array.dtype}, expected {expected_array.dtype}")
        allows = tolerance if isinstance(tolerance, Tolerance) else tolerance[name]
        with np.errstate(invalid="ignore"):  # what is not finite is never close, whatever it is compared with
            difference = np.abs(actual_array.astype(np.float64) - expected_array.astype(np.float64))
            allowed = allows.atol + allows.rtol * np.abs(expected_array.astype(np.float64))
            excess = np.where(np.isfinite(difference), difference - allowed, np.inf)
        if excess.size and excess.max() > 0:
            row = int(np.unravel_index(int(excess.argmax()), excess.shape)[0])
            raise BundleNotProven(
                f"{what}: output {name!r} differs by {difference[row].max():.3g} in row {row}, "
                f"more than atol={allows.atol:g} and rtol={allows.rtol:g} allow"
            )
