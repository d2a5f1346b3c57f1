"""What a batch is expected to cost: from the manifest and the warm-up, then from what runs."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bundle.manifest import Manifest
from app.serving.costs import CostModel, learn
from app.serving.proof import WARM_UP_BATCHES
from app.tensors import LENGTHS, Tensors
from tests.support.bundles import manifest_document
from tests.support.ragged import series, series_document

seconds = st.floats(1e-6, 10.0)


@given(row_s=seconds, full_s=seconds, row_units=st.integers(1, 300), more=st.integers(1, 10_000))
def test_the_costs_are_those_that_were_measured(row_s: float, full_s: float, row_units: int, more: int) -> None:
    full_units = row_units + more
    costs = CostModel.through(row_units, row_s, full_units, full_s)
    assert costs.full_s == pytest.approx(full_s)
    if row_units.bit_length() != full_units.bit_length():
        assert costs.row_s == pytest.approx(min(row_s, full_s))  # more can only be noise
    assert all(costs.seconds(units) >= 0 for units in (0, 1, row_units, full_units, 10 * full_units))


def test_between_one_row_and_a_full_batch_lies_a_line() -> None:
    costs = CostModel.through(1, 0.011, 32, 0.042)
    assert costs.seconds(5) == pytest.approx(0.015)
    assert costs.seconds(20) == pytest.approx(0.030)


def test_batches_move_the_prediction_to_what_they_took() -> None:
    costs = CostModel.through(1, 0.001, 32, 0.032)
    for _ in range(100):
        costs.observe(32, 0.064)
        costs.observe(1, 0.0005)
    assert costs.full_s == pytest.approx(0.064, rel=0.05)
    assert costs.row_s == pytest.approx(0.0005, rel=0.05)


@given(st.floats(0, 1e6), st.integers(1, 1000))
def test_a_single_batch_moves_a_prediction_by_a_tenth_at_most(seconds: float, units: int) -> None:
    costs = CostModel.through(1, 0.001, 1000, 0.5)
    before_s = costs.seconds(units)
    costs.observe(units, seconds)
    assert 0.9 * before_s <= costs.seconds(units) <= 1.1000001 * before_s


def test_a_size_that_has_not_run_yet_is_corrected_with_the_others() -> None:
    costs = CostModel(0.0, 0.001, full_units=32)
    for _ in range(200):
        costs.observe(32, 0.064)
    assert costs.seconds(10) == pytest.approx(0.020, rel=0.05)


def test_what_is_known_of_nothing_is_learned_from_the_first_batch() -> None:
    costs = CostModel(0.0, 0.0, full_units=4)
    assert costs.full_s == 0
    costs.observe(2, 0.5)
    assert costs.full_s == pytest.approx(1.0)


class Machine:
    """A backend on a clock of its own: a call takes what it is told, and the first twice as much."""

    def __init__(self, call_s: float, unit_s: float) -> None:
        self.now = 0.0
        self.shapes: list[tuple[int, ...]] = []
        self._call_s, self._unit_s = call_s, unit_s

    def run(self, inputs: Tensors) -> Tensors:
        array = next(array for name, array in inputs.items() if name != LENGTHS)
        shape = array.shape[: 2 if LENGTHS in inputs else 1]
        slow = 1.0 if shape in self.shapes else 2.0
        self.shapes.append(shape)
        self.now += slow * (self._call_s + self._unit_s * float(np.prod(shape)))
        return inputs


def image_manifest(**latency_ms: float) -> Manifest:
    document = manifest_document()
    document["artifacts"][0]["latency_ms"] = latency_ms
    document["batching"] = {"max_rows": 16}
    return Manifest.model_validate(document)


IMAGES: Tensors = {"image": np.zeros((3, 2, 3), np.float32)}


def test_the_trainers_latencies_give_the_shape_and_the_warm_up_the_level() -> None:
    machine = Machine(call_s=0.010, unit_s=0.001)  # half as fast as the trainer's
    manifest = image_manifest(**{"1": 5.5, "32": 21.0})
    costs, full_s = learn(machine.run, IMAGES, manifest, "dummy", clock=lambda: machine.now)
    assert full_s == pytest.approx(0.026)
    assert (costs.full_s, costs.row_s) == (pytest.approx(0.026), pytest.approx(0.011))
    assert set(machine.shapes) == {(16,)}  # one row was not run: it is known


@pytest.mark.parametrize("latency_ms", [{}, {"1": 7.0}, {"32": 7.0}, {"many": 3.0, "1": 3.0}], ids=str)
def test_without_latencies_of_one_and_of_several_rows_one_row_is_run_too(latency_ms: dict[str, float]) -> None:
    machine = Machine(call_s=0.010, unit_s=0.001)
    costs, _ = learn(machine.run, IMAGES, image_manifest(**latency_ms), "dummy", clock=lambda: machine.now)
    assert (costs.full_s, costs.row_s) == (pytest.approx(0.026), pytest.approx(0.011))
    assert machine.shapes == [(16,)] * WARM_UP_BATCHES + [(1,)] * WARM_UP_BATCHES


@pytest.mark.parametrize("latency_ms", [{}, {"1": 1.0, "32": 32.0}], ids=str)
def test_rows_with_lengths_are_measured_by_their_elements(latency_ms: dict[str, float]) -> None:
    document: Any = series_document(rows=3, max_rows=4, max_elements=60)
    document["artifacts"][0]["latency_ms"] = latency_ms
    manifest = Manifest.model_validate(document)
    machine = Machine(call_s=0.010, unit_s=0.001)
    costs, full_s = learn(machine.run, series([20, 2, 5]), manifest, "dummy", clock=lambda: machine.now)
    assert (costs.row_units, costs.full_units) == (5, 60)
    assert (costs.row_s, costs.full_s) == (pytest.approx(0.015), pytest.approx(0.070))
    assert full_s == pytest.approx(0.070)
    assert costs.seconds(30) == pytest.approx(0.040)
    assert set(machine.shapes) == {(1, 5), (3, 20)}


@given(latencies=st.dictionaries(st.sampled_from(["1", "8", "32"]), st.floats(0.001, 1e4)), call_s=st.floats(0, 1))
def test_whatever_the_manifest_says_a_full_batch_costs_what_it_took(latencies: dict[str, float], call_s: float) -> None:
    machine = Machine(call_s, unit_s=0.001)
    costs, full_s = learn(machine.run, IMAGES, image_manifest(**latencies), "dummy", clock=lambda: machine.now)
    assert costs.full_s == pytest.approx(full_s)
    assert 0 < costs.row_s <= full_s * 1.0000001
    rising = [costs.seconds(2**power) for power in range(1, 4)]
    assert all(smaller <= larger * 1.0000001 for smaller, larger in itertools.pairwise(rising))
