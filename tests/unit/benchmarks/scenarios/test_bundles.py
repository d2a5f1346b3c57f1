"""The bundles that scenarios write are held to all that the service holds a bundle to."""

import time
from pathlib import Path

import pytest

from app import backends, tasks
from app.bundle.loader import BundleRef, open_bundle
from app.serving.proof import prove
from benchmarks.scenarios import _bundles


def prove_folder(folder: Path) -> None:
    bundle = open_bundle(BundleRef(name=folder.parent.name, version=int(folder.name), folder=folder))
    key, backend = backends.load("auto", bundle, threads=1)
    golden = bundle.golden(key)
    tasks.check_contract(tasks.create(bundle, tasks.Limits(max_instances=32, max_image_pixels=2**20)), golden)
    prove(backend.run, bundle.manifest, golden, key)


def test_a_dummy_is_proven_and_takes_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    prove_folder(_bundles.write_dummy(tmp_path, "slow", sleep_s=0.2))
    assert slept
    assert set(slept) == {0.2}


def test_a_copy_with_larger_batches_is_proven(tmp_path: Path) -> None:
    folder = _bundles.copy_unbounded("rnn", tmp_path, max_rows=64, name="wide")
    batching = _bundles.manifest_of(folder).batching
    assert (batching.max_rows, batching.max_elements) == (64, None)
    prove_folder(folder)


def test_linked_models_are_found_and_no_others(tmp_path: Path) -> None:
    from app.bundle.loader import find_bundles

    _bundles.link(("cnn", "mlp"), tmp_path / "models")
    assert {ref.name for ref in find_bundles(tmp_path / "models")} == {"cnn", "mlp"}


def test_the_newest_version_answers() -> None:
    folder = _bundles.newest("cnn")
    assert int(folder.name) == max(int(path.name) for path in folder.parent.iterdir() if path.name.isdigit())


def test_an_unknown_model_is_an_error() -> None:
    with pytest.raises(FileNotFoundError, match="no model 'nothing'"):
        _bundles.newest("nothing")
