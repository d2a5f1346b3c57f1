"""A service that holds a public key: at the start, at a load and at a swap, only what was signed is served."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.bundles import dummy_bundle
from tests.support.server import RunningService, serve, start
from tests.support.signatures import KeyPair, key_pair

ADMIN = {"Authorization": "Bearer open-sesame-1"}
IMAGE = {"instances": [{"image": [[1, 2, 3], [4, 5, 6]]}]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("signing")


@pytest.fixture(scope="module")
def pair(place: Path) -> KeyPair:
    return key_pair(place)


@pytest.fixture(scope="module")
def running(place: Path, pair: KeyPair) -> Iterator[RunningService]:
    """Serves ``good``, and finds ``unsigned``, ``foreign`` and ``altered`` beside it."""
    models = place / "models"
    pair.sign(dummy_bundle(models, "good"))
    dummy_bundle(models, "unsigned")
    key_pair(place, "other").sign(dummy_bundle(models, "foreign"))
    altered = dummy_bundle(models, "altered")
    (altered / "report.md").write_text("98%")
    pair.sign(altered)
    (altered / "report.md").write_text("99%")
    with serve(models, ready=503, signing_key=pair.public, admin_key="open-sesame-1") as running:
        yield running


def version_that_answers(running: RunningService) -> str:
    response = httpx.post(f"{running.url}/predict/good", json=IMAGE)
    assert response.status_code == 200
    return str(response.json()["version"])


def load(running: RunningService) -> httpx.Response:
    return httpx.post(f"{running.url}/v2/repository/models/good/load", json={}, headers=ADMIN, timeout=30)


def test_at_the_start_what_nobody_signed_is_out_with_its_reason_and_the_rest_answers(running: RunningService) -> None:
    models = running.wait_until(503).json()["models"]
    reasons = {name: model["reason"] for name, model in models.items()}
    assert reasons.pop("good") is None
    assert reasons.pop("unsigned").startswith("model.sig is missing, and ZTO_SIGNING_KEY asks for it; ")
    assert reasons.pop("foreign").startswith("model.sig is by another key: SHA-256 ")
    assert reasons.pop("altered").endswith("; not what was signed: 'report.md'")
    assert reasons == {}
    refused = httpx.post(f"{running.url}/predict/altered", json=IMAGE)
    assert (refused.status_code, refused.json()["code"]) == (503, "model_not_ready")
    assert "not what was signed: 'report.md'" in refused.json()["detail"]
    assert version_that_answers(running) == "1"


def test_a_version_is_swapped_in_once_it_is_signed_and_until_then_the_old_one_goes_on(
    running: RunningService, place: Path, pair: KeyPair
) -> None:
    folder = dummy_bundle(place / "models", "good", 2)
    refused = load(running)
    assert refused.status_code == 400
    assert "good/2: model.sig is missing" in refused.json()["error"]
    assert version_that_answers(running) == "1"

    pair.sign(folder)
    (folder / "extra").write_text("put there afterwards")
    refused = load(running)
    assert "not signed: 'extra'; it is served as version 1" in refused.json()["error"]
    assert version_that_answers(running) == "1"

    (folder / "extra").unlink()
    assert load(running).status_code == 200
    assert version_that_answers(running) == "2"

    # what serves goes on in memory, whatever becomes of its folder
    shutil.rmtree(folder)
    shutil.copytree(place / "models" / "unsigned" / "1", folder)
    refused = load(running)
    assert "good/2: model.sig is missing" in refused.json()["error"]
    assert version_that_answers(running) == "2"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_service_whose_key_cannot_be_read_does_not_start(place: Path, running: RunningService, workers: str) -> None:
    settings = {"ZTO_MODELS_DIR": str(place / "models"), "ZTO_SIGNING_KEY": "none.pub", "ZTO_WORKERS": workers}
    with start(settings) as stopped:
        assert stopped.process.wait(30) == 2
        assert "error: ZTO_SIGNING_KEY=none.pub cannot be read: No such file" in stopped.log()
