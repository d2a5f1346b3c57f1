import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.bundle.loader import Bundle, BundleRef, find_bundles
from app.bundle.tuning import Tuning, path_of, read_tuning, write_tuning
from app.errors import BundleError
from tests.support.bundles import dummy_bundle, open_folder
from tests.support.tunings import tuning_of


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_folder(dummy_bundle(tmp_path / "models"))


def ref_of(bundle: Bundle) -> BundleRef:
    return BundleRef(name=bundle.manifest.name, version=bundle.manifest.version, folder=bundle.folder)


def test_what_was_written_is_read_and_is_no_bundle(bundle: Bundle, tmp_path: Path) -> None:
    assert read_tuning(bundle) is None
    tuning = tuning_of(bundle, max_rows=3)
    path = path_of(ref_of(bundle))
    write_tuning(tuning, path)
    assert path == tmp_path / "models" / "dummy" / "1.tuning.json"
    assert read_tuning(bundle) == tuning
    assert find_bundles(tmp_path / "models") == [ref_of(bundle)]
    assert sorted(file.name for file in path.parent.iterdir()) == ["1", "1.tuning.json"]


def test_the_folder_of_states_is_looked_into_first_and_made_where_it_is_missing(bundle: Bundle, tmp_path: Path) -> None:
    beside, state = tuning_of(bundle, max_rows=3), tuning_of(bundle, max_rows=5)
    write_tuning(beside, path_of(ref_of(bundle)))
    assert read_tuning(bundle, tmp_path / "state") == beside
    write_tuning(state, path_of(ref_of(bundle), tmp_path / "state"))
    assert read_tuning(bundle, tmp_path / "state") == state
    assert read_tuning(bundle) == beside


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="nothing is pinned here")
def test_it_holds_for_a_process_that_is_pinned_to_some_of_the_cores(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = tuning_of(bundle, max_rows=3)
    write_tuning(tuning, path_of(ref_of(bundle)))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(777)))
    assert read_tuning(bundle) == tuning


def test_a_write_that_fails_leaves_the_old_one_and_nothing_else(bundle: Bundle, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked" / "1.tuning.json"
    (blocked / "inside").mkdir(parents=True)  # a folder of that name cannot be replaced
    with pytest.raises(BundleError, match=r"cannot be written: .*set ZTO_STATE_DIR"):
        write_tuning(tuning_of(bundle), blocked)
    assert [path.name for path in blocked.parent.iterdir()] == ["1.tuning.json"]


def test_a_file_half_written_by_one_who_was_killed_is_none(bundle: Bundle) -> None:
    path = path_of(ref_of(bundle))
    tuning = tuning_of(bundle)
    write_tuning(tuning, path)
    (path.parent / f".tmp-{path.name}-abc").write_text(tuning.model_dump_json()[:100])
    assert read_tuning(bundle) == tuning
    assert find_bundles(path.parent.parent) == [ref_of(bundle)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not valid: document"),
        ("[]", "is not valid: document"),
        ("{", "is not valid: document"),
        ("\x00\xff", "is not valid: document"),
        ("{}", "is not valid: name: Field required; measure again with: python -m app tune dummy"),
    ],
)
def test_what_is_no_tuning_is_told(bundle: Bundle, text: str, message: str) -> None:
    path_of(ref_of(bundle)).write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match=message):
        read_tuning(bundle)


def test_one_that_cannot_be_read_is_told(bundle: Bundle) -> None:
    path_of(ref_of(bundle)).mkdir()
    with pytest.raises(BundleError, match="cannot be read: Is a directory"):
        read_tuning(bundle)


def edited(tuning: Tuning, edit: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(tuning.model_dump_json())
    edit(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.update(sha256="0" * 64), "was measured of another dummy artifact than the bundle has"),
        (lambda d: d["choice"].update(backend="onnx"), "was measured of another onnx artifact"),
        (lambda d: d.update(version=2), "was measured of dummy/2"),
        (lambda d: d.update(name="other"), "was measured of other/1"),
        (lambda d: d["environment"].update(processor="Z80"), "with the processor Z80, and here is"),
        (lambda d: d["environment"].update(cores=999), "with a number of cores of 999, and here is"),
        (lambda d: d["environment"].update(runtime={"torch": "0.1"}), "with the runtime torch 0.1, and here is"),
        (
            lambda d: d["choice"]["batching"].update(max_elements=9),
            "with a bound on elements, which",
        ),
        (lambda d: d["choice"]["batching"].update(max_rows=0), "is not valid: choice.batching.max_rows"),
        (lambda d: d["choice"].update(threads=0), "is not valid: choice.threads"),
        (lambda d: d.update(schema_version=2), "is not valid: schema_version"),
        (lambda d: d.update(more=1), "is not valid: more"),
    ],
)
def test_what_was_measured_of_something_else_says_how_to_measure_again(
    bundle: Bundle, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    path_of(ref_of(bundle)).write_text(edited(tuning_of(bundle), edit))
    with pytest.raises(BundleError, match=message) as caught:
        read_tuning(bundle)
    assert "python -m app tune dummy" in str(caught.value)
