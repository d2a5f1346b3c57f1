"""A service answers as the manifests expect it to: probes, protocols, and keys as the kubelet mounts them."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.settings import Settings
from tests.deploy.conftest import KSERVE, ROOT, each_pod, the_service
from tests.support.keys import make_key
from tests.support.kubernetes import environ, only
from tests.support.server import START_TIMEOUT_S, RunningService, serve


def mount_secret(folder: Path, revision: str) -> str:
    """Do what the kubelet does with a Secret that is new or has changed; return the key that is good from now on.

    The files lie in a folder of their own, and the name that everybody reads leads there over a link that is replaced.
    """
    (folder / revision).mkdir(parents=True)
    key = make_key(folder / revision / "keys.json", revision, "read")
    link = folder / "..data_tmp"
    link.symlink_to(revision)
    link.replace(folder / "..data")
    if not (file := folder / "keys.json").is_symlink():
        file.symlink_to(Path("..data") / "keys.json")
    return key


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("etc") / "zero-to-one"
    return folder, mount_secret(folder, "first")


@pytest.fixture(scope="module")
def service(secret: tuple[Path, str]) -> Iterator[RunningService]:
    with serve(ROOT / "models", api_keys_file=secret[0] / "keys.json") as running:
        yield running


def status_of(url: str, key: str) -> int:
    return httpx.get(url, headers={"X-API-Key": key}).status_code


@each_pod
def test_probes_ask_paths_that_answer_on_the_port_that_is_listened_on(
    pod: dict[str, Any], service: RunningService
) -> None:
    container = the_service(pod)
    port = Settings.from_environ(environ(container)).port
    names = {entry.get("name"): entry["containerPort"] for entry in container["ports"]}
    assert port in names.values()
    probes = {name: probe["httpGet"] for name, probe in container.items() if name.endswith("Probe")}
    assert set(probes) == {"startupProbe", "livenessProbe", "readinessProbe"}
    for probe in probes.values():
        assert names.get(probe["port"], probe["port"]) == port
        assert httpx.get(service.url + probe["path"]).status_code == 200
    assert probes["startupProbe"]["path"] == "/startupz"
    assert probes["livenessProbe"]["path"] == "/livez"


def test_kserve_is_told_the_protocol_that_the_service_speaks(service: RunningService, secret: tuple[Path, str]) -> None:
    predictor = only(KSERVE["inference-service.yaml"], "InferenceService")["spec"]["predictor"]
    assert environ(the_service(predictor))["PROTOCOL"] == "v2"
    assert status_of(f"{service.url}/v2", secret[1]) == 200
    assert status_of(f"{service.url}/v1/models", secret[1]) == 200
    runtime = only(KSERVE["your-bundles.yaml"], "ServingRuntime")["spec"]
    assert runtime["protocolVersions"] == ["v1", "v2"]
    model = only(KSERVE["your-bundles.yaml"], "InferenceService")["spec"]["predictor"]["model"]
    assert model["protocolVersion"] in runtime["protocolVersions"]
    assert model["modelFormat"]["name"] in {entry["name"] for entry in runtime["supportedModelFormats"]}


def test_a_secret_that_changes_is_taken_without_a_restart(service: RunningService, secret: tuple[Path, str]) -> None:
    """Last in this module: the first key is good for nothing afterwards."""
    folder, first = secret
    assert status_of(f"{service.url}/models", first) == 200
    second = mount_secret(folder, "second")
    ends_at = time.monotonic() + START_TIMEOUT_S
    while status_of(f"{service.url}/models", second) != 200:
        assert time.monotonic() < ends_at, service.log()
        time.sleep(0.05)
    assert status_of(f"{service.url}/models", first) == 401
