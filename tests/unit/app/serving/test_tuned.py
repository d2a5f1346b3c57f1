"""What was tuned is what is served, and nothing of it takes a good bundle down."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app import cpus
from app.__main__ import _within_the_cores
from app.backends.dummy import DummyBackend
from app.bundle.loader import BundleRef
from app.bundle.manifest import Batching
from app.bundle.tuning import Environment, path_of, write_tuning
from app.errors import SettingsError
from app.metrics import Metrics
from app.serving.catalog import Catalog
from app.serving.tuned import plan_for
from app.serving.versions import State, Version
from app.settings import Settings
from app.tensors import Tensors, num_rows
from tests.support.bundles import dummy_bundle, edit_manifest, open_folder
from tests.support.committed import copy_as_first
from tests.support.tunings import tuning_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return dummy_bundle(tmp_path, max_rows=8)


def tune(folder: Path, **choice: Any) -> None:
    """Write a tuning beside a bundle."""
    bundle = open_folder(folder)
    write_tuning(tuning_of(bundle, **choice), beside(folder))


def beside(folder: Path) -> Path:
    return path_of(BundleRef(name=folder.parent.name, version=int(folder.name), folder=folder))


def loaded(folder: Path, **settings: Any) -> Version:
    """Return the version as the service loads it."""

    async def scenario() -> Version:
        catalog = Catalog(Settings(models_dir=folder.parent.parent, **settings), Metrics())
        await catalog.load(lambda manifest, golden: None)
        catalog.close()
        return next(iter(catalog.versions()))

    return asyncio.run(scenario())


def test_what_was_tuned_is_served_and_proven_in_its_batches(folder: Path) -> None:
    tune(folder, max_rows=5, run_on="thread")
    version = loaded(folder)
    assert version.state is State.READY
    assert version.runs_on == "thread"
    assert isinstance(version.backend, DummyBackend)
    assert max(version.backend.rows_per_call) == 5  # of golden replay and warm-up
    assert version.plan is not None
    assert version.plan.overrides == {"max_rows": 5, "run_on": "thread"}
    assert version.plan.ignored_because is None
    assert version.bundle is not None
    assert version.bundle.manifest.batching == Batching(max_rows=5)


def test_without_a_tuning_the_manifest_is_served(folder: Path) -> None:
    version = loaded(folder)
    assert version.plan is not None
    assert (version.plan.tuning, version.plan.ignored_because, version.plan.overrides) == (None, None, {})
    assert version.device == "cpu"


def test_tuning_can_be_switched_off(folder: Path) -> None:
    tune(folder, max_rows=5)
    version = loaded(folder, tuning=False)
    assert isinstance(version.backend, DummyBackend)
    assert max(version.backend.rows_per_call) == 8


@pytest.mark.parametrize("text", ["", "{}", "nonsense"])
def test_a_damaged_one_is_told_and_the_bundle_serves(folder: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    beside(folder).write_text(text)
    version = loaded(folder)
    assert version.state is State.READY
    assert version.plan is not None
    assert "1.tuning.json is not valid" in (version.plan.ignored_because or "")
    assert "1.tuning.json is not valid" in caplog.text


def test_one_measured_on_a_gpu_is_not_heeded_without_it(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    tuning = tuning_of(open_folder(folder), max_rows=5)
    environment = Environment(**tuning.environment.model_dump() | {"device": "cuda"})
    write_tuning(tuning.model_copy(update={"environment": environment}), beside(folder))
    version = loaded(folder)
    assert version.state is State.READY
    assert version.plan is not None
    assert "it was tuned on cuda, and computes on cpu" in (version.plan.ignored_because or "")
    assert version.bundle is not None
    assert version.bundle.manifest.batching.max_rows == 8
    assert "not served as it was tuned" in caplog.text


def test_a_tuned_artifact_that_does_not_come_out_as_measured_gives_way_to_the_plain_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_as_first("cnn", tmp_path)
    tune(folder, backend="onnx-int8")
    assert loaded(folder).backend_name == "onnx-int8"
    (folder / "model.int8.onnx").write_bytes(b"damaged")
    version = loaded(folder)
    assert version.state is State.READY
    assert version.backend_name == "onnx"
    assert version.plan is not None
    assert "model.int8.onnx is not the file" in (version.plan.ignored_because or "")


def test_a_tuned_batch_that_the_machine_cannot_hold_gives_way_to_the_manifests_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = DummyBackend.run

    def run_within_memory(self: DummyBackend, inputs: Tensors) -> Tensors:
        if num_rows(inputs) > 16:
            raise MemoryError
        return run(self, inputs)

    monkeypatch.setattr(DummyBackend, "run", run_within_memory)
    tune(folder, max_rows=64)
    version = loaded(folder)
    assert version.state is State.READY
    assert version.plan is not None
    assert "warm-up: MemoryError" in (version.plan.ignored_because or "")
    assert version.plan.batching.max_rows == 8


def test_a_bundle_that_is_damaged_itself_still_fails(folder: Path) -> None:
    tune(folder, max_rows=5)
    (folder / "golden.npz").write_bytes(b"damaged")
    assert loaded(folder).state is State.FAILED


def test_what_the_operator_sets_by_name_has_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "num_cores", lambda: 2)
    folder = copy_as_first("cnn", tmp_path)
    tune(folder, backend="onnx-int8", threads=2, max_rows=16, run_on="loop")
    bundle = open_folder(folder)
    plan = plan_for(bundle, Settings(run_on="thread", threads=1))
    assert (plan.backend, plan.run_on, plan.threads, plan.batching.max_rows) == ("onnx-int8", "thread", 1, 16)
    plan = plan_for(bundle, Settings())
    assert plan.overrides == {"backend": "onnx-int8", "threads": 2, "max_rows": 16, "run_on": "loop"}
    plan = plan_for(bundle, Settings(backend="onnx"))
    assert (plan.tuning, plan.batching) == (None, bundle.manifest.batching)
    assert plan.ignored_because == "it was tuned for onnx-int8, and ZTO_BACKEND asks for onnx"
    assert plan_for(bundle, Settings(backend="cnn=onnx-int8,onnx")).tuning is not None


@pytest.mark.parametrize(("workers", "threads"), [(1, 4), (2, 2), (3, 1), (8, 1)])
def test_tuned_threads_are_heeded_as_serve_starts_and_never_exceed_the_cores(
    folder: Path, monkeypatch: pytest.MonkeyPatch, workers: int, threads: int
) -> None:
    monkeypatch.setattr(cpus, "num_cores", lambda: 4)
    tune(folder, threads=8)
    settings = _within_the_cores(Settings(workers=workers))
    assert plan_for(open_folder(folder), settings).threads == threads
    asked = _within_the_cores(Settings(workers=workers, threads=3))
    assert plan_for(open_folder(folder), asked).threads == min(3, threads)


def test_the_tuned_artifact_is_no_override_where_it_would_serve_anyway(tmp_path: Path) -> None:
    folder = copy_as_first("cnn", tmp_path)
    edit_manifest(folder, lambda manifest: manifest["artifacts"][0].update(format="tflite"))
    edit_manifest(folder, lambda manifest: manifest["golden"]["tolerance"].update(tflite={"atol": 0.1}))
    bundle = open_folder(folder)
    first = next(artifact.key for artifact in bundle.manifest.artifacts if artifact.format != "tflite")
    tune(folder, backend=first)
    plan = plan_for(bundle, Settings())
    assert (plan.backend, plan.overrides) == (first, {})


def test_an_artifact_that_is_asked_for_by_name_is_no_override(tmp_path: Path) -> None:
    folder = copy_as_first("cnn", tmp_path)
    tune(folder, backend="onnx-int8")
    assert plan_for(open_folder(folder), Settings(backend="onnx-int8")).overrides == {}


def test_a_backend_for_a_model_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"names models that are not there: \['nix'\]; there are: dummy"):
        Catalog(Settings(models_dir=folder.parent.parent, backend="nix=onnx,auto"), Metrics())
    assert loaded(folder, backend="dummy=dummy,onnx").backend_name == "dummy"
