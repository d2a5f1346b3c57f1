import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.backends.dummy import Behavior, DummyBackend
from app.bundle.manifest import Manifest
from app.errors import BackendFailed
from app.serving.isolation import BatchResult, run_checked, run_isolated
from app.tensors import LENGTHS, Tensors, take
from tests.support.bundles import manifest_document
from tests.support.ragged import row_sums, series

POISON = 13.0
OUTPUTS = Manifest.model_validate(manifest_document()).outputs

Faults = Callable[..., DummyBackend]


def dummy(**behavior: float) -> DummyBackend:
    return DummyBackend(Behavior.model_validate(behavior), OUTPUTS)


def batch(rows: int, poisoned: set[int] = frozenset()) -> Tensors:  # type: ignore[assignment]
    images_BHW = np.arange(1, rows * 6 + 1, dtype=np.float32).reshape(rows, 2, 3) + 100
    for row in poisoned:
        images_BHW[row, row % 2, row % 3] = POISON
    return {"image": images_BHW}


def isolate(backend: DummyBackend, inputs: Tensors, *, well: bool = True) -> BatchResult:
    ticks = iter(range(1000))
    return run_isolated(backend.run, inputs, is_well=lambda: well, clock=lambda: float(next(ticks)))


def test_a_batch_that_runs_is_run_once() -> None:
    backend, inputs = dummy(), batch(5)
    result = isolate(backend, inputs)
    assert backend.rows_per_call == [5]
    assert (result.rejected_rows, result.rejected_because, result.sick_because) == ((), "", None)
    assert result.compute_s == 1.0
    expected = dummy().run(inputs)
    assert all(np.array_equal(result.outputs[name], expected[name]) for name in expected)


@pytest.mark.parametrize("fault", ["raise_on", "nan_on"])
@given(st.integers(1, 40).flatmap(lambda rows: st.tuples(st.just(rows), st.sets(st.integers(0, rows - 1)))))
def test_exactly_the_poisoned_rows_are_rejected_and_the_others_answered(fault: str, case: tuple[int, set[int]]) -> None:
    rows, poisoned = case
    inputs, backend = batch(rows, poisoned), dummy(**{fault: POISON})
    result = isolate(backend, inputs)
    assert result.rejected_rows == tuple(sorted(poisoned))
    assert result.sick_because is None
    assert bool(result.rejected_because) == bool(poisoned)
    if len(poisoned) == rows:
        assert result.outputs == {}
    else:
        for row in range(rows):
            alone = None if row in poisoned else dummy().run(take(inputs, row, row + 1))
            for spec in OUTPUTS:
                got = result.outputs[spec.name]
                assert (got.dtype, got.shape) == (np.float32, (rows, 3))
                assert np.array_equal(got[row], np.zeros(3) if alone is None else alone[spec.name][0])
    # each poisoned row costs at most two calls a level of the tree
    assert len(backend.rows_per_call) <= 1 + 2 * len(poisoned) * max(1, math.ceil(math.log2(rows)))


@given(st.integers(1, 20), st.integers(1, 3))
def test_a_failure_that_does_not_come_again_rejects_nobody(rows: int, failures: int) -> None:
    backend, left = dummy(), [1 if rows == 1 else failures]

    def flaky(inputs: Tensors) -> Tensors:
        if left[0] and len(inputs["image"]) > 1:
            left[0] -= 1
            raise OSError("out of memory")
        return backend.run(inputs)

    inputs = batch(rows)
    result = run_isolated(flaky, inputs, is_well=lambda: True)
    expected = dummy().run(inputs)
    assert result.rejected_rows == ()
    assert all(np.array_equal(result.outputs[name], expected[name]) for name in expected)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_a_single_row_is_not_run_again(rows: int) -> None:
    backend = dummy(raise_on=POISON)
    isolate(backend, batch(rows, {rows - 1}))
    assert backend.rows_per_call.count(rows) == 1


def test_what_was_said_of_the_rejected_row_is_kept() -> None:
    result = isolate(dummy(raise_on=POISON), batch(4, {2}))
    assert result.rejected_because == "RuntimeError: the dummy was told to raise on 13.0"
    assert isolate(dummy(nan_on=POISON), batch(4, {2})).rejected_because == "the backend returned NaN or an infinity"


@pytest.mark.parametrize("rows", [1, 8])
def test_a_sick_model_is_asked_once_and_not_bisected(rows: int) -> None:
    backend = dummy(raise_on=POISON)
    result = isolate(backend, batch(rows, {0}), well=False)
    assert backend.rows_per_call == [rows]
    assert result.sick_because == "the golden rows fail: RuntimeError: the dummy was told to raise on 13.0"
    assert (result.outputs, result.rejected_rows) == ({}, ())


def test_a_model_that_answers_is_not_asked_whether_it_is_well() -> None:
    def never() -> bool:
        raise AssertionError("asked")

    result = run_isolated(dummy().run, batch(3), is_well=never)
    assert (result.sick_because, result.rejected_rows) == (None, ())


@pytest.mark.parametrize(("extra_rows", "returned"), [(1, 4), (-1, 2), (-3, 0)])
def test_another_number_of_rows_is_a_failure(extra_rows: int, returned: int) -> None:
    backend = dummy(extra_rows=extra_rows)
    with pytest.raises(BackendFailed, match=f"returned {returned} rows for 3"):
        run_checked(backend.run, batch(3))
    assert isolate(backend, batch(3)).rejected_rows == (0, 1, 2)


@pytest.mark.parametrize(
    "outputs",
    [{}, {"y": np.zeros((2, 1)), "z": np.zeros((3, 1))}, {"y": np.float32(0)}, {"y": [1, 2, 3]}, None],
    ids=["none", "disagreeing", "scalar", "list", "nothing"],
)
def test_what_is_no_set_of_rows_is_a_failure(outputs: Tensors) -> None:
    with pytest.raises(BackendFailed, match="Error: "):
        run_checked(lambda _: outputs, batch(3))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_a_failure(value: float) -> None:
    logits_BC = np.zeros((3, 2), np.float32)
    logits_BC[1, 1] = value
    with pytest.raises(BackendFailed, match="NaN or an infinity"):
        run_checked(lambda _: {"logits": logits_BC}, batch(3))


def test_the_cause_of_a_failure_is_kept() -> None:
    with pytest.raises(BackendFailed) as caught:
        run_checked(dummy(fails_after_calls=0).run, batch(1))
    assert isinstance(caught.value.__cause__, RuntimeError)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=20).flatmap(
        lambda lengths: st.tuples(st.just(lengths), st.sets(st.integers(0, len(lengths) - 1)))
    )
)
def test_parts_of_a_padded_batch_are_padded_to_their_own_longest_row(case: tuple[list[int], set[int]]) -> None:
    lengths, poisoned = case
    inputs = series(lengths, start=1000)
    for row in poisoned:
        inputs["series"][row, 0] = POISON
    widths: list[tuple[int, int]] = []

    def run(part: Tensors) -> Tensors:
        widths.append((part["series"].shape[1], int(part[LENGTHS].max())))
        if (part["series"] == POISON).any():
            raise RuntimeError("poison")
        return {"sum": np.array(row_sums(part))}

    result = run_isolated(run, inputs, is_well=lambda: True)
    assert result.rejected_rows == tuple(sorted(poisoned))
    assert all(padded == longest for padded, longest in widths)
    sums = row_sums(inputs)
    for row in set(range(len(lengths))) - poisoned:
        assert result.outputs["sum"][row] == sums[row]
    padded = len(lengths) * max(lengths)
    assert (result.elements, result.padding_elements) == (padded, padded - sum(lengths))


def test_rows_without_lengths_have_no_elements_to_count() -> None:
    result = isolate(dummy(), batch(3))
    assert (result.elements, result.padding_elements) == (0, 0)
