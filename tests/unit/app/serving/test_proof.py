import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app import backends
from app.bundle.golden import GoldenRows
from app.bundle.manifest import Batching, Manifest
from app.errors import BundleNotProven
from app.serving.costs import learn
from app.serving.proof import WARM_UP_BATCHES, Run, fastest_s, full_batch, is_well, prove
from app.tasks import check_contract, create
from app.tensors import Tensors, num_rows
from tests.support.bundles import (
    calls_until_ready,
    dummy_bundle,
    dummy_outputs,
    golden_images,
    golden_rows,
    manifest_document,
    open_folder,
)
from tests.support.tasks import LIMITS

ROWS, MAX_ROWS = 10, 4
MANIFEST = Manifest.model_validate(manifest_document(rows=ROWS, max_rows=MAX_ROWS))
GOLDEN = golden_rows(golden_images(ROWS, 2, 3), ("a", "b", "c"))


def right(inputs: Tensors) -> Tensors:
    return dummy_outputs(inputs["image"], 3)


def wrapped(change: Callable[[Tensors, Tensors], Tensors]) -> Run:
    return lambda inputs: change(inputs, right(inputs))


def refusal(run: Run) -> str:
    with pytest.raises(BundleNotProven) as caught:
        prove(run, MANIFEST, GOLDEN, "dummy")
    assert not is_well(run, MANIFEST, GOLDEN, "dummy")
    return str(caught.value)


def test_a_right_backend_is_proven_in_batches_and_row_by_row() -> None:
    calls: list[int] = []

    def run(inputs: Tensors) -> Tensors:
        calls.append(num_rows(inputs))
        return right(inputs)

    prove(run, MANIFEST, GOLDEN, "dummy")
    assert calls == [4, 4, 2] + [1] * ROWS
    assert is_well(run, MANIFEST, GOLDEN, "dummy")


@pytest.mark.parametrize("row", [0, 5, ROWS - 1])
def test_one_wrong_row_is_found_wherever_it_stands(row: int) -> None:
    wanted = GOLDEN.inputs["image"][row]

    def run(inputs: Tensors, outputs: Tensors) -> Tensors:
        outputs["logits"][(inputs["image"] == wanted).all(axis=(1, 2))] += 1.0
        return outputs

    assert f"golden replay: output 'logits' differs by 1 in row {row}" in refusal(wrapped(run))


def test_rows_that_come_out_in_another_order_are_found() -> None:
    message = refusal(wrapped(lambda _, outputs: {name: array[::-1] for name, array in outputs.items()}))
    assert message.startswith("golden replay: output 'logits' differs by ")


def test_an_answer_that_depends_on_its_neighbors_is_found() -> None:
    def run(_: Tensors, outputs: Tensors) -> Tensors:
        if len(outputs["logits"]) == 1:  # less than the tolerance of the format, more than that of the batch
            outputs["probabilities"] += 0.05
        return outputs

    golden = manifest_document()["golden"] | {"rows": ROWS, "tolerance": {"dummy": {"atol": 0.1}}}
    manifest = Manifest.model_validate(manifest_document(rows=ROWS, max_rows=MAX_ROWS) | {"golden": golden})
    prove(right, manifest, GOLDEN, "dummy")
    with pytest.raises(BundleNotProven, match=r"alone against the same in a batch: output 'probabilities' differs by"):
        prove(wrapped(run), manifest, GOLDEN, "dummy")


def broken(_: Tensors) -> Tensors:
    raise OSError("no such kernel")


def nan_in_last_row(_: Tensors, outputs: Tensors) -> Tensors:
    outputs["probabilities"][-1] = np.nan
    return outputs


def row_more(_: Tensors, outputs: Tensors) -> Tensors:
    return {name: np.concatenate([array, array[:1]]) for name, array in outputs.items()}


def without_probabilities(_: Tensors, outputs: Tensors) -> Tensors:
    return {"logits": outputs["logits"]}


def as_float64(_: Tensors, outputs: Tensors) -> Tensors:
    return {name: array.astype(np.float64) for name, array in outputs.items()}


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (broken, "golden replay: OSError: no such kernel"),
        (wrapped(nan_in_last_row), "golden replay: the backend returned NaN or an infinity"),
        (wrapped(row_more), "golden replay: the backend returned 5 rows for 4"),
        (wrapped(without_probabilities), "golden replay: output 'probabilities' is missing"),
        (wrapped(as_float64), "golden replay: output 'logits' is float64, expected float32"),
        (lambda _: {}, "golden replay: ValueError: tensors must share their first axis"),
    ],
    ids=["raises", "NaN", "row more", "output missing", "dtype", "nothing"],
)
def test_a_broken_backend_is_not_proven(run: Run, message: str) -> None:
    assert refusal(run).startswith(message)


def test_the_tolerance_is_that_of_the_format() -> None:
    golden = manifest_document()["golden"] | {"tolerance": {"dummy": {"atol": 0.0}, "int8": {"atol": 2.0}}}
    manifest = Manifest.model_validate(manifest_document() | {"golden": golden})

    def run(_: Tensors, outputs: Tensors) -> Tensors:
        return {name: array + np.float32(1) for name, array in outputs.items()}

    prove(wrapped(run), manifest, GOLDEN, "int8")
    with pytest.raises(BundleNotProven):
        prove(wrapped(run), manifest, GOLDEN, "dummy")


def test_the_warm_up_runs_full_batches_of_real_rows_and_tells_the_fastest() -> None:
    batches: list[Tensors] = []
    ticks = iter([0.0, 1.0, 1.0, 4.0, 4.0, 6.0, 6.0, 15.0, 15.0, 17.5])

    def run(inputs: Tensors) -> Tensors:
        batches.append(inputs)
        return inputs

    seconds = fastest_s(run, full_batch(GOLDEN.inputs, Batching(max_rows=23)), clock=lambda: next(ticks))
    assert seconds == 1.0
    assert [len(batch["image"]) for batch in batches] == [23] * WARM_UP_BATCHES
    for batch, row in itertools.product(batches, range(23)):
        assert np.array_equal(batch["image"][row], GOLDEN.inputs["image"][row % ROWS])


def test_outputs_that_are_as_wide_as_their_batch_are_not_proven() -> None:
    def run(inputs: Tensors, outputs: Tensors) -> Tensors:
        return outputs | {"probabilities": np.zeros((len(inputs["image"]), len(inputs["image"])), np.float32)}

    assert refusal(wrapped(run)).startswith("golden replay: rows come out in different shapes: {'logits': (3,), 'prob")


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"rows": 1},
        {"low": -1.0, "high": 1.0, "rows": 5},
        {"height": 28, "width": 28, "labels": [str(number) for number in range(10)], "rows": 3},
        {"behavior": {"raise_on": 13.0, "nan_on": 255.0}},
        {"behavior": {"raise_on": 0.0}},
    ],
)
def test_the_bundles_of_the_tests_are_proven(tmp_path: Path, arguments: dict[str, Any]) -> None:
    folder = dummy_bundle(tmp_path, **arguments)
    bundle = open_folder(folder)
    golden: GoldenRows = bundle.golden()
    name, backend = backends.load("auto", bundle, threads=1)
    prove(backend.run, bundle.manifest, golden, name)
    check_contract(create(bundle, LIMITS), golden)
    learn(backend.run, golden.inputs, bundle.manifest, name, clock=time.monotonic)
    assert len(backend.rows_per_call) == calls_until_ready(folder)  # type: ignore[attr-defined]
