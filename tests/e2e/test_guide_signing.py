"""The guide to signing is true: its commands run from the first to the last, in a folder of their own."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.bundle.signing import SIGNATURE_FILE
from tests.support.committed import LATEST
from tests.support.markdown import Page, commands
from tests.support.server import start
from tests.support.workers import wait_for

ROOT = Path(__file__).parents[2]
PAGE = Page.read(ROOT / "docs" / "guides" / "signing.md")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cnn", "mlp"):
        ref = LATEST[name]
        shutil.copytree(ref.folder, tmp_path / "models" / name / str(ref.version))
    return tmp_path


def run(command: str, folder: Path, status: int) -> str:
    """Run a command in the folder; return what it prints, on stderr where it is to fail."""
    words = shlex.split(command)
    if words[0].startswith("ZTO_"):
        serve_until_ready(dict([words[0].split("=")]), folder)
        return ""
    if words[0] == "model_signing":
        words[:1] = ["python", "-m", "model_signing"]
    if words[0] == "python":
        words[0] = sys.executable
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ZTO_")}
    done = subprocess.run(
        words, cwd=folder, env=environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stderr if status else done.stdout


def serve_until_ready(settings: dict[str, str], folder: Path) -> None:
    """Serve what is signed and what is not, beside each other."""
    key = str(folder / settings.pop("ZTO_SIGNING_KEY"))
    environ = {"ZTO_MODELS_DIR": str(folder / "models"), "ZTO_SIGNING_KEY": key, "ZTO_REQUIRED_MODELS": "cnn"}
    with start(environ | settings) as running:
        wait_for(lambda: "cnn/2 ready" in running.log(), running)
        assert "mlp/2 failed: model.sig is missing" in running.log()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the guide makes its keys with openssl")
def test_the_guide_runs(folder: Path) -> None:
    shown = 0
    for index, block in enumerate(PAGE.blocks):
        if block.kind != "bash":
            continue
        status = next((int(word.removeprefix("fails=")) for word in block.words if word.startswith("fails=")), 0)
        printed = "".join(run(command, folder, status) for command in commands(block.text))
        after = PAGE.blocks[index + 1 : index + 2]
        if after and after[0].words == ("output",):
            assert printed.strip() == after[0].text.strip()
            shown += 1
    assert shown == 4
    assert (folder / "models" / "cnn" / "2" / SIGNATURE_FILE).is_file()
