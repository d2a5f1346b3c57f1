from pathlib import Path
from typing import Any

import pytest

from app import cpus
from app.bundle.manifest import Batching
from app.bundle.tuning import Choice
from app.settings import Settings
from app.tune.candidates import Bounds, brief, keys, other_elements, other_rows, other_threads, other_waits
from tests.support.bundles import edit_manifest, open_folder
from tests.support.committed import copy_as_first

CHOICE = Choice(backend="onnx", threads=1, batching=Batching(max_rows=32))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copy_as_first("cnn", tmp_path)


def set_accuracy(folder: Path, key: str, accuracy: float | None) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        for artifact in manifest["artifacts"]:
            if key == artifact["format"] + (f"-{artifact['variant']}" if artifact["variant"] else ""):
                artifact["test_accuracy"] = accuracy

    edit_manifest(folder, edit)


def test_the_artifact_that_serves_by_itself_is_first() -> None:
    bundle = open_folder(Path(__file__).parents[4] / "models" / "cnn" / "2")
    assert keys(bundle, Settings(), Bounds()) == (["onnx", "state_dict", "onnx-int8"], {})


def test_a_variant_that_is_less_right_is_left_out_unless_it_is_allowed(folder: Path) -> None:
    set_accuracy(folder, "onnx", 0.9)
    set_accuracy(folder, "onnx-int8", 0.89)
    taken, left_out = keys(open_folder(folder), Settings(), Bounds())
    assert taken == ["onnx", "state_dict"]
    assert left_out == {"onnx-int8": "it gets 1.00% less of the test set right, allowed are 0.00%"}
    assert "onnx-int8" in keys(open_folder(folder), Settings(), Bounds(max_accuracy_drop=0.01))[0]


@pytest.mark.parametrize("key", ["onnx", "onnx-int8"])
def test_a_variant_whose_accuracy_nobody_measured_is_left_out(folder: Path, key: str) -> None:
    set_accuracy(folder, key, None)
    assert keys(open_folder(folder), Settings(), Bounds(max_accuracy_drop=1))[1] == {
        "onnx-int8": "nobody has measured what it costs in accuracy"
    }


def test_what_the_operator_asks_for_by_name_is_all_there_is(folder: Path) -> None:
    set_accuracy(folder, "onnx-int8", 0.1)
    taken, left_out = keys(open_folder(folder), Settings(backend="cnn=onnx-int8,onnx"), Bounds())
    assert taken == ["onnx-int8"]
    assert left_out["onnx"] == "ZTO_BACKEND asks for onnx-int8"


def test_programs_and_formats_that_nobody_serves_are_left_out(folder: Path) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["artifacts"][0].update(format="tflite")
        manifest["artifacts"][1].update(format="torchscript")
        for key in ("tflite", "torchscript"):
            manifest["golden"]["tolerance"][key] = {"atol": 0.1}

    edit_manifest(folder, edit)
    left_out = keys(open_folder(folder), Settings(), Bounds())[1]
    assert left_out["tflite"] == "no backend serves tflite"
    assert left_out["torchscript"] == "ZTO_ALLOW_TORCHSCRIPT is not set"
    assert "torchscript" in keys(open_folder(folder), Settings(allow_torchscript=True), Bounds())[0]


def test_rows_go_from_one_to_the_clients_and_threads_to_the_cores_that_are_paid_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpus, "num_cores", lambda: 6)
    assert [c.batching.max_rows for c in other_rows(CHOICE, 64)] == [1, 2, 4, 8, 16, 64]
    assert [c.threads for c in other_threads(CHOICE)] == [2, 4]


def test_elements_are_varied_only_where_there_is_a_bound() -> None:
    assert other_elements(CHOICE) == []
    bounded = CHOICE.model_copy(update={"batching": Batching(max_elements=1000)})
    assert [c.batching.max_elements for c in other_elements(bounded)] == [250, 500, 2000, 4000]


def test_waiting_is_asked_both_ways() -> None:
    (waits,) = other_waits(CHOICE)
    assert waits.batching.max_wait_ms == 1
    assert other_waits(waits) == [CHOICE]
    assert brief(waits) == "onnx, threads 1, rows 32, wait 1 ms, on auto"
