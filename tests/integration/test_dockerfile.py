"""What the image leaves out of the installed libraries, nothing that serves asks for."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import Settings
from tests.integration.conftest import MODELS, ROOT
from tests.support.kinds import kind_bundle

SERVE = """
import asyncio, sys
from pathlib import Path
for name in {packages!r}:
    sys.modules[name] = None  # an import of it fails
from app.main import create_app
from app.settings import Settings

async def states(app):
    async with app.router.lifespan_context(app):
        while any(version.state in ("loading", "proving") for version in app.catalog.versions()):
            await asyncio.sleep(0.01)
        return [(version.label, version.state.value, version.reason) for version in app.catalog.versions()]

for version in asyncio.run(states(create_app(Settings(models_dir=Path({models!r}), backend={backend!r})))):
    if version[1] != "ready":
        sys.exit(version)

import numpy
site = Path(numpy.__file__).parents[1]
used = set(line.split()[-1] for line in open("/proc/self/maps")) | set(
    str(getattr(module, "__file__", None)) for module in list(sys.modules.values())
)
for gone in (str(path) for pattern in {patterns!r} for path in site.glob(pattern)):
    for path in used:
        if path == gone or path.startswith(gone + "/"):
            sys.exit("in use: " + path)
"""


def left_out() -> list[str]:
    """Return what the Dockerfile removes, as patterns below site-packages."""
    found = re.search(r'^ARG UNUSED="([^"]*)"', (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert found is not None
    return found[1].replace("\\\n", " ").split()


def as_packages(patterns: list[str]) -> list[str]:
    """Return those that are packages, whole or inside another."""
    return [path.replace("/", ".") for path in patterns if "*" not in path and not Path(path).suffix]


@pytest.mark.parametrize("backend", ["onnx", "state_dict", "dummy"])
def test_every_backend_serves_without_what_the_image_leaves_out(tmp_path: Path, backend: str) -> None:
    patterns = left_out()
    packages = as_packages(patterns)
    assert {"huggingface_hub", "pydantic.v1"} <= set(packages)
    if backend == "dummy":
        kind_bundle(tmp_path, "text_classification")
    models = tmp_path if backend == "dummy" else MODELS
    script = SERVE.format(packages=packages, patterns=patterns, models=str(models), backend=backend)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_what_was_tuned_on_one_machine_is_neither_committed_nor_copied_into_the_image() -> None:
    pattern = "models/*/*.tuning.json"
    assert pattern in (ROOT / ".gitignore").read_text().splitlines()
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines.index(pattern) > lines.index("!models")  # the last that matches decides


def test_the_command_that_sagemaker_runs_is_in_the_image_and_on_its_path() -> None:
    script = ROOT / "docker" / "serve"
    assert os.access(script, os.X_OK)
    assert "!docker/serve" in (ROOT / ".dockerignore").read_text().splitlines()
    dockerfile = (ROOT / "Dockerfile").read_text()
    stage = dockerfile.partition(" AS serving\n")[2].partition("\nFROM ")[0]
    assert "COPY docker/serve /usr/local/bin/serve" in stage.splitlines()
    # its first line is read by the kernel, and `python` is found as the image's CMD finds it
    assert script.read_text().startswith("#!/bin/sh\n")
    assert 'exec python -m app serve "$@"' in script.read_text().splitlines()
    assert 'CMD ["python", "-m", "app", "serve"]' in stage.splitlines()


def test_the_image_is_asked_for_its_health_on_either_port() -> None:
    stage = (ROOT / "Dockerfile").read_text().partition(" AS serving\n")[2].partition("\nFROM ")[0]
    assert "CMD python -m app health || PORT=8080 python -m app health" in stage
    assert "PORT=8080" in (ROOT / "docker" / "serve").read_text().replace("SAGEMAKER_BIND_TO_", "")
    # a variable of the image's would win over what a platform mounts, or says
    assert not re.search(r"^ENV .*\b(MODELS_DIR|PORT|ZTO_PORT)=", stage, re.MULTILINE)


def test_compose_passes_every_setting_on_but_what_the_image_itself_decides() -> None:
    composed = (ROOT / "docker-compose.yml").read_text()
    passed = {name.lower() for name in re.findall(r"^    ZTO_(\w+):(?: \$\{ZTO_\1:-\w+\})?$", composed, re.MULTILINE)}
    assert set(Settings.model_fields) - passed == {"host", "port", "models_dir", "allow_torchscript"}
