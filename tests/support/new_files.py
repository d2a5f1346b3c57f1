"""Files that a page has its reader add: held against the linter, and taken by the package where they would lie."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from app import errors
from tests.support.bundles import ARTIFACT_FILE, dummy_bundle, edit_manifest, open_folder, write_file_with_digest
from tests.support.pages import ROOT


def expect_well_formed(name: str, text: str) -> None:
    """Hold a file against the linter and the formatter, as `make check` would."""
    for command in (["check", "--quiet"], ["format", "--check", "--quiet"]):
        words = [sys.executable, "-m", "ruff", *command, "--stdin-filename", name, "-"]
        done = subprocess.run(words, input=text + "\n", capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stdout + done.stderr


def add(package: ModuleType, path: Path, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a package have one more file, until the test is over."""
    (folder / path.name).write_text(text)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    module = f"{package.__name__}.{path.stem}"
    monkeypatch.setitem(sys.modules, module, None)  # so that its end is to be forgotten
    del sys.modules[module]
    monkeypatch.setattr(package, path.stem, None, raising=False)


def expect_architecture(path: Path, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from training import architectures
    from training.config import recipe

    add(architectures, path, text, folder, monkeypatch)
    assert path.stem in architectures.names()
    assert recipe(path.stem).architecture == path.stem
    served = architectures.as_served(architectures.build(path.stem, {})).eval()
    logits_BC, probabilities_BC = served(torch.zeros(2, 28, 28))
    assert logits_BC.shape == probabilities_BC.shape == (2, 10)
    assert architectures.describe(path.stem).endswith(".")


def expect_backend(path: Path, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from app import backends

    add(backends, path, text, folder, monkeypatch)
    assert path.stem in backends.names()
    bundle = dummy_bundle(folder / "models", height=2, width=3)
    np.savez(folder / "weights.npz", weights=np.eye(6, 3, dtype=np.float32), bias=np.zeros(3, np.float32))
    write_file_with_digest(bundle, ARTIFACT_FILE, (folder / "weights.npz").read_bytes())
    edit_manifest(bundle, lambda manifest: manifest["artifacts"][0].update(format=path.stem))
    edit_manifest(bundle, lambda manifest: manifest["golden"].update(tolerance={path.stem: {"atol": 0.0}}))
    _, backend = backends.load("auto", open_folder(bundle), threads=1)
    outputs = backend.run({"image": np.ones((4, 2, 3), np.float32)})
    assert {name: array.shape for name, array in outputs.items()} == {"logits": (4, 3), "probabilities": (4, 3)}
    backend.close()
    write_file_with_digest(bundle, ARTIFACT_FILE, b"no archive")
    with pytest.raises(errors.BundleError):
        backends.load(path.stem, open_folder(bundle), threads=1)


NEW_FILES = {"training/architectures": expect_architecture, "app/backends": expect_backend}
