import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.bundle.golden import dump_golden
from app.bundle.loader import BundleRef, find_bundles, open_bundle
from app.errors import BundleError
from tests.support.bundles import (
    ARTIFACT_FILE,
    GOLDEN_FILE,
    dummy_bundle,
    edit_manifest,
    file_ref,
    open_folder,
    rewrite_manifest,
    write_file_with_digest,
    write_golden,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return dummy_bundle(tmp_path / "models", rows=4)


def found(models_dir: Path) -> list[tuple[str, int]]:
    return [(ref.name, ref.version) for ref in find_bundles(models_dir)]


def test_a_whole_bundle_opens_and_reads(folder: Path) -> None:
    bundle = open_folder(folder)
    assert bundle.read(bundle.artifact("dummy")) == b"{}"
    assert len(bundle.golden()) == 4


def test_an_artifact_that_is_not_there_is_told_with_those_that_are(folder: Path) -> None:
    with pytest.raises(BundleError, match="no 'onnx' artifact, it has: dummy"):
        open_folder(folder).artifact("onnx")


def test_an_artifact_may_have_golden_rows_of_its_own(folder: Path) -> None:
    """Those of a pruned network, which answers otherwise than the trainer's."""
    own = open_folder(folder).golden()
    own.outputs["logits"] = own.outputs["logits"] + 1
    data = dump_golden(own)
    (folder / "golden.pruned.npz").write_bytes(data)

    def edit(manifest: dict[str, Any]) -> None:
        pruned = {"variant": "pruned", "golden": file_ref("golden.pruned.npz", data)}
        manifest["artifacts"].append(manifest["artifacts"][0] | pruned)
        manifest["golden"]["tolerance"]["dummy-pruned"] = {"atol": 0.0}

    edit_manifest(folder, edit)
    bundle = open_folder(folder)
    assert np.array_equal(bundle.golden("dummy-pruned").outputs["logits"], own.outputs["logits"])
    for key in (None, "dummy"):
        assert np.array_equal(bundle.golden(key).outputs["logits"], own.outputs["logits"] - 1)
    (folder / "golden.pruned.npz").write_bytes(data + b"\0")
    with pytest.raises(BundleError, match=r"golden\.pruned\.npz is not the file that the manifest describes"):
        bundle.golden("dummy-pruned")


@pytest.mark.parametrize("file", [ARTIFACT_FILE, GOLDEN_FILE])
def test_a_flipped_byte_is_refused(folder: Path, file: str) -> None:
    bundle = open_folder(folder)
    data = bytearray((folder / file).read_bytes())
    data[0] ^= 1
    (folder / file).write_bytes(data)
    with pytest.raises(BundleError, match=f"{file} is not the file that the manifest describes"):
        bundle.read(bundle.manifest.golden if file == GOLDEN_FILE else bundle.artifact("dummy"))


def test_a_file_of_another_size_is_refused_even_with_the_right_digest(folder: Path) -> None:
    edit_manifest(folder, lambda manifest: manifest["artifacts"][0].update(size_bytes=3))
    bundle = open_folder(folder)
    with pytest.raises(BundleError, match=r"it has 2 bytes .* the manifest says 3 bytes"):
        bundle.read(bundle.artifact("dummy"))


def test_a_file_that_was_replaced_with_its_digest_is_taken(folder: Path) -> None:
    write_file_with_digest(folder, ARTIFACT_FILE, b'{"sleep_s": 0.0}')
    bundle = open_folder(folder)
    assert bundle.read(bundle.artifact("dummy")) == b'{"sleep_s": 0.0}'


def test_a_missing_file_is_told(folder: Path) -> None:
    bundle = open_folder(folder)
    (folder / ARTIFACT_FILE).unlink()
    with pytest.raises(BundleError, match=r"dummy\.json cannot be read: No such file"):
        bundle.read(bundle.artifact("dummy"))


def test_a_folder_in_place_of_a_file_is_told(folder: Path) -> None:
    bundle = open_folder(folder)
    (folder / ARTIFACT_FILE).unlink()
    (folder / ARTIFACT_FILE).mkdir()
    with pytest.raises(BundleError, match=r"dummy\.json cannot be read: Is a directory"):
        bundle.read(bundle.artifact("dummy"))


def test_a_link_that_leads_out_is_refused_though_its_digest_is_right(folder: Path, tmp_path: Path) -> None:
    bundle = open_folder(folder)
    outside = tmp_path / "outside.json"
    (folder / ARTIFACT_FILE).rename(outside)
    (folder / ARTIFACT_FILE).symlink_to(outside)
    with pytest.raises(BundleError, match="leads out of the bundle folder"):
        bundle.read(bundle.artifact("dummy"))


def test_a_linked_folder_that_leads_out_is_refused(folder: Path, tmp_path: Path) -> None:
    edit_manifest(folder, lambda manifest: manifest["artifacts"][0].update(path=f"nested/{ARTIFACT_FILE}"))
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder / ARTIFACT_FILE).rename(outside / ARTIFACT_FILE)
    (folder / "nested").symlink_to(outside)
    bundle = open_folder(folder)
    with pytest.raises(BundleError, match="leads out of the bundle folder"):
        bundle.read(bundle.artifact("dummy"))


def test_a_link_that_stays_inside_is_followed(folder: Path) -> None:
    bundle = open_folder(folder)
    (folder / ARTIFACT_FILE).rename(folder / "real.json")
    (folder / ARTIFACT_FILE).symlink_to("real.json")
    assert bundle.read(bundle.artifact("dummy")) == b"{}"


def test_a_bundle_below_a_linked_folder_is_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(folder.parent.parent)
    (ref,) = find_bundles(tmp_path / "linked")
    assert len(open_bundle(ref).golden()) == 4


def test_links_in_a_circle_are_told(folder: Path) -> None:
    bundle = open_folder(folder)
    (folder / ARTIFACT_FILE).unlink()
    (folder / ARTIFACT_FILE).symlink_to(ARTIFACT_FILE)
    with pytest.raises(BundleError, match=r"dummy\.json cannot be read"):
        bundle.read(bundle.artifact("dummy"))


@pytest.mark.parametrize("name", ["manifest.json", ARTIFACT_FILE, GOLDEN_FILE])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(folder: Path, name: str) -> None:
    bundle = open_folder(folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    read = {
        "manifest.json": lambda: open_folder(folder),
        ARTIFACT_FILE: lambda: bundle.read(bundle.artifact("dummy")),
        GOLDEN_FILE: bundle.golden,
    }
    with pytest.raises(BundleError, match=rf"{name} cannot be read: it is no regular file"):
        read[name]()


def test_no_more_is_read_of_a_file_than_its_manifest_says(folder: Path) -> None:
    bundle = open_folder(folder)
    with (folder / ARTIFACT_FILE).open("ab") as file:
        file.truncate(2**40)  # no disk has it, and no memory would
    with pytest.raises(BundleError, match=r"dummy\.json is not the file .*: it has more than 2 bytes"):
        bundle.read(bundle.artifact("dummy"))
    with (folder / "manifest.json").open("ab") as file:
        file.truncate(2**40)
    with pytest.raises(BundleError, match=r"manifest\.json has more than 16777216 bytes, which no manifest has"):
        open_folder(folder)


def test_golden_rows_are_counted_against_the_manifest(folder: Path) -> None:
    edit_manifest(folder, lambda manifest: manifest["golden"].update(rows=5))
    with pytest.raises(BundleError, match="holds 4 rows, the manifest says 5"):
        open_folder(folder).golden()


@pytest.mark.parametrize(
    ("part", "name", "array"),
    [
        ("outputs", "logits", None),
        ("outputs", "probabilities", None),
        ("outputs", "logits", np.zeros((4, 4), np.float32)),
        ("outputs", "logits", np.zeros((4, 3, 1), np.float32)),
        ("outputs", "probabilities", np.zeros((4, 3), np.float64)),
        ("inputs", "image", np.zeros((4, 3, 2), np.float32)),
    ],
)
def test_golden_arrays_are_those_of_the_manifest(folder: Path, part: str, name: str, array: Any) -> None:
    golden = open_folder(folder).golden()
    arrays = dict(getattr(golden, part))
    if array is None:
        del arrays[name]
    else:
        arrays[name] = array
    write_golden(folder, dataclasses.replace(golden, **{part: arrays}))
    with pytest.raises(BundleError, match=f"golden file.*'{name}'"):
        open_folder(folder).golden()


def test_bundles_are_found_by_name_and_rising_version(tmp_path: Path) -> None:
    for name, version in (("b", 1), ("a", 10), ("a", 9), ("a", 2)):
        dummy_bundle(tmp_path, name, version, rows=1)
    assert found(tmp_path) == [("a", 2), ("a", 9), ("a", 10), ("b", 1)]
    assert find_bundles(tmp_path)[0].folder == tmp_path / "a" / "2"


def test_hidden_folders_files_and_what_is_no_version_are_passed_over(folder: Path) -> None:
    models_dir = folder.parent.parent
    for name in (".tmp-dummy/1", "dummy/.tmp-2", "dummy/latest", "dummy/0", "dummy/01", "empty"):
        (models_dir / name).mkdir(parents=True)
    (models_dir / "manifest.schema.json").write_text("{}")
    (models_dir / "dummy" / "3").write_text("a file")
    assert found(models_dir) == [("dummy", 1)]


@pytest.mark.parametrize("name", ["Upper", "with space", "lost+found", "a" * 65, "new\nline", "_first", "\udcff\udcfe"])
def test_a_folder_whose_name_no_bundle_can_have_is_passed_over_with_a_warning(
    folder: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A name that is no UTF-8 could not even be told in an answer."""
    (folder.parent.parent / name / "1").mkdir(parents=True)
    assert found(folder.parent.parent) == [("dummy", 1)]
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("app.bundle", "WARNING")
    assert record.getMessage() == f"passed over the folder {name!r}: no bundle can have that name"
    record.getMessage().encode()


UNPRIVILEGED = """
import logging, os, sys
from pathlib import Path
from app.bundle.loader import find_bundles
logging.basicConfig()
if os.geteuid() == 0:  # whom no mode keeps out
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print([(ref.name, ref.version) for ref in find_bundles(Path(sys.argv[1]))])
"""


@pytest.mark.parametrize("mode", [0o000, 0o444], ids=["unreadable", "only listed"])
def test_a_folder_that_cannot_be_read_is_passed_over_with_a_warning(folder: Path, mode: int) -> None:
    models_dir = folder.parent.parent
    (models_dir / "sealed" / "1").mkdir(parents=True)
    (models_dir / "sealed").chmod(mode)
    for path in (folder, folder.parent, models_dir):
        path.chmod(0o755)
    # a descriptor spares the test the modes of the folders above
    descriptor = os.open(models_dir, os.O_RDONLY)
    try:
        done = subprocess.run(
            [sys.executable, "-c", UNPRIVILEGED, f"/proc/self/fd/{descriptor}"],
            capture_output=True,
            text=True,
            pass_fds=[descriptor],
            cwd=Path(__file__).parents[4],
        )
    finally:
        os.close(descriptor)
        (models_dir / "sealed").chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[('dummy', 1)]\n"
    assert "passed over the folder 'sealed': it cannot be read: Permission denied" in done.stderr


def test_a_version_without_a_manifest_is_found_and_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "half" / "1").mkdir(parents=True)
    (ref,) = find_bundles(tmp_path)
    with pytest.raises(BundleError, match=r"manifest\.json cannot be read: No such file"):
        open_bundle(ref)


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_models_folder_that_is_none_is_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "models"
    if kind == "file":
        path.write_text("")
    with pytest.raises(BundleError, match=r"the models folder .*models cannot be read"):
        find_bundles(path)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"\xef\xbb\xbf{}"])
def test_a_manifest_that_is_none_is_refused(folder: Path, text: bytes) -> None:
    (folder / "manifest.json").write_bytes(text)
    with pytest.raises(BundleError, match=r"manifest\.json is not valid: document: "):
        open_folder(folder)


def test_every_fault_of_a_manifest_is_named(folder: Path) -> None:
    edit_manifest(folder, lambda manifest: (manifest.pop("license"), manifest["golden"].update(rows=0, typo=1)))
    with pytest.raises(BundleError, match=r"is not valid: .*license: Field required") as caught:
        open_folder(folder)
    assert "golden.rows: " in str(caught.value)
    assert "golden.typo: " in str(caught.value)


def test_a_manifest_of_very_many_faults_is_told_in_a_few(folder: Path) -> None:
    edit_manifest(folder, lambda manifest: manifest.update(artifacts=[1] * 10_000, **{"x" * 10_000: 1}))
    with pytest.raises(BundleError, match=r"artifacts\.0: .*; and \d+ more$") as caught:
        open_folder(folder)
    assert len(str(caught.value)) < 10_000  # it stands on the card and on /readyz


def test_a_fault_of_a_list_s_only_item_is_told_and_not_that_the_list_is_empty_without_it(folder: Path) -> None:
    edit_manifest(folder, lambda manifest: manifest["artifacts"][0].update(path="../2/dummy.json"))
    told = r"is not valid: artifacts\.0\.path: must be a relative path inside the bundle folder, without '\.\.'$"
    with pytest.raises(BundleError, match=told):
        open_folder(folder)
    edit_manifest(folder, lambda manifest: manifest.update(artifacts=[]))
    with pytest.raises(BundleError, match=r"is not valid: artifacts: Tuple should have at least 1 item"):
        open_folder(folder)


@pytest.mark.parametrize(("change", "is_of"), [({"name": "other"}, "other/1"), ({"version": 2}, "dummy/2")])
def test_the_manifest_of_another_bundle_is_refused(folder: Path, change: dict[str, Any], is_of: str) -> None:
    rewrite_manifest(folder, **change)
    with pytest.raises(BundleError, match=f"is that of {is_of}, but lies in dummy/1"):
        open_folder(folder)


def test_what_was_checked_is_what_is_used(folder: Path) -> None:
    """The bytes are handed on, not the path: a file that is exchanged afterwards changes nothing."""
    bundle = open_folder(folder)
    data = bundle.read(bundle.artifact("dummy"))
    (folder / ARTIFACT_FILE).write_bytes(b'{"raise_on": 1.0}')
    assert json.loads(data) == {}


def test_references_sort_by_number_and_not_by_text(tmp_path: Path) -> None:
    refs = [BundleRef(name="a", version=version, folder=tmp_path) for version in (10, 2, 1)]
    assert [ref.version for ref in sorted(refs)] == [1, 2, 10]
