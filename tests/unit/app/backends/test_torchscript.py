import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from app.backends.torchscript import RUNS_CODE, load
from app.errors import BackendUnavailable, BundleError
from tests.support.bundles import open_folder, write_file_with_digest
from tests.support.exported import exported_bundle

FILE = "model.torchscript"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return exported_bundle(tmp_path / "models", "mlp", "torchscript")


def test_it_says_that_it_runs_code() -> None:
    assert RUNS_CODE


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_program_can_write_files_which_is_why_it_must_be_allowed(folder: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"

    class Writes(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            scores = image.flatten(1)[:, :10] + torch.from_file(str(made), shared=True, size=1)
            return scores, scores

    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(Writes(), torch.zeros(1, 28, 28)), buffer)
    made.unlink()
    write_file_with_digest(folder, FILE, buffer.getvalue())
    load(open_folder(folder), threads=1).run({"image": np.zeros((1, 28, 28), np.float32)})
    assert made.exists()


@pytest.mark.parametrize("data", [b"\0", b"garbage" * 100])
def test_what_is_no_program_is_refused(folder: Path, data: bytes) -> None:
    write_file_with_digest(folder, FILE, data)
    with pytest.raises(BundleError, match="torch refuses the TorchScript program"):
        load(open_folder(folder), threads=1)


def test_threads_are_those_that_were_asked_for(folder: Path) -> None:
    load(open_folder(folder), threads=2)
    assert torch.get_num_threads() == 2
    load(open_folder(folder), threads=1)
    assert torch.get_num_threads() == 1


def test_without_torch_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendUnavailable, match=r"needs torch: pip install 'zero-to-one\[torch\]'"):
        load(open_folder(folder), threads=1)
