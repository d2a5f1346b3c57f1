import fcntl
import os
import threading
from pathlib import Path

import pytest

from app.bundle.loader import find_bundles, open_bundle
from app.bundle.manifest import Manifest
from training.errors import VersionExists
from training.export import bundle

FILES = {"model.onnx": b"graph", "golden.npz": b"rows", "report/history.json": b"[]\n"}


def manifest(version=1, files=FILES):
    tensor = {"name": "x", "dtype": "float32", "shape": ["batch", 2]}
    return Manifest.model_validate(
        {
            "schema_version": 1,
            "name": "tiny",
            "version": version,
            "description": "A bundle of nothing.",
            "license": "MIT",
            "task": {
                "kind": "image_classification",
                "image": {"height": 1, "width": 2},
                "labels": ["a", "b"],
            },
            "architecture": {"name": "mlp"},
            "inputs": [tensor],
            "outputs": [tensor],
            "artifacts": [{"format": "onnx", **bundle.file_ref("model.onnx", files["model.onnx"]).model_dump()}],
            "golden": {
                **bundle.file_ref("golden.npz", files["golden.npz"]).model_dump(),
                "rows": 1,
                "tolerance": {"onnx": {"atol": 0}},
                "batch_tolerance": {"atol": 0},
            },
        }
    )


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_bundle_is_written_whole_and_opens(tmp_path):
    folder = bundle.write_bundle(tmp_path, manifest(), FILES)
    assert folder == tmp_path / "tiny" / "1"
    (ref,) = find_bundles(tmp_path)
    opened = open_bundle(ref)
    assert opened.manifest == manifest()
    assert opened.read(opened.artifact("onnx")) == b"graph"
    assert (folder / "report" / "history.json").read_bytes() == b"[]\n"
    assert everything(tmp_path / "tiny") == [
        "1", "1/golden.npz", "1/manifest.json", "1/model.onnx", "1/report", "1/report/history.json",
    ]  # fmt: skip


def test_golden_rows_of_an_artifact_s_own_have_to_be_there(tmp_path):
    own = bundle.file_ref("golden.own.npz", b"own")
    (artifact,) = manifest().artifacts
    with_own = manifest().model_copy(update={"artifacts": (artifact.model_copy(update={"golden": own}),)})
    with pytest.raises(ValueError, match=r"the manifest describes golden\.own\.npz, but that is not the file"):
        bundle.write_bundle(tmp_path, with_own, FILES)
    folder = bundle.write_bundle(tmp_path, with_own, {**FILES, "golden.own.npz": b"own"})
    assert (folder / "golden.own.npz").read_bytes() == b"own"


def test_the_manifest_is_indented_text_that_ends_with_a_newline(tmp_path):
    text = (bundle.write_bundle(tmp_path, manifest(), FILES) / "manifest.json").read_text()
    assert text.startswith('{\n  "schema_version": 1,')
    assert text.endswith("}\n")


def test_others_may_read_a_bundle(tmp_path):
    before = os.umask(0o022)
    try:
        folder = bundle.write_bundle(tmp_path, manifest(), FILES)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert (folder / "model.onnx").stat().st_mode & 0o777 == 0o644


def test_an_existing_version_is_never_overwritten(tmp_path):
    folder = bundle.write_bundle(tmp_path, manifest(), FILES)
    other = {**FILES, "model.onnx": b"other"}
    with pytest.raises(VersionExists, match="immutable; the next free one is 2"):
        bundle.write_bundle(tmp_path, manifest(files=other), other)
    assert (folder / "model.onnx").read_bytes() == b"graph"
    with pytest.raises(VersionExists):
        bundle.expect_free(tmp_path, "tiny", 1)
    bundle.expect_free(tmp_path, "tiny", 2)


def test_the_next_version_follows_the_highest(tmp_path):
    assert bundle.next_version(tmp_path, "tiny") == 1
    for name in ("2", "10", "011", ".tmp-12-x", "notes"):
        (tmp_path / "tiny" / name).mkdir(parents=True)
    assert bundle.next_version(tmp_path, "tiny") == 11


@pytest.mark.parametrize("failing", ["_write", "_sync_tree"])
@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()], ids=["disk full", "ctrl-c"])
@pytest.mark.parametrize("earlier", [False, True], ids=["first", "second"])
def test_a_crash_leaves_nothing(tmp_path, monkeypatch, failing, error, earlier):
    if earlier:
        bundle.write_bundle(tmp_path, manifest(), FILES)
    before = everything(tmp_path)
    calls = []

    def fail(*arguments):
        calls.append(arguments)
        if failing == "_sync_tree" or len(calls) == 3:
            raise error
        original(*arguments)

    original = getattr(bundle, failing)
    monkeypatch.setattr(bundle, failing, fail)
    with pytest.raises(type(error)):
        bundle.write_bundle(tmp_path, manifest(version=2), FILES)
    assert calls
    assert everything(tmp_path) == before


def test_until_it_is_whole_no_loader_sees_a_bundle(tmp_path, monkeypatch):
    seen = []
    original = bundle._sync_tree

    def look(folder):
        seen.append((find_bundles(tmp_path), everything(folder)))
        original(folder)

    monkeypatch.setattr(bundle, "_sync_tree", look)
    bundle.write_bundle(tmp_path, manifest(), FILES)
    ((refs, written),) = seen
    assert refs == []
    assert "manifest.json" in written
    assert len(find_bundles(tmp_path)) == 1


def test_what_a_killed_run_left_is_removed_by_the_next_one(tmp_path):
    stale = tmp_path / "tiny" / ".tmp-1-0011223344556677"
    stale.mkdir(parents=True)
    (stale / "model.onnx").write_bytes(b"half")
    assert find_bundles(tmp_path) == []
    bundle.write_bundle(tmp_path, manifest(), FILES)
    assert not stale.exists()


def test_only_one_writer_at_a_time_is_in_a_models_folder(tmp_path, monkeypatch):
    held = []

    def probe(path: Path, data: bytes) -> None:
        descriptor = os.open(tmp_path / "tiny", os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.append(path)
        finally:
            os.close(descriptor)
        original(path, data)

    original = bundle._write
    monkeypatch.setattr(bundle, "_write", probe)
    bundle.write_bundle(tmp_path, manifest(), FILES)
    assert len(held) == 4


@pytest.mark.parametrize(
    "files", [{**FILES, "model.onnx": b"other"}, {"golden.npz": b"rows"}], ids=["other", "missing"]
)
def test_a_file_that_the_manifest_does_not_describe_is_refused(tmp_path, files):
    with pytest.raises(ValueError, match=r"model\.onnx"):
        bundle.write_bundle(tmp_path, manifest(), files)
    assert everything(tmp_path) == []


def test_a_writer_that_waited_for_a_folder_that_was_removed_locks_the_new_one(tmp_path):
    folder = tmp_path / "mlp"
    folder.mkdir()
    first = os.open(folder, os.O_RDONLY)
    fcntl.flock(first, fcntl.LOCK_EX)
    inside, leave = threading.Event(), threading.Event()

    def write():
        with bundle._locked(folder):
            inside.set()
            leave.wait(10)

    writer = threading.Thread(target=write)
    writer.start()
    assert not inside.wait(0.2)
    folder.rmdir()  # as a writer does that has written nothing
    os.close(first)
    assert inside.wait(10)
    second = os.open(folder, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(second)
    leave.set()
    writer.join()
