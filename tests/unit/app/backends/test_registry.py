import sys
from pathlib import Path

import pytest

from app import backends
from app.backends.dummy import DummyBackend
from app.errors import BundleError
from tests.support.bundles import ARTIFACT_FILE, dummy_bundle, edit_manifest, open_folder
from tests.support.exported import exported_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return dummy_bundle(tmp_path, rows=1)


def add_artifact(folder: Path, fmt: str, *, first: bool, variant: str | None = None) -> None:
    """Put the dummy's own file into the manifest once more, as if it were of another format or variant."""

    def edit(manifest: dict) -> None:  # type: ignore[type-arg]
        artifact = manifest["artifacts"][0] | {"format": fmt, "variant": variant}
        manifest["artifacts"].insert(0 if first else 1, artifact)
        manifest["golden"]["tolerance"][fmt if variant is None else f"{fmt}-{variant}"] = {"atol": 0.0}

    edit_manifest(folder, edit)


def test_every_file_of_the_folder_is_a_backend() -> None:
    files = {path.stem for path in Path(backends.__path__[0]).glob("*.py") if not path.stem.startswith("_")}
    assert set(backends.names()) == files >= {"dummy", "onnx", "state_dict"}


def test_a_backend_is_loaded_by_its_name(folder: Path) -> None:
    name, backend = backends.load("dummy", open_folder(folder), threads=1)
    assert (name, type(backend)) == ("dummy", DummyBackend)


@pytest.mark.parametrize("name", ["tensorflow", "", "__init__", "_torch", "os", "..dummy", "Dummy", "dummy.py"])
def test_an_unknown_name_is_told_with_those_that_are(folder: Path, name: str) -> None:
    with pytest.raises(
        BundleError, match=r"no backend named .*; there are: dummy, onnx, state_dict, torch_export, torchscript"
    ):
        backends.load(name, open_folder(folder), threads=1)


def test_a_backend_whose_artifact_is_missing_is_told(folder: Path) -> None:
    with pytest.raises(BundleError, match="the bundle has no 'onnx' artifact, it has: dummy"):
        backends.load("onnx", open_folder(folder), threads=1)


def test_a_variant_is_loaded_by_its_key_and_by_the_backend_of_its_format(folder: Path) -> None:
    add_artifact(folder, "dummy", first=False, variant="int8")
    edit_manifest(folder, lambda manifest: manifest["artifacts"][0].update(path="missing.json"))
    key, backend = backends.load("dummy-int8", open_folder(folder), threads=1)
    assert (key, type(backend)) == ("dummy-int8", DummyBackend)
    with pytest.raises(BundleError, match=r"missing.json cannot be read"):
        backends.load("dummy", open_folder(folder), threads=1)
    with pytest.raises(BundleError, match="the bundle has no 'dummy-int4' artifact, it has: dummy, dummy-int8"):
        backends.load("dummy-int4", open_folder(folder), threads=1)


def test_auto_takes_the_manifest_s_order_among_variants_too(folder: Path) -> None:
    add_artifact(folder, "dummy", first=True, variant="int8")
    assert backends.load("auto", open_folder(folder), threads=1)[0] == "dummy-int8"


def test_a_program_is_loaded_only_where_it_is_allowed(tmp_path: Path) -> None:
    bundle = open_folder(exported_bundle(tmp_path, "mlp", "torchscript"))
    for key in ("torchscript", "auto"):
        with pytest.raises(BundleError, match=r"a torchscript artifact is a program, .* ZTO_ALLOW_TORCHSCRIPT=1"):
            backends.load(key, bundle, threads=1)
        assert backends.load(key, bundle, threads=1, allowed=("torchscript",))[0] == "torchscript"


def test_auto_passes_over_a_program_that_is_not_allowed(folder: Path) -> None:
    add_artifact(folder, "torchscript", first=True)
    assert backends.load("auto", open_folder(folder), threads=1)[0] == "dummy"


def test_auto_takes_the_first_artifact_that_it_can_run(folder: Path) -> None:
    assert backends.load("auto", open_folder(folder), threads=1)[0] == "dummy"
    add_artifact(folder, "coreml", first=True)
    assert backends.load("auto", open_folder(folder), threads=1)[0] == "dummy"


def test_auto_passes_over_a_runtime_that_is_not_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_artifact(folder, "state_dict", first=True)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert backends.load("auto", open_folder(folder), threads=1)[0] == "dummy"


def test_auto_does_not_pass_over_a_damaged_artifact(folder: Path) -> None:
    """Another variant might answer otherwise than the operator measured; a damaged bundle is not served by halves."""
    add_artifact(folder, "onnx", first=True)
    with pytest.raises(BundleError, match="ONNX Runtime refuses the graph"):
        backends.load("auto", open_folder(folder), threads=1)


def test_auto_says_what_to_install_where_nothing_can_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit_manifest(folder, lambda manifest: manifest["artifacts"][0].update(format="state_dict"))
    edit_manifest(folder, lambda manifest: manifest["golden"].update(tolerance={"state_dict": {"atol": 0.0}}))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BundleError, match=r"pip install 'zero-to-one\[torch\]'"):
        backends.load("auto", open_folder(folder), threads=1)


def test_auto_says_so_where_no_backend_knows_an_artifact(folder: Path) -> None:
    edit_manifest(folder, lambda manifest: manifest["artifacts"][0].update(format="coreml"))
    edit_manifest(folder, lambda manifest: manifest["golden"].update(tolerance={"coreml": {"atol": 0.0}}))
    with pytest.raises(BundleError, match="no backend serves the artifacts of this bundle: coreml"):
        backends.load("auto", open_folder(folder), threads=1)


def test_a_damaged_file_is_refused_before_a_runtime_sees_it(folder: Path) -> None:
    (folder / ARTIFACT_FILE).write_bytes(b"{!}")
    with pytest.raises(BundleError, match="is not the file that the manifest describes"):
        backends.load("auto", open_folder(folder), threads=1)
