import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from app.backends.state_dict import load
from app.errors import BackendUnavailable, BundleError
from tests.support.bundles import dummy_bundle, edit_manifest, open_folder, write_file_with_digest
from training.architectures import as_served, build

FILE = "weights.safetensors"
CONFIG = {
    "height": 2, "width": 3, "hidden": [4], "dropout": 0.5, "num_classes": 3, "input_mean": 0.0, "input_std": 1.0,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle of an MLP with random weights."""
    folder = dummy_bundle(tmp_path, rows=1)

    def edit(manifest: dict[str, Any]) -> None:
        manifest["artifacts"][0].update(format="state_dict", path=FILE)
        manifest["golden"].update(tolerance={"state_dict": {"atol": 0.0}})
        manifest["architecture"] = {"name": "mlp", "config": CONFIG}

    edit_manifest(folder, edit)
    write_file_with_digest(folder, FILE, save(build("mlp", CONFIG).state_dict()))
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load as read

    return read((folder / FILE).read_bytes())


def test_the_weights_are_those_of_the_file_and_dropout_is_off(folder: Path) -> None:
    images_BHW = np.random.default_rng(0).random((5, 2, 3), np.float32)
    network = build("mlp", CONFIG)
    network.load_state_dict(weights(folder))
    with torch.inference_mode():
        logits_BC, probabilities_BC = as_served(network).eval()(torch.from_numpy(images_BHW))
    outputs = load(open_folder(folder), threads=1).run({"image": images_BHW})
    assert np.array_equal(outputs["logits"], logits_BC.numpy())
    assert np.array_equal(outputs["probabilities"], probabilities_BC.numpy())
    assert np.allclose(outputs["probabilities"].sum(axis=1), 1, atol=1e-6)


def test_threads_are_those_that_were_asked_for(folder: Path) -> None:
    load(open_folder(folder), threads=2)
    assert torch.get_num_threads() == 2
    load(open_folder(folder), threads=1)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("name", ["no-such", "os", "mlp-2"])
def test_only_a_registered_architecture_is_built(folder: Path, name: str) -> None:
    edit_manifest(folder, lambda manifest: manifest["architecture"].update(name=name))
    with pytest.raises(BundleError, match=f"the weights do not fit architecture '{name}': there is no architecture"):
        load(open_folder(folder), threads=1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (CONFIG | {"hidden": [5]}, "size mismatch"),
        (CONFIG | {"hidden": [4, 4]}, "Missing key"),
        (CONFIG | {"hidden": [0]}, "hidden"),
        (CONFIG | {"depth": 3}, "no config field 'depth'"),
    ],
)
def test_weights_of_another_config_are_refused(folder: Path, config: dict[str, Any], message: str) -> None:
    edit_manifest(folder, lambda manifest: manifest["architecture"].update(config=config))
    with pytest.raises(BundleError, match="the weights do not fit architecture 'mlp'") as caught:
        load(open_folder(folder), threads=1)
    assert message in str(caught.value)


@pytest.mark.parametrize("change", ["more", "less", "garbage", "truncated", "pickle"])
def test_a_file_of_other_weights_is_refused(folder: Path, change: str, tmp_path: Path) -> None:
    state = weights(folder)
    if change == "pickle":
        torch.save(state, tmp_path / "weights.pth")
    data = {
        "more": lambda: save(state | {"extra": torch.ones(1)}),
        "less": lambda: save(dict(list(state.items())[1:])),
        "garbage": lambda: b"garbage" * 100,
        "truncated": lambda: save(state)[:-1],
        "pickle": lambda: (tmp_path / "weights.pth").read_bytes(),
    }[change]()
    write_file_with_digest(folder, FILE, data)
    with pytest.raises(BundleError, match="the weights do not fit architecture 'mlp'"):
        load(open_folder(folder), threads=1)


@pytest.mark.parametrize("missing", ["torch", "safetensors.torch"])
def test_without_torch_the_extra_is_named(folder: Path, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(BackendUnavailable, match=r"needs torch and safetensors: pip install 'zero-to-one\[torch\]'"):
        load(open_folder(folder), threads=1)
