"""What the service will do before it serves a bundle, done before it is written; and what is measured.

Shape suffixes: N rows, C classes.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from app.bundle.manifest import TensorSpec
from app.tensors import LENGTHS, Array, Tensors, all_finite, num_rows, take, trim
from training.errors import NotProven, PackageRefused
from training.evaluate import score_values
from training.export import manifest as parts
from training.export import verify
from training.export.verify import PROBABILITIES, VALUE, Run
from training.package.config import DTYPES

# of probabilities: how far their sum may lie from 1
_SUM_TOLERANCE = 1e-3
# a model that takes longer than this is timed fewer times
_SLOW_MS = 20.0

_DISTURB = (
    "the rows of a batch change each other's answers, so that a caller's answer would depend on who else asks: batch "
    "norm in training mode, a softmax or mean over the batch axis, and dynamic int8 do so; export the model in "
    "inference mode (model.eval()), each row computed by itself"
)
_RANDOM = "the same rows get other answers at every call: export the model in inference mode (model.eval()), no dropout"


def answer(run: Run, inputs: Tensors, requests: list[Any]) -> Tensors:
    """Return what a model makes of golden rows, each by itself.

    Raises:
        PackageRefused: It fails on a row, or answers with what is not finite; the message shows the row.
    """
    outputs: list[Tensors] = []
    for row, request in enumerate(requests):
        single = trim(take(inputs, row, row + 1))
        shown = str(request)[:200]
        try:
            found = run(single)
            if any(array.shape[:1] != (1,) for array in found.values()):
                shapes = {name: array.shape for name, array in found.items()}
                raise PackageRefused(
                    f"one row goes in, and the outputs have the shapes {shapes}; the first axis is the batch"
                )
        except PackageRefused:
            raise
        except Exception as exc:  # whatever the runtime raises
            raise PackageRefused(
                f"the model fails on row {row}, {shown}: {exc}. Rows are drawn between the bounds: narrow them, or "
                "give rows of your own by --golden"
            ) from exc
        if not all_finite(found):
            raise PackageRefused(
                f"the model answers row {row} with NaN or an infinity, {shown}: narrow the bounds, or give rows of "
                "your own by --golden"
            )
        outputs.append(found)
    try:
        return {name: np.concatenate([part[name] for part in outputs]) for name in outputs[0]}
    except ValueError as exc:
        raise PackageRefused(f"rows come out in different shapes, and cannot be golden rows together: {exc}") from exc


def output_specs(run: Run, inputs: Tensors, fed: Sequence[TensorSpec], heads: list[str]) -> tuple[TensorSpec, ...]:
    """Return what comes out: an axis that grows shorter with the open axes of the inputs is a named one.

    Args:
        run: Of the model.
        inputs: Golden ones.
        fed: Describes them.
        heads: The outputs in their order.

    Raises:
        PackageRefused: An output has no batch axis, or another dtype than can be served; or the model fails on rows
            that are shorter along an axis that it leaves open.
    """
    few = trim(take(inputs, 0, 2))
    first = run(few)
    try:
        second = run(_shorter(few, fed))
    except Exception as exc:  # whatever the runtime raises
        raise PackageRefused(
            f"the model leaves axes of its inputs open, and fails on rows that are shorter by one: {exc}; fix the axis "
            "in the file, as any length would be taken"
        ) from exc
    specs: list[TensorSpec] = []
    for name in heads:
        if name not in first or first[name].dtype.name not in DTYPES:
            raise PackageRefused(f"the output {name!r} cannot be served")
        expected = num_rows(take(inputs, 0, 2))
        if not first[name].ndim or len(first[name]) != expected:
            raise PackageRefused(
                f"the output {name!r} has the shape {first[name].shape} for {expected} rows; its first axis has to be "
                "the batch: leave it out, or export the model with a batch axis"
            )
        shape = [
            length if length == other else f"{name}_{axis}"
            for axis, (length, other) in enumerate(
                zip(first[name].shape[1:], second[name].shape[1:], strict=True), start=1
            )
        ]
        spec = {"name": name, "dtype": first[name].dtype.name, "shape": ("batch", *shape)}
        specs.append(TensorSpec.model_validate(spec))
    return tuple(specs)


def _shorter(inputs: Tensors, fed: Sequence[TensorSpec]) -> Tensors:
    """Return the same rows, shorter by one along every open axis that is longer than one."""
    cut: Tensors = {}
    for spec in fed:
        axes = zip(spec.shape[1:], inputs[spec.name].shape[1:], strict=True)
        kept = [slice(max(1, length - 1)) if isinstance(axis, str) else slice(None) for axis, length in axes]
        cut[spec.name] = np.ascontiguousarray(inputs[spec.name][(slice(None), *kept)])
    if LENGTHS in cut:
        steps = next(array.shape[1] for name, array in cut.items() if name != LENGTHS)
        cut[LENGTHS] = np.minimum(cut[LENGTHS], steps)
    return trim(cut)


def expect_labels(outputs: Tensors, labels: tuple[str, ...] | None) -> None:
    """Hold scores against the labels.

    Raises:
        PackageRefused: There are more or fewer of them, or what should be probabilities is none.
    """
    if labels is None:
        if VALUE in outputs and outputs[VALUE].ndim != 1:
            raise PackageRefused(f"a regression answers with one number a row, the model with {outputs[VALUE].shape}")
        return
    probabilities_NC = outputs[PROBABILITIES]
    if probabilities_NC.ndim != 2 or probabilities_NC.shape[1] != len(labels):
        raise PackageRefused(
            f"there are {len(labels)} labels ({', '.join(labels[:5])}{', ...' if len(labels) > 5 else ''}), and the "
            f"model answers with scores of shape {list(probabilities_NC.shape[1:])} a row"
        )
    sums_N = probabilities_NC.sum(axis=1, dtype=np.float64)
    if probabilities_NC.min() < 0 or np.abs(sums_N - 1).max() > _SUM_TOLERANCE:
        raise PackageRefused(
            f"the scores are no probabilities: they go from {probabilities_NC.min():.3g} to "
            f"{probabilities_NC.max():.3g} and sum up to "
            f"{sums_N.min():.3g} to {sums_N.max():.3g}; if they are logits, say --scores logits"
        )


def prove(run: Run, inputs: Tensors, outputs: Tensors, *, what: str, max_rows: int) -> dict[str, float]:
    """Replay golden rows alone, again, and in batches.

    Args:
        run: Of an artifact.
        inputs: Golden.
        outputs: Of the reference.
        what: Begins the messages.
        max_rows: Of a batch.

    Returns:
        The largest difference of each output between alone and in a batch.

    Raises:
        NotProven: Something differs; the message says what does so, and what would help.
    """
    alone = verify.alone(run, inputs)
    verify.expect_proven(alone, outputs, parts.TOLERANCE, what=f"golden rows of {what}")
    # again, and in another order: what is random differs
    again = verify.alone(run, inputs)
    if any(not np.array_equal(alone[name], again[name]) for name in alone):
        try:
            verify.expect_proven(again, alone, parts.BATCH_TOLERANCE, what="again")
        except NotProven as exc:
            raise NotProven(f"{_RANDOM} ({exc})") from exc
    try:
        full = verify.run_in_batches(run, inputs, max_rows)
        verify.expect_proven(full, alone, parts.BATCH_TOLERANCE, what=f"{what} in batches against alone")
        # neighbors of another kind: each row beside the last one
        order = np.arange(num_rows(inputs))[::-1].copy()
        mixed = verify.run_in_batches(run, {name: array[order] for name, array in inputs.items()}, max_rows)
        back = {name: array[order] for name, array in mixed.items()}
        verify.expect_proven(back, alone, parts.BATCH_TOLERANCE, what=f"{what} beside other rows against alone")
    except NotProven as exc:
        raise NotProven(f"{_DISTURB} ({exc})") from exc
    except Exception as exc:  # whatever the runtime raises
        raise NotProven(f"{what} answers rows alone, and fails on a batch of them: {exc}") from exc
    return verify.max_differences(full, alone)


def latency_ms(run: Run, inputs: Tensors, *, clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Return the median milliseconds of a call, by its number of rows; fewer calls of a slow model."""
    order = np.resize(np.arange(num_rows(inputs)), max(verify.LATENCY_ROWS))
    rows = {name: array[order] for name, array in inputs.items()}
    started = clock()
    run(trim(rows))
    is_slow = (clock() - started) * 1e3 > _SLOW_MS
    return verify.latency_ms(run, rows, repeats=10 if is_slow else 200, clock=clock)


def measure(outputs: Tensors, answers: list[Any], labels: tuple[str, ...] | None) -> dict[str, float]:
    """Return accuracy of labels, or R2 and errors of targets.

    Raises:
        PackageRefused: The answers are none of the labels, or no numbers; or there is nothing to measure.
    """
    if labels is not None:
        numbers_N = np.array([_number_of(each, labels) for each in answers])
        return {"accuracy": float((outputs[PROBABILITIES].argmax(axis=1) == numbers_N).mean())}
    if VALUE not in outputs:
        raise PackageRefused("what is right for tensors is not known here: leave --test out")
    try:
        targets_N: Array = np.array(answers, np.float64)
    except (TypeError, ValueError) as exc:
        raise PackageRefused(f"the targets are no numbers: {exc}") from exc
    return dataclasses.asdict(score_values(outputs[VALUE], targets_N))


def _number_of(answer: Any, labels: tuple[str, ...]) -> int:
    if isinstance(answer, str) and answer in labels:
        return labels.index(answer)
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(labels):
        return answer
    raise PackageRefused(f"{answer!r} is no label of the model, nor its number; there are: {', '.join(labels)}")
