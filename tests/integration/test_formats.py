"""Formats and variants, through the whole service: what is chosen is what answers, and the card tells all there are."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.bundle.loader import open_bundle
from tests.support.bundles import dummy_bundle, edit_manifest, file_ref
from tests.support.committed import LATEST, copy_as_first
from tests.support.exported import exported
from tests.support.server import RunningService, serve
from training.export import quantize

FIXTURE = Path(__file__).parents[1] / "fixtures" / "fashion_mnist_test_512.npz"
PLAIN = {"atol": 1e-4, "rtol": 1e-4}
WIDE = {"atol": 20.0}


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The MLP in every form that makes a difference to the service."""
    folder = copy_as_first("mlp", tmp_path_factory.mktemp("models"))
    pictures = np.load(FIXTURE)["images"].astype(np.float32)
    int8 = quantize.dump_static((folder / "model.onnx").read_bytes(), {"image": pictures[:64]})
    forms: dict[tuple[str, str | None], bytes] = {
        ("onnx", "int8"): int8,
        ("torch_export", None): exported("mlp", "torch_export"),
        ("torchscript", None): exported("mlp", "torchscript"),
    }
    plain = ("onnx", "state_dict")

    def strip(manifest: dict[str, Any]) -> None:
        manifest["artifacts"] = [each for each in manifest["artifacts"] if each.get("variant") is None]
        manifest["golden"]["tolerance"] = {key: manifest["golden"]["tolerance"][key] for key in plain}
        manifest["golden"]["output_tolerance"] = {}

    edit_manifest(folder, strip)
    for (fmt, variant), content in forms.items():
        path = f"{fmt}.{variant}.bin"
        (folder / path).write_bytes(content)

        def edit(manifest: dict[str, Any], fmt: str = fmt, variant: str | None = variant, path: str = path) -> None:
            manifest["artifacts"].append(
                {"format": fmt, "variant": variant, **file_ref(path, (folder / path).read_bytes())}
            )
            key = fmt if variant is None else f"{fmt}-{variant}"
            manifest["golden"]["tolerance"][key] = PLAIN if variant is None else WIDE

        edit_manifest(folder, edit)
    return folder.parents[1]


KEYS = ["onnx", "state_dict", "onnx-int8", "torch_export", "torchscript"]


def answer(service: RunningService) -> dict[str, Any]:
    body = httpx.get(f"{service.url}/models/mlp").json()["example"]
    response = httpx.post(f"{service.url}/predict/mlp", json=body)
    assert response.status_code == 200, response.text
    prediction: dict[str, Any] = response.json()["predictions"][0]
    return prediction


@pytest.mark.parametrize("key", ["onnx-int8", "torch_export", "torchscript"])
def test_what_is_chosen_is_what_answers(models_dir: Path, key: str) -> None:
    with serve(models_dir, backend="onnx") as service:
        expected = answer(service)
    with serve(models_dir, backend=key, allow_torchscript=int(key == "torchscript")) as service:
        (version,) = httpx.get(f"{service.url}/models/mlp").json()["versions"]
        assert version["backend"] == key
        found = answer(service)
    assert found["label"] == expected["label"]
    assert found["probability"] == pytest.approx(expected["probability"], abs=0.3 if key == "onnx-int8" else 1e-5)


def test_a_program_that_is_not_allowed_fails_its_version_and_says_how_to_allow_it(models_dir: Path) -> None:
    with serve(models_dir, backend="torchscript", ready=503) as service:
        state = service.wait_until(503).json()
    assert state["models"]["mlp"]["state"] == "failed"
    assert "ZTO_ALLOW_TORCHSCRIPT=1" in state["models"]["mlp"]["reason"]


def test_the_card_tells_key_size_accuracy_and_latency_of_every_artifact(models_dir: Path) -> None:
    with serve(models_dir) as service:
        (version,) = httpx.get(f"{service.url}/models/mlp").json()["versions"]
    assert [artifact["key"] for artifact in version["artifacts"]] == KEYS
    assert version["backend"] == "onnx"
    first, stated = version["artifacts"][0], open_bundle(LATEST["mlp"]).manifest.artifacts[0]
    assert (first["size_bytes"], first["test_accuracy"]) == (stated.size_bytes, stated.test_accuracy)
    assert set(first["latency_ms"]) == {"1", "32"}
    assert version["artifacts"][2]["variant"] == "int8"


def test_a_key_that_a_bundle_lacks_is_told_with_those_that_it_has(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    with serve(tmp_path, backend="dummy-int8", ready=503) as service:
        state = service.wait_until(503).json()
    assert "the bundle has no 'dummy-int8' artifact, it has: dummy" in state["models"]["dummy"]["reason"]
