"""Bundles of formats that the repository does not hold: exported anew from the weights that it does hold."""

import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from app.bundle.golden import GoldenRows, dump_golden
from app.bundle.loader import open_bundle
from app.bundle.manifest import TensorSpec
from tests.support.bundles import dummy_bundle, edit_manifest, file_ref, open_folder
from tests.support.committed import LATEST
from training import architectures
from training.export import torch_export, torchscript, verify
from training.export.variants import served_of

NUM_CHANNELS, NUM_CLASSES, MAX_STEPS = 4, 3, 6
SERIES = (
    TensorSpec(name="series", dtype="float32", shape=("batch", "time", NUM_CHANNELS)),
    TensorSpec(name="lengths", dtype="int64", shape=("batch",)),
)
SCORES = tuple(
    TensorSpec(name=name, dtype="float32", shape=("batch", NUM_CLASSES)) for name in ("logits", "probabilities")
)
TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}


class Recurrent(nn.Module):
    """A small LSTM over padded series, read at the last step of each."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.LSTM(NUM_CHANNELS, 8, batch_first=True)
        self.head = nn.Linear(8, NUM_CLASSES)

    def forward(self, series_BTC: Tensor, lengths_B: Tensor) -> Tensor:
        states_BTD, _ = self.steps(series_BTC)
        last_B1D = (lengths_B - 1)[:, None, None].expand(-1, 1, states_BTD.shape[2])
        logits_BC: Tensor = self.head(torch.gather(states_BTD, 1, last_B1D).squeeze(1))
        return logits_BC


@cache
def recurrent() -> nn.Module:
    """Return a recurrent classifier as it is served, with weights that are always the same."""
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(0)
    served = architectures.as_served(Recurrent()).eval()
    torch.random.set_rng_state(generator_state)
    return served


def series(rows: int, *, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Return padded series of all lengths up to the longest; what lies behind a length is zero."""
    generator = np.random.default_rng(seed)
    lengths_B = 1 + np.arange(rows, dtype=np.int64) % MAX_STEPS
    series_BTC = generator.standard_normal((rows, MAX_STEPS, NUM_CHANNELS)).astype(np.float32)
    series_BTC[np.arange(MAX_STEPS) >= lengths_B[:, None]] = 0
    return {"series": series_BTC, "lengths": lengths_B}


@cache
def exported(name: str, fmt: str) -> bytes:
    """Return a committed model in a format that is not committed."""
    bundle = open_bundle(LATEST[name])
    module = {"torchscript": torchscript, "torch_export": torch_export}[fmt]
    return module.dump(served_of(bundle), bundle.manifest.inputs, bundle.manifest.outputs)


def exported_bundle(models_dir: Path, name: str, fmt: str) -> Path:
    """Write a committed bundle once more, with one artifact: of a format that is not committed."""
    ref = LATEST[name]
    folder = models_dir / ref.name / str(ref.version)
    shutil.copytree(ref.folder, folder)
    content, path = exported(name, fmt), f"model.{fmt}"
    (folder / path).write_bytes(content)

    def edit(manifest: dict[str, Any]) -> None:
        manifest["artifacts"] = [{"format": fmt, **file_ref(path, content)}]
        manifest["golden"]["tolerance"] = {fmt: TOLERANCE}
        manifest["golden"]["output_tolerance"] = {}

    edit_manifest(folder, edit)
    return folder


def series_bundle(models_dir: Path) -> Path:
    """Write a bundle of a recurrent network as an exported program, whose steps are fixed."""
    folder = dummy_bundle(models_dir, "series", labels=("a", "b", "c"))
    content, fixed_axes = torch_export.dump_or_fix(recurrent(), SERIES, SCORES, longest={"time": MAX_STEPS})
    inputs = series(10)
    outputs = verify.eager_runner(recurrent(), ("logits", "probabilities"))(inputs)
    golden = dump_golden(
        GoldenRows(
            requests=[{"sequence": row.tolist()} for row in inputs["series"]],
            inputs=inputs,
            outputs=outputs,
            responses=[{} for _ in range(10)],
        )
    )
    (folder / "model.pt2").write_bytes(content)
    (folder / "golden.npz").write_bytes(golden)

    def edit(manifest: dict[str, Any]) -> None:
        manifest["task"] = {
            "kind": "sequence_classification",
            "sequence": {"num_channels": NUM_CHANNELS, "max_length": MAX_STEPS},
            "labels": ["a", "b", "c"],
        }
        manifest["inputs"] = [spec.model_dump(mode="json") for spec in SERIES]
        manifest["outputs"] = [spec.model_dump(mode="json") for spec in SCORES]
        manifest["artifacts"] = [{"format": "torch_export", "fixed_axes": fixed_axes, **file_ref("model.pt2", content)}]
        manifest["golden"] = {
            **file_ref("golden.npz", golden),
            "rows": 10,
            "tolerance": {"torch_export": TOLERANCE},
            "batch_tolerance": {"atol": 1e-5, "rtol": 1e-5},
        }

    edit_manifest(folder, edit)
    return open_folder(folder).folder
