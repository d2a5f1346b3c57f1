import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from app.bundle.loader import open_bundle
from app.bundle.manifest import TensorSpec
from tests.support.committed import LATEST, NAMES
from tests.support.exported import MAX_STEPS, SCORES, SERIES, recurrent, series
from training.errors import NotExportable
from training.export import torchscript, verify
from training.export.variants import served_of

IMAGE = (TensorSpec(name="image", dtype="float32", shape=("batch", 4)),)
SUMS = (TensorSpec(name="sums", dtype="float32", shape=("batch",)),)


class FixesItsRows(nn.Module):
    """Its trace holds the number of rows that it was traced with."""

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (image.sum(1) + torch.full((int(image.shape[0]),), float(int(image.shape[0]))),)


class Branches(nn.Module):
    """Its trace holds the branch that it was traced through."""

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (image.sum(1) + 1,) if len(image) > 2 else (image.sum(1),)


class Raises(nn.Module):
    def forward(self, image: Tensor) -> tuple[Tensor]:
        raise RuntimeError("no such thing")


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_as_the_network_alone_and_in_batches(name):
    bundle = open_bundle(LATEST[name])
    manifest, golden = bundle.manifest, bundle.golden()
    names = tuple(spec.name for spec in manifest.outputs)
    run = torchscript.runner(
        torchscript.dump(served_of(bundle), manifest.inputs, manifest.outputs), list(golden.inputs), names
    )
    expected = verify.eager_runner(served_of(bundle), names)(golden.inputs)
    for actual in (run(golden.inputs), verify.alone(run, golden.inputs)):
        verify.expect_proven(actual, expected, manifest.golden.batch_tolerance, what=name)


def test_series_may_be_of_any_length():
    run = torchscript.runner(
        torchscript.dump(recurrent(), SERIES, SCORES), ["series", "lengths"], ["logits", "probabilities"]
    )
    given = series(4)
    whole, short = run(given), run({"series": given["series"][:, :4], "lengths": given["lengths"]})
    assert given["lengths"].max() == 4 < MAX_STEPS
    assert np.allclose(whole["probabilities"], short["probabilities"], atol=1e-6)


@pytest.mark.parametrize("module", [FixesItsRows(), Branches(), Raises()], ids=lambda module: type(module).__name__)
def test_what_cannot_be_traced_for_every_batch_is_refused(module):
    with pytest.raises(NotExportable, match=r"trace"):
        torchscript.dump(module, IMAGE, SUMS)


def test_the_same_network_gives_the_same_bytes_without_traces_of_the_machine():
    bundle = open_bundle(LATEST["mlp"])
    first, second = (
        torchscript.dump(served_of(bundle), bundle.manifest.inputs, bundle.manifest.outputs) for _ in range(2)
    )
    assert first == second
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert not [name for name in archive.namelist() if "debug" in name or "mangle" in name]
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert str(Path.cwd()).encode() not in content
    assert b"site-packages" not in content


def test_torch_jit_is_silent_inside_and_heard_outside():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with torchscript.quiet_jit():
            torch.jit.trace(nn.Identity(), torch.zeros(1))
        assert not caught
