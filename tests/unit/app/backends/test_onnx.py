import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from app.backends.onnx import load
from app.bundle.loader import Bundle
from app.errors import BackendUnavailable, BundleError
from tests.support.bundles import dummy_bundle, edit_manifest, open_folder, write_file_with_digest
from tests.support.committed import copy_as_first

REPOSITORY = Path(__file__).parents[4]
FILE = "model.onnx"
FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE


def graph(
    *, inputs: dict[str, int] | None = None, logits: int = FLOAT, probabilities: int | None = FLOAT, rows: int = 0
) -> bytes:
    """Return a model whose outputs are the sums of the rows, three times each."""
    inputs = {"image": FLOAT} if inputs is None else inputs
    first = next(iter(inputs))
    total = [helper.make_node("Add", [first, name], [f"plus_{name}"]) for name in list(inputs)[1:]]
    summed = f"plus_{list(inputs)[-1]}" if total else first
    nodes = [
        *total,
        helper.make_node("ReduceSum", [summed, "axes"], ["sum"], keepdims=0),
        helper.make_node("Unsqueeze", ["sum", "last"], ["column"]),
        helper.make_node("Expand", ["column", "three"], ["wide"]),
        helper.make_node("Cast", ["wide"], ["logits"], to=logits),
    ]
    outputs = [helper.make_tensor_value_info("logits", logits, ["batch", 3])]
    if probabilities is not None:
        nodes.append(helper.make_node("Cast", ["wide"], ["probabilities"], to=probabilities))
        outputs.append(helper.make_tensor_value_info("probabilities", probabilities, ["batch", 3]))
    made = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info(name, kind, [rows or "batch", 2, 3]) for name, kind in inputs.items()],
        outputs,
        [
            helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor("last", TensorProto.INT64, [1], [1]),
            helper.make_tensor("three", TensorProto.INT64, [2], [1, 3]),
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = dummy_bundle(tmp_path, rows=1)
    edit_manifest(folder, lambda manifest: manifest["artifacts"][0].update(format="onnx", path=FILE))
    edit_manifest(folder, lambda manifest: manifest["golden"].update(tolerance={"onnx": {"atol": 0.0}}))
    return folder


def test_a_graph_of_the_manifest_s_signature_runs(folder: Path) -> None:
    write_file_with_digest(folder, FILE, graph())
    backend = load(open_folder(folder), threads=1)
    outputs = backend.run({"image": np.ones((2, 2, 3), np.float32)})
    assert {name: array.tolist() for name, array in outputs.items()} == {
        "logits": [[6.0] * 3] * 2,
        "probabilities": [[6.0] * 3] * 2,
    }


def test_an_output_that_the_manifest_does_not_name_is_not_computed(folder: Path) -> None:
    edit_manifest(folder, lambda manifest: manifest["outputs"].pop(0))
    write_file_with_digest(folder, FILE, graph())
    assert list(load(open_folder(folder), threads=1).run({"image": np.ones((1, 2, 3), np.float32)})) == [
        "probabilities"
    ]


@pytest.mark.parametrize("data", [b"\x00", b"garbage", b"{}", graph()[:-40], graph()[40:], b"\x08" * 100])
def test_what_is_no_graph_is_refused(folder: Path, data: bytes) -> None:
    write_file_with_digest(folder, FILE, data)
    with pytest.raises(BundleError, match="ONNX Runtime refuses the graph"):
        load(open_folder(folder), threads=1)


def name_output_float64(manifest: dict[str, Any]) -> None:
    manifest["outputs"][1]["dtype"] = "float64"


def same(manifest: dict[str, Any]) -> None:
    del manifest


@pytest.mark.parametrize(
    ("data", "edit", "message"),
    [
        (graph(inputs={"pixels": FLOAT}), same, "no input 'image' of float32; it has: pixels tensor.float."),
        (graph(inputs={"image": DOUBLE}), same, "no input 'image' of float32; it has: image tensor.double."),
        (graph(inputs={"image": FLOAT, "more": FLOAT}), same, "wants inputs that the manifest does not name: .'more'."),
        (graph(probabilities=None), same, "no output 'probabilities' of float32; it has: logits tensor.float."),
        (graph(probabilities=DOUBLE), same, "no output 'probabilities' of float32"),
        (graph(probabilities=None), name_output_float64, "no output 'probabilities' of float64"),
        (graph(probabilities=TensorProto.FLOAT16), name_output_float64, "no output 'probabilities' of float64"),
        (graph(probabilities=FLOAT), name_output_float64, "no output 'probabilities' of float64"),
    ],
    ids=["input name", "input dtype", "input more", "output missing", "output dtype", "float64 missing", "float16",
         "float32 for float64"],
)  # fmt: skip
def test_a_graph_of_another_signature_is_refused(
    folder: Path, data: bytes, edit: Callable[[dict[str, Any]], None], message: str
) -> None:
    edit_manifest(folder, edit)
    write_file_with_digest(folder, FILE, data)
    with pytest.raises(BundleError, match=message):
        load(open_folder(folder), threads=1)


def test_inputs_of_another_shape_raise_and_leave_the_session_well(folder: Path) -> None:
    write_file_with_digest(folder, FILE, graph())
    backend = load(open_folder(folder), threads=1)
    with pytest.raises(Exception, match=r"(?i)dimension"):
        backend.run({"image": np.ones((1, 5, 5), np.float32)})
    assert backend.run({"image": np.ones((1, 2, 3), np.float32)})["logits"].tolist() == [[6.0] * 3]


FAILS_ON_ONES = """
<ir_version: 10, opset_import: ["" : 18]>
picks (float[batch, 2, 3] image) => (float[batch, 3] logits, float[batch, 3] probabilities)
<int64[2] axes = {1, 2}, float[1, 3] only_row = {1, 2, 3}>
{
    largest = ReduceMax<keepdims=0>(image, axes)
    row = Cast<to=7>(largest)
    logits = Gather(only_row, row)
    probabilities = Identity(logits)
}
"""


def test_a_graph_that_fails_raises_and_writes_nothing_around_the_log(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_file_with_digest(folder, FILE, onnx.parser.parse_model(FAILS_ON_ONES).SerializeToString())
    backend = load(open_folder(folder), threads=1)
    assert backend.run({"image": np.zeros((1, 2, 3), np.float32)})["logits"].tolist() == [[1.0, 2.0, 3.0]]
    with pytest.raises(Exception, match="out of data bounds"):
        backend.run({"image": np.ones((1, 2, 3), np.float32)})
    assert capfd.readouterr() == ("", "")


def test_without_onnxruntime_the_install_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendUnavailable, match="needs onnxruntime: pip install zero-to-one"):
        load(open_folder(folder), threads=1)


def test_weights_outside_the_file_are_refused_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No digest speaks for them; ONNX Runtime would take them from the working directory."""
    from onnx.external_data_helper import convert_model_to_external_data

    folder = copy_as_first("mlp", tmp_path / "models")
    model = onnx.load(folder / "model.onnx")
    convert_model_to_external_data(model, location="weights.bin", size_threshold=1024, convert_attribute=False)
    onnx.save(model, folder / "model.onnx")
    assert (folder / "weights.bin").exists()
    write_file_with_digest(folder, "model.onnx", (folder / "model.onnx").read_bytes())
    monkeypatch.chdir(folder)
    with pytest.raises(BundleError, match="External data"):
        load(open_folder(folder), threads=1)


def test_models_take_the_memory_of_their_batches_in_turns(folder: Path) -> None:
    two_inputs = graph(inputs={"image": FLOAT, "other": FLOAT})  # their sum takes as much again as either
    write_file_with_digest(folder, FILE, two_inputs)
    edit_manifest(folder, lambda manifest: manifest["inputs"].append({**manifest["inputs"][0], "name": "other"}))
    script = """
import sys
from pathlib import Path
import numpy as np
from app.backends.onnx import load
from tests.support.bundles import open_folder

def resident_mb():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024

rows = np.zeros((1_000_000, 2, 3), np.float32)  # 24 MB
models = [load(open_folder(Path(sys.argv[1])), threads=1) for _ in range(4)]
grown = []
for model in models:
    before = resident_mb()
    model.run({"image": rows, "other": rows})
    grown.append(resident_mb() - before)
print(*grown)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, folder], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    first, _, *others = map(float, done.stdout.split())
    assert first > 20
    assert max(others) < 5


def test_memory_of_large_batches_is_given_back_when_the_backend_settles(folder: Path) -> None:
    two_inputs = graph(inputs={"image": FLOAT, "other": FLOAT})  # their sum takes as much again as either
    write_file_with_digest(folder, FILE, two_inputs)
    edit_manifest(folder, lambda manifest: manifest["inputs"].append({**manifest["inputs"][0], "name": "other"}))
    script = """
import sys
from pathlib import Path
import numpy as np
from app.backends.onnx import load
from tests.support.bundles import open_folder

def resident_mb():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024

rows = np.zeros((1_000_000, 2, 3), np.float32)  # 24 MB
model = load(open_folder(Path(sys.argv[1])), threads=1)
model.run({"image": rows[:1], "other": rows[:1]})  # the first region of an arena stays; that of a service has weights
before = resident_mb()
for _ in range(2):
    model.run({"image": rows, "other": rows})
    print(resident_mb() - before)
    model.settle({"image": rows[:1], "other": rows[:1]})
    print(resident_mb() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, folder], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    first, settled, second, settled_again = map(float, done.stdout.split())
    assert min(first, second) > 40
    assert max(settled, settled_again) < 20


def test_no_copy_of_the_file_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = graph()
    write_file_with_digest(folder, FILE, data)
    monkeypatch.setattr(Bundle, "read", lambda self, file: data)
    held_before = len(gc.get_referrers(data))
    backend = load(open_folder(folder), threads=1)
    assert len(gc.get_referrers(data)) == held_before
    assert backend.run({"image": np.ones((1, 2, 3), np.float32)})["logits"].tolist() == [[6, 6, 6]]
