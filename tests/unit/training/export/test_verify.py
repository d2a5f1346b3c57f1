import numpy as np
import pytest

from app.bundle.manifest import Tolerance
from training.errors import NotProven
from training.export import verify

INPUTS = {"image": np.arange(10, dtype=np.float32).reshape(5, 2)}


def doubled(inputs):
    return {"logits": inputs["image"] * 2, "probabilities": inputs["image"] / 10}


def test_a_split_is_run_in_batches_of_the_size_asked_for_and_joined_in_order():
    sizes = []

    def run(inputs):
        sizes.append(len(inputs["image"]))
        return doubled(inputs)

    outputs = verify.run_in_batches(run, INPUTS, 2)
    assert sizes == [2, 2, 1]
    np.testing.assert_array_equal(outputs["logits"], INPUTS["image"] * 2)
    sizes.clear()
    verify.alone(run, INPUTS)
    assert sizes == [1] * 5


def test_parity_tells_the_largest_difference_and_how_many_labels_agree():
    expected = {"probabilities": np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]], np.float32)}
    actual = {"probabilities": np.array([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5]], np.float32)}
    found = verify.parity(actual, expected)
    assert found.rows == 3
    assert found.max_abs_difference == pytest.approx(0.2)
    assert found.label_agreement == pytest.approx(2 / 3)


def test_outputs_within_the_tolerance_are_proven_and_others_refused_by_name():
    expected = doubled(INPUTS)
    close = {name: array + np.float32(1e-6) for name, array in expected.items()}
    verify.expect_proven(close, expected, Tolerance(atol=1e-4), what="ours")
    close["logits"][3, 1] += 1
    with pytest.raises(NotProven, match=r"ours: output 'logits' differs by 1 in row 3"):
        verify.expect_proven(close, expected, Tolerance(atol=1e-4), what="ours")


def test_largest_differences_are_told_by_output():
    other = {"logits": INPUTS["image"] * 2 + 0.5, "probabilities": INPUTS["image"] / 10}
    assert verify.max_differences(other, doubled(INPUTS)) == {"logits": 0.5, "probabilities": 0.0}


def test_latency_is_the_median_in_milliseconds_by_number_of_rows():
    now, calls = [0.0], []

    def run(inputs):
        rows = len(inputs["image"])
        calls.append(rows)
        # every fourth call is slow, which a median shrugs off
        now[0] += 0.002 * rows if len(calls) % 4 else 1.0
        return doubled(inputs)

    inputs = {"image": np.zeros((32, 2), np.float32)}
    assert verify.latency_ms(run, inputs, repeats=8, clock=lambda: now[0]) == {"1": 2.0, "32": 64.0}
    assert set(calls) == {1, 32}


def test_slow_models_are_timed_less_often():
    now, calls = [0.0], []

    def run(inputs):
        calls.append(len(inputs["image"]))
        now[0] += 2.0
        return doubled(inputs)

    inputs = {"image": np.zeros((32, 2), np.float32)}
    assert verify.latency_ms(run, inputs, budget_s=9.0, clock=lambda: now[0]) == {"1": 2000.0, "32": 2000.0}
    assert calls.count(1) == 1 + 5  # one to warm up, and the last begins within the budget
    calls.clear()
    verify.latency_ms(run, inputs, budget_s=0.0, clock=lambda: now[0])
    assert calls.count(32) == 1 + verify.MIN_TIMED
