"""Nothing that we run reports to anybody."""

import subprocess
import sys

import pytest

LOADS_A_MODEL = """
import os
from pathlib import Path
from app import backends
from app.bundle.loader import find_bundles, open_bundle
backends.load("onnx", open_bundle(find_bundles(Path("models"))[0]), threads=1)
print(os.environ["ORT_DISABLE_TELEMETRY"])
"""
TRAINS = "import training.export.verify, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"


@pytest.mark.parametrize("code", [LOADS_A_MODEL, TRAINS], ids=["service", "training"])
def test_onnx_runtime_is_told_not_to_report_before_it_is_imported(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
