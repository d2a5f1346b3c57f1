"""Artifacts that may go into a bundle: each is proven as the service will prove it, then measured on the test set."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from app.bundle.golden import GoldenRows
from app.bundle.manifest import Artifact, Golden
from app.tensors import Tensors, take
from training.export import bundle, verify
from training.export import manifest as parts

# Over 32 rows of a small picture, a batch falls out of the cache and costs more per row.
MAX_ROWS = 32

# How many validation rows are run both alone and in full batches.
NUM_BATCH_CHECKED = 512

GOLDEN_FILE = "golden.npz"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An artifact that may go into the bundle, and how it is run."""

    fmt: str
    path: str
    content: bytes
    run: verify.Run


def prove(candidate: Candidate, golden: GoldenRows, validation: Tensors, say: Say) -> None:
    """Do what the service will do before it serves, and hold real rows alone against the same in full batches.

    Args:
        candidate: The artifact.
        golden: The rows that the service will replay.
        validation: Inputs of real rows; the first ones are taken.
        say: Called with lines for people.

    Raises:
        NotProven: It answers otherwise than the network, or than itself in a batch.
    """
    run = candidate.run
    verify.expect_proven(run(golden.inputs), golden.outputs, parts.TOLERANCE, what=f"golden rows of {candidate.fmt}")
    what = f"{candidate.fmt} in full batches against alone"
    for inputs in (golden.inputs, take(validation, 0, NUM_BATCH_CHECKED)):
        singles, full = verify.alone(run, inputs), verify.run_in_batches(run, inputs, MAX_ROWS)
        verify.expect_proven(full, singles, parts.BATCH_TOLERANCE, what=what)
        say(f"{what}: {_largest(full, singles)}")


def measure(
    candidate: Candidate, inputs: Tensors, expected: Tensors, say: Say, *, accuracy: Callable[[Tensors], float | None]
) -> Artifact:
    """Run one artifact over the whole test set, hold it against the trainer's own network, and describe it.

    Args:
        candidate: The artifact.
        inputs: Of the whole test set.
        expected: What the trainer's own network makes of them.
        say: Called with lines for people.
        accuracy: From outputs to the share that is right; None where the task has none.

    Raises:
        NotProven: It answers otherwise.
    """
    actual = verify.run_in_batches(candidate.run, inputs, MAX_ROWS)
    what = f"{candidate.fmt} against eager"
    verify.expect_proven(actual, expected, parts.TOLERANCE, what=what)
    say(f"{what}: {_largest(actual, expected)}")
    return Artifact(
        **bundle.file_ref(candidate.path, candidate.content).model_dump(),
        format=candidate.fmt,
        test_accuracy=accuracy(actual),
        latency_ms=verify.latency_ms(candidate.run, take(inputs, 0, max(verify.LATENCY_ROWS))),
        parity=verify.parity(actual, expected),
    )


def golden_part(content: bytes, num_rows: int, artifacts: tuple[Artifact, ...]) -> Golden:
    """Describe the golden rows, with the tolerance of every format."""
    return Golden(
        **bundle.file_ref(GOLDEN_FILE, content).model_dump(),
        rows=num_rows,
        tolerance={artifact.key: parts.TOLERANCE for artifact in artifacts},
        batch_tolerance=parts.BATCH_TOLERANCE,
    )


def report_json(value: object) -> bytes:
    """Serialize a part of the report."""
    return (json.dumps(value, indent=1) + "\n").encode()


def _largest(actual: Tensors, expected: Tensors) -> str:
    differences = verify.max_differences(actual, expected)
    return "largest difference of " + ", ".join(f"{name} {value:.2g}" for name, value in differences.items())
