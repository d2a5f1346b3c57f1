from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from app.bundle.loader import open_bundle
from app.bundle.manifest import TensorSpec
from tests.support.committed import LATEST, NAMES
from tests.support.exported import MAX_STEPS, SCORES, SERIES, recurrent, series
from tests.support.hostile import GRAPH, SAMPLES, parts_of
from training import architectures
from training.errors import NotExportable
from training.export import torch_export, verify
from training.export.variants import served_of

IMAGE = (TensorSpec(name="image", dtype="float32", shape=("batch", 4)),)
SUMS = (TensorSpec(name="sums", dtype="float32", shape=("batch",)),)


class Mean(nn.Module):
    """The mean of each series' own steps, whose number may vary."""

    def forward(self, series_BTC: Tensor, lengths_B: Tensor) -> Tensor:
        is_step_BT = torch.arange(series_BTC.shape[1]) < lengths_B[:, None]
        sums_BC = (series_BTC * is_step_BT[..., None]).sum(1)
        return sums_BC[:, :3] / lengths_B[:, None]


class Branches(nn.Module):
    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (image.sum(1),) if image.sum() > 0 else (image.mean(1),)


@pytest.mark.no_cover  # others cover the same lines, and tracing doubles its time
@pytest.mark.parametrize("name", NAMES)
def test_it_answers_as_the_network_alone_and_in_batches(name):
    bundle = open_bundle(LATEST[name])
    manifest, golden = bundle.manifest, bundle.golden()
    names = tuple(spec.name for spec in manifest.outputs)
    longest = {axis: golden.inputs[spec.name].shape[1] for spec in manifest.inputs for axis in spec.shape[1:2]}
    longest = {axis: steps for axis, steps in longest.items() if isinstance(axis, str)}
    data, fixed_axes = torch_export.dump_or_fix(served_of(bundle), manifest.inputs, manifest.outputs, longest=longest)
    run = torch_export.runner(data, manifest.inputs, names, fixed_axes=fixed_axes)
    expected = verify.eager_runner(served_of(bundle), names)(golden.inputs)
    for actual in (run(golden.inputs), verify.alone(run, golden.inputs)):
        verify.expect_proven(actual, expected, manifest.golden.batch_tolerance, what=name)


def test_named_axes_stay_open_where_they_can():
    module = architectures.as_served(Mean()).eval()
    data, fixed = torch_export.dump_or_fix(module, SERIES, SCORES, longest={"time": MAX_STEPS})
    assert fixed == {}
    run = torch_export.runner(data, SERIES, ("logits", "probabilities"))
    given = series(3)
    for steps in (3, MAX_STEPS):
        inputs = {"series": given["series"][:, :steps], "lengths": given["lengths"]}
        expected = module(*(torch.tensor(array) for array in inputs.values()))[0]
        assert np.allclose(run(inputs)["logits"], expected, atol=1e-6)


def test_the_steps_of_a_recurrent_network_are_fixed_and_it_is_told():
    data, fixed = torch_export.dump_or_fix(recurrent(), SERIES, SCORES, longest={"time": MAX_STEPS})
    assert fixed == {"time": MAX_STEPS}
    run = torch_export.runner(data, SERIES, ("logits", "probabilities"), fixed_axes=fixed)
    given = series(3)
    short = {"series": given["series"][:, :3], "lengths": given["lengths"]}
    assert np.array_equal(run(given)["logits"], run(short)["logits"])


@pytest.mark.parametrize("fixed", [None, {"time": 3}])
def test_what_cannot_be_exported_is_refused(fixed):
    with pytest.raises(NotExportable, match=r"torch\.export cannot export the network"):
        torch_export.dump(Branches(), IMAGE, SUMS, fixed_axes=fixed)


def test_nothing_is_left_to_fix_where_no_axis_is_named():
    with pytest.raises(NotExportable, match=r"torch\.export cannot export the network"):
        torch_export.dump_or_fix(Branches(), IMAGE, SUMS, longest={})


def test_the_same_network_gives_the_same_bytes_without_traces_of_the_machine():
    bundle = open_bundle(LATEST["mlp"])
    first, second = (
        torch_export.dump(served_of(bundle), bundle.manifest.inputs, bundle.manifest.outputs) for _ in range(2)
    )
    assert first == second
    parts = parts_of(first)
    assert parts[SAMPLES] == b""
    assert b"stack_trace" not in parts[GRAPH]
    assert str(Path.cwd()).encode() not in first
