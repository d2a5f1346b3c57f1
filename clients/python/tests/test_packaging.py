"""What is installed stands alone: on httpx, without NumPy, Pillow and the service."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support.server import RunningService

HERE = Path(__file__).parents[1]
ROOT = HERE.parents[1]
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]

# answers from an installation that has nothing but what httpx itself asks for
ALONE = """
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numpy", "PIL", "app", "training"):
            raise ImportError(name)

sys.meta_path.insert(0, Missing())
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import zero_to_one_client
from zero_to_one_client import Client, MissingExtra, __version__
assert Path(zero_to_one_client.__file__).is_relative_to(sys.argv[1])
with Client(sys.argv[2]) as client:
    print(__version__, client.predict("cnn", [Path(sys.argv[3])])[0].label)
    print(client.predict("lstm", ["Lose weight fast!"])[0].label)
    print(client.predict("rnn", [[[0.0] * 12] * 9])[0].label.split()[0])
    print(len(client.predict("numpy_regression", [[51, 1, 25.6, 93, 186, 113, 48, 4, 4.61, 92]])))
    try:
        client.infer("cnn", {"image": []})
    except MissingExtra as error:
        print(error)
"""


def answers_alone(folder: Path, service: RunningService) -> None:
    words = [sys.executable, "-W", "error", "-c", ALONE, str(folder), service.url, "docs/images/ankle-boot.png"]
    # what is unpacked from a wheel is no source of ours, and counts for nothing in the coverage
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    version, *said = done.stdout.splitlines()
    assert version == "0.1.0 Ankle boot"
    assert said == ["spam", "speaker", "1", "infer needs the extra 'numpy': pip install 'zero-to-one-client[numpy]'"]


def test_it_answers_without_numpy_pillow_and_the_service(service: RunningService) -> None:
    answers_alone(HERE / "src", service)


@pytest.mark.slow
def test_the_wheel_is_whole(service: RunningService, tmp_path: Path) -> None:
    """pip builds it as for anybody; where no index is to be had for hatchling, with the one that is installed."""
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(HERE)]
    if subprocess.run([sys.executable, "-c", "import hatchling"], capture_output=True, check=False).returncode == 0:
        words.insert(5, "--no-build-isolation")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("zero_to_one_client-0.1.0-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
        names = archive.namelist()
        metadata = archive.read("zero_to_one_client-0.1.0.dist-info/METADATA").decode()
    assert "zero_to_one_client/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if not name.startswith("zero_to_one_client")]
    wanted = [re.split(r"[<>=]", line)[0] for line in re.findall(r"^Requires-Dist: ([^;\n]+)$", metadata, re.MULTILINE)]
    assert wanted == ["anyio", "httpx"]
    answers_alone(tmp_path / "installed", service)


def test_the_licence_is_that_of_the_repository() -> None:
    assert (HERE / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert PROJECT["license-files"] == ["LICENSE"]


def test_what_it_is_tested_with_is_what_it_asks_for() -> None:
    """The versions of the service's own extras and of the client's do not drift apart."""
    root = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = root["dependencies"] + [line for lines in root["optional-dependencies"].values() for line in lines]
    extras = PROJECT["optional-dependencies"]
    for line in [*PROJECT["dependencies"], *extras["numpy"], *extras["images"]]:
        assert any(line.split(",")[0] == other for other in known), line
