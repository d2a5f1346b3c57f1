"""Golden rows of different lengths: proven in padded batches and alone."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bundle.golden import GoldenRows
from app.bundle.manifest import Batching, Manifest
from app.errors import BundleNotProven
from app.serving.proof import full_batch, is_well, prove
from app.tensors import LENGTHS, Tensors, batches, concat
from tests.support.ragged import golden_series, row_sums, series, series_document, series_outputs

GOLDEN_LENGTHS = [3, 1, 7, 7, 2, 12, 1, 4]
GOLDEN = golden_series(GOLDEN_LENGTHS)


def manifest(*, max_rows: int = 4, max_elements: int | None = None) -> Manifest:
    return Manifest.model_validate(
        series_document(rows=len(GOLDEN_LENGTHS), max_rows=max_rows, max_elements=max_elements)
    )


def answered_by(run: Callable[[Tensors], Tensors], bounds: Batching) -> GoldenRows:
    """Return golden rows with the outputs of a trainer who has the same fault, in the same batches."""
    parts = batches(GOLDEN.inputs, max_rows=bounds.max_rows, max_elements=bounds.max_elements)
    return dataclasses.replace(GOLDEN, outputs=concat([run(part) for part in parts]))


@pytest.mark.parametrize(
    ("max_elements", "shapes"),
    [
        (None, [(4, 7), (4, 12)]),
        (20, [(2, 3), (2, 7), (1, 2), (1, 12), (2, 4)]),
        (6, [(2, 3), (1, 7), (1, 7), (1, 2), (1, 12), (1, 1), (1, 4)]),
        (1, [(1, length) for length in GOLDEN_LENGTHS]),
    ],
)
def test_rows_are_replayed_in_padded_batches_within_the_bounds_and_alone_without_padding(
    max_elements: int | None, shapes: list[tuple[int, int]]
) -> None:
    calls: list[tuple[int, int]] = []

    def run(inputs: Tensors) -> Tensors:
        calls.append(inputs["series"].shape[:2])
        return series_outputs(inputs)

    prove(run, manifest(max_elements=max_elements), GOLDEN, "dummy")
    assert calls == shapes + [(1, length) for length in GOLDEN_LENGTHS]


def mean_over_padding(inputs: Tensors) -> Tensors:
    """Divide by the padded length, where the real one was meant."""
    return {name: array / inputs["series"].shape[1] for name, array in series_outputs(inputs).items()}


def last_step(inputs: Tensors) -> Tensors:
    """Add what a network that reads a series backwards reads first: padding, where there is some."""
    last_B = inputs["series"][:, -1].sum(axis=1, keepdims=True)
    return {name: array + np.float32(1e-3) * last_B for name, array in series_outputs(inputs).items()}


def attends_to_neighbors(inputs: Tensors) -> Tensors:
    longest = np.float32(inputs[LENGTHS].max())
    return {name: array + np.float32(1e-3) * longest for name, array in series_outputs(inputs).items()}


@pytest.mark.parametrize("leaky", [mean_over_padding, last_step, attends_to_neighbors])
def test_a_network_that_lets_padding_leak_is_not_proven_even_if_the_trainer_measured_it_so(
    leaky: Callable[[Tensors], Tensors],
) -> None:
    with pytest.raises(BundleNotProven, match=r"^golden replay: output 'logits' differs by"):
        prove(leaky, manifest(), GOLDEN, "dummy")
    golden = answered_by(leaky, manifest().batching)
    with pytest.raises(BundleNotProven, match=r"^golden rows alone against the same in a batch: output 'logits'"):
        prove(leaky, manifest(), golden, "dummy")
    assert not is_well(leaky, manifest(), golden, "dummy")


def test_a_row_that_differs_is_named_by_its_place_whatever_its_batch() -> None:
    def run(inputs: Tensors) -> Tensors:
        outputs = series_outputs(inputs)
        outputs["logits"][inputs[LENGTHS] == 12] += 1
        return outputs

    with pytest.raises(BundleNotProven, match="differs by 1 in row 5"):
        prove(run, manifest(max_elements=20), GOLDEN, "dummy")


def test_outputs_as_long_as_the_padded_batch_are_not_proven() -> None:
    def run(inputs: Tensors) -> Tensors:
        return series_outputs(inputs) | {"steps": inputs["series"].sum(axis=2)}

    with pytest.raises(
        BundleNotProven, match=r"rows come out in different shapes: .*'steps': \(12,\).*'steps': \(7,\)"
    ):
        prove(run, manifest(), GOLDEN, "dummy")


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    max_rows=st.integers(1, 30),
    max_elements=st.one_of(st.none(), st.integers(1, 60)),
)
def test_a_full_batch_holds_whole_rows_the_longest_first_and_as_many_as_the_bounds_allow(
    lengths: list[int], max_rows: int, max_elements: int | None
) -> None:
    inputs = series(lengths)
    full = full_batch(inputs, Batching(max_rows=max_rows, max_elements=max_elements))
    rows, padded = full["series"].shape[:2]
    assert padded == max(lengths)
    assert full[LENGTHS][0] == padded
    assert rows == max_rows or (max_elements is not None and (rows + 1) * padded > max_elements)
    assert max_elements is None or rows == 1 or rows * padded <= max_elements
    assert sorted(full[LENGTHS])[::-1] == sorted(np.resize(sorted(lengths)[::-1], rows))[::-1]
    assert set(row_sums(full)) <= set(row_sums(inputs))
    assert set(full["series"].ravel()) <= set(inputs["series"].ravel())
