"""Every recipe, trained for real on a small slice of its data, exported, and served together with all the others."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from app import tasks
from app.bundle.golden import GoldenRows
from app.bundle.loader import Bundle, find_bundles, open_bundle
from app.tasks import Limits, check_contract
from tests.support import slices
from tests.support.server import RunningService, serve
from training import architectures, cli, config, data, problems
from training.config import NumpyConfig
from training.data import TableRows
from training.export.verdicts import INT8

pytestmark = pytest.mark.slow

RECIPES = config.recipe_names()
# enough of them for all that is trained by torch; the NumPy networks have their tables whole, and their recipes as well
FEW_EPOCHS = ("--epochs", "8", "--batch-size", "32")
LIMITS = Limits(max_instances=1024, max_image_pixels=2**24)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle of every recipe, trained by the command line; once, however many workers test them."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = folder / "slices"
    (folder / "models").mkdir(parents=True, exist_ok=True)
    # what another worker has at hand is passed over at first, and waited for in the end
    for wait in (False, True):
        for name in RECIPES:
            with locked(folder / f"{name}.lock", wait=wait) as is_ours:
                if is_ours and not (folder / "models" / name).exists():
                    train(name, folder)
    return folder / "models"


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[bool]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def train(name: str, folder: Path) -> None:
    changes = () if isinstance(config.recipe(name), NumpyConfig) else FEW_EPOCHS
    folders = ("--models-dir", str(folder / "models"), "--runs-dir", str(folder / "runs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load", slices.load)
        torch.set_num_threads(1)
        assert cli.main(["train", name, *changes, "--no-explanations", *folders]) == 0, f"{name} is not trained"


@pytest.fixture(scope="module")
def service(models: Path) -> Iterator[RunningService]:
    """All of them, served together."""
    with serve(models) as running:
        yield running


def bundle_of(models: Path, name: str) -> Bundle:
    (ref,) = (ref for ref in find_bundles(models) if ref.name == name)
    return open_bundle(ref)


def test_every_kind_of_problem_and_every_architecture_is_among_them(models: Path) -> None:
    manifests = [bundle_of(models, name).manifest for name in RECIPES]
    assert {manifest.task.kind for manifest in manifests} == set(problems.kinds())
    assert {manifest.architecture.name for manifest in manifests} == set(architectures.names())


@pytest.mark.parametrize("name", RECIPES)
def test_it_learns(models: Path, name: str) -> None:
    """Half of the way from blind guessing to all right, at least; and well above the mean, where numbers are told."""
    metrics = bundle_of(models, name).manifest.metrics
    if "accuracy" not in metrics:
        assert metrics["r2"] > 0.4
        return
    rows = slices.load(config.recipe(name).data_set).test
    labels_N = rows.targets if isinstance(rows, TableRows) else rows.labels
    guessing = np.bincount(labels_N).max() / len(labels_N)
    assert metrics["accuracy"] > (guessing + 1) / 2


@pytest.mark.parametrize("name", RECIPES)
def test_the_service_makes_of_golden_requests_what_the_trainer_made(models: Path, name: str) -> None:
    bundle = bundle_of(models, name)
    golden = bundle.golden()
    assert len(golden) >= 16
    check_contract(tasks.create(bundle, LIMITS), golden)


def test_no_text_that_a_network_was_trained_or_judged_on_is_in_its_bundle(models: Path) -> None:
    bundles = [bundle_of(models, name) for name in RECIPES]
    readers = [bundle for bundle in bundles if bundle.manifest.task.kind == "text_classification"]
    assert readers
    splits = (slices.texts().train, slices.texts().validation, slices.texts().test)
    texts = {text for split in splits for text in split.texts}
    # a report would cut them short
    beginnings = {text[:24].encode() for text in texts if len(text) >= 24}
    for bundle in readers:
        assert not texts & {request["text"] for request in bundle.golden().requests}
        for path in bundle.folder.rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            assert not [beginning for beginning in beginnings if beginning in content], path


def test_all_are_ready_together(service: RunningService) -> None:
    with httpx.Client(base_url=service.url) as client:
        states = {model["name"]: model["state"] for model in client.get("/models").json()["models"]}
    assert states == dict.fromkeys(RECIPES, "ready")


@pytest.mark.parametrize("name", RECIPES)
def test_golden_requests_are_answered_with_golden_responses_together_and_alone(
    models: Path, service: RunningService, name: str
) -> None:
    bundle = bundle_of(models, name)
    golden = bundle.golden()
    with httpx.Client(base_url=service.url, timeout=30) as client:
        expect_answered(partial(predict, client, name), golden, atol=bundle.manifest.golden.tolerance["onnx"].atol)


@pytest.mark.parametrize("name", RECIPES)
def test_int8_is_built_proven_and_measured_whether_it_is_shipped_or_not(models: Path, name: str) -> None:
    bundle = bundle_of(models, name)
    (row,) = (row for row in json.loads((bundle.folder / "report" / "variants.json").read_text()) if row["key"] == INT8)
    # one that cannot be built, or that does not answer as it states, has no figures
    assert row["score"] is not None, row["reason"]
    assert row["shipped"] is (row["reason"] is None)
    assert row["shipped"] is (INT8 in {artifact.key for artifact in bundle.manifest.artifacts})


def test_what_is_shipped_as_int8_is_served_as_int8(models: Path, tmp_path: Path) -> None:
    bundles = [open_bundle(ref) for ref in find_bundles(models)]
    shipped = [each for each in bundles if INT8 in {artifact.key for artifact in each.manifest.artifacts}]
    if not shipped:
        pytest.skip("on this machine no int8 variant was faster")
    for bundle in shipped:
        shutil.copytree(bundle.folder, tmp_path / bundle.manifest.name / str(bundle.manifest.version))
    with serve(tmp_path, backend=INT8) as running, httpx.Client(base_url=running.url, timeout=30) as client:
        listed = client.get("/models").json()["models"]
        assert {model["name"]: model["state"] for model in listed} == {
            bundle.manifest.name: "ready" for bundle in shipped
        }
        for bundle in shipped:
            golden = bundle.golden()
            predictions = predict(client, bundle.manifest.name, golden.requests)
            assert len(predictions) == len(golden)


def predict(client: httpx.Client, name: str, requests: list[Any]) -> list[dict[str, Any]]:
    answer = client.post(f"/predict/{name}", json={"instances": requests})
    assert answer.status_code == 200, answer.text
    predictions: list[dict[str, Any]] = answer.json()["predictions"]
    return predictions


def expect_answered(ask: Any, golden: GoldenRows, *, atol: float) -> None:
    """Hold the answers to golden requests against golden responses, asked all at once and one by one."""
    together = ask(golden.requests)
    alone = [ask([request])[0] for request in golden.requests]
    assert len(together) == len(golden)
    for row, expected in enumerate(golden.responses):
        for prediction in (together[row], alone[row]):
            assert prediction.keys() == expected.keys()
            for member, value in expected.items():
                assert_close(prediction[member], value, atol=atol)


def assert_close(actual: Any, expected: Any, *, atol: float) -> None:
    """Compare what JSON holds: numbers to a tolerance, all else as it is."""
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        actual, expected = list(actual.values()), list(expected.values())
    if isinstance(expected, bool | int | str):
        assert actual == expected
    else:
        np.testing.assert_allclose(actual, expected, atol=atol, rtol=1e-4)
